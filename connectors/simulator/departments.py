"""Departments that work on orders, centres that check them, citizens who rate: what each asks for, and when.

``departments.yaml`` has every number with its reason. What is planned for an order depends on the seed and the
order alone, when it is asked for on the instant at which the order came into its state and on the pace; so no
slow machine changes what a seed means. Pure: what is heard goes in, what is asked for comes out. The verbs,
states and roles are those of the life cycle (GB/T 30428.8: 签收, 处置, 核查, 结案, …).
"""

import heapq
import math
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, model_validator

from connectors.simulator.scenarios import FOLDER
from schemas.documents import read_document
from schemas.ids import action_id

FILE = FOLDER / "departments.yaml"
MINUTE_MS = 60_000
#: Of the normal distribution: nine of ten lie below so many deviations.
_P90 = 1.2816
#: A sham takes such a part of the time that the work would.
SHAM_TIME = 0.1
#: Units that send one matter away before somebody keeps it.
RETURNS = 2
#: Events that are over and remembered, so that no late record begins one anew (some 500 bytes each).
OVER = 100_000
#: On an extension that was asked for.
DECISIONS = ("grant_extension", "refuse_extension")
#: What tells how old a record of an event's order is, and where the order is.
AGE = ("sequence", "version")
PLACE = ("order_id", "state", "reworks", "reopens", "extensions", "paused_ms")
SUPERVISABLE = ("DISPATCHED", "REOPENED", "SIGNED", "HANDLING", "EXTENDED")

Record = dict[str, Any]
Share = Field(ge=0, le=1)
Visit = Literal["satisfied", "unsatisfied", "unreachable"]
Verb = Literal[
    "sign",
    "contact",
    "start",
    "handle",
    "return",
    "ask_extension",
    "check_pass",
    "check_fail",
    "close",
    "grant_extension",
    "refuse_extension",
    "suspend",
    "resume",
    "assign",
    "invalidate",
    "direct_answer",
    "supervise",
    "visit",
]
_Plan = Iterator[tuple[float, Verb, str, Mapping[str, Any]]]
#: What these say is a note for the citizen; of the others it is a reason.
NOTES = ("handle", "direct_answer")


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Delay(_Model):
    """How long something takes, minutes, log-normal: half by ``median``, nine of ten by ``p90``."""

    median: float = Field(gt=0)
    p90: float = Field(gt=0)

    @model_validator(mode="after")
    def _in_order(self) -> "Delay":
        if self.p90 < self.median:
            raise ValueError("p90 must be no less than median")
        return self

    def draw(self, luck: random.Random) -> float:
        """A delay in minutes."""
        return self.median * math.exp(luck.gauss(0.0, math.log(self.p90 / self.median) / _P90))


class Chance(Delay):
    """What happens to a share of the orders, and after how long."""

    share: float = Share


class Behaviour(_Model):
    """How orders of a class are dealt with; each field is explained where its number stands."""

    sign: Delay
    neglected: Chance
    grid_worker: float = Share
    returned: Chance
    invalid: Chance
    answered: Chance
    contact: Chance
    start: Delay
    handle: Delay
    extension: Chance
    granted: float = Share
    decide: Delay
    suspended: Chance
    resume: Delay
    sham: float = Share
    found: float = Share
    failed: float = Share
    check: Delay
    close: Delay
    visited: Chance
    before_closing: float = Share
    by_citizen: float = Share
    ratings: dict[Visit, float]
    sham_ratings: dict[Visit, float]
    supervised: Chance


class Behaviours(_Model):
    """``departments.yaml``."""

    default: Behaviour
    classes: dict[str, dict[str, Any]] = Field(default_factory=dict)
    words: dict[Verb, list[str]]
    _found: dict[str, Behaviour] = PrivateAttr(default_factory=dict)

    @model_validator(mode="after")
    def _whole(self) -> "Behaviours":
        base = self.default.model_dump()
        for prefix in sorted(self.classes, key=len):
            # A class is as the shorter prefixes of it say, but for what it says itself.
            above = next(
                (
                    self._found[prefix[:n]]
                    for n in range(len(prefix) - 1, 0, -1)
                    if prefix[:n] in self._found
                ),
                None,
            )
            known = above.model_dump() if above else base
            self._found[prefix] = Behaviour.model_validate(known | self.classes[prefix])
        return self

    def of(self, class_code: str) -> Behaviour:
        """How the orders of a class are dealt with."""
        for length in range(len(class_code), 0, -1):
            if (found := self._found.get(class_code[:length])) is not None:
                return found
        return self.default


