"""Orders through the dispatch step: whatever is done, chains hold; batches and restarts do not matter."""

import json
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.city import CityPack
from schemas.codec import Codec
from schemas.ids import action_id, order_id, transition_id
from streams.batch import Decision, Output
from streams.dispatch.decide import TICK_ORDERS, DispatchState, DispatchStep
from streams.dispatch.lifecycle import (
    DONE_KEPT,
    MOVES,
    OPEN,
    REMEMBERED_MS,
    SCORED,
    TABLE,
    allowed,
)
from tests.unit.streams.batches import NOW, Record, batch, records
from tests.unit.tiny_city import EAST, WEST

EVENTS, ACTIONS = "events", "order.actions"
UNIT = "990100-YS"
HOUR = 3_600_000
USUAL = (
    ("sign", "unit"), ("start", "unit"), ("handle", "unit"), ("check_pass", "centre"),
    ("visit", "citizen"), ("close", "centre"), ("resume", "centre"), ("ask_extension", "unit"),
    ("grant_extension", "centre"),
)  # fmt: skip
VERBS = sorted({row.verb for row in TABLE})


class Item(NamedTuple):
    """One record, or none: then time alone acts."""

    topic: str
    value: bytes | None
    now_ms: int


def event(name: str = "e1", version: int = 1, **fields: Any) -> Record:
    return {
        "event_id": name, "version": version, "status": "open", "class_code": "0101",
        "lon": None, "lat": None, "district_code": WEST, "grid_code": WEST, "zone": "core",
        "first_report_id": "r", "report_count": version, "occurred_at": NOW, "opened_at": NOW,
        "updated_at": NOW, "decided_at": NOW,
    } | fields  # fmt: skip


def action(verb: str, role: str, event_id: str = "e1", **fields: Any) -> Record:
    of_unit = role in ("unit", "grid_worker")
    return {
        "action_id": f"{verb} {event_id} {sorted(fields.items())}", "action": verb, "role": role,
        "event_id": event_id, "order_id": order_id(event_id, UNIT), "version": None, "actor": "a",
        "unit_code": UNIT if of_unit else "", "reason": "why", "note": "what", "at": NOW,
        "visit": "satisfied", "solved": "solved", "extend_value": 2.0, "extend_unit": "work_hour",
    } | fields  # fmt: skip


class Desk:
    """A step with its state, the state topic and all that was written."""

    def __init__(self, city: CityPack, codec: Codec) -> None:
        self.step, self.codec = DispatchStep(city, codec), codec
        self.state = self.step.restore(EVENTS, 3, {})
        self.stored: dict[bytes, bytes] = {}
        self.outputs: list[Output] = []

    def take(self, decision: Decision) -> list[Output]:
        self.outputs += decision.outputs
        for key, value in decision.changes:
            if value is None:
                del self.stored[key]
            else:
                self.stored[key] = value
        return decision.outputs

    def tell(self, *told: Record, now_ms: int = NOW) -> list[Output]:
        values = [self.codec.encode("Event", each) for each in told]
        return self.take(self.step.decide(self.state, batch(values, EVENTS), now_ms))

    def ask(self, *asked: Record, now_ms: int = NOW) -> list[Output]:
        values = [self.codec.encode("OrderAction", each) for each in asked]
        return self.take(self.step.decide(self.state, batch(values, ACTIONS), now_ms))

    def tick(self, now_ms: int) -> list[Record]:
        outputs = self.take(self.step.tick(self.state, now_ms))
        return records(self.codec, outputs, "order.transitions")

    def restart(self) -> None:
        self.state = self.step.restore(EVENTS, 3, dict(self.stored))

    def run(self, items: Sequence[Item]) -> None:
        """One batch, or a tick."""
        topic, value, now_ms = items[0]
        if value is None:
            self.take(self.step.tick(self.state, now_ms))
        else:
            part = batch([item.value for item in items], topic)
            self.take(self.step.decide(self.state, part, now_ms))

    def all(self, topic: str) -> list[Record]:
        return records(self.codec, self.outputs, topic)

    def order(self, event_id: str = "e1") -> Record:
        return [o for o in self.all("orders") if o["event_id"] == event_id][-1]


