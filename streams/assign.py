"""Which worker gets which partition: what is decided with one state goes to one worker.

aiokafka's round robin deals out partitions one by one. It puts partition n of a topic and of the topic beside
it on one worker only for some numbers of workers: with three, five, six or seven workers for the eight
partitions of ``topics.yaml`` they came apart, and no worker could run. Here the pair is dealt out as one.
"""

from collections import defaultdict
from collections.abc import Mapping

from aiokafka.cluster import ClusterMetadata
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.coordinator.protocol import (
    ConsumerProtocolMemberAssignment,
    ConsumerProtocolMemberMetadata,
)

from schemas.topics import beside_topics


class TogetherAssignor(RoundRobinPartitionAssignor):  # type: ignore[misc]  # aiokafka has no types
    """Round robin over partitions with those beside them.

    Keeps the name of round robin, by which the members of a group agree on a way: whoever leads decides, so
    that an older worker may be a member while workers are upgraded one by one.
    """

    @classmethod
    def assign(
        cls, cluster: ClusterMetadata, members: Mapping[str, ConsumerProtocolMemberMetadata]
    ) -> dict[str, ConsumerProtocolMemberAssignment]:
        """Member → its partitions; a member gets only what it subscribed to."""
        beside = beside_topics()
        subscribed = {name: set(member.subscription) for name, member in members.items()}
        topics = set().union(*subscribed.values())
        together: dict[tuple[str, int], set[str]] = defaultdict(set)
        for topic in topics:
            home = beside.get(topic, topic)
            for partition in cluster.partitions_for_topic(topic) or ():
                together[home if home in topics else topic, partition].add(topic)
        given: dict[str, dict[str, list[int]]] = {name: defaultdict(list) for name in members}
        names, turn = sorted(members), 0
        for (_, partition), unit in sorted(together.items()):
            taker = next(
                (name for k in range(len(names))
                 if unit <= subscribed[name := names[(turn + k) % len(names)]]),
                None,
            )  # fmt: skip
            if taker is None:  # no member reads all of it: an older or a wrongly configured one
                continue
            turn = names.index(taker) + 1
            for topic in sorted(unit):
                given[taker][topic].append(partition)
        return {
            name: ConsumerProtocolMemberAssignment(cls.version, sorted(of.items()), b"")
            for name, of in given.items()
        }
