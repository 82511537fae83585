"""Exactly once from Kafka to Kafka: one transaction for what a round of batches causes.

The transaction holds everything: output records, changes of state and *positions* (next offset to decide of
each topic), these two in the compacted topics ``<input>.<agent>.state``, same partition. Either all of it is
committed or nothing; the position, not Faust's committed offset, says where to go on.

An agent owns a *part*: one partition number of all topics that it decides, which Faust gives to one worker
(:mod:`streams.assign`). Ownership is a transactional producer whose id names agent and number. A new owner's
``init_transactions`` aborts what the old one left open and fences it: a frozen worker that revives can neither
commit nor pass a position. A fenced owner gives the part up until its group assigns it again.

A transaction of one record costs what one of a thousand does, most of it in the broker. So what came while the
round before was committed is one round, whatever its topics, and small rounds keep a distance.
"""

import asyncio
import logging
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Generic, NoReturn, TypeVar, cast

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from schemas import metrics
from schemas.kafka import DEAD_LETTER_BYTES, consumer_config, producer_config
from schemas.settings import Settings
from schemas.topics import state_topic
from streams.batch import Batch, Decision, Step, joined

S = TypeVar("S")

#: Key of the position among a state topic's keys; no state key starts with a NUL. A topic decided beside it
#: has its own: this, a colon and the topic's name.
POSITION_KEY = b"\x00position"
#: Longer than the longest batch by far, below the broker's maximum (15 min). Until it ends, an owner
#: that died in a transaction holds back the readers of its outputs, unless a new owner aborts it first.
TRANSACTION_TIMEOUT_MS = 60_000
#: One call to the transaction coordinator; it is repeated while the error says that it may be.
CALL_TIMEOUT_S = 20.0
CALL_ATTEMPTS = 3
#: What one round takes at most: it holds the event loop while it is decided.
ROUND_RECORDS, ROUND_BYTES = 4_000, 4_000_000
#: A round begins so long after the one before it, unless so many records wait.
PACE_S, PACE_RECORDS = 0.1, 500
#: What waits for its round at most, of all parts together; then no batch is taken until there is room.
WAITING_RECORDS = 16_000
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
    """A newer owner has taken the part over; nothing of the round was published."""


def position_key(topic: str, home: str) -> bytes:
    """Under which key the position in ``topic`` stands in the state topic of ``home``."""
    return POSITION_KEY if topic == home else POSITION_KEY + b":" + topic.encode()


@dataclass(slots=True)
class Owned(Generic[S]):
    """A part that is ours: its producer, the state of each home and where to go on in each topic.

    ``step``: the one that made the states, which no other understands for sure.
    """

    producer: Producer
    states: dict[str, S]
    positions: dict[str, int]
    step: Step[S]


@dataclass(slots=True, eq=False)
class Part(Generic[S]):
    """One partition number of the agent's topics, from its assignment until it is assigned to another."""

    number: int
    topics: frozenset[str]
    #: None: not acquired yet, or its states are to be read anew.
    owned: Owned[S] | None = None
    acquiring: "asyncio.Future[Owned[S] | None] | None" = None
    #: What waits for its round, in the order in which it came.
    waiting: deque[Batch] = field(default_factory=deque)
    #: Time is to act in its next round.
    due: bool = False
    #: A newer owner has it, though it is assigned to us.
    lost: bool = False
    #: Takes rounds while there is something to do.
    work: "asyncio.Task[None] | None" = None
    #: When its last round began.
    began: float = 0.0


@dataclass(slots=True)
class Round:
    """What is decided at once: for each topic the records that are new, for each home what they cause."""

    taken: list[Batch]
    fresh: list[Batch] = field(default_factory=list)
    decisions: list[tuple[str, Decision]] = field(default_factory=list)


