"""`quanyu webhooks`: the units' systems that are told of their orders."""

import json
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Column, Table

from deploy import webhooks
from schemas.errors import QuanyuError
from schemas.settings import load_settings
from schemas.webhooks import readable_by_others
from streams.dispatch.lifecycle import TABLE

_Json = Annotated[bool, typer.Option("--json", help="One JSON object as the last line of stdout.")]


def register(app: typer.Typer) -> None:
    """Add `webhooks list`, `webhooks dead` and `webhooks resend`."""
    group = typer.Typer(
        no_args_is_help=True, help="Signed webhooks: units' systems that are told of their orders."
    )
    app.add_typer(group, name="webhooks")

    @group.command("list")
    def list_(as_json: _Json = False) -> None:
        """List the endpoints of webhooks.json and how each is, without secrets.

        Example: quanyu webhooks list
        """
        settings = load_settings()
        states = webhooks.states(settings)
        if as_json:
            typer.echo(json.dumps({"webhooks": [asdict(s) for s in states]}, ensure_ascii=False))
            return
        table = Table(
            *("unit", "host", "actions", "delivered", "waiting", "oldest", "dead", "failing since"),
            "last status",
        )
        for s in states:
            told = ["?"] * 6
            if s.waiting is not None:
                told = [
                    str(s.delivered),
                    str(s.waiting),
                    f"{s.oldest_seconds:.0f} s" if s.waiting else "",
                    str(s.dead),
                    _instant(s.failing_since) if s.failing_since else "",
                    str(s.status or "none"),
                ]
            table.add_row(s.unit, s.host, " ".join(s.actions) or "all", *told)
        console = Console()
        console.print(table if states else f"nobody is told; no entry in {settings.webhooks_path}")
        for s in states:
            if unknown := sorted(set(s.actions) - {row.verb for row in TABLE}):
                console.print(
                    f"{s.unit}: no step is called {', '.join(unknown)}; see the table in streams/README.md"
                )
        if any(s.waiting is None for s in states):
            console.print("the process that sends them does not answer; see quanyu status")
        if readable_by_others(settings.webhooks_path):
            console.print(f"others can read the secrets: chmod 600 {settings.webhooks_path}")

    @group.command("dead")
    def dead(
        limit: Annotated[int, typer.Option(min=1, help="The latest so many.")] = 50,
        as_json: _Json = False,
    ) -> None:
        """Show the dead letters: steps that a unit's system did not take, and why.

        Example: quanyu webhooks dead
        """
        found = webhooks.letters(load_settings())
        shown = found[-limit:]
        if as_json:
            rows = [{k: v for k, v in asdict(le).items() if k != "value"} for le in shown]
            typer.echo(json.dumps({"letters": rows, "total": len(found)}, ensure_ascii=False))
            return
        table = Table(Column("id", no_wrap=True), "unit", "order", "step", "given up", "why")
        for le in shown:
            step = f"{le.action} → {le.to_state}"
            at = _instant(le.given_up_ms / 1000)
            table.add_row(le.transition_id, le.unit_code, le.order_id, step, at, le.message)
        console = Console()
        console.print(table if found else "no dead letters")
        if len(found) > limit:
            console.print(f"{len(found)} in all; --limit shows more")

    @group.command("resend")
    def resend(
        ids: Annotated[list[str] | None, typer.Argument(help="Ids of `webhooks dead`.")] = None,
        all_: Annotated[bool, typer.Option("--all", help="Every dead letter.")] = False,
        unit: Annotated[str, typer.Option(help="With --all: of this unit only.")] = "",
        limit: Annotated[int, typer.Option(min=1, help="The oldest so many at most.")] = 1000,
        as_json: _Json = False,
    ) -> None:
        """Send dead letters again, each with its idempotency key; exit 1 when some were not taken.

        Example: quanyu webhooks resend --all
        """
        if bool(ids) == all_ or (unit and not all_):
            raise QuanyuError("name the ids to resend, or --all, with --unit for one unit's")
        settings = load_settings()
        letters = webhooks.letters(settings)
        if missing := set(ids or ()) - {le.transition_id for le in letters}:
            raise QuanyuError(f"no dead letter {sorted(missing)[0]}; see quanyu webhooks dead")
        chosen = [
            le for le in letters if (le.transition_id in ids if ids else unit in ("", le.unit_code))
        ]
        results = webhooks.resend(settings, chosen[:limit])
        delivered = sum(r.delivered for r in results)
        left = len(letters) - delivered
        if as_json:
            rows = [asdict(r) for r in results]
            typer.echo(json.dumps({"results": rows, "delivered": delivered, "left": left}))
        else:
            for r in results:
                mark = "delivered" if r.delivered else "not delivered"
                typer.echo(f"{r.transition_id} {r.unit_code}: {mark} ({r.reason})")
            typer.echo(f"{delivered} of {len(results)} delivered; {left} dead letters left")
        if delivered < len(results):
            raise typer.Exit(1)


def _instant(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(" ", "seconds")
