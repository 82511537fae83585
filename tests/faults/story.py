"""One run: load through the real channels, one fault after another, quiet, the audit, and what was promised.

Faults follow progress, not the clock: each waits until more reports were confirmed since the last one, so
that a slow machine sees the same story as a quick one. After each a report of another channel is pushed
until it is confirmed and waited for until it is visible: the time between the fault's end and that is its
recovery, end to end, whatever the fault was.
"""

import contextlib
import json
import random
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import httpx

from deploy.checks import COUNTERS
from tests.faults import kinds
from tests.faults.harness import RECOVERY_LIMIT_S, WiredStack, free_base_port, until
from tests.faults.kinds import Fault, Scene, Skipped
from tests.faults.loads import Device, Drop, Load, Push, Replay
from tests.faults.network import Network, Wire
from tests.faults.stack import (
    CLICKHOUSE_WIRES,
    KAFKA_WIRES,
    PORTS,
    WIRED,
    addresses,
    clickhouse_wire,
    kafka_wire,
    listener,
)

#: Faults of a round.
ROUND = 10
#: A run that processed less proves nothing.
MINIMUM_REPORTS = 1000
#: Offenders that a report names.
SHOWN = 20
#: Room of Kafka and of the engine when they have a file system of their own.
SMALL_DISK = "3g"
#: No new outcome for so long, and none will come.
STILL_S = 60.0


@dataclass
class Done:
    """A fault that struck, and the seconds until a report pushed after it was visible."""

    kind: str
    place: str
    #: None: nobody waited for it.
    recovered_s: float | None


@dataclass
class Report:
    """What a run found; ``ok`` is its verdict."""

    seed: int
    rounds: int
    promised: int = 0
    outcomes: int = 0
    seconds: float = 0.0
    faults: list[Done] = field(default_factory=list)
    #: What could not be had, and why; a fault that nobody came to is none.
    skipped: list[str] = field(default_factory=list)
    restarts: dict[str, int] = field(default_factory=dict)
    audit: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """True when every part came back, nothing was lost or doubled and enough was processed."""
        return not self.problems

    def to_json(self) -> dict[str, Any]:
        """One object for ``--json``."""
        return asdict(self) | {"ok": self.ok, "recovery": recovery(self.faults)}


def recovery(faults: Sequence[Done]) -> dict[str, dict[str, float]]:
    """Seconds to recover by kind: count, p50, max."""
    by_kind: dict[str, list[float]] = {}
    for fault in faults:
        if fault.recovered_s is not None:
            by_kind.setdefault(fault.kind, []).append(fault.recovered_s)
    return {
        kind: {
            "n": len(times),
            "p50": round(median(times), 1),
            "max": round(max(times), 1),
        }
        for kind, times in by_kind.items()
    }


def drawn(rng: random.Random, among: Sequence[Fault], count: int) -> list[Fault]:
    """Faults from shuffled decks: each once before any of them again."""
    faults: list[Fault] = []
    while len(faults) < count:
        faults += rng.sample(among, len(among))
    return faults[:count]


def named(names: Sequence[tuple[str, str]]) -> list[Fault]:
    """Faults by kind and place."""
    known = {(fault.kind, fault.place): fault for fault in kinds.deck()}
    return [known[name] for name in names]


def run(
    home: Path,
    *,
    seed: int,
    rounds: int = 1,
    faults: Sequence[Fault] | None = None,
    among: Sequence[Fault] | None = None,
    small_disks: bool = False,
    replay_rows: int = 20_000,
    seconds: float = float("inf"),
    patient: bool = True,
    say: Callable[[str], None] = lambda _: None,
) -> Report:
    """Tell the story once; never raises for a fault's consequence, it is in ``problems``.

    ``faults`` are these in this order; else ``rounds`` of ten are drawn, ``among`` these or all.
    ``seconds``: no fault begins later than that. ``patient``: each fault waits until the stack has recovered
    from the one before; else they come one upon the other, and only the end has to be well.
    """
    begun = time.monotonic()
    report = Report(seed=seed, rounds=rounds)
    rng = random.Random(seed)
    drawn_faults = list(faults or drawn(rng, among or kinds.deck(), rounds * ROUND))
    with opened(home, rng, seed, report, small_disks, replay_rows=replay_rows) as (scene, loads):
        probe = Probe(scene.stack)
        for number, fault in enumerate(drawn_faults):
            if time.monotonic() - begun > seconds or any(load.error for load in loads):
                break
            waits = probe if patient or number + 1 == len(drawn_faults) else None
            strike(scene, report, fault, waits, f"{number + 1}/{len(drawn_faults)}", say)
        settle(home, scene, report, [*loads, probe], say)
        report.seconds = round(time.monotonic() - begun, 1)
    return report


