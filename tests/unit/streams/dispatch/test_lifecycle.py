"""The life cycle, row by row: what the table allows is done whole, the rest is refused and leaves no trace."""

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from schemas.city import CityPack
from schemas.ids import order_id, transition_id
from schemas.merge_policy import Park
from schemas.settings import Settings
from schemas.topics import load_topics
from streams.asked import Refusal
from streams.dispatch.deadline import CalendarGap, Stages
from streams.dispatch.decide import city_rules
from streams.dispatch.lifecycle import (
    AHEAD_MS,
    BEFORE,
    DONE_KEPT,
    FALSE_CLOSURE_MS,
    HOUR_MS,
    MOVES,
    OPEN,
    OVER,
    REMEMBERED_MS,
    ROLES,
    SAME,
    SETTLED,
    TABLE,
    Case,
    Order,
    Row,
    Rules,
    Step,
    act,
    allowed,
    first,
    forgotten_at,
    next_notice,
    notice,
    told_again,
    turn,
)
from tests.unit.streams.batches import NOW
from tests.unit.tiny_city import WEST

STATES = sorted({state for row in TABLE for state in row.states} | {"RETURNED"})
VERBS = sorted({row.verb for row in TABLE})
UNIT, NEXT = "990100-YS", "990103-ZB"


@pytest.fixture
def rules(city: CityPack) -> Rules:
    return city_rules(city)


def opened(rules: Rules, class_code: str = "0101", at: int = NOW) -> Case:
    event = {
        "event_id": "e1", "class_code": class_code, "district_code": WEST, "grid_code": WEST,
        "street_code": "", "opened_at": at, "zone": "core", "conditions": [],
    }  # fmt: skip
    return first(event, rules, at)[0]


def brought(rules: Rules, state: str, **fields: Any) -> Case:
    """An order that somehow came into a state."""
    case = opened(rules)
    facts: Order = {"state": state}
    if state in ("SUSPENDED", "WITHDRAWN"):
        facts |= {"before": "HANDLING ", "paused_at": NOW if state == "SUSPENDED" else None}
    if state == "CLOSED":
        facts |= {"closed_at": NOW}
    case.order = case.order | facts | fields
    return case


def asked(case: Case, verb: str, role: str, /, **fields: Any) -> dict[str, Any]:
    """An action that lacks nothing, unless ``fields`` spoil it."""
    order = case.order
    return {
        "action_id": f"{verb}-{order['order_id']}-{order['version']}", "order_id": order["order_id"],
        "event_id": "e1",
        "action": verb, "version": None, "actor": "a7", "role": role,
        "unit_code": order["unit_code"] if role in ("unit", "grid_worker") else "",
        "reason": "why", "note": "what", "media": ["sha256:00"], "to_unit": "", "handler": "",
        "extend_value": 4.0, "extend_unit": "urgent_hour", "visit": "satisfied", "solved": "solved",
        "at": NOW,
    } | fields  # fmt: skip


def done(case: Case, verb: str, role: str, rules: Rules, /, **fields: Any) -> list[Step]:
    steps = act(case, asked(case, verb, role, **fields), rules, NOW)
    assert not isinstance(steps, Refusal), steps
    return steps


def refused(case: Case, verb: str, role: str, rules: Rules, /, **fields: Any) -> str:
    """The reason; nothing else may have come of it."""
    before = copy.deepcopy(case)
    refusal = act(case, asked(case, verb, role, **fields), rules, NOW)
    assert isinstance(refusal, Refusal), refusal
    assert case == before
    assert refusal.detail
    return refusal.reason


