"""`quanyu simulate`: a seeded city that reports through its channels."""

import json
from enum import StrEnum
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from schemas.settings import load_settings


class Scenario(StrEnum):
    """What kind of day it is."""

    DAY = "day"


def register(app: typer.Typer) -> None:
    """Add `simulate`."""

    @app.command("simulate")
    def simulate_(
        rate: Annotated[float, typer.Option(min=0.1, help="Reports per second.")] = 50.0,
        duration: Annotated[
            float | None, typer.Option(min=1, help="Seconds; else until Ctrl-C.")
        ] = None,
        seed: Annotated[int, typer.Option(help="The same seed gives the same city day.")] = 0,
        scenario: Annotated[Scenario, typer.Option(help="A steady day.")] = Scenario.DAY,
        as_json: Annotated[
            bool, typer.Option("--json", help="One JSON object as the last line of stdout.")
        ] = False,
    ) -> None:
        """Send reports of a simulated city to the running stack.

        Without --seed each run is another day. Example: quanyu simulate --rate 100 --duration 60 --seed 7
        """
        import time

        from connectors.simulate import simulate

        with Progress(console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task("reports sent", total=None)
            result = simulate(
                load_settings(),
                seed=seed or int(time.time()),
                rate=rate,
                duration=duration,
                progress=lambda n: bar.advance(task, n),
            )
        if as_json:
            typer.echo(json.dumps(result.as_dict(), ensure_ascii=False))
        else:
            typer.echo(
                f"{result.sent} reports of {result.matters} matters sent in {result.seconds} s"
            )