@pytest.fixture
def desk(city: CityPack, codec: Codec) -> Desk:
    return Desk(city, codec)


def closed(desk: Desk, event_id: str = "e1", at: int = NOW) -> None:
    desk.tell(event(event_id), now_ms=at)
    for verb, role in (
        ("sign", "unit"), ("handle", "unit"), ("check_pass", "centre"), ("close", "centre"),
    ):  # fmt: skip
        desk.ask(action(verb, role, event_id, at=at), now_ms=at)
    assert desk.order(event_id)["state"] == "CLOSED"


# --- what any story keeps --------------------------------------------------------------------------


def story(city: CityPack, codec: Codec, seed: int, length: int) -> list[Item]:
    """Events told, merged and told again; actions mostly possible, some nonsense, some repeated; ticks."""
    luck = random.Random(seed)
    pilot = Desk(city, codec)
    versions: Counter[str] = Counter()
    orders: dict[str, Record] = {}
    opened: dict[str, int] = {}
    items: list[Item] = []
    asked: list[bytes] = []
    now = NOW
    for number in range(length):
        name = f"e{luck.randrange(3)}"
        order = orders.get(name)
        draw = luck.random()
        if luck.random() < 0.1:
            now += luck.choice((HOUR, 60 * HOUR, 60 * HOUR, REMEMBERED_MS))
        if order is None or draw < 0.15:
            versions[name] += 1
            told: Record = {
                "updated_at": now,
                "opened_at": opened.setdefault(name, now),
                "decided_at": now,
                "district_code": luck.choice((EAST, WEST)),
                "candidate": luck.choice((None, "e7")),
                "urgent": luck.random() < 0.1,
                "self_handled": luck.random() < 0.2,
            }
            if order is not None and luck.random() < 0.5:
                told |= {"status": "closed", "merged_into": "e9", "report_count": 0}
            elif luck.random() < 0.3:
                told |= {"recurs_of": "e8"}
            item = Item(EVENTS, codec.encode("Event", event(name, versions[name], **told)), now)
        elif draw < 0.25:
            item = Item("", None, now)
        elif draw < 0.32 and asked:
            item = Item(ACTIONS, luck.choice(asked), now)
        else:
            role = luck.choice(("unit", "grid_worker", "centre", "centre", "supervisor", "citizen"))
            can = allowed(order["state"], role)
            verb = luck.choice(can) if can and luck.random() < 0.85 else luck.choice(VERBS)
            usual = [way for way in USUAL if (way[0], order["state"]) in MOVES]
            if usual and luck.random() < 0.6:
                verb, role = luck.choice(usual)
            fields = {
                "action_id": f"a{number}", "order_id": order["order_id"], "at": now,
                "unit_code": luck.choice([order["unit_code"]] * 9 + ["990100-XX"]),
                "version": luck.choice([None] * 6 + [order["version"], 1]),
                "visit": luck.choice(("satisfied", "unsatisfied")),
                "reason": luck.choice(["why"] * 9 + [""]),
            }  # fmt: skip
            value = codec.encode("OrderAction", action(verb, role, name, **fields))
            asked.append(value)
            item = Item(ACTIONS, value, now)
        items.append(item)
        seen = len(pilot.outputs)
        pilot.run([item])
        for told_order in records(codec, pilot.outputs[seen:], "orders"):
            orders[told_order["event_id"]] = told_order
    return items


def parts(items: Sequence[Item], cuts: Iterable[int]) -> list[list[Item]]:
    """The items in batches: of one topic and one clock each, cut at ``cuts`` too; ticks by themselves."""
    found: list[list[Item]] = []
    for index, item in enumerate(items):
        joins = (
            found
            and item.value is not None
            and index not in cuts
            and (found[-1][0].topic, found[-1][0].now_ms) == (item.topic, item.now_ms)
        )
        if joins:
            found[-1].append(item)
        else:
            found.append([item])
    return found


@settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(seed=st.integers(0, 10**9), length=st.integers(1, 60))
def test_whatever_is_done_the_chains_hold(
    city: CityPack, codec: Codec, seed: int, length: int
) -> None:
    items = story(city, codec, seed, length)
    desk = Desk(city, codec)
    for part in parts(items, ()):
        desk.run(part)
    steps: dict[str, list[Record]] = defaultdict(list)
    for step in desk.all("order.transitions"):
        steps[step["order_id"]].append(step)
    whole = {(order["order_id"], order["version"]): order for order in desk.all("orders")}
    assert len(whole) == sum(map(len, steps.values()))
    for identity, chain in steps.items():
        assert [step["version"] for step in chain] == list(range(1, len(chain) + 1))
        assert [step["from_state"] for step in chain] == [
            "UNKNOWN", *(step["to_state"] for step in chain[:-1]),
        ]  # fmt: skip
        assert [step["at"] for step in chain] == sorted(step["at"] for step in chain)
        for step in chain:
            assert (step["action"], step["from_state"]) in MOVES
            assert step["transition_id"] == transition_id(identity, step["version"])
            order = whole[identity, step["version"]]
            assert {name: step[name] for name in order if name in step} == {
                name: value for name, value in order.items() if name in step
            }
            assert order["state"] == step["to_state"]
        # The order before a step is known from the step alone, as far as scores go.
        assert chain[0]["replaced"] == "{}"
        for former, step in pairwise(chain):
            replaced = json.loads(step["replaced"])
            for name in SCORED:
                before = former[name] if former[name] is not None else 0
                now = step[name] if step[name] is not None else 0
                assert replaced.get(name, now) == before, name
    last = {identity: chain[-1] for identity, chain in steps.items()}
    in_force = Counter(s["event_id"] for s in last.values() if s["to_state"] in OPEN)
    assert all(n == 1 for n in in_force.values())
    # Every action has an outcome; each that was applied, once; of the refused no step tells.
    outcomes = desk.all("action.outcomes")
    assert len(outcomes) == sum(item.topic == ACTIONS for item in items)
    applied = Counter(o["action_id"] for o in outcomes if o["outcome"] == "applied")
    assert all(n == 1 for n in applied.values())
    assert {s["action_id"] for s in desk.all("order.transitions")} <= {"", *applied}
    assert all(o["reason"] and o["detail"] for o in outcomes if o["outcome"] == "refused")
    # Every event has an order, and its closing and reopening alternate, until they are forgotten.
    told = {codec.decode(i.value)[1]["event_id"] for i in items if i.topic == EVENTS}
    assert told == {step["event_id"] for step in last.values()}
    lives: dict[str, list[list[str]]] = defaultdict(list)
    for output in desk.outputs:
        if output.topic in ("order.transitions", "event.actions"):
            record = codec.decode(output.value)[1]
            if output.topic == "event.actions":
                lives[record["event_id"]][-1].append(record["action"])
            elif (record["version"], record["sequence"]) == (1, 1):
                lives[record["event_id"]].append([])
    for turns in [turns for each in lives.values() for turns in each]:
        assert turns == ["close", "reopen"] * (len(turns) // 2) + ["close"] * (len(turns) % 2)


@settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    seed=st.integers(0, 10**9),
    length=st.integers(1, 60),
    cuts=st.sets(st.integers(1, 59)),
    restart=st.booleans(),
)
def test_neither_batch_borders_nor_restarts_change_what_is_done(
    city: CityPack, codec: Codec, seed: int, length: int, cuts: set[int], restart: bool
) -> None:
    items = story(city, codec, seed, length)
    whole, cut = Desk(city, codec), Desk(city, codec)
    for part in parts(items, ()):
        whole.run(part)
    for part in parts(items, cuts):
        if restart:
            cut.restart()
        cut.run(part)
    assert cut.outputs == whole.outputs
    assert cut.stored == whole.stored
    # What is committed is all that is known; and each deadline ahead is in the heap.
    memory = whole.state
    whole.restart()
    assert whole.state == memory
    assert set(whole.state.timers) <= set(memory.timers)


# --- time ------------------------------------------------------------------------------------------


