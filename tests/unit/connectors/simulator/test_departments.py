"""What departments ask for is what the life cycle allows, once each, and as often as their numbers say."""

import heapq
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import pytest

from connectors.simulator.departments import Departments, Verb, load_behaviours
from schemas.city import DeadlineUnit, load_city
from schemas.errors import QuanyuError
from streams.asked import Refusal
from streams.dispatch.lifecycle import (
    SETTLED,
    TABLE,
    Case,
    Duty,
    Rules,
    act,
    first,
    next_notice,
    notice,
)

HOUR_MS = 3600_000
BEGIN_MS = 1_772_000_000_000
HOURS = {"urgent_hour": 1, "work_hour": 1, "work_day": 24, "natural_day": 24}
PACE = 60.0
CLASSES = ("0102", "0104", "0301", "0401", "0505", "2101", "2202", "2302", "2501", "2901")


class Clock:
    """A calendar without nights."""

    def add(self, start_ms: int, value: float, unit: DeadlineUnit) -> int:
        return start_ms + int(value * HOURS[unit] * HOUR_MS)

    def between(self, start_ms: int, end_ms: int, unit: DeadlineUnit) -> float:
        return (end_ms - start_ms) / HOUR_MS / HOURS[unit]


class Duties:
    """Two units may take anything."""

    def duty(self, event: Mapping[str, Any]) -> Duty:
        return self.made("A", event)

    def next(self, event: Mapping[str, Any], tried: Sequence[str]) -> Duty | None:
        return next((self.made(code, event) for code in "AB" if code not in tried), None)

    def named(self, event: Mapping[str, Any], unit_code: str) -> Duty | None:
        return self.made(unit_code, event) if unit_code in "AB" else None

    def made(self, code: str, event: Mapping[str, Any]) -> Duty:
        hours = 0.1 if event["class_code"] == "2202" else 4.0
        # Limits as much shorter as the departments are quicker.
        return Duty(code, f"unit {code}", "district", "rule", hours / PACE, "urgent_hour")


RULES = Rules(Clock(), Duties(), {})


class Book:
    """Orders whose life cycle is the real one; its clock stands until something is due."""

    def __init__(self, departments: Departments, lag_ms: int = 0) -> None:
        self.departments, self.now, self.lag_ms = departments, BEGIN_MS, lag_ms
        self.cases: dict[str, Case] = {}
        self.asked: list[dict[str, Any]] = []
        self.refused: list[tuple[dict[str, Any], str]] = []
        self.steps: Counter[str] = Counter()
        self._timers: list[tuple[int, str]] = []

    def open(self, number: int, class_code: str = "0102") -> Case:
        event: dict[str, Any] = {
            "event_id": f"event-{number}", "class_code": class_code, "district_code": "990101",
            "grid_code": "", "street_code": "", "opened_at": self.now,
        }  # fmt: skip
        case, steps = first(event, RULES, self.now)
        self.cases[event["event_id"]] = case
        self._tell(case, steps)
        return case

    def run(self, until: int) -> None:
        """Let time pass from one thing that is due to the next, until an instant or nothing is."""
        while True:
            timer = self._timers[0][0] if self._timers else until
            at = min(until, timer, self.departments.next_at or until)
            if at >= until:
                return
            self.now = max(self.now, at)
            while self._timers and self._timers[0][0] <= self.now:
                case = self.cases[heapq.heappop(self._timers)[1]]
                self._tell(case, notice(case, RULES, self.now))
            for action in self.departments.due(self.now):
                self.asked.append(action)
                self.decide(action)

    def decide(self, action: dict[str, Any]) -> None:
        """As dispatch does; the answer may be heard before the order's new version, or after it."""
        whole = {"media": [], "to_unit": "", "handler": "", "extend_value": 0.0, "extend_unit": "",
                 "visit": "", "solved": ""} | action  # fmt: skip
        case = self.cases[action["event_id"]]
        done = act(case, whole, RULES, self.now)
        outcome = {"action_id": action["action_id"], "outcome": "applied", "reason": ""}
        if isinstance(done, Refusal):
            self.refused.append((action, done.reason))
            outcome |= {"outcome": "refused", "reason": done.reason}
            assert self.departments.answered(outcome) == action
            return
        answer_first = len(self.asked) % 2
        if answer_first:
            assert self.departments.answered(outcome) == action
        self._tell(case, done)
        if not answer_first:
            assert self.departments.answered(outcome) == action

    def _tell(self, case: Case, steps: Sequence[Any]) -> None:
        for step in steps:
            self.steps[step.verb] += 1
            self.departments.hear(step.order)
        if (due := next_notice(case.order)) is not None:
            heapq.heappush(self._timers, (due[0], case.event["event_id"]))


def book(seed: int = 1, number: int = 1_000) -> Book:
    """So many orders of all sorts, after two of the departments' months."""
    found = Book(Departments(seed, load_behaviours(), pace=PACE))
    for n in range(number):
        found.open(n, CLASSES[n % len(CLASSES)])
        found.run(found.now + 50)
    found.run(found.now + int(60 * 24 * HOUR_MS / PACE))
    return found


@pytest.fixture(scope="module")
def lived() -> Book:
    return book()


