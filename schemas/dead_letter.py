"""Dead letters: the original bytes untouched, the reason in Kafka Connect's header names.

Kafka Connect's names (``__connect.errors.*``) are what the widest range of tools reads. What is ours begins
with ``quanyu.dlq.``: a replayed record carries how often it was replayed and where it first lay, and the
dead letter that it may become carries both on. A *word* stands in a dead-letter topic behind the letters that
it is of: a record without a value, whose headers say what a person did with them.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

PREFIX = "__connect.errors."
OWN = "quanyu.dlq."
#: How often the record was replayed; and topic/partition/offset where it lay the first time.
ATTEMPT, FIRST = OWN + "attempt", OWN + "first"
#: Of a word: replay or drop; the letters' offsets (:func:`ranges`); who, when (ms), why.
ACTION, LETTERS, ACTOR, AT, WHY = (OWN + n for n in ("action", "letters", "actor", "at", "why"))
#: A reason is a sentence, never a record's content.
MAX_MESSAGE = 300


def dead_letter_headers(
    topic: str,
    partition: int,
    offset: int,
    stage: str,
    code: str,
    message: str,
    came: Iterable[tuple[str, bytes | None]] | None = None,
) -> list[tuple[str, bytes | None]]:
    """Headers of a dead letter: where it came from, who refused it and why.

    ``came``: the record's own headers, of which those of a replay are kept.
    """
    return [
        *((name, value) for name, value in came or () if name in (ATTEMPT, FIRST)),
        (f"{PREFIX}topic", topic.encode()),
        (f"{PREFIX}partition", str(partition).encode()),
        (f"{PREFIX}offset", str(offset).encode()),
        (f"{PREFIX}connector.name", b"quanyu"),
        (f"{PREFIX}stage", stage.encode()),
        (f"{PREFIX}exception.class.name", code.encode()),
        (f"{PREFIX}exception.message", message[:MAX_MESSAGE].encode()),
    ]


def ranges(offsets: Iterable[int]) -> str:
    """Offsets of one partition in short: ``12-40,43``."""
    found: list[list[int]] = []
    for offset in sorted(offsets):
        if found and offset == found[-1][1] + 1:
            found[-1][1] = offset
        else:
            found.append([offset, offset])
    return ",".join(f"{a}-{b}" if a != b else str(a) for a, b in found)


def offsets_of(text: str) -> list[range]:
    """What :func:`ranges` wrote; ValueError when it is something else."""
    ends = [part.partition("-") for part in text.split(",")]
    return [range(int(first), int(last or first) + 1) for first, _, last in ends]


class TooManyDeadLetters(Exception):
    """More dead letters than bad input explains: stop instead of draining the topic."""


@dataclass(slots=True)
class DeadLetterLimit:
    """Counts good and bad records; raises when a deployment, not the input, must be what is wrong.

    ``run``: so many bad ones in a row. ``ratio`` of the last ``window`` records: so large a share.
    """

    run: int = 5_000
    ratio: float = 0.5
    window: int = 20_000
    _in_a_row: int = field(default=0, init=False)
    _seen: int = field(default=0, init=False)
    _bad: int = field(default=0, init=False)

    def count(self, records: int, bad: int) -> None:
        """Count a batch; raises :class:`TooManyDeadLetters`."""
        self._in_a_row = self._in_a_row + bad if bad == records else 0
        self._seen += records
        self._bad += bad
        if self._in_a_row >= self.run:
            raise TooManyDeadLetters(f"{self._in_a_row} undecodable records in a row")
        if self._seen >= self.window:
            if self._bad > self.ratio * self._seen:
                raise TooManyDeadLetters(f"{self._bad} of {self._seen} records undecodable")
            self._seen = self._bad = 0