def test_a_deadline_is_noticed_once_though_the_worker_restarts(desk: Desk) -> None:
    desk.tell(event())
    due_at = desk.order()["due_at"]
    assert desk.tick(NOW) == []
    desk.restart()
    first = desk.tick(due_at + 1)
    assert {step["action"] for step in first} == {
        "sign_overdue", "handle_overdue", "near_due", "overdue",
    }  # fmt: skip
    assert {(step["actor"], step["role"]) for step in first} == {("system", "system")}
    assert desk.order()["overdue"]
    for _ in range(2):
        desk.restart()
        assert desk.tick(due_at + 10**9) == []


def test_a_deadline_that_moved_is_not_noticed_where_it_was(desk: Desk) -> None:
    desk.tell(event())
    due_at = desk.order()["due_at"]
    desk.ask(
        action("sign", "unit"),
        action("grant_extension", "centre", extend_value=9.0, extend_unit="natural_day"),
        action("contact", "unit"),
    )
    assert not any(step["action"] == "overdue" for step in desk.tick(due_at))
    (last,) = [s for s in desk.tick(desk.order()["due_at"]) if s["action"] == "overdue"]
    assert last["at"] == desk.order()["due_at"] > due_at


def test_a_tick_does_a_bounded_part_and_the_next_goes_on(desk: Desk) -> None:
    names = [f"e{n}" for n in range(TICK_ORDERS + 5)]
    desk.tell(*(event(name) for name in names))
    late = NOW + 10**10
    assert len({step["event_id"] for step in desk.tick(late)}) == TICK_ORDERS
    assert len({step["event_id"] for step in desk.tick(late)}) == 5
    assert desk.tick(late) == []


def test_an_order_that_nobody_can_take_is_noticed_once_when_its_dispatch_is_late(
    desk: Desk,
) -> None:
    desk.tell(event())
    while desk.order()["state"] == "DISPATCHED":
        order = desk.order()
        desk.ask(action("return", "unit", order_id=order["order_id"], unit_code=order["unit_code"]))
    due_at = desk.order()["dispatch_due_at"]
    assert desk.tick(due_at - 1) == []
    desk.restart()
    (step,) = desk.tick(due_at)
    assert (step["action"], step["role"], step["at"]) == ("dispatch_overdue", "system", due_at)
    assert (step["from_state"], step["to_state"]) == ("NEEDS_REVIEW", "NEEDS_REVIEW")
    assert step["reason"]
    desk.restart()
    assert desk.tick(due_at + 10**10) == []


# --- what may be known -----------------------------------------------------------------------------

WAITS: Record = {
    "class_code": "0201",
    "candidate": "e0",
    "candidate_reason": "may be one of its street",
}


def test_the_order_of_an_event_that_may_be_another_waits_and_time_dispatches_it_after_a_restart(
    desk: Desk,
) -> None:
    desk.tell(event(**WAITS))
    order = desk.order()
    assert order["state"] == "NEEDS_REVIEW"
    # More reports of it answer nothing.
    desk.tell(event(version=2, **WAITS))
    assert desk.order()["version"] == order["version"]
    until = NOW + HOUR // 2
    assert desk.tick(until - 1) == []
    desk.restart()
    (step,) = desk.tick(until)
    assert (step["action"], step["role"], step["from_state"]) == (
        "dispatch", "system", "NEEDS_REVIEW",
    )  # fmt: skip
    assert desk.order()["state"] == "DISPATCHED"
    assert desk.order()["sign_due_at"]
    desk.restart()
    assert "dispatch" not in {step["action"] for step in desk.tick(NOW + 10**10)}


@pytest.mark.parametrize(
    ("told", "why"),
    [
        ({"candidate": None}, "the event is no other that is known"),
        ({"urgent": True}, "a report tells of danger"),
    ],
)
def test_it_waits_no_longer_when_the_event_is_none_that_is_known_or_becomes_urgent(
    desk: Desk, told: Record, why: str
) -> None:
    desk.tell(event(**WAITS))
    desk.tell(event(version=2, **WAITS | told))
    assert desk.order()["state"] == "DISPATCHED"
    last = records(desk.codec, desk.outputs, "order.transitions")[-1]
    assert (last["action"], last["reason"]) == ("dispatch", why)
    desk.tell(event(version=3, **WAITS | told))
    assert desk.order()["version"] == 2


