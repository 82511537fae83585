"""The ledger alone: a newer owner fences an older one, which then publishes nothing."""

import asyncio
from typing import NoReturn

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from schemas.kafka import admin_config, consumer_config, producer_config
from schemas.settings import Settings
from streams.batch import Batch, Decision, Output
from streams.ledger import Ledger
from tests.conftest import Fresh

pytestmark = pytest.mark.integration


class Echo:
    """Writes each value to the output and counts what it saw."""

    name = "echo"

    def __init__(self, output: str) -> None:
        self.output = output
        self.decided = 0

    def restore(self, topic: str, partition: int, entries: dict[bytes, bytes]) -> dict[str, int]:
        return {"count": int(entries.get(b"count", b"0"))}

    def decide(self, state: dict[str, int], batch: Batch, now_ms: int) -> Decision:
        state["count"] += len(batch)
        self.decided += 1
        outputs = [Output(self.output, b"k", value) for value in batch.values]
        return Decision(outputs, [(b"count", b"%d" % state["count"])])

    def entries(self, state: dict[str, int]) -> int:
        return state["count"]


def batch(topic: str, first: int, count: int) -> Batch:
    offsets = list(range(first, first + count))
    values: list[bytes | None] = [b"%d" % offset for offset in offsets]
    return Batch(topic, 0, [b"k"] * count, values, offsets, [0] * count, [None] * count)


def committed(settings: Settings, topic: str, group: str) -> list[bytes | None]:
    consumer = Consumer(consumer_config(settings, group))
    consumer.assign([TopicPartition(topic, 0, 0)])
    found = []
    while messages := consumer.consume(1000, 1.0):
        found += [message.value() for message in messages]
    consumer.close()
    return found


def filled(settings: Settings, topic: str, count: int = 200) -> str:
    """A log that reaches as far as the batches of these tests say."""
    producer = Producer(producer_config(settings))
    for number in range(count):
        producer.produce(topic, b"%d" % number, partition=0)
    assert producer.flush(30) == 0
    return topic


async def settled(ledger: Ledger[dict[str, int]], run: Batch) -> None:
    """Handle a batch and wait for its commit, as the next batch of the partition would."""
    await ledger.handle(run)
    await ledger.committed()


def test_a_fenced_owner_publishes_nothing_and_the_new_one_goes_on_where_it_was(
    settings: Settings, fresh: Fresh
) -> None:
    source, output = filled(settings, fresh.topic("in", 1)), fresh.topic("out", 1)
    fresh.create_topic(f"{source}.echo.state", 1, {"cleanup.policy": "compact"})
    app_id = fresh.name("app")

    async def story() -> list[bool]:
        old = Ledger(settings, app_id, Echo(output), [source])
        old.assigned([(source, 0)])
        await settled(old, first := batch(source, 0, 10))
        new = Ledger(settings, app_id, Echo(output), [source])
        new.assigned([(source, 0)])
        await new.ready()
        # The old owner was frozen here and revives: what it decides now must never be seen.
        await settled(old, zombie := batch(source, 10, 10))
        await settled(old, after := batch(source, 20, 10))
        await settled(new, again := batch(source, 5, 20))
        old.close()
        new.close()
        return [run.finished for run in (first, zombie, after, again)]

    assert asyncio.run(story()) == [True, False, False, True]
    assert committed(settings, output, fresh.name("check")) == [b"%d" % n for n in range(25)]


def test_a_reassigned_partition_keeps_its_state_when_nobody_else_had_it(
    settings: Settings, fresh: Fresh
) -> None:
    source, output = filled(settings, fresh.topic("in", 1)), fresh.topic("out", 1)
    fresh.create_topic(f"{source}.echo.state", 1, {"cleanup.policy": "compact"})

    async def story() -> None:
        ledger = Ledger(settings, fresh.name("app"), Echo(output), [source])
        for round_ in range(3):
            ledger.assigned([(source, 0)])
            await settled(ledger, batch(source, round_ * 5, 5))
        ledger.assigned([])
        ledger.assigned([(source, 0)])
        await settled(ledger, batch(source, 15, 5))
        ledger.close()

    asyncio.run(story())
    assert committed(settings, output, fresh.name("check")) == [b"%d" % n for n in range(20)]


class Louder(Echo):
    """Another rule: it writes each value twice."""

    def decide(self, state: dict[str, int], batch: Batch, now_ms: int) -> Decision:
        decision = super().decide(state, batch, now_ms)
        return Decision([out for out in decision.outputs for _ in "12"], decision.changes)


