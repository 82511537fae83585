"""The clocks against a count minute by minute, in batches, over gaps of the calendar, pauses and stages."""

from datetime import datetime, timedelta
from typing import get_args
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.city import Calendar, DeadlineUnit, StageTimes, TimeLimit, load_city
from schemas.errors import QuanyuError
from streams.dispatch.deadline import (
    DAY_MS,
    HOUR_MS,
    NO_DUE,
    Bundle,
    CalendarGap,
    Extension,
    Pause,
    WorkClock,
    moved,
    stages,
)

MINUTE_MS = 60_000
PACK = load_city("zhengzhou")
ZONE = ZoneInfo(PACK.time_zone)
CLOCK = WorkClock(PACK.calendar, PACK.time_zone)


def ms(text: str, zone: ZoneInfo = ZONE) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=zone).timestamp() * 1000)


WORK: list[DeadlineUnit] = ["work_hour", "work_day"]
UNITS = st.sampled_from(get_args(DeadlineUnit))
WORK_UNITS = st.sampled_from(WORK)
#: Far enough from the last known day that no deadline below leaves the calendar.
STARTS = st.integers(ms("2024-01-01T00:00"), ms("2026-09-30T00:00"))
VALUES = st.one_of(st.integers(0, 40), st.floats(0, 40))
SETTINGS = settings(deadline=None, max_examples=200)


def works(minute: datetime, calendar: Calendar) -> bool:
    """Whether a minute of the city's clock is worked, asked of the calendar's lists alone."""
    day = minute.date()
    if day in calendar.workdays:
        worked = True
    elif day in calendar.holidays:
        worked = False
    else:
        worked = day.isoweekday() not in calendar.weekend
    return worked and any(a <= minute.time() < b for a, b in calendar.hours)


def counted(start: int, minutes: int, calendar: Calendar, zone: ZoneInfo) -> int:
    """When so many worked minutes have passed, minute by minute; ``start`` is a whole minute."""
    instant = start
    while minutes:
        minutes -= works(datetime.fromtimestamp(instant / 1000, zone), calendar)
        instant += MINUTE_MS
    return instant