def test_what_is_urgent_never_waits(desk: Desk) -> None:
    desk.tell(event(**WAITS, urgent=True), event("e2", **WAITS | {"class_code": "0102"}))
    assert (desk.order()["state"], desk.order("e2")["state"]) == ("DISPATCHED", "DISPATCHED")


#: A grid worker settles it on the spot and says so.
ON_THE_SPOT: Record = {"self_handled": True, "first_channel": "grid_patrol"}


def test_what_is_settled_on_the_spot_is_handled_at_once_and_the_centre_checks_it(
    desk: Desk,
) -> None:
    desk.tell(event(**WAITS | ON_THE_SPOT))
    steps = desk.all("order.transitions")
    assert [
        (s["from_state"], s["action"], s["to_state"], s["role"], s["actor"]) for s in steps
    ] == [
        ("UNKNOWN", "dispatch", "DISPATCHED", "system", "system"),
        ("DISPATCHED", "sign", "SIGNED", "grid_worker", "grid_patrol"),
        ("SIGNED", "handle", "HANDLED", "grid_worker", "grid_patrol"),
    ]
    order = desk.order()
    assert (order["self_handled"], order["handled_at"], order["handler"]) == (True, NOW, "")
    desk.tell(event(version=2, **ON_THE_SPOT))
    assert desk.order() == order
    for verb in ("check_pass", "close"):
        desk.ask(action(verb, "centre", order_id=order["order_id"]))
    assert desk.order()["state"] == "CLOSED"
    assert desk.order()["self_handled"]


@pytest.mark.parametrize("again", ["check_fail", "reopen"])
def test_work_that_is_done_again_is_no_more_settled_on_the_spot(desk: Desk, again: str) -> None:
    desk.tell(event(**ON_THE_SPOT))
    settled = desk.order()
    desk.ask(action(again, "centre", order_id=settled["order_id"]))
    assert desk.order()["version"] > settled["version"]
    assert not desk.order()["self_handled"]


def test_merged_into_the_one_that_it_is_its_order_is_withdrawn_and_taken_apart_dispatched(
    desk: Desk,
) -> None:
    desk.tell(event(**WAITS))
    gone = {"status": "closed", "merged_into": "e0", "report_count": 0}
    desk.tell(event(version=2, **WAITS | gone))
    assert desk.order()["state"] == "WITHDRAWN"
    desk.tell(event(version=3, **WAITS | {"candidate": None}))
    assert desk.order()["state"] == "DISPATCHED"


# --- what is forgotten -----------------------------------------------------------------------------


@pytest.mark.parametrize("ticked", [True, False])
def test_a_forgotten_order_is_refused_with_the_reason_whether_or_not_time_was_noticed(
    desk: Desk, ticked: bool
) -> None:
    closed(desk)
    end = NOW + REMEMBERED_MS
    desk.ask(action("visit", "citizen", at=end - 1), now_ms=end - 1)
    assert desk.all("action.outcomes")[-1]["outcome"] == "applied"
    if ticked:
        assert desk.tick(end) == []
        assert not desk.stored
        assert not desk.state.orders
    desk.ask(action("reopen", "centre", at=end), now_ms=end)
    outcome = desk.all("action.outcomes")[-1]
    assert (outcome["outcome"], outcome["reason"]) == ("refused", "unknown_order")
    assert "forgotten 40 days after" in outcome["detail"]


@pytest.mark.parametrize("ticked", [True, False])
def test_old_records_of_an_event_do_not_bring_its_forgotten_order_back(
    desk: Desk, ticked: bool
) -> None:
    closed(desk)
    end = NOW + REMEMBERED_MS
    if ticked:
        desk.tick(end)
    assert desk.tell(event(), event(version=2), event(version=3, status="closed"), now_ms=end) == []
    desk.tick(end)
    assert desk.stored == {}