def test_another_step_takes_over_between_two_batches_with_the_state_as_it_was_committed(
    settings: Settings, fresh: Fresh
) -> None:
    source, output = filled(settings, fresh.topic("in", 1)), fresh.topic("out", 1)
    fresh.create_topic(f"{source}.echo.state", 1, {"cleanup.policy": "compact"})

    async def story() -> list[int]:
        first, counts = Echo(output), []
        ledger = Ledger(settings, fresh.name("app"), first, [source])
        ledger.assigned([(source, 0)])
        # One is decided and still being committed when the rule changes; then ticks and batches come.
        await ledger.handle(batch(source, 0, 3))
        while not first.decided:
            await asyncio.sleep(0)
        ledger.renew(louder := Louder(output))
        await asyncio.gather(
            ledger.handle(batch(source, 2, 3)),
            ledger.tick(lambda state, _: Decision()),
        )
        await ledger.committed()
        ledger.renew(Echo(output))

        def counted(state: dict[str, int], _: int) -> Decision:
            counts.append(state["count"])
            return Decision()

        while not counts:
            await ledger.tick(counted)
            await ledger.committed()
        await settled(ledger, batch(source, 5, 1))
        assert louder.entries({"count": 5}) == 5
        ledger.close()
        return counts

    assert asyncio.run(story()) == [5]
    expected = [0, 1, 2, 3, 3, 4, 4, 5]
    assert committed(settings, output, fresh.name("check")) == [b"%d" % n for n in expected]


def test_a_topic_beside_another_shares_its_state_and_keeps_its_own_position(
    settings: Settings, fresh: Fresh
) -> None:
    home, beside = (filled(settings, fresh.topic(name, 1)) for name in ("home", "beside"))
    output = fresh.topic("out", 1)
    fresh.create_topic(f"{home}.echo.state", 1, {"cleanup.policy": "compact"})
    app_id, both = fresh.name("app"), [home, beside]

    async def story() -> tuple[list[bool], int]:
        first = Ledger(settings, app_id, Echo(output), both, {beside: home})
        first.assigned([(home, 0), (beside, 0)])
        runs = [batch(home, 0, 10), batch(beside, 100, 5), batch(home, 10, 10)]
        for run in runs:
            await settled(first, run)
        first.close()
        second = Ledger(settings, app_id, Echo(output), both, {beside: home})
        second.assigned([(beside, 0), (home, 0)])
        # Each topic goes on where it was: of these, one record each is new.
        runs += [batch(beside, 100, 6), batch(home, 0, 21)]
        for run in runs[3:]:
            await settled(second, run)
        owned = second._parts[0].owned
        assert owned is not None
        counted = owned.states[home]["count"]
        second.close()
        return [run.finished for run in runs], counted

    finished, counted = asyncio.run(story())
    assert finished == [True] * 5
    assert counted == 27
    written = committed(settings, output, fresh.name("g"))
    assert sorted(map(int, filter(None, written))) == [*range(21), *range(100, 106)]


def test_what_time_alone_causes_is_committed_before_the_first_batch_and_not_again_after_a_restart(
    settings: Settings, fresh: Fresh
) -> None:
    source, output = filled(settings, fresh.topic("in", 1)), fresh.topic("out", 1)
    fresh.create_topic(f"{source}.echo.state", 1, {"cleanup.policy": "compact"})
    app_id = fresh.name("app")

    def once(state: dict[str, int], now_ms: int) -> Decision:
        if state["count"]:
            return Decision()
        state["count"] = 1
        return Decision([Output(output, b"k", b"rang")], [(b"count", b"1")])

    async def story() -> None:
        for _ in range(2):
            ledger = Ledger(settings, app_id, Echo(output), [source])
            ledger.assigned([(source, 0)])
            await ledger.ready()
            for _ in range(3):
                await ledger.tick(once)
                await ledger.committed()
            ledger.close()

    asyncio.run(story())
    assert committed(settings, output, fresh.name("g")) == [b"rang"]


@pytest.mark.parametrize("at_once", [False, True])
def test_retention_that_overtakes_a_running_owner_is_noticed_at_the_next_batch(
    settings: Settings, fresh: Fresh, monkeypatch: pytest.MonkeyPatch, at_once: bool
) -> None:
    source, output = filled(settings, fresh.topic("in", 1)), fresh.topic("out", 1)
    fresh.create_topic(f"{source}.echo.state", 1, {"cleanup.policy": "compact"})
    said = []

    class Ended(BaseException):
        pass

    def ended(event: str, **details: object) -> NoReturn:
        said.append((event, details["position"], details["begins"]))
        raise Ended

    monkeypatch.setattr("streams.ledger.fail_fast", ended)

    async def story() -> None:
        ledger = Ledger(settings, fresh.name("app"), Echo(output), [source])
        ledger.assigned([(source, 0)])
        await settled(ledger, batch(source, 0, 10))
        if not at_once:
            await settled(ledger, batch(source, 12, 8))  # a transaction's marker is no loss
        place = TopicPartition(source, 0, 50)
        admin = AdminClient(admin_config(settings))
        admin.delete_records([place])[place].result(10)
        if at_once:
            # What is after the gap waits for the same round as what is before it.
            await ledger.handle(batch(source, 10, 10))
        with pytest.raises(Ended):
            await settled(ledger, batch(source, 50, 10))
        ledger.close()

    asyncio.run(story())
    assert said == [("retention_overtook", 20, 50)]
