"""`quanyu evaluate kpi`: a city's own orders, scored by the formulas in use."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from deploy.evaluate_kpi import measure_kpis
from deploy.kpi import instant
from schemas.city import load_city
from schemas.settings import load_settings


def add(group: typer.Typer) -> None:
    """Add `kpi` to the group `evaluate`."""

    @group.command("kpi")
    def kpi(
        orders: Annotated[
            Path, typer.Option(help="CSV: order_id,status,opened_at,due_at,closed_at.")
        ],
        as_of: Annotated[
            str, typer.Option(help="ISO 8601; default: the latest opened_at or closed_at.")
        ] = "",
        as_json: Annotated[
            bool, typer.Option("--json", help="One JSON object as the last line of stdout.")
        ] = False,
    ) -> None:
        """Score orders: each KPI that the columns tell, with numerator, denominator, and what was left out.

        Times are ISO 8601, without an offset in the city's zone. A status counts only if it is known whole:
        «Closed (Duplicate)» is not Closed. Nothing has to run.
        Example: quanyu evaluate kpi --orders orders.csv --json
        """
        city = load_city(load_settings().city)
        at = instant(as_of, city.time_zone) if as_of else None
        result = measure_kpis(orders, city, at)
        if as_json:
            typer.echo(json.dumps(result, ensure_ascii=False))
        else:
            _print(result, Console(highlight=False))


def _print(result: dict[str, Any], console: Console) -> None:
    table = Table("KPI", "value", "numerator", "denominator", "left out", title="KPIs")
    for name, row in result["kpis"].items():
        value = row["value"]
        if value is None:
            shown = "–"
        elif row.get("unit") == "ms":
            hours = [f"{row[key] / 3_600_000:.1f} h" for key in ("value", "median", "p90")]
            shown = "mean {} median {} p90 {}".format(*hours)
        else:
            shown = f"{value:.4f}"
        left = ", ".join(f"{reason} {n}" for reason, n in row["excluded"].items())
        table.add_row(name, shown, str(row["numerator"]), str(row["denominator"]), left)
    console.print(f"{result['orders']} orders as of {result['as_of']}, {result['closed']} closed")
    console.print(table)
    for status, n in result["unknown_statuses"].items():
        console.print(f"status {status!r}: not known, {n} not counted as closed", markup=False)
    for flag, found in result["flags"].items():
        lines = ", ".join(map(str, found["lines"]))
        console.print(f"{flag}: {found['rows']} rows, lines {lines}, …", markup=False)
