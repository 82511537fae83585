"""`quanyu faults`: hurt every part of a living stack, then audit; lives beside the tests of the source."""

from typing import Annotated

import typer

from deploy.commands.source_tree import run_module


def register(app: typer.Typer) -> None:
    """Add `faults`."""

    @app.command("faults")
    def faults(
        rounds: Annotated[int, typer.Option(min=1, help="Of ten faults each.")] = 3,
        seed: Annotated[int, typer.Option(help="Order and moments of the faults.")] = 1,
        only: Annotated[str, typer.Option(help="Faults with this in their name.")] = "",
        seconds: Annotated[
            float | None, typer.Option(min=1, help="No fault begins later than this.")
        ] = None,
        record: Annotated[
            bool, typer.Option("--record", help="Add the run to tests/faults/README.md.")
        ] = False,
        as_json: Annotated[
            bool, typer.Option("--json", help="One JSON object as the last line of stdout.")
        ] = False,
    ) -> None:
        """Kill, freeze and cut off every part under load; 0 lost, 0 doubled or exit 1.

        Starts a stack of its own. Example: quanyu faults --rounds 3 --seed 7 --only "kill -9"
        """
        arguments = ["--rounds", str(rounds), "--seed", str(seed), "--only", only]
        arguments += ["--seconds", str(seconds)] if seconds else []
        arguments += [flag for flag, on in (("--record", record), ("--json", as_json)) if on]
        run_module("tests.faults", arguments)
