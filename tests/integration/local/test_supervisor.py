"""The supervisor with small parts: what dies comes back, and nothing is ever left behind."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from deploy.local import home as homes
from deploy.local.parts import ROOT
from tests.conftest import eventually, free_base_port

pytestmark = pytest.mark.integration

SCRIPT = Path(__file__).with_name("fake_stack.py")


def start(home: Path, port: int, *extra: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), str(home), str(port), *extra],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    )


def record(home: Path) -> dict[str, Any]:
    return homes.read_json(home / homes.PARTS_FILE) or {}


def pids(home: Path) -> dict[str, int]:
    return {part["name"]: part["pid"] for part in record(home).get("parts", [])}


def running(pid: int) -> bool:
    return psutil.pid_exists(pid) and homes.alive(psutil.Process(pid))


@contextmanager
def stack(home: Path, port: int) -> Iterator[subprocess.Popen[str]]:
    process = start(home, port)
    try:
        eventually(lambda: record(home).get("ready") and record(home)["supervisor"] == process.pid)
        yield process
    finally:
        process.kill()
        process.communicate()


def test_a_killed_part_comes_back_with_its_restarts_counted(tmp_path: Path) -> None:
    with stack(tmp_path, free_base_port()):
        before = pids(tmp_path)
        os.kill(before["worker"], signal.SIGKILL)
        eventually(lambda: pids(tmp_path)["worker"] not in (None, before["worker"]))
        after = pids(tmp_path)
        assert {n: p for n, p in after.items() if n != "worker"} == {
            n: p for n, p in before.items() if n != "worker"
        }
        counts = {part["name"]: part["restarts"] for part in record(tmp_path)["parts"]}
        assert counts == {"kafka": 0, "worker": 1, "stubborn": 0}


def test_a_stop_asks_first_then_kills_and_leaves_nothing(tmp_path: Path) -> None:
    with stack(tmp_path, free_base_port()) as process:
        before = pids(tmp_path)
        started = time.monotonic()
        process.terminate()
        assert process.wait(15) == 0
        assert time.monotonic() - started < 15
        assert not [name for name, pid in before.items() if running(pid)]
        for name in ("kafka", "worker"):
            log = (tmp_path / "logs" / f"{name}.log").read_text(encoding="utf-8")
            assert "asked to stop" in log
        assert homes.owner(tmp_path) is None


def test_a_killed_supervisor_leaves_no_orphan_and_the_next_start_works(tmp_path: Path) -> None:
    port = free_base_port()
    with stack(tmp_path, port) as process:
        before = pids(tmp_path)
        process.kill()
        process.wait()
        eventually(lambda: not [pid for pid in before.values() if running(pid)])
    with stack(tmp_path, port):
        assert set(pids(tmp_path)) == set(before)


def test_two_homes_run_side_by_side_but_one_home_only_once(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    with stack(one, free_base_port()) as first, stack(two, free_base_port()):
        again = start(one, free_base_port())
        _, error = again.communicate(timeout=30)
        assert again.returncode == 1
        assert f"process {first.pid}" in error
        assert all(map(running, [*pids(one).values(), *pids(two).values()]))


def test_a_part_that_cannot_run_ends_the_start_with_its_own_words(tmp_path: Path) -> None:
    process = start(tmp_path, free_base_port(), "broken")
    _, error = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "sink does not start" in error
    assert "no licence for this town" in error
    assert homes.owner(tmp_path) is None


def test_a_port_in_use_is_named_with_the_remedy(tmp_path: Path) -> None:
    port = free_base_port()
    with socket.socket() as other:
        other.bind(("127.0.0.1", port + 1))
        other.listen()
        process = start(tmp_path, port)
        _, error = process.communicate(timeout=30)
    assert process.returncode == 1
    assert f"port {port + 1} (worker) is in use" in error
    assert "--port" in error