@contextlib.contextmanager
def opened(
    home: Path,
    rng: random.Random,
    seed: int,
    report: Report,
    small_disks: bool,
    *,
    rate: float = 500.0,
    replay_rows: int = 20_000,
) -> Iterator[tuple[Scene, list[Load]]]:
    """A stack with its wires, under load. ``replay_rows`` 0: no files at full speed beside the steady load."""
    stack = WiredStack(home / "stack", free_base_port(rng, PORTS))
    port = stack.port
    wires = [Wire(f"kafka:{p}", kafka_wire(port, p), listener(port, p)) for p in WIRED]
    wires += [Wire(f"clickhouse:{p}", clickhouse_wire(port, p), port + 1) for p in WIRED]
    assert len(WIRED) <= CLICKHOUSE_WIRES - KAFKA_WIRES
    with (
        disks(stack.home, small_disks, report) as small,
        Network(wires) as network,
        stack.running(),
    ):
        push = Push(stack, seed, rate)
        replay = Replay(
            stack,
            seed + 1,
            addresses(port, "replay"),
            lambda: sum(len(load.confirmed) for load in loads) - _outcomes(stack),
            replay_rows,
        )
        loads: list[Load] = [push, Drop(stack, seed + 2), Device(stack, seed + 3)]
        loads += [replay] if replay_rows else []
        for load in loads:
            load.start()
        yield Scene(stack, network, push, replay, rng, small), loads


def settle(
    home: Path,
    scene: Scene,
    report: Report,
    loads: Sequence["Load | Probe"],
    say: Callable[[str], None],
) -> None:
    """End the loads, wait until quiet, and judge; the logs of what did not end well are kept."""
    stack = scene.stack
    for load in loads:
        if isinstance(load, Load):
            load.finish()
            if load.error:
                report.problems.append(load.error)
    with contextlib.suppress(OSError, ValueError):
        report.restarts = {n: p["restarts"] for n, p in stack.recorded().items()}
    say("quiet, then the audit")
    try:
        _hold_against_truth(stack, report, loads)
    except (RuntimeError, ValueError, subprocess.TimeoutExpired) as error:
        report.problems.append(f"it could not be judged: {error}"[:500])
    if report.problems:
        kept = Path(f"{home}-failed-{report.seed}")
        shutil.rmtree(kept, ignore_errors=True)
        shutil.copytree(stack.home / "logs", kept / "logs")
        for log in stack.home.glob("*.log"):
            shutil.copy(log, kept)
        say(f"logs kept in {kept}")


@contextlib.contextmanager
def disks(home: Path, wanted: bool, report: Report) -> Iterator[set[str]]:
    """Small file systems below the data of Kafka and of the engine, where this machine lets us."""
    mounted: set[str] = set()
    try:
        for folder in ("kafka", "clickhouse") if wanted else ():
            place = home / folder
            place.mkdir(parents=True)
            done = subprocess.run(
                ["mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK}", "tmpfs", str(place)],
                capture_output=True,
                text=True,
            )
            if done.returncode:
                report.skipped.append(f"small disks: {done.stderr.strip()}")
                break
            mounted.add(folder)
        yield mounted
    finally:
        for folder in mounted:
            subprocess.run(["umount", "-l", str(home / folder)], check=False)


class Probe:
    """A report of its own channel after each fault: pushed until confirmed, awaited until visible."""

    channel = "grid_patrol"

    def __init__(self, stack: WiredStack) -> None:
        self.stack = stack
        self.confirmed: list[str] = []
        keys = json.loads((stack.home / "keys.json").read_text(encoding="utf-8"))
        self.headers = {"X-API-Key": keys[self.channel]}

    def seconds(self) -> float | None:
        """How long it took; None when it was longer than the limit."""
        started = time.monotonic()
        name = f"probe-{len(self.confirmed)}"
        report = {"task_id": name, "found_at": "2026-03-01T08:15:00+08:00", "title": "路灯不亮"}

        def pushed() -> bool:
            answer = httpx.post(
                f"{self.stack.url}/channels/{self.channel}/reports",
                json=report,
                headers=self.headers,
                timeout=15,
                trust_env=False,
            )
            return answer.status_code == httpx.codes.ACCEPTED

        def visible() -> bool:
            (found,) = self.stack.rows(
                "SELECT count() FROM quanyu.report_outcomes "
                f"WHERE channel = '{self.channel}' AND native_id = '{name}'"
            )
            return int(found[0]) > 0

        if not until(pushed, RECOVERY_LIMIT_S, 0.1):
            return None
        self.confirmed.append(name)
        if not until(visible, RECOVERY_LIMIT_S, 0.1):
            return None
        return time.monotonic() - started


