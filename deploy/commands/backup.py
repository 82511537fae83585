"""`quanyu backup | restore`: the tables in a folder, and back, without losing or doubling a record."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from schemas.errors import QuanyuError
from schemas.settings import load_settings

_Json = Annotated[bool, typer.Option("--json", help="One JSON object as the last line of stdout.")]


def register(app: typer.Typer) -> None:
    """Add `backup` and `restore`."""

    @app.command("backup")
    def backup_(
        to: Annotated[
            Path | None, typer.Option(help="A new folder; default <home>/backups/<time>.")
        ] = None,
        as_json: _Json = False,
    ) -> None:
        """Write all tables to a folder, while reports go on coming; with it the offsets they reach in Kafka.

        Not in it: Kafka's records, and the home's secrets (hash.key, keys.json, people.json, webhooks.json).

        Example: quanyu backup --to /mnt/backups/monday
        """
        from deploy.backup import backup, storage

        settings, console = load_settings(), Console(stderr=True, highlight=False)
        with storage(settings):
            made = backup(settings, to, say=console.print)
        if as_json:
            typer.echo(json.dumps(asdict(made), ensure_ascii=False))
        else:
            typer.echo(
                f"{made.folder}: {made.rows} rows, {made.bytes / 1e6:.1f} MB in {made.seconds} s; "
                f"inserts waited for {made.held_s} s at most"
            )

    @app.command("restore")
    def restore_(
        folder: Annotated[Path, typer.Argument(help="What quanyu backup wrote.")],
        replace: Annotated[
            bool, typer.Option("--replace", help="Throw away the rows that are there.")
        ] = False,
        accept_loss: Annotated[
            bool,
            typer.Option("--accept-loss", help="Although Kafka no longer holds what came since."),
        ] = False,
        as_json: _Json = False,
    ) -> None:
        """Bring the tables back; the sink then goes on from where they end. Stop the stack first.

        Example: quanyu down; quanyu restore /mnt/backups/monday; quanyu up --detach; quanyu audit
        """
        from deploy.backup import restore, storage
        from deploy.local import home as homes

        settings, console = load_settings(), Console(stderr=True, highlight=False)
        if (pid := homes.owner(settings.home)) is not None:
            raise QuanyuError(
                f"{settings.home} has a running stack (process {pid}), its sink would insert meanwhile: "
                "quanyu down, then repeat; restore starts what it needs"
            )
        with storage(settings):
            done = restore(
                settings, folder, replace=replace, accept_loss=accept_loss, say=console.print
            )
        if as_json:
            typer.echo(json.dumps(asdict(done), ensure_ascii=False))
            return
        for loss in done.lost:
            typer.secho(f"LOST  {loss}", fg="red", bold=True)
        typer.echo(
            f"{done.database}: {done.rows} rows in {done.seconds} s; the sink has {done.waiting} offsets of "
            "Kafka still to read: start it (quanyu up), then quanyu audit"
        )
