"""KPIs of a city's own orders in a CSV file, by the same queries that score the pipeline's orders.

The file's orders are put into the columns of ``order_transitions``, each as one step that tells how it
stood, in a ClickHouse engine inside this process; nothing else has to run.
"""

import csv
import json
import tempfile
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from deploy.kpi import Period, Row, parameters, taken
from schemas import tables
from schemas.city import CityPack
from schemas.documents import read_rows
from schemas.errors import QuanyuError
from schemas.instants import parse_instant
from schemas.queries import find

COLUMNS = ("order_id", "status", "opened_at", "due_at", "closed_at")
INSTANTS = COLUMNS[2:]
#: What these columns can tell; every other KPI needs steps, contacts or visits.
RATES = ("archive_rate", "in_time_archive_rate", "overdue_rate", "closed_rate", "on_time_rate")
TIMES = ("close_time_wall", "close_time_work")
#: What ClickHouse can keep: instants of other years are mistakes of the file.
YEARS = range(1971, 2200)
#: Only what a status says whole counts: «Closed (Duplicate)» is not «Closed». The symbols of the order's own
#: states stand for themselves.
STATUSES = {
    "closed": "CLOSED", "已结案": "CLOSED", "结案": "CLOSED", "已办结": "CLOSED", "办结": "CLOSED",
    "open": "HANDLING", "new": "DISPATCHED", "pending": "DISPATCHED", "in progress": "HANDLING",
    "待签收": "DISPATCHED", "办理中": "HANDLING", "待办结": "HANDLING", "挂起": "SUSPENDED",
    "退回": "RETURNED", "退单": "RETURNED", "不受理": "INVALID", "误报": "INVALID",
    "直接答复": "DIRECT_ANSWERED",
}  # fmt: skip
STATES = (
    *("RECEIVED", "NEEDS_REVIEW", "ASSIGNED", "DISPATCHED", "SIGNED", "HANDLING", "HANDLED"),
    *("CHECKED", "REVISITED", "CLOSED", "RETURNED", "EXTENDED", "SUSPENDED", "SUPERVISED"),
    *("REOPENED", "INVALID", "DIRECT_ANSWERED", "WITHDRAWN"),
)
_STATE_OF = STATUSES | {state.lower(): state for state in STATES}
_WRITTEN = (
    *("order_id", "event_id", "version", "sequence", "to_state"),
    *("at", "opened_at", "dispatched_at", "due_at", "closed_at"),
)
#: Lines that a flag names.
LINES_SHOWN = 5


def measure_kpis(orders: Path, city: CityPack, as_of: int | None = None) -> dict[str, Any]:
    """Every KPI that the columns tell, with value, numerator, denominator and what was left out, and why.

    ``as_of``: ms since the epoch; default: the latest instant at which anything was opened or closed, so
    that the same file always gives the same numbers. ``flags``: rows whose times or status contradict each
    other, and on which lines. Times without an offset are the city's. :class:`QuanyuError` as
    ``file:line: field: what is wrong``.
    """
    rows: list[tuple[str, str, dict[str, int | None]]] = []
    statuses: Counter[str] = Counter()
    unknown: Counter[str] = Counter()
    flags: dict[str, list[int]] = {}
    lines: dict[str, int] = {}
    for line, row in read_rows(orders, COLUMNS):
        where = f"{orders}:{line}"
        identity = row["order_id"]
        if not identity:
            raise QuanyuError(f"{where}: order_id: is empty; every row needs one")
        if identity in lines:
            raise QuanyuError(
                f"{where}: order_id: {identity[:60]!r} stands in line {lines[identity]} too; "
                "leave one row for each order"
            )
        lines[identity] = line
        times = {name: _instant(f"{where}: {name}", row[name], city.time_zone) for name in INSTANTS}
        state = _STATE_OF.get(row["status"].lower(), "UNKNOWN")
        statuses[state] += 1
        if state == "UNKNOWN":
            unknown[row["status"]] += 1
        for flag in _flags(state, times):
            flags.setdefault(flag, []).append(line)
        rows.append((identity, state, times))
    if not rows:
        raise QuanyuError(f"{orders}: has no row; write one for each order below the header")
    known = [t for _, _, times in rows for n in ("opened_at", "closed_at") if (t := times[n])]
    at = as_of if as_of is not None else max(known, default=None)
    if at is None:
        raise QuanyuError(f"{orders}: no row has opened_at or closed_at; give --as-of")
    every = [t for _, _, times in rows for t in times.values() if t is not None] + [at]
    # All of the file is the period.
    period = Period(min(every), max(every) + 1, at)
    given = parameters(city, period)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "steps.csv"
        _write(file, rows, at)
        rates, durations = _ask(file, given)
    return {
        "orders": len(rows),
        "as_of": datetime.fromtimestamp(at / 1000, UTC).isoformat(timespec="seconds"),
        "closed": statuses["CLOSED"],
        "states": dict(sorted(statuses.items())),
        "unknown_statuses": dict(sorted(unknown.items())),
        "flags": {
            flag: {"rows": len(found), "lines": found[:LINES_SHOWN]}
            for flag, found in sorted(flags.items())
        },
        "kpis": {
            row["kpi"]: {name: row[name] for name in ("value", "numerator", "denominator")}
            | {"excluded": row["excluded"], "formula": row["formula"]}
            for row in rates
            if row["kpi"] in RATES
        }
        | {
            row["kpi"]: {
                "value": row["mean_ms"], "numerator": row["sum_ms"], "denominator": row["n"],
                "unit": "ms", "median": row["median_ms"], "p90": row["p90_ms"],
                "excluded": row["excluded"], "formula": row["formula"],
            }
            for row in durations
            if row["kpi"] in TIMES
        },
    }  # fmt: skip


