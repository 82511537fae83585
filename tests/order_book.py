"""An order book with everything that may befall an order, and its KPIs in plain Python, formula by formula."""

import json
import random
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from clickhouse_connect.driver.client import Client

from deploy.kpi import Period
from schemas.city import load_city
from schemas.kpi import RATES
from streams.dispatch.deadline import WorkClock
from streams.dispatch.lifecycle import replaced

ZONE = "Asia/Shanghai"
HOUR = 3_600_000
DAY = 24 * HOUR
CITY = load_city("zhengzhou")
CLOCK = WorkClock(CITY.calendar, ZONE)

Row = dict[str, Any]


def ms(text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(ZONE)).timestamp() * 1000)


SINCE, UNTIL = ms("2026-10-01"), ms("2026-11-01")
#: Two places have most of everything, so that matters recur.
GRIDS = ["410102001001001001", "410105014001001002", "410102002001", "410171001001001003"]
CLASSES = ["0102", "0110", "2302"]
UNITS = ["410102-CG", "410105-HW", "410100-PS"]
STAFF = ["G1", "G2", "G3", ""]
CHANNELS = ["hotline_12345", "zhenghaopai"]
INSTANTS = (
    *("opened_at", "dispatched_at", "due_at", "dispatch_due_at", "sign_due_at", "handle_due_at"),
    *("check_due_at", "signed_at", "contacted_at", "handled_at", "checked_at", "closed_at"),
    *("paused_at", "first_visited_at", "visited_at", "at"),
)


@dataclass
class Book:
    """An order book's facts: steps, reports, answers to reviews, and which channel opened an event."""

    steps: list[Row] = field(default_factory=list)
    outcomes: list[Row] = field(default_factory=list)
    actions: list[Row] = field(default_factory=list)
    links: list[Row] = field(default_factory=list)

    def insert(self, client: Client) -> None:
        newest = {row["order_id"]: row for row in self.steps}
        kept = {
            "transition_id", "from_state", "to_state", "actor", "role", "action", "at",
            "replaced", "first_visited_at", "visited_at",
        }  # fmt: skip
        orders = [
            {k: v for k, v in row.items() if k not in kept} | {"state": row["to_state"]}
            for row in newest.values()
        ]
        for table, rows in (
            ("order_transitions", self.steps),
            ("orders", orders),
            ("report_outcomes", self.outcomes),
            ("action_outcomes", self.actions),
            ("event_links", self.links),
        ):
            if not rows:
                continue
            names = list(rows[0])
            instants = {*INSTANTS, "received_at", "decided_at"}
            data = [
                [
                    datetime.fromtimestamp(row[n] / 1000, UTC)
                    if n in instants and row[n] is not None
                    else row[n]
                    for n in names
                ]
                for row in rows
            ]
            client.insert(table, data, column_names=names)

    def orders(self, at: int) -> list[Row]:
        """Every order as it was, with what happened to it until then."""
        by_order: dict[str, list[Row]] = defaultdict(list)
        for step in self.steps:
            if step["at"] <= at:
                by_order[step["order_id"]].append(step)
        return [
            max(steps, key=lambda s: s["version"]) | {"steps": steps} for steps in by_order.values()
        ]


class Life:
    """One order that random people work on; every step is a whole row of order_transitions."""

    def __init__(self, book: Book, choice: random.Random, row: Row) -> None:
        self.book, self.choice, self.row = book, choice, row

    def step(self, action: str, state: str, after: int, **changes: Any) -> None:
        row = self.row
        before = row.get("to_state", "UNKNOWN")
        at = row["at"] + after
        if action == "visit":
            changes |= {"first_visited_at": row["first_visited_at"] or at, "visited_at": at}
        self.row = row | changes | {
            "version": row["version"] + 1, "from_state": before, "to_state": state,
            "action": action, "at": at,
            "transition_id": f"{row['order_id']}-{row['version'] + 1}",
            "replaced": json.dumps(replaced(row, row | changes) if row["version"] else {}),
        }  # fmt: skip
        self.book.steps.append(self.row)

    @property
    def now(self) -> int:
        at: int = self.row["at"]
        return at

    def wait(self, hours: float) -> int:
        return int(self.choice.expovariate(1 / hours) * HOUR)


