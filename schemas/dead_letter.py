"""Dead letters: the original bytes untouched, the reason in Kafka Connect's header names.

Kafka Connect's names (``__connect.errors.*``) are what the widest range of tools reads.
"""

from dataclasses import dataclass, field

PREFIX = "__connect.errors."
#: A reason is a sentence, never a record's content.
MAX_MESSAGE = 300


def dead_letter_headers(
    topic: str, partition: int, offset: int, stage: str, code: str, message: str
) -> list[tuple[str, bytes | None]]:
    """Headers of a dead letter: where it came from, who refused it and why."""
    return [
        (f"{PREFIX}topic", topic.encode()),
        (f"{PREFIX}partition", str(partition).encode()),
        (f"{PREFIX}offset", str(offset).encode()),
        (f"{PREFIX}connector.name", b"quanyu"),
        (f"{PREFIX}stage", stage.encode()),
        (f"{PREFIX}exception.class.name", code.encode()),
        (f"{PREFIX}exception.message", message[:MAX_MESSAGE].encode()),
    ]


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
