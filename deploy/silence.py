"""Silence 静默: which channel has not been heard for longer than it usually pauses. Pure.

The one place that decides it: the monitor publishes what :func:`judge` says as metrics, and alert and
lamp read those. A channel's usual gap 惯常间隔 is the one in its spec, or learned from its own last
weeks at this time of day (query ``channel_gap_days``): a channel that sleeps at night is not silent at
night. Limit: a holiday counts as the day of the week that it is.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from schemas.channels import ChannelSpec

#: Silent is who is not heard for so many usual gaps. Arrivals by chance (Poisson) pause for three times
#: a gap that is long for them once in tens of thousands of pauses; two times would be a false alarm a week.
SILENT_GAPS = 3.0
#: Arrivals are counted by the minute: no gap can be told that is shorter.
FLOOR_S = 60.0
#: Fewer days to compare with say nothing of what is usual.
ENOUGH_DAYS = 3
#: The gap that holds on four days of five. After a free weekend each Monday, every fifth working day,
#: begins in a longer gap, and that is usual; two days' outage in four weeks is not.
USUAL_SHARE = 0.8
#: While a channel is learning: long enough that a quiet one is not called silent in its first days.
DEFAULT_GAP_S = {"human": 3600.0, "sensing": 900.0, "foreign": 86400.0}

Basis = Literal["configured", "learned", "default"]


@dataclass(frozen=True, slots=True)
class ChannelState:
    """One channel now. ``last_ms`` is None for one that never sent: not in service, never silent."""

    last_ms: int | None
    usual_gap_s: float
    basis: Basis
    silent: bool


def learned_gap(days: Sequence[float]) -> float | None:
    """Usual gap in seconds, from each comparable day's longest around this time; None: too few."""
    if len(days) < ENOUGH_DAYS:
        return None
    return max(FLOOR_S, sorted(days)[math.floor(USUAL_SHARE * len(days))])


def judge(
    spec: ChannelSpec,
    last_ms: int | None,
    learned_s: float | None,
    now_ms: int,
    before: ChannelState | None = None,
) -> ChannelState:
    """Whether the channel is silent; ``before`` is what was last said of it.

    Who is silent stays so until it is heard again: its usual gap may be longer an hour later, when
    the channel would rest anyway. A feed of another city is never silent, for it owes us nothing.
    """
    basis: Basis
    if spec.usual_gap_s is not None:
        gap, basis = spec.usual_gap_s, "configured"
    elif learned_s is not None:
        gap, basis = learned_s, "learned"
    else:
        gap, basis = DEFAULT_GAP_S[spec.kind], "default"
    silent = (
        last_ms is not None
        and spec.kind != "foreign"
        and (
            now_ms - last_ms > 1000 * SILENT_GAPS * gap
            or (before is not None and before.silent and before.last_ms == last_ms)
        )
    )
    return ChannelState(last_ms, gap, basis, silent)