@pytest.mark.parametrize("ticked", [True, False])
def test_an_event_that_is_opened_when_its_orders_are_forgotten_gets_one_of_a_new_id(
    desk: Desk, ticked: bool
) -> None:
    desk.tell(event())
    desk.tell(event(version=2, status="closed", merged_into="e2", report_count=0))
    later = NOW + REMEMBERED_MS
    if ticked:
        desk.tick(later)
    former = {order["order_id"] for order in desk.all("orders")}
    desk.tell(event(version=3, decided_at=later), now_ms=later)
    order = desk.order()
    assert (order["version"], order["state"], order["unit_code"]) == (1, "DISPATCHED", UNIT)
    assert order["order_id"] not in former
    # So has every order that follows it.
    desk.ask(action("return", "unit", order_id=order["order_id"], at=later), now_ms=later)
    following = desk.order()
    assert following["order_id"] != order_id("e1", following["unit_code"])


def test_an_order_closed_by_an_older_worker_is_forgotten_too(desk: Desk) -> None:
    closed(desk)
    # Time did not act on what was closed.
    comma = desk.stored[b"e1"].index(b",")
    desk.stored[b"e1"] = b"[0" + desk.stored[b"e1"][comma:]
    desk.restart()
    assert desk.tick(NOW + REMEMBERED_MS - 1) == []
    assert desk.stored
    desk.restart()
    desk.tick(NOW + REMEMBERED_MS)
    assert desk.stored == {}


@pytest.mark.parametrize("restart", [False, True])
def test_over_a_year_the_state_holds_what_is_open_and_what_ended_lately(
    city: CityPack, codec: Codec, restart: bool
) -> None:
    desk = Desk(city, codec)
    ends = {
        "close": (("sign", "unit"), ("handle", "unit"), ("check_pass", "centre"), ("close", "centre")),
        "invalidate": (("invalidate", "centre"),),
        "direct_answer": (("direct_answer", "centre"),),
        "merge": (),
        "open": (("sign", "unit"),),
    }  # fmt: skip
    day_ms, days, still_open = 24 * HOUR, 365, 0
    kept = REMEMBERED_MS // day_ms
    for day in range(days):
        now = NOW + day * day_ms
        for end, way in ends.items():
            if end == "open" and day % 30:
                continue
            name = f"{end}-{day}"
            told = event(name, opened_at=now, updated_at=now, decided_at=now)
            desk.tell(told, now_ms=now)
            desk.ask(*(action(verb, role, name, at=now) for verb, role in way), now_ms=now)
            if end == "merge":
                desk.tell(told | {"status": "closed", "merged_into": "e9"}, now_ms=now)
            still_open += end == "open"
        if restart and day % 7 == 0:
            desk.restart()
        desk.tick(now)
        assert len(desk.state.orders) <= 4 * kept + still_open
    assert len(desk.stored) == len(desk.state.orders) == 4 * kept + still_open
    # The heap does not keep what became of no account either.
    assert len(desk.state.timers) <= 3 * len(desk.state.orders)


# --- events ----------------------------------------------------------------------------------------


def test_the_end_of_an_order_closes_its_event_and_its_new_beginning_opens_it(desk: Desk) -> None:
    closed(desk)
    desk.ask(action("reopen", "centre"))
    close, reopen = desk.all("event.actions")
    assert [(a["action"], a["event_id"], a["zone"], a["role"]) for a in (close, reopen)] == [
        ("close", "e1", "core", "system"), ("reopen", "e1", "core", "system"),
    ]  # fmt: skip
    assert {o.key for o in desk.outputs if o.topic == "event.actions"} == {b"core"}
    ended = next(s for s in desk.all("order.transitions") if s["to_state"] == "CLOSED")
    assert close["action_id"] == action_id("close", ended["transition_id"], "e1")


@pytest.mark.parametrize(("hours", "false"), [(71, True), (73, False)])
def test_an_event_that_repeats_a_closed_one_asks_where_that_is(
    desk: Desk, hours: int, false: bool
) -> None:
    closed(desk)
    later = NOW + hours * HOUR
    outputs = desk.tell(event("e2", recurs_of="e1", opened_at=later), now_ms=later)
    (asking,) = (o for o in outputs if o.topic == ACTIONS)
    assert asking.key == b"e1"
    asked = desk.codec.decode(asking.value)[1]
    assert asked["action_id"] == action_id("false_closure", "e2", "e1")
    desk.ask(asked, asked, now_ms=later)
    assert desk.order()["false_closure"] is false
    assert desk.order()["state"] == "CLOSED"
    assert len(desk.all("action.outcomes")) == 6
    assert desk.all("action.outcomes")[-2]["target"] == order_id("e1", UNIT)


