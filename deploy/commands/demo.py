"""`quanyu demo`: a whole city in one command."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from deploy.commands.audit import print_report
from deploy.demo import DemoSummary, demo
from schemas.settings import load_settings


def register(app: typer.Typer) -> None:
    """Add `demo`."""

    @app.command("demo")
    def demo_(
        duration: Annotated[
            float | None, typer.Option(min=1, help="Seconds to simulate; without it until Ctrl-C.")
        ] = None,
        rate: Annotated[float, typer.Option(min=0.1, help="Reports per second.")] = 50.0,
        port: Annotated[int | None, typer.Option(help="First port; the screen's.")] = None,
        home: Annotated[Path | None, typer.Option(help="Where the demo keeps its state.")] = None,
        as_json: Annotated[
            bool, typer.Option("--json", help="One JSON object as the last line of stdout.")
        ] = False,
    ) -> None:
        """Start everything, simulate a city, show it on the screen; at the end audit and stop.

        Exit 1 when the audit finds anything or a report is missing.
        Example: quanyu demo --duration 60 --rate 100
        """
        settings = load_settings(port=port, home=home)
        stderr = Console(stderr=True, highlight=False)
        summary = demo(settings, rate=rate, duration=duration, say=stderr.print)
        if as_json:
            typer.echo(json.dumps(summary.as_dict(), ensure_ascii=False))
        else:
            _print(summary, Console(highlight=False))
        if not summary.clean:
            raise typer.Exit(1)


def _print(summary: DemoSummary, console: Console) -> None:
    print_report(summary.audit, console)
    channels = Table("channel", "sent", "of it again", "outcomes", "missing", title="the channels")
    for name, found in summary.channels.items():
        missing = str(found.missing) if found.alive or found.missing else "silent"
        channels.add_row(name, str(found.sent), str(found.resent), str(found.outcomes), missing)
    console.print(channels)
    table = Table("", "number", title="the demo")
    table.add_row("reports sent", str(summary.sent))
    for kind, number in sorted(summary.outcomes.items()):
        table.add_row(kind, str(number))
    table.add_row("events", str(summary.events))
    table.add_row("orders", str(summary.orders))
    for name, number in summary.steps.items():
        table.add_row(f"orders {name}", str(number))
    if summary.latency_p50_ms is not None:
        latency = f"{summary.latency_p50_ms:.0f} / {summary.latency_p99_ms:.0f} ms"
        table.add_row("received to stored, p50 / p99", latency)
    console.print(table)
