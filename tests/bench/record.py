"""What a bench found: on stdout as a table or as JSON, and with ``--record`` in README.md."""

import argparse
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

README = Path(__file__).parent / "README.md"


def parser(name: str, about: str) -> argparse.ArgumentParser:
    """The options that all benches have."""
    made = argparse.ArgumentParser(prog=f"quanyu bench {name}", description=about)
    made.add_argument("--json", action="store_true", help="one JSON object on stdout")
    made.add_argument("--record", action="store_true", help="write the table of README.md again")
    return made


def finish(
    arguments: argparse.Namespace,
    name: str,
    result: dict[str, Any],
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    notes: Sequence[str] = (),
) -> None:
    """Print a result, and record it when it was asked for. ``result`` holds ``machine``."""
    # Others' work on the machine, and the bench's own: what was not measured on a quiet one says so.
    result["machine"]["load after"] = round(os.getloadavg()[0], 1)
    lines = [[_shown(value) for value in row] for row in rows]
    if arguments.record:
        _write(name, result["machine"], columns, lines, notes)
    if arguments.json:
        print(json.dumps(result, ensure_ascii=False))
        return
    console = Console(highlight=False, width=140)
    table = Table(*columns, title=_where(result["machine"]))
    for line in lines:
        table.add_row(*line)
    console.print(table)
    for note in notes:
        console.print(note)


def _shown(value: object) -> str:
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int | float) else str(value)


def _where(machine: dict[str, Any]) -> str:
    return "; ".join(f"{name} {value}" for name, value in machine.items())


def _write(
    name: str,
    machine: dict[str, Any],
    columns: Sequence[str],
    lines: Sequence[Sequence[str]],
    notes: Sequence[str],
) -> None:
    """Put a bench's table between its marks of README.md."""
    begin, end = f"<!-- written by quanyu bench {name} --record -->", f"<!-- end of {name} -->"
    text = README.read_text(encoding="utf-8")
    if begin not in text or end not in text:
        raise SystemExit(f"{README} has no place for the table of {name}: {begin} … {end}")
    before, _, rest = text.partition(begin)
    after = rest.partition(end)[2]
    table = [
        f"| {' | '.join(columns)} |",
        f"| --- |{' ---: |' * (len(columns) - 1)}",
        *(f"| {' | '.join(line)} |" for line in lines),
    ]
    written = [_where(machine), "", *table, "", *(f"- {note}" for note in notes)]
    body = "\n".join(written).rstrip()
    README.write_text(f"{before}{begin}\n\n{body}\n\n{end}{after}", encoding="utf-8")
