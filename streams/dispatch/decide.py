"""Dispatch: each event goes once to the unit whose duty it is, and its orders (工单) go their way to the end.

An event (topic ``events``) causes its first order; what people do with it (topic ``order.actions``, decided
beside, with the same state) and what time alone does (:meth:`DispatchStep.tick`) cause the steps of
:mod:`streams.dispatch.lifecycle`. This moves records in and out.

An event whose reports all went to another one needs no order: its order is withdrawn (撤回), with the other
event as the reason, and is in force again should the event get reports of its own again. An event that is
over, by its order, is closed for merge, too; what is told of it from then on is another event, and marks an
order that was closed less than 72 h before as closed falsely (假闭环).

An order that is over is forgotten :data:`REMEMBERED_MS` after its end, whenever the timer comes. A record of
its event from before changes nothing then; should merge open the event anew, it has another order, whose
number none of the former ones had.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from heapq import heapify, heappop, heappush
from operator import itemgetter
from typing import Any

import msgspec

from schemas.city import CityPack
from schemas.codec import Codec
from schemas.ids import action_id, order_id, transition_id
from schemas.merge_policy import city_policy
from streams.asked import Outcomes, Refusal
from streams.batch import Batch, Decision, Output
from streams.dispatch.deadline import WorkClock, stages
from streams.dispatch.duty import DutyList
from streams.dispatch.lifecycle import (
    AHEAD_MS,
    HOUR_MS,
    NEW,
    OF_EVENT,
    OPEN,
    OVER,
    REMEMBERED_MS,
    SETTLED,
    Case,
    Order,
    Rules,
    Step,
    act,
    first,
    forgotten_at,
    new_deadline,
    next_notice,
    notice,
    settled,
    told_again,
    turn,
)
from streams.records import Records, hand_on

_to_json = msgspec.json.Encoder().encode
_from_json = msgspec.json.Decoder().decode

#: What people ask for; what merge is to do with an event.
ACTIONS, EVENT_ACTIONS = "order.actions", "event.actions"
#: Orders at most of which one tick notices what time did; the next goes on.
TICK_ORDERS = 2_000

_UNKNOWN = (
    "no order of this event is known; check event_id. "
    f"An order is forgotten {REMEMBERED_MS // (24 * HOUR_MS)} days after its end"
)

#: What is kept of an event beside what stands in its order.
EVENT = ("zone", "conditions")
#: What is kept of an order, in this order for ever: a new one is appended.
_FIELDS = (*OF_EVENT[1:], *NEW)
#: An order of which nothing is read yet.
_UNREAD = {**NEW, **dict.fromkeys(OF_EVENT, "")}
_values = itemgetter(*_FIELDS)
_KNOWN, _of_event = (*OF_EVENT, *EVENT), itemgetter(*OF_EVENT)
#: What was kept of an order before its life cycle was.
_OLD = (
    "version", "state", "unit_code", "unit_name", "level", "priority",
    "opened_at", "dispatched_at", "due_at", "rule",
)  # fmt: skip


@dataclass(slots=True)
class DispatchState:
    """Events of one partition that have an order: event id → its orders in the state topic's form.

    ``timers``: a heap of (instant, event id); only that counts which the event's entry names.
    """

    orders: dict[str, bytes] = field(default_factory=dict)
    timers: list[tuple[int, str]] = field(default_factory=list, compare=False)


def city_rules(city: CityPack, duties: DutyList | None = None) -> Rules:
    """The life cycle's rules in a city."""
    priorities = {code: entry.level for code, entry in city.classes.items()}
    clock = WorkClock(city.calendar, city.time_zone)
    of_stages = partial(stages, clock, city.stages)
    return Rules(clock, duties or DutyList(city), priorities, of_stages, city_policy(city).park)


