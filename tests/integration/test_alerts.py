"""A real Prometheus beside a living stack: what breaks fires its alert, no other, and the alert ends with it.

The rules are those of the tree with every duration divided by :data:`FASTER`, so that minutes are seconds.
The same stack then has every command of the runbooks typed at it.
"""

import contextlib
import itertools
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from confluent_kafka import Producer

from schemas.codec import default_codec
from schemas.kafka import producer_config
from schemas.settings import load_settings
from schemas.topics import raw_topic
from tests.faults.harness import Stack, free_base_port, until

pytestmark = [pytest.mark.integration, pytest.mark.long, pytest.mark.timeout(900)]

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deploy" / "prometheus"
#: Minutes of a rule become so much shorter; what a rule compares in seconds is listed.
FASTER = 10
SECONDS = {
    "(quanyu_lag_seconds) > 120": "(quanyu_lag_seconds) > 12",
    "(quanyu_heartbeat_timestamp_seconds) > 180": "(quanyu_heartbeat_timestamp_seconds) > 30",
}
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
DURATION = re.compile(
    r"(?<=\[)(\d+)([smhd])(?=\])|(?<=offset )(\d+)([smhd])|(?<=for: )(\d+)([smhd])"
)
#: An alert is seen so long after its cause at worst: the monitor's round, windows and pauses, a busy machine.
FIRES_WITHIN_S = 150.0
CLEARS_WITHIN_S = 240.0
#: Reports that were held up for longer than a minute are late, and the levels say so.
LATE_S = 50.0
LEVELS = {
    f"Quanyu{level}{window}"
    for level in ("Freshness", "Dispatch")
    for window in ("Fast", "Slow", "Budget")
}
NUMBERS = itertools.count()
FENCE = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def faster(rules: str) -> str:
    """The rules with every duration divided; at least one second."""

    def divided(found: re.Match[str]) -> str:
        number, unit = [group for group in found.groups() if group]
        return f"{max(1, int(number) * UNITS[unit] // FASTER)}s"

    for slow, fast in SECONDS.items():
        rules = rules.replace(slow, fast)
    return DURATION.sub(divided, rules)


def test_every_duration_of_the_rules_is_divided_and_nothing_else() -> None:
    text = "rate(x[5m]) offset 10m > 300\nfor: 1h\nkeep_firing_for: 2m # 5m\n"
    assert faster(text) == "rate(x[30s]) offset 60s > 300\nfor: 360s\nkeep_firing_for: 12s # 5m\n"
    everything = "".join(
        path.read_text(encoding="utf-8") for path in (FOLDER / "rules").glob("*.yml")
    )
    for slow in SECONDS:
        assert slow in everything


