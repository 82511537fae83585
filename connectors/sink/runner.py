"""The sink's shell: Kafka and ClickHouse in, events to the partitions' machines, actions out.

The main thread polls, commits, holds every machine and decides; a few threads decode and insert,
so that partitions overlap, and answer through a queue.

Why a commit is proof of ownership: the group's coordinator refuses one whose member or generation
has passed. That proof must not be spoilt from this side, hence four rules. Commits go one by one,
so that none overtakes another. When a partition is revoked, the commit in flight is settled before
the rebalance goes on, since a late one would travel under the next generation; when the group is
lost with a commit in flight, the process ends. A process that finds itself frozen for nearly as
long as its session ends at once. An insert that waited that long since its commit is not sent but
committed anew.
"""

import itertools
import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TypeVar, cast

import structlog
import yaml
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from connectors.sink import letters as dead
from connectors.sink import machine, spans
from connectors.sink.columns import ColumnReader
from connectors.sink.machine import (
    Action,
    Block,
    Commit,
    CommitFailed,
    Committed,
    DeadLetter,
    Event,
    Fail,
    Insert,
    Inserted,
    InsertFailed,
    Limits,
    Partition,
    Pause,
    Record,
    Refusal,
    Resume,
)
from connectors.sink.table import INSERT_TIMEOUT_S, RefusedError, Tables, UncertainError, decode
from connectors.sink.visible import observe_dispatched, observe_visible
from schemas import metrics
from schemas.codec import default_codec
from schemas.kafka import consumer_config
from schemas.probes import Pulse
from schemas.settings import Settings
from schemas.topics import TOPICS_FILE, dlq_topic
from schemas.tracing import spans_of

log = structlog.get_logger()

GROUP = "quanyu-sink"
#: Stops on its own accord: a person must look, or a restart must make it right.
EXIT_STOPPED = 70
SESSION_TIMEOUT_S = 10.0
#: Frozen for so long, the broker may have given the partitions away.
FREEZE_LIMIT_S = 0.8 * SESSION_TIMEOUT_S
#: One answer of Kafka while a partition is assigned; well below the freeze limit.
ASK_TIMEOUT_S = 4.0
#: At SIGTERM and at a revoke: a block in flight takes milliseconds; what takes longer is left
#: recorded as pending for the next owner.
DRAIN_S = 4.0
#: A partition is assigned only when its table can be asked; ClickHouse may be restarting.
START_PATIENCE_S = 150.0
#: Longer than this is not slow but lost: a commit is asked for again, a thread that never returns
#: is ended with its process. Both are harmless, the range is recorded.
COMMIT_PATIENCE_S = 10.0
#: The main thread turns some hundred times a second, and waits for one answer for seconds at most.
STUCK_S = 60.0
INSERT_PATIENCE_S = 4 * INSERT_TIMEOUT_S
#: Inserts at once: more than cores, because half of an insert is waiting.
INSERT_THREADS = 4
POLL_RECORDS = 10_000
#: With something in flight its answer is looked for soon; otherwise polling longer saves CPU.
POLL_BUSY_S = 0.01
POLL_IDLE_S = 0.05

#: Commits that no later one can follow. A generation that has passed is not among them: when another member
#: joins, a commit on its way meets the next generation, in which this member keeps most of its partitions.
#: Repeated, it is proof again or refused again; a member that was put out cannot rejoin before this thread
#: was told that its partitions are lost.
_FENCED = frozenset(
    {
        KafkaError.UNKNOWN_MEMBER_ID,
        KafkaError.FENCED_INSTANCE_ID,
        KafkaError._FENCED,
        KafkaError._FATAL,
    }
)

#: CLOCK_MONOTONIC of Linux stands still while the machine sleeps; elsewhere nothing is better.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)

T = TypeVar("T")
Key = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Route:
    """A topic, the record it carries and the table and dead-letter topic of it."""

    topic: str
    record: str
    table: str
    dead_letters: str


def routes() -> list[Route]:
    """Every topic of topics.yaml that has a table."""
    document = yaml.safe_load(TOPICS_FILE.read_text(encoding="utf-8"))
    return [
        Route(name, entry["record"], entry["table"], dlq_topic(name))
        for name, entry in document["topics"].items()
        if "table" in entry
    ]


@dataclass(slots=True)
class _Owned:
    """An assigned partition. `turn` tells its answers from those of an earlier assignment."""

    machine: Partition
    route: Route
    turn: int
    fenced_since: float | None = None
    working_since: float | None = None