# --- the table -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "state", "role"),
    [(r, s, role) for r in TABLE for s in r.states if s != "UNKNOWN" for role in r.roles],
    ids=lambda value: value.verb if isinstance(value, Row) else value,
)
def test_every_row_leads_where_it_says(rules: Rules, row: Row, state: str, role: str) -> None:
    case = brought(rules, state, asked_value=1.0, asked_unit="urgent_hour")
    old = case.order
    step = done(case, row.verb, role, rules)[0]
    after = {SAME: state, BEFORE: "HANDLING"}.get(row.to, row.to)
    assert (step.before, step.order["state"]) == (state, after)
    assert step.order["version"] == old["version"] + 1
    assert (step.verb, step.actor, step.role, step.at) == (row.verb, "a7", role, NOW)
    assert step.action_id
    assert step.media == ["sha256:00"]


@pytest.mark.parametrize("state", STATES)
def test_what_the_table_lacks_is_illegal_and_told_what_may_be_done(
    rules: Rules, state: str
) -> None:
    for verb in VERBS:
        if (verb, state) not in MOVES:
            case = brought(rules, state)
            role = next(row.roles[0] for row in TABLE if row.verb == verb)
            assert refused(case, verb, role, rules) == "illegal", (verb, state)
    assert all((verb, state) in MOVES for role in ROLES for verb in allowed(state, role))


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.verb)
def test_a_verb_is_for_its_roles_alone(rules: Rules, row: Row) -> None:
    for role in {*ROLES, "", "mayor"} - set(row.roles):
        assert refused(brought(rules, row.states[0]), row.verb, role, rules) == "wrong_role"


def test_the_table_is_unambiguous_and_a_verb_has_the_same_roles_in_each_row() -> None:
    assert len(MOVES) == sum(len(row.states) for row in TABLE)
    for row in TABLE:
        assert {other.roles for other in TABLE if other.verb == row.verb} == {row.roles}


def test_closed_is_closed_but_for_a_visit_and_a_new_beginning() -> None:
    people = {verb for role in ROLES if role != "system" for verb in allowed("CLOSED", role)}
    assert people == {"visit", "reopen"}
    assert not any(allowed("RETURNED", role) for role in ROLES)


def test_the_readme_has_the_table_as_it_is() -> None:
    text = (Path(__file__).parents[4] / "streams" / "README.md").read_text(encoding="utf-8")
    to = {SAME: "(stays)", BEFORE: "(as before)"}
    for row in TABLE:
        line = (
            f"| `{row.verb}` {row.term} | {', '.join(row.states)} | {to.get(row.to, row.to)} "
            f"| {', '.join(row.roles)} | {', '.join(row.needs)} |"
        )
        assert line in text, f"streams/README.md lacks, or has otherwise:\n{line}"


# --- refusals --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"order_id": "nobody's"}, "unknown_order"),
        ({"order_id": ""}, "unknown_order"),
        ({"action": "dance"}, "unknown_action"),
        ({"role": "centre"}, "wrong_role"),
        ({"unit_code": NEXT}, "not_yours"),
        ({"unit_code": ""}, "not_yours"),
        ({"version": 7}, "stale"),
        ({"at": NOW + AHEAD_MS + 1}, "in_future"),
    ],
)
def test_what_is_wrong_with_an_action_has_a_code(
    rules: Rules, fields: dict[str, Any], reason: str
) -> None:
    assert refused(opened(rules), "sign", "unit", rules, **fields) == reason


