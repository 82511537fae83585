"""Who handles an event: one order (工单) to the unit that the duty list names, once.

First form of the duty list: the class's lead department, in the event's district or for the whole city;
属地兜底 (the district's own centre) when the class names none that the pack knows.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from schemas import metrics
from schemas.city import CityPack
from schemas.codec import Codec
from schemas.dead_letter import DeadLetterLimit, dead_letter_headers
from schemas.ids import order_id, transition_id
from schemas.topics import dlq_topic
from streams.batch import Batch, Decision, Output
from streams.dispatch.deadline import WorkClock


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


@dataclass(slots=True)
class DispatchState:
    """Events of one partition that have an order."""

    dispatched: set[str]


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
        """Changes are keyed by event id."""
        return DispatchState({key.decode() for key in entries})

    def entries(self, state: DispatchState) -> int:
        """Events held."""
        return len(state.dispatched)

    def decide(self, state: DispatchState, batch: Batch, now_ms: int) -> Decision:
        """An order and its first transition for each event that has none yet."""
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
            if event is None or event["event_id"] in state.dispatched:
                continue
            state.dispatched.add(event["event_id"])
            decision.changes.append((event["event_id"].encode(), b"1"))
            self._dispatch(event, now_ms, decision)
        return decision

    def _dispatch(self, event: Mapping[str, Any], now_ms: int, decision: Decision) -> None:
        entry = self._city.classes.get(event["class_code"])
        duty = self._duties.duty(event["class_code"], event["district_code"])
        due = self._clock.add(now_ms, entry.deadline, entry.unit) if entry else None
        identity = order_id(event["event_id"], duty.unit_code)
        order = {
            "order_id": identity,
            "version": 1,
            "event_id": event["event_id"],
            "unit_code": duty.unit_code,
            "unit_name": duty.unit_name,
            "level": duty.level,
            "state": "DISPATCHED",
            "class_code": event["class_code"],
            "district_code": event["district_code"],
            "grid_code": event["grid_code"],
            "priority": entry.level if entry else 3,
            "opened_at": event["opened_at"],
            "dispatched_at": now_ms,
            "due_at": due,
            "rule": duty.rule,
        }
        transition = {
            "transition_id": transition_id(identity, 1),
            "order_id": identity,
            "event_id": event["event_id"],
            "version": 1,
            "from_state": "UNKNOWN",
            "to_state": "DISPATCHED",
            "actor": "system",
            "role": "system",
            "reason": duty.rule,
            "unit_code": duty.unit_code,
            "class_code": event["class_code"],
            "district_code": event["district_code"],
            "at": now_ms,
        }
        key = event["event_id"].encode()
        decision.outputs.append(Output("orders", key, self._encode_order(order)))
        decision.outputs.append(
            Output("order.transitions", key, self._encode_transition(transition))
        )
