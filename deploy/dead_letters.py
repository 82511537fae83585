"""Dead letters: what a part could not process, kept byte for byte with the place it came from.

The headers carry the names that Kafka Connect gives them, so that any tool can read them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from confluent_kafka import Message

PREFIX = "__connect.errors."
SINK = "quanyu-sink"


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a dead letter's record lay, and why it was put aside."""

    topic: str
    partition: int
    offset: int
    reason: str
    by_sink: bool


def headers(message: Message) -> dict[str, str]:
    """The message's headers as text; of a repeated name the last counts."""
    pairs: Sequence[tuple[str, bytes | str | None]] = list(message.headers() or [])
    return {
        name: value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value or "")
        for name, value in pairs
    }


def origin(message: Message) -> Origin | None:
    """Where the dead letter came from; None when its headers do not say."""
    found = headers(message)
    try:
        return Origin(
            topic=found[PREFIX + "topic"],
            partition=int(found[PREFIX + "partition"]),
            offset=int(found[PREFIX + "offset"]),
            reason=found.get(PREFIX + "exception.class.name", ""),
            by_sink=found.get(PREFIX + "connector.name", "") == SINK,
        )
    except (KeyError, ValueError):
        return None
