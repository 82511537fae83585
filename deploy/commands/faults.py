"""`quanyu faults`: kill every part of a living stack, then audit; lives beside the tests of the source."""

from typing import Annotated

import typer

from deploy.commands.source_tree import run_module


def register(app: typer.Typer) -> None:
    """Add `faults`."""

    @app.command("faults")
    def faults(
        rounds: Annotated[int, typer.Option(min=1, help="Each round kills every part once.")] = 3,
        seed: Annotated[int, typer.Option(help="Order and moments of the faults.")] = 1,
        as_json: Annotated[
            bool, typer.Option("--json", help="One JSON object as the last line of stdout.")
        ] = False,
    ) -> None:
        """Kill worker, sink, connectors, ClickHouse and Kafka under load; 0 lost, 0 doubled or exit 1.

        Starts a stack of its own. Example: quanyu faults --rounds 3 --seed 7
        """
        arguments = ["--rounds", str(rounds), "--seed", str(seed), *(["--json"] if as_json else [])]
        run_module("tests.faults", arguments)