class DispatchStep:
    """The dispatch agent's step over ``events`` and, beside, ``order.actions``."""

    name = "dispatch"

    def __init__(self, city: CityPack, codec: Codec, rules: Rules | None = None) -> None:
        self._records = Records(codec, self.name)
        duties = DutyList(city)
        self._rules = rules or city_rules(city, duties)
        self._holding = duties.holding
        self._encode = codec.pair_encoder("Order", "OrderTransition")
        self._asked = Outcomes(codec, "order")
        self._encode_action = codec.encoder("OrderAction")
        self._encode_event_action = codec.encoder("EventAction")

    def restore(self, topic: str, partition: int, entries: dict[bytes, bytes]) -> DispatchState:
        """Changes are keyed by event id. An entry ``1`` is of an order of which no more is known."""
        state = DispatchState({key.decode(): value for key, value in entries.items()})
        for event_id, kept in state.orders.items():
            instant = _head(kept)[0]
            if not instant and (case := _case(event_id, kept)) is not None:
                # Maybe it was kept before time acted on an order of its state.
                instant = _instant(case.order)
                state.orders[event_id] = _entry(case, instant)
            if instant:
                state.timers.append((instant, event_id))
        heapify(state.timers)
        return state

    def entries(self, state: DispatchState) -> int:
        """Events held."""
        return len(state.orders)

    def decide(self, state: DispatchState, batch: Batch, now_ms: int) -> Decision:
        """What events cause: orders; and what people did: their steps, and an outcome for each action."""
        decision = Decision()
        if batch.topic == ACTIONS:
            for action, headers in self._records.of("OrderAction", batch, decision):
                start = len(decision.outputs)
                self._act(state, action, now_ms, decision)
                hand_on(decision, start, headers)
        else:
            for event, headers in self._records.of("Event", batch, decision):
                start = len(decision.outputs)
                self._told(state, event, now_ms, decision)
                hand_on(decision, start, headers)
        # Of each event the last.
        decision.changes = list(dict(decision.changes).items())
        return decision

    def tick(self, state: DispatchState, now_ms: int) -> Decision:
        """What time alone caused by now: deadlines near or passed, each noticed once; what is forgotten."""
        decision = Decision()
        timers = state.timers
        while timers and timers[0][0] <= now_ms and len(decision.changes) < TICK_ORDERS:
            instant, event_id = heappop(timers)
            kept = state.orders.get(event_id)
            if kept is None or _head(kept)[0] != instant:
                continue
            if _head(kept)[1] in OVER:
                del state.orders[event_id]
                decision.changes.append((event_id.encode(), None))
            elif (case := _case(event_id, kept)) is not None:
                self._tell(case, notice(case, self._rules, now_ms), decision)
                _keep(state, case, decision)
        return decision

    def _told(
        self, state: DispatchState, event: Mapping[str, Any], now_ms: int, decision: Decision
    ) -> None:
        """An order for an open event that has none yet; none in force for one that is merged away."""
        event_id, rules = event["event_id"], self._rules
        into = event["merged_into"]
        ended = event["status"] == "closed" or into is not None
        kept = state.orders.get(event_id)
        if kept is None or _forgotten(kept, now_ms):
            if ended or event["decided_at"] + REMEMBERED_MS <= now_ms:
                return
            # Of an event so old there may have been orders.
            old = event["opened_at"] + REMEMBERED_MS <= now_ms + AHEAD_MS
            numbered = event["decided_at"] if old else 0
            told = _event(event, self._holding(event))
            known = "" if event["self_handled"] or _sure(event) else event["candidate"]
            case, steps = first(told, rules, now_ms, numbered, known)
            if event["self_handled"]:
                steps += settled(case, event["first_channel"], now_ms, rules)
            self._tell(case, steps, decision)
            if event["recurs_of"] is not None:
                decision.outputs.append(self._false_closure(event))
            _keep(state, case, decision)
            return
        standing = _head(kept)[1]
        # An event that is over with reports of its own was handled: its order says how.
        gone = ended and (into is not None or not event["report_count"])
        if gone and standing in OPEN:
            verb = "withdraw"
            why = f"merged into event {into}" if into else "no report is left in the event"
        elif not ended and standing == "WITHDRAWN":
            verb, why = "restore", "the event has reports of its own again"
        elif not ended and standing in SETTLED:
            verb, why = "reopen", "reported again before the event was closed"
        elif not ended and standing == "NEEDS_REVIEW" and _sure(event):
            verb, why = "", ""
        else:
            return
        known = _case(event_id, kept, event)
        if known is None or (not verb and known.order["park_until"] is None):
            return
        steps = []
        if verb == "reopen":
            at = event["updated_at"]
            if at <= known.order["state_at"]:
                return
            steps = told_again(known, at, why, rules)
        steps += turn(known, verb, why, now_ms, rules)
        waits = known.order["state"] == "NEEDS_REVIEW" and known.order["park_until"] is not None
        if waits and not ended and (sure := _sure(event)):
            steps += turn(known, "dispatch", sure, now_ms, rules)
        self._tell(known, steps, decision)
        _keep(state, known, decision)

    def _act(
        self, state: DispatchState, action: Mapping[str, Any], now_ms: int, decision: Decision
    ) -> None:
        """Do what somebody asks, or refuse it; either is an outcome."""
        event_id, target = action["event_id"], action["order_id"]
        kept = state.orders.get(event_id)
        case = None if kept is None or _forgotten(kept, now_ms) else _case(event_id, kept)
        done: list[Step] | Refusal
        if case is None:
            done = Refusal("unknown_order", _UNKNOWN)
        else:
            target = target or case.order["order_id"]
            done = act(case, action, self._rules, now_ms)
        refusal = done if isinstance(done, Refusal) else None
        if case is not None and not isinstance(done, Refusal):
            self._tell(case, done, decision)
            _keep(state, case, decision)
        decision.outputs.append(
            self._asked.output(action, target, action["to_unit"], refusal, now_ms)
        )

    def _tell(self, case: Case, steps: Iterable[Step], decision: Decision) -> None:
        """The order's new versions and their transitions; merge hears when the event is over, or not."""
        key = case.event["event_id"].encode()
        for step in steps:
            order = step.order
            transition = {
                "transition_id": transition_id(order["order_id"], order["version"]),
                "from_state": step.before,
                "to_state": order["state"],
                "actor": step.actor,
                "role": step.role,
                "reason": step.reason,
                "at": step.at,
                "action": step.verb,
                "action_id": step.action_id,
                "media": step.media,
                "replaced": _to_json(step.replaced or {}).decode(),
                "first_visited_at": order["first_visited_at"],
                "visited_at": order["visited_at"],
                "order_id": order["order_id"],
                "event_id": order["event_id"],
                "version": order["version"],
                "unit_code": order["unit_code"],
                "unit_name": order["unit_name"],
                "level": order["level"],
                "class_code": order["class_code"],
                "district_code": order["district_code"],
            }
            whole, told = self._encode(order, transition)
            decision.outputs.append(Output("orders", key, whole))
            decision.outputs.append(Output("order.transitions", key, told))
            if (order["state"] in SETTLED) != (step.before in SETTLED):
                decision.outputs.append(self._event_action(case, transition))

    def _event_action(self, case: Case, transition: Mapping[str, Any]) -> Output:
        """What an order's end, or its new beginning, means for its event: merge closes or reopens it."""
        verb = "close" if transition["to_state"] in SETTLED else "reopen"
        event_id, zone = case.event["event_id"], case.event["zone"]
        action = {
            "action_id": action_id(verb, transition["transition_id"], event_id),
            "action": verb,
            "event_id": event_id,
            "into": "",
            "report_ids": [],
            "zone": zone,
            "actor": "system",
            "role": "system",
            "reason": f"order {transition['action']}",
            "at": transition["at"],
            "links": [],
            "reports": [],
        }
        return Output(EVENT_ACTIONS, zone.encode(), self._encode_event_action(action))

    def _false_closure(self, event: Mapping[str, Any]) -> Output:
        """Ask, where the closed event's orders are, whether its closing was false: it is told again."""
        closed, event_id = event["recurs_of"], event["event_id"]
        action = {
            "action_id": action_id("false_closure", event_id, closed),
            "order_id": "",
            "event_id": closed,
            "action": "false_closure",
            "version": None,
            "actor": "system",
            "role": "system",
            "unit_code": "",
            "reason": f"reported again as event {event_id}",
            "note": "",
            "media": [],
            "to_unit": "",
            "handler": "",
            "extend_value": 0.0,
            "extend_unit": "",
            "visit": "",
            "solved": "",
            "at": event["opened_at"],
        }
        return Output(ACTIONS, closed.encode(), self._encode_action(action))


