"""Exactly once from Kafka to Kafka: one transaction per batch and input partition.

The transaction holds everything that a batch causes: its output records, its state changes and the
*position* (next offset to decide), both in the compacted topic ``<input>.<agent>.state``, same partition.
Either all of it is committed or nothing; the position, not Faust's committed offset, says where to go on.

Ownership of a partition is a transactional producer whose id names agent, topic and partition. A new
owner's ``init_transactions`` aborts what the old one left open and fences it: a frozen worker that
revives can neither commit nor pass a position. A fenced owner gives the partition up until its group
assigns it again.
"""

import asyncio
import logging
import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Generic, NoReturn, TypeVar

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from schemas import metrics
from schemas.kafka import DEAD_LETTER_BYTES, consumer_config, producer_config
from schemas.settings import Settings
from schemas.topics import state_topic
from streams.batch import Batch, Decision, Step

S = TypeVar("S")
TP = tuple[str, int]

#: Key of the position among a state topic's keys; no state key starts with a NUL. A topic decided beside it
#: has its own: this, a colon and the topic's name.
POSITION_KEY = b"\x00position"
#: Longer than the longest batch by far, below the broker's maximum (15 min). Until it ends, an owner
#: that died in a transaction holds back the readers of its outputs, unless a new owner aborts it first.
TRANSACTION_TIMEOUT_MS = 60_000
#: One call to the transaction coordinator; it is repeated while the error says that it may be.
CALL_TIMEOUT_S = 20.0
CALL_ATTEMPTS = 3
#: Fenced although the group says the partition is ours: leave and join again rather than wait for ever.
LOST_LIMIT_S = 15.0


#: What a supervisor restarts at once: the batch at hand was not committed.
EXIT_FAIL_FAST = 70


def fail_fast(event: str, **details: object) -> NoReturn:
    """End the process now, without the good-byes by which Faust would commit what was not finished."""
    structlog.get_logger().error(event, **details)
    logging.shutdown()
    sys.stdout.flush()
    os._exit(EXIT_FAIL_FAST)


#: ``<topic>/<partition>:<position>``, comma-separated: losses that a person has looked at. A position moves on,
#: so a word that is forgotten accepts no second one.
ACCEPT_LOSS = "QUANYU_ACCEPT_LOSS"


#: Offsets in a row that markers of transactions may take: one for each producer that ended one meanwhile.
MARKERS = 20
#: A log is looked at again so long after it was seen to be whole. Retention runs every five minutes.
LOOK_AGAIN_S = 10.0


class Fenced(Exception):
    """A newer owner has taken the partition over; nothing of the batch was published."""


def position_key(topic: str, home: str) -> bytes:
    """Under which key the position in ``topic`` stands in the state topic of ``home``."""
    return POSITION_KEY if topic == home else POSITION_KEY + b":" + topic.encode()


@dataclass(slots=True)
class Owned(Generic[S]):
    """A partition that is ours: its producer, its state and where to go on in each of its topics.

    ``step``: the one that made the state, which no other understands for sure.
    """

    producer: Producer
    state: S
    positions: dict[str, int]
    step: Step[S]


