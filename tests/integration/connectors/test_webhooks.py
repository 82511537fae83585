"""Webhooks on a real broker: no step is lost by a kill, none waits for another unit's system."""

import contextlib
import json
import os
import subprocess
import threading
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from typer.testing import CliRunner

from connectors import webhooks
from connectors.webhooks import GROUP, TOPIC
from deploy.cli import create_app
from deploy.local.parts import child_environment, module
from schemas.codec import default_codec
from schemas.kafka import consumer_config, producer_config
from schemas.settings import Settings
from tests.conftest import Stack, eventually
from tests.unit.connectors.test_webhooks import transition
from tests.webhook_receiver import SECRET, Receiver, receiving

pytestmark = pytest.mark.integration

#: A process that starts on a busy machine, and the ten seconds after which a dead member of a group is missed.
LIMIT_S = 120.0


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as running:
        yield running


@pytest.fixture
def home(broker: Stack, tmp_path: Path) -> Settings:
    """The broker's settings with a webhooks file of the test's own."""
    return broker.settings.model_copy(update={"webhooks_file": tmp_path / "webhooks.json"})


@pytest.fixture
def unit() -> str:
    """The beginning of unit codes that no other test uses."""
    return os.urandom(4).hex()


def tell(settings: Settings, urls: dict[str, str]) -> None:
    """Write the file: unit → address."""
    document = {name: {"url": url, "secret": SECRET} for name, url in urls.items()}
    draft = settings.webhooks_path.with_suffix(".new")
    draft.touch(0o600)
    draft.write_text(json.dumps(document))
    draft.replace(settings.webhooks_path)


def publish(settings: Settings, units: list[str], orders: int, steps: int) -> dict[str, list[str]]:
    """Steps of the units' orders in turn; order → transition ids in their order."""
    producer = Producer(producer_config(settings))
    encode = default_codec(settings).encoder("OrderTransition")
    made: dict[str, list[str]] = defaultdict(list)
    for version in range(1, steps + 1):
        for number in range(orders):
            for unit in units:
                order = f"{unit}-order-{number}"
                record = transition(
                    transition_id=f"{order}-{version}",
                    order_id=order,
                    event_id=f"event of {order}",
                    version=version,
                    unit_code=unit,
                    from_state="UNKNOWN",
                    to_state="DISPATCHED",
                )
                producer.produce(TOPIC, key=record["event_id"].encode(), value=encode(record))
                made[order].append(record["transition_id"])
        producer.poll(0)
    assert producer.flush(30) == 0
    return made


def behind(settings: Settings) -> int:
    """Records between the group's position and the end."""
    consumer = Consumer({**consumer_config(settings, GROUP), "log_level": 0})
    try:
        numbers = consumer.list_topics(TOPIC, 20).topics[TOPIC].partitions
        places = consumer.committed([TopicPartition(TOPIC, n) for n in numbers], 20)
        return sum(consumer.get_watermark_offsets(p, 20)[1] - max(0, p.offset) for p in places)
    finally:
        consumer.close()


def wait_for(receiver: Receiver, path: str, count: int) -> None:
    """Until so many requests came."""
    eventually(lambda: len(receiver.of(path)) >= count, LIMIT_S, 0.002)


def firsts(receiver: Receiver, path: str) -> dict[str, list[str]]:
    """Order → keys in the order in which each came first."""
    found: dict[str, list[str]] = defaultdict(list)
    for one in receiver.of(path):
        if one.key not in found[one.body["order_id"]]:
            found[one.body["order_id"]].append(one.key)
    return found


