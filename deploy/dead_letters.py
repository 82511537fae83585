"""Dead letters: what a part could not process, kept byte for byte with the place it came from.

The headers carry the names that Kafka Connect gives them, so that any tool can read them.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from confluent_kafka import Message

from deploy.positions import Positions
from schemas.dead_letter import PREFIX
from schemas.errors import QuanyuError
from schemas.settings import Settings
from schemas.topics import dlq_topic, load_topics

#: `connector.name` of what the sink put aside.
SINK = "quanyu-sink"
#: Bytes of a value that `quanyu dlq show` prints.
PREVIEW_BYTES = 256


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a dead letter's record lay, and why it was put aside."""

    topic: str
    partition: int
    offset: int
    reason: str
    by_sink: bool


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One dead letter as a person looks at it; ``preview`` shows the first bytes of its value."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    headers: dict[str, str]
    size: int
    preview: str


def headers(message: Message) -> dict[str, str]:
    """The message's headers as text; of a repeated name the last counts."""
    return {
        name: value.decode("utf-8", "replace") if isinstance(value, bytes) else value or ""
        for name, value in dict(message.headers() or []).items()
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


def count(settings: Settings) -> dict[str, dict[str, int]]:
    """Dead letters by topic and reason; topics without any are left out."""
    counts: dict[str, Counter[str]] = {}
    for (topic, _), messages in _read(settings, [dlq_topic(t.name) for t in load_topics(settings)]):
        reasons = (came.reason if (came := origin(m)) else "unknown" for m in messages)
        counts.setdefault(topic, Counter()).update(reasons)
    return {topic: dict(found.most_common()) for topic, found in sorted(counts.items())}


def show(settings: Settings, topic: str, limit: int) -> list[DeadLetter]:
    """The latest dead letters of a topic (its own name, or that of its dead-letter topic)."""
    name = topic if topic.endswith(dlq_topic("")) else dlq_topic(topic)
    latest: list[DeadLetter] = []
    for _, messages in _read(settings, [name]):
        latest += [_view(message) for message in messages]
        latest.sort(key=lambda letter: (letter.timestamp_ms, letter.partition, letter.offset))
        del latest[:-limit]
    return latest


def _read(settings: Settings, topics: list[str]) -> Iterator[tuple[tuple[str, int], list[Message]]]:
    with Positions(settings) as positions:
        partitions = positions.partitions(topics)
        if not partitions:
            raise QuanyuError(f"Kafka has no topic {topics[0]}; see quanyu topics diff")
        yield from positions.records(positions.extents(partitions))


def _view(message: Message) -> DeadLetter:
    value = message.value() or b""
    data = value.encode() if isinstance(value, str) else value
    return DeadLetter(
        topic=message.topic() or "",
        partition=message.partition() or 0,
        offset=message.offset() or 0,
        timestamp_ms=message.timestamp()[1],
        headers=headers(message),
        size=len(data),
        preview=_printable(data[:PREVIEW_BYTES]),
    )


def _printable(data: bytes) -> str:
    """The bytes as text where they are text, and as ``\\xNN`` where they are not."""
    text = data.decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
