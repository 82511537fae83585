"""What the life cycle of orders costs without broker and engine: actions decoded, decided and encoded."""

import gc
import time
from typing import Any

from schemas.city import load_city
from schemas.codec import Codec, default_codec
from schemas.ids import order_id
from schemas.settings import Settings
from streams.batch import Batch, Output
from streams.dispatch.decide import DispatchStep

NOW_MS = 1_790_000_000_000
#: What the transport cuts at most; a small batch pays more per action.
BATCH = 4_000
#: A usual way, each step of another order than the one before: nothing is decided twice in a batch.
WAY = (
    ("sign", "unit"),
    ("contact", "unit"),
    ("start", "unit"),
    ("ask_extension", "unit"),
    ("grant_extension", "centre"),
    ("handle", "unit"),
    ("check_pass", "centre"),
    ("visit", "centre"),
    ("close", "centre"),
)


def run(events: int = 8_000) -> dict[str, int]:
    """Transitions a second of one core, all records encoded; orders opened, and notices of time."""
    settings = Settings()
    city, codec = load_city(settings.city), default_codec(settings)
    step = DispatchStep(city, codec)
    state = step.restore("events", 0, {})
    gc.collect()
    gc.freeze()
    gc.set_threshold(200_000, 50, 100)
    classes = sorted(city.classes)
    districts = sorted(city.districts.codes.tolist())
    told: list[bytes | None] = [
        codec.encode(
            "Event",
            _event(f"event-{n}", classes[n % len(classes)], districts[n % len(districts)]),
        )
        for n in range(events)
    ]
    opened, outputs = _seconds(step, state, "events", told)
    units = {
        order["event_id"]: order["unit_code"]
        for order in (codec.decode(o.value)[1] for o in outputs if o.topic == "orders")
    }
    acted, steps = 0.0, 0
    for verb, role in WAY:
        actions: list[bytes | None] = [
            codec.encode("OrderAction", _action(e, u, verb, role)) for e, u in units.items()
        ]
        seconds, outputs = _seconds(step, state, "order.actions", actions)
        acted += seconds
        steps += sum(output.topic == "order.transitions" for output in outputs)
    assert steps == len(WAY) * events, f"{steps} of {len(WAY) * events} actions were done"
    noticed = _timers(step, codec, told)
    return {
        "transitions_per_s": round(steps / acted),
        "orders_opened_per_s": round(events / opened),
        "notices_per_s": noticed,
    }


def _timers(step: DispatchStep, codec: Codec, told: list[bytes | None]) -> int:
    """Notices a second when the deadlines of all orders pass at once."""
    state = step.restore("events", 0, {})
    _seconds(step, state, "events", told)
    started, found = time.process_time(), 0
    while outputs := step.tick(state, NOW_MS + 10**11).outputs:
        found += len(outputs) // 2
    return round(found / (time.process_time() - started))


def _seconds(
    step: DispatchStep, state: Any, topic: str, values: list[bytes | None]
) -> tuple[float, list[Output]]:
    """CPU seconds of a step over all values in batches of one partition, and what it wrote."""
    outputs: list[Output] = []
    started = time.process_time()
    for start in range(0, len(values), BATCH):
        part = values[start : start + BATCH]
        size = len(part)
        offsets = list(range(start, start + size))
        batch = Batch(topic, 0, [None] * size, part, offsets, [NOW_MS] * size, [None] * size)
        outputs += step.decide(state, batch, NOW_MS).outputs
    return time.process_time() - started, outputs


def _event(name: str, class_code: str, district: str) -> dict[str, Any]:
    return {
        "event_id": name, "version": 1, "status": "open", "class_code": class_code,
        "lon": None, "lat": None, "district_code": district, "grid_code": district, "zone": "core",
        "first_report_id": "r", "report_count": 1, "occurred_at": NOW_MS, "opened_at": NOW_MS,
        "updated_at": NOW_MS, "decided_at": NOW_MS,
    }  # fmt: skip


def _action(event: str, unit: str, verb: str, role: str) -> dict[str, Any]:
    return {
        "action_id": f"{verb}-{event}-5f0c3c9e-7d0e-4d43", "order_id": order_id(event, unit),
        "event_id": event, "action": verb, "version": None, "actor": f"{role}-1", "role": role,
        "unit_code": unit if role == "unit" else "", "reason": "等待配件", "note": "已清理完毕",
        "media": [], "to_unit": "", "handler": "", "extend_value": 1.0, "extend_unit": "work_day",
        "visit": "satisfied", "solved": "solved", "at": NOW_MS,
    }  # fmt: skip


if __name__ == "__main__":
    print(run())
