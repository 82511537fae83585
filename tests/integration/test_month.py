"""A month of a city's orders, a week of holidays and 调休 in it: every deadline and KPI calculated again.

The orders go their way by the real duty list, calendar and life cycle while the simulated departments act; what
is expected is calculated here from the pack's calendar, day by day, and by :mod:`tests.order_book`, formula by
formula.
"""

import heapq
import random
from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from typing import Any

import clickhouse_connect
import numpy as np
import pytest

import tests.order_book as order_book
from connectors.simulator.departments import Departments, load_behaviours
from deploy.kpi import Period, asker, parameters
from schemas import tables
from schemas.kpi import RATES
from schemas.settings import Settings
from streams.asked import Refusal
from streams.dispatch.decide import city_rules
from streams.dispatch.lifecycle import Case, Step, act, first, next_notice, notice

pytestmark = [pytest.mark.integration, pytest.mark.long, pytest.mark.timeout(1200)]

EVENTS = 100_000
#: Of so many one goes into ClickHouse: a step is a wide row.
SAMPLE = 10
CITY = order_book.CITY
SINCE, UNTIL = order_book.ms("2026-09-18"), order_book.ms("2026-10-18")
AT = UNTIL + 20 * order_book.DAY
DUES = ("due_at", "dispatch_due_at", "sign_due_at", "handle_due_at", "check_due_at")


