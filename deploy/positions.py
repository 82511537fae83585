"""Where the records of each topic lie, and how far each consumer group is.

Everything here reads committed records only. A transaction's marker takes an offset without being
a record, so an offset range may have gaps and a group that has read everything may stand below the
end: what is behind is judged by records, never by subtracting offsets alone.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from confluent_kafka import (
    Consumer,
    IsolationLevel,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, ListOffsetsResultInfo, OffsetSpec

from schemas.access import Config, hold_kafka
from schemas.errors import QuanyuError
from schemas.kafka import admin_config, consumer_config
from schemas.settings import Settings

EARLIEST = OffsetSpec.earliest()  # type: ignore[no-untyped-call] # stubs lack these three
LATEST = OffsetSpec.latest()  # type: ignore[no-untyped-call]
NEWEST = OffsetSpec.max_timestamp()  # type: ignore[no-untyped-call]

#: A topic's name and a partition's number.
Partition = tuple[str, int]

#: Seconds for one request; a restarting broker answers again within this on a busy small machine.
REQUEST_SECONDS = 30.0
#: Seconds without any record while some are known to be there: then the broker is not well.
STALL_SECONDS = 60.0
RETRY_SECONDS = 0.2

#: A broker that is down is reported once, by an error with a remedy, not by the client every 50 ms.
QUIET: Config = {"log_level": 0, "reconnect.backoff.ms": 500, "reconnect.backoff.max.ms": 2000}

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Extent:
    """Offsets of one partition: the first that is kept, and the end (exclusive, committed only)."""

    first: int
    end: int


@dataclass(frozen=True, slots=True)
class Lag:
    """What a group has still to read of one partition.

    ``records`` is 0 only when there is none; otherwise it counts offsets, markers included.
    ``oldest_ms`` is the oldest waiting record's timestamp.
    """

    records: int
    oldest_ms: int | None


class Positions:
    """Reads positions, for one thread. Raises QuanyuError when the broker does not answer."""

    def __init__(self, settings: Settings, *, timeout: float = REQUEST_SECONDS) -> None:
        self._settings = settings
        self._timeout = timeout
        self._members: dict[str, Consumer] = {}
        self._admin = AdminClient({**admin_config(settings), **QUIET})
        config = {
            **consumer_config(settings, "quanyu-audit"),
            "enable.partition.eof": True,
            "fetch.wait.max.ms": 10,  # the end of a log is answered at once, not after 500 ms
            **QUIET,
        }
        self._reader = Consumer({**config, "queued.max.messages.kbytes": 65536})
        # For the first record of many partitions: more than a batch of each is fetched in vain.
        small = {"fetch.message.max.bytes": 16384, "queued.max.messages.kbytes": 64}
        self._peeker = Consumer({**config, **small})

    def __enter__(self) -> "Positions":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give up the connections."""
        for consumer in (self._reader, self._peeker, *self._members.values()):
            consumer.close()

    def partitions(self, topics: Iterable[str]) -> list[Partition]:
        """Every partition of those of the topics that exist."""
        known = self._answered(lambda: self._admin.list_topics(timeout=self._timeout).topics)
        return [(t, p) for t in topics if t in known for p in sorted(known[t].partitions)]

    def extents(self, partitions: Sequence[Partition]) -> dict[Partition, Extent]:
        """Start and end of each partition."""
        first = self._offsets(partitions, EARLIEST)
        end = self._offsets(partitions, LATEST)
        return {p: Extent(first[p], max(first[p], end[p])) for p in partitions}

    def ends(self, partitions: Sequence[Partition]) -> dict[Partition, int]:
        """End of each partition."""
        return self._offsets(partitions, LATEST)

    def since(self, partitions: Sequence[Partition], at_ms: int) -> dict[Partition, int]:
        """Offset of each partition's first record of that time (ms) or later; its end when there is none."""
        end = self.ends(partitions)
        found = self._offsets(partitions, OffsetSpec.for_timestamp(at_ms))
        return {p: end[p] if offset < 0 else offset for p, offset in found.items()}

    def newest(self, partitions: Sequence[Partition]) -> dict[Partition, int]:
        """Timestamp (ms) of the newest record of each partition; those without a record are left out."""
        found = self._listed(partitions, NEWEST)
        return {p: at.timestamp for p, at in found.items() if at.timestamp >= 0}

    def _offsets(self, partitions: Sequence[Partition], spec: OffsetSpec) -> dict[Partition, int]:
        return {p: at.offset for p, at in self._listed(partitions, spec).items()}

    def _listed(
        self, partitions: Sequence[Partition], spec: OffsetSpec
    ) -> dict[Partition, ListOffsetsResultInfo]:
        if not partitions:
            return {}

        def ask() -> dict[Partition, ListOffsetsResultInfo]:
            futures = self._admin.list_offsets(
                {TopicPartition(t, p): spec for t, p in partitions},
                isolation_level=IsolationLevel.READ_COMMITTED,
                request_timeout=self._timeout,
            )
            return {(tp.topic, tp.partition): f.result(self._timeout) for tp, f in futures.items()}

        return self._answered(ask)

    def committed(self, group: str, partitions: Sequence[Partition]) -> dict[Partition, int]:
        """Next offset that the group will read; partitions it never committed are left out."""
        if not partitions:
            return {}
        asked = [TopicPartition(t, p) for t, p in partitions]

        def ask() -> list[TopicPartition]:
            return list(self._member(group).committed(asked, timeout=self._timeout))

        found = self._answered(ask)
        return {(tp.topic, tp.partition): tp.offset for tp in found if tp.offset >= 0}

    def _member(self, group: str) -> Consumer:
        """Asks for the group's offsets and never joins it.

        Not by the AdminClient: librdkafka 2.16 ends the process (a null pointer, librdkafka#5040) when the
        group's coordinator is elsewhere or not ready, as after each start of a broker.
        """
        if group not in self._members:
            config = consumer_config(self._settings, group)
            self._members[group] = Consumer({**config, **QUIET})
        return self._members[group]

    def lag(
        self, group: str, partitions: Sequence[Partition], extents: Mapping[Partition, Extent]
    ) -> dict[Partition, Lag]:
        """What the group has still to read below each extent's end."""
        committed = self.committed(group, partitions)
        behind = {
            p: max(committed.get(p, extents[p].first), extents[p].first)
            for p in partitions
            if committed.get(p, extents[p].first) < extents[p].end
        }
        oldest = self._first_records({p: Extent(at, extents[p].end) for p, at in behind.items()})
        return {
            p: Lag(extents[p].end - behind[p], oldest[p]) if p in oldest else Lag(0, None)
            for p in partitions
        }

    def _first_records(self, extents: Mapping[Partition, Extent]) -> dict[Partition, int]:
        """Timestamp (ms) of the first record of each range; a range without records is left out."""
        found: dict[Partition, int] = {}
        for partition, messages in self._read(self._peeker, extents, found.__contains__):
            found.setdefault(partition, messages[0].timestamp()[1])
        return found

    def records(
        self, extents: Mapping[Partition, Extent]
    ) -> Iterator[tuple[Partition, list[Message]]]:
        """Every committed record of the ranges, in runs of one partition, in order there."""
        return self._read(self._reader, extents, lambda _: False)

    def _read(
        self,
        consumer: Consumer,
        extents: Mapping[Partition, Extent],
        enough: Callable[[Partition], bool],
    ) -> Iterator[tuple[Partition, list[Message]]]:
        """Runs of records until each range is read through or ``enough(partition)`` holds."""
        open_ = {p: e.end for p, e in extents.items() if e.first < e.end}
        if not open_:
            return
        consumer.assign([TopicPartition(t, p, extents[t, p].first) for t, p in open_])
        heard = time.monotonic()
        try:
            while open_:
                # Plain loops over a million messages: what is done for each is what is paid for.
                arrived: defaultdict[Partition, list[Any]] = defaultdict(list)
                for message in consumer.consume(10_000, timeout=0.1):
                    arrived[message.topic(), message.partition()].append(message)  # type: ignore[index] # both are set
                for partition in arrived.keys() & open_.keys():
                    messages, end = arrived[partition], open_[partition]
                    run = [m for m in messages if m.error() is None and m.offset() < end]
                    if run:
                        heard = time.monotonic()
                        yield partition, run
                    if _finished(messages, end) or (run and enough(partition)):
                        del open_[partition]
                        consumer.incremental_unassign([TopicPartition(*partition)])
                if time.monotonic() - heard > STALL_SECONDS:
                    raise QuanyuError(
                        f"Kafka at {self._settings.bootstrap} gave no record of {min(open_)} for "
                        f"{STALL_SECONDS:.0f} s; is the broker running (quanyu status)?"
                    )
        except KafkaException as error:
            raise self._unreachable(error) from None
        finally:
            consumer.unassign()

    def _answered(self, ask: Callable[[], T]) -> T:
        """The answer; asked again for a while, since leaders and coordinators move at a restart."""
        deadline = time.monotonic() + self._timeout
        while True:
            try:
                return ask()
            except (KafkaException, TimeoutError) as error:
                if time.monotonic() > deadline:
                    raise self._unreachable(error) from None
                time.sleep(RETRY_SECONDS)

    def _unreachable(self, error: Exception) -> QuanyuError:
        hold_kafka(self._settings)
        reason = error.args[0].str() if isinstance(error, KafkaException) else "no answer in time"
        return QuanyuError(
            f"Kafka at {self._settings.bootstrap} does not answer ({reason}); "
            "start it (quanyu up) or set QUANYU_KAFKA"
        )


def _finished(messages: list[Any], end: int) -> bool:
    """True when the partition was read up to the end offset, or as far as it goes."""
    for message in reversed(messages):
        if (error := message.error()) is None:
            return bool(message.offset() + 1 >= end)
        if error.code() == KafkaError._PARTITION_EOF:
            return True
        if error.fatal():
            raise KafkaException(error)
    return False
