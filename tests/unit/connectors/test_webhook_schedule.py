"""When which step goes where: order within an order, pauses, giving up, and a position that passes nothing."""

from collections import defaultdict
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from connectors import webhook_schedule
from connectors.webhook_schedule import (
    CONCURRENT,
    FAILURES,
    LIFETIME_S,
    PATIENCE_S,
    PAUSE_ENDPOINT_S,
    PAUSE_LAST_S,
    Answer,
    Delivery,
    Schedule,
    Step,
)

YES = Answer("delivered", "http_200", 200)
LATER = Answer("failed", "http_500", 500)
NEVER = Answer("refused", "http_400", 400)
GONE = Answer("gone", "http_410", 410)


def schedule(chance: float = 0.5) -> Schedule:
    """One without chance: every pause is as long as its middle."""
    return Schedule(lambda: chance)


def step(offset: int, order: str = "", partition: int = 0) -> Step:
    return Step(partition, offset, 0.0, order or f"o{offset}", f"t{partition}-{offset}", b"x")


def offsets(deliveries: list[Delivery]) -> list[int]:
    return [d.step.offset for d in deliveries]


def bury(plan: Schedule) -> list[str]:
    """Write the dead letters; the reasons."""
    dead = plan.dead()
    for delivery in dead:
        plan.buried(delivery)
    return [d.reason for d in dead]


def test_a_later_step_of_an_order_waits_until_the_earlier_one_is_delivered() -> None:
    plan = schedule()
    for offset, order in enumerate(("a", "a", "b", "a")):
        plan.take(step(offset, order), "u", 0.0)
    first = plan.ready(0.0)
    assert offsets(first) == [0, 2]
    plan.answered(first[1], YES, 0.0)
    assert plan.ready(0.0) == []
    plan.answered(first[0], YES, 0.0)
    [second] = plan.ready(0.0)
    assert offsets([second]) == [1]
    plan.answered(second, NEVER, 0.0)
    assert plan.ready(0.0) == []  # its dead letter is not in Kafka yet
    assert bury(plan) == ["http_400"]
    assert offsets(plan.ready(0.0)) == [3]


def test_pauses_double_up_to_the_last_and_the_step_is_given_up_after_a_day() -> None:
    plan = schedule()
    plan.take(step(0), "u", 0.0)
    now, sent_at = 0.0, []
    while not (reasons := bury(plan)):
        plan.expire(now)
        for delivery in plan.ready(now):
            sent_at.append(now)
            plan.answered(delivery, LATER, now)
        now += 0.5
    assert reasons == ["http_500, given up"]
    assert LIFETIME_S <= now <= LIFETIME_S + 1.0
    pauses = [b - a for a, b in pairwise(sent_at)]
    assert pauses[:6] == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0]
    assert max(pauses) == PAUSE_LAST_S
    assert plan.committable() == {0: 1}


def test_chance_moves_a_pause_by_a_half_at_most() -> None:
    for chance, due in ((0.0, 0.5), (0.999, 1.499)):
        plan = schedule(chance)
        plan.take(step(0), "u", 0.0)
        [delivery] = plan.ready(0.0)
        plan.answered(delivery, LATER, 0.0)
        assert plan.ready(due - 0.01) == []
        assert plan.ready(due) == [delivery]


def test_an_endpoint_that_fails_gets_one_step_at_a_time_and_no_other_waits_for_it() -> None:
    plan = schedule()
    for offset in range(40):
        plan.take(step(offset), "bad" if offset % 2 else "good", 0.0)
    now, good, bad = 0.0, 0, []
    for _ in range(200):
        ready = plan.ready(now)
        assert sum(d.unit == "bad" for d in ready) <= (CONCURRENT if now == 0.0 else 1)
        for delivery in ready:
            good += delivery.unit == "good"
            bad += [now] * (delivery.unit == "bad")
            plan.answered(delivery, YES if delivery.unit == "good" else LATER, now)
        now += 1.0
    assert good == 20
    assert plan.health("good").waiting == 0
    assert plan.health("bad").status == 500
    waits = [b - a for a, b in pairwise(bad[CONCURRENT:])]
    assert waits == sorted(waits)
    assert max(waits) == PAUSE_ENDPOINT_S
    [probe] = plan.ready(now + PAUSE_ENDPOINT_S)
    plan.answered(probe, YES, now + PAUSE_ENDPOINT_S)
    assert plan.health("bad").failing_since == 0.0
    assert len(plan.ready(now + PAUSE_ENDPOINT_S)) == CONCURRENT