@settings(deadline=None, max_examples=60)
@given(
    start=st.integers(ms("2024-01-01T00:00") // MINUTE_MS, ms("2026-11-15T00:00") // MINUTE_MS),
    value=st.integers(1, 48),
)
def test_work_hours_and_days_are_what_a_count_minute_by_minute_says(start: int, value: int) -> None:
    begin = start * MINUTE_MS
    for minutes, unit in ((value * 15, "work_hour"), (value * 45, "work_day")):
        # A work day of the pack has seven hours.
        amount = minutes / (60 if unit == "work_hour" else 7 * 60)
        wanted = counted(begin, minutes, PACK.calendar, ZONE)
        assert CLOCK.add(begin, amount, unit) == wanted  # type: ignore[arg-type] # of the two above
        passed = sum(
            works(datetime.fromtimestamp(at / 1000, ZONE), PACK.calendar)
            for at in range(begin, wanted, MINUTE_MS)
        )
        assert CLOCK.elapsed_ms(begin, wanted, "work_hour") == passed * MINUTE_MS


@SETTINGS
@given(start=STARTS, value=VALUES, unit=UNITS)
def test_what_is_added_has_passed_between(start: int, value: float, unit: DeadlineUnit) -> None:
    due = CLOCK.add(start, value, unit)
    of = {"work_day": 7 * HOUR_MS, "natural_day": DAY_MS}.get(unit, HOUR_MS)
    assert CLOCK.elapsed_ms(start, due, unit) == round(value * of)
    assert CLOCK.elapsed_ms(due, start, unit) == -round(value * of)
    # What passed, added again, leads to the same instant: where none was to pass, to where work begins.
    assert CLOCK.add(start, CLOCK.between(start, due, unit), unit) == due


@SETTINGS
@given(start=STARTS, length=st.integers(0, 60 * DAY_MS), cut=st.floats(0, 1), unit=UNITS)
def test_what_passes_in_two_parts_passes_in_the_whole(
    start: int, length: int, cut: float, unit: DeadlineUnit
) -> None:
    middle, end = start + round(length * cut), start + length
    whole = CLOCK.elapsed_ms(start, end, unit)
    assert CLOCK.elapsed_ms(start, middle, unit) + CLOCK.elapsed_ms(middle, end, unit) == whole >= 0


@SETTINGS
@given(start=STARTS, later=st.integers(0, 9 * DAY_MS), value=VALUES, more=VALUES, unit=UNITS)
def test_later_or_longer_is_never_due_earlier(
    start: int, later: int, value: float, more: float, unit: DeadlineUnit
) -> None:
    due = CLOCK.add(start, value, unit)
    try:
        after, longer = CLOCK.add(start + later, value, unit), CLOCK.add(start, value + more, unit)
    except CalendarGap:
        return  # beyond what the calendar knows
    assert start <= due <= after
    assert due <= longer


@SETTINGS
@given(day=st.integers(0, 365 * 3 - 1))
def test_nothing_runs_on_holidays_and_exchanged_work_days_count(day: int) -> None:
    # 2024 has 366 days: the last one of 2026 is of no interest.
    morning = datetime(2024, 1, 1, tzinfo=ZONE) + timedelta(days=day)
    start = int(morning.timestamp() * 1000)
    passed = CLOCK.elapsed_ms(start, start + DAY_MS, "work_hour")
    date = morning.date()
    if date in PACK.calendar.workdays:
        assert passed == 7 * HOUR_MS
    elif date in PACK.calendar.holidays or date.isoweekday() > 5:
        assert passed == 0
    else:
        assert passed == 7 * HOUR_MS


# --- many at once --------------------------------------------------------------------------------

#: Years that are known, the middle one is not.
BROKEN = Calendar.model_validate(
    {
        "hours": [("08:00", "12:00"), ("13:00", "16:00")],
        "weekend": [7],
        "holidays": ["2024-03-05", "2026-03-05"],
        "workdays": ["2026-03-08"],
    }
)
CALENDARS = {"whole": CLOCK, "broken": WorkClock(BROKEN, "Europe/Warsaw")}
ANYWHERE = st.integers(ms("2023-11-01T00:00"), ms("2027-03-01T00:00"))


def scalar(clock: WorkClock, start: int, value: float, unit: DeadlineUnit) -> int:
    due, reason = clock.due(start, value, unit)
    assert (due is None) == bool(reason)
    return NO_DUE if due is None else due


@pytest.mark.parametrize("name", CALENDARS)
@SETTINGS
@given(rows=st.lists(st.tuples(ANYWHERE, VALUES, UNITS), min_size=1, max_size=30))
def test_a_batch_is_what_its_rows_are_one_by_one(
    name: str, rows: list[tuple[int, float, DeadlineUnit]]
) -> None:
    clock = CALENDARS[name]
    starts, values, units = zip(*rows, strict=True)
    dues = clock.add_batch(np.array(starts), np.array(values, dtype=np.float64), units)
    assert dues.tolist() == [scalar(clock, *row) for row in rows]


@pytest.mark.parametrize("name", CALENDARS)
@SETTINGS
@given(rows=st.lists(st.tuples(ANYWHERE, ANYWHERE, UNITS), min_size=1, max_size=30))
def test_a_batch_of_spans_is_what_its_rows_are_one_by_one(
    name: str, rows: list[tuple[int, int, DeadlineUnit]]
) -> None:
    clock = CALENDARS[name]
    starts, ends, units = zip(*rows, strict=True)
    wanted = []
    for row in rows:
        try:
            wanted.append(clock.elapsed_ms(*row))
        except CalendarGap:
            wanted.append(NO_DUE)
    assert clock.elapsed_batch(np.array(starts), np.array(ends), units).tolist() == wanted


def test_a_batch_may_have_one_value_and_one_unit_for_all() -> None:
    starts = np.array([ms("2026-03-03T09:00"), ms("2026-03-03T17:00")])
    dues = CLOCK.add_batch(starts, 1, "work_hour")
    assert dues.tolist() == [ms("2026-03-03T10:00"), ms("2026-03-04T09:30")]
    assert CLOCK.add_batch(starts[:0], [], []).tolist() == []


# --- what the calendar does not know -------------------------------------------------------------


def test_a_year_without_a_holiday_is_refused_by_its_number_and_with_the_remedy() -> None:
    with pytest.raises(CalendarGap, match=r"2027.*city\.yaml") as caught:
        CLOCK.add(ms("2026-12-31T17:00"), 1, "work_hour")
    assert caught.value.year == 2027
    assert isinstance(caught.value, QuanyuError)
    with pytest.raises(CalendarGap, match="2023"):
        CLOCK.add(ms("2023-12-31T17:00"), 1, "work_hour")
    with pytest.raises(CalendarGap, match="2027"):
        CLOCK.elapsed_ms(ms("2026-12-31T17:00"), ms("2027-01-01T08:00"), "work_day")
    with pytest.raises(CalendarGap, match="2025"):
        CALENDARS["broken"].add(ms("2024-12-31T15:59", ZoneInfo("Europe/Warsaw")), 1, "work_hour")


def test_a_deadline_that_ends_in_the_last_known_minute_is_known() -> None:
    assert CLOCK.add(ms("2026-12-31T17:00"), 0.5, "work_hour") == ms("2026-12-31T17:30")


def test_clocks_that_run_on_need_no_calendar() -> None:
    start = ms("2027-05-01T00:00")
    assert CLOCK.add(start, 2, "urgent_hour") == start + 2 * HOUR_MS
    assert CLOCK.add(start, 2, "natural_day") == start + 2 * DAY_MS


def test_without_a_calendar_there_is_no_deadline_but_a_reason() -> None:
    assert CLOCK.due(ms("2026-03-03T09:00"), 1, "work_hour") == (ms("2026-03-03T10:00"), "")
    due, reason = CLOCK.due(ms("2026-12-31T17:00"), 1, "work_day")
    assert due is None
    assert "2027" in reason


@pytest.mark.parametrize("value", [-1, float("nan")])
def test_a_deadline_that_is_none_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match=r"0 or more|NaN"):
        CLOCK.add(0, value, "urgent_hour")
    with pytest.raises(ValueError, match="0 or more"):
        CLOCK.add_batch(np.array([0]), value, "urgent_hour")


