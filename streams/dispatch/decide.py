"""Who handles an event: one order (工单) to the unit that the duty list names, once.

First form of the duty list: the class's lead department, in the event's district or for the whole city;
属地兜底 (the district's own centre) when the class names none that the pack knows.

An event whose reports all went to another one needs no order: its order is withdrawn (撤回), with the other
event as the reason, and is in force again should the event get reports of its own again.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from schemas import metrics
from schemas.city import CityPack
from schemas.codec import Codec
from schemas.dead_letter import DeadLetterLimit, dead_letter_headers
from schemas.ids import order_id, transition_id
from schemas.topics import dlq_topic
from streams.batch import Batch, Decision, Output
from streams.dispatch.deadline import WorkClock

_to_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


@dataclass(frozen=True, slots=True)
class Duty:
    """The unit that a rule names, and which rule it was."""

    unit_code: str
    unit_name: str
    level: str
    rule: str


class DutyList:
    """Class and district → unit; pure."""

    def __init__(self, city: CityPack) -> None:
        self._city = city
        self._cache: dict[tuple[str, str], Duty] = {}

    def duty(self, class_code: str, district_code: str) -> Duty:
        """The unit for a class in a district."""
        key = class_code, district_code
        found = self._cache.get(key)
        if found is None:
            found = self._cache[key] = self._find(class_code, district_code)
        return found

    def _find(self, class_code: str, district_code: str) -> Duty:
        city = self._city
        entry = city.classes.get(class_code)
        district = city.district_name(district_code)
        for name in entry.departments if entry else ():
            department = city.departments.get(name)
            if department is None:
                continue
            if department.level == "city":
                return Duty(
                    f"{city.code}-{department.code}",
                    f"{city.name}{name}",
                    "city",
                    f"{class_code}:{name}",
                )
            return Duty(
                f"{district_code}-{department.code}",
                f"{district}{name}",
                "district",
                f"{class_code}:{name}",
            )
        fallback = city.fallback
        return Duty(
            f"{district_code}-{fallback.code}",
            f"{district}{fallback.name}",
            "district",
            "fallback:属地兜底",
        )


#: What is kept of an order that can still change; the rest of it stands in its event.
_KEPT = (
    "version", "state", "unit_code", "unit_name", "level", "priority",
    "opened_at", "dispatched_at", "due_at", "rule",
)  # fmt: skip


@dataclass(slots=True)
class DispatchState:
    """Events of one partition that have an order: event id → its order in the state topic's form."""

    orders: dict[str, bytes] = field(default_factory=dict)


class DispatchStep:
    """The dispatch agent's step over ``events``."""

    name = "dispatch"

    def __init__(self, city: CityPack, codec: Codec) -> None:
        self._city = city
        self._codec = codec
        self._duties = DutyList(city)
        self._clock = WorkClock(city.calendar, city.time_zone)
        self._encode_order = codec.encoder("Order")
        self._encode_transition = codec.encoder("OrderTransition")
        self._limit = DeadLetterLimit()

    def restore(self, topic: str, partition: int, entries: dict[bytes, bytes]) -> DispatchState:
        """Changes are keyed by event id. An entry ``1`` is of an order of which no more is known."""
        return DispatchState({key.decode(): value for key, value in entries.items()})

    def entries(self, state: DispatchState) -> int:
        """Events held."""
        return len(state.orders)

    def decide(self, state: DispatchState, batch: Batch, now_ms: int) -> Decision:
        """An order for each open event that has none yet; none in force for one that is merged away."""
        events, errors = self._codec.decode_batch("Event", batch.values)
        self._limit.count(len(batch), len(errors))
        decision = Decision()
        for index, error in errors.items():
            headers = dead_letter_headers(
                batch.topic,
                batch.partition,
                batch.offsets[index],
                self.name,
                error.code,
                error.detail,
            )
            decision.outputs.append(
                Output(dlq_topic(batch.topic), batch.keys[index], batch.values[index], headers)
            )
            metrics.STREAM_DLQ.labels(batch.topic, error.code).inc()
        for event in events:
            if event is None:
                continue
            ended = event["status"] == "closed" or event["merged_into"] is not None
            kept = state.orders.get(event["event_id"])
            if kept is None:
                if not ended:
                    self._dispatch(state, event, now_ms, decision)
            elif ended:
                # An event that is over with reports of its own was handled: its order says how.
                into = event["merged_into"]
                if into is not None or not event["report_count"]:
                    why = f"merged into event {into}" if into else "no report is left in the event"
                    self._turn(state, event, ("DISPATCHED", "WITHDRAWN", why, now_ms), decision)
            elif b'"WITHDRAWN"' in kept:
                why = "the event has reports of its own again"
                self._turn(state, event, ("WITHDRAWN", "DISPATCHED", why, now_ms), decision)
        return decision

    def _dispatch(
        self, state: DispatchState, event: Mapping[str, Any], now_ms: int, decision: Decision
    ) -> None:
        entry = self._city.classes.get(event["class_code"])
        duty = self._duties.duty(event["class_code"], event["district_code"])
        order = {
            "version": 1,
            "state": "DISPATCHED",
            "unit_code": duty.unit_code,
            "unit_name": duty.unit_name,
            "level": duty.level,
            "priority": entry.level if entry else 3,
            "opened_at": event["opened_at"],
            "dispatched_at": now_ms,
            "due_at": self._clock.add(now_ms, entry.deadline, entry.unit) if entry else None,
            "rule": duty.rule,
        }
        self._step(state, event, order, ("UNKNOWN", duty.rule, now_ms), decision)

    def _turn(
        self,
        state: DispatchState,
        event: Mapping[str, Any],
        turn: tuple[str, str, str, int],
        decision: Decision,
    ) -> None:
        """Put the event's order from one state into another (from, to, why, when), if it is there."""
        before, after, reason, at = turn
        order = _order(state.orders[event["event_id"]])
        if order is not None and order["state"] == before:
            changed = order | {"version": order["version"] + 1, "state": after}
            self._step(state, event, changed, (before, reason, at), decision)

    def _step(
        self,
        state: DispatchState,
        event: Mapping[str, Any],
        order: dict[str, Any],
        step: tuple[str, str, int],
        decision: Decision,
    ) -> None:
        """The order's new version, its transition (from which state, why, when) and what is kept."""
        before, reason, at = step
        event_id = event["event_id"]
        key = event_id.encode()
        identity = order_id(event_id, order["unit_code"])
        place = {name: event[name] for name in ("class_code", "district_code")}
        transition = place | {
            "transition_id": transition_id(identity, order["version"]),
            "order_id": identity,
            "event_id": event_id,
            "version": order["version"],
            "from_state": before,
            "to_state": order["state"],
            "actor": "system",
            "role": "system",
            "reason": reason,
            "unit_code": order["unit_code"],
            "at": at,
        }
        whole = place | order
        whole |= {"order_id": identity, "event_id": event_id, "grid_code": event["grid_code"]}
        decision.outputs.append(Output("orders", key, self._encode_order(whole)))
        decision.outputs.append(
            Output("order.transitions", key, self._encode_transition(transition))
        )
        kept = _to_json([order[name] for name in _KEPT]).encode()
        state.orders[event_id] = kept
        decision.changes.append((key, kept))


def _order(kept: bytes) -> dict[str, Any] | None:
    """An order out of the state; None for one of which only is known that there is one."""
    values = json.loads(kept)
    return dict(zip(_KEPT, values, strict=True)) if isinstance(values, list) else None