@pytest.mark.parametrize(
    ("verb", "state", "role", "fields"),
    [
        ("return", "DISPATCHED", "unit", {"reason": " "}),
        ("handle", "HANDLING", "unit", {"note": ""}),
        ("check_fail", "HANDLED", "centre", {"reason": ""}),
        ("ask_extension", "SIGNED", "unit", {"extend_value": 0.0}),
        ("ask_extension", "SIGNED", "unit", {"extend_value": -1.0}),
        ("ask_extension", "SIGNED", "unit", {"extend_value": float("nan")}),
        ("ask_extension", "SIGNED", "unit", {"extend_value": float("inf")}),
        ("ask_extension", "SIGNED", "unit", {"extend_unit": "fortnight"}),
        ("grant_extension", "SIGNED", "centre", {"extend_value": 0.0, "extend_unit": ""}),
        ("visit", "CHECKED", "centre", {"visit": "delighted"}),
        ("visit", "CHECKED", "centre", {"solved": "perhaps"}),
        ("visit", "CHECKED", "centre", {"visit": "unreachable"}),
        ("visit", "CHECKED", "citizen", {"visit": "unreachable", "solved": ""}),
        ("assign", "DISPATCHED", "centre", {"to_unit": "nowhere"}),
        ("assign", "DISPATCHED", "centre", {"to_unit": UNIT}),
    ],
)
def test_what_a_verb_needs_must_be_said(
    rules: Rules, verb: str, state: str, role: str, fields: dict[str, Any]
) -> None:
    assert refused(brought(rules, state), verb, role, rules, **fields) == "bad_field"


def test_an_action_is_done_once_however_often_it_is_told(rules: Rules) -> None:
    case = opened(rules)
    action = asked(case, "sign", "unit")
    assert not isinstance(act(case, action, rules, NOW), Refusal)
    again = act(case, action, rules, NOW)
    assert isinstance(again, Refusal)
    assert again.reason == "already_done"
    assert case.order["version"] == 2


def test_as_many_actions_as_are_remembered_stay_few(rules: Rules) -> None:
    case = opened(rules)
    for _ in range(DONE_KEPT + 5):
        done(case, "contact", "unit", rules)
    assert len(case.done) == len(set(case.done)) == DONE_KEPT


def test_of_two_who_act_on_what_they_saw_the_second_is_stale(rules: Rules) -> None:
    case = opened(rules)
    done(case, "sign", "unit", rules, version=1)
    assert refused(case, "return", "unit", rules, version=1) == "stale"


def test_an_extension_is_asked_for_before_the_deadline_and_only_what_was_asked_is_refused(
    rules: Rules,
) -> None:
    case = brought(rules, "SIGNED", handle_due_at=NOW - 1)
    assert refused(case, "ask_extension", "unit", rules) == "too_late"
    assert refused(case, "refuse_extension", "centre", rules) == "illegal"
    never = brought(rules, "SIGNED", due_at=None, handle_due_at=None)
    assert refused(never, "ask_extension", "unit", rules) == "illegal"
    assert refused(never, "grant_extension", "centre", rules) == "illegal"


def test_a_step_is_never_earlier_than_the_one_before(rules: Rules) -> None:
    case = opened(rules)
    (step,) = done(case, "sign", "unit", rules, at=NOW - HOUR_MS)
    assert step.at == case.order["signed_at"] == NOW


# --- ways ------------------------------------------------------------------------------------------


def test_the_usual_way_notes_when_each_stage_was_over(rules: Rules) -> None:
    case = opened(rules)
    for verb, role in (
        ("sign", "grid_worker"), ("contact", "unit"), ("start", "unit"), ("handle", "unit"),
        ("check_fail", "centre"), ("handle", "unit"), ("check_pass", "centre"), ("visit", "centre"),
        ("close", "centre"),
    ):  # fmt: skip
        done(case, verb, role, rules)
    order = case.order
    for name in ("signed_at", "contacted_at", "handled_at", "checked_at", "closed_at"):
        assert order[name] == NOW
    assert (order["state"], order["reworks"], order["handler"]) == ("CLOSED", 1, "a7")
    assert (order["first_visit"], order["final_visit"], order["solved"]) == (
        "satisfied", "satisfied", "solved",
    )  # fmt: skip


