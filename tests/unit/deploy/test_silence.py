"""Who is silent: neither too early, nor too late, nor ever for a channel that owes nothing."""

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.silence import DEFAULT_GAP_S, SILENT_GAPS, ChannelState, judge, learned_gap
from schemas.channels import ChannelSpec

NOW = 1_767_225_600_000


def spec(kind: str = "human", usual_gap_s: float | None = None) -> ChannelSpec:
    return ChannelSpec.model_validate(
        {
            "name": "some_channel",
            "title": "渠道",
            "kind": kind,
            "transports": ["http"],
            "native_id": "id",
            "fields": {"text": "text"},
            "usual_gap_s": usual_gap_s,
        }
    )


def heard(seconds_ago: float) -> int:
    return round(NOW - 1000 * seconds_ago)


def test_a_channel_is_silent_after_three_usual_gaps_and_not_before() -> None:
    for gap, channel, learned in ((60.0, spec(usual_gap_s=60), None), (120.0, spec(), 120.0)):
        assert not judge(channel, heard(SILENT_GAPS * gap), learned, NOW).silent
        assert judge(channel, heard(SILENT_GAPS * gap + 0.001), learned, NOW).silent


def test_what_is_configured_holds_then_what_was_learned_then_the_kinds_default() -> None:
    found = [
        judge(spec(usual_gap_s=g), NOW, n, NOW) for g, n in ((60, 500), (None, 500), (None, None))
    ]
    assert [(s.usual_gap_s, s.basis) for s in found] == [
        (60, "configured"),
        (500, "learned"),
        (DEFAULT_GAP_S["human"], "default"),
    ]


@pytest.mark.parametrize("kind", list(DEFAULT_GAP_S))
def test_a_channel_never_heard_is_not_silent_and_neither_is_another_citys(kind: str) -> None:
    assert not judge(spec(kind, 60), None, None, NOW).silent
    assert judge(spec(kind, 60), heard(86_400), None, NOW).silent == (kind != "foreign")


def test_silence_lasts_until_the_channel_is_heard_though_it_would_rest_by_now() -> None:
    noon = judge(spec(), heard(600), 120.0, NOW)
    evening = judge(spec(), noon.last_ms, 14 * 3600.0, NOW + 6 * 3_600_000, noon)
    assert (noon.silent, evening.silent) == (True, True)
    again = judge(spec(), NOW + 6 * 3_600_000, 14 * 3600.0, NOW + 6 * 3_600_001, evening)
    assert not again.silent


@given(st.integers(0, NOW), st.floats(1, 1e6), st.booleans())
def test_a_channel_heard_just_now_is_never_silent(before: int, gap: float, was: bool) -> None:
    earlier = ChannelState(min(before, NOW - 1), gap, "learned", was)
    assert not judge(spec(), NOW, gap, NOW, earlier).silent


def test_too_few_days_teach_nothing_and_a_busy_channel_has_the_floor() -> None:
    assert learned_gap([]) is None
    assert learned_gap([10, 10]) is None
    assert learned_gap([10, 10, 10]) == 60


def test_mondays_are_usual_and_a_short_outage_is_not() -> None:
    nights = [50_400.0] * 16
    assert learned_gap(nights + [223_200.0] * 4) == 223_200
    assert learned_gap(nights + [50_400.0] * 2 + [172_800.0] * 2) == 50_400


def test_a_channel_that_comes_by_chance_is_seldom_called_silent_and_stopped_it_soon_is() -> None:
    """Poisson arrivals, 100 a day: what is learned from 20 days, held against 50 more."""
    chance = random.Random(5)
    at, arrivals = 0.0, []
    while at < 70 * 86_400:
        at += chance.expovariate(100 / 86_400)
        arrivals.append(at)
    gaps = list(itertools.pairwise(arrivals))
    noon = [day * 86_400 + 43_200 for day in range(20)]
    longest = [max(b - a for a, b in gaps if a < t + 1800 and b > t - 1800) for t in noon]
    usual = learned_gap(longest)
    assert usual is not None
    false = [b - a for a, b in gaps if a > 20 * 86_400 and b - a > SILENT_GAPS * usual]
    assert len(false) <= 2
    assert SILENT_GAPS * usual < 4 * 3600
