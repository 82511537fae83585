"""Batches for the steps' tests: raw reports, their frames, cuts, and what a run decided."""

import itertools
from collections.abc import Sequence
from typing import Any

from schemas.codec import Codec
from streams.batch import Batch, Decision, Output, Step

NOW = 1_772_700_000_000  # 2026-03-05T08:40:00Z

Record = dict[str, Any]


def raw_report(native_id: str | None = "A1", **fields: Any) -> Record:
    """A raw report that intake accepts, unless ``fields`` spoil it."""
    return {
        "channel": "test",
        "native_id": native_id,
        "received_at": NOW,
        "payload": b"{}",
        "time_zone": "Europe/Warsaw",
        "occurred_at": "2026-03-05 09:00:00",
        "title": "路面积水",
        "text": "磨坊边路面积水很深",
        "lon": "20.0512",
        "lat": "50.0512",
        "crs": "WGS84",
    } | fields


def batch(values: Sequence[bytes | None], topic: str = "reports.raw.test", first: int = 0) -> Batch:
    """Values as one batch of partition 3, whose offsets are not contiguous (they go by two)."""
    size = len(values)
    return Batch(
        topic,
        3,
        [b"k%d" % (first + i) for i in range(size)],
        list(values),
        [2 * (first + i) for i in range(size)],
        [NOW - 1000] * size,
        [None] * size,
    )


def cut(values: Sequence[bytes | None], cuts: Sequence[int], topic: str) -> list[Batch]:
    """The same values in batches that end at ``cuts``; none is empty."""
    edges = sorted({0, len(values), *(c for c in cuts if 0 < c < len(values))})
    return [batch(values[start:end], topic, start) for start, end in itertools.pairwise(edges)]


def run(
    step: Step[Any], batches: Sequence[Batch], *, restart: bool = False, now_ms: int = NOW
) -> tuple[list[Output], dict[bytes, bytes]]:
    """Outputs of all batches and the state topic's content after them.

    ``restart`` drops the state before every batch and restores it from the changes so far.
    """
    stored: dict[bytes, bytes] = {}
    outputs: list[Output] = []
    state = step.restore("topic", 3, {})
    for part in batches:
        if restart:
            state = step.restore(part.topic, part.partition, dict(stored))
        decision: Decision = step.decide(state, part, now_ms)
        outputs += decision.outputs
        for key, value in decision.changes:
            if value is None:
                stored.pop(key, None)
            else:
                stored[key] = value
    return outputs, stored


def records(codec: Codec, outputs: Sequence[Output], topic: str) -> list[Record]:
    """The decoded records that went to a topic."""
    return [codec.decode(output.value)[1] for output in outputs if output.topic == topic]
