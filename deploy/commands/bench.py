"""`quanyu bench`: measure this machine. The measurements live beside the tests of the source tree."""

from typing import Annotated

import typer

from deploy.commands.source_tree import run_module


def register(app: typer.Typer) -> None:
    """Add `bench`."""

    @app.command("bench")
    def bench(
        reports: Annotated[
            int, typer.Option(min=1000, help="Reports of the end-to-end run.")
        ] = 150_000,
        as_json: Annotated[
            bool, typer.Option("--json", help="One JSON object as the last line of stdout.")
        ] = False,
    ) -> None:
        """End-to-end speed, cost of each step, and the ratio to per-event Faust, in one run.

        Starts stacks of its own. Example: quanyu bench --reports 100000
        """
        run_module("tests.bench", ["--reports", str(reports), *(["--json"] if as_json else [])])