def first_row(choice: random.Random, number: int, opened: int) -> Row:
    grid = choice.choice(GRIDS)
    if choice.random() < 0.5 and len(grid) > 12:
        grid = f"{grid[:12]}{choice.randint(1, 999):03}001"
    street = grid[:9] if choice.random() < 0.9 else ""
    level = choice.choice([1, 2, 3, 3])
    due = opened + choice.choice([4, 24, 72, 240]) * HOUR if choice.random() < 0.93 else None
    return {
        "order_id": f"o{number}-1", "event_id": f"e{number}", "version": 0, "actor": "a", "role": "unit",
        "unit_code": choice.choice(UNITS), "unit_name": "单位", "class_code": choice.choice(CLASSES),
        "district_code": grid[:6], "street_code": street, "grid_code": grid, "sequence": 1,
        "priority": level, "opened_at": opened, "dispatched_at": opened, "due_at": due,
        "dispatch_due_at": opened + HOUR if choice.random() < 0.9 else None, "sign_due_at": None,
        "handle_due_at": due - HOUR if due else None, "check_due_at": None, "signed_at": None,
        "contacted_at": None, "handled_at": None, "checked_at": None, "closed_at": None, "paused_at": None,
        "paused_ms": 0, "extensions": 0, "returns": 0, "reworks": 0, "reopens": 0, "supervised": False,
        "false_closure": False, "self_handled": False, "handler": choice.choice(STAFF), "first_visit": "",
        "final_visit": "", "solved": "", "first_visited_at": None, "visited_at": None, "replaced": None,
        "at": opened, "from_state": "UNKNOWN", "to_state": "UNKNOWN",
        "action": "", "transition_id": "",
    }  # fmt: skip


def live(life: Life) -> None:
    """From dispatch to some end, with everything that may come between."""
    choice = life.choice
    if choice.random() < 0.06:
        life.step(
            "park", "NEEDS_REVIEW", life.wait(1), unit_code="", due_at=None, handle_due_at=None
        )
        if choice.random() < 0.5:
            return None
        life.step("assign", "WITHDRAWN", life.wait(5))
        again(life, "assigned")
    late = life.wait(1.2)
    life.step("dispatch", "DISPATCHED", late, dispatched_at=life.now + late,
              sign_due_at=life.now + late + 2 * HOUR)  # fmt: skip
    for _ in range(choice.randint(0, 3)):
        fate = choice.random()
        if fate < 0.05:
            return life.step("direct_answer", "DIRECT_ANSWERED", life.wait(2))
        if fate < 0.1:
            return life.step("invalidate", "INVALID", life.wait(2))
        if fate < 0.17:
            return life.step("withdraw", "WITHDRAWN", life.wait(2))
        if fate < 0.3:
            life.step("return", "RETURNED", life.wait(3))
            again(life, "returned")
        elif fate < 0.36:
            life.step("assign", "WITHDRAWN", life.wait(3))
            again(life, "assigned")
        elif fate < 0.45:
            life.step("supervise", "SUPERVISED", life.wait(3), supervised=True)
        elif fate < 0.55 and life.row["due_at"]:
            moved = life.row["due_at"] + choice.choice([8, 48]) * HOUR
            life.step("grant_extension", "EXTENDED", life.wait(3), due_at=moved, handle_due_at=moved,
                      extensions=life.row["extensions"] + 1)  # fmt: skip
        elif fate < 0.62:
            after = life.wait(3)
            life.step("suspend", "SUSPENDED", after, paused_at=life.now + after)
            if choice.random() < 0.4:
                return None
            life.step("resume", "HANDLING", life.wait(20), paused_at=None)
        else:
            life.step("overdue", life.row["to_state"], life.wait(3))
    if choice.random() < 0.12:
        return None
    if choice.random() < 0.7:
        after = life.wait(1.5)
        life.step("contact", "SIGNED", after, contacted_at=life.now + after)
    for _ in range(choice.choice([1, 1, 1, 2])):
        after = life.wait(choice.choice([2, 20, 60]))
        life.step("handle", "HANDLED", after, handled_at=life.now + after,
                  self_handled=choice.random() < 0.06)  # fmt: skip
        while choice.random() < 0.25:
            life.step("check_fail", "HANDLING", life.wait(3), reworks=life.row["reworks"] + 1)
            if choice.random() < 0.1:
                return None
            after = life.wait(8)
            life.step("handle", "HANDLED", after, handled_at=life.now + after)
        after = life.wait(4)
        life.step("check_pass", "CHECKED", after, checked_at=life.now + after)
        for _ in range(choice.choice([0, 1, 1, 2])):
            visit = choice.choice(["satisfied", "satisfied", "unsatisfied", "unreachable"])
            solved = "" if visit == "unreachable" else choice.choice(["solved", "unsolved", ""])
            life.step("visit", "REVISITED", life.wait(20), final_visit=visit, solved=solved,
                      first_visit=life.row["first_visit"] or visit)  # fmt: skip
        if choice.random() < 0.1:
            return None
        after = life.wait(10)
        life.step("close", "CLOSED", after, closed_at=life.now + after)
        if choice.random() < 0.1:
            life.step("false_closure", "CLOSED", life.wait(20), false_closure=True)
        if choice.random() < 0.8:
            return None
        after = life.wait(30)
        due = life.now + after + 24 * HOUR if life.row["due_at"] else None
        life.step("reopen", "REOPENED", after, reopens=life.row["reopens"] + 1, due_at=due,
                  handle_due_at=due)  # fmt: skip
    return None


