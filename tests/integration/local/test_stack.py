"""The whole embedded stack by its commands: up, status, down, and what a kill leaves."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from confluent_kafka import Consumer, Producer

from deploy.local import home as homes
from deploy.local.parts import ROOT
from deploy.local.supervisor import READY_LIMIT_S
from schemas.kafka import consumer_config, producer_config
from schemas.settings import Settings
from tests.conftest import Fresh, eventually, free_base_port

pytestmark = [pytest.mark.integration, pytest.mark.long]


class City:
    """A home driven by the command line, offline but for loopback."""

    def __init__(self, home: Path) -> None:
        self.settings = Settings(home=home, port=free_base_port())
        nowhere = "http://127.0.0.1:9"
        self.env = {k: v for k, v in os.environ.items() if not k.startswith("QUANYU_")} | {
            "QUANYU_HOME": str(home),
            "PYTHONPATH": str(ROOT),
            # Whoever asks Maven Central now gets no answer: the jars must come from the cache.
            **dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), nowhere),
            "no_proxy": "127.0.0.1",
        }
        if "QUANYU_CACHE" in os.environ:
            self.env["QUANYU_CACHE"] = os.environ["QUANYU_CACHE"]

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "deploy.cli", *arguments],
            env=self.env,
            capture_output=True,
            text=True,
            timeout=240,
        )

    def up(self) -> dict[str, Any]:
        port = str(self.settings.port)
        done = self.run("up", "--detach", "--port", port, "--json")
        assert done.returncode == 0, done.stderr
        ready: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        print(f"the stack was ready in {ready['seconds']} s")
        return ready

    def status(self) -> tuple[int, dict[str, dict[str, Any]]]:
        done = self.run("status", "--json")
        document = json.loads(done.stdout.splitlines()[-1])
        return done.returncode, {part["name"]: part for part in document["parts"]}


@pytest.fixture(scope="module")
def city(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[City]:
    """A started stack; ``settings`` only makes sure that the jars are in the cache."""
    city = City(tmp_path_factory.mktemp("city"))
    try:
        city.up()
        yield city
    finally:
        city.run("down")


def sql(city: City, query: str) -> str:
    answer = httpx.post(city.settings.clickhouse_url, content=query.encode(), timeout=30)
    assert answer.status_code == 200, answer.text
    return answer.text


def test_every_part_answers_once_up_returns(city: City) -> None:
    code, parts = city.status()
    assert code == 0
    assert sorted(parts) == sorted(
        ["kafka", "clickhouse", "mqtt", "worker", "sink", "monitor", "connectors", "screen"]
    )
    assert all(part["answering"] and part["state"] == "running" for part in parts.values())


def test_a_second_up_of_the_home_says_who_runs_it(city: City) -> None:
    done = city.run("up", "--detach")
    assert done.returncode == 2
    assert f"process {homes.owner(city.settings.home)}" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("part", ["kafka", "clickhouse", "sink"])
def test_a_killed_part_answers_again(city: City, part: str) -> None:
    before = city.status()[1][part]
    os.kill(before["pid"], signal.SIGKILL)

    def back() -> bool:
        now = city.status()[1][part]
        return bool(now["answering"]) and now["restarts"] > before["restarts"]

    # As long as the supervisor gives a part on a busy machine.
    eventually(back, READY_LIMIT_S)


def test_a_killed_stack_leaves_no_process_and_resumes_with_its_data(city: City) -> None:
    fresh = Fresh(city.settings, "killed")
    topic = fresh.topic("kept", partitions=1)
    producer = Producer(producer_config(city.settings))
    for number in range(1000):
        producer.produce(topic, str(number).encode())
    assert producer.flush(30) == 0
    sql(city, "CREATE DATABASE kept")
    sql(city, "CREATE TABLE kept.t (a UInt32) ENGINE = MergeTree ORDER BY a")
    sql(city, "INSERT INTO kept.t SELECT number FROM numbers(1000)")
    pids = [part["pid"] for part in city.status()[1].values()]
    owner = homes.owner(city.settings.home)
    assert owner is not None
    os.kill(owner, signal.SIGKILL)

    def left() -> list[int]:
        return [p for p in pids if psutil.pid_exists(p) and homes.alive(psutil.Process(p))]

    eventually(lambda: not left())
    assert city.status()[0] == 1
    city.up()
    assert sql(city, "SELECT count(), sum(a) FROM kept.t") == "1000\t499500\n"
    consumer = Consumer(consumer_config(city.settings, fresh.name("group")))
    consumer.subscribe([topic])
    found: list[bytes | None] = []

    def complete() -> bool:
        found.extend(message.value() for message in consumer.consume(1000, 1.0))
        return len(found) >= 1000

    eventually(complete)
    consumer.close()
    assert found == [str(number).encode() for number in range(1000)]


def test_down_stops_everything_in_time_and_frees_the_ports(city: City) -> None:
    pids = [part["pid"] for part in city.status()[1].values()]
    started = time.monotonic()
    assert city.run("down").returncode == 0
    assert time.monotonic() - started < 15
    assert not [p for p in pids if psutil.pid_exists(p) and homes.alive(psutil.Process(p))]
    for offset in range(7):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", city.settings.port + offset))
    code, parts = city.status()
    assert code == 1
    assert {part["state"] for part in parts.values()} == {"stopped"}
    again = city.run("down")
    assert (again.returncode, again.stdout) == (0, f"no stack runs in {city.settings.home}\n")


def test_without_cache_and_network_up_says_what_to_do(tmp_path: Path) -> None:
    lonely = City(tmp_path / "home")
    lonely.env["QUANYU_CACHE"] = str(tmp_path / "cache")
    # jgo finds what an earlier run left in the home directory's own caches.
    lonely.env["HOME"] = str(tmp_path)
    done = lonely.run("up", "--detach", "--port", str(lonely.settings.port))
    assert done.returncode == 2
    # Two parts lack their jars, and start side by side: the first to fail speaks.
    remedy = {"Kafka": "QUANYU_KAFKA", "The MQTT broker": "sources.json"}
    named = next(name for name in remedy if f"{name} could not be fetched" in done.stderr)
    assert "go online once" in done.stderr
    assert remedy[named] in done.stderr
    assert "Traceback" not in done.stderr
    assert homes.owner(lonely.settings.home) is None
