"""The life cycle of an order (工单): one table of what may be done, and the pure function that does it.

Whoever acts asks for a *verb*; the table says from which states it may be done, by whom, and where it leads.
The states are the stages of GB/T 30428.8 (立案, 派遣, 处置, 核查, 结案) with the side ways of a hotline
(退单, 延期, 挂起, 督办, 重办, 误报, 直接答复). An action is done whole or refused with a reason; what it does
are steps, each one version of an order.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, Protocol, get_args

from schemas.city import DeadlineUnit, TimeLimit
from schemas.ids import order_id as id_of_order
from schemas.merge_policy import Park
from streams.asked import Refusal
from streams.dispatch.deadline import Stages

HOUR_MS = 3600 * 1000
#: An order that was closed and whose matter is told again so soon was closed falsely (假闭环).
FALSE_CLOSURE_MS = 72 * HOUR_MS
#: An order that is over can be visited, reopened or restored for so long after it ended; then it is forgotten.
#: Longer than topic ``events`` keeps a record, so that none that is old brings a forgotten order back.
REMEMBERED_MS = 40 * 24 * HOUR_MS
#: How far ahead of ours the clock of who acts may be.
AHEAD_MS = 5 * 60 * 1000
#: So often an unsatisfied citizen has the same order done again (不满意重办) without anybody's decision.
REOPENED_BY_VISIT = 1
#: Ids of actions done that an event's orders remember.
DONE_KEPT = 50
#: Why an order waits for a person, before the event that its own may be; and why it waits no more.
MAY_BE_KNOWN, NOT_ANSWERED = "may_be_known", "nobody answered whether the event is known"
#: What an order says that was handled before anybody had it.
ON_THE_SPOT = "settled on the spot by who reported it"
#: More of any unit than this is no extension.
EXTENSION_MAX = 1000

#: The state stays; the state of before it was suspended or withdrawn.
SAME: Final = "="
BEFORE: Final = "<"

TO_SIGN = ("DISPATCHED", "REOPENED", "SUPERVISED")
WORKED = ("SIGNED", "HANDLING", "EXTENDED")
#: The unit has it.
WORKING = (*TO_SIGN, *WORKED)
#: The unit is done, the centre not yet.
DONE = ("HANDLED", "CHECKED", "REVISITED")
#: Its deadline runs.
RUNNING = (*WORKING, *DONE)
OPEN = (*RUNNING, "SUSPENDED", "NEEDS_REVIEW")
#: Over with its event; it can only be opened again.
SETTLED = ("CLOSED", "INVALID", "DIRECT_ANSWERED")
#: Nobody works on it, and no other order took its place.
OVER = (*SETTLED, "WITHDRAWN")

UNIT = ("unit", "grid_worker")
CENTRE = ("centre",)
STEERING = ("centre", "supervisor")
SYSTEM = ("system",)
ROLES = (*UNIT, *STEERING, "citizen", *SYSTEM)


class Row(NamedTuple):
    """``verb`` leads an order from one of ``states`` to ``to``, when one of ``roles`` asks.

    ``needs``: fields of the action that must say something.
    """

    verb: str
    term: str
    states: tuple[str, ...]
    to: str
    roles: tuple[str, ...]
    needs: tuple[str, ...] = ()


TABLE = (
    Row("dispatch", "派遣", ("UNKNOWN", "NEEDS_REVIEW"), "DISPATCHED", (*STEERING, *SYSTEM)),
    Row("park", "待人工派遣", ("UNKNOWN",), "NEEDS_REVIEW", SYSTEM, ("reason",)),
    Row("sign", "签收", TO_SIGN, "SIGNED", UNIT),
    Row("contact", "响应", WORKING, SAME, UNIT),
    Row("start", "处置", ("SIGNED", "EXTENDED"), "HANDLING", UNIT),
    Row("handle", "办结", WORKED, "HANDLED", UNIT, ("note",)),
    Row("check_pass", "核查通过", ("HANDLED",), "CHECKED", CENTRE),
    Row("check_fail", "返工", ("HANDLED", "CHECKED"), "HANDLING", CENTRE, ("reason",)),
    Row("visit", "回访", ("HANDLED", "CLOSED"), SAME, ("centre", "citizen"), ("visit",)),
    Row("visit", "回访", ("CHECKED", "REVISITED"), "REVISITED", ("centre", "citizen"), ("visit",)),
    Row("close", "结案", ("CHECKED", "REVISITED"), "CLOSED", CENTRE),
    Row("return", "退单", (*TO_SIGN, "SIGNED"), "RETURNED", UNIT, ("reason",)),
    Row("assign", "改派", (*WORKING, "SUSPENDED", "NEEDS_REVIEW"), "WITHDRAWN", STEERING),
    Row("ask_extension", "申请延期", WORKED, SAME, UNIT,
        ("reason", "extend_value", "extend_unit")),
    Row("grant_extension", "同意延期", WORKED, "EXTENDED", CENTRE),
    Row("refuse_extension", "不同意延期", WORKED, SAME, CENTRE, ("reason",)),
    Row("suspend", "挂起", WORKING, "SUSPENDED", CENTRE, ("reason",)),
    Row("resume", "恢复", ("SUSPENDED",), BEFORE, CENTRE),
    Row("supervise", "督办", ("DISPATCHED", "REOPENED", *WORKED), "SUPERVISED", STEERING,
        ("reason",)),
    Row("reopen", "重办", (*DONE, *SETTLED), "REOPENED", (*STEERING, *SYSTEM), ("reason",)),
    Row("invalidate", "误报、不受理", (*WORKING, "SUSPENDED", "NEEDS_REVIEW"), "INVALID", CENTRE,
        ("reason",)),
    Row("direct_answer", "直接答复", (*TO_SIGN, "NEEDS_REVIEW"), "DIRECT_ANSWERED", CENTRE,
        ("note",)),
    Row("withdraw", "撤回", OPEN, "WITHDRAWN", SYSTEM, ("reason",)),
    Row("restore", "恢复派遣", ("WITHDRAWN",), BEFORE, SYSTEM, ("reason",)),
    Row("dispatch_overdue", "派遣超时", ("NEEDS_REVIEW",), SAME, SYSTEM),
    Row("sign_overdue", "签收超时", TO_SIGN, SAME, SYSTEM),
    Row("handle_overdue", "处置超时", WORKING, SAME, SYSTEM),
    Row("near_due", "临期", RUNNING, SAME, SYSTEM),
    Row("overdue", "超期", RUNNING, SAME, SYSTEM),
    Row("false_closure", "假闭环", ("CLOSED",), SAME, SYSTEM),
)  # fmt: skip
MOVES = {(row.verb, state): row for row in TABLE for state in row.states}
VISITS = ("satisfied", "unsatisfied", "unreachable")
SOLVED = ("solved", "unsolved")
DEADLINE_UNITS: tuple[str, ...] = get_args(DeadlineUnit)

Order = dict[str, Any]
#: What of an order stands in its event, and never changes.
OF_EVENT = ("event_id", "class_code", "district_code", "grid_code", "street_code", "opened_at")
#: An order before anybody acts. The last are no fields of its record: when it last took a step, when its
#: deadline comes near, the states to go back to, whether signing and handling were noticed as late, the
#: extension asked for, whether dispatch was noticed as late, from which number on the orders of its event are
#: counted, and until when it waits, at most, for a person to say whether its event is known.
NEW: Order = {
    "order_id": "", "version": 0, "state": "UNKNOWN", "unit_code": "", "unit_name": "", "level": "",
    "priority": 3, "dispatched_at": 0, "due_at": None, "rule": "", "sequence": 1,
    "deadline_value": 0.0, "deadline_unit": "", "dispatch_due_at": None, "sign_due_at": None,
    "handle_due_at": None, "check_due_at": None, "state_at": None, "signed_at": None,
    "contacted_at": None, "handled_at": None, "checked_at": None, "closed_at": None,
    "paused_at": None, "paused_ms": 0, "extensions": 0, "returns": 0, "reworks": 0, "reopens": 0,
    "supervised": False, "near_due": False, "overdue": False, "false_closure": False,
    "self_handled": False, "handler": "", "partners": [], "closed_when": "", "first_visit": "",
    "final_visit": "", "solved": "",
    "stepped_at": 0, "near_at": None, "before": "", "sign_overdue": False, "handle_overdue": False,
    "asked_value": 0.0, "asked_unit": "", "dispatch_overdue": False, "numbered": 0,
    "park_until": None, "first_visited_at": None, "visited_at": None,
}  # fmt: skip
#: What the KPIs judge an order by, beside its state and what never changes.
SCORED = (
    "dispatched_at", "due_at", "dispatch_due_at", "sign_due_at", "handle_due_at", "contacted_at",
    "handled_at", "closed_at", "paused_at", "first_visited_at", "visited_at", "extensions",
    "reworks", "reopens", "supervised", "false_closure", "self_handled", "handler", "first_visit",
    "final_visit", "solved",
)  # fmt: skip


class Step(NamedTuple):
    """One step of an order: the order after it, and who did what.

    ``replaced``: those of :data:`SCORED` that it changed, as they were; an instant that there was not is 0.
    """

    order: Order
    before: str
    verb: str
    actor: str
    role: str
    reason: str
    at: int
    action_id: str = ""
    media: Sequence[str] = ()
    replaced: Mapping[str, Any] | None = None


@dataclass(slots=True)
class Case:
    """The orders of one event: the one that counts, which others there were, what was done.

    ``event``: fields :data:`OF_EVENT` and what the duty list asks; ``former``: id, unit and state of each
    order before; ``done``: marks of the last actions done.
    """

    event: Mapping[str, Any]
    order: Order
    former: list[list[str]] = field(default_factory=list)
    done: list[str] = field(default_factory=list)


class Clock(Protocol):
    """Deadlines in the city's calendar; raises ValueError when the calendar does not tell."""

    def add(self, start_ms: int, value: float, unit: DeadlineUnit) -> int:
        """The instant when so much time has passed."""
        ...

    def between(self, start_ms: int, end_ms: int, unit: DeadlineUnit) -> float:
        """How much of a unit's time passes between two instants."""
        ...


