"""Until when: deadlines in four clocks (紧急工作时, 工作时, 工作日, 自然日), pure functions of the calendar.

The clocks are those of GB/T 30428.8: urgent_hour and natural_day run on, work_hour and work_day run in the
work windows of work days only (调休 work days count, holidays do not). All instants are int ms UTC.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from schemas.city import Calendar, DeadlineUnit, StageTimes, TimeLimit
from schemas.errors import QuanyuError

HOUR_MS = 3600 * 1000
DAY_MS = 24 * HOUR_MS
#: What :meth:`WorkClock.add_batch` gives where the calendar knows no answer.
NO_DUE = np.iinfo(np.int64).min

Instants = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


class CalendarGap(QuanyuError, ValueError):
    """The calendar does not know a year: it has no holiday of it, so work time cannot be counted there."""

    def __init__(self, year: int) -> None:
        super().__init__(
            f"calendar: no holiday of {year} is known, so no work time in it; "
            f"add that year's holidays and workdays to calendar in city.yaml"
        )
        self.year = year


class WorkClock:
    """Deadlines in one city's calendar and zone; the work time of all its years is counted once.

    The calendar knows the years of which it has a holiday. Work-time questions that touch another year
    raise :class:`CalendarGap`; urgent_hour and natural_day need no calendar.
    """

    def __init__(self, calendar: Calendar, time_zone: str) -> None:
        self._zone = ZoneInfo(time_zone)
        self._day_ms = sum(
            (datetime.combine(date.min, end) - datetime.combine(date.min, start))
            // timedelta(milliseconds=1)
            for start, end in calendar.hours
        )
        #: Where known years begin and end, in turn: a run of years that follow each other is one pair.
        self._edges: list[int] = []
        #: Work windows; ``_done``: the work time of all windows up to the end of each.
        self._opens: list[int] = []
        self._closes: list[int] = []
        for year in sorted(calendar.years):
            self._add_year(calendar, year)
        lengths = (np.array(self._closes) - self._opens).astype(np.int64)
        self._done: list[int] = np.cumsum(lengths).tolist()
        self._arrays = tuple(
            np.array(column, dtype=np.int64)
            for column in (self._edges, self._opens, self._closes, self._done)
        )

    def add(self, start_ms: int, value: float, unit: DeadlineUnit) -> int:
        """The instant at which ``value`` (0 or more) of ``unit`` after ``start_ms`` has passed.

        A work day is the sum of a day's windows. Raises :class:`CalendarGap`, and ValueError when the
        calendar has no work time or ``value`` is negative.
        """
        left = round(value * self._ms(unit))
        if not left >= 0:
            raise ValueError(f"a deadline of {value} {unit}; write 0 or more")
        if unit in ("urgent_hour", "natural_day"):
            return start_ms + left
        run = self._run(start_ms)
        first = bisect_right(self._closes, start_ms)
        if first < len(self._opens):
            worked = self._done[first] - self._closes[first] + max(self._opens[first], start_ms)
            last = bisect_left(self._done, worked + left, first)
            if last < len(self._opens) and self._opens[last] < self._edges[run]:
                return self._closes[last] - self._done[last] + worked + left
        raise CalendarGap(self._year(self._edges[run]))

    def elapsed_ms(self, start_ms: int, end_ms: int, unit: DeadlineUnit) -> int:
        """What of a unit's clock passes between two instants: work time, or all time, in ms.

        Negative when the end is before the start. Raises :class:`CalendarGap`.
        """
        if unit in ("urgent_hour", "natural_day"):
            return end_ms - start_ms
        first, last = min(start_ms, end_ms), max(start_ms, end_ms)
        run = self._run(first)
        if last > self._edges[run]:
            raise CalendarGap(self._year(self._edges[run]))
        return self._worked(end_ms) - self._worked(start_ms)

    def between(self, start_ms: int, end_ms: int, unit: DeadlineUnit) -> float:
        """:meth:`elapsed_ms` in the unit itself, the inverse of :meth:`add`: how many hours, days."""
        return self.elapsed_ms(start_ms, end_ms, unit) / self._ms(unit)

    def due(self, start_ms: int, value: float, unit: DeadlineUnit) -> tuple[int | None, str]:
        """:meth:`add`, or None and the reason why there is no deadline."""
        try:
            return self.add(start_ms, value, unit), ""
        except ValueError as error:
            return None, str(error)

    def add_batch(
        self,
        starts: Instants,
        values: Floats | Sequence[float] | float,
        units: Sequence[DeadlineUnit] | npt.NDArray[np.str_] | DeadlineUnit,
    ) -> Instants:
        """:meth:`add` of many; :data:`NO_DUE` where the calendar does not tell.

        ValueError when a value is negative.
        """
        starts = np.asarray(starts, dtype=np.int64)
        factors, works = self._factors(units)
        left = np.rint(np.asarray(values, dtype=np.float64) * factors)
        if not (left >= 0).all():
            raise ValueError("a deadline is negative or no number; write 0 or more")
        whole = np.broadcast_to(left.astype(np.int64), starts.shape)
        works = np.broadcast_to(works, starts.shape)
        dues: Instants = starts + whole
        if not works.any():
            return dues
        dues[works] = self._add_work(starts[works], whole[works])
        return dues

    def elapsed_batch(
        self,
        starts: Instants,
        ends: Instants,
        units: Sequence[DeadlineUnit] | npt.NDArray[np.str_] | DeadlineUnit,
    ) -> Instants:
        """:meth:`elapsed_ms` of many; :data:`NO_DUE` where the calendar does not tell."""
        starts, ends = (np.asarray(each, dtype=np.int64) for each in (starts, ends))
        passed: Instants = ends - starts
        works = np.broadcast_to(self._factors(units)[1], passed.shape)
        if not works.any():
            return passed
        edges, opens, closes, done = self._arrays
        starts, ends = (np.broadcast_to(each, passed.shape)[works] for each in (starts, ends))
        found = np.full(len(starts), NO_DUE)
        if len(opens):
            run = np.searchsorted(edges, np.minimum(starts, ends), "right")
            # What ends after the last edge is in no run.
            known = (run % 2 == 1) & (np.maximum(starts, ends) <= np.append(edges, NO_DUE)[run])
            # One more window, which never opens and before which all work is done.
            opens, done = np.append(opens, np.iinfo(np.int64).max), np.insert(done, 0, 0)
            worked = []
            for instants in (ends, starts):
                at = np.searchsorted(closes, instants, "right")
                worked.append(done[at] + np.maximum(instants, opens[at]) - opens[at])
            found[known] = (worked[0] - worked[1])[known]
        passed[works] = found
        return passed

    def _add_work(self, starts: Instants, left: Instants) -> Instants:
        edges, opens, closes, done = self._arrays
        dues = np.full(len(starts), NO_DUE)
        run = np.searchsorted(edges, starts, "right")
        first = np.searchsorted(closes, starts, "right")
        able = (run % 2 == 1) & (first < len(opens))
        if not able.any():
            return dues
        at, run = first[able], run[able]
        worked = done[at] - closes[at] + np.maximum(opens[at], starts[able]) + left[able]
        # Nothing to add leaves an instant in its own window.
        last = np.maximum(np.searchsorted(done, worked), at)
        inside = np.minimum(last, len(opens) - 1)
        known = (last < len(opens)) & (opens[inside] < edges[run])
        dues[able] = np.where(known, closes[inside] - done[inside] + worked, NO_DUE)
        return dues

    def _factors(
        self, units: Sequence[DeadlineUnit] | npt.NDArray[np.str_] | DeadlineUnit
    ) -> tuple[Floats, npt.NDArray[np.bool_]]:
        """For each unit its ms, and whether it runs in work time only."""
        names, which = np.unique(np.atleast_1d(np.asarray(units)), return_inverse=True)
        known: list[DeadlineUnit] = names.tolist()
        factors = np.array([self._ms(name) for name in known], dtype=np.float64)
        works = np.array([name in ("work_hour", "work_day") for name in known], dtype=np.bool_)
        return factors[which], works[which]

    def _ms(self, unit: DeadlineUnit) -> int:
        match unit:
            case "urgent_hour" | "work_hour":
                return HOUR_MS
            case "natural_day":
                return DAY_MS
            case "work_day":
                return self._day_ms
        raise ValueError(f"no unit {unit!r} of deadlines")

    def _worked(self, instant: int) -> int:
        """Work time of all known years up to an instant."""
        at = bisect_right(self._closes, instant)
        before = self._done[at - 1] if at else 0
        return before + max(0, instant - self._opens[at]) if at < len(self._opens) else before

    def _run(self, instant: int) -> int:
        """Index of the edge that ends the known years round an instant."""
        if not self._opens:
            raise ValueError("no work time in the calendar; correct calendar in city.yaml")
        run = bisect_right(self._edges, instant)
        if run % 2 == 0:
            raise CalendarGap(self._year(instant))
        return run

    def _year(self, instant: int) -> int:
        return datetime.fromtimestamp(instant / 1000, self._zone).year

    def _add_year(self, calendar: Calendar, year: int) -> None:
        day, end = date(year, 1, 1), date(year + 1, 1, 1)
        begins, ends = (self._instant(datetime.combine(d, datetime.min.time())) for d in (day, end))
        if self._edges and self._edges[-1] == begins:
            self._edges[-1] = ends
        else:
            self._edges += [begins, ends]
        while day < end:
            if calendar.is_workday(day):
                for opens, closes in calendar.hours:
                    self._opens.append(self._instant(datetime.combine(day, opens)))
                    self._closes.append(self._instant(datetime.combine(day, closes)))
            day += timedelta(days=1)

    def _instant(self, local: datetime) -> int:
        return int(local.replace(tzinfo=self._zone).astimezone(UTC).timestamp() * 1000)


class Pause(NamedTuple):
    """挂起: the clock stood from ``since`` to ``until``."""

    since: int
    until: int


class Extension(NamedTuple):
    """延期 as approved: the deadline moves by this from where it was."""

    value: float
    unit: DeadlineUnit


class Bundle(NamedTuple):
    """捆绑计时: the order's matter went into another one's, whose deadline holds from then on."""

    due: int


def moved(
    clock: WorkClock, due: int, unit: DeadlineUnit, changes: Iterable[Pause | Extension | Bundle]
) -> int:
    """A deadline after what happened to its order, in the order in which it happened.

    A pause gives back what of ``unit``'s time passed in it; one that begins after the deadline gives
    nothing. Raises :class:`CalendarGap`.
    """
    for change in changes:
        match change:
            case Pause(since, until):
                if since < due:
                    due = clock.add(until, clock.between(since, due, unit), unit)
            case Extension(value, its_unit):
                due = clock.add(due, value, its_unit)
            case Bundle(parents):
                due = parents
    return due


class Stages(NamedTuple):
    """Until when each stage of an order should be over: 受理, 派遣, 签收, 处置, 核查, and the whole."""

    accept: int
    dispatch: int
    sign: int
    handle: int
    check: int
    total: int


def stages(
    clock: WorkClock,
    times: StageTimes,
    level: int,
    opened_at: int,
    dispatched_at: int,
    handle: TimeLimit,
) -> Stages:
    """The deadlines of an order's stages.

    ``level``: 1 red, 2 urgent, 3 normal; ``handle``: of the duty rule. Acceptance and dispatch follow
    each other from ``opened_at``, signing and handling run from ``dispatched_at``, the check from the end of
    handling. The whole is due where it would be if every stage took all its time from ``opened_at``.
    Raises :class:`CalendarGap`.
    """
    accept = clock.add(opened_at, *times.accept[level])
    dispatch = clock.add(accept, *times.dispatch[level])
    handled = clock.add(dispatched_at, *handle)
    return Stages(
        accept,
        dispatch,
        min(clock.add(dispatched_at, *times.sign[level]), handled),
        handled,
        clock.add(handled, *times.check[level]),
        clock.add(clock.add(dispatch, *handle), *times.check[level]),
    )