def test_a_report_that_joined_a_closed_orders_event_brings_the_order_back(desk: Desk) -> None:
    closed(desk)
    desk.tell(event(version=2))
    assert desk.order()["state"] == "CLOSED"
    desk.tell(event(version=3, updated_at=NOW + HOUR), now_ms=NOW + HOUR)
    assert [s["action"] for s in desk.all("order.transitions")][-2:] == ["false_closure", "reopen"]
    order = desk.order()
    assert (order["state"], order["false_closure"]) == ("REOPENED", True)


@pytest.mark.parametrize("before", ["HANDLING", "SUSPENDED", "HANDLED"])
def test_a_merge_by_hand_takes_the_childs_order_wherever_it_is_and_a_split_gives_it_back(
    desk: Desk, before: str
) -> None:
    way = {
        "HANDLING": [("start", "unit")],
        "SUSPENDED": [("suspend", "centre")],
        "HANDLED": [("handle", "unit")],
    }
    desk.tell(event())
    desk.ask(action("sign", "unit"), *(action(verb, role) for verb, role in way[before]))
    assert desk.order()["state"] == before
    desk.tell(event(version=2, status="closed", merged_into="e2", report_count=0))
    assert desk.order()["state"] == "WITHDRAWN"
    desk.ask(action("handle", "unit", at=NOW + 1))
    assert desk.all("action.outcomes")[-1]["reason"] == "illegal"
    desk.tell(event(version=3))
    assert desk.order()["state"] == before


def test_actions_on_events_that_nobody_knows_are_refused(desk: Desk) -> None:
    desk.ask(action("sign", "unit", "nowhere"))
    (outcome,) = desk.all("action.outcomes")
    assert (outcome["kind"], outcome["outcome"], outcome["reason"]) == (
        "order", "refused", "unknown_order",
    )  # fmt: skip
    assert desk.stored == {}


def test_what_is_no_action_goes_to_the_dead_letters_and_stops_nothing(desk: Desk) -> None:
    desk.tell(event())
    good = desk.codec.encode("OrderAction", action("sign", "unit"))
    bad = [None, b"x", good[:-2], desk.codec.encode("Event", event())]
    outputs = desk.take(desk.step.decide(desk.state, batch([*bad, good], ACTIONS), NOW))
    assert [o.value for o in outputs if o.topic == "order.actions.dlq"] == bad
    assert desk.order()["state"] == "SIGNED"


def test_an_order_kept_before_its_life_cycle_was_goes_on_when_its_event_is_told(desk: Desk) -> None:
    times = f"{NOW},{NOW},{NOW + HOUR}"
    old = f'[2,"WITHDRAWN","990100-YS","雨城雨水局","city",1,{times},"0101:雨水局"]'
    desk.stored[b"e1"] = old.encode()
    desk.restart()
    desk.ask(action("sign", "unit"))
    assert desk.all("action.outcomes")[-1]["reason"] == "unknown_order"
    desk.tell(event(version=3))
    order = desk.order()
    assert (order["version"], order["state"], order["order_id"]) == (
        3, "DISPATCHED", order_id("e1", UNIT),
    )  # fmt: skip
    desk.ask(action("sign", "unit", at=NOW + 1))
    assert desk.order()["state"] == "SIGNED"


def test_the_state_of_an_order_stays_small(desk: Desk) -> None:
    desk.tell(event())
    for n in range(3 * DONE_KEPT):
        desk.ask(action("contact", "unit", action_id=f"{n}" * 100))
    assert len(desk.stored[b"e1"]) < 2500


def test_states_are_equal_by_what_is_kept() -> None:
    assert DispatchState({"e": b"1"}, [(1, "e")]) == DispatchState({"e": b"1"})
