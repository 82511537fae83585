"""What the runs found, kept in the tree: ``runs.jsonl``, and the tables of README.md that are made of it."""

import json
import os
import platform
import subprocess
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.faults.kinds import Fault, deck
from tests.faults.story import Done, Report, recovery

HERE = Path(__file__).parent
RUNS, README = HERE / "runs.jsonl", HERE / "README.md"
BEGIN, END = "<!-- written by make faults RECORD=1 -->", "<!-- until here -->"


def commit() -> str:
    """The commit that ran, and whether the tree was the commit's."""
    short = ("git", "rev-parse", "--short", "HEAD")
    changed = ("git", "status", "--porcelain", "--", "schemas", "connectors", "streams", "deploy")
    name, dirty = (
        subprocess.run(argv, cwd=HERE, capture_output=True, text=True).stdout.strip()
        for argv in (short, changed)
    )
    return f"{name}{' with changes' if dirty else ''}"


def add(report: Report) -> None:
    """Add a run and write the tables again."""
    entry = {
        "at": datetime.now(UTC).strftime("%Y-%m-%d"),
        "commit": commit(),
        "machine": f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}",
        "seed": report.seed,
        "rounds": report.rounds,
        "ok": report.ok,
        "promised": report.promised,
        "outcomes": report.outcomes,
        "seconds": report.seconds,
        "problems": report.problems,
        "skipped": report.skipped,
        "faults": [asdict(fault) for fault in report.faults],
    }
    with RUNS.open("a", encoding="utf-8") as file:
        file.write(json.dumps(entry, ensure_ascii=False) + "\n")
    write()


def runs() -> list[dict[str, Any]]:
    """Every run that is kept."""
    if not RUNS.exists():
        return []
    return [json.loads(line) for line in RUNS.read_text(encoding="utf-8").splitlines()]


def never_struck() -> list[Fault]:
    """Faults of the deck that none of these runs has had."""
    struck = {(fault["kind"], fault["place"]) for run in runs() for fault in run["faults"]}
    return [fault for fault in deck() if (fault.kind, fault.place) not in struck]


def tables() -> str:
    """The runs and the recovery times of all their faults, in Markdown."""
    kept = runs()
    faults = [Done(**fault) for run in kept for fault in run["faults"]]
    lines = [
        f"{len(faults)} faults over {sum(run['outcomes'] for run in kept):,} outcomes of "
        f"{sum(run['promised'] for run in kept):,} promised reports in {len(kept)} runs.",
        "",
        "| fault | times | recovered p50 s | max s |",
        "| --- | ---: | ---: | ---: |",
    ]
    for kind, line in sorted(recovery(faults).items()):
        lines.append(f"| {kind} | {line['n']} | {line['p50']} | {line['max']} |")
    lines += [
        "",
        "| run of | commit | machine | seed | faults | promised | outcomes | s | |",
        "| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    for run in kept:
        verdict = "0 lost, 0 doubled" if run["ok"] else "; ".join(run["problems"])[:200]
        lines.append(
            f"| {run['at']} | {run['commit']} | {run['machine']} | {run['seed']} | {len(run['faults'])} | "
            f"{run['promised']:,} | {run['outcomes']:,} | {run['seconds']:.0f} | {verdict} |"
        )
    never = [f"{fault.kind}: {fault.place}" for fault in never_struck()]
    lines += [
        "",
        f"Of the deck's {len(deck())} faults these have not struck in any of these runs: "
        f"{', '.join(never) or 'none'}.",
    ]
    return "\n".join(lines)


def write() -> None:
    """Put the tables between the marks of README.md."""
    text = README.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    README.write_text(f"{before}{BEGIN}\n\n{tables()}\n\n{END}{after}", encoding="utf-8")
