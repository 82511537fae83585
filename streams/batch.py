"""What the stream is made of: a batch of consecutive records of one partition, and what it causes."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, TypeVar

Headers = list[tuple[str, bytes | None]]


@dataclass(slots=True)
class Batch:
    """A run of consecutive records of one partition, as columns of equal length.

    Offsets increase but need not be contiguous: transaction markers and aborted records take offsets
    too. ``timestamps`` are Kafka's, int ms. ``finished`` is set once everything that the batch causes
    is committed; until then no position may pass it.
    """

    topic: str
    partition: int
    keys: list[bytes | None]
    values: list[bytes | None]
    offsets: list[int]
    timestamps: list[int]
    headers: list[Headers | None]
    finished: bool = field(default=False, compare=False)

    @property
    def first(self) -> int:
        """Offset of the first record."""
        return self.offsets[0]

    @property
    def last(self) -> int:
        """Offset of the last record."""
        return self.offsets[-1]

    def __len__(self) -> int:
        return len(self.offsets)

    @property
    def size(self) -> int:
        """Bytes of keys and values."""
        return sum(map(len, filter(None, self.keys))) + sum(map(len, filter(None, self.values)))

    def since(self, position: int) -> "Batch":
        """The records at or above ``position``; the batch itself when none lies below."""
        if not self.offsets or self.offsets[0] >= position:
            return self
        start = next((i for i, offset in enumerate(self.offsets) if offset >= position), len(self))
        return Batch(
            self.topic,
            self.partition,
            self.keys[start:],
            self.values[start:],
            self.offsets[start:],
            self.timestamps[start:],
            self.headers[start:],
        )


def joined(runs: Sequence[Batch]) -> Batch:
    """Batches of one partition, one at least and each behind the one before, as one."""
    if len(runs) == 1:
        return runs[0]
    return Batch(
        runs[0].topic,
        runs[0].partition,
        [key for run in runs for key in run.keys],
        [value for run in runs for value in run.values],
        [offset for run in runs for offset in run.offsets],
        [instant for run in runs for instant in run.timestamps],
        [headers for run in runs for headers in run.headers],
    )


class Output(NamedTuple):
    """One record to write; ``partition`` None leaves it to the key."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers | None = None
    partition: int | None = None


@dataclass(slots=True)
class Decision:
    """Everything that one batch causes: records to write and changes of state (None deletes a key)."""

    outputs: list[Output] = field(default_factory=list)
    changes: list[tuple[bytes, bytes | None]] = field(default_factory=list)


S = TypeVar("S")


class Step(Protocol[S]):
    """One agent's decisions: pure but for updating ``state``, which is dropped if the batch is not
    committed."""

    name: str

    def restore(self, topic: str, partition: int, entries: dict[bytes, bytes]) -> S:
        """The state of one partition of an input topic, from the changes committed so far."""
        ...

    def decide(self, state: S, batch: Batch, now_ms: int) -> Decision:
        """What the batch causes; ``now_ms`` is the clock. An exception stops the worker (fail fast)."""
        ...

    def entries(self, state: S) -> int:
        """How much the state holds, for the metric."""
        ...
