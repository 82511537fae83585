"""Until when: deadlines in four clocks (紧急工作时, 工作时, 工作日, 自然日), pure functions of the calendar."""

from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from schemas.city import Calendar, DeadlineUnit

HOUR_MS = 3600 * 1000
#: A calendar that has no work day for a year is a mistake, not a long holiday.
SEARCH_DAYS = 370


class WorkClock:
    """Adds deadlines to instants (int ms UTC) in one city's calendar and zone."""

    def __init__(self, calendar: Calendar, time_zone: str) -> None:
        self._calendar = calendar
        self._zone = ZoneInfo(time_zone)
        self._windows = lru_cache(maxsize=1024)(self._windows_of)
        self._day_ms = sum(
            (datetime.combine(date.min, end) - datetime.combine(date.min, start))
            // timedelta(milliseconds=1)
            for start, end in calendar.hours
        )

    def add(self, start_ms: int, value: float, unit: DeadlineUnit) -> int:
        """The instant at which ``value`` of ``unit`` after ``start_ms`` has passed.

        urgent_hour runs round the clock and natural_day by days of 24 h; work_hour and work_day run in
        work time only (a work day is the sum of a day's windows). Raises ValueError when the calendar
        has no work time for a year.
        """
        if unit == "urgent_hour":
            return start_ms + round(value * HOUR_MS)
        if unit == "natural_day":
            return start_ms + round(value * 24 * HOUR_MS)
        left = round(value * (HOUR_MS if unit == "work_hour" else self._day_ms))
        day = datetime.fromtimestamp(start_ms / 1000, self._zone).date()
        for _ in range(SEARCH_DAYS):
            for opens, closes in self._windows(day):
                begin = max(opens, start_ms)
                if begin >= closes:
                    continue
                if closes - begin >= left:
                    return begin + left
                left -= closes - begin
            day += timedelta(days=1)
        raise ValueError(f"no work time found within {SEARCH_DAYS} days; check the city's calendar")

    def _windows_of(self, day: date) -> tuple[tuple[int, int], ...]:
        """The work windows of a day as instants."""
        if not self._calendar.is_workday(day):
            return ()
        return tuple(
            (self._instant(datetime.combine(day, start)), self._instant(datetime.combine(day, end)))
            for start, end in self._calendar.hours
        )

    def _instant(self, local: datetime) -> int:
        return int(local.replace(tzinfo=self._zone).astimezone(UTC).timestamp() * 1000)
