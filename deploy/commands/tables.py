"""`quanyu tables`: the ClickHouse tables as code."""

import json
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console

from deploy import query_page
from deploy.rebuild import rebuild
from schemas import tables
from schemas.queries import load_queries
from schemas.settings import load_settings

_Json = Annotated[bool, typer.Option("--json", help="One JSON object as the last line of stdout.")]


def register(app: typer.Typer) -> None:
    """Add `tables diff`, `tables apply`, `tables rebuild` and `tables queries`."""
    group = typer.Typer(
        no_args_is_help=True, help="ClickHouse tables as code: numbered migrations."
    )
    app.add_typer(group, name="tables")

    @group.command("diff")
    def diff(as_json: _Json = False) -> None:
        """Pending migrations and drifted tables; exit 1 when there are any.

        Example: quanyu tables diff --json
        """
        found = tables.diff(load_settings())
        _report({"differences": found}, found or ["tables are as the migrations say"], as_json)
        if found:
            raise typer.Exit(1)

    @group.command("apply")
    def apply(as_json: _Json = False) -> None:
        """Apply the pending migrations; safe to repeat.

        Example: quanyu tables apply
        """
        done = tables.apply(load_settings())
        _report({"applied": done}, done or ["nothing to apply"], as_json)

    @group.command("rebuild")
    def rebuild_(
        name: Annotated[str, typer.Argument(help="A counter, e.g. outcome_counts.")],
        as_json: _Json = False,
    ) -> None:
        """Compute a counter anew from its facts, while reports go on coming.

        Inserts into these facts are refused, and repeated by the sink, for a second or two at the beginning
        and at the end. Interrupted, repeat it: until then the counter is as it was.

        Example: quanyu tables rebuild outcome_counts
        """
        console = Console(stderr=True, highlight=False)
        found = rebuild(load_settings(), name, say=console.print)
        if as_json:
            typer.echo(json.dumps(asdict(found)))
        else:
            typer.echo(
                f"{name}: {found.facts} facts counted in {found.seconds} s; "
                f"{found.wrong_before} groups were wrong before"
            )

    @group.command("queries")
    def queries() -> None:
        """Write the page of the named queries anew from their headers: schemas/clickhouse/queries/README.md.

        Example: quanyu tables queries
        """
        text = query_page.page(load_queries(), query_page.tiles())
        query_page.PAGE.write_text(text, encoding="utf-8")
        typer.echo(f"{query_page.PAGE.name}: {len(load_queries())} queries")


def _report(result: dict[str, list[str]], lines: list[str], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(result, ensure_ascii=False))
    else:
        for line in lines:
            typer.echo(line)