# --- pauses, extensions, bundled clocks ----------------------------------------------------------


@SETTINGS
@given(
    start=STARTS,
    value=st.integers(1, 20),
    unit=UNITS,
    gaps=st.lists(st.tuples(st.integers(0, 5 * DAY_MS), st.integers(0, 5 * DAY_MS)), max_size=4),
)
def test_a_suspended_order_gets_exactly_the_time_back_that_passed_in_its_pauses(
    start: int, value: int, unit: DeadlineUnit, gaps: list[tuple[int, int]]
) -> None:
    at, pauses = start, []
    for run, stood in gaps:
        pauses.append(Pause(at + run, at + run + stood))
        at += run + stood
    due = moved(CLOCK, CLOCK.add(start, value, unit), unit, pauses)
    paused, left = 0, CLOCK.elapsed_ms(start, CLOCK.add(start, value, unit), unit)
    for pause in pauses:
        ran = CLOCK.elapsed_ms(start, pause.since, unit) - paused
        if ran >= left:
            break
        paused += CLOCK.elapsed_ms(pause.since, pause.until, unit)
    assert CLOCK.elapsed_ms(start, due, unit) == left + paused


def test_a_pause_after_the_deadline_gives_nothing_back() -> None:
    due = ms("2026-03-03T12:00")
    pause = Pause(due, due + DAY_MS)
    assert moved(CLOCK, due, "work_hour", [pause]) == due


def test_an_extension_runs_from_the_former_deadline_and_a_bundle_ends_the_own_clock() -> None:
    due = ms("2026-03-03T16:30")
    assert moved(CLOCK, due, "work_hour", [Extension(2, "work_hour")]) == ms("2026-03-04T10:00")
    parents = ms("2026-03-10T10:00")
    changes: list[Extension | Bundle] = [Extension(2, "work_hour"), Bundle(parents)]
    assert moved(CLOCK, due, "work_hour", changes) == parents
    # From then on it moves as its parent's does.
    assert moved(CLOCK, due, "work_hour", [*changes, Extension(1, "natural_day")]) == (
        parents + DAY_MS
    )


def test_pause_and_extension_count_in_the_order_in_which_they_happened() -> None:
    due, noon = ms("2026-03-03T11:00"), ms("2026-03-03T12:00")
    pause = Pause(noon, ms("2026-03-03T15:00"))
    grant = Extension(2, "work_hour")
    # 11:00 + 2 work hours = 14:30; the pause gives back 1.5 of the afternoon.
    assert moved(CLOCK, due, "work_hour", [grant, pause]) == ms("2026-03-03T16:00")
    # The pause came when the deadline had passed.
    assert moved(CLOCK, due, "work_hour", [pause, grant]) == ms("2026-03-03T14:30")


# --- stages --------------------------------------------------------------------------------------


def test_stages_follow_each_other_and_signing_is_never_later_than_handling() -> None:
    times = StageTimes.model_validate(
        {
            "accept": {1: "5min", 2: "5min", 3: "2uh"},
            "dispatch": {1: "3min", 2: "5min", 3: "24uh"},
            "sign": {1: "0.5uh", 2: "2uh", 3: "4wh"},
            "check": {1: "2uh", 2: "1wd", 3: "2wd"},
        }
    )
    opened, sent = ms("2026-03-03T10:00"), ms("2026-03-03T10:01")
    found = stages(CLOCK, times, 1, opened, sent, TimeLimit(0.25, "urgent_hour"))
    assert found.accept == opened + 5 * MINUTE_MS
    assert found.dispatch == opened + 8 * MINUTE_MS
    assert found.sign == found.handle == sent + 15 * MINUTE_MS
    assert found.check == found.handle + 2 * HOUR_MS
    assert found.total == found.dispatch + 15 * MINUTE_MS + 2 * HOUR_MS
    slow = stages(CLOCK, times, 3, opened, sent, TimeLimit(1, "work_day"))
    assert slow.sign == ms("2026-03-03T15:31")
    assert slow.handle == ms("2026-03-04T10:01")
    assert slow.check == ms("2026-03-06T10:01")


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("5min", TimeLimit(5 / 60, "urgent_hour")),
        ("2uh", TimeLimit(2, "urgent_hour")),
        ("0.5wh", TimeLimit(0.5, "work_hour")),
        ("7wd", TimeLimit(7, "work_day")),
        ("15nd", TimeLimit(15, "natural_day")),
    ],
)
def test_time_limits_are_read_as_packs_write_them(text: str, limit: TimeLimit) -> None:
    assert TimeLimit.read(text) == limit


@pytest.mark.parametrize("text", ["", "5", "uh", "-1uh", "2 uh", "2h", "nanuh"])
def test_what_is_no_time_limit_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"write e\.g\."):
        TimeLimit.read(text)
