"""``python -m tests.faults.soak --hours 4 --rate 500``: what grows while a city reports at a steady rate?

Every ten seconds it notes memory, file handles and threads of each process, the disk, and how long a report
takes until it is visible; every minute a fault strikes. At the end: slopes an hour, by least squares, and the
same audit as after any run of faults. A process that was restarted counts from its second minute on, since
what a young process fills is no leak; so without faults (``--quiet``) the slopes are the truest.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from rich.console import Console
from rich.table import Table

from tests.faults import kinds
from tests.faults.harness import WiredStack
from tests.faults.story import Probe, Report, opened, settle, strike

SAMPLE_S, FAULT_S, YOUNG_S = 10.0, 60.0, 60.0
MB = 1024 * 1024

#: (what, of which part) → its values by seconds since the beginning.
Series = dict[tuple[str, str], list[tuple[float, float]]]


def sample(stack: WiredStack, at: float, series: Series) -> None:
    """Note every process that is old enough, and the disk."""
    for name, part in stack.recorded().items():
        try:
            process = psutil.Process(part["pid"])
            if time.time() - process.create_time() < YOUNG_S:
                continue
            with process.oneshot():
                series["memory MB", name].append((at, process.memory_info().rss / MB))
                series["file handles", name].append((at, process.num_fds()))
                series["threads", name].append((at, process.num_threads()))
        except (psutil.Error, TypeError):
            continue
    for folder in ("kafka", "clickhouse", "mqtt", "logs"):
        used = subprocess.run(
            ["du", "-sk", str(stack.home / folder)], capture_output=True, text=True
        ).stdout
        if used:
            series["disk MB", folder].append((at, int(used.split()[0]) / 1024))


def slopes(series: Series) -> list[dict[str, Any]]:
    """First and last value of each, and by how much it grows an hour."""
    lines = []
    for (what, part), points in series.items():
        if len(points) < 3:
            continue
        times, values = np.array(points).T
        slope = float(np.polyfit(times / 3600, values, 1)[0])
        lines.append(
            {
                "what": what,
                "part": part,
                "samples": len(points),
                "first": round(float(values[0]), 2),
                "last": round(float(values[-1]), 2),
                "max": round(float(values.max()), 2),
                "an_hour": round(slope, 2),
            }
        )
    return lines


def soak(
    home: Path, hours: float, rate: float, seed: int, quiet: bool, say: Any
) -> tuple[Report, list[dict[str, Any]]]:
    """Run it; the verdict, and what grew."""
    report = Report(seed=seed, rounds=0)
    series: Series = defaultdict(list)
    rng = random.Random(seed)
    begun = time.monotonic()
    with opened(home, rng, seed, report, small_disks=False, rate=rate, replay_rows=0) as (
        scene,
        loads,
    ):
        probe = Probe(scene.stack)
        start = time.monotonic()
        next_fault = start + FAULT_S
        faults = kinds.deck()
        while (at := time.monotonic() - start) < hours * 3600 and not any(x.error for x in loads):
            sample(scene.stack, at, series)
            seconds = probe.seconds()
            if seconds is None:
                report.problems.append(f"a report was not visible after {at:.0f} s")
                break
            series["visible after s", "probe"].append((at, seconds))
            if not quiet and time.monotonic() > next_fault:
                next_fault += FAULT_S
                strike(scene, report, rng.choice(faults), probe, f"{at:.0f} s", say)
            time.sleep(max(0.0, SAMPLE_S - (time.monotonic() - start - at)))
        settle(home, scene, report, [*loads, probe], say)
    report.seconds = round(time.monotonic() - begun, 1)
    return report, slopes(series)


def main() -> None:
    """Exit 0 when nothing was lost or doubled; the slopes are for a person to judge."""
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--hours", type=float, default=4.0)
    parser.add_argument("--rate", type=float, default=500.0, help="reports a second")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--quiet", action="store_true", help="no faults")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    console = Console(highlight=False, stderr=given.json)
    with tempfile.TemporaryDirectory(prefix="quanyu-soak-") as folder:
        report, grown = soak(
            Path(folder), given.hours, given.rate, given.seed, given.quiet,
            lambda line: console.print(line, markup=False),
        )  # fmt: skip
    if given.json:
        print(json.dumps(report.to_json() | {"slopes": grown}, ensure_ascii=False))
    else:
        table = Table("what", "of", "samples", "first", "last", "max", "grows an hour")
        for line in grown:
            table.add_row(*(str(value) for value in line.values()))
        console.print(table)
        console.print(f"{report.promised} reports, {len(report.faults)} faults; {report.problems}")
    sys.exit(0 if report.ok else 1)


if __name__ == "__main__":
    main()