def again(life: Life, why: str) -> None:
    """The event's next order, to another unit."""
    row = life.row
    number = row["sequence"] + 1
    life.row = first_row(life.choice, 0, row["opened_at"]) | {
        name: row[name]
        for name in ("event_id", "class_code", "district_code", "street_code", "grid_code", "priority")
    } | {
        "order_id": f"o{row['event_id'][1:]}-{number}", "sequence": number, "at": row["at"],
        "returns": row["returns"] + (why == "returned"),
    }  # fmt: skip
    after = life.wait(0.3)
    life.step("dispatch", "DISPATCHED", after, dispatched_at=life.now + after,
              sign_due_at=life.now + after + 2 * HOUR)  # fmt: skip


def order_book(seed: int, events: int) -> Book:
    """September to November; some orders lie on the period's edges to the millisecond, some times are wrong."""
    choice, book = random.Random(seed), Book()
    edges = [SINCE, SINCE - 1, UNTIL, UNTIL - 1]
    for number in range(events):
        opened = choice.randint(SINCE - 25 * DAY, UNTIL + 8 * DAY)
        if number < 24:
            opened = edges[number % 4]
        row = first_row(choice, number, opened)
        if 24 <= number < 48:
            row |= dict.fromkeys(("due_at", "handle_due_at"), edges[number % 4])
            row |= {"opened_at": edges[number % 4] - 5 * HOUR, "at": edges[number % 4] - 5 * HOUR}
        life = Life(book, choice, row)
        live(life)
        if number % 29 == 0:
            # A clock was wrong: closed before it was opened, handled before it was dispatched.
            life.step("close", "CLOSED", HOUR, closed_at=row["opened_at"] - HOUR,
                      handled_at=life.row["dispatched_at"] - HOUR)  # fmt: skip
        channel = choice.choice(CHANNELS)
        link = {"link_id": f"l{number}", "report_id": f"r{number}", "event_id": f"e{number}"}
        book.links.append(
            link | {"relation": "opened", "channel": channel, "received_at": row["opened_at"]}
        )
    for number in range(events * 2):
        received = choice.randint(SINCE - 3 * DAY, UNTIL + 3 * DAY)
        if number < 8:
            received = edges[number % 4]
        grid = choice.choice(GRIDS)
        outcome = choice.choice(["accepted"] * 5 + ["duplicate", "review", "review", "rejected"])
        decided = received + choice.randint(10, 3 * DAY if outcome == "review" else 900)
        book.outcomes.append(
            {
                "report_id": f"r{number}", "channel": choice.choice(CHANNELS), "outcome": outcome,
                "class_code": choice.choice(CLASSES), "district_code": grid[:6], "grid_code": grid,
                "received_at": received, "decided_at": received + 100,
            }
        )  # fmt: skip
        if outcome == "review" and choice.random() < 0.7:
            book.actions.append(
                {
                    "action_id": f"a{number}", "kind": "review", "target": f"r{number}",
                    "action": choice.choice(["accept", "accept", "reject"]),
                    "outcome": choice.choice(["applied", "applied", "refused"]),
                    "decided_at": decided,
                }
            )  # fmt: skip
    return book


