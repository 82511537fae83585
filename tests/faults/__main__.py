"""``python -m tests.faults --rounds 3 --seed 1``: a run of faults, with a table of recovery times."""

import argparse
import json
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.faults import record
from tests.faults.kinds import deck
from tests.faults.story import Report, recovery, run


def main() -> None:
    """Run once; exit 0 only when nothing was lost, nothing doubled and every part came back."""
    parser = argparse.ArgumentParser(prog="quanyu faults")
    parser.add_argument("--rounds", type=int, default=3, help="of ten faults each")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="no fault begins later")
    parser.add_argument("--only", default="", help="faults whose kind or place has this in it")
    parser.add_argument("--new", action="store_true", help="faults that no recorded run has had")
    parser.add_argument(
        "--record", action="store_true", help="add the run to tests/faults/README.md"
    )
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    console = Console(highlight=False, stderr=arguments.json)
    chosen = record.never_struck() if arguments.new else deck()
    chosen = [fault for fault in chosen if arguments.only in f"{fault.kind}: {fault.place}"]
    if not chosen:
        parser.error(f"no fault has {arguments.only!r} in its name, or all of them have struck")
    with tempfile.TemporaryDirectory(prefix="quanyu-faults-") as folder:
        report = run(
            Path(folder),
            seed=arguments.seed,
            rounds=arguments.rounds,
            among=chosen,
            small_disks=True,
            seconds=arguments.seconds,
            say=lambda line: console.print(line, markup=False),
        )
    if arguments.record:
        record.add(report)
    if arguments.json:
        print(json.dumps(report.to_json(), ensure_ascii=False))
    else:
        show(report, console)
    sys.exit(0 if report.ok else 1)


def show(report: Report, console: Console) -> None:
    """The report for a person."""
    table = Table("fault", "times", "recovered p50 s", "max s", title=f"seed {report.seed}")
    for kind, line in recovery(report.faults).items():
        table.add_row(kind, str(line["n"]), str(line["p50"]), str(line["max"]))
    console.print(table)
    for why in report.skipped:
        console.print(f"skipped: {why}", markup=False)
    console.print(
        f"{report.promised} reports confirmed, {report.outcomes} outcomes, {len(report.faults)} faults, "
        f"{report.seconds:.0f} s; restarts: {report.restarts}"
    )
    for problem in report.problems:
        console.print(f"PROBLEM: {problem}", markup=False)
    for check in report.audit.get("checks", []):
        if not check["ok"]:
            console.print(
                f"  {check['name']}: {check['offenders']} offenders, first {check['first'][:20]}",
                markup=False,
            )
    console.print("0 lost, 0 doubled" if report.ok else f"NOT CLEAN: seed {report.seed}")


if __name__ == "__main__":
    main()
