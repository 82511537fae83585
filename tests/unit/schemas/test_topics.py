"""What topics.yaml means: every channel and every agent has the topics that its work needs."""

import pytest

from schemas.channels import channel_names
from schemas.errors import QuanyuError
from schemas.registry import load_schemas
from schemas.settings import Settings
from schemas.topics import (
    TopicSpec,
    _document,
    beside_topics,
    dlq_topic,
    load_topics,
    raw_topic,
    state_topic,
    stray_topics,
    table_topics,
)


@pytest.fixture(scope="module")
def specs() -> dict[str, TopicSpec]:
    return {spec.name: spec for spec in load_topics(Settings())}


def test_every_channel_has_a_raw_topic_with_dead_letters_and_state(
    specs: dict[str, TopicSpec],
) -> None:
    for channel in channel_names():
        raw = raw_topic(channel)
        assert {raw, dlq_topic(raw), state_topic(raw, "intake")} <= set(specs)


def test_a_state_topic_is_compacted_and_has_the_partitions_of_its_input(
    specs: dict[str, TopicSpec],
) -> None:
    states = {name: spec for name, spec in specs.items() if name.endswith(".state")}
    assert {name.split(".")[-2] for name in states} == {"intake", "merge", "dispatch"}
    for name, spec in states.items():
        source = specs[name.rsplit(".", 2)[0]]
        assert spec.config["cleanup.policy"] == "compact"
        assert "retention.ms" not in spec.config
        assert (spec.partitions, spec.stateful, source.stateful) == (source.partitions, True, True)


def test_a_dead_letter_outlives_its_topic_and_fits_whatever_fitted_there(
    specs: dict[str, TopicSpec],
) -> None:
    for name, spec in specs.items():
        letters = specs.get(dlq_topic(name))
        if letters is not None:
            for key in ("retention.ms", "max.message.bytes"):
                assert int(letters.config[key]) >= int(spec.config[key])


def test_production_survives_the_loss_of_a_broker() -> None:
    for spec in load_topics(Settings(environment="production")):
        assert spec.replication == 3
        assert spec.config["min.insync.replicas"] == "2"


def test_every_topic_names_a_record_of_the_tree() -> None:
    document = _document()
    records = {entry["record"] for entry in (document["channels"], *document["topics"].values())}
    assert records <= {name for name, _ in load_schemas()}


def test_every_table_is_filled_from_one_topic() -> None:
    tables = list(table_topics().values())
    assert len(tables) == len(set(tables)) == 7


def test_an_environment_that_is_not_known_is_refused_by_name() -> None:
    with pytest.raises(QuanyuError, match=r"QUANYU_ENVIRONMENT=moon.*local, production"):
        load_topics(Settings(environment="moon"))


def test_only_names_of_ours_can_be_strays() -> None:
    specs = [TopicSpec(name, 1, 1) for name in ("reports", "reports.dlq", "reports.raw.a")]
    found = [
        *("reports", "reports.dlq", "reports.raw.a"),
        *("reports.raw.gone", "reports.raw.gone.dlq", "reports.merge2.state"),
        *("__consumer_offsets", "reportsbackup", "other.reports", "events"),
    ]
    assert stray_topics(found, specs) == [
        "reports.merge2.state",
        "reports.raw.gone",
        "reports.raw.gone.dlq",
    ]


def test_a_topic_beside_another_has_its_key_and_its_partitions(specs: dict[str, TopicSpec]) -> None:
    topics = _document()["topics"]
    homes = beside_topics()
    assert homes == {"event.actions": "reports", "order.actions": "events"}
    for name, home in homes.items():
        assert topics[name]["key"] == topics[home]["key"]
        assert specs[name].partitions == specs[home].partitions
        assert specs[name].stateful