@dataclass(frozen=True, slots=True)
class Duty:
    """A unit that may take an event, by which rule, and its deadline; no ``unit``: no deadline."""

    unit_code: str
    unit_name: str
    level: str
    rule: str
    deadline: float = 0.0
    unit: DeadlineUnit | None = None
    closed_when: str = ""
    partners: tuple[str, ...] = ()


class Duties(Protocol):
    """Who may take an event (a mapping as in :class:`Case`)."""

    def duty(self, event: Mapping[str, Any]) -> Duty | None:
        """The unit whose duty it is; None: nobody's."""
        ...

    def next(self, event: Mapping[str, Any], tried: Sequence[str]) -> Duty | None:
        """Who comes after the units that had it; None: nobody."""
        ...

    def named(self, event: Mapping[str, Any], unit_code: str) -> Duty | None:
        """The unit of a code, whoever's duty it is; None: no such unit."""
        ...


@dataclass(frozen=True, slots=True)
class Rules:
    """What the life cycle asks of the city.

    ``priorities``: class → 1 red, 2 urgent, 3 normal. ``stages``: the deadlines of the stages, by priority,
    受理时间, time of dispatch and the duty's limit; without, there is the handling's alone. ``park``: which
    orders wait when their event may be known; without, none.
    """

    clock: Clock
    duties: Duties
    priorities: Mapping[str, int]
    stages: Callable[[int, int, int, TimeLimit], Stages] | None = None
    park: Park | None = None


