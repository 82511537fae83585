"""`quanyu config show | check`: settings, where each came from, and what is wrong with them."""

import json
import os
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from deploy.configuration import entries, problems
from schemas.errors import QuanyuError
from schemas.settings import load_settings

_Json = Annotated[bool, typer.Option("--json", help="One JSON object as the last line of stdout.")]


def register(app: typer.Typer) -> None:
    """Add `config show` and `config check`."""
    group = typer.Typer(no_args_is_help=True, help="Settings: environment, file, defaults.")
    app.add_typer(group, name="config")

    @group.command("show")
    def show(
        every: Annotated[bool, typer.Option("--all", help="Defaults too.")] = False,
        as_json: _Json = False,
    ) -> None:
        """Show each setting and where it came from: a variable, quanyu.toml, stack.json, or a default.

        Secrets are hidden. The environment goes before the home's quanyu.toml, that before what `quanyu up`
        remembered in stack.json.

        Example: quanyu config show --all
        """
        settings = load_settings()
        found = [e for e in entries(settings, os.environ) if every or e.source != "default"]
        if as_json:
            typer.echo(json.dumps({"settings": [asdict(e) for e in found]}, ensure_ascii=False))
            return
        table = Table("setting", "value", "source", *(["meaning"] if every else []))
        for entry in found:
            value = "" if entry.value is None else str(entry.value)
            table.add_row(entry.name, value, entry.source, *([entry.meaning] if every else []))
        Console(highlight=False).print(table if found else "every setting is at its default")

    @group.command("check")
    def check(as_json: _Json = False) -> None:
        """Hold settings and the files that they name against what they must be; exit 1 when anything is wrong.

        A variable with our prefix that nothing reads is named, with the name that was perhaps meant.

        Example: quanyu config check --json
        """
        try:
            found = problems(load_settings())
        except QuanyuError as error:
            found = [str(error)]  # a wrong value: nothing further can be looked at
        if as_json:
            typer.echo(json.dumps({"ok": not found, "problems": found}, ensure_ascii=False))
        else:
            typer.echo("\n".join(found) or "the settings hold")
        if found:
            raise typer.Exit(1)
