"""`quanyu people`: who may act at the desk and on orders."""

import json
from typing import Annotated, get_args

import typer
from rich.console import Console
from rich.table import Table

from deploy.commands.event import Who
from deploy.people import Role, add_person, read_people, remove_person
from schemas.errors import QuanyuError
from schemas.settings import Settings, load_settings

_Json = Annotated[bool, typer.Option("--json", help="One JSON object as the last line of stdout.")]
ROLES = get_args(Role)


def register(app: typer.Typer) -> None:
    """Add `people list`, `people add` and `people remove`."""
    group = typer.Typer(
        no_args_is_help=True, help="People and systems that may act, by their keys."
    )
    app.add_typer(group, name="people")

    @group.command("list")
    def list_(as_json: _Json = False) -> None:
        """List who may act, without keys.

        Example: quanyu people list
        """
        people = [
            p.model_dump(exclude={"key_sha256"}) for p in read_people(load_settings().people_path)
        ]
        if as_json:
            typer.echo(json.dumps({"people": people}))
            return
        table = Table("code", "role", "unit")
        for one in people:
            table.add_row(one["code"], one["role"], one["unit_code"])
        Console().print(table if people else "nobody; see quanyu people add --help")

    @group.command("add")
    def add(
        code: Annotated[str, typer.Argument(help="Written with every action; never a name.")],
        role: Annotated[str, typer.Option(help=" | ".join(ROLES))],
        unit: Annotated[str, typer.Option(help="Of a unit or a grid worker.")] = "",
        actor: Who = "operator",
        as_json: _Json = False,
    ) -> None:
        """Let somebody act, and print the key, which is kept nowhere.

        Example: quanyu people add desk-1 --role centre
        """
        if role not in ROLES:
            raise QuanyuError(f"--role {role!r}: use one of {', '.join(ROLES)}")
        settings = load_settings()
        key = add_person(settings.people_path, code, role, unit)  # type: ignore[arg-type] # held above
        typer.echo(json.dumps({"code": code, "key": key}) if as_json else key)
        _log(settings, "add", code, f"{role} {unit}".strip(), actor)

    @group.command("remove")
    def remove(
        code: Annotated[str, typer.Argument(help="Whose key holds no more.")],
        actor: Who = "operator",
    ) -> None:
        """Let somebody act no more.

        Example: quanyu people remove desk-1
        """
        settings = load_settings()
        remove_person(settings.people_path, code)
        typer.echo(f"{code} may act no more")
        _log(settings, "remove", code, "", actor)


def _log(settings: Settings, action: str, code: str, other: str, actor: str) -> None:
    from deploy.desk import tell

    tell(settings, kind="person", action=action, target=f"person:{code}", other=other, actor=actor)