def _instant(where: str, text: str, time_zone: str) -> int | None:
    if not text:
        return None
    found = parse_instant(text, time_zone)
    if found is None:
        raise QuanyuError(
            f"{where}: {text[:60]!r} is no instant; write ISO 8601, e.g. 2026-10-01T09:30:00+08:00"
        )
    if datetime.fromtimestamp(0, UTC).year + found.ms // (365.2425 * 86_400_000) not in YEARS:
        raise QuanyuError(f"{where}: {text[:60]!r} is not between 1971 and 2199; correct the year")
    return found.ms


def _flags(state: str, times: Mapping[str, int | None]) -> list[str]:
    """What in a row contradicts itself."""
    opened, due, closed = (times[name] for name in INSTANTS)
    found = {
        "closed_before_opened": closed is not None and opened is not None and closed < opened,
        "due_before_opened": due is not None and opened is not None and due < opened,
        "closed_without_closed_at": state == "CLOSED" and closed is None,
        "open_with_closed_at": closed is not None
        and state not in ("CLOSED", "UNKNOWN", "INVALID", "DIRECT_ANSWERED", "WITHDRAWN"),
        "no_opened_at": opened is None,
        "status_unknown": state == "UNKNOWN",
    }
    return [flag for flag, holds in found.items() if holds]


def _write(file: Path, rows: list[tuple[str, str, dict[str, int | None]]], at: int) -> None:
    """The orders as steps, in the CSV that ClickHouse reads."""
    with file.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle)
        for identity, state, times in rows:
            opened = next(t for t in (times["opened_at"], times["closed_at"], times["due_at"], at)
                          if t is not None)  # fmt: skip
            instants = [at, opened, opened, times["due_at"], times["closed_at"]]
            texts = ["\\N" if t is None else _text(t) for t in instants]
            writer.writerow([identity, identity, 1, 1, state, *texts])


def _text(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]


def _ask(file: Path, given: Mapping[str, Any]) -> tuple[list[Row], list[Row]]:
    """The rates and times of the steps in a file, by the named queries in an engine of their own."""
    try:
        import chdb
    except ImportError:  # the image of deploy/image leaves the embedded engine out
        raise QuanyuError(
            "evaluate kpi computes in the embedded engine, which is not installed here: run it where "
            "make demo runs"
        ) from None
    connection = chdb.connect(":memory:")  # type: ignore[no-untyped-call]  # as it is
    try:
        connection.query("CREATE DATABASE kpi ENGINE = Atomic", "Null")
        connection.query("USE kpi", "Null")
        for table, columns in tables.columns(tables.load_migrations()).items():
            declared = ", ".join(f"{name} {kind}" for name, kind in columns.items())
            connection.query(f"CREATE TABLE {table} ({declared}) ENGINE = Memory", "Null")
        connection.query(
            f"INSERT INTO order_transitions ({', '.join(_WRITTEN)}) FROM INFILE '{file}' FORMAT CSV",
            "Null",
        )

        def ask(name: str) -> list[Row]:
            query = find(name)
            bound = query.bind(taken(name, given))
            texts = {key: str(value) for key, value in bound.items()}
            result = connection.query(query.sql, "JSONEachRow", params=texts)
            return [json.loads(line) for line in bytes(result.bytes()).splitlines()]

        return ask("kpi"), ask("kpi_time")
    finally:
        connection.close()
