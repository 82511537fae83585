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

#: Above it a run is a test of strength, which the departments would only share the machine with.
DEPARTMENTS_RATE = 50.0


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
            float,
            typer.Option(
                min=1, max=10_000, help="Simulated seconds in a real one; the departments' too."
            ),
        ] = 1.0,
        departments: Annotated[
            bool | None,
            typer.Option(
                "--departments/--no-departments",
                help="Units sign, work, return and finish, centres check and close, citizens rate. "
                f"Default: up to {DEPARTMENTS_RATE:.0f} reports per second.",
            ),
        ] = None,
        pace: Annotated[
            float | None,
            typer.Option(
                min=1,
                max=10_000,
                help="Seconds of the departments' time in a real one; default --speed.",
            ),
        ] = None,
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
        simulation`. --speed 60 lets a minute of the city pass in a second.
        Example: quanyu simulate --scenario storm --rate 100 --duration 60 --seed 7
        """
        import time

        from connectors.simulate import simulate

        at_work = rate <= DEPARTMENTS_RATE if departments is None else departments
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
                departments=(pace or speed) if at_work else None,
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
        if (found := result.departments) is not None:
            if found.failure:
                typer.echo(f"the departments stopped early: {found.failure}", err=True)
            done = ", ".join(f"{number} {verb}" for verb, number in sorted(found.applied.items()))
            refused = f"; {sum(found.refused.values())} refused" if found.refused else ""
            typer.echo(f"the departments did: {done or 'nothing yet'}{refused}; see {found.truth}")
