"""`quanyu replay`: a file through its channel."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from schemas.errors import QuanyuError
from schemas.settings import load_settings


def register(app: typer.Typer) -> None:
    """Add `replay`."""

    @app.command("replay")
    def replay_(
        file: Annotated[
            Path, typer.Argument(help="CSV, JSON lines, XLSX, GeoJSON, or Open311 XML or JSON.")
        ],
        channel: Annotated[str, typer.Option(help="Channel whose spec reads the file.")],
        speed: Annotated[
            str, typer.Option(help="max, or how many times as fast as it happened.")
        ] = "max",
        limit: Annotated[
            int | None, typer.Option(min=1, help="Stop after so many entries.")
        ] = None,
        as_json: Annotated[
            bool, typer.Option("--json", help="One JSON object as the last line of stdout.")
        ] = False,
    ) -> None:
        """Publish every entry of a file to its channel; killed, it goes on where it was.

        Example: quanyu replay calls.csv --channel hotline12345 --speed 60
        """
        from connectors.replay import replay

        if speed == "max":
            factor = None
        else:
            try:
                factor = float(speed)
                if not 0 < factor < 1e9:
                    raise ValueError
            except ValueError:
                raise QuanyuError(
                    f"--speed {speed}: give max, 1 for real time, or e.g. 60"
                ) from None
        with Progress(console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task("published", total=None)
            result = replay(
                load_settings(), file, channel, speed=factor, limit=limit,
                progress=lambda n: bar.advance(task, n),
            )  # fmt: skip
        if as_json:
            typer.echo(json.dumps(result.as_dict(), ensure_ascii=False))
        else:
            resumed = f", resumed after {result.resumed_at}" if result.resumed_at else ""
            typer.echo(
                f"{result.published} of {result.rows} entries published to {channel} in {result.seconds} s, "
                f"{result.defects} with defects{resumed}"
            )