def allowed(state: str, role: str) -> list[str]:
    """The verbs that a role may ask for of an order in a state."""
    return [row.verb for row in TABLE if state in row.states and role in row.roles]


class _RefusedError(Exception):
    """Ends an action before anything of it is done."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason)
        self.refusal = Refusal(reason, detail)


def first(
    event: Mapping[str, Any], rules: Rules, at: int, numbered: int = 0, known: str = ""
) -> tuple[Case, list[Step]]:
    """An event's first order: to the unit whose duty it is, or in want of a person, with the reason.

    ``numbered``: where former orders of the event may be forgotten, a number that none of them had. ``known``:
    another event that this one may be, where that may be asked first.
    """
    case = Case(event, NEW | {"numbered": numbered})
    steps = [_next_order(case, rules.duties.duty(event), rules, at, known=known)]
    case.order = steps[-1].order
    return case, steps


def settled(case: Case, channel: str, at: int, rules: Rules) -> list[Step]:
    """Who told of it settled the matter on the spot (自行处置): an order that a unit has is handled at once.

    Told by ``channel``. Whose work it was the report does not say openly; the centre checks it as any other.
    """
    steps: list[Step] = []
    said = _BY_SYSTEM | {"actor": channel, "role": UNIT[1], "note": ON_THE_SPOT, "handler": ""}
    for verb in ("sign", "handle"):
        row = MOVES.get((verb, case.order["state"]))
        if row is None:
            return steps
        # A channel is nobody whose work is counted.
        steps.append(_step(case.order, row, said, at, rules, self_handled=True, handler=""))
        _take(case, steps[-1:])
    return steps


def act(case: Case, action: Mapping[str, Any], rules: Rules, now_ms: int) -> list[Step] | Refusal:
    """Do an action (an OrderAction record) on an event's orders: its steps, taken already, or why not.

    A step is never earlier than the one before it, whatever the actor's clock says. A refusal leaves
    ``case`` as it was.
    """
    mark = mark_of(action["action_id"])
    if mark in case.done:
        return Refusal("already_done", "an action of this id is done; for another, choose a new id")
    try:
        row = _permitted(case, action, now_ms)
        at = max(action["at"], case.order["stepped_at"])
        steps = [_step(case.order, row, action, at, rules)]
        steps += _following(case, steps[0], action, rules)
    except _RefusedError as refused:
        return refused.refusal
    except ValueError as error:
        return Refusal("no_calendar", f"{error}; nothing was done")
    _take(case, steps)
    case.done = [*case.done[1 - DONE_KEPT :], mark]
    return steps


def turn(case: Case, verb: str, reason: str, at: int, rules: Rules) -> list[Step]:
    """A step that the event itself causes, if the table has it in the order's state."""
    row = MOVES.get((verb, case.order["state"]))
    if row is None:
        return []
    action = _BY_SYSTEM | {"reason": reason}
    step = _step(case.order, row, action, max(at, case.order["stepped_at"]), rules)
    steps = [step, *_following(case, step, action, rules)]
    _take(case, steps)
    return steps