def strike(
    scene: Scene,
    report: Report,
    fault: Fault,
    probe: Probe | None,
    number: str,
    say: Callable[[str], None],
) -> None:
    """One fault, once more reports were confirmed; with a probe, until the stack has recovered from it."""
    name = f"{fault.kind}: {fault.place}"
    before = len(scene.push.confirmed)
    if not until(
        lambda: len(scene.push.confirmed) > before or not scene.push.is_alive(),
        RECOVERY_LIMIT_S,
        0.05,
    ):
        report.problems.append(f"no report confirmed before {name}")
    time.sleep(scene.rng.uniform(0.0, 0.5))
    try:
        fault.strike(scene)
    except Skipped as why:
        report.skipped.append(f"{name}: {why}")
        say(f"{number} {name}: skipped, {why}")
        return
    except (RuntimeError, OSError, ValueError) as error:
        report.problems.append(f"{name}: {error!r}")
        say(f"{number} {name}: {error!r}")
        return
    if probe is None:
        report.faults.append(Done(fault.kind, fault.place, None))
        say(f"{number} {name}")
        return
    recovered = probe.seconds()
    if recovered is None:
        report.problems.append(f"after {name} no report was visible in {RECOVERY_LIMIT_S:.0f} s")
        say(f"{number} {name}: NOT RECOVERED")
        return
    report.faults.append(Done(fault.kind, fault.place, round(recovered, 2)))
    say(f"{number} {name}: {recovered:.1f} s; {len(scene.push.confirmed)} pushed")


def _outcomes(stack: WiredStack) -> int:
    try:
        return int(stack.rows("SELECT count() FROM quanyu.report_outcomes")[0][0])
    except RuntimeError:
        return 0


def _hold_against_truth(stack: WiredStack, report: Report, loads: Sequence[Load | Probe]) -> None:
    """Wait until quiet, audit, then compare every id that was promised with the outcomes that are stored."""

    def answering() -> bool:
        return all(part["answering"] for part in stack.parts().values())

    if not until(answering, RECOVERY_LIMIT_S, 1.0):
        report.problems.append("not every part answers at the end")
    promised: dict[str, set[str]] = {}
    for load in loads:
        promised.setdefault(load.channel, set()).update(load.confirmed)
    report.promised = sum(map(len, promised.values()))
    if report.promised < MINIMUM_REPORTS:
        report.problems.append(f"only {report.promised} reports: too few to prove anything")
    lost: list[str] = []
    doubled: list[str] = []
    for channel, expected in promised.items():
        counts = _awaited(stack, channel, expected)
        lost += sorted(f"{channel}/{name}" for name in expected - counts.keys())
        doubled += sorted(
            f"{channel}/{name}" for name in expected & counts.keys() if counts[name] != 1
        )
    report.outcomes = _outcomes(stack)
    if lost:
        report.problems.append(f"{len(lost)} confirmed reports lost, first: {lost[:SHOWN]}")
    if doubled:
        report.problems.append(
            f"{len(doubled)} reports counted other than once, first: {doubled[:SHOWN]}"
        )
    report.audit = stack.json("audit", "--timeout", "240", timeout=600)
    if not report.audit.get("clean"):
        report.problems.append("the audit is not clean")
    views = {
        str(name) for (name,) in stack.rows(
            "SELECT name FROM system.tables WHERE database = 'quanyu' AND engine = 'MaterializedView'"
        )
    }  # fmt: skip
    recomputed = {f"{counter.table}_view" for counter in COUNTERS}
    if views != recomputed:
        report.problems.append(f"views that no audit recomputes: {sorted(views ^ recomputed)}")


def _awaited(stack: WiredStack, channel: str, expected: set[str]) -> dict[str, int]:
    """How often each id counts, once all are there or none has come for a while."""
    counts: dict[str, int] = {}
    still_since, seen = time.monotonic(), -1
    while time.monotonic() - still_since < STILL_S:
        with contextlib.suppress(RuntimeError):
            counts = {
                str(name): int(first)
                for name, first in stack.rows(
                    "SELECT native_id, countIf(outcome != 'duplicate') FROM quanyu.report_outcomes "
                    f"WHERE channel = '{channel}' GROUP BY native_id"
                )
            }
        if expected <= counts.keys():
            break
        if len(counts) != seen:
            still_since, seen = time.monotonic(), len(counts)
        time.sleep(1.0)
    return counts
