"""`quanyu dlq`: look at what could not be processed."""

import json
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from deploy import dead_letters
from schemas.dead_letter import PREFIX
from schemas.settings import load_settings

_Json = Annotated[bool, typer.Option("--json", help="One JSON object as the last line of stdout.")]


def register(app: typer.Typer) -> None:
    """Add `dlq list` and `dlq show`."""
    group = typer.Typer(no_args_is_help=True, help="Dead letters: what could not be processed.")
    app.add_typer(group, name="dlq")

    @group.command("list")
    def list_(as_json: _Json = False) -> None:
        """Count the dead letters of each topic by reason.

        Example: quanyu dlq list
        """
        counts = dead_letters.count(load_settings())
        if as_json:
            typer.echo(json.dumps({"topics": counts}, ensure_ascii=False))
            return
        table = Table("topic", "reason", "records")
        for topic, reasons in counts.items():
            for reason, number in reasons.items():
                table.add_row(topic, reason, str(number))
        Console().print(table if counts else "no dead letters")

    @group.command("show")
    def show(
        topic: Annotated[str, typer.Argument(help="A topic, or its dead-letter topic.")],
        limit: Annotated[int, typer.Option(min=1, help="The latest so many.")] = 10,
        as_json: _Json = False,
    ) -> None:
        """Show the latest dead letters of a topic: where from, why, and their first bytes.

        Example: quanyu dlq show reports.raw.hotline12345 --limit 3
        """
        letters = dead_letters.show(load_settings(), topic, limit)
        if as_json:
            typer.echo(json.dumps({"letters": [asdict(le) for le in letters]}, ensure_ascii=False))
            return
        console = Console(highlight=False)
        for letter in letters:
            at = datetime.fromtimestamp(letter.timestamp_ms / 1000, UTC).isoformat(" ", "seconds")
            console.print(
                f"{letter.topic}[{letter.partition}]@{letter.offset}  {at}  {letter.size} bytes",
                style="bold",
            )
            for name, value in letter.headers.items():
                console.print(f"  {name.removeprefix(PREFIX)}: {value}", markup=False)
            console.print(f"  {letter.preview}", markup=False, style="dim")
        if not letters:
            console.print("no dead letters")
