"""`quanyu event`: merge and split events by hand."""

import json
from collections.abc import Callable
from typing import Annotated

import typer

from deploy.desk import Actor, Desk, at_desk
from schemas.settings import load_settings

Json = Annotated[bool, typer.Option("--json", help="One JSON object as the last line of stdout.")]
Why = Annotated[str, typer.Option("--reason", help="Why; kept with the action.")]
Who = Annotated[str, typer.Option("--actor", help="Code of who acts; never a name.")]
Wait = Annotated[float, typer.Option("--wait", min=0, help="Seconds to wait for the outcome.")]
Event = Annotated[str, typer.Argument(help="Id of an event.")]


def ask(action: Callable[[Desk], str], wait_s: float, as_json: bool) -> None:
    """Do one action, print what became of it; exit 1 when it was refused or is not known in time."""
    with at_desk(load_settings()) as desk:
        identity = action(desk)
        found = desk.outcome(identity, wait_s)
    told = {k: (found or {}).get(k, "") for k in ("outcome", "reason", "detail")}
    told["outcome"] = told["outcome"] or "pending"
    if as_json:
        typer.echo(json.dumps({"action_id": identity, **told}, ensure_ascii=False))
    elif told["outcome"] == "refused":
        typer.echo(f"refused: {told['reason']}: {told['detail']}")
    else:
        typer.echo(f"{told['outcome']} ({identity})")
    if told["outcome"] != "applied":
        raise typer.Exit(1)


def register(app: typer.Typer) -> None:
    """Add `event merge`, `event split` and `event apart`."""
    group = typer.Typer(no_args_is_help=True, help="Events merged and split by hand.")
    app.add_typer(group, name="event")

    @group.command("merge")
    def merge(
        event: Event,
        into: Annotated[str, typer.Argument(help="The event that takes its reports.")],
        reason: Why = "",
        actor: Who = "operator",
        wait: Wait = 20.0,
        as_json: Json = False,
    ) -> None:
        """Let an event go into another; its order is withdrawn. `event split` undoes it.

        Example: quanyu event merge 0e2f… 7b91… --reason "one burst pipe"
        """
        who = Actor(actor, "centre")
        ask(lambda desk: desk.merge(who, event, into, reason), wait, as_json)

    @group.command("split")
    def split(
        event: Event,
        reports: Annotated[list[str], typer.Argument(help="Reports that leave, together.")],
        reason: Why = "",
        actor: Who = "operator",
        wait: Wait = 20.0,
        as_json: Json = False,
    ) -> None:
        """Let some of an event's reports have an event of their own. `event merge` undoes it.

        Example: quanyu event split 7b91… 55aa… 91cd… --reason "another street light"
        """
        who = Actor(actor, "centre")
        ask(lambda desk: desk.split(who, event, reports, reason), wait, as_json)

    @group.command("apart")
    def apart(
        event: Event,
        other: Annotated[str, typer.Argument(help="The event that it is not.")],
        reason: Why = "",
        actor: Who = "operator",
        wait: Wait = 20.0,
        as_json: Json = False,
    ) -> None:
        """Say that two events are not one: nobody is asked again.

        Example: quanyu event apart 0e2f… 7b91…
        """
        who = Actor(actor, "centre")
        ask(lambda desk: desk.apart(who, event, other, reason), wait, as_json)