def test_a_returned_order_goes_to_the_next_unit_and_counts(rules: Rules) -> None:
    case = opened(rules)
    back, new = done(case, "return", "unit", rules)
    assert back.order["state"] == "RETURNED"
    assert (new.before, new.order["state"], new.order["unit_code"]) == (
        "UNKNOWN", "DISPATCHED", NEXT,
    )  # fmt: skip
    assert new.order["order_id"] == order_id("e1", NEXT)
    assert (new.order["version"], new.order["sequence"], new.order["returns"]) == (1, 2, 1)
    assert case.former == [[order_id("e1", UNIT), UNIT, "RETURNED"]]
    reason = refused(case, "sign", "unit", rules, order_id=order_id("e1", UNIT))
    assert reason == "illegal"


def test_what_everybody_returned_waits_for_a_person_with_the_reason(rules: Rules) -> None:
    case = opened(rules)
    units = []
    while case.order["state"] == "DISPATCHED":
        units.append(case.order["unit_code"])
        last = done(case, "return", "unit", rules)[-1]
    assert len(set(units)) == len(units)
    assert (case.order["state"], last.verb) == ("NEEDS_REVIEW", "park")
    assert last.reason
    # Only by name can a unit have it again; it is another order.
    assert refused(case, "assign", "centre", rules) == "bad_field"
    old, again = done(case, "assign", "centre", rules, to_unit=UNIT)
    assert (old.order["state"], again.order["state"]) == ("WITHDRAWN", "DISPATCHED")
    assert again.order["order_id"] == order_id("e1", UNIT, 1)
    assert again.order["sequence"] == len(units) + 2


def test_an_extension_moves_the_deadlines_and_is_noticed_anew(rules: Rules) -> None:
    case = brought(rules, "SIGNED", near_due=True)
    before = case.order
    done(case, "ask_extension", "unit", rules)
    assert case.order["due_at"] == before["due_at"]
    done(case, "grant_extension", "centre", rules, extend_value=0.0, extend_unit="")
    order = case.order
    for name in ("due_at", "handle_due_at", "check_due_at"):
        assert order[name] == before[name] + 4 * HOUR_MS
    assert (order["state"], order["extensions"], order["near_due"]) == ("EXTENDED", 1, False)
    assert refused(case, "refuse_extension", "centre", rules) == "illegal"


def test_while_the_clock_stands_nothing_is_late_and_as_much_is_left_as_before(
    city: CityPack,
) -> None:
    rules = city_rules(city)
    case = opened(rules, "0102")
    due_at, handle = case.order["due_at"], case.order["handle_due_at"]
    done(case, "sign", "unit", rules)
    done(case, "suspend", "centre", rules)
    assert next_notice(case.order) is None
    later = NOW + 30 * HOUR_MS
    assert not isinstance(
        act(case, asked(case, "resume", "centre", at=later), rules, later), Refusal
    )
    assert case.order["state"] == "SIGNED"
    clock, unit = rules.clock, case.order["deadline_unit"]
    left = clock.between(NOW, handle, unit)
    assert clock.between(later, case.order["handle_due_at"], unit) == left
    assert case.order["due_at"] > due_at
    assert (case.order["paused_at"], case.order["paused_ms"]) == (None, 30 * HOUR_MS)


def test_a_suspended_order_that_was_withdrawn_is_suspended_again_and_goes_on(rules: Rules) -> None:
    case = brought(rules, "HANDLING")
    done(case, "suspend", "centre", rules)
    assert turn(case, "withdraw", "gone", NOW, rules)[0].order["state"] == "WITHDRAWN"
    assert turn(case, "restore", "back", NOW, rules)[0].order["state"] == "SUSPENDED"
    done(case, "resume", "centre", rules)
    assert (case.order["state"], case.order["before"]) == ("HANDLING", "")