def _take(case: Case, steps: Sequence[Step]) -> None:
    """Let a case be where steps lead; an order that ended for the next one is a former one."""
    if steps[-1].order["sequence"] != case.order["sequence"]:
        case.former.append([steps[0].order[name] for name in ("order_id", "unit_code", "state")])
    case.order = steps[-1].order


def told_again(case: Case, at: int, reason: str, rules: Rules) -> list[Step]:
    """The matter of a settled order was told again at an instant: closed falsely, if so soon."""
    closed_at = case.order["closed_at"]
    if closed_at is None or case.order["false_closure"] or at - closed_at > FALSE_CLOSURE_MS:
        return []
    return turn(case, "false_closure", reason, at, rules)


def next_notice(order: Order) -> tuple[int, str] | None:
    """The next of an order's deadlines that time alone will pass, each noticed once: when, and its verb.

    What waits for a person to say whether it is known is dispatched when it has waited long enough. Dispatch is
    overdue until somebody has the order. The whole is near in the last quarter of its time and
    overdue until it is closed, handling and signing until the unit has done them; nothing while the clock
    stands.
    """
    state = order["state"]
    if state not in _RUNNING:
        due_at = order["dispatch_due_at"]
        if state == "NEEDS_REVIEW" and order["park_until"] is not None:
            return order["park_until"], "dispatch"
        if state != "NEEDS_REVIEW" or due_at is None or order["dispatch_overdue"]:
            return None
        return due_at, "dispatch_overdue"
    found = None
    due_at = order["due_at"]
    if due_at is not None and not order["overdue"]:
        near = not order["near_due"] and order["stepped_at"] < due_at
        found = (order["near_at"], "near_due") if near else (due_at, "overdue")
    if state in _WORKING:
        for name in ("handle", "sign") if order["signed_at"] is None else ("handle",):
            stage_at, verb = order[_STAGE_DUE[name]], _STAGE_OVERDUE[name]
            if stage_at is not None and not order[verb] and (found is None or stage_at < found[0]):
                found = stage_at, verb
    return found


