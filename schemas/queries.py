"""Named queries: every number lives once, as a file with typed parameters; screen, Grafana, reports and
tests all run these files.

A file begins with a header of ``-- key: value`` lines: title, unit, meaning, refresh (seconds) and
optionally drill_down (the name of the query with the rows that add up to the number).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from clickhouse_connect.driver.client import Client

from schemas.errors import QuanyuError

QUERIES_DIR = Path(__file__).parent / "clickhouse" / "queries"
_HEADER = re.compile(r"\A--\s*(?P<key>[a-z_]+):\s*(?P<value>.*\S)\s*\Z")
_PARAMETER = re.compile(r"\{(?P<name>\w+):(?P<type>[\w()]+)\}")
REQUIRED = ("title", "unit", "meaning", "refresh")
#: A screen's query that reads more than this is a mistake; it must not take the engine down with it.
LIMITS = {"max_execution_time": 10, "max_result_rows": 100_000}


@dataclass(frozen=True, slots=True)
class NamedQuery:
    """One named query. ``refresh_s``: how often it is worth asking."""

    name: str
    title: str
    unit: str
    meaning: str
    refresh_s: float
    drill_down: str | None
    parameters: Mapping[str, str]
    sql: str


def read_query(path: Path) -> NamedQuery:
    """Read one file; :class:`QuanyuError` names file, line and field."""
    header: dict[str, str] = {}
    lines = path.read_text(encoding="utf-8").splitlines()
    number = 0
    for number, line in enumerate(lines, start=1):
        match = _HEADER.match(line)
        if not match:
            break
        if match["key"] not in (*REQUIRED, "drill_down"):
            raise QuanyuError(
                f"{path}:{number}: {match['key']}: no such field; known: {', '.join(REQUIRED)}"
            )
        header[match["key"]] = match["value"]
    for field in REQUIRED:
        if field not in header:
            raise QuanyuError(f"{path}:1: {field}: missing; add a line -- {field}: …")
    try:
        refresh = float(header["refresh"])
    except ValueError:
        raise QuanyuError(
            f"{path}: refresh: {header['refresh']!r} is not a number of seconds"
        ) from None
    sql = "\n".join(lines[number - 1 :]).strip().rstrip(";")
    if not sql:
        raise QuanyuError(f"{path}:{number}: no SQL below the header")
    parameters = {m["name"]: m["type"] for m in _PARAMETER.finditer(sql)}
    return NamedQuery(
        path.stem, header["title"], header["unit"], header["meaning"], refresh,
        header.get("drill_down"), parameters, sql,
    )  # fmt: skip


@cache
def load_queries() -> dict[str, NamedQuery]:
    """Every named query by name."""
    queries = {path.stem: read_query(path) for path in sorted(QUERIES_DIR.glob("*.sql"))}
    for query in queries.values():
        if query.drill_down and query.drill_down not in queries:
            raise QuanyuError(f"{query.name}.sql: drill_down: no query {query.drill_down}")
    return queries


def run(client: Client, name: str, **parameters: Any) -> list[dict[str, Any]]:
    """The rows of a named query, as dictionaries; parameters are bound by ClickHouse.

    Raises :class:`QuanyuError` for an unknown name or a missing parameter, and the client's error when
    ClickHouse refuses.
    """
    query = load_queries().get(name)
    if query is None:
        raise QuanyuError(f"no query {name!r}; known: {', '.join(load_queries())}")
    missing = query.parameters.keys() - parameters.keys()
    if missing:
        raise QuanyuError(f"query {name}: parameter {sorted(missing)[0]} is missing")
    bound = {key: parameters[key] for key in query.parameters}
    return list(client.query(query.sql, parameters=bound, settings=LIMITS).named_results())