def test_an_unsatisfied_citizen_has_it_done_again_once_without_a_decision(rules: Rules) -> None:
    case = brought(rules, "CLOSED", signed_at=NOW, overdue=True)
    said = {"visit": "unsatisfied", "solved": "unsolved"}
    visit, again = done(case, "visit", "citizen", rules, **said)
    assert (visit.order["state"], again.before, again.order["state"]) == (
        "CLOSED", "CLOSED", "REOPENED",
    )  # fmt: skip
    assert again.role == "system"
    order = case.order
    assert (order["reopens"], order["signed_at"], order["overdue"]) == (1, None, False)
    assert order["order_id"] == visit.order["order_id"]
    # The second time, a person decides.
    case.order = case.order | {"state": "REVISITED"}
    assert len(done(case, "visit", "centre", rules, **said)) == 1
    assert (case.order["first_visit"], case.order["final_visit"]) == ("unsatisfied", "unsatisfied")


def test_told_again_within_72_hours_the_closing_was_false(rules: Rules) -> None:
    limit = NOW + FALSE_CLOSURE_MS
    case = brought(rules, "CLOSED")
    assert told_again(case, limit + 1, "again", rules) == []
    assert refused_later(case, rules, limit + 1) == "too_late"
    (step,) = told_again(case, limit, "again", rules)
    assert step.order["false_closure"]
    assert step.order["state"] == "CLOSED"
    assert told_again(case, limit, "again", rules) == []
    assert refused_later(case, rules, limit) == "already_done"


def refused_later(case: Case, rules: Rules, at: int) -> str:
    action = asked(case, "false_closure", "system", order_id="", at=at)
    refusal = act(case, action, rules, at)
    assert isinstance(refusal, Refusal)
    return refusal.reason


# --- time ------------------------------------------------------------------------------------------


def test_each_deadline_is_noticed_once_at_its_instant_and_keeps_the_state(rules: Rules) -> None:
    case = opened(rules, "0102")
    order = case.order
    assert notice(case, rules, order["dispatched_at"]) == []
    steps = notice(case, rules, order["due_at"])
    assert {step.verb for step in steps} == {
        "sign_overdue", "handle_overdue", "near_due", "overdue",
    }  # fmt: skip
    assert [s.at for s in steps] == sorted(s.at for s in steps)
    assert {s.verb: s.at for s in steps}["overdue"] == order["due_at"]
    assert {s.order["state"] for s in steps} == {"DISPATCHED"}
    assert [s.order["version"] for s in steps] == [2, 3, 4, 5]
    assert len({transition_id(s.order["order_id"], s.order["version"]) for s in steps}) == 4
    assert notice(case, rules, order["due_at"] + 10**10) == []


def test_what_nobody_can_take_is_late_once_the_time_for_dispatch_is_over(rules: Rules) -> None:
    case = opened(rules)
    returned_at = case.order["due_at"] + HOUR_MS
    while case.order["state"] != "NEEDS_REVIEW":
        act(case, asked(case, "return", "unit", at=returned_at), rules, returned_at)
    due_at = case.order["dispatch_due_at"]
    assert due_at > returned_at
    assert notice(case, rules, due_at - 1) == []
    (step,) = notice(case, rules, due_at + HOUR_MS)
    assert (step.verb, step.role, step.at) == ("dispatch_overdue", "system", due_at)
    assert step.order["state"] == "NEEDS_REVIEW"
    assert notice(case, rules, due_at + 10**10) == []
    # Who has it then has deadlines of its own; should it come back once more, the time begins anew.
    now = due_at + 2 * HOUR_MS
    act(case, asked(case, "assign", "centre", to_unit=UNIT, at=now), rules, now)
    assert {step.verb for step in notice(case, rules, now + 10**11)} >= {"sign_overdue"}
    act(case, asked(case, "return", "unit", at=now), rules, now)
    assert next_notice(case.order) == (case.order["dispatch_due_at"], "dispatch_overdue")


def test_what_was_never_anybodys_is_late_from_the_events_opening_on(rules: Rules) -> None:
    nobody = replace(rules, duties=Nobody())
    event = opened(rules).event
    case, (step,) = first(event, nobody, NOW + HOUR_MS)
    due_at = opened(rules).order["dispatch_due_at"]
    assert (step.verb, case.order["dispatch_due_at"]) == ("park", due_at)
    case, (step,) = first({**event, "opened_at": -HOUR_MS}, replace(nobody, stages=_no_calendar), 0)
    assert case.order["dispatch_due_at"] is None
    assert "no deadline" in step.reason
    assert next_notice(case.order) is None