def notice(case: Case, rules: Rules, now_ms: int) -> list[Step]:
    """The notices that are due by now, as steps at the instants when they fell due.

    What waited is dispatched now, whenever it should have been: only from now on a unit has it.
    """
    steps: list[Step] = []
    while (due := next_notice(case.order)) is not None and due[0] <= now_ms:
        # What is in want of a person always says why.
        why = "nobody assigned it in time" if due[1] == "dispatch_overdue" else ""
        if due[1] == "dispatch":
            steps += turn(case, "dispatch", NOT_ANSWERED, now_ms, rules)
        else:
            steps += turn(case, due[1], why, due[0], rules)
    return steps


def forgotten_at(order: Order) -> int:
    """The instant from which nothing can happen any more to an order that is over; 0 while it is open."""
    if order["state"] not in OVER:
        return 0
    ended: int = max(order["state_at"], order["opened_at"])
    return ended + REMEMBERED_MS


def mark_of(action_id: str) -> str:
    """What is kept of an action's id, of any length."""
    return hashlib.blake2b(action_id.encode(), digest_size=9).hexdigest()


_WORKING = frozenset(WORKING)
_RUNNING = frozenset(RUNNING)
_STAGE_DUE = {"handle": "handle_due_at", "sign": "sign_due_at"}
_STAGE_OVERDUE = {"handle": "handle_overdue", "sign": "sign_overdue"}
_BY_SYSTEM: dict[str, Any] = {
    "actor": "system", "role": "system", "reason": "", "note": "", "media": [], "action_id": "",
}  # fmt: skip
#: Deadlines that a pause or a new round moves.
_DUES = ("due_at", "sign_due_at", "handle_due_at", "check_due_at", "near_at")
#: Deadline of an order → its stage.
_STAGES = {
    "dispatch_due_at": "dispatch", "sign_due_at": "sign", "handle_due_at": "handle",
    "check_due_at": "check",
}  # fmt: skip


def _permitted(case: Case, action: Mapping[str, Any], now_ms: int) -> Row:
    """The row of the table by which an action may be done; else it is refused."""
    order, verb, role = case.order, action["action"], action["role"]
    if action["order_id"] != order["order_id"] and (action["order_id"] or role != "system"):
        for identity, unit, state in case.former:
            if identity == action["order_id"]:
                raise _RefusedError(
                    "illegal",
                    f"the order of {unit} ended as {state}; order {order['order_id']} took its place",
                )
        raise _RefusedError("unknown_order", "the event has no order of this id; read it again")
    if action["at"] > now_ms + AHEAD_MS:
        raise _RefusedError("in_future", "the action is later than now; set the clock right")
    rows = _BY_VERB.get(verb)
    if rows is None:
        raise _RefusedError("unknown_action", f"{verb!r} is none of {', '.join(_BY_VERB)}")
    if role not in rows.roles:
        raise _RefusedError(
            "wrong_role", f"{verb} is for {', '.join(rows.roles)}, not for {role!r}"
        )
    if role in UNIT and action["unit_code"] != order["unit_code"]:
        raise _RefusedError(
            "not_yours",
            f"the order is {order['unit_code']}'s, the actor of {action['unit_code'] or 'no unit'}",
        )
    if action["version"] is not None and action["version"] != order["version"]:
        raise _RefusedError(
            "stale", f"the order is at version {order['version']} now; read it and decide again"
        )
    row = MOVES.get((verb, order["state"]))
    if row is None:
        can = ", ".join(allowed(order["state"], role)) or "nothing"
        raise _RefusedError(
            "illegal", f"no {verb} of an order in {order['state']}; {role} may do: {can}"
        )
    for name in row.needs:
        lack = _lack(name, action)
        if lack:
            raise _RefusedError("bad_field", f"{verb} needs {name}: {lack}")
    return row


_BY_VERB = {row.verb: row for row in TABLE}


