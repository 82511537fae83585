"""What the sink decides for one partition: pure, no clock, no Kafka, no ClickHouse.

The shell turns Kafka and ClickHouse into events, feeds them to :meth:`Partition.handle` and
performs the actions that come back. The promise: every record of the partition is in its table
exactly once (or in the dead-letter topic), whatever dies when. It rests on four steps per block:

1. commit ``offset = next, metadata = "pending:<first>-<last>"`` to the consumer group; the broker
   refuses it from a consumer whose generation has passed, and then nothing is inserted;
2. insert the rows of exactly that range with the token ``topic:partition:first-last``;
3. on doubt (time-out, refusal, restart) repeat 1 and 2 with the same range, for ever;
4. commit ``last + 1`` with empty metadata, alone or as part of the next block's step 1.

Whoever is assigned the partition next reads the commit: a pending range is rebuilt exactly, so
that its token meets its rows again and the server drops the repeat. Offsets within a range may
have gaps (transaction markers, aborted records).
"""

import re
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, NamedTuple

#: The metadata of a commit whose block is in doubt: its first and last offset.
PENDING = re.compile(r"pending:(\d+)-(\d+)")


class Record(NamedTuple):
    """One record as read: its offset, size in bytes and whatever the shell needs of it."""

    offset: int
    size: int
    body: Any


@dataclass(frozen=True, slots=True)
class Limits:
    """When a block is sealed and how much waits in memory. Seconds, rows, bytes."""

    #: One insert: large enough that the cost per row is flat, small enough for ~100 ms an insert.
    rows: int = 50_000
    #: Of undecoded values: a table's block in memory is some five times that.
    bytes: int = 16 * 1024 * 1024
    #: A quiet partition's block waits this long; with intake before it and the insert after it,
    #: a report is visible within a second.
    age: float = 0.3
    #: A block that has so many rows at `age` waits until `busy_age`: from some 1,700 rows/s of a
    #: partition on, a third of the inserts, parts and merges for the same rows.
    busy_rows: int = 500
    busy_age: float = 1.0
    #: After slow inserts the next block waits so many times as long, up to `busy_age`: a server that is
    #: short of time is not asked for more, smaller inserts. One that was slow between quick ones met a
    #: merge or a neighbour, and what waits need not pay for it.
    rest: float = 5.0
    #: A finished block is committed with the next one, or alone after this long.
    linger: float = 1.0
    #: Reading is paused while so much waits behind the block in flight.
    waiting_rows: int = 50_000
    waiting_bytes: int = 32 * 1024 * 1024
    #: Pause between attempts of the same block: doubles from the first to the second.
    retry_first: float = 0.1
    retry_last: float = 5.0


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive records of one partition, inserted as one."""

    topic: str
    partition: int
    records: tuple[Record, ...]

    @property
    def first(self) -> int:
        """Offset of the first record."""
        return self.records[0].offset

    @property
    def last(self) -> int:
        """Offset of the last record."""
        return self.records[-1].offset

    @property
    def token(self) -> str:
        """Names the range and nothing else; never used for other rows."""
        return f"{self.topic}:{self.partition}:{self.first}-{self.last}"


# Where to start -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Start:
    """Read from `offset`; `rebuild` is the range that must be inserted first, as it was."""

    offset: int
    rebuild: tuple[int, int] | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Refusal:
    """The partition cannot be continued without a person."""

    reason: str


def resume(
    committed: int | None, metadata: str, in_table: int | None, low: int, high: int
) -> Start | Refusal:
    """Where a newly assigned partition starts.

    `committed` and `metadata` are the group's commit, None when it has none; `in_table` the
    greatest offset that the table holds of this partition; `low` and `high` the partition's first
    and end offset. The table has a say, because an expired commit must not insert everything
    again, and because a commit below the table's rows can only be a stale one.
    """
    after_table = low if in_table is None else in_table + 1
    rebuild = None
    note = ""
    if committed is None or committed < 0:
        offset = after_table
        if in_table is not None:
            note = "no committed offset; continuing after the table's last row"
    elif metadata:
        match = PENDING.fullmatch(metadata)
        if match is None:
            return Refusal(f"the commit's metadata {metadata!r} is not the sink's")
        first, last = int(match[1]), int(match[2])
        if after_table > last + 1:
            offset = after_table
            note = f"stale commit pending:{first}-{last} below the table's last row"
        else:
            offset, rebuild = first, (first, last)
    elif in_table is not None and in_table >= committed:
        offset = after_table
        note = f"stale commit {committed} below the table's last row"
    else:
        offset = committed
    if offset < low:
        return Refusal(
            f"retention has deleted offsets {offset} to {low - 1} before they were inserted; "
            "records are lost. To accept the loss, reset the group's offset to the earliest "
            "(kafka-consumer-groups --reset-offsets --to-earliest)"
        )
    if offset > high:
        return Refusal(
            f"offset {offset} lies beyond the end {high}: the topic was made anew or truncated "
            "and the table holds rows of the old one; remove those rows or reset the group's offset"
        )
    return Start(offset, rebuild, note)


# Events ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Records:
    """Records in offset order; below the reading position they are ignored."""

    records: Sequence[Record]


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed."""