@contextlib.contextmanager
def running(settings: Settings) -> Iterator[None]:
    """The webhooks in a thread, as the connectors run them."""
    stop = threading.Event()
    thread = threading.Thread(target=webhooks.run, args=(settings, stop), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(LIMIT_S)
        assert not thread.is_alive()


def quanyu(settings: Settings, *words: str) -> tuple[int, Any]:
    """A command's exit code and the JSON of its last line."""
    environment = {
        "QUANYU_HOME": str(settings.home),
        "QUANYU_PORT": str(settings.port),
        "QUANYU_WEBHOOKS_FILE": str(settings.webhooks_path),
    }
    done = CliRunner().invoke(create_app(), ["webhooks", *words, "--json"], env=environment)
    assert done.exit_code in (0, 1), done.output
    return done.exit_code, json.loads(done.stdout.splitlines()[-1])


def test_killed_between_delivery_and_commit_every_step_comes_with_its_key_and_none_is_lost(
    home: Settings, receiver: Receiver, unit: str
) -> None:
    tell(home, {f"{unit}*": receiver.url("/hook")})
    env = child_environment(
        home,
        {"QUANYU_INSTANCE": "webhooks-0", "QUANYU_WEBHOOKS_FILE": str(home.webhooks_path)},
    )
    made = publish(home, [f"{unit}-a", f"{unit}-b"], orders=20, steps=5)
    for killed_at in (40, 100, None):
        process = subprocess.Popen(module("connectors.webhooks"), env=env)
        try:
            if killed_at is None:
                eventually(lambda: firsts(receiver, "/hook") == made, LIMIT_S)
                eventually(lambda: behind(home) == 0, LIMIT_S)
            else:
                wait_for(receiver, "/hook", killed_at)
        finally:
            process.kill() if killed_at else process.terminate()
            process.wait(LIMIT_S)
    assert receiver.unsigned == 0
    of_key: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for one in receiver.of("/hook"):
        assert one.key == one.body["transition_id"]
        of_key[one.key].append(one.body)
    assert max(map(len, of_key.values())) > 1, "no kill came between delivery and commit"
    assert all(body == bodies[0] for bodies in of_key.values() for body in bodies)


def test_one_that_hangs_or_fails_holds_up_nobody_and_gets_its_steps_when_it_is_mended(
    home: Settings, receiver: Receiver, unit: str
) -> None:
    good, hangs, rubbish, silent = (f"{unit}-{n}" for n in ("good", "hangs", "rubbish", "silent"))
    paths = {good: "/hook", hangs: "/hangs", rubbish: "/rubbish"}
    tell(home, {name: receiver.url(path) for name, path in paths.items()})
    with running(home):
        made = publish(home, [good, hangs, rubbish, silent], orders=20, steps=3)
        mine = {order: keys for order, keys in made.items() if order.startswith(good)}
        eventually(lambda: firsts(receiver, "/hook") == mine, LIMIT_S)
        # Not one answer of the others yet, or only rubbish: nothing of theirs is passed over.
        assert behind(home) > 0
        tell(home, dict.fromkeys(paths, receiver.url("/hook")))
        told = {order: keys for order, keys in made.items() if not order.startswith(silent)}
        eventually(lambda: firsts(receiver, "/hook") == told, LIMIT_S)
        eventually(lambda: behind(home) == 0, LIMIT_S)
    assert not [r for r in receiver.received if r.body["unit_code"] == silent]
    assert receiver.unsigned == 0


def test_what_is_refused_is_a_dead_letter_that_can_be_sent_again(
    home: Settings, receiver: Receiver, unit: str
) -> None:
    refuses, gone = f"{unit}-refuses", f"{unit}-gone"
    receiver.statuses["/refuses"] = [400]
    receiver.statuses["/gone"] = [410] * 10
    tell(home, {refuses: receiver.url("/refuses"), gone: receiver.url("/gone?token=hidden")})
    receiver.statuses["/gone?token=hidden"] = [410]

    def dead() -> dict[str, dict[str, Any]]:
        letters = quanyu(home, "dead", "--limit", "1000")[1]["letters"]
        return {le["transition_id"]: le for le in letters if le["unit_code"] in (refuses, gone)}

    with running(home):
        made = publish(home, [refuses, gone], orders=1, steps=3)
        wanted = {made[f"{refuses}-order-0"][0], *made[f"{gone}-order-0"]}
        eventually(lambda: dead().keys() == wanted, LIMIT_S, 0.5)
        eventually(lambda: behind(home) == 0, LIMIT_S)
        assert firsts(receiver, "/refuses") == {
            f"{refuses}-order-0": made[f"{refuses}-order-0"],
        }
        assert len(receiver.of("/gone?token=hidden")) == 1
    letter = dead()[made[f"{refuses}-order-0"][0]]
    assert letter["reason"] == "http_400"
    assert f"{refuses} at 127.0.0.1:{receiver.port}" in letter["message"]
    assert not [w for le in dead().values() for w in (SECRET, "hidden") if w in str(le)]

    receiver.statuses["/refuses"] = [503]
    code, said = quanyu(home, "resend", letter["transition_id"])
    assert (code, said["delivered"], said["results"][0]["reason"]) == (1, 0, "http_503")
    code, said = quanyu(home, "resend", letter["transition_id"])
    assert (code, said["delivered"]) == (0, 1)
    assert receiver.of("/refuses")[-1].key == letter["transition_id"]
    assert letter["transition_id"] not in dead()
    code, said = quanyu(home, "resend", "--all", "--unit", gone)
    assert (code, said["delivered"]) == (0, 3)
    assert [r.key for r in receiver.of("/gone?token=hidden")][1:] == made[f"{gone}-order-0"]
    assert dead() == {}


def test_the_list_shows_each_endpoint_without_its_secret(
    home: Settings, receiver: Receiver, unit: str
) -> None:
    tell(home, {unit: receiver.url("/hook")})
    code, said = quanyu(home, "list")
    assert (code, said["webhooks"][0]["waiting"]) == (0, None)
    env = child_environment(home, {"QUANYU_WEBHOOKS_FILE": str(home.webhooks_path)})
    process = subprocess.Popen(module("connectors.webhooks"), env=env)
    try:
        publish(home, [unit], orders=5, steps=1)

        def told() -> dict[str, Any] | None:
            # What was sent is counted at once, how the endpoint is a moment later.
            [state] = quanyu(home, "list")[1]["webhooks"]
            return state if state["delivered"] == 5 and state["status"] else None

        state = eventually(told, LIMIT_S, 0.5)
        assert state is not None
        assert (state["unit"], state["host"]) == (unit, f"127.0.0.1:{receiver.port}")
        assert (state["failing_since"], state["status"], state["dead"]) == (0, 200, 0)
        assert SECRET not in json.dumps(state)
    finally:
        process.terminate()
        assert process.wait(LIMIT_S) == 0