def _lack(name: str, action: Mapping[str, Any]) -> str:
    """What is wrong with a field that must say something; empty: nothing."""
    value = action[name]
    match name:
        case "reason":
            return "" if value.strip() else "say why"
        case "note":
            return "" if value.strip() else "say what was done, for the citizen too"
        case "visit":
            if value not in VISITS:
                return f"one of {', '.join(VISITS)}"
            solved = action["solved"]
            if value == "unreachable":
                return "nobody was reached, so leave solved empty" if solved else ""
            return "" if solved in ("", *SOLVED) else f"solved is one of {', '.join(SOLVED)}"
        case "extend_value":
            return "" if 0 < value <= EXTENSION_MAX else f"above 0, at most {EXTENSION_MAX}"
        case "extend_unit":
            return "" if value in DEADLINE_UNITS else f"one of {', '.join(DEADLINE_UNITS)}"
    raise AssertionError(name)


def _step(
    order: Order, row: Row, action: Mapping[str, Any], at: int, rules: Rules, **also: Any
) -> Step:
    """The order after a row of the table; ``also``: what it changes beside what the verb does."""
    after = order.copy()
    after["version"] += 1
    after["stepped_at"] = at
    before = order["state"]
    to = row.to
    if row.verb == "reopen" and not order["unit_code"]:
        # It never had a unit: the next order has one.
        to = "WITHDRAWN"
    if to in ("SUSPENDED", "WITHDRAWN"):
        after["before"] = f"{before} {order['before']}"
    elif to == BEFORE:
        to, _, after["before"] = order["before"].partition(" ")
    elif to == SAME:
        to = before
    if to != before:
        after["state"], after["state_at"] = to, at
    after.update(_changes(row.verb, order, action, at, rules), **also)
    return Step(
        after, before, row.verb, action["actor"], action["role"],
        action["reason"] or action["note"], at, action["action_id"], action["media"],
        replaced(order, after),
    )  # fmt: skip


def replaced(order: Order, after: Order) -> Order:
    """What is scored of an order (:data:`SCORED`) and is another after a step, as it was; 0 for no instant."""
    return {
        name: 0 if order[name] is None else order[name]
        for name in SCORED
        if order[name] != after[name]
    }


def _changes(
    verb: str, order: Order, action: Mapping[str, Any], at: int, rules: Rules
) -> Mapping[str, Any]:
    """What a verb changes beside the state."""
    match verb:
        case "dispatch":
            if not order["unit_code"]:
                raise _RefusedError("illegal", "no unit of the duty list is left; assign it to one")
            return {"dispatched_at": at, "park_until": None} | _round(
                order, order["opened_at"], at, rules
            )[0]
        case "sign" | "contact" | "start":
            name = {"sign": "signed_at", "contact": "contacted_at"}.get(verb)
            changes: Order = {}
            if name and order[name] is None:
                changes[name] = at
            handler = action["handler"] or (action["actor"] if action["role"] == UNIT[1] else "")
            if handler:
                changes["handler"] = handler
            return changes
        case "handle":
            return {"handled_at": at}
        case "check_pass":
            return {"checked_at": at}
        case "check_fail":
            return {"reworks": order["reworks"] + 1, "self_handled": False}
        case "visit":
            visit = action["visit"]
            if visit == "unreachable" and action["role"] == "citizen":
                raise _RefusedError("bad_field", "visit: a citizen who answers is not unreachable")
            return {
                "first_visit": order["first_visit"] or visit,
                "final_visit": visit,
                "solved": action["solved"],
                "first_visited_at": order["first_visited_at"] or at,
                "visited_at": at,
            }
        case "close":
            return {"closed_at": at}
        case "ask_extension":
            if order["due_at"] is None:
                raise _RefusedError("illegal", "the order has no deadline to extend")
            if at > (order["handle_due_at"] or order["due_at"]):
                raise _RefusedError("too_late", "the deadline has passed; ask the centre for help")
            return {"asked_value": action["extend_value"], "asked_unit": action["extend_unit"]}
        case "grant_extension":
            return _extended(order, action, at, rules)
        case "refuse_extension":
            if not order["asked_unit"]:
                raise _RefusedError("illegal", "no extension was asked for")
            return _NOT_ASKED
        case "suspend":
            return {"paused_at": at}
        case "resume":
            return _resumed(order, at, rules)
        case "supervise":
            return {"supervised": True}
        case "reopen":
            again = {"reopens": order["reopens"] + 1, "signed_at": None, "self_handled": False}
            again |= {"paused_at": None, "before": ""}
            return again | _NOT_ASKED | _round(order, at, at, rules)[0]
        case "false_closure":
            if order["false_closure"]:
                raise _RefusedError("already_done", "the closing is known to be false")
            if action.get("at", at) - order["closed_at"] > FALSE_CLOSURE_MS:
                raise _RefusedError("too_late", "told again more than 72 h after it was closed")
            return {verb: True}
        case "near_due" | "overdue" | "sign_overdue" | "handle_overdue" | "dispatch_overdue":
            return {verb: True}
    return {}