MINUTE_MS = 60_000
GENERAL = "0201"


def parked(rules: Rules, at: int = NOW, class_code: str = GENERAL, **event: Any) -> Case:
    """The order of an event that may be another."""
    return first({**opened(rules, class_code).event, **event}, rules, at, known="e0")[0]


def test_an_order_whose_event_may_be_known_waits_for_a_person_and_says_for_which(
    rules: Rules,
) -> None:
    case, (step,) = first(opened(rules, GENERAL).event, rules, NOW, known="e0")
    order = case.order
    assert (step.verb, step.reason, order["state"]) == ("park", "may_be_known: e0", "NEEDS_REVIEW")
    assert order["unit_code"] == opened(rules, GENERAL).order["unit_code"]
    assert (order["due_at"], order["sign_due_at"]) == (None, None)
    # Another matter, says somebody: now the unit's time begins.
    now = NOW + 7 * MINUTE_MS
    (step,) = act(case, asked(case, "dispatch", "centre", at=now), rules, now)  # type: ignore[misc]
    at_once = opened(rules, GENERAL, NOW).order
    assert (step.order["state"], step.order["dispatched_at"]) == ("DISPATCHED", now)
    assert step.order["sign_due_at"] >= at_once["sign_due_at"] > now
    assert step.order["due_at"] == at_once["due_at"]
    assert step.order["order_id"] == order["order_id"]
    assert {step.verb for step in notice(case, rules, NOW + 10**11)} >= {"sign_overdue", "overdue"}


def test_what_nobody_answers_is_dispatched_in_time_once(rules: Rules) -> None:
    case = parked(rules)
    until = NOW + 30 * MINUTE_MS
    assert next_notice(case.order) == (until, "dispatch")
    assert notice(case, rules, until - 1) == []
    now = until + 5 * MINUTE_MS
    (step,) = notice(case, rules, now)
    assert (step.verb, step.role, step.at) == ("dispatch", "system", now)
    assert step.reason == "nobody answered whether the event is known"
    assert (step.order["state"], step.order["dispatched_at"]) == ("DISPATCHED", now)
    assert "dispatch" not in {step.verb for step in notice(case, rules, NOW + 10**11)}


def test_it_never_waits_beyond_its_time_for_dispatch(rules: Rules) -> None:
    short = replace(rules, stages=lambda *_: Stages(*[NOW + 4 * MINUTE_MS] * 6))
    assert parked(short).order["park_until"] == NOW + 4 * MINUTE_MS
    assert parked(short, NOW + 4 * MINUTE_MS).order["state"] == "DISPATCHED"
    unknown = replace(rules, stages=_no_calendar)
    assert parked(unknown).order["park_until"] == NOW + 30 * MINUTE_MS


@pytest.mark.parametrize(
    ("class_code", "park", "late_min"),
    [
        ("0102", Park(levels=[1, 2, 3]), 0),  # its hours are urgent ones
        ("0101", Park(levels=[3]), 0),
        (GENERAL, Park(minutes=0), 0),
        (GENERAL, None, 0),
        (GENERAL, Park(), 30),
    ],
)
def test_what_is_urgent_or_came_late_or_where_nothing_waits_is_dispatched_at_once(
    rules: Rules, class_code: str, park: Park | None, late_min: int
) -> None:
    case = parked(replace(rules, park=park), NOW + late_min * MINUTE_MS, class_code)
    assert case.order["state"] == "DISPATCHED"


