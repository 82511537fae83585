"""`quanyu topics diff | apply | acls | retention`: topics as code, who may do what, what stays how long."""

import json
from typing import Annotated

import typer

from schemas.errors import QuanyuError
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

    @group.command("retention")
    def retention(as_json: AsJson = False) -> None:
        """How long each topic's records and each table's personal columns stay.

        Example: quanyu topics retention
        """
        from dataclasses import asdict

        from rich.console import Console
        from rich.table import Table

        from schemas.topics import load_retention

        found = load_retention()
        if as_json:
            typer.echo(json.dumps({"retention": [asdict(one) for one in found]}))
            return
        table = Table("topic", "days", "personal data", "table", "its personal columns, days")
        for one in found:
            columns = "" if one.table_personal_days is None else str(one.table_personal_days)
            table.add_row(one.topic, str(one.days), one.personal, one.table, columns)
        Console().print(table)

    @group.command("acls")
    def acls(
        format_: Annotated[
            str, typer.Option("--format", help="kafka-acls (commands) or strimzi (KafkaUsers).")
        ] = "kafka-acls",
        cluster: Annotated[
            str, typer.Option(help="Of strimzi: name of the Kafka cluster.")
        ] = "kafka",
        as_json: AsJson = False,
    ) -> None:
        """Print what each part's Kafka user may do, and no more.

        Example: quanyu topics acls --format strimzi
        """
        from dataclasses import asdict

        from schemas.acls import as_commands, as_strimzi, load_acls

        if format_ not in ("kafka-acls", "strimzi"):
            raise QuanyuError(f"--format {format_!r}: use kafka-acls or strimzi")
        found = load_acls()
        if as_json:
            typer.echo(json.dumps({"acls": [asdict(acl) for acl in found]}))
        else:
            typer.echo(
                as_strimzi(found, cluster) if format_ == "strimzi" else as_commands(found), nl=False
            )


def _say(lines: list[str], as_json: bool, name: str, nothing: str) -> None:
    if as_json:
        typer.echo(json.dumps({name: lines}, ensure_ascii=False))
    else:
        typer.echo("\n".join(lines) or nothing)