def test_one_step_that_always_fails_does_not_stop_the_others_of_its_endpoint() -> None:
    plan = schedule()
    for offset in range(100):
        plan.take(step(offset), "u", 0.0)
    now, delivered = 0.0, 0
    while delivered < 99:
        for delivery in plan.ready(now):
            poison = delivery.step.offset == 0
            plan.answered(delivery, LATER if poison else YES, now)
            delivered += not poison
        now += 0.1
    assert now < 10.0
    assert plan.committable() == {0: 0}
    assert plan.health("u").waiting == 1


def test_a_system_that_says_when_to_come_again_is_left_alone_till_then_half_an_hour_at_most() -> (
    None
):
    for said, left_alone in ((90.0, 90.0), (1e9, 1800.0)):
        plan = schedule()
        for offset in range(2):
            plan.take(step(offset, "a"), "u", 0.0)
        [delivery] = plan.ready(0.0)
        plan.answered(delivery, Answer("failed", "http_429", 429, said), 0.0)
        plan.take(step(2), "u", 0.0)
        assert plan.ready(left_alone - 1) == []
        assert offsets(plan.ready(left_alone)) == [2, 0]


def test_gone_stops_the_endpoint_until_its_entry_changes() -> None:
    plan = schedule()
    for offset in range(3):
        plan.take(step(offset, "a"), "u", 0.0)
    [delivery] = plan.ready(0.0)
    plan.answered(delivery, GONE, 0.0)
    plan.take(step(3), "u", 0.0)
    assert bury(plan) == ["http_410"] * 4
    assert plan.committable() == {0: 4}
    plan.reset("u")
    plan.take(step(4), "u", 0.0)
    assert offsets(plan.ready(0.0)) == [4]


def test_a_changed_entry_is_tried_at_once_and_a_removed_one_not_at_all() -> None:
    plan = schedule()
    for offset in range(FAILURES + 2):
        plan.take(step(offset), "u", 0.0)
    for delivery in plan.ready(0.0):
        plan.answered(delivery, LATER, 0.0)
    assert plan.ready(0.0) == []
    plan.reset("u")
    on_its_way = plan.ready(0.0)
    assert len(on_its_way) == CONCURRENT
    assert plan.drop("u") == 1
    for delivery in on_its_way:
        plan.answered(delivery, LATER, 0.0)
    assert plan.committable() == {0: FAILURES + 2}
    assert plan.ready(1e9) == []


def test_a_partition_that_is_somebody_elses_is_forgotten_with_what_is_on_its_way() -> None:
    plan = schedule()
    plan.take(step(0, "a", 0), "u", 0.0)
    plan.take(step(0, "b", 1), "u", 0.0)
    zero, one = plan.ready(0.0)
    plan.forget(0)
    assert plan.committable() == {1: 0}
    plan.take(step(0, "a", 0), "u", 0.0)  # it came back, from the committed position on
    plan.answered(zero, YES, 0.0)
    assert plan.committable() == {0: 0, 1: 0}
    plan.answered(one, YES, 0.0)
    [again] = plan.ready(0.0)
    plan.answered(again, YES, 0.0)
    assert plan.committable() == {0: 1, 1: 1}


