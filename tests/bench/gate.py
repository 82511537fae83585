"""``quanyu bench gate --base REF``: the CPU seconds of the pure steps against another commit's, in one run.

Both trees run their own ``tests/bench/decisions.py`` in turns, the base's in a worktree beside; of each step
the least of all turns counts, which other work on the machine spoils least. Exit 1 when a step, or their sum,
takes 1.25 times as long as the base's.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from tests.bench import record
from tests.bench.machine import machine
from tests.bench.rig import ROOT

LIMIT = 1.25
#: A step that is slower by less than this share of the whole is noise, whatever its ratio.
SMALL = 0.05
ONE = """
import json, pathlib, sys, streams
from deploy import city_build
from schemas.city import load_city
from schemas.settings import Settings
from tests.bench import decisions
here = pathlib.Path.cwd()
assert pathlib.Path(decisions.__file__).is_relative_to(here), decisions.__file__
assert pathlib.Path(streams.__file__).is_relative_to(here), streams.__file__
city_build.build(load_city(Settings().city), say=lambda *_: None)
print(json.dumps(decisions.run(int(sys.argv[1]))))
"""


def main() -> None:
    """Progress on stderr, one table or one JSON object on stdout; exit 1 above the limit, 2 without a base."""
    parser = record.parser("gate", __doc__ or "")
    parser.add_argument("--base", default="", help="a commit or tag; default: the last tag")
    parser.add_argument("--reports", type=int, default=20_000)
    parser.add_argument("--turns", type=int, default=3)
    arguments = parser.parse_args()
    where = machine()
    say = Console(stderr=True, highlight=False).print
    base = arguments.base or _last_tag()
    times: dict[str, dict[str, float]] = {"base": {}, "head": {}}
    with _worktree(base) as tree:
        for turn in range(arguments.turns):
            for name, folder in (("base", tree), ("head", ROOT)):
                for step, spent in _steps(folder, arguments.reports).items():
                    times[name][step] = min(spent, times[name].get(step, spent))
            say(f"turn {turn + 1} of {arguments.turns}: {times}")
    steps = [step for step in times["head"] if step in times["base"]]
    whole = times["base"]["all"]
    ratios = {step: round(times["head"][step] / times["base"][step], 3) for step in steps}
    slow = [
        step
        for step in steps
        if ratios[step] >= LIMIT and times["head"][step] - times["base"][step] > SMALL * whole
    ]
    result: dict[str, Any] = {"machine": where, "base": _commit(base), "limit": LIMIT}
    result |= {"us_per_report": times, "ratios": ratios, "slower": slow}
    rows = [(step, times["base"][step], times["head"][step], ratios[step]) for step in steps]
    columns = ("step", f"{result['base']}, CPU µs/report", "this tree, CPU µs/report", "ratio")
    notes = [
        f"{arguments.reports:,} reports, the least of {arguments.turns} turns of each; "
        f"fails at {LIMIT}: {', '.join(slow) or 'passed'}."
    ]
    record.finish(arguments, "gate", result, columns, rows, notes)
    sys.exit(1 if slow else 0)


def _git(*argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", *argv], cwd=ROOT, capture_output=True, text=True, check=False)


def _last_tag() -> str:
    found = _git("describe", "--tags", "--abbrev=0")
    if found.returncode:
        print(
            "quanyu bench gate: no release is tagged yet; name a commit: --base REF",
            file=sys.stderr,
        )
        sys.exit(2)
    return found.stdout.strip()


def _commit(base: str) -> str:
    return _git("rev-parse", "--short", base).stdout.strip()


@contextmanager
def _worktree(base: str) -> Iterator[Path]:
    """The base's files in a folder of their own."""
    with tempfile.TemporaryDirectory(prefix="quanyu-gate-") as folder:
        tree = Path(folder).resolve() / "base"
        done = _git("worktree", "add", "--detach", "--quiet", str(tree), base)
        if done.returncode:
            print(f"quanyu bench gate: {base}: {done.stderr.strip()}", file=sys.stderr)
            sys.exit(2)
        try:
            yield tree
        finally:
            _git("worktree", "remove", "--force", str(tree))


def _steps(folder: Path, reports: int) -> dict[str, float]:
    """CPU µs a report of each step as a tree itself measures them; ``all`` is their sum."""
    # The tree's own packages come before those of the checkout that is installed.
    env = {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", ONE, str(reports)],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        print(
            f"quanyu bench gate: the steps of {folder} cannot be measured: {last}", file=sys.stderr
        )
        sys.exit(2)
    found = json.loads(done.stdout.splitlines()[-1])
    return {**found["us_per_report"], "all": found["total_us_per_report"]}


if __name__ == "__main__":
    main()
