"""A period's KPIs, scorecards and comparisons, read by the named queries from ClickHouse or from a file's rows.

Formulas are in the queries; here are only the parameters that a city's pack gives them, and differences.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from clickhouse_connect.driver.client import Client

from schemas.city import CityPack
from schemas.errors import QuanyuError
from schemas.instants import parse_instant
from schemas.kpi import kpi_rules, light_rules
from schemas.queries import find, run_within

#: The named queries that reports ask for, and what these read.
QUERIES = ("kpi", "kpi_time", "kpi_items", "orders_behind", "scorecard", "scorecard_staff")
#: A month's report may take longer than a tile of the screen.
WITHIN_S = 300
#: Work time is known so many days before a period, and no more than fit into one parameter.
CALENDAR_BEFORE_DAYS = 400
CALENDAR_DAYS = 1_900
DAY_MS = 24 * 3600 * 1000

Row = dict[str, Any]
#: Rows of a named query with parameters.
Ask = Callable[[str, Mapping[str, Any]], list[Row]]


def asker(client: Client) -> Ask:
    """Ask ClickHouse; of the parameters each query takes those that it has."""

    def ask(name: str, given: Mapping[str, Any]) -> list[Row]:
        return run_within(WITHIN_S, client, name, taken(name, given))

    return ask


def taken(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the parameters that a query has."""
    return {p.name: given[p.name] for p in find(name).parameters if p.name in given}


class Period(NamedTuple):
    """From ``since``, not including ``until``, as it was known at ``at``; ms since the epoch."""

    since: int
    until: int
    at: int

    def moved(self, since: int, until: int) -> "Period":
        """Another period, known as long after its end (or, if it still runs, its begin) as this one."""
        if self.at >= self.until:
            return Period(since, until, until + self.at - self.until)
        return Period(since, until, min(until, since + self.at - self.since))


def instant(text: str, time_zone: str) -> int:
    """An instant that a person wrote, ms since the epoch; without an offset it is the city's time."""
    found = parse_instant(text, time_zone)
    if found is None:
        raise QuanyuError(
            f"--as-of {text!r} is no instant; write ISO 8601, e.g. 2026-11-01T00:00:00+08:00"
        )
    return found.ms


def months(month: str, time_zone: str, at: int) -> tuple[Period, Period, Period]:
    """A month (``2026-10``) of the city, the month before it and the same month a year before.

    ``at``: as of when it is asked for. :class:`QuanyuError` when it is no month, or has not begun by then.
    """
    try:
        first = datetime.strptime(month, "%Y-%m").replace(tzinfo=UTC).date()
    except ValueError:
        raise QuanyuError(f"--month {month!r} is no month; write e.g. 2026-10") from None
    if not 1971 <= first.year <= 2200:
        raise QuanyuError(f"--month {month!r} is out of range; write e.g. 2026-10")
    zone = ZoneInfo(time_zone)

    def begins(day: date) -> int:
        return round(datetime(day.year, day.month, 1, tzinfo=zone).timestamp() * 1000)

    after = first + timedelta(days=31)
    before, after_year = first - timedelta(days=1), first.replace(year=first.year - 1)
    period = Period(begins(first), begins(after), at)
    if at < period.since:
        raise QuanyuError(f"--as-of is before {month} begins; leave it out or name a later instant")
    return (
        period,
        period.moved(begins(before), period.since),
        period.moved(begins(after_year), begins(after_year + timedelta(days=31))),
    )


def parameters(city: CityPack, period: Period) -> dict[str, str | int]:
    """What the queries over ``kpi_items`` take from the city's pack for a period."""
    rules, weights = kpi_rules(city), city.kpi
    return {
        **period._asdict(),
        "time_zone": city.time_zone,
        "lookback_days": rules.lookback_days,
        "repeat_days": rules.repeat.days,
        "repeat_times": rules.repeat.times,
        "weights": f"{weights.response!r},{weights.resolution!r},{weights.satisfaction!r}",
        "card": rules.card,
        "least": rules.least,
        "centres": "|".join(
            f"{member}:{unit.code}" for unit in city.units.values() for member in unit.members
        ),
        **_calendar(city, period),
    }


def light_parameters(city: CityPack) -> dict[str, str | int]:
    """What the query ``lights`` takes from the city's pack."""
    return light_rules(city).parameters


def _calendar(city: CityPack, period: Period) -> dict[str, str]:
    """The days' signs: 1 work, 0 none, - of a year that the calendar does not know."""
    zone, calendar = ZoneInfo(city.time_zone), city.calendar
    since = datetime.fromtimestamp(period.since / 1000, zone).date()
    last = datetime.fromtimestamp(max(period.until, period.at) / 1000, zone).date()
    first = max(
        since - timedelta(days=CALENDAR_BEFORE_DAYS), last - timedelta(days=CALENDAR_DAYS - 1)
    )
    days = (first + timedelta(days=number) for number in range((last - first).days + 1))
    signs = (
        "-" if day.year not in calendar.years else "1" if calendar.is_workday(day) else "0"
        for day in days
    )
    seconds = [
        [t.hour * 3600 + t.minute * 60 + t.second for t in window] for window in calendar.hours
    ]
    return {
        "calendar": "".join(signs),
        "calendar_from": first.isoformat(),
        "work_hours": ",".join(f"{begin}-{end}" for begin, end in seconds),
    }


def compared(
    ask: Ask, city: CityPack, name: str, periods: tuple[Period, ...], key: str
) -> list[Row]:
    """Rows of a query for a period, each with its row of the month before (环比) and of the year before (同比).

    ``key``: the column by which rows belong together.
    """
    found = [ask(name, parameters(city, period)) for period in periods]
    before, year_before = ({row[key]: row for row in rows} for rows in found[1:])
    return [
        row | {"before": before.get(row[key]), "year_before": year_before.get(row[key])}
        for row in found[0]
    ]


def difference(row: Row, other: Row | None, column: str = "value") -> float | None:
    """How much a number changed: of rates the difference in points (1 point = 0.01), never a ratio of rates."""
    if other is None or row[column] is None or other[column] is None:
        return None
    return float(row[column]) - float(other[column])
