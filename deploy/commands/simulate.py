"""`quanyu simulate`: a seeded city that reports through its channels."""

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from schemas.settings import load_settings


class ScenarioName(StrEnum):
    """What kind of day it is; the numbers are in connectors/simulator/scenarios.yaml."""

    DAY = "day"
    STORM = "storm"
    QUIET = "quiet"


def register(app: typer.Typer) -> None:
    """Add `simulate`."""

    @app.command("simulate")
    def simulate_(
        rate: Annotated[float, typer.Option(min=0.1, help="Mean reports per second.")] = 50.0,
        duration: Annotated[
            float | None, typer.Option(min=1, help="Seconds; else until Ctrl-C.")
        ] = None,
        seed: Annotated[int, typer.Option(min=0, help="The same seed, the same matters.")] = 0,
        scenario: Annotated[
            ScenarioName, typer.Option(help="What kind of day it is.")
        ] = ScenarioName.DAY,
        speed: Annotated[
            float, typer.Option(min=1, max=10_000, help="Simulated seconds in a real one.")
        ] = 1.0,
        truth: Annotated[
            Path | None,
            typer.Option(help="Where the truth goes; default <home>/truth/<run>.jsonl."),
        ] = None,
        as_json: Annotated[
            bool, typer.Option("--json", help="One JSON object as the last line of stdout.")
        ] = False,
    ) -> None:
        """Send reports of a simulated city to the running stack, each channel through its own transport.

        Without --seed each run is another day. What it was about is then told by `quanyu evaluate
        simulation`. Example: quanyu simulate --scenario storm --rate 100 --duration 60 --seed 7
        """
        import time

        from connectors.simulate import simulate

        with Progress(console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task("reports sent", total=None)
            result = simulate(
                load_settings(),
                scenario=scenario,
                seed=seed or int(time.time()),
                rate=rate,
                duration=duration,
                speed=speed,
                truth=truth,
                progress=lambda n: bar.advance(task, n),
            )
        if as_json:
            typer.echo(json.dumps(result.as_dict(), ensure_ascii=False))
            return
        table = Table("channel", "sent", "of it again", title=f"{scenario}, seed {result.seed}")
        for name, sent in result.by_channel.items():
            table.add_row(name, str(sent), str(result.resent_by_channel[name]))
        Console(highlight=False).print(table)
        typer.echo(
            f"{result.sent} reports of {result.matters} matters sent in {result.seconds} s; "
            f"their truth: {result.truth}"
        )
