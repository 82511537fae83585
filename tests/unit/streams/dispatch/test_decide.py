"""One order per event, to the unit that the pack names, whatever the batches."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.city import CityPack
from schemas.codec import Codec
from schemas.ids import order_id, transition_id
from streams.dispatch.decide import DispatchStep
from tests.unit.streams.batches import NOW, Record, batch, cut, records, run
from tests.unit.tiny_city import WEST

TOPIC = "events"
HOUR = 3_600_000


@pytest.fixture
def step(city: CityPack, codec: Codec) -> DispatchStep:
    return DispatchStep(city, codec)


def event(name: str = "e1", version: int = 1, **fields: Any) -> Record:
    return {
        "event_id": name, "version": version, "status": "open", "class_code": "0102",
        "lon": None, "lat": None, "district_code": WEST, "grid_code": WEST, "zone": "core",
        "first_report_id": "r", "report_count": version, "occurred_at": NOW, "opened_at": NOW,
        "updated_at": NOW, "decided_at": NOW,
    } | fields  # fmt: skip


def orders(step: DispatchStep, codec: Codec, *events: Record) -> list[Record]:
    values = [codec.encode("Event", each) for each in events]
    return records(codec, run(step, [batch(values, TOPIC)])[0], "orders")


def test_an_order_carries_unit_deadline_and_rule(step: DispatchStep, codec: Codec) -> None:
    (order,) = orders(step, codec, event())
    assert order["order_id"] == order_id("e1", "990100-YS")
    assert (order["unit_name"], order["state"], order["priority"]) == (
        "雨城雨水局",
        "DISPATCHED",
        1,
    )
    # Two urgent hours round the clock, although the day is a holiday; then there is time to check.
    assert (order["dispatched_at"], order["handle_due_at"]) == (NOW, NOW + 2 * HOUR)
    assert order["handle_due_at"] < order["check_due_at"] <= order["due_at"]


def test_an_order_of_a_class_that_the_pack_does_not_know_has_no_deadline(
    step: DispatchStep, codec: Codec
) -> None:
    (order,) = orders(step, codec, event(class_code="7777"))
    assert (order["due_at"], order["rule"]) == (None, "fallback:属地兜底")


def test_every_order_has_its_first_transition(step: DispatchStep, codec: Codec) -> None:
    outputs, _ = run(step, [batch([codec.encode("Event", event())], TOPIC)])
    (order,) = records(codec, outputs, "orders")
    (transition,) = records(codec, outputs, "order.transitions")
    assert transition["transition_id"] == transition_id(order["order_id"], 1)
    assert (transition["from_state"], transition["to_state"]) == ("UNKNOWN", "DISPATCHED")
    assert transition["at"] == order["dispatched_at"] == NOW


def test_later_versions_of_an_event_bring_no_second_order(step: DispatchStep, codec: Codec) -> None:
    assert len(orders(step, codec, event(), event(version=2), event("e2"), event(version=3))) == 2


def test_an_event_that_arrives_merged_or_closed_gets_no_order(
    step: DispatchStep, codec: Codec
) -> None:
    gone = event(status="closed", report_count=0, merged_into="e2")
    assert orders(step, codec, gone, event("e3", status="closed")) == []


def test_the_order_of_an_event_merged_into_another_is_withdrawn_once_and_names_it(
    step: DispatchStep, codec: Codec
) -> None:
    gone: Record = {"status": "closed", "report_count": 0, "merged_into": "e2"}
    told = [event("e2"), event(), event("e1", 2, **gone), event("e1", 3, **gone)]
    outputs, _ = run(step, [batch([codec.encode("Event", each) for each in told], TOPIC)])
    first, withdrawn = (o for o in records(codec, outputs, "orders") if o["event_id"] == "e1")
    assert withdrawn == first | {"version": 2, "state": "WITHDRAWN"}
    last = records(codec, outputs, "order.transitions")[-1]
    assert last["transition_id"] == transition_id(first["order_id"], 2)
    assert (last["from_state"], last["to_state"]) == ("DISPATCHED", "WITHDRAWN")
    assert last["reason"] == "merged into event e2"


def test_an_event_that_lost_its_last_report_to_none_has_no_order_in_force(
    step: DispatchStep, codec: Codec
) -> None:
    states = orders(step, codec, event(), event(version=2, status="closed", report_count=0))
    assert [order["state"] for order in states] == ["DISPATCHED", "WITHDRAWN"]


def test_an_event_that_ended_with_its_reports_keeps_its_order(
    step: DispatchStep, codec: Codec
) -> None:
    assert len(orders(step, codec, event(), event(version=2, status="closed"))) == 1


def test_an_event_that_has_reports_again_has_its_order_again(
    step: DispatchStep, codec: Codec
) -> None:
    gone = event(version=2, status="closed", report_count=0, merged_into="e2")
    found = orders(step, codec, event(), gone, event(version=3))
    assert [(o["version"], o["state"]) for o in found] == [
        (1, "DISPATCHED"),
        (2, "WITHDRAWN"),
        (3, "DISPATCHED"),
    ]
    assert len({(o["order_id"], o["due_at"], o["opened_at"]) for o in found}) == 1


def test_an_order_of_which_only_its_event_is_known_stays(step: DispatchStep, codec: Codec) -> None:
    state = step.restore(TOPIC, 0, {b"e1": b"1"})
    gone = event(version=2, status="closed", report_count=0, merged_into="e2")
    values = [codec.encode("Event", each) for each in (event(), gone)]
    assert step.decide(state, batch(values, TOPIC), NOW).outputs == []


def test_damaged_events_go_to_the_dead_letters_and_stop_nothing(
    step: DispatchStep, codec: Codec
) -> None:
    good = codec.encode("Event", event())
    bad = [None, b"x", good[:-2], good + b"!", b"\x00\x7f\xff\xff\xff"]
    outputs, _ = run(step, [batch([*bad, good], TOPIC)])
    assert [o.value for o in outputs if o.topic == "events.dlq"] == bad
    assert len(records(codec, outputs, "orders")) == 1


@settings(
    deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    drawn=st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=1, max_size=12),
    cuts=st.lists(st.integers(1, 11)),
    restart=st.booleans(),
)
def test_neither_batch_borders_nor_restarts_change_orders(
    city: CityPack, codec: Codec, drawn: list[tuple[int, bool]], cuts: list[int], restart: bool
) -> None:
    gone: Record = {"status": "closed", "report_count": 0, "merged_into": "e9"}
    told = [
        event(f"e{name}", version, **(gone if merged else {}))
        for version, (name, merged) in enumerate(drawn, 1)
    ]
    values = [codec.encode("Event", each) for each in told]
    whole = run(DispatchStep(city, codec), cut(values, [], TOPIC))
    parts = run(DispatchStep(city, codec), cut(values, cuts, TOPIC), restart=restart)
    assert parts == whole
    newest = {order["event_id"]: order["state"] for order in records(codec, whole[0], "orders")}
    last = {f"e{name}": merged for name, merged in drawn}
    assert {e for e, s in newest.items() if s == "DISPATCHED"} == {e for e in last if not last[e]}
