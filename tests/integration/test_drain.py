"""SIGTERM: every part stops reading, finishes or gives up what it holds, and leaves, within one budget.

Also when the broker does not answer any more: an orchestrator kills whoever takes longer than its grace, and a
killed part leaves its group and its transactions to time out.
"""

import contextlib
import itertools
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from connectors.mapping import to_raw_report
from connectors.publish import BrokerBehind, Publisher
from connectors.simulator import Simulation, load_numbers
from deploy.audit import audit
from deploy.local import home as homes
from deploy.local.parts import Part, child_environment, http_ok, pipeline_parts
from schemas import tables, topics
from schemas.channels import load_channel
from schemas.city import CityPack
from schemas.settings import Settings
from tests.conftest import Stack, eventually, free_base_port

pytestmark = [pytest.mark.integration, pytest.mark.long, pytest.mark.timeout(400)]

#: A part's own budget and what the machine may be late by; the chart gives 30 s, the gateway 40.
BUDGET_S = 20.0
SEED = 7
#: Exit codes of who left by itself; uvicorn ends by the signal that it was told to end by.
LEFT = {0, -signal.SIGTERM}


@pytest.fixture
def living(zhengzhou: CityPack, tmp_path: Path) -> Iterator[Stack]:
    """A broker and an engine of this test's own, with topics and tables."""
    stack = Stack(Settings(home=tmp_path, port=free_base_port()), {})
    homes.prepare(stack.settings)
    try:
        stack.start_kafka()
        stack.start_clickhouse()
        topics.apply(stack.settings)
        tables.apply(stack.settings)
        yield stack
    finally:
        for process in tree_of(stack, "kafka"):
            with contextlib.suppress(psutil.Error):
                process.resume()
        stack.stop()


def tree_of(stack: Stack, name: str) -> list[psutil.Process]:
    """A server's process and those below it."""
    process = psutil.Process(stack.processes[name].pid)
    return [process, *process.children(recursive=True)]


def start(settings: Settings, part: Part) -> subprocess.Popen[bytes]:
    log = settings.home / "logs" / f"{part.name}.log"
    with log.open("ab") as out:
        return subprocess.Popen(
            part.argv, env=child_environment(settings, part.env), stdout=out, stderr=out
        )


def start_all(settings: Settings) -> dict[str, subprocess.Popen[bytes]]:
    """All parts; returns when each says that it is ready."""
    parts = pipeline_parts(settings)
    running = {part.name: start(settings, part) for part in parts}
    for part in parts:
        eventually(part.answers, 120)
    return running


def end_all(running: dict[str, subprocess.Popen[bytes]]) -> dict[str, tuple[int | None, float]]:
    """Exit code, None for one that had to be killed, and seconds from SIGTERM of each part."""
    begun, ended = time.monotonic(), dict[str, tuple[int | None, float]]()
    for process in running.values():
        process.send_signal(signal.SIGTERM)
    while len(ended) < len(running) and time.monotonic() - begun < 2 * BUDGET_S:
        for name, process in running.items():
            if name not in ended and process.poll() is not None:
                ended[name] = process.returncode, round(time.monotonic() - begun, 1)
        time.sleep(0.05)
    for name, process in running.items():
        if name not in ended:
            process.kill()
            process.wait()
            ended[name] = None, 2 * BUDGET_S
    return ended


def kill(running: dict[str, subprocess.Popen[bytes]]) -> None:
    """Leave nothing behind."""
    for process in running.values():
        if process.poll() is None:
            process.kill()
        process.wait()


@contextlib.contextmanager
def load(settings: Settings, city: CityPack, rate: float = 300.0) -> Iterator[list[int]]:
    """Reports of a simulated day at a rate, until the block ends; how many were confirmed."""
    stop, sent = threading.Event(), [0]
    publisher = Publisher(settings)
    start_ms = int(time.time() * 1000) - 600_000
    day = load_numbers().scenario("day")
    reports = Simulation(city, day, seed=SEED, rate=rate, start_ms=start_ms).reports()

    def send() -> None:
        while not stop.wait(0.1):
            by_channel: dict[str, list[dict[str, object]]] = {}
            for report in itertools.islice(reports, int(rate / 10)):
                spec = load_channel(report.channel)
                now = int(time.time() * 1000)
                raw = to_raw_report(spec, report.native, received_at=now, connector="drain")
                by_channel.setdefault(report.channel, []).append(raw)
            for raws in by_channel.values():
                try:
                    publisher.publish(raws, "drain")
                except BrokerBehind:
                    return
                sent[0] += len(raws)

    sending = threading.Thread(target=send, daemon=True)
    sending.start()
    try:
        yield sent
    finally:
        stop.set()
        sending.join(30)
        publisher.close(1.0)


def test_every_part_drains_under_load_and_nothing_is_lost(
    living: Stack, zhengzhou: CityPack
) -> None:
    settings = living.settings
    running = start_all(settings)
    try:
        with load(settings, zhengzhou) as sent:
            for _ in range(2):
                before = sent[0]
                eventually(lambda before=before: sent[0] > before + 600, 60)  # type: ignore[misc]
                ended = end_all(running)
                assert {code for code, _ in ended.values()} <= LEFT, ended
                assert max(seconds for _, seconds in ended.values()) < BUDGET_S, ended
                running = start_all(settings)
        report = audit(settings, timeout=120)
        assert {check.name: check.first for check in report.checks if not check.ok} == {}
        assert report.quiet
        assert sum(channel.received for channel in report.channels) >= sent[0] > 1200
    finally:
        kill(running)


def test_every_part_leaves_within_its_budget_when_the_broker_stands_still(
    living: Stack, zhengzhou: CityPack
) -> None:
    running = start_all(living.settings)
    try:
        with load(living.settings, zhengzhou) as sent:
            eventually(lambda: sent[0] > 600, 60)
            for server in tree_of(living, "kafka"):
                server.suspend()
            time.sleep(1.0)  # everybody has something on its way by now
            ended = end_all(running)
        assert {code for code, _ in ended.values()} <= LEFT, ended
        assert max(seconds for _, seconds in ended.values()) < BUDGET_S, ended
    finally:
        kill(running)


@contextlib.contextmanager
def silence() -> Iterator[int]:
    """A port that takes every connection and never says a word."""
    with (
        socket.create_server(("127.0.0.1", 0), backlog=200) as listening,
        contextlib.ExitStack() as held,
    ):

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    held.enter_context(listening.accept()[0])

        threading.Thread(target=accept, daemon=True).start()
        yield listening.getsockname()[1]


def test_every_part_leaves_within_its_budget_when_no_server_says_a_word(
    zhengzhou: CityPack, tmp_path: Path
) -> None:
    with silence() as kafka, silence() as clickhouse:
        settings = Settings(
            home=tmp_path,
            port=free_base_port(),
            kafka=f"127.0.0.1:{kafka}",
            clickhouse=f"http://127.0.0.1:{clickhouse}",
        )
        homes.prepare(settings)  # its stack file tells the parts
        running = {part.name: start(settings, part) for part in pipeline_parts(settings)}
        try:

            def alive(name: str) -> bool:
                port = settings.screen_port if name == "screen" else settings.metrics_port(name)
                return http_ok(port, "/healthz")

            eventually(lambda: all(alive(name) for name in running), 120)
            for name in ("worker", "sink"):
                assert not http_ok(settings.metrics_port(name), "/readyz"), (
                    "it has no partitions yet"
                )
            ended = end_all(running)
            assert {code for code, _ in ended.values()} <= LEFT, ended
            assert max(seconds for _, seconds in ended.values()) < BUDGET_S, ended
        finally:
            kill(running)