def _event(event: Mapping[str, Any], held: Sequence[str]) -> dict[str, Any]:
    """What is kept of an Event record, and the duty list's conditions that hold for it."""
    kept = {name: event[name] for name in (*OF_EVENT, "zone") if name in event}
    return kept | {"street_code": _street(event["grid_code"]), "conditions": list(held)}


def _sure(event: Mapping[str, Any]) -> str:
    """Why an event's order need not wait for a person; empty: it may be another event."""
    if event["urgent"]:
        return "a report tells of danger"
    return "" if event["candidate"] else "the event is no other that is known"


def _street(grid_code: str) -> str:
    return grid_code[:9] if len(grid_code) >= 9 else ""


def _head(kept: bytes) -> tuple[int, str]:
    """When time acts on an entry's order next (0: never), and the order's state."""
    comma = kept.find(b",")
    second = kept.find(b",", comma + 1)
    # Before the life cycle was kept, the first was the order's version.
    instant = int(kept[1:comma]) if kept[second + 1 : second + 2] == b"[" else 0
    return instant, kept[comma + 2 : second - 1].decode()


def _instant(order: Order) -> int:
    """When time acts on an order next; 0: never."""
    return forgotten_at(order) or (next_notice(order) or (0,))[0]


def _forgotten(kept: bytes, now_ms: int) -> bool:
    """Whether an entry's order is over for so long, though no timer came yet."""
    instant, standing = _head(kept)
    return 0 < instant <= now_ms and standing in OVER