class Watch:
    """Prometheus over a stack: who fires now."""

    def __init__(self, city: Stack, url: str) -> None:
        self.city, self.url = city, url

    def firing(self) -> set[str]:
        """Alerts that fire, by name and the part or group that they are about."""
        answer = httpx.get(f"{self.url}/api/v1/alerts", timeout=10, trust_env=False).json()
        return {
            a["labels"]["alertname"] for a in answer["data"]["alerts"] if a["state"] == "firing"
        }

    def about(self, alert: str, label: str) -> set[str]:
        """What an alert that fires is about."""
        answer = httpx.get(f"{self.url}/api/v1/alerts", timeout=10, trust_env=False).json()
        return {
            a["labels"].get(label, "")
            for a in answer["data"]["alerts"]
            if a["state"] == "firing" and a["labels"]["alertname"] == alert
        }

    def fires(self, expected: set[str], also: set[str] = frozenset()) -> None:  # type: ignore[assignment]
        """Wait until all of them fire; nobody fires who is not among them or ``also``."""
        seen: set[str] = set()

        def all_fire() -> bool:
            seen.update(self.firing())
            assert seen <= expected | also, f"{seen - expected - also} fire too"
            return expected <= self.firing()

        assert until(all_fire, FIRES_WITHIN_S), f"{self.firing()} fire instead of {expected}"

    def clears(self, also: set[str] = frozenset()) -> None:  # type: ignore[assignment]
        """Wait until nobody fires but ``also``."""
        assert until(lambda: self.firing() <= also, CLEARS_WITHIN_S), f"{self.firing()} still fire"


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A running stack of its own; its polled databases are out of service, for nobody makes them."""
    if shutil.which("prometheus") is None:
        pytest.skip("prometheus is not installed (Debian: prometheus)")
    home = tmp_path_factory.mktemp("alerts")
    (home / "sources.json").write_text(json.dumps({"hotline12345": {}, "city_management": {}}))
    (home / "sources.json").chmod(0o600)
    with Stack(home, free_base_port(random.Random())).running() as stack:
        yield stack


@pytest.fixture(scope="module")
def watch(city: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watch]:
    """Prometheus with the tree's own scrape configuration, at this stack's ports, every second."""
    folder = tmp_path_factory.mktemp("prometheus")
    config = yaml.safe_load((FOLDER / "prometheus.yml").read_text(encoding="utf-8"))
    config["global"] = {
        "scrape_interval": "1s",
        "scrape_timeout": "1s",
        "evaluation_interval": "1s",
    }
    for target in config["scrape_configs"][0]["static_configs"]:
        target["targets"] = [
            f"127.0.0.1:{int(address.rpartition(':')[2]) - 8000 + city.port}"
            for address in target["targets"]
        ]
    (folder / "rules").mkdir()
    for path in (FOLDER / "rules").glob("*.yml"):
        (folder / "rules" / path.name).write_text(faster(path.read_text(encoding="utf-8")))
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                *("prometheus", "--config.file", str(folder / "prometheus.yml")),
                *("--storage.tsdb.path", str(folder / "data"), "--web.listen-address", address),
            ],
            stdout=log,
            stderr=log,
        )
    watch = Watch(city, f"http://{address}")
    try:
        assert until(lambda: watch.firing() is not None, 30), (folder / "log").read_text()
        yield watch
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture
def traffic(city: Stack) -> Iterator[None]:
    """Two reports a second through the app's channel, as long as the screen takes them."""
    stop = threading.Event()

    def push() -> None:
        with httpx.Client(timeout=5, trust_env=False) as client:
            while not stop.wait(0.5):
                number = next(NUMBERS)
                report = {"id": f"T{number}", "title": "路灯不亮", "district": "金水区",
                          "address": f"金水区经八路{number}号"}  # fmt: skip
                with contextlib.suppress(httpx.HTTPError):
                    client.post(
                        f"{city.url}/channels/photo_app/reports",
                        json=report,
                        headers={"X-API-Key": key(city, "photo_app")},
                    )

    thread = threading.Thread(target=push)
    thread.start()
    yield
    stop.set()
    thread.join()


def key(city: Stack, channel: str) -> str:
    """A channel's key as its sender has it."""
    found = json.loads((city.home / "keys.json").read_text())[channel]
    return found if isinstance(found, str) else str(found[0])


@contextlib.contextmanager
def frozen(city: Stack, part: str) -> Iterator[Callable[[], float]]:
    """A part that neither works nor ends; says for how long."""
    pid = city.recorded()[part]["pid"]
    since = time.monotonic()
    os.kill(pid, signal.SIGSTOP)
    try:
        yield lambda: time.monotonic() - since
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def send(city: Stack, channel: str, values: list[bytes], age_s: float = 0.0) -> None:
    """Records into a channel's raw topic, as old as said."""
    settings = load_settings(home=city.home)
    producer = Producer(producer_config(settings))
    at = int((time.time() - age_s) * 1000)
    for value in values:
        producer.produce(raw_topic(channel), value=value, key=b"k", timestamp=at)
    assert producer.flush(30) == 0


def raw(city: Stack, channel: str, native_id: str) -> bytes:
    """A report as its connector would write it."""
    record: dict[str, Any] = {
        "channel": channel, "native_id": native_id, "received_at": int(time.time() * 1000), "payload": b"{}",
        "title": "路灯不亮", "district": "金水区",
    }  # fmt: skip
    return default_codec(load_settings(home=city.home)).encode("RawReport", record)


def test_a_healthy_stack_under_traffic_fires_nothing(watch: Watch, traffic: None) -> None:
    def scraped() -> bool:
        query = (
            "min(up) == 1 and count(up) == 5 and sum(quanyu_report_visible_seconds_count) > 10 "
            "and sum(quanyu_order_visible_seconds_count) > 0"
        )
        answer = httpx.get(
            f"{watch.url}/api/v1/query", params={"query": query}, trust_env=False
        ).json()
        return bool(answer["data"]["result"])

    assert until(scraped, 90)
    watch.fires(set())