@dataclass(frozen=True, slots=True)
class Committed:
    """The broker accepted the commit in flight."""


@dataclass(frozen=True, slots=True)
class CommitFailed:
    """The commit in flight failed or its fate is unknown; `fenced`: this owner is no owner."""

    fenced: bool


@dataclass(frozen=True, slots=True)
class Inserted:
    """The block (or the dead letter) in flight is safe."""


@dataclass(frozen=True, slots=True)
class InsertFailed:
    """Nothing is known to be inserted (retriable), or the rows are refused for good."""

    retriable: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Closing:
    """Revoked or shutting down: finish what is in flight, start nothing."""


Event = Records | Tick | Committed | CommitFailed | Inserted | InsertFailed | Closing


# Actions --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Commit:
    """Commit to the group; answered by Committed or CommitFailed."""

    offset: int
    metadata: str


@dataclass(frozen=True, slots=True)
class Insert:
    """Insert the block with its token; answered by Inserted or InsertFailed."""

    block: Block


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """Send the one record to the dead-letter topic; answered by Inserted or InsertFailed."""

    block: Block
    reason: str


@dataclass(frozen=True, slots=True)
class Pause:
    """Stop reading the partition."""


@dataclass(frozen=True, slots=True)
class Resume:
    """Read the partition again."""


@dataclass(frozen=True, slots=True)
class Fail:
    """Stop the process: a person is needed."""

    reason: str


Action = Commit | Insert | DeadLetter | Pause | Resume | Fail


class _Phase(Enum):
    IDLE = auto()
    COMMITTINGPENDING = auto()
    COMMITTING_DONE = auto()
    INSERTING = auto()
    WAITING = auto()
    FENCED = auto()


