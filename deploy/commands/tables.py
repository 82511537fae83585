"""`quanyu tables`: the ClickHouse tables as code."""

import json
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console

from deploy import query_page
from deploy.rebuild import rebuild
from schemas import retention, roles, tables
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

    @group.command("sql")
    def sql(
        cluster: Annotated[
            str | None, typer.Option(help="A cluster's name; else one node.")
        ] = None,
        database: Annotated[str, typer.Option()] = "quanyu",
    ) -> None:
        """Print the tables' SQL with retention: for one node or, replicated, sharded and tiered, for a cluster.

        Example: quanyu tables sql --cluster main
        """
        for statement in tables.script(database, cluster):
            typer.echo(f"{statement};\n")
        for table in retention.load_retention().tables:
            for statement in retention.statements(table, database, cluster, tiered=bool(cluster)):
                typer.echo(f"{statement};\n")

    @group.command("retention")
    def retention_(
        apply: Annotated[
            bool, typer.Option("--apply", help="Set it: what is older goes with the next merges.")
        ] = False,
        as_json: _Json = False,
    ) -> None:
        """How long each table keeps its months, where it is not as clickhouse/retention.yaml says; exit 1 then.

        Example: quanyu tables retention --apply
        """
        found = retention.retention(load_settings(), apply)
        key = "set" if apply else "differences"
        _report({key: found}, found or ["tables keep their rows as the file says"], as_json)
        if found and not apply:
            raise typer.Exit(1)

    @group.command("grant")
    def grant(
        show: Annotated[
            bool, typer.Option("--print", help="Print the SQL, change nothing.")
        ] = False,
        as_json: _Json = False,
    ) -> None:
        """Make roles, limits and users of a ClickHouse server as clickhouse/access.yaml says; safe to repeat.

        A user is made for each role whose password stands in QUANYU_<ROLE>_PASSWORD, or in the file that
        QUANYU_<ROLE>_PASSWORD_FILE names.

        Example: QUANYU_SCREEN_PASSWORD_FILE=/run/secrets/screen quanyu tables grant
        """
        settings = load_settings()
        if show:
            # Without users: what is printed must not be a way to a password.
            for statement in roles.statements(
                settings.clickhouse_database, settings.clickhouse_cluster, {}
            ):
                typer.echo(f"{statement};")
            return
        done = roles.grant(settings)
        _report({"granted": done}, done, as_json)

    @group.command("handlers")
    def handlers(
        user: Annotated[str, typer.Option(help="Under which the server runs them.")] = "screen",
    ) -> None:
        """Print http_handlers for a ClickHouse server: the named queries at the paths of the screen's port.

        Example: quanyu tables handlers > /etc/clickhouse-server/config.d/quanyu.xml
        """
        typer.echo(roles.handlers(user), nl=False)


def _report(result: dict[str, list[str]], lines: list[str], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(result, ensure_ascii=False))
    else:
        for line in lines:
            typer.echo(line)
