"""`quanyu audit`: hold everything against everything."""

import json
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from deploy.audit import AuditReport, audit
from deploy.checks import Offender
from schemas.settings import load_settings

#: Offenders of a check that the table shows; --json has more of them.
SHOWN = 5


def register(app: typer.Typer) -> None:
    """Add `audit`."""

    @app.command("audit")
    def audit_(
        timeout: Annotated[
            float, typer.Option(min=0, help="Seconds to wait until the pipeline is at rest.")
        ] = 120.0,
        as_json: Annotated[
            bool, typer.Option("--json", help="One JSON object as the last line of stdout.")
        ] = False,
    ) -> None:
        """Reconcile Kafka, outcomes, tables and counters; exit 1 when anything does not add up.

        Example: quanyu audit --timeout 300 --json
        """
        stderr = Console(stderr=True)
        with stderr.status("audit") as status:
            report = audit(load_settings(), timeout=timeout, progress=status.update)
        if as_json:
            typer.echo(json.dumps(report.as_dict(), ensure_ascii=False))
        else:
            print_report(report, Console(highlight=False))
        if not report.clean:
            raise typer.Exit(1)


def print_report(report: AuditReport, console: Console) -> None:
    """The report for a person: channels, checks, and the first offenders of each broken one."""
    kinds = sorted({kind for channel in report.channels for kind in channel.outcomes})
    channels = Table("channel", "received", *kinds, title="raw records and their outcomes")
    for channel in report.channels:
        if channel.received or channel.outcomes:
            counts = [str(channel.outcomes.get(kind, 0)) for kind in kinds]
            channels.add_row(channel.channel, str(channel.received), *counts)
    if channels.row_count:
        console.print(channels)
    checks = Table("check", "offenders", "promise")
    for check in report.checks:
        style = None if check.ok else "bold red"
        checks.add_row(check.name, str(check.offenders), check.meaning, style=style)
    console.print(checks)
    for check in report.checks:
        for offender in check.first[:SHOWN]:
            console.print(f"{check.name}: {describe(offender)}", markup=False)
    totals = ", ".join(f"{number} {name}" for name, number in report.totals.items())
    letters = sum(report.dead_letters.values())
    console.print(f"{totals}, {letters} dead letters; {report.seconds:.1f} s", markup=False)
    if report.note:
        console.print(f"note: {report.note}", style="yellow")
    verdict = ("clean", "green") if report.clean else ("NOT clean", "bold red")
    console.print(f"audit: {verdict[0]}", style=verdict[1])


def describe(offender: Offender) -> str:
    """One line: what, where, and the values that differ."""
    parts = [offender.what]
    if offender.topic:
        at = "" if offender.offset is None else f"@{offender.offset}"
        parts.append(f"{offender.topic}[{offender.partition}]{at}")
    if offender.id:
        parts.append(offender.id)
    if offender.expected or offender.actual:
        parts.append(f"expected {offender.expected}, found {offender.actual}")
    return " · ".join(parts)
