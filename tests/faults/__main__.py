"""``python -m tests.faults --rounds 3 --seed 1``: the kill run, with a table of recovery times."""

import argparse
import json
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.faults.harness import Report, run


def main() -> None:
    """Run once; exit 0 only when nothing was lost, nothing doubled and every part came back."""
    parser = argparse.ArgumentParser(prog="quanyu faults")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rows", type=int, default=60_000, help="rows of the replayed file")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="quanyu-faults-") as folder:
        report = run(
            Path(folder), seed=arguments.seed, rounds=arguments.rounds, file_rows=arguments.rows
        )
    if arguments.json:
        print(json.dumps(report.to_json(), ensure_ascii=False))
    else:
        show(report)
    sys.exit(0 if report.ok else 1)


def show(report: Report) -> None:
    """The report for a person."""
    table = Table("part killed", "times", "back after p50 s", "max s", title=f"seed {report.seed}")
    for victim, row in report.recovery().items():
        table.add_row(victim, str(row["n"]), str(row["p50"]), str(row["max"]))
    console = Console(highlight=False)
    console.print(table)
    console.print(
        f"{report.sent_http} reports pushed, {report.sent_file} replayed, {report.outcomes} outcomes, "
        f"{len(report.faults)} faults"
    )
    for problem in report.problems:
        console.print(f"PROBLEM: {problem}")
    for check in report.audit.get("checks", []):
        if not check["ok"]:
            console.print(
                f"  {check['name']}: {check['offenders']} offenders, first {check['first'][:5]}"
            )
    console.print("0 lost, 0 doubled" if report.ok else "NOT CLEAN")


if __name__ == "__main__":
    main()