_NOT_ASKED: Order = {"asked_value": 0.0, "asked_unit": ""}


def _following(case: Case, step: Step, action: Mapping[str, Any], rules: Rules) -> list[Step]:
    """What an action's step brings with it."""
    order, event = step.order, case.event
    match step.verb:
        case "visit":
            again = MOVES.get(("reopen", order["state"]))
            bad = order["final_visit"] == "unsatisfied" and order["reopens"] < REOPENED_BY_VISIT
            if again is None or not bad:
                return []
            why = _BY_SYSTEM | {"reason": "unsatisfied", "action_id": action["action_id"]}
            return [_step(order, again, why, step.at, rules)]
        case "reopen" if order["state"] == "WITHDRAWN":
            return [_next_order(case, rules.duties.duty(event), rules, step.at)]
        case "return":
            tried = [unit for _, unit, _ in case.former] + [order["unit_code"]]
            duty = rules.duties.next(event, tried)
            return [_next_order(case, duty, rules, step.at, returned=True)]
        case "assign":
            asked, unit = action["to_unit"], order["unit_code"]
            if asked == unit:
                raise _RefusedError("bad_field", f"to_unit: {unit} has the order already")
            tried = [unit for _, unit, _ in case.former] + [unit]
            duty = rules.duties.named(event, asked) if asked else rules.duties.next(event, tried)
            if duty is None:
                lack = f"no unit {asked!r}" if asked else "the duty list has no other; name one"
                raise _RefusedError("bad_field", f"to_unit: {lack}")
            return [_next_order(case, duty, rules, step.at)]
    return []


def _next_order(
    case: Case,
    duty: Duty | None,
    rules: Rules,
    at: int,
    *,
    returned: bool = False,
    known: str = "",
) -> Step:
    """A new order of the event; without a duty, or as it may be ``known``, one in want of a person."""
    last, event = case.order, case.event
    code = duty.unit_code if duty else ""
    times = last["numbered"] + sum(unit == code for _, unit, _ in case.former)
    if last["version"]:
        times += last["unit_code"] == code
    order = NEW | {name: event[name] for name in OF_EVENT}
    order |= {
        "order_id": id_of_order(event["event_id"], code, times),
        "version": 1,
        "priority": rules.priorities.get(event["class_code"], 3),
        "dispatched_at": at,
        "stepped_at": at,
        "state_at": at,
        "sequence": last["sequence"] + 1 if last["version"] else 1,
        "returns": last["returns"] + returned,
        "numbered": last["numbered"],
    }
    if duty is None:
        verb, reason = "park", "nobody else of the duty list can take it; the centre assigns it"
        since = at if last["version"] else event["opened_at"]
        order["dispatch_due_at"], why = _dispatch_due(order["priority"], since, rules)
    else:
        order |= {
            "unit_code": code,
            "unit_name": duty.unit_name,
            "level": duty.level,
            "rule": duty.rule,
            "deadline_value": duty.deadline,
            "deadline_unit": duty.unit or "",
            "closed_when": duty.closed_when,
            "partners": list(duty.partners),
        }
        due_at, why = (
            _dispatch_due(order["priority"], event["opened_at"], rules) if known else (None, "")
        )
        until = _park_until(order, due_at, rules) if known else 0
        if until > at:
            verb, reason = "park", f"{MAY_BE_KNOWN}: {known}"
            order |= {"dispatch_due_at": due_at, "park_until": until}
        else:
            verb, reason = "dispatch", duty.rule
            dues, why = _round(order, event["opened_at"], at, rules)
            order |= dues
    order["state"] = _BY_VERB[verb].to
    reason = f"{reason}; {why}" if why else reason
    return Step(order, "UNKNOWN", verb, "system", "system", reason, at)