class Ledger(Generic[S]):
    """The parts of one agent: acquires them, decides their batches, commits, gives them up.

    Each topic is the *home* of a state, but for one that is decided *beside* another: both have equal keys, one
    state, and a position each.
    """

    def __init__(
        self,
        settings: Settings,
        app_id: str,
        step: Step[S],
        topics: Iterable[str],
        beside: Mapping[str, str] | None = None,
    ) -> None:
        """``topics``: all that the agent decides; ``beside``: those among them whose state is another's."""
        self._settings = settings
        self._app_id = app_id
        self._step = step
        self._topics = frozenset(topics)
        self._beside = dict(beside or {})
        self._parts: dict[int, Part[S]] = {}
        self._timers: Callable[[S, int], Decision] | None = None
        self._waiting = 0
        self._room = asyncio.Event()
        #: When a log was last seen to be whole.
        self._looked: dict[tuple[str, int], float] = {}
        #: Asked where a log begins and ends; it reads nothing.
        self._log = Consumer(consumer_config(settings, f"{app_id}-{step.name}-log"))
        self._executor = ThreadPoolExecutor(max_workers=2, thread_name_prefix=f"ledger-{step.name}")

    async def handle(self, batch: Batch) -> None:
        """Put a batch into its part's next round; it is finished once that is committed.

        Batches of a topic are decided in the order in which they come. One whose part was lost or given to
        another owner is left unfinished: that one reads it again. Any error ends the process: nothing of the
        round is published. Waits while too much waits.
        """
        part = self._parts.get(batch.partition)
        if part is None or part.lost or batch.topic not in part.topics:
            return
        part.waiting.append(batch)
        self._waiting += len(batch)
        self._wake(part)
        while self._waiting > WAITING_RECORDS:
            self._room.clear()
            await self._room.wait()

    async def tick(self, timers: Callable[[S, int], Decision]) -> None:
        """Let ``timers`` (state, now in ms) act in the next round of every part that is ours."""
        self._timers = timers
        for part in self._parts.values():
            if not part.lost:
                part.due = True
                self._wake(part)

    def renew(self, step: Step[S]) -> None:
        """Decide by another step from each part's next round on.

        What is decided is committed first, then the part's states are read anew from their topics, so that
        nothing in memory is of two steps. Nobody else is asked, no partition changes hands.
        """
        self._step = step

    def assigned(self, tps: Iterable[tuple[str, int]]) -> None:
        """A new assignment: what was lost may be ours again; what is not in it is given up, unfinished."""
        given: dict[int, set[str]] = {}
        for topic, number in tps:
            given.setdefault(number, set()).add(topic)
        kept = {
            number: part
            for number, part in self._parts.items()
            if part.topics == given.get(number, set()) and not part.lost
        }
        for number in self._parts.keys() - kept.keys():
            self._drop(self._parts[number])
        self._parts = kept | {
            number: Part(number, frozenset(topics))
            for number, topics in given.items()
            if number not in kept
        }
        # State is read now, so that the first report of a partition need not wait for it.
        for part in self._parts.values():
            if part.owned is None and part.acquiring is None:
                part.acquiring = self._start_acquiring(part)
        homes = sum(
            topic not in self._beside for part in self._parts.values() for topic in part.topics
        )
        metrics.STREAM_ASSIGNED.labels(self._step.name).set(homes)
        metrics.STREAM_REBALANCES.labels(self._step.name).inc()

    async def ready(self) -> None:
        """Wait until every assigned part is acquired."""
        await asyncio.gather(*(p.acquiring for p in self._parts.values() if p.acquiring))

    async def committed(self) -> None:
        """Wait until every batch handed over so far is committed or given up."""
        await asyncio.gather(*(part.work for part in self._parts.values() if part.work))

    def close(self) -> None:
        """Stop the threads; a transaction under way is abandoned to the next owner's fence."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    # A part's rounds ----------------------------------------------------------------------------

    def _wake(self, part: Part[S]) -> None:
        if part.work is None:
            part.work = asyncio.create_task(self._work(part))

    async def _work(self, part: Part[S]) -> None:
        """Round after round, until nothing waits; fenced, give the part up; failed, end the process."""
        try:
            while part.waiting or part.due:
                await self._pace(part)
                if (owned := await self._take(part)) is None:
                    self._drop(part)  # its next owner reads it again
                    return
                await self._round(part, owned)
        except Fenced:
            structlog.get_logger().warning("fenced", agent=self._step.name, partition=part.number)
            metrics.STREAM_FENCED.labels(self._step.name).inc()
            part.owned, part.lost = None, True
            self._drop(part)
            asyncio.get_running_loop().call_later(LOST_LIMIT_S, self._leave_if_lost, part)
        except Exception as error:
            fail_fast("agent_failed", agent=self._step.name, error=repr(error), exc_info=error)
        finally:
            part.work = None

    async def _pace(self, part: Part[S]) -> None:
        wait = part.began + PACE_S - time.monotonic()
        if wait > 0 and sum(map(len, part.waiting)) < PACE_RECORDS:
            await asyncio.sleep(wait)
        part.began = time.monotonic()

    async def _take(self, part: Part[S]) -> Owned[S] | None:
        """The part with states made by the step in service; None when it is not ours."""
        while self._parts.get(part.number) is part and not part.lost:
            if part.owned is not None and part.owned.step is self._step:
                return part.owned
            # Not acquired yet, or another step took over: the states are read as that one indexes them.
            part.owned = None
            if part.acquiring is None:
                part.acquiring = self._start_acquiring(part)
            acquired = await part.acquiring
            part.acquiring = None
            if acquired is None:
                return None
            part.owned = acquired
        return None

    async def _round(self, part: Part[S], owned: Owned[S]) -> None:
        """Decide what waits, as much as one round takes, and commit it."""
        this = Round(self._cut(part))
        runs: dict[str, list[Batch]] = {}
        ends = dict(owned.positions)
        for batch in this.taken:
            end = ends.get(batch.topic, 0)
            fresh = batch.since(end)
            if not len(fresh):
                continue
            if 0 < end < fresh.first and not self._markers(fresh, fresh.first - end):
                await self._in_thread(self._refuse_gone, batch.topic, part.number, end)
                self._looked[batch.topic, part.number] = time.monotonic()
            runs.setdefault(batch.topic, []).append(fresh)
            ends[batch.topic] = fresh.last + 1
        if self._parts.get(part.number) is not part:
            return  # given to another owner while a log was looked at: nothing is decided yet
        this.fresh = [joined(run) for run in runs.values()]
        now = int(time.time() * 1000)
        # Another step's timers, if one took over meanwhile, do not know these states: they wait a round.
        if part.due and self._timers is not None and owned.step is self._step:
            part.due = False
            try:
                for home, state in owned.states.items():
                    this.decisions.append((home, self._timers(state, now)))
            except Exception as error:
                fail_fast("tick_failed", agent=self._step.name, error=repr(error), exc_info=error)
        for fresh in this.fresh:
            started = time.monotonic()
            home = self._home(fresh.topic)
            this.decisions.append((home, owned.step.decide(owned.states[home], fresh, now)))
            self._seconds("decide", started)
        if this.fresh or any(made.outputs or made.changes for _, made in this.decisions):
            try:
                await self._in_thread(self._commit, part.number, owned.producer, this)
            except Fenced:
                raise
            except Exception as error:
                fail_fast("commit_failed", agent=self._step.name, error=repr(error), exc_info=error)
        for fresh in this.fresh:
            owned.positions[fresh.topic] = fresh.last + 1
            self._count(fresh, owned)
        for batch in this.taken:
            batch.finished = True

    def _cut(self, part: Part[S]) -> list[Batch]:
        """The batches of the next round: one at least, and no more than it takes."""
        taken: list[Batch] = []
        records = size = 0
        while part.waiting:
            batch = part.waiting[0]
            records, size = records + len(batch), size + batch.size
            if taken and (records > ROUND_RECORDS or size > ROUND_BYTES):
                break
            taken.append(part.waiting.popleft())
        self._leave(sum(map(len, taken)))
        return taken

    def _drop(self, part: Part[S]) -> None:
        """Forget what waits; it stays unfinished."""
        self._leave(sum(map(len, part.waiting)))
        part.waiting.clear()
        part.due = False

    def _leave(self, records: int) -> None:
        self._waiting -= records
        if self._waiting <= WAITING_RECORDS:
            self._room.set()

    def _markers(self, batch: Batch, gap: int) -> bool:
        """Whether a gap can only be what transactions left: nearly every batch has one, each look costs a call.

        The log was whole a moment ago, and a segment that retention deleted since is longer.
        """
        looked = self._looked.get((batch.topic, batch.partition), -LOOK_AGAIN_S)
        return gap <= MARKERS and time.monotonic() - looked < LOOK_AGAIN_S

    def _home(self, topic: str) -> str:
        return self._beside.get(topic, topic)

    async def _in_thread(self, work: Callable[..., None], *given: object) -> None:
        await asyncio.get_running_loop().run_in_executor(self._executor, work, *given)

    def _leave_if_lost(self, part: Part[S]) -> None:
        """The group never took back what another owner holds: join it anew instead of standing still."""
        if self._parts.get(part.number) is part and part.lost:
            fail_fast("lost_but_assigned", agent=self._step.name, partition=part.number)

    # Kafka --------------------------------------------------------------------------------------

    def _start_acquiring(self, part: Part[S]) -> "asyncio.Future[Owned[S] | None]":
        return asyncio.get_running_loop().run_in_executor(self._executor, self._acquire, part)

    def _acquire(self, part: Part[S]) -> Owned[S] | None:
        """Fence whoever had the part, then read its states and positions.

        None when it was reassigned while this waited for its turn: fencing would hit the new owner.
        """
        if self._parts.get(part.number) is not part:
            return None
        self._refuse_apart(part)
        step, number = self._step, part.number
        started = time.monotonic()
        producer = Producer(
            {
                **producer_config(self._settings),
                "message.max.bytes": DEAD_LETTER_BYTES,
                "transactional.id": f"{self._app_id}.{step.name}.{number}",
                "transaction.timeout.ms": TRANSACTION_TIMEOUT_MS,
                # The commit flushes at once; until then records gather into large requests.
                "linger.ms": 50,
                "queue.buffering.max.messages": 1_000_000,
            }
        )
        self._call(producer, lambda: producer.init_transactions(CALL_TIMEOUT_S))
        homes = sorted(part.topics - self._beside.keys())
        found = read_states(
            self._settings, {state_topic(home, step.name): home for home in homes}, number
        )
        positions = {
            topic: int(found[home].pop(position_key(topic, home), b"0"))
            for topic in sorted(part.topics)
            for home in [self._home(topic)]
        }
        for topic, position in positions.items():
            if position:
                self._refuse_gone(topic, number, position)
        states = {home: step.restore(home, number, found[home]) for home in homes}
        structlog.get_logger().info(
            "acquired",
            agent=step.name,
            partition=number,
            positions=positions,
            entries=sum(map(len, found.values())),
        )
        self._seconds("restore", started)
        return Owned(producer, states, positions, step)

    def _refuse_apart(self, part: Part[S]) -> None:
        """End the process when a part's topics were dealt out to several workers: each would fence the other.

        Only an older leader of the group deals so; once it has left, they come together.
        """
        known = self._log.list_topics(timeout=CALL_TIMEOUT_S).topics
        whole = {t for t in self._topics if t in known and part.number in known[t].partitions}
        if whole != part.topics:
            fail_fast(
                "assigned_apart",
                agent=self._step.name,
                partition=part.number,
                topics=sorted(whole ^ part.topics),
            )

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

    def _commit(self, number: int, producer: Producer, this: Round) -> None:
        """Publish all of a round and the positions behind its batches in one transaction, or nothing."""
        started = time.monotonic()
        self._call(producer, producer.begin_transaction)
        # No delivery callbacks: commit_transaction flushes and fails when any record did.
        produce = producer.produce
        records: list[tuple[str, bytes | None, bytes | None, Any, int]] = [
            (o.topic, o.key, o.value, o.headers, -1 if o.partition is None else o.partition)
            for _, decision in this.decisions
            for o in decision.outputs
        ]
        for home, decision in this.decisions:
            state = state_topic(home, self._step.name)
            records += [(state, key, value, None, number) for key, value in decision.changes]
        for batch in this.fresh:
            home = self._home(batch.topic)
            state, position = state_topic(home, self._step.name), b"%d" % (batch.last + 1)
            records.append((state, position_key(batch.topic, home), position, None, number))
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
        home = self._home(topic)
        metrics.STREAM_RECORDS.labels(agent, topic).inc(len(batch))
        metrics.STREAM_BATCHES.labels(agent, topic).inc()
        metrics.STREAM_BATCH_RECORDS.labels(agent).observe(len(batch))
        metrics.STREAM_POSITION.labels(agent, topic, partition).set(owned.positions[topic])
        metrics.STREAM_COMMITTED_AT.labels(agent, topic, partition).set_to_current_time()
        metrics.STREAM_STATE_ENTRIES.labels(agent, home, partition).set(
            owned.step.entries(owned.states[home])
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


def read_states(
    settings: Settings, topics: Mapping[str, str], partition: int
) -> dict[str, dict[bytes, bytes]]:
    """For each state topic, under the name that it is given: the newest value of every key of one partition.

    Committed ones only. To be called by the part's owner, after its ``init_transactions``: then nothing is open
    and the ends do not move.
    """
    consumer = Consumer(
        {
            **consumer_config(settings, f"state-{min(topics)}-{partition}"),
            "enable.partition.eof": True,
            "fetch.wait.max.ms": 10,
        }
    )
    found: dict[str, dict[bytes, bytes]] = {name: {} for name in topics.values()}
    open_topics = set(topics)
    try:
        consumer.assign([TopicPartition(topic, partition, 0) for topic in topics])
        end = time.monotonic() + CALL_TIMEOUT_S
        while open_topics:
            messages = consumer.consume(1_000, 0.05)
            if not messages and time.monotonic() > end:
                raise RuntimeError(
                    f"states {sorted(open_topics)}/{partition}: nothing read for {CALL_TIMEOUT_S} s"
                )
            for message in messages:
                error = message.error()
                if error is not None:
                    if error.code() == KafkaError._PARTITION_EOF:
                        open_topics.discard(cast(str, message.topic()))
                    elif not error.retriable():
                        raise KafkaException(error)
                    continue
                end = time.monotonic() + CALL_TIMEOUT_S
                topic, key, value = cast(str, message.topic()), message.key(), message.value()
                if not isinstance(key, bytes):
                    raise RuntimeError(f"state {topic}/{partition}@{message.offset()}: no key")
                entries = found[topics[topic]]
                if isinstance(value, bytes):
                    entries[key] = value
                else:
                    entries.pop(key, None)
        return found
    finally:
        consumer.close()