def _keep(state: DispatchState, case: Case, decision: Decision) -> None:
    """The entry of an event whose orders took steps, and when time acts on them next."""
    event_id, instant = case.event["event_id"], _instant(case.order)
    former = state.orders.get(event_id)
    if instant and (former is None or _head(former)[0] != instant):
        heappush(state.timers, (instant, event_id))
    kept = state.orders[event_id] = _entry(case, instant)
    decision.changes.append((event_id.encode(), kept))


def _entry(case: Case, instant: int) -> bytes:
    """The orders of an event in the state topic's form."""
    values = (
        instant,
        case.order["state"],
        case.former,
        case.done,
        [case.event[name] for name in EVENT],
        _values(case.order),
    )
    return _to_json(values)


def _case(event_id: str, kept: bytes, event: Mapping[str, Any] | None = None) -> Case | None:
    """The orders of an entry; None where too little of them is known, and ``event`` is not told."""
    values = _from_json(kept)
    if not isinstance(values, list):
        return None
    if not isinstance(values[2], list):
        return _old_case(event, values) if event else None
    _, _, former, done, of_event, of_order = values
    # Fields that came later are at the end, as new; to fill a dict costs less than to let one grow.
    order = _UNREAD.copy()
    order.update(zip(_FIELDS, of_order, strict=False))
    order["event_id"] = event_id
    known = dict(zip(_KNOWN, (*_of_event(order), *of_event), strict=True))
    return Case(known, order, former, done)


def _old_case(event: Mapping[str, Any], values: Sequence[Any]) -> Case:
    """An order that was kept before its life cycle was, with what its event says."""
    kept = _event(event, ())
    order = NEW | kept | dict(zip(_OLD, values, strict=True))
    order |= {"order_id": order_id(kept["event_id"], order["unit_code"]), "before": "DISPATCHED"}
    order |= new_deadline(order["due_at"], order["dispatched_at"])
    order["state_at"] = order["stepped_at"] = order["dispatched_at"]
    return Case(kept, order)
