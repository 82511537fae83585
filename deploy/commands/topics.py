"""`quanyu topics diff | apply`: topics as code."""

import json
from typing import Annotated

import typer

from schemas.settings import load_settings

AsJson = Annotated[bool, typer.Option("--json", help="One JSON object as the last line of stdout.")]


def register(app: typer.Typer) -> None:
    """Add the `topics` group."""
    group = typer.Typer(
        help="Topics of schemas/topics.yaml, held against the cluster.", no_args_is_help=True
    )
    app.add_typer(group, name="topics")

    @group.command("diff")
    def diff(as_json: AsJson = False) -> None:
        """Show what the cluster lacks or has differently; exit 1 when anything. Example: quanyu topics diff"""
        from schemas import topics

        lines = topics.diff(load_settings())
        _say(lines, as_json, "differences", "the cluster agrees with topics.yaml")
        if lines:
            raise typer.Exit(1)

    @group.command("apply")
    def apply(as_json: AsJson = False) -> None:
        """Create and alter topics; refuses what would lose state. Example: quanyu topics apply"""
        from schemas import topics

        _say(topics.apply(load_settings()), as_json, "done", "nothing to do")


def _say(lines: list[str], as_json: bool, name: str, nothing: str) -> None:
    if as_json:
        typer.echo(json.dumps({name: lines}, ensure_ascii=False))
    else:
        typer.echo("\n".join(lines) or nothing)
