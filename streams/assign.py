"""Which worker gets which partition: what is decided in one transaction goes to one worker.

An agent owns a part, one partition number of all topics that it decides (:mod:`streams.ledger`). aiokafka's
round robin deals out partitions one by one, which tears parts apart; here each is dealt out as one.
"""

from collections import defaultdict
from collections.abc import Mapping

from aiokafka.cluster import ClusterMetadata
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.coordinator.protocol import (
    ConsumerProtocolMemberAssignment,
    ConsumerProtocolMemberMetadata,
)

from schemas.topics import deciding_agents


class TogetherAssignor(RoundRobinPartitionAssignor):  # type: ignore[misc]  # aiokafka has no types
    """Round robin over the parts of the agents.

    Keeps the name of round robin, by which the members of a group agree on a way: whoever leads decides, so
    that an older worker may be a member while workers are upgraded one by one.
    """

    @classmethod
    def assign(
        cls, cluster: ClusterMetadata, members: Mapping[str, ConsumerProtocolMemberMetadata]
    ) -> dict[str, ConsumerProtocolMemberAssignment]:
        """Member → its partitions; a member gets only what it subscribed to, a part one member.

        Where no member reads all topics of a part, one that reads most of them gets these.
        """
        subscribed = {name: set(member.subscription) for name, member in members.items()}
        parts: dict[tuple[str, int], set[str]] = defaultdict(set)
        for topic, agent in deciding_agents(set().union(*subscribed.values())).items():
            for partition in cluster.partitions_for_topic(topic) or ():
                parts[agent, partition].add(topic)
        given: dict[str, dict[str, list[int]]] = {name: defaultdict(list) for name in members}
        names, turn = sorted(members), 0
        for (_, partition), topics in sorted(parts.items()):
            in_turn = names[turn:] + names[:turn]
            taker = max(in_turn, key=lambda name: len(topics & subscribed[name]))
            turn = names.index(taker) + 1
            for topic in sorted(topics & subscribed[taker]):
                given[taker][topic].append(partition)
        return {
            name: ConsumerProtocolMemberAssignment(cls.version, sorted(of.items()), b"")
            for name, of in given.items()
        }