def test_a_full_window_gives_up_what_fails_and_waits_a_little_for_what_is_slow(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(webhook_schedule, "WINDOW", 100)
    plan = schedule()
    for offset in range(100):
        plan.take(step(offset), "bad" if offset < 10 else "slow" if offset < 60 else "good", 0.0)
    ready = plan.ready(0.0)
    assert plan.full() == {0}
    plan.expire(0.0)
    assert plan.dead() == []  # nobody failed yet
    for delivery in ready:
        if delivery.unit == "bad":
            plan.answered(delivery, LATER, 0.0)
    plan.expire(0.0)
    assert bury(plan) == ["http_500, too many wait"] * CONCURRENT + ["not tried, too many wait"] * 6
    assert plan.full() == set()
    for offset in range(100, 110):
        plan.take(step(offset), "good", 0.0)
    assert plan.full() == {0}
    plan.expire(PATIENCE_S / 2)
    assert plan.dead() == []
    plan.expire(PATIENCE_S)
    given_up = plan.dead()
    assert {d.unit for d in given_up} == {"slow"}
    assert max(offsets(given_up)) < 60


class Anything(RuleBasedStateMachine):
    """Whatever endpoints answer and whenever: nothing is skipped, committed early, or sent out of turn."""

    def __init__(self) -> None:
        super().__init__()
        self.chance = 0.5
        self.plan = Schedule(lambda: self.chance)
        self.now = 0.0
        self.read: dict[int, int] = defaultdict(int)
        #: Partition → offsets that are owed: neither delivered nor buried.
        self.owed: dict[int, set[int]] = defaultdict(set)
        self.committed: dict[int, int] = defaultdict(int)
        #: Unit and order of each record: of one such line the steps go one after the other.
        self.lines: dict[tuple[int, int], tuple[str, str]] = {}
        self.sending: list[Delivery] = []
        self.dead: list[Delivery] = []

    @rule(
        partition=st.integers(0, 1), unit=st.sampled_from(["", "u", "v"]), order=st.integers(0, 3)
    )
    def reads(self, partition: int, unit: str, order: int) -> None:
        offset = self.read[partition] + order % 2  # transaction markers take offsets
        self.read[partition] = offset + 1
        if not unit:
            self.plan.skip(partition, offset)
            return
        made = step(offset, f"{partition}-{order}", partition)
        self.lines[partition, offset] = unit, made.order_id
        self.owed[partition].add(offset)
        self.plan.take(made, unit, self.now)

    @rule()
    def sends(self) -> None:
        for delivery in self.plan.ready(self.now):
            one = delivery.step
            assert one.offset in self.owed[one.partition]
            line = delivery.unit, one.order_id
            earlier = [
                o
                for o in self.owed[one.partition]
                if o < one.offset and self.lines[one.partition, o] == line
            ]
            assert not earlier, f"{one} was sent before {earlier}"
            self.sending.append(delivery)

    @rule(data=st.data(), answer=st.sampled_from([YES, YES, LATER, LATER, NEVER, GONE]))
    def answers(self, data: st.DataObject, answer: Answer) -> None:
        if self.sending:
            delivery = self.sending.pop(data.draw(st.integers(0, len(self.sending) - 1)))
            self.plan.answered(delivery, answer, self.now)
            if answer is YES:
                self.owed[delivery.step.partition].discard(delivery.step.offset)

    @rule()
    def gives_up(self) -> None:
        self.plan.expire(self.now)
        self.dead += self.plan.dead()

    @rule()
    def buries(self) -> None:
        for delivery in self.dead:
            self.plan.buried(delivery)
            self.owed[delivery.step.partition].discard(delivery.step.offset)
        self.dead.clear()

    @rule(partition=st.integers(0, 1))
    def loses_a_partition(self, partition: int) -> None:
        """It is read again from its committed position on, and may be somebody else's meanwhile."""
        self.plan.forget(partition)
        self.dead = [d for d in self.dead if d.step.partition != partition]
        self.read[partition] = self.committed[partition]
        self.owed[partition] = {o for o in self.owed[partition] if o < self.committed[partition]}

    @rule(seconds=st.sampled_from([0.1, 1.0, 60.0, 3600.0, LIFETIME_S]), chance=st.floats(0, 0.99))
    def time_passes(self, seconds: float, chance: float) -> None:
        self.now, self.chance = self.now + seconds, chance

    @rule(unit=st.sampled_from(["u", "v"]))
    def an_entry_changes(self, unit: str) -> None:
        self.plan.reset(unit)

    @invariant()
    def a_position_passes_nothing_that_is_owed(self) -> None:
        for partition, position in self.plan.committable().items():
            assert position <= self.read[partition]
            assert position >= self.committed[partition], "a position went back"
            assert not [o for o in self.owed[partition] if o < position]
            self.committed[partition] = position

    def teardown(self) -> None:
        """In the end everything is delivered or buried, and the position is behind it."""
        for _ in range(500):
            self.sends()
            while self.sending:
                delivery = self.sending.pop()
                self.plan.answered(delivery, YES, self.now)
                self.owed[delivery.step.partition].discard(delivery.step.offset)
            self.gives_up()
            self.buries()
            self.now += 3600.0
            if not any(self.owed.values()):
                break
        assert not any(self.owed.values())
        for partition, position in self.plan.committable().items():
            assert position == self.read[partition]


TestAnything = Anything.TestCase
TestAnything.settings = settings(max_examples=60, stateful_step_count=40)


@given(st.lists(st.integers(0, 2), min_size=1, max_size=30))
def test_what_goes_to_nobody_moves_the_position_and_holds_nothing(gaps: list[int]) -> None:
    plan, at = schedule(), -1
    for gap in gaps:
        at += 1 + gap
        plan.skip(0, at)
    assert plan.committable() == {0: at + 1}
    assert plan.full() == set()