def _park_until(order: Order, due_at: int | None, rules: Rules) -> int:
    """Until when an order waits whose event may be known: never past its time for dispatch; 0: not at all."""
    park = rules.park
    if (
        park is None
        or order["priority"] not in park.levels
        or order["deadline_unit"] == "urgent_hour"
    ):
        return 0
    until: int = order["opened_at"] + round(park.minutes * 60_000)
    return until if due_at is None else min(until, due_at)


def _dispatch_due(priority: int, since: int, rules: Rules) -> tuple[int | None, str]:
    """Until when somebody should have an order that nobody has since an instant, or None and why."""
    if rules.stages is None:
        return None, ""
    try:
        return rules.stages(priority, since, since, TimeLimit(0.0, "urgent_hour")).dispatch, ""
    except ValueError as error:
        return None, f"no deadline: {error}"


def _round(order: Order, opened_at: int, at: int, rules: Rules) -> tuple[Order, str]:
    """The deadlines of an order whose clock begins now, or none and the reason why."""
    unit, value, why = order["deadline_unit"], order["deadline_value"], ""
    dues: Order = dict.fromkeys(("due_at", *_STAGES))
    try:
        if unit and rules.stages is None:
            dues["due_at"] = dues["handle_due_at"] = rules.clock.add(at, value, unit)
        elif unit and rules.stages is not None:
            found = rules.stages(order["priority"], opened_at, at, TimeLimit(value, unit))
            dues = {name: getattr(found, stage) for name, stage in _STAGES.items()}
            dues["due_at"] = found.total
    except ValueError as error:
        why = f"no deadline: {error}"
    notices = {"sign_overdue": False, "handle_overdue": False}
    return dues | new_deadline(dues["due_at"], at) | notices, why


def new_deadline(due_at: int | None, at: int) -> Order:
    """A deadline that moved is another one: near in the last quarter of the time that is left."""
    if due_at is None:
        return {"near_at": None, "near_due": False, "overdue": False}
    return {"near_at": due_at - max(0, due_at - at) // 4, "near_due": False, "overdue": False}


def _extended(order: Order, action: Mapping[str, Any], at: int, rules: Rules) -> Order:
    """The deadlines moved by what the centre grants: what it says itself, else what was asked."""
    if order["due_at"] is None:
        raise _RefusedError("illegal", "the order has no deadline to extend")
    value, unit = order["asked_value"], order["asked_unit"]
    if action["extend_unit"] or action["extend_value"]:
        value, unit = action["extend_value"], action["extend_unit"]
    for name in ("extend_value", "extend_unit"):
        lack = _lack(name, {"extend_value": value, "extend_unit": unit})
        if lack:
            raise _RefusedError("bad_field", f"grant_extension: nothing asked; {name}: {lack}")
    moved = {
        name: rules.clock.add(order[name], value, unit)
        for name in ("due_at", "handle_due_at", "check_due_at")
        if order[name] is not None
    }
    if moved["due_at"] > at:
        moved |= new_deadline(moved["due_at"], at)
    if moved.get("handle_due_at", at) > at:
        moved["handle_overdue"] = False
    return moved | _NOT_ASKED | {"extensions": order["extensions"] + 1}


def _resumed(order: Order, at: int, rules: Rules) -> Order:
    """The clock runs on: of every deadline ahead when it stopped, as much is left as then."""
    since = order["paused_at"]
    unit: DeadlineUnit = order["deadline_unit"] or "urgent_hour"
    moved = {
        name: rules.clock.add(at, rules.clock.between(since, order[name], unit), unit)
        for name in _DUES
        if order[name] is not None and order[name] > since
    }
    return moved | {"paused_at": None, "paused_ms": order["paused_ms"] + at - since}