def test_every_verb_and_role_is_one_of_the_life_cycle(lived: Book) -> None:
    roles = {row.verb: set[str]() for row in TABLE}
    for row in TABLE:
        roles[row.verb] |= set(row.roles)
    assert set(get_args(Verb)) <= roles.keys()
    for action in lived.asked:
        assert action["role"] in roles[action["action"]], action
    assert {action["action"] for action in lived.asked} == set(get_args(Verb))


def test_the_life_cycle_refuses_none_but_what_came_too_late(lived: Book) -> None:
    assert {reason for _, reason in lived.refused} <= {"too_late", "illegal"}
    assert len(lived.refused) < len(lived.asked) / 200


def test_no_action_is_asked_for_twice_and_each_is_answered(lived: Book) -> None:
    ids = Counter(action["action_id"] for action in lived.asked)
    assert max(ids.values()) == 1
    assert lived.departments.unanswered == 0


def test_every_order_comes_to_an_end_and_nothing_is_planned_after_it(lived: Book) -> None:
    assert {case.order["state"] for case in lived.cases.values()} <= set(SETTLED)
    assert lived.departments.next_at is None


def test_a_living_book_has_every_kind_of_step_about_as_often_as_the_numbers_say(
    lived: Book,
) -> None:
    orders = len(lived.cases)
    share = {verb: number / orders for verb, number in lived.steps.items()}
    bounds = {
        "return": (0.03, 0.2), "invalidate": (0.01, 0.08), "direct_answer": (0.02, 0.1),
        "ask_extension": (0.04, 0.25), "grant_extension": (0.02, 0.2), "refuse_extension": (0.005, 0.1),
        "suspend": (0.005, 0.08), "overdue": (0.08, 0.6), "supervise": (0.03, 0.4), "check_fail": (0.03, 0.25),
        "close": (0.8, 1.3), "visit": (0.4, 1.2), "reopen": (0.02, 0.3),
    }  # fmt: skip
    for verb, (low, high) in bounds.items():
        assert low < share[verb] < high, (verb, share[verb])
    rated = Counter(case.order["first_visit"] for case in lived.cases.values())
    assert rated["satisfied"] > 2 * rated["unsatisfied"] > rated[""] / 20
    assert rated["unreachable"]


def test_the_same_seed_asks_for_the_same_and_another_for_other() -> None:
    def told(seed: int) -> list[tuple[str, str, str]]:
        asked = book(seed, number=200).asked
        return [(a["event_id"], a["action"], a["action_id"]) for a in asked]

    assert told(5) == told(5)
    assert told(5) != told(6)


def test_the_pace_changes_when_and_not_what() -> None:
    def told(pace: float) -> dict[str, list[str]]:
        found = Book(Departments(3, load_behaviours(), pace=pace))
        for n in range(100):
            found.open(n, "0104")
        # Before any limit passes.
        found.run(found.now + 100_000)
        asked: dict[str, list[str]] = {}
        for action in found.asked:
            asked.setdefault(action["event_id"], []).append(action["action"])
        return asked

    slow, fast = told(60.0), told(6_000.0)
    assert sum(map(len, slow.values())) < sum(map(len, fast.values()))
    for event, verbs in slow.items():
        assert fast[event][: len(verbs)] == verbs


def test_a_version_that_came_between_makes_a_unit_ask_again_of_it() -> None:
    found = Book(Departments(2, load_behaviours(), pace=PACE))
    case = found.open(1, "0104")
    found.now = found.departments.next_at or 0
    (action,) = found.departments.due(found.now)
    case.order = case.order | {"version": 2, "near_due": True}
    stale = {"action_id": action["action_id"], "outcome": "refused", "reason": "stale"}
    assert found.departments.due(found.now) == [], "one at a time"
    found.departments.answered(stale)
    assert found.departments.next_at is None, "the new version is not known yet"
    found.departments.hear(case.order)
    (again,) = found.departments.due(found.now)
    assert (again["action"], again["version"]) == (action["action"], 2)
    assert again["action_id"] != action["action_id"]
    found.decide(again)
    assert not found.refused


def test_an_order_that_somebody_else_withdrew_is_left_alone() -> None:
    found = Book(Departments(2, load_behaviours(), pace=PACE))
    case = found.open(1)
    found.departments.hear(case.order | {"version": 2, "state": "WITHDRAWN"})
    assert found.departments.due(found.now + 1000 * HOUR_MS) == []
    found.departments.hear(case.order)
    assert found.departments.next_at is None, "an older version changes nothing"


def test_answers_to_others_are_none_of_theirs() -> None:
    departments = Departments(1, load_behaviours())
    assert departments.answered({"action_id": "x", "outcome": "applied", "reason": ""}) is None


def test_a_bad_number_is_named_with_its_file_and_field(tmp_path: Path) -> None:
    good = (
        Path(load_behaviours.__wrapped__.__code__.co_filename)
        .with_suffix(".yaml")
        .read_text("utf-8")
    )
    path = tmp_path / "departments.yaml"
    path.write_text(good.replace("p90: 25}", "p90: 2}", 1), "utf-8")
    with pytest.raises(QuanyuError, match=r"departments.yaml:\d+: default.sign.*p90"):
        load_behaviours(path)


def test_the_numbers_name_classes_that_there_are() -> None:
    known = load_city("zhengzhou").classes
    for prefix in load_behaviours().classes:
        assert any(code.startswith(prefix) for code in known), prefix
