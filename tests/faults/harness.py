"""Kill the parts of a living stack, one after another, and hold what comes out against what went in.

The harness is a stranger to the code: it uses the command line, the HTTP interface and signals only,
as an operator would. Two loads run meanwhile: a file replayed at full speed (resumed by its position
file when its process is killed) and numbered reports pushed over HTTP by a client that repeats what
was not confirmed. Faults follow progress, not the clock: each waits until more reports were decided
since the last one, so that a slow machine sees the same story as a quick one.
"""

import contextlib
import csv
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import httpx

#: What is killed in each round; "replay" is the connector that reads the file.
VICTIMS = ("worker", "sink", "screen", "replay", "clickhouse", "kafka")
#: A restarted JVM on a busy two-core machine needs this long at worst.
RECOVERY_LIMIT_S = 90.0
#: A run that processed less proves nothing.
MINIMUM_REPORTS = 1000

STREETS = ("林山寨街道", "经八路街道", "北林路街道", "东大街街道", "花园口镇")
MATTERS = ("路面塌陷", "路面积水", "暴露垃圾", "占道经营", "井盖缺失", "路灯不亮", "施工噪音扰民")


@dataclass
class Fault:
    """One kill and the time until the part answered again."""

    round: int
    victim: str
    recovered_s: float


