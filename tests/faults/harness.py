"""A whole stack that is driven from outside, as an operator would: command line, HTTP interface, signals."""

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx

#: A restarted JVM on a busy two-core machine needs this long at worst.
RECOVERY_LIMIT_S = 90.0


def free_base_port(rng: random.Random, ports: int = 20) -> int:
    """A base port whose next ports, twenty of a plain stack, are free now."""
    for _ in range(200):
        base = rng.randrange(20000, 32000, 20)
        with contextlib.ExitStack() as stack:
            try:
                for offset in range(ports):
                    sock = stack.enter_context(socket.socket())
                    sock.bind(("127.0.0.1", base + offset))
            except OSError:
                continue
            return base
    raise RuntimeError(f"no {ports} free ports in a row on 127.0.0.1")


class Stack:
    """A whole stack in a home of its own, driven by the command line."""

    def __init__(self, home: Path, port: int) -> None:
        self.home, self.port = home, port
        self.env = {**os.environ, "QUANYU_HOME": str(home), "QUANYU_PORT": str(port)}

    def command(self, *argv: str) -> list[str]:
        """The argv of a quanyu command."""
        return [sys.executable, "-m", "deploy.cli", *argv]

    def run(self, *argv: str, timeout: float = 300.0) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            self.command(*argv), env=self.env, capture_output=True, text=True, timeout=timeout
        )

    def json(self, *argv: str, timeout: float = 300.0) -> dict[str, Any]:
        """The last line of a command's ``--json`` output."""
        done = self.run(*argv, "--json", timeout=timeout)
        lines = done.stdout.strip().splitlines()
        if not lines:
            raise RuntimeError(
                f"{argv} printed nothing; exit {done.returncode}: {done.stderr[-2000:]}"
            )
        result: dict[str, Any] = json.loads(lines[-1])
        return result

    def parts(self) -> dict[str, dict[str, Any]]:
        """Status of each part by name."""
        return {part["name"]: part for part in self.json("status")["parts"]}

    @contextlib.contextmanager
    def running(self) -> Iterator["Stack"]:
        """Start detached; stop at the end."""
        up = self.run("up", "--detach", timeout=240)
        if up.returncode:
            raise RuntimeError(f"quanyu up: exit {up.returncode}: {up.stderr[-3000:]}")
        try:
            yield self
        finally:
            self.run("down", timeout=60)

    @property
    def url(self) -> str:
        """Base URL of the screen and the push interface."""
        return f"http://127.0.0.1:{self.port}"

    def recorded(self) -> dict[str, dict[str, Any]]:
        """What the supervisor has written of each part: pid, restarts. At once, and asks no part."""
        document = json.loads((self.home / "parts.json").read_text(encoding="utf-8"))
        return {part["name"]: part for part in document["parts"]}

    def rows(self, query: str) -> list[list[Any]]:
        """A query's rows, asked of the engine itself. RuntimeError when it does not answer."""
        try:
            answer = httpx.post(
                f"http://127.0.0.1:{self.port + 1}/",
                content=f"{query} FORMAT JSONCompactEachRow".encode(),
                timeout=120,
                trust_env=False,
            )
        except httpx.HTTPError as error:
            raise RuntimeError(f"ClickHouse: {error!r}") from None
        if answer.status_code != httpx.codes.OK:
            raise RuntimeError(f"ClickHouse: {answer.text[:300]}")
        return [json.loads(line) for line in answer.text.splitlines()]


class WiredStack(Stack):
    """A stack of ``tests/faults/stack.py``: with failpoints in its processes and wires between them."""

    def __init__(self, home: Path, port: int) -> None:
        super().__init__(home, port)
        from tests.faults import python_path
        from tests.faults.stack import __file__ as program

        self.faults = home / "faults"
        #: In which its processes run; the commands that are typed beside it know nothing of faults.
        self.hurt_env = {
            **self.env,
            "PYTHONPATH": python_path(Path(program).parents[2]),
            "QUANYU_FAULTS": str(self.faults),
        }

    @contextlib.contextmanager
    def running(self) -> Iterator["WiredStack"]:
        """Start and wait until it is ready; stop at the end."""
        self.faults.mkdir(parents=True, exist_ok=True)
        with (self.home / "supervisor.log").open("wb") as log:
            supervisor = subprocess.Popen(
                [sys.executable, "-m", "tests.faults.stack"],
                env=self.hurt_env,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            if not until(lambda: self._ready(supervisor), 3 * RECOVERY_LIMIT_S):
                text = (self.home / "supervisor.log").read_text(encoding="utf-8")
                raise RuntimeError(f"the stack does not start: {text[-3000:]}")
            yield self
        finally:
            # A frozen part would not hear that it is to end.
            with contextlib.suppress(OSError, ValueError):
                for part in self.recorded().values():
                    if part["pid"]:
                        with contextlib.suppress(ProcessLookupError):
                            os.kill(part["pid"], signal.SIGCONT)
            supervisor.terminate()
            try:
                supervisor.wait(30)
            except subprocess.TimeoutExpired:
                supervisor.kill()
                supervisor.wait()

    def _ready(self, supervisor: subprocess.Popen[bytes]) -> bool:
        if supervisor.poll() is not None:
            text = (self.home / "supervisor.log").read_text(encoding="utf-8")
            raise SystemExit(f"the stack ended at its start: {text[-3000:]}")
        with contextlib.suppress(OSError, ValueError):
            document = json.loads((self.home / "parts.json").read_text(encoding="utf-8"))
            return bool(document["ready"]) and document["supervisor"] == supervisor.pid
        return False


def until(condition: Callable[[], bool], limit_s: float, pause_s: float = 0.2) -> bool:
    """Poll a condition; False when it did not hold within the limit."""
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        with contextlib.suppress(
            RuntimeError, httpx.HTTPError, json.JSONDecodeError, KeyError, OSError
        ):
            if condition():
                return True
        time.sleep(pause_s)
    return False