class Sink:
    """Runs until :meth:`stop` or until it must not go on."""

    def __init__(
        self,
        settings: Settings,
        sink_routes: Iterable[Route],
        *,
        group: str = GROUP,
        instance: str | None = None,
        limits: Limits | None = None,
        dead_letter_limit: machine.DeadLetterLimit | None = None,
    ) -> None:
        self._routes = {route.topic: route for route in sink_routes}
        self._limits = limits or Limits()
        self._codec = default_codec(settings)
        self._columns = ColumnReader(self._codec)
        self._tables = Tables(settings)
        self._letters = dead.DeadLetters(settings)
        self._spans = spans_of(settings, "sink")
        self._dead_letter_limit = dead_letter_limit or machine.DeadLetterLimit()
        self._counted: dict[Key, tuple[str, int]] = {}
        self._count_lock = threading.Lock()
        self._owned: dict[Key, _Owned] = {}
        self._turns = itertools.count()
        self._answers: queue.SimpleQueue[tuple[Key, int, Event]] = queue.SimpleQueue()
        self._inserts = ThreadPoolExecutor(INSERT_THREADS, thread_name_prefix="insert")
        self._to_commit: dict[Key, tuple[int, Commit]] = {}
        self._committing: dict[Key, tuple[int, Commit]] = {}
        self._commit_sent_at = 0.0
        self._settled_commits = 0
        self._in_flight = 0
        self._proven_at: dict[Key, float] = {}
        self._alive_at = _clock()
        self.pulse = Pulse(STUCK_S)
        self._assigned = False
        self._stopping = threading.Event()
        self._failure: str | None = None
        config = {
            **consumer_config(settings, group),
            # The sink says where to read; a position out of range is an error, never a jump.
            "auto.offset.reset": "error",
            "session.timeout.ms": int(SESSION_TIMEOUT_S * 1000),
            "heartbeat.interval.ms": 2000,
            "max.poll.interval.ms": 300_000,
            "fetch.wait.max.ms": 100,
            "queued.max.messages.kbytes": 32 * 1024,
            "on_commit": self._on_commit,
            **({"group.instance.id": instance} if instance else {}),
        }
        self._consumer = Consumer(config, logger=logging.getLogger("kafka"))

    def stop(self) -> None:
        """Drain and end; safe from a signal handler or another thread."""
        self._stopping.set()

    def starting(self) -> str:
        """Why it does not work yet: tables and a first assignment, which may be empty, come first."""
        return "" if self._assigned else "its group has given it no partitions yet"

    def run(self) -> int:
        """Exit code: 0 after :meth:`stop`, 70 when the sink must not go on.

        Raises :class:`QuanyuError` when a table is missing.
        """
        try:
            tables = [route.table for route in self._routes.values()]
            self._wait_for(lambda: self._tables.check(tables))
            self._consumer.subscribe(
                list(self._routes),
                on_assign=self._on_assign,
                on_revoke=self._on_revoke,
                on_lost=self._on_lost,
            )
            log.info("sink_started", topics=sorted(self._routes))
            while not self._stopping.is_set() and self._failure is None:
                self._turn()
        except _StoppedError:
            pass
        self._close_partitions(list(self._owned), DRAIN_S)
        # No waiting: an insert that hangs would outlive the drain, and it is recorded as pending.
        self._inserts.shutdown(wait=False, cancel_futures=True)
        self._consumer.close()
        if self._spans is not None:
            self._spans.close()
        if self._failure is not None:
            log.error("sink_stopped", reason=self._failure)
            return EXIT_STOPPED
        log.info("sink_drained")
        return 0

    # One turn of the main thread ----------------------------------------------------------------

    def _turn(self) -> None:
        busy = self._in_flight > 0
        messages = self._consumer.consume(POLL_RECORDS, POLL_BUSY_S if busy else POLL_IDLE_S)
        now = self._still_alive()
        for key, records in self._sorted(messages).items():
            owned = self._owned.get(key)
            if owned is not None:
                self._feed(key, owned, machine.Records(records), now)
        self._answered(now)
        for key, owned in list(self._owned.items()):
            self._feed(key, owned, machine.Tick(), now)
            if owned.fenced_since is not None and now - owned.fenced_since > 2 * SESSION_TIMEOUT_S:
                self._fail(f"{key[0]}/{key[1]} was fenced but not taken away")
            if owned.working_since is not None and now - owned.working_since > INSERT_PATIENCE_S:
                self._die(f"an insert of {key[0]}/{key[1]} has not come back")
        if self._committing and now - self._commit_sent_at > COMMIT_PATIENCE_S:
            log.warning("commit_unanswered", partitions=len(self._committing))
            self._settle_commit()
        self._send_commits()

    def _still_alive(self) -> float:
        now = _clock()
        if now - self._alive_at > FREEZE_LIMIT_S:
            self._die(f"frozen for {now - self._alive_at:.1f} s, longer than the session allows")
        self._alive_at = now
        self.pulse.beat()
        return now

    def _die(self, reason: str) -> None:
        # At once, without leaving the group in good order: other threads may be about to commit.
        log.error("sink_stopped", reason=reason)
        os._exit(EXIT_STOPPED)

    def _fail(self, reason: str) -> None:
        if self._failure is None:
            self._failure = reason

    def _sorted(self, messages: list[Message]) -> Mapping[Key, list[Record]]:
        by_partition: dict[Key, list[Record]] = {}
        for message in messages:
            error = message.error()
            if error is not None:
                self._consumer_error(message, error)
                continue
            value = message.value()
            record = Record(cast(int, message.offset()), len(value) if value else 0, message)
            key = (cast(str, message.topic()), cast(int, message.partition()))
            by_partition.setdefault(key, []).append(record)
        return by_partition

    def _consumer_error(self, message: Message, error: KafkaError) -> None:
        if error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
            self._fail(
                f"{message.topic()}/{message.partition()}: {error.str()}: retention has overtaken "
                "the sink, records are lost; see connectors/sink/README.md"
            )
        elif error.fatal():
            self._fail(f"Kafka: {error.str()}")
        else:
            log.warning("kafka_error", error=error.str(), topic=message.topic())

    def _answered(self, now: float) -> None:
        while True:
            try:
                key, turn, event = self._answers.get_nowait()
            except queue.Empty:
                return
            self._in_flight -= 1
            owned = self._owned.get(key)
            if owned is None or owned.turn != turn:
                continue
            owned.working_since = None
            self._feed(key, owned, event, now)
            if isinstance(event, Inserted):
                metrics.SINK_POSITION.labels(*_labels(key)).set(owned.machine.next_offset)
                metrics.SINK_COMMITTED_AT.labels(*_labels(key)).set_to_current_time()

    def _feed(self, key: Key, owned: _Owned, event: Event, now: float) -> None:
        for action in owned.machine.handle(event, now):
            self._perform(key, owned, action)
        if owned.machine.fenced and owned.fenced_since is None:
            owned.fenced_since = now
            log.warning("fenced", topic=key[0], partition=key[1])

    def _perform(self, key: Key, owned: _Owned, action: Action) -> None:
        match action:
            case Commit():
                self._to_commit[key] = (owned.turn, action)
            case Insert() | DeadLetter():
                self._in_flight += 1
                owned.working_since = _clock()
                proven_at = self._proven_at[key]
                self._inserts.submit(self._work, key, owned.turn, owned.route, action, proven_at)
            case Pause():
                self._consumer.pause([TopicPartition(*key)])
            case Resume():
                self._consumer.resume([TopicPartition(*key)])
            case Fail(reason):
                self._fail(reason)

    # Commits ------------------------------------------------------------------------------------

    def _send_commits(self) -> None:
        """All that waits as one request; the next only after its answer, so that none overtakes."""
        if not self._to_commit or self._committing:
            return
        self._committing, self._to_commit = self._to_commit, {}
        self._in_flight += len(self._committing)
        self._commit_sent_at = self._still_alive()
        try:
            self._consumer.commit(offsets=_offsets(self._committing), asynchronous=True)
        except KafkaException as exception:
            self._commit_answered(exception.args[0], [])

    def _on_commit(self, error: KafkaError | None, done: list[TopicPartition]) -> None:
        if self._settled_commits:
            self._settled_commits -= 1  # it was repeated and answered by _settle_commit
        else:
            self._commit_answered(error, done)

    def _commit_answered(self, error: KafkaError | None, done: list[TopicPartition]) -> None:
        batch, self._committing = self._committing, {}
        errors = {(place.topic, place.partition): place.error for place in done}
        if error is not None:
            log.warning("commit_failed", error=error.str(), fenced=error.code() in _FENCED)
        for key, (turn, _) in batch.items():
            failed = error or errors.get(key)
            if failed is None:
                self._proven_at[key] = self._commit_sent_at
                self._answers.put((key, turn, Committed()))
            else:
                self._answers.put((key, turn, CommitFailed(failed.code() in _FENCED)))

    def _settle_commit(self) -> None:
        """Know the fate of the commit in flight: the same again, and wait.

        Requests to the coordinator keep their order, so when this one is answered the first is
        past: it cannot travel later, under the next generation, and be accepted.
        """
        if not self._committing:
            return
        self._settled_commits += 1
        self._commit_and_wait()

    def _commit_and_wait(self) -> None:
        self._commit_sent_at = self._still_alive()
        error, done = None, []
        try:
            done = self._consumer.commit(offsets=_offsets(self._committing), asynchronous=False)
        except KafkaException as exception:
            error = exception.args[0]
        self._still_alive()
        self._commit_answered(error, done or [])

    # Inserts ------------------------------------------------------------------------------------

    def _work(
        self, key: Key, turn: int, route: Route, action: Insert | DeadLetter, proven_at: float
    ) -> None:
        try:
            event = self._attempt(route, action, proven_at)
        except Exception as error:
            # Not foreseen: the block stays pending, a restart or a person makes it right.
            log.exception("insert_broke", table=route.table)
            self._fail(f"insert into {route.table}: {type(error).__name__}")
            event = InsertFailed(retriable=True, reason="unforeseen")
        self._answers.put((key, turn, event))

    def _attempt(self, route: Route, action: Insert | DeadLetter, proven_at: float) -> Event:
        block = action.block
        try:
            if isinstance(action, DeadLetter):
                self._count_once(block, 0, 1)
                self._bury(route, [(block.records[0].body, "insert", "refused", action.reason)])
                return Inserted()
            rows = decode(self._codec, self._columns, route.record, block)
            self._count_once(block, rows.count, len(rows.undecodable))
            if rows.count:
                if _clock() - proven_at > FREEZE_LIMIT_S:
                    raise UncertainError("stale_proof", "the commit before the insert is too old")
                with metrics.SINK_INSERT_SECONDS.labels(route.table).time():
                    started = time.time_ns()
                    self._tables.insert(route.table, block, rows)
                if self._spans is not None:
                    self._spans.tell(spans.told(block, route.table, started, time.time_ns()))
            # After the insert: while that is repeated, its dead letters would be sent each time.
            if rows.undecodable:
                self._bury(
                    route,
                    [(r.body, "decode", error.code, error.detail) for r, error in rows.undecodable],
                )
            if not rows.count:
                return Inserted()
        except RefusedError as refused:
            log.warning(
                "rows_refused", token=block.token, rows=len(block.records), why=str(refused)
            )
            return InsertFailed(retriable=False, reason=str(refused))
        except UncertainError as doubt:
            metrics.SINK_RETRIES.labels(route.table, doubt.code).inc()
            log.warning("insert_repeated", token=block.token, why=str(doubt))
            return InsertFailed(retriable=True, reason=str(doubt))
        except dead.NotConfirmedError as error:
            metrics.SINK_RETRIES.labels(route.table, "dead_letter").inc()
            log.warning("dead_letter_repeated", token=block.token, why=str(error))
            return InsertFailed(retriable=True, reason=str(error))
        metrics.SINK_ROWS.labels(route.table).inc(rows.count)
        metrics.SINK_BLOCKS.labels(route.table).inc()
        metrics.SINK_BLOCK_RECORDS.labels(route.table).observe(rows.count)
        if route.record == "ReportOutcome":
            observe_visible(
                rows.values("channel"), rows.values("received_at"), int(time.time() * 1000)
            )
        if route.record == "OrderTransition":
            observe_dispatched(
                rows.values("opened_at"), rows.values("from_state"), rows.values("sequence"),
                int(time.time() * 1000),
            )  # fmt: skip
        return Inserted()

    def _count_once(self, block: Block, good: int, bad: int) -> None:
        """Before anything is sent: a topic is not drained into its dead letters."""
        key = (block.topic, block.partition)
        with self._count_lock:
            if self._counted.get(key) == (block.token, bad):
                return
            self._counted[key] = (block.token, bad)
            reason = self._dead_letter_limit.note(good, bad)
        if reason is not None:
            self._fail(f"{reason}; look at them (quanyu dlq list) and at the last change")
        if self._failure is not None and bad:
            raise UncertainError("dead_letter_limit", self._failure)

    def _bury(self, route: Route, letters: list[dead.Letter]) -> None:
        self._letters.send(route.dead_letters, letters)
        for _, _, code, _ in letters:
            metrics.SINK_DLQ.labels(route.topic, code).inc()
        log.warning("dead_letters", topic=route.topic, count=len(letters), reason=letters[0][2])

    # Rebalances; called by the client within consume() ------------------------------------------

    def _on_assign(self, consumer: Consumer, assigned: list[TopicPartition]) -> None:
        if self._stopping.is_set() or self._failure is not None:
            consumer.incremental_assign([])
            return
        metrics.SINK_REBALANCES.inc()
        starts = []
        committed = self._wait_for(lambda: consumer.committed(assigned, timeout=ASK_TIMEOUT_S))
        in_table = {
            topic: self._wait_for(partial(self._tables.greatest_offsets, route.table, topic))
            for topic, route in self._routes.items()
            if any(entry.topic == topic for entry in assigned)
        }
        for entry in committed:
            if entry.error is not None:
                self._fail(f"{entry.topic}/{entry.partition}: {entry.error.str()}")
                continue
            place = TopicPartition(entry.topic, entry.partition)
            low, high = self._wait_for(
                partial(consumer.get_watermark_offsets, place, timeout=ASK_TIMEOUT_S)
            )
            start = machine.resume(
                entry.offset if entry.offset >= 0 else None,
                entry.metadata or "",
                in_table[entry.topic].get(entry.partition),
                low,
                high,
            )
            if isinstance(start, Refusal):
                self._fail(f"{entry.topic}/{entry.partition}: {start.reason}")
                continue
            log.info(
                "assigned", topic=entry.topic, partition=entry.partition, offset=start.offset,
                rebuild=start.rebuild, note=start.note,
            )  # fmt: skip
            key = (entry.topic, entry.partition)
            self._owned[key] = _Owned(
                Partition(entry.topic, entry.partition, start, self._limits),
                self._routes[entry.topic],
                next(self._turns),
            )
            starts.append(TopicPartition(entry.topic, entry.partition, start.offset))
            metrics.SINK_POSITION.labels(*_labels(key)).set(start.offset)
        consumer.incremental_assign(starts)
        self._assigned = True
        self._still_alive()

    def _on_revoke(self, consumer: Consumer, revoked: list[TopicPartition]) -> None:
        self._close_partitions([(entry.topic, entry.partition) for entry in revoked], DRAIN_S)
        consumer.incremental_unassign(revoked)

    def _on_lost(self, consumer: Consumer, lost: list[TopicPartition]) -> None:
        log.warning("lost", partitions=[f"{entry.topic}/{entry.partition}" for entry in lost])
        if self._committing:
            self._die("the group was lost with a commit on its way")
        for entry in lost:
            self._forget((entry.topic, entry.partition))
        consumer.incremental_unassign(lost)

    def _close_partitions(self, keys: list[Key], seconds: float) -> None:
        """Finish what these partitions have in flight, then forget them; bounded."""
        end = _clock() + seconds
        closing = {key: self._owned[key] for key in keys if key in self._owned}
        self._settle_commit()
        for key, owned in closing.items():
            self._feed(key, owned, machine.Closing(), _clock())
        while True:
            self._answered(self._still_alive())
            if self._to_commit:
                self._committing, self._to_commit = self._to_commit, {}
                self._in_flight += len(self._committing)
                self._commit_and_wait()
                continue
            if _clock() > end or all(owned.machine.settled for owned in closing.values()):
                break
            time.sleep(0.002)
        for key in closing:
            self._forget(key)

    def _forget(self, key: Key) -> None:
        self._owned.pop(key, None)
        self._to_commit.pop(key, None)
        for gauge in (metrics.SINK_POSITION, metrics.SINK_COMMITTED_AT):
            try:
                gauge.remove(*_labels(key))
            except KeyError:
                continue

    # Waiting for servers ------------------------------------------------------------------------

    def _wait_for(self, ask: Callable[[], T]) -> T:
        """Ask until there is an answer; heartbeats go on meanwhile."""
        end = _clock() + START_PATIENCE_S
        while True:
            try:
                return ask()
            except UncertainError as doubt:
                why = str(doubt)
            except KafkaException as exception:
                why = exception.args[0].str()
            finally:
                self._still_alive()
            log.warning("awaited", why=why)
            if self._stopping.wait(1.0):
                raise _StoppedError
            if _clock() > end:
                self._die(f"no answer for {START_PATIENCE_S:.0f} s: {why}")


class _StoppedError(Exception):
    """SIGTERM came before the servers answered."""


def _clock() -> float:
    """Seconds that also pass while the process is frozen or the machine asleep."""
    return time.clock_gettime(_CLOCK)


def _offsets(batch: dict[Key, tuple[int, Commit]]) -> list[TopicPartition]:
    return [
        TopicPartition(topic, partition, commit.offset, commit.metadata)
        for (topic, partition), (_, commit) in batch.items()
    ]


def _labels(key: Key) -> tuple[str, str]:
    return key[0], str(key[1])