@dataclass
class Report:
    """What a run of the harness found; ``ok`` is its verdict."""

    seed: int
    rounds: int
    sent_http: int = 0
    sent_file: int = 0
    outcomes: int = 0
    faults: list[Fault] = field(default_factory=list)
    audit: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """True when every part came back, nothing was lost or doubled and enough was processed."""
        return not self.problems

    def recovery(self) -> dict[str, dict[str, float]]:
        """Seconds to recover per victim: count, p50, max."""
        table = {}
        for victim in VICTIMS:
            times = sorted(f.recovered_s for f in self.faults if f.victim == victim)
            if times:
                table[victim] = {
                    "n": len(times),
                    "p50": round(times[len(times) // 2], 2),
                    "max": round(times[-1], 2),
                }
        return table

    def to_json(self) -> dict[str, Any]:
        """One object for ``--json``."""
        return asdict(self) | {"ok": self.ok, "recovery": self.recovery()}


def free_base_port(rng: random.Random) -> int:
    """A base port whose twenty ports are free now."""
    for _ in range(200):
        base = rng.randrange(20000, 32000, 20)
        with contextlib.ExitStack() as stack:
            try:
                for offset in range(20):
                    sock = stack.enter_context(socket.socket())
                    sock.bind(("127.0.0.1", base + offset))
            except OSError:
                continue
            return base
    raise RuntimeError("no twenty free ports in a row on 127.0.0.1")


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


class HttpLoad(threading.Thread):
    """Pushes numbered reports until told to stop; repeats a batch until it is confirmed with 202."""

    def __init__(self, stack: Stack, seed: int, batch: int = 50) -> None:
        super().__init__(daemon=True, name="http-load")
        self.stack, self.rng, self.batch = stack, random.Random(seed), batch
        self.ids: list[str] = []
        self.error = ""
        self._end = threading.Event()
        keys = json.loads((stack.home / "keys.json").read_text(encoding="utf-8"))
        self.headers = {"X-API-Key": keys["hotline12345"]}

    def finish(self) -> None:
        """Stop after the batch at hand is confirmed; wait for that."""
        self._end.set()
        self.join(RECOVERY_LIMIT_S)
        if self.is_alive():
            self.error = self.error or "the last batch was not confirmed in time"

    def run(self) -> None:
        """Thread body."""
        number = 0
        with httpx.Client(base_url=self.stack.url, headers=self.headers, timeout=15) as client:
            while not self._end.is_set():
                batch = [row(f"H{number + i:07d}", self.rng) for i in range(self.batch)]
                number += self.batch
                if not self._deliver(client, batch):
                    return
                self.ids.extend(report["留言编号"] for report in batch)
                # A steady push beside the replay at full speed: about 500 a second.
                self._end.wait(0.08)

    def _deliver(self, client: httpx.Client, batch: list[dict[str, str]]) -> bool:
        deadline = time.monotonic() + 2 * RECOVERY_LIMIT_S
        while time.monotonic() < deadline:
            with contextlib.suppress(httpx.HTTPError):
                answer = client.post("/channels/hotline12345/reports", json=batch)
                if answer.status_code == 202:
                    return True
                if answer.status_code in (400, 401, 403, 404, 413, 415):
                    self.error = f"push refused: {answer.status_code} {answer.text[:300]}"
                    return False
            time.sleep(0.2)
        self.error = "a batch was not confirmed within twice the recovery limit"
        return False


def row(native_id: str, rng: random.Random) -> dict[str, str]:
    """One hotline report in the columns of the call centre's export."""
    street, matter = rng.choice(STREETS), rng.choice(MATTERS)
    return {
        "留言编号": native_id,
        "留言用户": f"U{rng.randrange(10**6):06d}",
        "留言主题": f"{street}{matter}",
        "留言时间": "2026/3/1 8:15:00",
        "留言详情": f"{street}{rng.randrange(1, 200)}号附近{matter}，请尽快处理。",
    }


def write_file(path: Path, rows: int, seed: int) -> None:
    """A call-centre export with ``rows`` numbered reports."""
    rng = random.Random(seed)
    with path.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.DictWriter(handle, fieldnames=list(row("", rng)))
        writer.writeheader()
        for number in range(rows):
            writer.writerow(row(f"F{number:07d}", rng))


class Replay:
    """``quanyu replay`` that is started again when its process dies, as an operator's supervisor does."""

    def __init__(self, stack: Stack, file: Path, speed: str) -> None:
        self.stack, self.file, self.speed = stack, file, speed
        self.log = stack.home / "replay.log"
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            return subprocess.Popen(
                self.stack.command(
                    "replay", str(self.file), "--channel", "hotline12345", "--speed", self.speed
                ),
                env=self.stack.env,
                stdout=log,
                stderr=log,
            )

    def kill(self) -> None:
        """``kill -9``, then start again."""
        self.process.kill()
        self.process.wait()
        self.process = self._start()

    def finish(self, deadline_s: float) -> str:
        """Wait for a complete replay; what went wrong, or nothing."""
        end = time.monotonic() + deadline_s
        while time.monotonic() < end:
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = self.process.wait(timeout=max(1.0, end - time.monotonic()))
                if code == 0:
                    return ""
                # The broker was away for longer than the replay waits: it says so, exits 2 and resumes.
                self.process = self._start()
                time.sleep(1.0)
        return f"the replay did not finish in {deadline_s:.0f} s, see {self.log}"


def until(condition: Callable[[], bool], limit_s: float) -> bool:
    """Poll a condition; False when it did not hold within the limit."""
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        with contextlib.suppress(RuntimeError, httpx.HTTPError, json.JSONDecodeError, KeyError):
            if condition():
                return True
        time.sleep(0.2)
    return False


def run(home: Path, *, seed: int, rounds: int, file_rows: int = 60_000) -> Report:
    """Run the whole story once; never raises for a fault's consequence, it is in ``problems``."""
    rng = random.Random(seed)
    report = Report(seed=seed, rounds=rounds)
    stack = Stack(home / "stack", free_base_port(rng))
    source = home / "export.csv"
    write_file(source, file_rows, seed)
    with stack.running():
        load = HttpLoad(stack, seed)
        load.start()
        replay = Replay(stack, source, "max")
        for number in range(rounds):
            for victim in rng.sample(VICTIMS, len(VICTIMS)):
                before = len(load.ids)
                if not until(
                    lambda before=before: len(load.ids) > before or not load.is_alive(),  # type: ignore[misc]
                    RECOVERY_LIMIT_S,
                ):
                    report.problems.append(f"no report confirmed before killing {victim}")
                time.sleep(rng.uniform(0.0, 1.0))
                recovered = _kill(stack, replay, victim)
                if recovered is None:
                    report.problems.append(
                        f"round {number}: {victim} did not come back in {RECOVERY_LIMIT_S:.0f} s"
                    )
                else:
                    report.faults.append(Fault(number, victim, recovered))
        load.finish()
        if load.error:
            report.problems.append(f"http load: {load.error}")
        failed = replay.finish(4 * RECOVERY_LIMIT_S)
        if failed:
            report.problems.append(failed)
        report.sent_http, report.sent_file = len(load.ids), file_rows
        _hold_against_truth(stack, report, set(load.ids))
    return report


def _kill(stack: Stack, replay: Replay, victim: str) -> float | None:
    """Kill one victim; seconds until it answers again under a new pid, None when it never did."""
    if victim == "replay":
        start = time.monotonic()
        replay.kill()
        return time.monotonic() - start
    if not until(lambda: bool(stack.parts()[victim]["answering"]), RECOVERY_LIMIT_S):
        return None
    pid = stack.parts()[victim]["pid"]
    start = time.monotonic()
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)

    def back() -> bool:
        part = stack.parts()[victim]
        return bool(part["answering"]) and part["pid"] != pid

    return time.monotonic() - start if until(back, RECOVERY_LIMIT_S) else None


def _hold_against_truth(stack: Stack, report: Report, http_ids: set[str]) -> None:
    """Audit, then compare the ids that were confirmed with the outcomes that are stored."""
    if not until(lambda: all(p["answering"] for p in stack.parts().values()), RECOVERY_LIMIT_S):
        report.problems.append("not every part answers at the end")
    report.audit = stack.json("audit", "--timeout", "300", timeout=600)
    if not report.audit.get("clean"):
        report.problems.append("the audit is not clean")
    query = (
        "SELECT native_id, countIf(outcome != 'duplicate'), count() FROM quanyu.report_outcomes "
        "WHERE channel = 'hotline12345' GROUP BY native_id FORMAT JSONCompactEachRow"
    )
    answer = httpx.post(f"http://127.0.0.1:{stack.port + 1}/", content=query.encode(), timeout=120)
    answer.raise_for_status()
    counts: dict[str, tuple[int, int]] = {
        native_id: (int(first), int(total))
        for native_id, first, total in map(json.loads, answer.text.splitlines())
    }
    report.outcomes = sum(total for _, total in counts.values())
    expected = http_ids | {f"F{number:07d}" for number in range(report.sent_file)}
    lost = sorted(expected - counts.keys())
    # A batch whose answer was lost is repeated: its second copy is a duplicate, never a second report.
    doubled = sorted(native_id for native_id, (first, _) in counts.items() if first != 1)
    if lost:
        report.problems.append(f"{len(lost)} confirmed reports lost, first: {lost[:20]}")
    if doubled:
        report.problems.append(
            f"{len(doubled)} reports counted other than once, first: {doubled[:20]}"
        )
    if len(expected) < MINIMUM_REPORTS:
        report.problems.append(f"only {len(expected)} reports processed: too few to prove anything")
