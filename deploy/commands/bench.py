"""`quanyu bench`: measure this machine. The measurements live beside the tests of the source tree."""

from pathlib import Path
from typing import Annotated

import typer

from deploy.commands.source_tree import run_module

_Json = Annotated[bool, typer.Option("--json", help="One JSON object as the last line of stdout.")]


def register(app: typer.Typer) -> None:
    """Add `bench` and `bench year`."""
    group = typer.Typer(help="Measure this machine.")
    app.add_typer(group, name="bench")

    @group.callback(invoke_without_command=True)
    def bench(
        context: typer.Context,
        reports: Annotated[
            int, typer.Option(min=1000, help="Reports of the end-to-end run.")
        ] = 150_000,
        as_json: _Json = False,
    ) -> None:
        """End-to-end speed, cost of each step, and the ratio to per-event Faust, in one run.

        Starts stacks of its own. Example: quanyu bench --reports 100000
        """
        if context.invoked_subcommand is None:
            run_module("tests.bench", ["--reports", str(reports), *(["--json"] if as_json else [])])

    @group.command("year")
    def year(
        reports: Annotated[
            int, typer.Option(min=20_000, help="Reports of the year; 36,000,000 is a whole city's.")
        ] = 36_000_000,
        directory: Annotated[
            Path | None,
            typer.Option(help="Keep the year here and measure it again; default: a temporary one."),
        ] = None,
        as_json: _Json = False,
    ) -> None:
        """Every named query on a year of a city: cold, warm, and with readers while reports come.

        Fills an engine of its own, about 800 bytes a report. Example: quanyu bench year --reports 1000000
        """
        where = [] if directory is None else ["--directory", str(directory.resolve())]
        run_module(
            "tests.bench.year",
            ["--reports", str(reports), *where, *(["--json"] if as_json else [])],
        )