# ---- the same in plain Python, formula by formula

HANDLED = ("HANDLED", "CHECKED", "REVISITED", "CLOSED")


def no_matter(o: Row) -> str:
    if o["to_state"] == "WITHDRAWN" and o["action"] != "assign":
        return "withdrawn"
    return {"INVALID": "invalid", "DIRECT_ANSWERED": "direct_answered"}.get(o["to_state"], "")


def left_out(o: Row) -> str:
    if no_matter(o):
        return no_matter(o)
    if o["self_handled"]:
        return "self_handled"
    if o["to_state"] == "WITHDRAWN":
        return "reassigned"
    return "returned" if o["to_state"] == "RETURNED" else ""


def expected(
    book: Book, period: Period, chosen: Callable[[Row], bool] = lambda o: True
) -> tuple[dict[str, tuple[int, int, dict[str, int]]], dict[str, list[int]]]:
    """Numerator, denominator and exclusions of every rate, and the values of every time."""
    since, until, at = period
    orders = book.orders(at)

    def inside(t: int | None) -> bool:
        return t is not None and since <= t < until

    hits: Counter[str] = Counter()
    totals: Counter[str] = Counter()
    excluded: dict[str, Counter[str]] = defaultdict(Counter)
    times: dict[str, list[int]] = defaultdict(list)

    def count(kpi: str, reason: str, hit: Any) -> None:
        if reason:
            excluded[kpi][reason] += 1
        else:
            totals[kpi] += 1
            hits[kpi] += bool(hit)

    def by_deadline(o: Row, name: str, hits_of: dict[str, Any]) -> None:
        limit = o[name]
        if not inside(o["opened_at"] if limit is None else limit):
            return
        reason = left_out(o)
        if not reason and o["closed_at"] is not None and o["closed_at"] < o["opened_at"]:
            reason = "closed_before_opened"
        if not reason and o["due_at"] is not None and o["due_at"] < o["opened_at"]:
            reason = "due_before_opened"
        if not reason and limit is None:
            reason = "no_deadline"
        if not reason and limit > at:
            reason = "not_due"
        if not reason and o["to_state"] == "SUSPENDED" and o["paused_at"] < limit:
            reason = "suspended"
        for kpi, hit in hits_of.items():
            count(kpi, reason, hit)

    def took(kpi: str, reason: str, start: int, end: int) -> None:
        if not reason and end < start:
            reason = "times_disordered"
        if reason:
            excluded[f"{kpi}_wall"][reason] += 1
            excluded[f"{kpi}_work"][reason] += 1
            return
        times[f"{kpi}_wall"].append(end - start)
        times[f"{kpi}_work"].append(CLOCK.elapsed_ms(start, end, "work_hour"))

    window = min(since, until - 30 * DAY)
    places = Counter(
        (o["class_code"], o["grid_code"])
        for o in orders
        if o["sequence"] == 1 and not no_matter(o) and window <= o["opened_at"] < until
    )
    for o in filter(chosen, orders):
        state = o["to_state"]
        dispatched = bool(o["unit_code"])
        first = o["sequence"] == 1 and inside(o["opened_at"])
        closed_in_time = state == "CLOSED" and o["due_at"] and o["closed_at"] <= o["due_at"]
        if first:
            reason = no_matter(o) or ("no_deadline" if o["dispatch_due_at"] is None else "")
            if not reason and not dispatched and o["dispatch_due_at"] > at:
                reason = "not_due"
            in_time = dispatched and not reason and o["dispatched_at"] <= o["dispatch_due_at"]
            count("in_time_register_rate", reason, in_time)
            reason = no_matter(o) or ("" if len(o["grid_code"]) >= 15 else "no_place")
            count("repeat_rate", reason, places[o["class_code"], o["grid_code"]] >= 3)
            if dispatched:
                took("accept_time", no_matter(o), o["opened_at"], o["dispatched_at"])
        if dispatched and inside(o["dispatched_at"]):
            reason = no_matter(o) or ("self_handled" if o["self_handled"] else "")
            count("accurate_dispatch_rate", reason, state not in ("RETURNED", "WITHDRAWN"))
            count("return_rate", reason, state == "RETURNED")
        contacted, limit = o["contacted_at"], o["sign_due_at"]
        by_deadline(o, "sign_due_at", {"response_rate": contacted and limit and contacted <= limit})
        in_time = (
            state in HANDLED
            and o["handled_at"] is not None
            and o["handle_due_at"] is not None
            and o["handled_at"] <= o["handle_due_at"]
        )
        by_deadline(
            o,
            "handle_due_at",
            {
                "dispose_rate": state in HANDLED,
                "in_time_dispose_rate": in_time and not o["reopens"],
            },
        )
        by_deadline(
            o,
            "due_at",
            {
                "archive_rate": state == "CLOSED",
                "in_time_archive_rate": closed_in_time and not o["reopens"],
                "overdue_rate": not closed_in_time,
                "extension_rate": o["extensions"],
                "supervision_rate": o["supervised"],
            },
        )
        if inside(o["opened_at"]):
            count("closed_rate", left_out(o), state == "CLOSED")
        if inside(o["closed_at"]):
            reason = "closed_before_opened" if o["closed_at"] < o["opened_at"] else ""
            if not reason and o["due_at"] is not None and o["due_at"] < o["opened_at"]:
                reason = "due_before_opened"
            reason = reason or ("no_deadline" if o["due_at"] is None else "")
            over = ("CLOSED", "INVALID", "DIRECT_ANSWERED", "WITHDRAWN")
            reason = reason or ("" if state in over else "open_again")
            count("on_time_rate", reason, o["due_at"] and o["closed_at"] <= o["due_at"])
            count("reopen_rate", left_out(o), o["reopens"])
            count("false_closure_rate", left_out(o), o["false_closure"])
            reason = left_out(o) or ("" if state == "CLOSED" else "open_again")
            took("close_time", reason, o["opened_at"], o["closed_at"])
        if inside(o["handled_at"]):
            count("rework_rate", left_out(o), o["reworks"])
            reason = left_out(o) or ("" if state in HANDLED else "not_handled")
            took("handle_time", reason, o["dispatched_at"], o["handled_at"])
        for step in o["steps"]:
            if step["action"] in ("check_pass", "check_fail") and inside(step["at"]):
                count("check_pass_rate", left_out(o), step["action"] == "check_pass")
        visits = [step["at"] for step in o["steps"] if step["action"] == "visit"]
        if visits and inside(max(visits)):
            reason = left_out(o) or ("unreachable" if o["final_visit"] == "unreachable" else "")
            count("satisfaction_rate", reason, o["final_visit"] == "satisfied")
            count(
                "solve_rate",
                reason or ("" if o["solved"] else "not_answered"),
                o["solved"] == "solved",
            )
        if visits and inside(min(visits)):
            reason = left_out(o) or ("unreachable" if o["first_visit"] == "unreachable" else "")
            count("first_satisfaction_rate", reason, o["first_visit"] == "satisfied")
    accepted = {
        a["target"]
        for a in book.actions
        if (a["action"], a["outcome"]) == ("accept", "applied") and a["decided_at"] <= at
    }
    for r in book.outcomes:
        if inside(r["received_at"]) and r["decided_at"] <= at and chosen(r | {"is_report": True}):
            hit = r["outcome"] == "accepted" or (
                r["outcome"] == "review" and r["report_id"] in accepted
            )
            count("register_rate", "duplicate" if r["outcome"] == "duplicate" else "", hit)
    rates = {kpi: (hits[kpi], totals[kpi], dict(excluded[kpi])) for kpi in RATES}
    return rates, times