class Partition:
    """One assigned partition, from its assignment to its end.

    At most one commit or insert is in flight. `handle` takes the monotonic time in seconds.
    """

    def __init__(self, topic: str, partition: int, start: Start, limits: Limits) -> None:
        self.topic = topic
        self.partition = partition
        #: All records below are safe.
        self.next_offset = start.offset
        self._limits = limits
        self._position = start.offset
        self._rebuild = start.rebuild
        self._waiting: deque[Record] = deque()
        self._waiting_bytes = 0
        self._oldest_at = 0.0
        self._blocks: deque[Block] = deque()
        self._phase = _Phase.IDLE
        self._retry_at = 0.0
        self._sent_at = 0.0
        self._took = self._took_before = 0.0
        self._failures = 0
        self._commit_due: float | None = None
        self._paused = False
        self._closing = False
        self._dead_letter_reason: str | None = None

    @property
    def settled(self) -> bool:
        """Nothing is in flight and nothing can be finished now."""
        match self._phase:
            case _Phase.IDLE:
                return self._commit_due is None
            case _Phase.WAITING | _Phase.FENCED:
                return True
        return False

    @property
    def fenced(self) -> bool:
        """A commit was refused because the partition has another owner."""
        return self._phase is _Phase.FENCED

    def handle(self, event: Event, now: float) -> list[Action]:
        """The actions that follow from the event, in order."""
        if self._phase is _Phase.FENCED:
            return []
        actions: list[Action] = []
        match event:
            case Records(records):
                actions += self._take(records, now)
            case Tick():
                pass
            case Committed():
                actions += self._committed(now)
            case CommitFailed(fenced):
                self._commit_failed(fenced, now)
            case Inserted():
                self._inserted(now)
            case InsertFailed(retriable, reason):
                self._insert_failed(retriable, reason, now)
            case Closing():
                self._closing = True
        return actions + self._advance(now) + self._flow()

    def _take(self, records: Sequence[Record], now: float) -> list[Action]:
        if not self._waiting:
            self._oldest_at = now
        for record in records:
            if record.offset >= self._position:
                self._waiting.append(record)
                self._waiting_bytes += record.size
                self._position = record.offset + 1
        if self._rebuild is None or self._position <= self._rebuild[1]:
            return []
        first, last = self._rebuild
        count = sum(record.offset <= last for record in self._waiting)
        block = self._cut(count, now) if count else None
        if block is None or (block.first, block.last) != (first, last):
            found = "nothing" if block is None else f"{block.first}-{block.last}"
            return [
                Fail(
                    f"the recorded range {first}-{last} of {self.topic}/{self.partition} cannot be "
                    f"read again, found {found}: records were deleted while they were pending"
                )
            ]
        self._rebuild = None
        self._blocks.append(block)
        return []

    def _cut(self, count: int, now: float) -> Block:
        records = tuple(self._waiting.popleft() for _ in range(count))
        self._waiting_bytes -= sum(record.size for record in records)
        self._oldest_at = now
        return Block(self.topic, self.partition, records)

    def _committed(self, now: float) -> list[Action]:
        self._commit_due = None
        if self._phase is _Phase.COMMITTING_DONE:
            self._phase = _Phase.IDLE
            self._failures = 0
            return []
        self._phase = _Phase.INSERTING
        self._sent_at = now
        block = self._blocks[0]
        if self._dead_letter_reason is not None:
            return [DeadLetter(block, self._dead_letter_reason)]
        return [Insert(block)]

    def _commit_failed(self, fenced: bool, now: float) -> None:
        if fenced:
            self._phase = _Phase.FENCED
            self._waiting.clear()
            self._blocks.clear()
        elif self._phase is _Phase.COMMITTING_DONE:
            self._phase = _Phase.IDLE
            self._commit_due = now + self._backoff()
        else:
            self._wait(now)

    def _inserted(self, now: float) -> None:
        block = self._blocks.popleft()
        self.next_offset = block.last + 1
        self._took_before, self._took = self._took, now - self._sent_at
        self._dead_letter_reason = None
        self._failures = 0
        self._commit_due = now + self._limits.linger
        self._phase = _Phase.IDLE

    def _insert_failed(self, retriable: bool, reason: str, now: float) -> None:
        if retriable:
            self._wait(now)
            return
        # Refused for good: halve until the one bad record stands alone. Each part is committed as
        # pending before it is inserted, so that a crash rebuilds the part, not the whole.
        block = self._blocks.popleft()
        if len(block.records) == 1:
            self._dead_letter_reason = reason
            self._blocks.appendleft(block)
        else:
            middle = len(block.records) // 2
            for part in (block.records[middle:], block.records[:middle]):
                self._blocks.appendleft(Block(self.topic, self.partition, part))
        self._phase = _Phase.IDLE

    def _wait(self, now: float) -> None:
        self._retry_at = now + self._backoff()
        self._phase = _Phase.WAITING

    def _backoff(self) -> float:
        self._failures += 1
        # Bounded exponent: a block may be repeated for days.
        pause = self._limits.retry_first * 2.0 ** min(self._failures - 1, 16)
        return min(self._limits.retry_last, pause)

    def _advance(self, now: float) -> list[Action]:
        if self._phase is _Phase.WAITING and now >= self._retry_at and not self._closing:
            self._phase = _Phase.IDLE
        if self._phase is not _Phase.IDLE:
            return []
        if not self._closing:
            if not self._blocks and self._rebuild is None:
                count = self._sealable(now)
                if count:
                    self._blocks.append(self._cut(count, now))
            if self._blocks:
                block = self._blocks[0]
                self._phase = _Phase.COMMITTINGPENDING
                return [Commit(self.next_offset, f"pending:{block.first}-{block.last}")]
        if self._commit_due is not None and (self._closing or now >= self._commit_due):
            self._phase = _Phase.COMMITTING_DONE
            return [Commit(self.next_offset, "")]
        return []

    def _sealable(self, now: float) -> int:
        """How many waiting records make the next block; 0: not yet."""
        rows = len(self._waiting)
        limits = self._limits
        if rows >= limits.rows or self._waiting_bytes >= limits.bytes:
            count = size = 0
            for record in self._waiting:
                if count and (count >= limits.rows or size + record.size > limits.bytes):
                    break
                count += 1
                size += record.size
            return count
        age = limits.busy_age
        if rows < limits.busy_rows:
            took = min(self._took, self._took_before)
            age = min(age, max(limits.age, limits.rest * took))
        return rows if rows and now - self._oldest_at >= age else 0

    def _flow(self) -> list[Action]:
        limits = self._limits
        rows, size = len(self._waiting), self._waiting_bytes
        full = rows >= limits.waiting_rows or size >= limits.waiting_bytes
        # A range is rebuilt whole whatever its size: a pause within it would never end.
        if full and not self._paused and self._rebuild is None:
            self._paused = True
            return [Pause()]
        if self._paused and rows < limits.waiting_rows // 2 and size < limits.waiting_bytes // 2:
            self._paused = False
            return [Resume()]
        return []


class DeadLetterLimit:
    """Stops the sink instead of draining a topic into its dead letters.

    A bad deployment (an unknown schema, a lost column) makes every record bad: a run of `run` bad
    records without a good one between, or more than `ratio` of the last `window` records, is past
    what single broken records explain.
    """

    def __init__(self, run: int = 500, ratio: float = 0.2, window: int = 10_000) -> None:
        self._run_limit = run
        self._ratio = ratio
        self._window = window
        self._run = 0
        self._seen: deque[tuple[int, int]] = deque()
        self._good = 0
        self._bad = 0

    def note(self, good: int, bad: int) -> str | None:
        """Count records in order of their blocks; the reason to stop, or None."""
        self._run = 0 if good else self._run + bad
        self._seen.append((good, bad))
        self._good += good
        self._bad += bad
        while self._seen and self._good + self._bad - sum(self._seen[0]) >= self._window:
            old_good, old_bad = self._seen.popleft()
            self._good -= old_good
            self._bad -= old_bad
        total = self._good + self._bad
        if self._run >= self._run_limit:
            return f"{self._run} records in a row could not be inserted"
        if total >= self._window and self._bad > self._ratio * total:
            return f"{self._bad} of the last {total} records could not be inserted"
        return None
