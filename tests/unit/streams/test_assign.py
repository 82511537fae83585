"""Partitions that are decided in one transaction go to one worker, whatever the number of workers."""

import inspect
from collections import Counter
from typing import cast

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.cluster import ClusterMetadata

from schemas.channels import channel_names
from schemas.settings import Settings
from schemas.topics import load_topics, raw_topic
from streams.assign import TogetherAssignor

PARTITIONS = {
    environment: {
        spec.name: spec.partitions
        for spec in load_topics(Settings(environment=environment))
        if spec.stateful and not spec.name.endswith(".state")
    }
    for environment in ("local", "production")
}
MERGE, DISPATCH = ["reports", "event.actions"], ["events", "order.actions"]
INTAKE = [*map(raw_topic, channel_names()), "review.answers"]


class Cluster:
    """Knows how many partitions each topic has."""

    def __init__(self, partitions: dict[str, int]) -> None:
        self._partitions = partitions

    def partitions_for_topic(self, topic: str) -> set[int] | None:
        count = self._partitions.get(topic)
        return None if count is None else set(range(count))


def owners(
    partitions: dict[str, int], subscriptions: dict[str, list[str]]
) -> dict[tuple[str, int], str]:
    """Partition → member; fails when two have one."""
    members = {name: TogetherAssignor.metadata(topics) for name, topics in subscriptions.items()}
    assigned = TogetherAssignor.assign(cast(ClusterMetadata, Cluster(partitions)), members)
    assert assigned.keys() == subscriptions.keys(), "every member is told, also that it has nothing"
    found: dict[tuple[str, int], str] = {}
    for name, assignment in assigned.items():
        for topic, numbers in assignment.assignment:
            for number in numbers:
                assert (topic, number) not in found
                assert topic in subscriptions[name]
                found[topic, number] = name
    return found


@pytest.mark.parametrize("environment", PARTITIONS)
@pytest.mark.parametrize("workers", range(1, 12))
def test_a_part_stays_whole_and_parts_are_dealt_out_evenly(environment: str, workers: int) -> None:
    partitions = PARTITIONS[environment]
    found = owners(partitions, {f"worker-{n}": list(partitions) for n in range(workers)})
    assert found.keys() == {(t, n) for t, count in partitions.items() for n in range(count)}
    parts = {
        (agent, number): {found[topic, number] for topic in topics}
        for agent, topics in enumerate((INTAKE, MERGE, DISPATCH))
        for number in range(partitions[topics[0]])
    }
    assert all(len(members) == 1 for members in parts.values())
    held = Counter(name for members in parts.values() for name in members)
    assert max(held.values()) - min(held.values()) <= 1


def test_agents_that_are_scaled_each_by_itself_get_their_own_topics() -> None:
    partitions = PARTITIONS["production"]
    subscriptions = {f"intake-{n}": INTAKE for n in range(3)}
    subscriptions |= {f"merge-{n}": MERGE for n in range(5)}
    subscriptions |= {f"dispatch-{n}": DISPATCH for n in range(3)}
    found = owners(partitions, subscriptions)
    assert len(found) == sum(partitions.values())
    for (topic, number), name in found.items():
        first = next(topics[0] for topics in (INTAKE, MERGE, DISPATCH) if topic in topics)
        assert found[first, number] == name


def test_an_older_worker_that_does_not_know_the_topic_beside_gets_no_half_of_a_pair() -> None:
    partitions = PARTITIONS["production"]
    found = owners(partitions, {"new": [*MERGE], "old": ["reports"]})
    assert set(found.values()) == {"new"}


def test_while_one_worker_knows_a_new_channel_and_another_still_an_old_one_parts_stay_whole() -> (
    None
):
    partitions = {**PARTITIONS["local"], "reports.raw.new": 2}
    found = owners(
        partitions, {"new": [*INTAKE[1:], "reports.raw.new"], "old": INTAKE, "older": INTAKE[1:]}
    )
    for number in range(2):
        assert {found.get((topic, number)) for topic in INTAKE[1:]} in ({"new"}, {"old"})


def test_the_consumer_still_reads_its_assignors_at_start() -> None:
    assert "assignors=self._partition_assignment_strategy" in inspect.getsource(AIOKafkaConsumer)
