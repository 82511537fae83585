"""`quanyu order`: the order book, one order, and what is done with it."""

import json
import time
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.console import Console

from deploy.commands.event import Json, Wait, Who, Why, ask
from deploy.desk import Actor, at_desk
from deploy.people import Role
from schemas.errors import QuanyuError
from schemas.settings import load_settings

_Order = Annotated[str, typer.Argument(help="Id of an order.")]


def register(app: typer.Typer) -> None:
    """Add `order list`, `order show` and `order act`."""
    group = typer.Typer(no_args_is_help=True, help="Orders: the book, one order, and its steps.")
    app.add_typer(group, name="order")

    @group.command("list")
    def list_(
        unit: Annotated[str, typer.Option(help="Only this unit.")] = "",
        state: Annotated[str, typer.Option(help="Only this state, e.g. SIGNED.")] = "",
        over: Annotated[bool, typer.Option("--over", help="Those that are over.")] = False,
        limit: Annotated[int, typer.Option(min=1, max=1000)] = 20,
        as_json: Json = False,
    ) -> None:
        """List orders that are not over, nearest deadline first.

        Example: quanyu order list --unit 990105-CG
        """
        given = {
            "unit_code": unit,
            "state": state,
            "over": "" if state else "yes" if over else "no",
        }
        with at_desk(load_settings()) as desk:
            rows = desk.rows("order_book", at=_now(), limit=limit, **given)
        if as_json:
            typer.echo(json.dumps({"rows": rows}, ensure_ascii=False))
            return
        console = Console(highlight=False)
        for row in rows:
            console.print(f"{row['order_id']}  {row['state']}", style="bold", soft_wrap=True)
            due = _clock(row["due_at"]) if row["due_at"] else "no deadline"
            line = f"  {row['unit_code']} {row['unit_name']}  {row['class_code']}  due {due}"
            console.print(line, markup=False, soft_wrap=True)
            console.print(f"  {row['title']} {row['address']}"[:200], markup=False, soft_wrap=True)
        typer.echo(f"{rows[0]['total']} in all" if rows else "no orders")

    @group.command("show")
    def show(order: _Order, as_json: Json = False) -> None:
        """Show an order and its steps.

        Example: quanyu order show 6f8c306b-…
        """
        with at_desk(load_settings()) as desk:
            found = desk.order(order)
        if as_json:
            typer.echo(json.dumps(found, ensure_ascii=False))
            return
        console = Console(highlight=False)
        head = f"{order}  {found['state']}  version {found['version']}, {found['unit_name']}"
        console.print(head, style="bold", soft_wrap=True)
        for step in found["steps"]:
            what = step["action"] or f"→ {step['to_state']}"
            line = f"  {_clock(step['at'])}  {what:16} {step['to_state']:12} {step['actor']}  {step['reason']}"
            console.print(line.rstrip(), markup=False, soft_wrap=True)

    @group.command("act")
    def act(
        order: _Order,
        action: Annotated[str, typer.Argument(help="A verb: sign, handle, return, close, …")],
        role: Annotated[
            str, typer.Option(help="unit, grid_worker, centre or supervisor.")
        ] = "centre",
        unit: Annotated[str, typer.Option(help="Unit of the actor, in a unit's role.")] = "",
        version: Annotated[int | None, typer.Option(help="Version that you saw.")] = None,
        reason: Why = "",
        note: Annotated[str, typer.Option(help="What was done; the citizen reads it.")] = "",
        to_unit: Annotated[str, typer.Option(help="assign: to which unit.")] = "",
        handler: Annotated[str, typer.Option(help="Staff code of who works on it.")] = "",
        extend: Annotated[str, typer.Option(help="ask_extension: e.g. 2 work_day.")] = "",
        visit: Annotated[str, typer.Option(help="satisfied, unsatisfied or unreachable.")] = "",
        solved: Annotated[str, typer.Option(help="solved or unsolved.")] = "",
        actor: Who = "operator",
        wait: Wait = 20.0,
        as_json: Json = False,
    ) -> None:
        """Do something with an order; the life cycle says what may be done when and by whom.

        Example: quanyu order act 6f8c306b-… handle --role unit --unit 990102-HW --note "清理完毕"
        """
        if role not in ROLES:
            raise QuanyuError(f"--role {role!r}: use one of {', '.join(ROLES)}")
        value, _, clock = extend.partition(" ")
        try:
            extension = float(value) if value else 0.0
        except ValueError:
            raise QuanyuError(f"--extend {extend!r}: write e.g. 2 work_day") from None
        said: dict[str, Any] = {
            "version": version, "reason": reason, "note": note, "to_unit": to_unit, "handler": handler,
            "extend_value": extension, "extend_unit": clock, "visit": visit, "solved": solved,
        }  # fmt: skip
        who = Actor(actor, role, unit)
        ask(lambda desk: desk.order_action(who, order, action, **said), wait, as_json)


ROLES: tuple[Role, ...] = ("unit", "grid_worker", "centre", "supervisor")


def _now() -> int:
    return int(time.time() * 1000)


def _clock(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).astimezone().strftime("%m-%d %H:%M")
