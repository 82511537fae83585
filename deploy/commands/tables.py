"""`quanyu tables`: the ClickHouse tables as code."""

import json
from typing import Annotated

import typer

from schemas import tables
from schemas.settings import load_settings

_Json = Annotated[bool, typer.Option("--json", help="One JSON object as the last line of stdout.")]


def register(app: typer.Typer) -> None:
    """Add `tables diff` and `tables apply`."""
    group = typer.Typer(
        no_args_is_help=True, help="ClickHouse tables as code: numbered migrations."
    )
    app.add_typer(group, name="tables")

    @group.command("diff")
    def diff(as_json: _Json = False) -> None:
        """Pending migrations and drifted tables; exit 1 when there are any.

        Example: quanyu tables diff --json
        """
        found = tables.diff(load_settings())
        _report({"differences": found}, found or ["tables are as the migrations say"], as_json)
        if found:
            raise typer.Exit(1)

    @group.command("apply")
    def apply(as_json: _Json = False) -> None:
        """Apply the pending migrations; safe to repeat.

        Example: quanyu tables apply
        """
        done = tables.apply(load_settings())
        _report({"applied": done}, done or ["nothing to apply"], as_json)


def _report(result: dict[str, list[str]], lines: list[str], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(result, ensure_ascii=False))
    else:
        for line in lines:
            typer.echo(line)
