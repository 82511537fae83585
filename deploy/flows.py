"""What flows where, and how far it has come: groups, their topics, the wait until all is done."""

import time
from collections.abc import Mapping
from dataclasses import dataclass

from deploy.positions import Extent, Lag, Partition, Positions
from schemas.channels import channel_names
from schemas.errors import QuanyuError
from schemas.settings import Settings
from schemas.topics import dlq_topic, load_topics, raw_topic, table_topics

STREAMS_GROUP = "quanyu-streams"
SINK_GROUP = "quanyu-sink"
#: raw → reports → events → event.actions → events → orders → tables: so many times everything must have been
#: caught up with before what stood in a first topic at the beginning is certain to be in the last table.
#: Dispatch asks merge to close or open an event once (and itself for a false closing); what merge answers makes
#: it ask for no more.
DEPTH = 6
POLL_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Topology:
    """Which partitions each group reads, and which topic fills which table."""

    channels: dict[str, str]
    tables: dict[str, str]
    reads: dict[str, list[Partition]]
    dead_letters: list[Partition]
    partitions: list[Partition]

    def of(self, topic: str) -> list[Partition]:
        return [p for p in self.partitions if p[0] == topic]


def topology(settings: Settings, positions: Positions) -> Topology:
    """The flows of this installation. Raises QuanyuError when a topic is missing."""
    channels = {name: raw_topic(name) for name in channel_names()}
    tables = dict(table_topics())
    specs = load_topics(settings)
    inputs = [spec.name for spec in specs if spec.stateful and not spec.name.endswith(".state")]
    letters = positions.partitions(dlq_topic(t) for t in dict.fromkeys([*inputs, *tables]))
    streams, sink = positions.partitions(inputs), positions.partitions(tables)
    missing = {*inputs, *tables} - {topic for topic, _ in streams + sink}
    if missing:
        raise QuanyuError(f"topics missing in Kafka: {sorted(missing)}; run quanyu topics apply")
    reads = {STREAMS_GROUP: streams, SINK_GROUP: sink}
    return Topology(channels, tables, reads, letters, sorted({*streams, *sink}))


@dataclass(frozen=True, slots=True)
class Settled:
    """How the wait ended: the extents that everything was caught up with, and what was not."""

    quiet: bool
    travelled: bool
    lag: dict[str, dict[Partition, Lag]]
    #: Extents that had travelled through the whole pipeline, and the latest ones caught up with.
    through: dict[Partition, Extent]
    caught_up: dict[Partition, Extent]


def settle(positions: Positions, flows: Topology, deadline: float, *, until_quiet: bool) -> Settled:
    """Wait until nothing moves, or (under traffic) until the first extents travelled through."""
    history = [positions.extents(flows.partitions)]
    while True:
        lag = lag_of(positions, flows, history[-1])
        while any(lag.values()) and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
            lag = lag_of(positions, flows, history[-1])
        travelled = len(history) > DEPTH
        through = history[-DEPTH - 1] if travelled else history[0]
        if any(lag.values()):
            return Settled(False, travelled, lag, through, history[-1])
        now = positions.extents(flows.partitions)
        if now == history[-1]:
            return Settled(True, True, lag, now, now)
        if travelled and (not until_quiet or time.monotonic() >= deadline):
            return Settled(False, True, lag, through, history[-1])
        history.append(now)


def lag_of(
    positions: Positions, flows: Topology, extents: Mapping[Partition, Extent]
) -> dict[str, dict[Partition, Lag]]:
    return {
        group: {
            partition: lag
            for partition, lag in positions.lag(group, partitions, extents).items()
            if lag.records
        }
        for group, partitions in flows.reads.items()
    }