def test_what_waits_can_be_given_to_another_unit_found_invalid_and_opened_again(
    rules: Rules,
) -> None:
    case = parked(rules)
    done(case, "assign", "centre", rules, to_unit=UNIT)
    assert (case.order["state"], case.order["unit_code"]) == ("DISPATCHED", UNIT)
    case = parked(rules)
    unit = case.order["unit_code"]
    done(case, "invalidate", "centre", rules)
    done(case, "reopen", "centre", rules)
    assert (case.order["state"], case.order["unit_code"]) == ("REOPENED", unit)
    assert case.order["due_at"]


def test_what_no_unit_had_is_not_dispatched_and_opened_again_goes_to_one(rules: Rules) -> None:
    case = opened(rules)
    while case.order["state"] != "NEEDS_REVIEW":
        done(case, "return", "unit", rules)
    assert case.order["unit_code"] == ""
    assert refused(case, "dispatch", "centre", rules) == "illegal"
    done(case, "invalidate", "centre", rules)
    nobodys = case.order["order_id"]
    again = copy.deepcopy(case)
    over, order = done(case, "reopen", "centre", rules)
    assert (over.order["order_id"], over.order["state"]) == (nobodys, "WITHDRAWN")
    assert (order.before, order.order["state"], order.order["unit_code"]) == (
        "UNKNOWN", "DISPATCHED", UNIT,
    )  # fmt: skip
    assert case.former[-1] == [nobodys, "", "WITHDRAWN"]
    assert order.order["order_id"] not in {identity for identity, *_ in case.former}
    # So does one that its event opens again.
    turn(again, "reopen", "told again", NOW, rules)
    assert (again.order["state"], again.order["unit_code"]) == ("DISPATCHED", UNIT)


class Nobody:
    """Duties of a city in which nobody has any."""

    def duty(self, event: Any) -> None: ...
    def next(self, event: Any, tried: Any) -> None: ...
    def named(self, event: Any, unit_code: str) -> None: ...


def _no_calendar(*_: Any) -> Stages:
    raise CalendarGap(1969)


@pytest.mark.parametrize("state", [*SETTLED, "RETURNED", "WITHDRAWN", "SUSPENDED"])
def test_what_is_over_or_stands_is_never_late(rules: Rules, state: str) -> None:
    assert next_notice(brought(rules, state).order) is None


def test_what_is_handled_in_time_is_late_only_as_a_whole(rules: Rules) -> None:
    case = brought(rules, "HANDLED", signed_at=NOW)
    steps = notice(case, rules, NOW + 10**11)
    assert [step.verb for step in steps] == ["near_due", "overdue"]


def test_a_deadline_that_the_calendar_does_not_tell_keeps_nobody_from_work(city: CityPack) -> None:
    rules = city_rules(city)
    far = NOW + 400 * 24 * HOUR_MS
    event = opened(rules).event
    case, (step,) = first({**event, "opened_at": far}, rules, far)
    assert (case.order["state"], case.order["due_at"]) == ("DISPATCHED", None)
    assert "calendar" in step.reason
    assert next_notice(case.order) is None


@pytest.mark.parametrize("state", [*OPEN, *OVER])
def test_what_is_over_is_forgotten_some_time_after_its_end(rules: Rules, state: str) -> None:
    case = brought(rules, state, state_at=NOW + HOUR_MS)
    over = state in OVER
    assert forgotten_at(case.order) == (NOW + HOUR_MS + REMEMBERED_MS if over else 0)


def test_an_order_is_remembered_longer_than_records_of_its_event_and_false_closings() -> None:
    (events,) = (topic for topic in load_topics(Settings()) if topic.name == "events")
    assert int(events.config["retention.ms"]) < REMEMBERED_MS
    assert FALSE_CLOSURE_MS < REMEMBERED_MS


def test_every_state_of_the_table_is_open_settled_or_over() -> None:
    assert set(STATES) == {*OPEN, *SETTLED, "RETURNED", "WITHDRAWN", "UNKNOWN"}
