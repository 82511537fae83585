"""`quanyu report`: a month's KPIs and scores as a page and a workbook, and the orders behind a number."""

import csv
import json
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from deploy.kpi import WITHIN_S, asker, instant, months, parameters
from deploy.report import gather, html, xlsx
from schemas.city import load_city
from schemas.errors import QuanyuError
from schemas.kpi import RATES
from schemas.queries import connect
from schemas.settings import load_settings

CONNECT_S = 5
#: Of one number; a spreadsheet holds no more.
ORDERS_LIMIT = 1_000_000


def register(app: typer.Typer) -> None:
    """Add `report`."""

    @app.command("report")
    def report(
        month: Annotated[str, typer.Option(help="The month, e.g. 2026-10.")],
        out: Annotated[Path, typer.Option(help="Folder to write into; made when missing.")],
        as_of: Annotated[
            str,
            typer.Option(
                help="ISO 8601: as the facts were known then; default: the month's end, or now."
            ),
        ] = "",
        orders: Annotated[
            str, typer.Option(help="Also the orders behind this KPI, as CSV.", metavar="KPI")
        ] = "",
        as_json: Annotated[
            bool, typer.Option("--json", help="One JSON object as the last line of stdout.")
        ] = False,
    ) -> None:
        """Write a month's KPIs, comparisons and scores: report-2026-10.html and .xlsx.

        The same facts and the same --as-of give the same bytes. Exit 1 when nothing falls into the month.
        Example: quanyu report --month 2026-10 --out reports
        """
        settings = load_settings()
        city = load_city(settings.city)
        if orders and orders not in RATES:
            raise QuanyuError(f"--orders {orders!r} is no KPI; KPIs are {', '.join(RATES)}")
        now = time.time_ns() // 1_000_000
        at = instant(as_of, city.time_zone) if as_of else now
        periods = months(month, city.time_zone, at)
        if not as_of and at > periods[0].until:
            periods = months(month, city.time_zone, periods[0].until)
        stderr = Console(stderr=True, highlight=False)
        client = connect(settings, connect_s=CONNECT_S, answer_s=WITHIN_S, at_once=1)
        try:
            ask = asker(client)
            stderr.print(f"reading {month} from ClickHouse …")
            found = gather(ask, city, month, periods)
            behind: list[dict[str, Any]] = []
            if orders:
                given = parameters(city, periods[0])
                behind = ask("orders_behind", given | {"kpi": orders, "limit": ORDERS_LIMIT})
        finally:
            client.close()
        files = {f"report-{month}.html": html(found).encode(), f"report-{month}.xlsx": xlsx(found)}
        try:
            out.mkdir(parents=True, exist_ok=True)
            for name, content in files.items():
                (out / name).write_bytes(content)
            if orders:
                _write_orders(out / f"report-{month}-{orders}.csv", behind)
        except OSError as error:
            raise QuanyuError(f"--out {out}: not writable ({error.strerror})") from None
        paths = [str(out / name) for name in files]
        paths += [str(out / f"report-{month}-{orders}.csv")] if orders else []
        if as_json:
            kpis = {
                row["kpi"]: {
                    key: row[key] for key in ("value", "numerator", "denominator", "excluded")
                }
                for row in found.rates
            }
            result = {"month": month, "as_of": periods[0].at, "files": paths, "kpis": kpis}
            typer.echo(json.dumps(result, ensure_ascii=False))
        else:
            for path in paths:
                typer.echo(path)
        if found.is_empty:
            stderr.print(f"nothing falls into {month}: is this the right home and city?")
            raise typer.Exit(1)


def _write_orders(path: Path, rows: list[dict[str, Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle)
        names = [name for name in (rows[0] if rows else ()) if name != "total"]
        writer.writerow(names)
        writer.writerows([row[name] for name in names] for row in rows)
