"""`quanyu keys`: the keys of channels and people; two hold while a sender moves from one to the other."""

import json
import sys
import time
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from deploy import key_store
from deploy.commands.event import Who
from schemas.settings import Settings, load_settings

_Json = Annotated[bool, typer.Option("--json", help="One JSON object as the last line of stdout.")]
Channel = Annotated[str, typer.Option(help="A channel that pushes.")]
PersonCode = Annotated[str, typer.Option("--person", help="Somebody of `quanyu people list`.")]
Days = Annotated[int | None, typer.Option("--days", min=1, max=3650, help="Ends after so many.")]


def register(app: typer.Typer) -> None:
    """Add `keys list`, `keys add`, `keys rotate` and `keys revoke`."""
    group = typer.Typer(no_args_is_help=True, help="Keys of channels and people.")
    app.add_typer(group, name="keys")

    @group.command("list")
    def list_(as_json: _Json = False) -> None:
        """List every key by its id: whose, until when, used when last; never the key itself.

        Example: quanyu keys list
        """
        found = key_store.listed(load_settings())
        if as_json:
            typer.echo(json.dumps({"keys": [asdict(one) for one in found]}))
            return
        table = Table(*("id", "owner", "role", "state", "kept", "created", "ends", "last used"))
        for column in table.columns:
            column.overflow = "fold"  # nothing of an id or an owner is cut
        for one in found:
            instants = (one.created_at or None, one.expires_at, one.last_used_at)
            kept = "hash" if one.hashed else "secret"
            table.add_row(one.id, one.owner, one.role, one.state, kept, *map(_instant, instants))
        Console().print(table if found else "no key; see quanyu keys add --help")

    @group.command("add")
    def add(
        channel: Channel = "",
        person: PersonCode = "",
        days: Days = None,
        actor: Who = "operator",
        as_json: _Json = False,
    ) -> None:
        """Add a key beside those that there are, and print it, which happens once.

        Example: quanyu keys add --channel photo_app --days 365
        """
        settings = load_settings()
        one = key_store.owner(settings, channel, person)
        key, text = key_store.add(one, days)
        typer.echo(json.dumps({"id": key.id, "key": text}) if as_json else text)
        _log(settings, "add", one.name, key.id, actor)

    @group.command("rotate")
    def rotate(
        channel: Channel = "",
        person: PersonCode = "",
        overlap: Annotated[
            float, typer.Option(min=0, max=24 * 90, help="Hours that the former keys still hold.")
        ] = 24.0,
        days: Days = None,
        actor: Who = "operator",
        as_json: _Json = False,
    ) -> None:
        """Print a new key; the former ones hold for the overlap, so that senders move without a gap.

        Example: quanyu keys rotate --channel photo_app --overlap 48
        """
        settings = load_settings()
        one = key_store.owner(settings, channel, person)
        key, text, ending = key_store.rotate(one, overlap, days)
        ends = [old.id for old in ending]
        if as_json:
            typer.echo(json.dumps({"id": key.id, "key": text, "ending": ends}))
        else:
            typer.echo(text)
            print(f"in {overlap:g} h end: {', '.join(ends) or 'none'}", file=sys.stderr)
        _log(settings, "rotate", one.name, key.id, actor)

    @group.command("revoke")
    def revoke(
        key: Annotated[str, typer.Argument(help="Id of the key, as `keys list` shows it.")],
        actor: Who = "operator",
    ) -> None:
        """Let a key open nothing from now on, at every gateway that reads this file.

        Example: quanyu keys revoke 1f0c9a2e
        """
        settings = load_settings()
        one = key_store.revoke(settings, key)
        typer.echo(f"{key} of {one.name} opens nothing more")
        _log(settings, "revoke", one.name, key, actor)


def _instant(ms: int | None) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(ms / 1000)) if ms else ""


def _log(settings: Settings, action: str, owner: str, key: str, actor: str) -> None:
    from deploy.desk import tell

    tell(settings, kind="key", action=action, target=owner, other=key, actor=actor)
