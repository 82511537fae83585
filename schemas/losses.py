# ruff: noqa: S608 # names of tables and columns come from our own migrations; values go as parameters
"""What a migration would lose of the rows that are there, asked of the rows themselves before it runs.

A column that is dropped loses what is not its default, a narrower type what does not come back from it the
same, a dropped or truncated table its rows, a TTL what grows too old. A dropped view loses none: they
are in the table that it filled. A migration that is meant to lose says so, one line each::

    -- loses: reports.media — photos are kept elsewhere since …
    -- loses: old_counts
"""

import re

from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

_DECLARED = re.compile(r"^--\s*loses:\s*([\w.]+)", re.MULTILINE)
_ALTER = re.compile(r"ALTER TABLE \{local:(\w+)\} \{on_cluster\}\s+(.+)", re.DOTALL)
_DROP = re.compile(
    r"(?:DROP|TRUNCATE|DETACH|CREATE OR REPLACE|REPLACE)\s+TABLE\s+"
    r"(?:IF EXISTS |IF NOT EXISTS )?\{local:(\w+)\}"
)
_COLUMN_GONE = re.compile(r"\b(?:DROP|CLEAR) COLUMN (?:IF EXISTS )?(\w+)")
_COLUMN_CHANGED = re.compile(
    r"\bMODIFY COLUMN (?:IF EXISTS )?(\w+) ([A-Z]\w*(?:\((?:[^()]|\([^()]*\))*\))?)"
)
_ROWS_GONE = re.compile(
    r"\b(?:DELETE|UPDATE|(?:DROP|DETACH|CLEAR|REPLACE) PARTITION|(?:MODIFY )?TTL)\b"
)
#: What accurateCastOrNull can be asked of.
_CASTABLE = re.compile(r"(?:U?Int\d+|Float\d+|Decimal\w*|String|FixedString|Date\w*|Bool|UUID)\b")


def losses(client: Client, database: str, text: str) -> list[str]:
    """One line for each thing that the migration would lose and does not say; ``text`` as written in its file.

    Tables and columns that are not there lose nothing.
    """
    declared = set(_DECLARED.findall(text))
    types = {
        (table, name): kind
        for table, name, kind in client.query(
            "SELECT table, name, type FROM system.columns WHERE database = {d:String}",
            parameters={"d": database},
        ).result_rows
    }
    tables = {table for table, _ in types}
    found = []

    def ask(subject: str, table: str, condition: str, what: str) -> None:
        if subject in declared or table not in tables:
            return
        try:
            rows = client.query(
                f"SELECT count() FROM `{database}`.`{table}` WHERE {condition}"
            ).result_rows[0][0]
        except ClickHouseError as error:
            found.append(
                f"{subject}: {what}, and how many rows differ is unknown ({str(error)[:80]})"
            )
            return
        if rows:
            found.append(f"{subject}: {what}, {rows} rows have it")

    for statement in re.sub(r"--[^\n]*", "", text).split(";"):
        for table in _DROP.findall(statement):
            ask(table, table, "1", "would be gone")
        altered = _ALTER.search(statement)
        if altered is None:
            continue
        table, change = altered[1], altered[2]
        if _ROWS_GONE.search(change):
            ask(table, table, "1", f"rows would be gone by {' '.join(change.split())[:40]}")
        for name in _COLUMN_GONE.findall(change):
            if (table, name) in types:
                ask(
                    f"{table}.{name}",
                    table,
                    f"`{name}` IS DISTINCT FROM defaultValueOfTypeName('{_escaped(types[table, name])}')",
                    "would be dropped",
                )
        for name, kind in _COLUMN_CHANGED.findall(change):
            former = types.get((table, name))
            if former is None or _plain(former) == _plain(kind):
                continue
            ask(
                f"{table}.{name}",
                table,
                _changed(name, former, kind),
                f"{former} to {kind} changes it",
            )
    return found


def _changed(name: str, former: str, kind: str) -> str:
    """The condition of rows whose value does not come back from the new type as it was."""
    old, new = _plain(former), _plain(kind)
    if not (_CASTABLE.match(_bare(old)) and _CASTABLE.match(_bare(new))):
        return "1"
    there = f"accurateCastOrNull(`{name}`, '{_escaped(_bare(new))}')"
    back = f"accurateCastOrNull({there}, '{_escaped(_bare(old))}')"
    lost = f"isNotNull(`{name}`) AND ifNull({back} != `{name}`, 1)"
    if old.startswith("Nullable") and not new.startswith("Nullable"):
        return f"isNull(`{name}`) OR ({lost})"
    return lost


def _plain(kind: str) -> str:
    """The type without what only says how it is kept or summed."""
    kind = re.sub(r"LowCardinality\((.+)\)", r"\1", kind)
    return re.sub(r"SimpleAggregateFunction\(\w+, (.+)\)", r"\1", kind)


def _bare(kind: str) -> str:
    return re.sub(r"Nullable\((.+)\)", r"\1", kind)


def _escaped(kind: str) -> str:
    return kind.replace("\\", "\\\\").replace("'", "\\'")