class PlainClock:
    """Deadlines by walking from day to day over the calendar."""

    def __init__(self) -> None:
        calendar = CITY.calendar
        self.windows: list[list[tuple[int, int]]] = []
        self.begins = order_book.ms("2026-08-01")
        for n in range(150):
            day = date(2026, 8, 1) + timedelta(days=n)
            works = day in calendar.workdays or (
                day not in calendar.holidays and day.isoweekday() not in calendar.weekend
            )
            self.windows.append(
                [
                    tuple(order_book.ms(f"{day}T{t}") for t in window)  # type: ignore[misc]
                    for window in calendar.hours
                ]
                if works
                else []
            )

    def add(self, start: int, value: float, unit: str) -> int:
        if unit in ("urgent_hour", "natural_day"):
            return start + round(value * order_book.HOUR * (24 if unit == "natural_day" else 1))
        # A work day of the pack is 3 and 4 hours.
        left = round(value * order_book.HOUR * (7 if unit == "work_day" else 1))
        for day in self.windows[(start - self.begins) // order_book.DAY :]:
            for opens, closes in day:
                rest = closes - max(opens, start)
                if rest > 0 and left <= rest:
                    return closes - rest + left
                left -= max(0, rest)
        raise AssertionError("the calendar of the test is too short")

    def elapsed_ms(self, start: int, end: int, unit: str) -> int:
        if unit in ("urgent_hour", "natural_day"):
            return end - start
        first_day, last_day = ((t - self.begins) // order_book.DAY for t in (start, end))
        return sum(
            max(0, min(closes, end) - max(opens, start))
            for day in self.windows[first_day : last_day + 1]
            for opens, closes in day
        )


class Deadlines:
    """What each step does to an order's deadlines, by the rules of streams/README.md."""

    def __init__(self, clock: PlainClock) -> None:
        self.clock = clock
        self.dues: dict[str, int | None] = {}
        self.asked: tuple[float, str] = (0.0, "")
        self.since = 0

    def after(self, step: Step, action: dict[str, Any]) -> dict[str, int | None]:
        order, add = step.order, self.clock.add
        limit = order["deadline_value"], order["deadline_unit"]
        match step.verb:
            case "park":
                self.dues = dict.fromkeys(DUES)
            case "dispatch" | "reopen":
                opened = order["opened_at"] if step.verb == "dispatch" else step.at
                self.dues = self._round(order["priority"], opened, step.at, *limit)
            case "ask_extension":
                self.asked = action["extend_value"], action["extend_unit"]
            case "grant_extension":
                more = self.asked
                if action["extend_unit"]:
                    more = action["extend_value"], action["extend_unit"]
                for name in ("due_at", "handle_due_at", "check_due_at"):
                    due = self.dues[name]
                    assert due is not None
                    self.dues[name] = add(due, *more)
            case "suspend":
                self.since = step.at
            case "resume":
                for name, due in self.dues.items():
                    # To dispatch it is done, whatever happens then.
                    ahead = due is not None and due > self.since
                    if due is not None and ahead and name != "dispatch_due_at":
                        unit = limit[1]
                        left = self.clock.elapsed_ms(self.since, due, unit)
                        hours = left / order_book.HOUR
                        is_work = unit in ("work_hour", "work_day")
                        self.dues[name] = add(
                            step.at, hours, "work_hour" if is_work else "urgent_hour"
                        )
        return self.dues

    def _round(
        self, level: int, opened: int, at: int, value: float, unit: str
    ) -> dict[str, int | None]:
        add, times = self.clock.add, CITY.stages
        dispatch = add(add(opened, *times.accept[level]), *times.dispatch[level])
        handle = add(at, value, unit)
        return {
            "dispatch_due_at": dispatch,
            "sign_due_at": min(add(at, *times.sign[level]), handle),
            "handle_due_at": handle,
            "check_due_at": add(handle, *times.check[level]),
            "due_at": add(add(dispatch, value, unit), *times.check[level]),
        }


EMPTY = {"media": [], "to_unit": "", "handler": "", "extend_value": 0.0, "extend_unit": "",
         "visit": "", "solved": ""}  # fmt: skip


class Month:
    """The orders of the month, their deadlines held against plain ones at every step."""

    def __init__(self, clock: PlainClock, events: int) -> None:
        self.clock, self.rules = clock, city_rules(CITY)
        self.book = order_book.Book()
        self.departments = Departments(7, load_behaviours())
        self.cases: dict[str, Case] = {}
        self.plain: dict[str, Deadlines] = {}
        self.verbs: dict[str, int] = {}
        self.deadlines = 0
        self.wrong: list[str] = []
        choice = random.Random(2026)
        classes, streets = sorted(CITY.classes), sorted(street.code for street in CITY.streets)
        begin, end = SINCE - 8 * order_book.DAY, UNTIL + 4 * order_book.DAY
        self.heap: list[tuple[int, int, str]] = [
            (choice.randint(begin, end), n, "") for n in range(events)
        ]
        heapq.heapify(self.heap)
        self.choice, self.classes, self.streets = choice, classes, streets

    def run(self) -> None:
        heap, departments = self.heap, self.departments
        while True:
            at = min(heap[0][0] if heap else AT, departments.next_at or AT)
            if at >= AT:
                return
            while heap and heap[0][0] <= at:
                _, number, event_id = heapq.heappop(heap)
                if event_id:
                    case = self.cases[event_id]
                    self.tell(case, notice(case, self.rules, at), {})
                else:
                    self.open(number, at)
            for action in departments.due(at):
                whole = EMPTY | action
                case = self.cases[str(whole["event_id"])]
                done = act(case, whole, self.rules, at)
                refused = isinstance(done, Refusal)
                departments.answered(
                    {
                        "action_id": whole["action_id"],
                        "outcome": "refused" if refused else "applied",
                        "reason": done.reason if isinstance(done, Refusal) else "",
                    }
                )
                if not isinstance(done, Refusal):
                    self.tell(case, done, whole)

    def open(self, number: int, at: int) -> None:
        street = self.choice.choice(self.streets)
        event: dict[str, Any] = {
            "event_id": f"e{number}", "class_code": self.choice.choice(self.classes),
            "district_code": street[:6], "grid_code": f"{street}001001001", "street_code": street,
            "opened_at": at, "zone": "z", "conditions": [],
        }  # fmt: skip
        # Dispatched a little later, as the pipeline is.
        case, steps = first(event, self.rules, at + self.choice.randint(50, 400_000))
        self.cases[event["event_id"]] = case
        if not number % SAMPLE:
            link = {"link_id": f"l{number}", "report_id": f"r{number}", "event_id": f"e{number}"}
            self.book.links.append(link | {"relation": "opened", "channel": "c", "received_at": at})
            self.book.outcomes.append(
                {
                    "report_id": f"r{number}", "channel": "c", "outcome": "accepted", "received_at": at,
                    "class_code": event["class_code"], "district_code": street[:6],
                    "grid_code": event["grid_code"], "decided_at": at,
                }
            )  # fmt: skip
        self.tell(case, steps, {})

    def tell(self, case: Case, steps: Sequence[Step], action: dict[str, Any]) -> None:
        event_id = case.event["event_id"]
        sampled = not int(event_id[1:]) % SAMPLE
        for step in steps:
            order = step.order
            plain = self.plain.setdefault(order["order_id"], Deadlines(self.clock))
            expected = plain.after(step, action)
            self.deadlines += len(DUES)
            for name in DUES:
                if order[name] != expected[name]:
                    what = f"{order['order_id']} {step.verb} {name}"
                    self.wrong.append(f"{what}: {order[name]}, not {expected[name]}")
            self.verbs[step.verb] = self.verbs.get(step.verb, 0) + 1
            if sampled:
                row = {name: order[name] for name in self._columns(order)}
                self.book.steps.append(
                    row | {
                        "transition_id": f"{order['order_id']}-{order['version']}",
                        "from_state": step.before, "to_state": order["state"], "actor": "a",
                        "role": step.role, "action": step.verb, "at": step.at,
                    }
                )  # fmt: skip
            self.departments.hear(order)
        if (due := next_notice(case.order)) is not None:
            heapq.heappush(self.heap, (due[0], 0, event_id))

    def _columns(self, order: dict[str, Any]) -> list[str]:
        if not hasattr(self, "columns"):
            row = order_book.first_row(random.Random(1), 1, SINCE)
            self.columns = [name for name in row if name in order]
        return self.columns


@pytest.fixture(scope="module")
def month() -> Month:
    found = Month(PlainClock(), EVENTS)
    found.run()
    return found


def test_every_deadline_of_every_order_is_the_one_walked_over_the_calendar(month: Month) -> None:
    assert month.wrong[:10] == []
    assert month.deadlines > 5 * EVENTS
    assert min(month.verbs[v] for v in ("suspend", "resume", "grant_extension", "reopen")) > 0


@pytest.fixture(scope="module")
def client(settings: Settings, month: Month) -> Iterator[Any]:
    own = settings.model_copy(update={"clickhouse_database": "test_month"})
    tables.apply(own)
    client = clickhouse_connect.get_client(
        dsn=own.clickhouse_url, database="test_month", autogenerate_session_id=False
    )
    month.book.actions.append(
        {"action_id": "a", "kind": "review", "target": "none", "action": "reject",
         "outcome": "applied", "decided_at": SINCE}
    )  # fmt: skip
    month.book.insert(client)
    yield client
    client.command("DROP DATABASE test_month")
    client.close()


@pytest.mark.parametrize("at", [AT, UNTIL, order_book.ms("2026-10-05T12:00")])
def test_every_kpi_of_the_month_is_the_one_from_its_steps(
    client: Any, month: Month, at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(order_book, "CLOCK", month.clock)
    period = Period(SINCE, UNTIL, at)
    rates, times = order_book.expected(month.book, period)
    ask, given = asker(client), parameters(CITY, period)
    found = {r["kpi"]: (r["numerator"], r["denominator"], r["excluded"]) for r in ask("kpi", given)}
    assert {kpi: found[kpi] for kpi in RATES} == rates
    for row in ask("kpi_time", given):
        values = times[row["kpi"]]
        assert (row["n"], row["sum_ms"] or 0) == (len(values), sum(values)), row["kpi"]
        assert row["median_ms"] == pytest.approx(np.median(values))
        assert row["p90_ms"] == pytest.approx(np.percentile(values, 90))
    by_unit = ask("scorecard", given | {"by": "unit"})
    for code in sorted({r["code"] for r in by_unit})[:12]:

        def mine(o: order_book.Row, code: str = code) -> bool:
            return bool(o.get("unit_code") == code)

        theirs, _ = order_book.expected(month.book, period, mine)
        for row in (r for r in by_unit if r["code"] == code):
            assert (row["numerator"], row["denominator"]) == theirs[row["kpi"]][:2], row
