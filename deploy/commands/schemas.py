"""`quanyu schemas check | lock`: the Avro contracts."""

import json
from typing import Annotated

import typer

AsJson = Annotated[bool, typer.Option("--json", help="One JSON object as the last line of stdout.")]


def register(app: typer.Typer) -> None:
    """Add the `schemas` group."""
    group = typer.Typer(help="Avro contracts of schemas/avro.", no_args_is_help=True)
    app.add_typer(group, name="schemas")

    @group.command("check")
    def check(as_json: AsJson = False) -> None:
        """FULL_TRANSITIVE against every older version, golden bytes, ids. Exit 1 when broken.

        Example: quanyu schemas check
        """
        from schemas import compat
        from schemas.registry import load_schemas

        problems = compat.check()
        if as_json:
            typer.echo(
                json.dumps(
                    {"versions": len(load_schemas()), "problems": problems}, ensure_ascii=False
                )
            )
        else:
            typer.echo(
                "\n".join(problems) or f"{len(load_schemas())} schema versions, all compatible"
            )
        if problems:
            raise typer.Exit(1)

    @group.command("lock")
    def lock() -> None:
        """Give new versions an id and golden bytes; nothing that stands is altered.

        Example: quanyu schemas lock
        """
        from schemas.compat import write_golden
        from schemas.registry import load_lock, write_lock

        changes = write_lock()
        changes += write_golden({version: number for version, (number, _) in load_lock().items()})
        typer.echo("\n".join(changes) or "nothing new")