def test_a_channel_that_falls_silent_is_named_and_forgotten_when_it_is_heard(
    watch: Watch, traffic: None
) -> None:
    send(watch.city, "police110", [raw(watch.city, "police110", "S1")], age_s=6000)
    # The record is as old as the silence: a reading that comes before it is decided finds it waiting.
    watch.fires({"QuanyuChannelSilent"}, {"QuanyuPipelineStalled"})
    assert watch.about("QuanyuChannelSilent", "channel") == {"police110"}
    send(watch.city, "police110", [raw(watch.city, "police110", "S2")])
    watch.clears()


@pytest.mark.parametrize(("part", "group"), [("sink", "quanyu-sink"), ("worker", "quanyu-streams")])
def test_a_part_that_hangs_stalls_the_pipeline_and_both_are_said_until_it_works(
    watch: Watch, traffic: None, part: str, group: str
) -> None:
    with frozen(watch.city, part) as for_seconds:
        watch.fires({"QuanyuPartDown", "QuanyuPipelineStalled"}, LEVELS)
        assert watch.about("QuanyuPartDown", "part") == {part}
        assert watch.about("QuanyuPipelineStalled", "group") == {group}
        assert not (watch.firing() & LEVELS) or for_seconds() > LATE_S
    watch.clears()


def test_a_screen_that_hangs_takes_no_reports_and_the_heartbeat_says_so(
    watch: Watch, traffic: None
) -> None:
    with frozen(watch.city, "screen"):
        watch.fires({"QuanyuPartDown", "QuanyuHeartbeatMissing"}, LEVELS)
        assert watch.about("QuanyuPartDown", "part") == {"screen"}
        assert watch.about("QuanyuHeartbeatMissing", "step") == {"push"}
    watch.clears()


def test_poison_and_a_worker_that_dies_again_and_again_are_told_apart(
    watch: Watch, traffic: None
) -> None:
    poison = {"QuanyuDlqGrowing", "QuanyuPoisonRun"}
    send(watch.city, "iot", [b"\x07no avro %d" % n for n in range(1500)])
    watch.fires(poison)
    assert watch.about("QuanyuPoisonRun", "topic") == {raw_topic("iot")}
    for _ in range(3):
        before = watch.city.recorded()["worker"]
        os.kill(before["pid"], signal.SIGKILL)
        port = watch.city.port + 4

        def again(old: int = before["pid"], port: int = port) -> bool:
            new = watch.city.recorded()["worker"]["pid"]
            return bool(
                new
                and new != old
                and httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False)
            )

        assert until(again, 90)
    # While it starts three times in a row, reports wait for as long as that takes.
    watch.fires(
        {"QuanyuPartRestarting"}, poison | {"QuanyuPipelineStalled", "QuanyuPartDown"} | LEVELS
    )
    assert watch.about("QuanyuPartRestarting", "part") == {"worker"}
    watch.clears()


def commands() -> list[str]:
    """Every command of every runbook, each once."""
    pages = [
        path.read_text(encoding="utf-8") for path in sorted((FOLDER / "runbooks").glob("*.md"))
    ]
    return list(
        dict.fromkeys(
            line for page in pages for block in FENCE.findall(page) for line in block.splitlines()
        )
    )


def test_every_command_of_the_runbooks_runs_as_it_is_written(city: Stack, tmp_path: Path) -> None:
    """In a shell of its own: only the home and the ports are this stack's instead of the default ones."""
    send(city, "hotline12345", [b"no avro"])
    assert until(lambda: "hotline12345" in city.run("dlq", "list").stdout, 60)
    (tmp_path / ".quanyu").symlink_to(city.home)
    environment = city.env | {
        "QUANYU_HOME": ".quanyu",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    wrong = {}
    for command in commands():
        here = re.sub(
            r"127\.0\.0\.1:80(\d\d)\b", lambda m: f"127.0.0.1:{city.port + int(m[1])}", command
        )
        done = subprocess.run(
            ["bash", "-c", here],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=180,
        )
        # 1 is an answer: the doctor has a finding, grep found nothing. 2 is: it could not run.
        answers = (0, 1) if command == "quanyu doctor" or "grep" in command else (0,)
        if done.returncode not in answers or "Traceback" in done.stderr:
            wrong[command] = (done.returncode, done.stdout[-300:], done.stderr[-300:])
    assert wrong == {}