class Ledger(Generic[S]):
    """The partitions of one agent: acquires them, decides their batches, commits, gives them up.

    A topic that is decided *beside* another has equal partitions and keys: partition n of both is one
    thing, with one producer, one state and a position for each. Faust gives both to one worker.
    """

    def __init__(
        self,
        settings: Settings,
        app_id: str,
        step: Step[S],
        beside: Mapping[str, str] | None = None,
    ) -> None:
        """``beside``: topic → the topic whose state it shares."""
        self._settings = settings
        self._app_id = app_id
        self._step = step
        self._beside = beside or {}
        self._owned: dict[TP, Owned[S]] = {}
        self._lost: dict[TP, float] = {}
        self._acquiring: dict[TP, asyncio.Future[Owned[S] | None]] = {}
        self._committing: dict[TP, asyncio.Task[None]] = {}
        self._assigned: set[TP] = set()
        #: When a log was last seen to be whole.
        self._looked: dict[TP, float] = {}
        #: Asked where a log begins and ends; it reads nothing.
        self._log = Consumer(consumer_config(settings, f"{app_id}-{step.name}-log"))
        self._executor = ThreadPoolExecutor(max_workers=2, thread_name_prefix=f"ledger-{step.name}")

    async def handle(self, batch: Batch) -> None:
        """Decide one batch and commit it in the background; it is finished once it is committed.

        Batches of one partition are decided and committed one after another; while one is committed, one
        of another partition may be decided. A batch of a partition that was lost to another owner is left
        unfinished. Any error but that ends the process: nothing of the batch is published.
        """
        tp = self._home(batch.topic), batch.partition
        whole = False
        while True:
            owned = await self._take(tp)
            if owned is None:
                return  # the partition is not ours any more; its next owner reads the batch again
            position = owned.positions.get(batch.topic, 0)
            fresh = batch.since(position)
            if not len(fresh):
                batch.finished = True
                return
            if (
                whole
                or not 0 < position < fresh.first
                or self._markers(batch, fresh.first - position)
            ):
                break
            # A marker of a transaction, most often; or records that are gone, over which Faust's client
            # jumps. Time may act meanwhile, and the partition be given away: look again.
            await asyncio.get_running_loop().run_in_executor(
                self._executor, self._refuse_gone, batch.topic, batch.partition, position
            )
            self._looked[batch.topic, batch.partition] = time.monotonic()
            whole = True
        started = time.monotonic()
        decision = owned.step.decide(owned.state, fresh, int(time.time() * 1000))
        self._seconds("decide", started)
        self._committing[tp] = asyncio.create_task(self._finish(tp, owned, decision, fresh, batch))

    def _markers(self, batch: Batch, gap: int) -> bool:
        """Whether a gap can only be what transactions left: nearly every batch has one, each look costs a call.

        The log was whole a moment ago, and a segment that retention deleted since is longer.
        """
        looked = self._looked.get((batch.topic, batch.partition), -LOOK_AGAIN_S)
        return gap <= MARKERS and time.monotonic() - looked < LOOK_AGAIN_S

    async def _take(self, tp: TP) -> Owned[S] | None:
        """The partition once nothing of it is committed, its state made by the step in service; None when it is
        not ours."""
        while True:
            while tp in self._committing:
                await self._committing[tp]
            owned = self._owned.get(tp)
            if owned is not None and owned.step is self._step:
                return owned
            if owned is None and tp in self._lost:
                return None
            # Not acquired yet, or another step took over: the state is read as that one indexes it.
            self._owned.pop(tp, None)
            if tp not in self._acquiring:
                self._acquiring[tp] = self._start_acquiring(tp)
            acquired = await self._acquiring[tp]
            self._acquiring.pop(tp, None)
            if acquired is None:
                return None
            self._owned[tp] = acquired

    def renew(self, step: Step[S]) -> None:
        """Decide by another step from each partition's next batch on, or its next tick.

        What is decided is committed first, then the partition's state is read anew from its topic, so that
        nothing in memory is of two steps. Nobody else is asked, no partition changes hands.
        """
        self._step = step

    async def tick(self, timers: Callable[[S, int], Decision]) -> None:
        """Let ``timers`` (state, now in ms) act on every partition that is ours and not busy."""
        for tp, acquiring in list(self._acquiring.items()):
            # Time passes where no batch comes, too.
            if acquiring.done() and (acquired := self._acquiring.pop(tp).result()) is not None:
                self._owned[tp] = acquired
        for tp, owned in list(self._owned.items()):
            if tp in self._committing:
                continue
            if owned.step is not self._step:
                del self._owned[tp]
                self._acquiring[tp] = self._start_acquiring(tp)
                continue
            try:
                decision = timers(owned.state, int(time.time() * 1000))
            except Exception as error:
                fail_fast("tick_failed", agent=self._step.name, error=repr(error), exc_info=error)
            if decision.outputs or decision.changes:
                self._committing[tp] = asyncio.create_task(self._finish(tp, owned, decision))

    def _home(self, topic: str) -> str:
        return self._beside.get(topic, topic)

    async def _finish(
        self,
        tp: TP,
        owned: Owned[S],
        decision: Decision,
        fresh: Batch | None = None,
        batch: Batch | None = None,
    ) -> None:
        """Commit a decision; fenced, give its partition up; failed, end the process."""
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(self._executor, self._commit, tp, owned, fresh, decision)
        except Fenced:
            structlog.get_logger().warning(
                "fenced", agent=self._step.name, topic=tp[0], partition=tp[1]
            )
            metrics.STREAM_FENCED.labels(self._step.name).inc()
            self._owned.pop(tp, None)
            self._lost[tp] = time.monotonic()
            loop.call_later(LOST_LIMIT_S, self._leave_if_lost, tp, self._lost[tp])
        except Exception as error:
            fail_fast("commit_failed", agent=self._step.name, error=repr(error), exc_info=error)
        else:
            if fresh is not None and batch is not None:
                owned.positions[fresh.topic] = fresh.last + 1
                self._count(fresh, owned)
                batch.finished = True
        finally:
            del self._committing[tp]

    def assigned(self, tps: Iterable[TP]) -> None:
        """A new assignment: what was lost may be ours again; what is not in it is given up."""
        given = set(tps)
        self._assigned = {tp for tp in given if tp[0] not in self._beside}
        astray = {tp for tp in given if (self._home(tp[0]), tp[1]) not in self._assigned}
        if astray:
            fail_fast("assigned_apart", agent=self._step.name, partitions=sorted(astray))
        self._lost.clear()
        for tp in self._owned.keys() - self._assigned:
            del self._owned[tp]
        for tp in self._acquiring.keys() - self._assigned:
            del self._acquiring[tp]
        # State is read now, so that the first report of a partition need not wait for it.
        for tp in self._assigned - self._owned.keys() - self._acquiring.keys():
            self._acquiring[tp] = self._start_acquiring(tp)
        metrics.STREAM_ASSIGNED.labels(self._step.name).set(len(self._assigned))
        metrics.STREAM_REBALANCES.labels(self._step.name).inc()

    def _leave_if_lost(self, tp: TP, since: float) -> None:
        """The group never took back what another owner holds: join it anew instead of standing still."""
        if self._lost.get(tp) == since:
            fail_fast("lost_but_assigned", agent=self._step.name, topic=tp[0], partition=tp[1])

    async def ready(self) -> None:
        """Wait until every assigned partition is acquired."""
        await asyncio.gather(*self._acquiring.values())

    async def committed(self) -> None:
        """Wait until every batch decided so far is committed or given up."""
        await asyncio.gather(*self._committing.values())

    def _start_acquiring(self, tp: TP) -> "asyncio.Future[Owned[S] | None]":
        return asyncio.get_running_loop().run_in_executor(self._executor, self._acquire, *tp)

    def close(self) -> None:
        """Stop the threads; a transaction under way is abandoned to the next owner's fence."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _acquire(self, topic: str, partition: int) -> Owned[S] | None:
        """Fence whoever had the partition, then read its state and position.

        None when it was reassigned while this waited for its turn: fencing would hit the new owner.
        """
        if (topic, partition) not in self._assigned:
            return None
        step = self._step
        started = time.monotonic()
        producer = Producer(
            {
                **producer_config(self._settings),
                "message.max.bytes": DEAD_LETTER_BYTES,
                "transactional.id": f"{self._app_id}.{self._step.name}.{topic}.{partition}",
                "transaction.timeout.ms": TRANSACTION_TIMEOUT_MS,
                # The commit flushes at once; until then records gather into large requests.
                "linger.ms": 50,
                "queue.buffering.max.messages": 1_000_000,
            }
        )
        self._call(producer, lambda: producer.init_transactions(CALL_TIMEOUT_S))
        entries = read_state(self._settings, state_topic(topic, self._step.name), partition)
        topics = [topic, *(name for name, home in self._beside.items() if home == topic)]
        positions = {name: int(entries.pop(position_key(name, topic), b"0")) for name in topics}
        for name, position in positions.items():
            if position:
                self._refuse_gone(name, partition, position)
        state = step.restore(topic, partition, entries)
        structlog.get_logger().info(
            "acquired",
            agent=self._step.name,
            topic=topic,
            partition=partition,
            positions=positions,
            entries=len(entries),
        )
        self._seconds("restore", started)
        return Owned(producer, state, positions, step)

    def _refuse_gone(self, topic: str, partition: int, position: int) -> None:
        """End the process when the log has no record at a position, but begins behind or ends before it.

        Retention has then deleted what was never decided, or the topic is another one: nobody else would
        notice, since Faust's client goes on with the first record that there is.
        """
        place = TopicPartition(topic, partition)
        end = time.monotonic() + CALL_ATTEMPTS * CALL_TIMEOUT_S
        doubt = time.monotonic() + CALL_TIMEOUT_S / 2
        while True:
            try:
                low, high = self._log.get_watermark_offsets(place, timeout=CALL_TIMEOUT_S / 4)
                # A broker that has just restarted may not know its own end yet.
                if position <= high or time.monotonic() > doubt:
                    break
            except KafkaException:
                if time.monotonic() > end:
                    raise
            time.sleep(0.2)
        details = {"agent": self._step.name, "topic": topic, "partition": partition}
        if position > high:
            fail_fast(
                "topic_made_anew", **details, position=position, end=high,
                remedy="the state is of a log that is gone: delete its topic too, then quanyu topics apply",
            )  # fmt: skip
        loss = f"{topic}/{partition}:{position}"
        if position < low and loss not in os.environ.get(ACCEPT_LOSS, "").split(","):
            fail_fast(
                "retention_overtook", **details, position=position, begins=low,
                remedy=f"records {position} to {low - 1} are lost; find out why this stood still for so long. "
                f"To go on without them start it with {ACCEPT_LOSS}={loss}",
            )  # fmt: skip

    def _commit(self, tp: TP, owned: Owned[S], batch: Batch | None, decision: Decision) -> None:
        """Publish all of a decision and the position behind its batch in one transaction, or nothing."""
        home, partition = tp
        producer = owned.producer
        started = time.monotonic()
        self._call(producer, producer.begin_transaction)
        # No delivery callbacks: commit_transaction flushes and fails when any record did.
        produce = producer.produce
        state = state_topic(home, self._step.name)
        records: list[tuple[str, bytes | None, bytes | None, Any, int]] = [
            (o.topic, o.key, o.value, o.headers, -1 if o.partition is None else o.partition)
            for o in decision.outputs
        ]
        records += [(state, key, value, None, partition) for key, value in decision.changes]
        if batch is not None:
            key = position_key(batch.topic, home)
            records.append((state, key, b"%d" % (batch.last + 1), None, partition))
        try:
            for topic, name, value, headers, where in records:
                while True:
                    try:
                        produce(topic, value=value, key=name, headers=headers, partition=where)
                        break
                    except BufferError:
                        producer.poll(0.1)
            self._seconds("produce", started)
            started = time.monotonic()
            self._call(producer, lambda: producer.commit_transaction(CALL_TIMEOUT_S))
        except KafkaException as error:
            raise _meaning(error) from error
        self._seconds("commit", started)

    def _call(self, producer: Producer, call: Any) -> None:
        """A transactional call, repeated while its error may be; abort and raise otherwise."""
        for attempt in range(1, CALL_ATTEMPTS + 1):
            try:
                call()
                return
            except KafkaException as error:
                cause = error.args[0]
                if cause.retriable() and attempt < CALL_ATTEMPTS:
                    continue
                if cause.txn_requires_abort():
                    # Readers behind the open transaction wait for its end: end it now.
                    try:
                        producer.abort_transaction(CALL_TIMEOUT_S)
                    except KafkaException as second:
                        raise _meaning(second) from error
                raise _meaning(error) from error

    def _count(self, batch: Batch, owned: Owned[S]) -> None:
        agent, topic, partition = self._step.name, batch.topic, str(batch.partition)
        metrics.STREAM_RECORDS.labels(agent, topic).inc(len(batch))
        metrics.STREAM_BATCHES.labels(agent, topic).inc()
        metrics.STREAM_BATCH_RECORDS.labels(agent).observe(len(batch))
        metrics.STREAM_POSITION.labels(agent, topic, partition).set(owned.positions[topic])
        metrics.STREAM_COMMITTED_AT.labels(agent, topic, partition).set_to_current_time()
        metrics.STREAM_STATE_ENTRIES.labels(agent, topic, partition).set(
            owned.step.entries(owned.state)
        )

    def _seconds(self, step: str, started: float) -> None:
        metrics.STREAM_STEP_SECONDS.labels(self._step.name, step).observe(
            time.monotonic() - started
        )


#: Error codes by which the coordinator says that a newer owner is there.
FENCED = {
    KafkaError._FENCED,
    KafkaError.PRODUCER_FENCED,
    KafkaError.INVALID_PRODUCER_EPOCH,
    KafkaError.INVALID_PRODUCER_ID_MAPPING,
}


def _meaning(error: KafkaException) -> Exception:
    cause = error.args[0]
    return Fenced(cause.str()) if cause.code() in FENCED else error


def read_state(settings: Settings, topic: str, partition: int) -> dict[bytes, bytes]:
    """The newest value of every key of one partition of a state topic, committed ones only.

    To be called by the partition's owner, after its ``init_transactions``: then nothing is open and the
    end does not move.
    """
    consumer = Consumer(
        {
            **consumer_config(settings, f"state-{topic}-{partition}"),
            "enable.partition.eof": True,
            "fetch.wait.max.ms": 10,
        }
    )
    entries: dict[bytes, bytes] = {}
    try:
        consumer.assign([TopicPartition(topic, partition, 0)])
        end = time.monotonic() + CALL_TIMEOUT_S
        while True:
            message = consumer.poll(1.0)
            if message is None:
                if time.monotonic() > end:
                    raise RuntimeError(
                        f"state {topic}/{partition}: nothing read for {CALL_TIMEOUT_S} s"
                    )
                continue
            error = message.error()
            if error is not None:
                if error.code() == KafkaError._PARTITION_EOF:
                    return entries
                if error.retriable():
                    continue
                raise KafkaException(error)
            end = time.monotonic() + CALL_TIMEOUT_S
            key, value = message.key(), message.value()
            if not isinstance(key, bytes):
                raise RuntimeError(f"state {topic}/{partition}@{message.offset()}: no key")
            if isinstance(value, bytes):
                entries[key] = value
            else:
                entries.pop(key, None)
    finally:
        consumer.close()