@cache
def load_behaviours(path: Path = FILE) -> Behaviours:
    """Read the file; :class:`QuanyuError` names what is wrong in it."""
    return read_document(path, Behaviours)


class Step(NamedTuple):
    """Something that is to be asked for: when (ms), by whom, and what it says beside its words."""

    at: int
    verb: Verb
    role: str
    said: Mapping[str, Any] = {}


@dataclass(slots=True)
class _Case:
    """What is known of an event's order and what is planned for it.

    ``asked``: id of the action whose answer is awaited, and the version that it was asked of; ``behind``: it is
    answered, and the version that came of it, or came between, is not heard of yet; ``turn`` tells the entries
    of the schedule that hold from those that do not.
    """

    order: Mapping[str, Any]
    plan: list[Step] = field(default_factory=list)
    units: list[str] = field(default_factory=list)
    asked: tuple[str, int] | None = None
    behind: bool = False
    turn: int = 0


class Departments:
    """All that deal with the orders of a city.

    ``pace``: seconds of their time in a real one. Each event has at most one action whose answer is awaited.
    """

    def __init__(self, seed: int, behaviours: Behaviours, *, pace: float = 1.0) -> None:
        self._seed, self._behaviours, self._pace = seed, behaviours, pace
        self._cases: dict[str, _Case] = {}
        self._over: dict[str, Mapping[str, Any]] = {}
        self._schedule: list[tuple[int, str, int]] = []
        self._turns = 0
        self._open: dict[str, Record] = {}

    @property
    def unanswered(self) -> int:
        """Actions that were asked for and not answered yet."""
        return len(self._open)

    @property
    def next_at(self) -> int | None:
        """When something is to be asked for next, ms; None: nothing is planned."""
        return self._schedule[0][0] if self._schedule else None

    def hear(self, order: Mapping[str, Any]) -> None:
        """An order is at a version (an Order record); older ones than is known change nothing."""
        event_id = order["event_id"]
        case = self._cases.get(event_id)
        if case is None:
            last = self._over.get(event_id)
            if last is not None and (_age(order) <= _age(last) or _place(order) == _place(last)):
                return
            case = self._cases[event_id] = _Case(order)
        else:
            known = case.order
            if _age(order) <= _age(known):
                return
            if _place(order) == _place(known):
                self._goes_on(case, order)
                return
            case.order = order
        if order["unit_code"] and order["unit_code"] not in case.units:
            case.units.append(order["unit_code"])
        case.plan, case.asked, case.behind = self.plan(order, case.units), None, False
        self._next(case)

    def due(self, now_ms: int) -> list[Record]:
        """What is to be asked for by now, as OrderAction records."""
        found = []
        schedule = self._schedule
        while schedule and schedule[0][0] <= now_ms:
            _, event_id, turn = heapq.heappop(schedule)
            case = self._cases.get(event_id)
            if case is not None and case.turn == turn and case.plan and case.asked is None:
                found.append(self._ask(case, now_ms))
        return found

    def answered(self, outcome: Mapping[str, Any]) -> Record | None:
        """What became of an action (an ActionOutcome record): the action; None: it was not one of these."""
        action = self._open.pop(outcome["action_id"], None)
        if action is None:
            return None
        case = self._cases.get(action["event_id"])
        if case is None or case.asked is None or case.asked[0] != action["action_id"]:
            return action
        reason = outcome["reason"] if outcome["outcome"] == "refused" else ""
        version = case.asked[1]
        case.asked = None
        if reason in ("", "already_done", "stale"):
            case.behind = case.order["version"] == version
            if reason != "stale":
                del case.plan[0]
        elif reason == "too_late":
            case.plan = [step for step in case.plan[1:] if step.verb not in DECISIONS]
        else:
            # Somebody else was quicker; the order's next version tells what is to be done.
            case.plan.clear()
        if not case.behind:
            self._next(case)
        return action

    def plan(self, order: Mapping[str, Any], units: list[str]) -> list[Step]:
        """What will be asked for while an order is where it is, in time; ``units``: who had the matter."""
        behaviour = self._behaviours.of(order["class_code"])
        luck = self._luck(order, *_place(order))
        steps = []
        at = float(order["state_at"] or order["dispatched_at"])
        for minutes, verb, role, said in self._stage(order, behaviour, luck, units):
            at = self._after(at, minutes)
            steps.append(Step(int(at), verb, role, said))
        return sorted([*steps, *self._supervision(order, behaviour)], key=lambda step: step.at)

    def _stage(
        self, order: Mapping[str, Any], b: Behaviour, luck: random.Random, units: list[str]
    ) -> _Plan:
        """The steps of a state, each so many minutes after the one before it."""
        match order["state"]:
            case "DISPATCHED" | "REOPENED" | "SUPERVISED":
                yield from self._signing(order, b, luck)
            case "SIGNED":
                if order["contacted_at"] is None and luck.random() < b.contact.share:
                    yield b.contact.draw(luck), "contact", "unit", {}
                yield b.start.draw(luck), "start", _worker(b, luck), {}
            case "EXTENDED":
                yield b.start.draw(luck), "start", _worker(b, luck), {}
            case "HANDLING":
                yield from self._handling(order, b, luck)
            case "SUSPENDED":
                yield b.resume.draw(luck), "resume", "centre", {}
            case "HANDLED":
                bad = b.found if self._sham(order, b) else b.failed
                # What was sent back twice is let pass.
                fails = luck.random() < bad and order["reworks"] < 2
                yield b.check.draw(luck), "check_fail" if fails else "check_pass", "centre", {}
            case "CHECKED":
                if self._visited(order, b) and self._before_closing(order, b):
                    yield from self._visit(order, b, luck)
                else:
                    yield b.close.draw(luck), "close", "centre", {}
            case "REVISITED":
                yield b.close.draw(luck), "close", "centre", {}
            case "CLOSED":
                if self._visited(order, b) and not self._before_closing(order, b):
                    yield from self._visit(order, b, luck)
            case "NEEDS_REVIEW":
                if order["unit_code"]:
                    # Whether it is known, is the desk's to say; if nobody does, time dispatches it.
                    return
                if units:
                    # Nobody wants it, so the centre names who had it first.
                    yield b.decide.draw(luck), "assign", "centre", {"to_unit": units[0]}
                else:
                    yield b.decide.draw(luck), "direct_answer", "centre", {}

    def _signing(self, order: Mapping[str, Any], b: Behaviour, luck: random.Random) -> _Plan:
        """A unit has it and has not said that it takes it."""
        if order["state"] == "DISPATCHED":
            draw = luck.random()
            ways: tuple[tuple[Chance, Verb, str], ...] = (
                (b.invalid, "invalidate", "centre"),
                (b.answered, "direct_answer", "centre"),
                (b.returned, "return", "unit"),
            )
            for chance, verb, role in ways:
                if draw < chance.share and (verb != "return" or order["returns"] < RETURNS):
                    yield chance.draw(luck), verb, role, {}
                    return
                draw -= chance.share
            if luck.random() < b.neglected.share:
                yield b.neglected.draw(luck), "sign", "unit", {}
                return
        yield b.sign.draw(luck), "sign", _worker(b, luck), {}

    def _handling(self, order: Mapping[str, Any], b: Behaviour, luck: random.Random) -> _Plan:
        """The work, or what only looks like it."""
        whole = b.handle.draw(luck)
        if self._sham(order, b):
            yield whole * SHAM_TIME, "handle", "unit", {}
            return
        asked = min(b.extension.draw(luck), whole / 2)
        asks = not order["extensions"] and luck.random() < b.extension.share
        if asks and self._after(order["state_at"], asked) < (order["due_at"] or 0):
            # As much again as the duty list gives.
            more = {name: order[f"deadline_{name}"] for name in ("value", "unit")}
            yield asked, "ask_extension", "unit", {f"extend_{name}": more[name] for name in more}
            granted = luck.random() < b.granted
            yield (
                b.decide.draw(luck),
                "grant_extension" if granted else "refuse_extension",
                "centre",
                {},
            )
            whole -= asked
        elif not order["paused_ms"] and luck.random() < b.suspended.share:
            yield b.suspended.draw(luck), "suspend", "centre", {}
            return
        yield whole, "handle", _worker(b, luck), {}

    def _visit(self, order: Mapping[str, Any], b: Behaviour, luck: random.Random) -> _Plan:
        """Somebody is asked whether it is done; who is not reached may be asked once more."""
        weights = b.sham_ratings if self._sham(order, b) else b.ratings
        for _ in range(2):
            (visit,) = luck.choices(list(weights), list(weights.values()))
            said: dict[str, str] = {"visit": visit}
            role = "centre"
            if visit != "unreachable":
                role = "citizen" if luck.random() < b.by_citizen else "centre"
                said["solved"] = "solved" if visit == "satisfied" else "unsolved"
            yield b.visited.draw(luck), "visit", role, said
            # A visit before the closing leads on at once.
            if visit != "unreachable" or order["state"] != "CLOSED":
                return

    def _supervision(self, order: Mapping[str, Any], b: Behaviour) -> list[Step]:
        """Who steers takes notice of what is late, once."""
        if order["supervised"] or not order["overdue"] or order["state"] not in SUPERVISABLE:
            return []
        luck = self._luck(order, "supervision", order["reopens"])
        if order["due_at"] is None or luck.random() >= b.supervised.share:
            return []
        at = self._after(order["due_at"], b.supervised.draw(luck))
        return [Step(int(at), "supervise", "supervisor")]

    def _sham(self, order: Mapping[str, Any], b: Behaviour) -> bool:
        """Whether the unit's work is a sham, this time; told again, it does it."""
        again = order["reworks"] + order["reopens"]
        return again == 0 and self._luck(order, "sham").random() < b.sham

    def _visited(self, order: Mapping[str, Any], b: Behaviour) -> bool:
        """Whether anybody asks the citizen, this time."""
        return self._luck(order, "visited", order["reopens"]).random() < b.visited.share

    def _before_closing(self, order: Mapping[str, Any], b: Behaviour) -> bool:
        """Whether that is before the order is closed."""
        return self._luck(order, "before", order["reopens"]).random() < b.before_closing

    def _after(self, at: float, minutes: float) -> float:
        """The instant so many of their minutes later, ms."""
        return at + minutes * MINUTE_MS / self._pace

    def _luck(self, order: Mapping[str, Any], *what: object) -> random.Random:
        text = "/".join(map(str, (self._seed, order["order_id"], *what)))
        return random.Random(text)  # noqa: S311 - a simulation

    def _goes_on(self, case: _Case, order: Mapping[str, Any]) -> None:
        """The order is where it was: so is the plan."""
        late = order["overdue"] and not case.order["overdue"]
        case.order = order
        if late:
            more = self._supervision(order, self._behaviours.of(order["class_code"]))
            first = 0 if case.asked is None else 1
            case.plan[first:] = sorted([*case.plan[first:], *more], key=lambda step: step.at)
        if late or case.behind:
            case.behind = False
            self._next(case)

    def _next(self, case: _Case) -> None:
        """Put the first step of a plan into the schedule; forget whose plan is done with."""
        if case.asked is not None:
            return
        event_id = case.order["event_id"]
        self._turns += 1
        case.turn = self._turns
        if case.plan:
            heapq.heappush(self._schedule, (case.plan[0].at, event_id, case.turn))
        elif case.order["state"] in ("CLOSED", "INVALID", "DIRECT_ANSWERED", "WITHDRAWN"):
            del self._cases[event_id]
            self._over.pop(event_id, None)
            self._over[event_id] = {name: case.order[name] for name in (*AGE, *PLACE)}
            if len(self._over) > OVER:
                del self._over[next(iter(self._over))]

    def _ask(self, case: _Case, now_ms: int) -> Record:
        step, order = case.plan[0], case.order
        luck = self._luck(order, order["version"], step.verb)
        words = self._behaviours.words.get(step.verb, [])
        text = luck.choice(words) if words else ""
        of_unit = step.role in ("unit", "grid_worker")
        version = order["version"]
        if of_unit:
            actor = f"{order['unit_code']}-{luck.randint(1, 9)}"
        else:
            actor = "citizen" if step.role == "citizen" else f"{order['district_code']}-{step.role}"
        action: Record = {
            "action_id": action_id(step.verb, f"{self._seed}/{order['order_id']}", str(version)),
            "order_id": order["order_id"],
            "event_id": order["event_id"],
            "action": step.verb,
            "version": version if of_unit else None,
            "actor": actor,
            "role": step.role,
            "unit_code": order["unit_code"] if of_unit else "",
            "reason": "" if step.verb in NOTES else text,
            "note": text if step.verb in NOTES else "",
            "at": now_ms,
            **step.said,
        }
        case.asked = (action["action_id"], version)
        self._open[action["action_id"]] = action
        return action


def _place(order: Mapping[str, Any]) -> tuple[object, ...]:
    """Where an order is on its way: steps that do not lead on leave it."""
    return tuple(order[name] for name in PLACE)


def _age(order: Mapping[str, Any]) -> tuple[int, int]:
    """An event's orders come one after another, each version by version."""
    return order["sequence"], order["version"]


def _worker(b: Behaviour, luck: random.Random) -> str:
    return "grid_worker" if luck.random() < b.grid_worker else "unit"
