"""Deadlines in four clocks: worked examples, holidays skipped, never earlier for more."""

from datetime import datetime
from typing import get_args
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.city import Calendar, DeadlineUnit
from streams.dispatch.deadline import HOUR_MS, WorkClock

WARSAW = "Europe/Warsaw"
#: Eight to twelve and one to four; Sundays off; Thursday 5 March 2026 a holiday, Sunday 8 March worked.
CALENDAR = Calendar.model_validate(
    {
        "hours": [("08:00", "12:00"), ("13:00", "16:00")],
        "weekend": [7],
        "holidays": ["2026-03-05"],
        "workdays": ["2026-03-08"],
    }
)


def ms(text: str, zone: str = WARSAW) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp() * 1000)


def clock() -> WorkClock:
    return WorkClock(CALENDAR, WARSAW)


@pytest.mark.parametrize(
    ("start", "value", "unit", "due"),
    [
        # Round the clock, over night and holiday.
        ("2026-03-04T23:00", 2, "urgent_hour", "2026-03-05T01:00"),
        ("2026-03-04T23:00", 0.5, "urgent_hour", "2026-03-04T23:30"),
        # Work hours: the noon break does not count, nor the night, nor the holiday of the 5th.
        ("2026-03-03T09:00", 2, "work_hour", "2026-03-03T11:00"),
        ("2026-03-03T11:30", 1, "work_hour", "2026-03-03T13:30"),
        ("2026-03-03T12:30", 1, "work_hour", "2026-03-03T14:00"),
        ("2026-03-03T15:30", 1, "work_hour", "2026-03-04T08:30"),
        ("2026-03-04T15:30", 1, "work_hour", "2026-03-06T08:30"),
        ("2026-03-03T05:00", 4, "work_hour", "2026-03-03T12:00"),
        # A work day is seven work hours; the worked Sunday counts.
        ("2026-03-03T08:00", 1, "work_day", "2026-03-03T16:00"),
        ("2026-03-03T10:00", 1, "work_day", "2026-03-04T10:00"),
        ("2026-03-04T10:00", 2, "work_day", "2026-03-07T10:00"),
        ("2026-03-07T10:00", 1, "work_day", "2026-03-08T10:00"),
        ("2026-03-14T10:00", 1, "work_day", "2026-03-16T10:00"),
        ("2026-03-05T10:00", 1, "work_day", "2026-03-06T16:00"),
        # Natural days run on.
        ("2026-03-04T10:00", 3, "natural_day", "2026-03-07T10:00"),
    ],
)
def test_worked_examples(start: str, value: float, unit: DeadlineUnit, due: str) -> None:
    assert clock().add(ms(start), value, unit) == ms(due)


def test_work_time_follows_the_citys_clock_through_the_change_to_summer_time() -> None:
    # The last Sunday of March 2026 is the 29th; the night before Monday is not one hour of work more.
    assert clock().add(ms("2026-03-28T15:00"), 2, "work_hour") == ms("2026-03-30T09:00")


def test_the_same_instant_is_another_work_hour_in_another_city() -> None:
    start = ms("2026-03-03T09:00")
    there = WorkClock(CALENDAR, "Asia/Shanghai").add(start, 1, "work_hour")
    assert there == ms("2026-03-04T09:00", "Asia/Shanghai")


def test_a_calendar_without_work_is_refused_not_searched_for_ever() -> None:
    never = CALENDAR.model_copy(update={"weekend": [1, 2, 3, 4, 5, 6, 7], "workdays": frozenset()})
    with pytest.raises(ValueError, match="no work time"):
        WorkClock(never, WARSAW).add(ms("2026-03-03T09:00"), 1, "work_hour")


STARTS = st.integers(ms("2026-02-20T00:00"), ms("2026-04-10T00:00"))
UNITS = st.sampled_from(get_args(DeadlineUnit))


@settings(deadline=None)
@given(start=STARTS, later=st.integers(0, 72 * HOUR_MS), value=st.integers(1, 30), unit=UNITS)
def test_who_starts_later_is_never_due_earlier(
    start: int, later: int, value: int, unit: DeadlineUnit
) -> None:
    assert clock().add(start, value, unit) <= clock().add(start + later, value, unit)


@settings(deadline=None)
@given(start=STARTS, value=st.integers(1, 29), unit=UNITS)
def test_more_time_is_due_later_and_always_after_the_start(
    start: int, value: int, unit: DeadlineUnit
) -> None:
    assert start < clock().add(start, value, unit) < clock().add(start, value + 1, unit)


@settings(deadline=None)
@given(start=STARTS, one=st.integers(1, 20), other=st.integers(1, 20), unit=UNITS)
def test_two_deadlines_in_a_row_are_one_of_their_sum(
    start: int, one: int, other: int, unit: DeadlineUnit
) -> None:
    add = clock().add
    assert add(add(start, one, unit), other, unit) == add(start, one + other, unit)


@settings(deadline=None)
@given(start=STARTS, value=st.integers(1, 40), unit=st.sampled_from(["work_hour", "work_day"]))
def test_work_is_never_due_outside_work_time(start: int, value: int, unit: DeadlineUnit) -> None:
    due = datetime.fromtimestamp(clock().add(start, value, unit) / 1000, ZoneInfo(WARSAW))
    assert CALENDAR.is_workday(due.date())
    assert any(opens <= due.time() <= closes for opens, closes in CALENDAR.hours)
