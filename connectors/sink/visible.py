"""From a report's receipt to its outcome being visible: every row observed, none sampled."""

from collections.abc import Sequence

import numpy as np
from prometheus_client import Histogram

from schemas.metrics import DISPATCH_SECONDS, LATENCY_BUCKETS, VISIBLE_SECONDS

_BOUNDS = np.array(LATENCY_BUCKETS)


def observe_visible(channels: Sequence[str], received_at: Sequence[int], now_ms: int) -> None:
    """Count each row's age at `now_ms` (all in milliseconds UTC) under its channel.

    A row from the future (another machine's clock) counts as visible at once.
    """
    ages = np.maximum(now_ms - np.array(received_at, dtype=np.int64), 0) / 1000.0
    names = np.array(channels)
    for name in set(channels):
        observe_many(VISIBLE_SECONDS.labels(name), ages[names == name])


def observe_dispatched(
    opened_at: Sequence[int], from_states: Sequence[str], sequences: Sequence[int], now_ms: int
) -> None:
    """Count the age of each matter whose first order these transitions make: fields of OrderTransition."""
    opened = [
        at
        for at, state, sequence in zip(opened_at, from_states, sequences, strict=True)
        if state == "UNKNOWN" and sequence == 1
    ]
    if opened:
        ages = np.maximum(now_ms - np.array(opened, dtype=np.int64), 0) / 1000.0
        observe_many(DISPATCH_SECONDS, ages)


def observe_many(
    histogram: Histogram, values: "np.ndarray[tuple[int], np.dtype[np.float64]]"
) -> None:
    """What ``observe`` does, for many values of a histogram with LATENCY_BUCKETS at once.

    It writes the client library's own cells: a loop of ``observe`` costs as much as the insert. A
    test holds the result against ``observe``, should the library change.
    """
    counts = np.bincount(np.searchsorted(_BOUNDS, values), minlength=len(_BOUNDS) + 1)
    histogram._sum.inc(float(values.sum()))
    for cell, count in zip(histogram._buckets, counts, strict=True):
        if count:
            cell.inc(int(count))
