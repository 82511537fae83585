"""The batch transport: one Faust message carries a run of consecutive records of one partition.

Faust's cost is per message (about 75 µs); the work of a report, done in batches, is half of that. So for
the topics of batch agents, and only for those, the consumer hands over runs of records as one message.
Groups, assignment and flow control stay Faust's own.

What a commit may pass is decided here and not by Faust's acknowledgements, because Faust acknowledges a
message whose agent raised: the committable offset is one past the longest *finished* prefix of the runs
in flight, and a run is finished only when :attr:`streams.batch.Batch.finished` says so.

This leans on private names of faust-streaming 0.15.3 (pinned exactly); ``CONTRACT`` lists them and a
test fails by name when one moves.
"""

import asyncio
from collections import deque
from collections.abc import Iterator
from typing import Any, ClassVar, cast

import faust
from faust.transport import drivers
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from faust.types.tuples import ConsumerMessage

from streams.assign import TogetherAssignor
from streams.batch import Batch

SCHEME = "batch"

#: Private names relied upon: (owner, attribute, parameters).
CONTRACT: tuple[tuple[type, str, tuple[str, ...]], ...] = (
    (driver.Consumer, "_getmany", ("self", "active_partitions", "timeout")),
    (driver.Consumer, "_to_message", ("self", "tp", "record")),
    (driver.Consumer, "_new_offset", ("self", "tp")),
    (driver.Consumer, "_filter_tps_with_pending_acks", ("self", "topics")),
    (driver.Consumer, "_add_gap", ("self", "tp", "offset_from", "offset_to")),
    (driver.Consumer, "_wait_next_records", ("self", "timeout")),
    (driver.Consumer, "_get_active_partitions", ("self",)),
    (driver.Consumer, "_new_consumer_thread", ("self",)),
    (driver.Consumer, "ack", ("self", "message")),
    (driver.Consumer, "on_buffer_drop", ("self", "tp")),
    (driver.Consumer, "on_partitions_revoked", ("self", "revoked")),
    (driver.AIOKafkaConsumerThread, "_create_worker_consumer", ("self", "transport")),
)


class Limits:
    """How large a run may become: records and bytes."""

    def __init__(self, records: int = 2000, size: int = 4_000_000) -> None:
        self.records = records
        self.size = size


class BatchSchema(faust.Schema[Any, Any]):
    """Hands the batch to the agent as it is; decoding is the step's business."""

    def compile(self, app: Any, **_: Any) -> Any:
        """Compile the function that turns a message into an event."""
        create_event = app.create_event

        async def decode(message: Any, *, propagate: bool = False) -> Any:
            return create_event(None, message.value, None, message)

        return decode


def cut(records: list[Any], limits: Limits) -> Iterator[Batch]:
    """Cut consecutive records of one partition into runs within the limits, none empty."""
    start, size = 0, 0
    for index, record in enumerate(records):
        length = len(record.value or b"") + len(record.key or b"")
        if index > start and (index - start >= limits.records or size + length > limits.size):
            yield _batch(records[start:index])
            start, size = index, 0
        size += length
    if start < len(records):
        yield _batch(records[start:])


def _batch(records: list[Any]) -> Batch:
    return Batch(
        records[0].topic,
        records[0].partition,
        [record.key for record in records],
        [record.value for record in records],
        [record.offset for record in records],
        [record.timestamp for record in records],
        [list(record.headers) if record.headers else None for record in records],
    )


class Thread(driver.AIOKafkaConsumerThread):
    """Reads committed records only: the topics before us are written in transactions. Keeps pairs together."""

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        consumer._isolation_level = "read_committed"
        # Faust's 1.5 s is a wait for the *next* record; a record that comes ends it at once, but a
        # rebalance would wait for it.
        consumer._fetch_max_wait_ms = 500
        # Until it starts, a consumer can be told how its group deals out partitions.
        consumer._partition_assignment_strategy = [TogetherAssignor]
        return consumer


class Consumer(driver.Consumer):
    """Faust's consumer with runs of records as messages for the topics of batch agents."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._limits: dict[str, Limits] = cast(Any, self.app).batch_topics
        self._runs: dict[TP, deque[Batch]] = {}
        self._drained = asyncio.Event()

    def _new_consumer_thread(self) -> Any:
        return Thread(self, loop=self.loop, beacon=self.beacon)

    async def _getmany(self, active_partitions: set[TP] | None, timeout: float) -> Any:
        records = await super()._getmany(active_partitions, timeout)
        return {
            tp: list(cut(found, self._limits[tp.topic])) if tp.topic in self._limits else found
            for tp, found in records.items()
            if found
        }

    def _to_message(self, tp: TP, record: Any) -> Any:
        if not isinstance(record, Batch):
            return super()._to_message(tp, record)
        self._track(tp, record)
        return ConsumerMessage(
            record.topic,
            record.partition,
            record.last,
            record.timestamps[-1] / 1000.0,
            0,
            None,
            None,
            record,  # type: ignore[arg-type]  # the value of a batch topic's message is the batch
            None,
            0,
            0,
            tp,
            generation_id=self.app.consumer_generation_id,
        )

    def _track(self, tp: TP, run: Batch) -> None:
        """Queue a run in flight; after a seek, runs read again replace their older copies."""
        read = self._read_offset[tp]
        if read is not None and run.last < read:
            return  # Faust is about to drop it
        runs = self._runs.setdefault(tp, deque())
        while runs and runs[-1].last >= run.first:
            runs.pop()
        runs.append(run)

    def ack(self, message: Any) -> bool:
        """Let Faust forget the message; what may be committed is not decided by this."""
        if message.topic not in self._limits:
            return bool(super().ack(message))
        if message.acked:
            return False
        message.acked = True
        self._unacked_messages.discard(message)
        waiting = self._waiting_for_ack
        if waiting is not None and not waiting.done():
            waiting.set_result(None)
        return True

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Iterator[TP]:
        yield from (
            tp
            for tp in super()._filter_tps_with_pending_acks(topics)
            if tp.topic not in self._limits
        )
        yield from (
            tp
            for tp, runs in list(self._runs.items())
            if runs and (topics is None or tp in topics or tp.topic in topics)
        )

    def _new_offset(self, tp: TP) -> int | None:
        if tp.topic not in self._limits:
            offset: int | None = super()._new_offset(tp)
            return offset
        runs = self._runs.get(tp)
        committable = None
        while runs and runs[0].finished:
            committable = runs.popleft().last + 1
        return committable

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        if tp.topic not in self._limits:
            await super()._add_gap(tp, offset_from, offset_to)

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Forget the runs in flight: the next owner, or we, will read them again."""
        await super().on_partitions_revoked(revoked)
        for tp in revoked:
            self._runs.pop(tp, None)

    def on_buffer_drop(self, tp: TP) -> None:
        """Wake the fetcher: a partition has room again."""
        super().on_buffer_drop(tp)
        self._drained.set()

    async def _wait_next_records(self, timeout: float) -> Any:
        # With every buffer full Faust would sleep a whole second; wait for the first to drain.
        if self.flow_active and not self.app.client_only and not self._get_active_partitions():
            self._drained.clear()
            try:
                await asyncio.wait_for(self._drained.wait(), timeout)
            except TimeoutError:
                return {}, self._get_active_partitions()
        return await super()._wait_next_records(timeout)


class Transport(driver.Transport):
    """The aiokafka transport with the batch consumer, under ``batch://``."""

    Consumer: ClassVar[type] = Consumer


drivers.TRANSPORTS.aliases[SCHEME] = f"{__name__}:Transport"
