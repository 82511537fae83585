"""How long tables keep their months and where older ones lie, as ``clickhouse/retention.yaml`` says."""

import re
from functools import cache
from pathlib import Path

from clickhouse_connect.driver.exceptions import ClickHouseError
from pydantic import BaseModel, ConfigDict, Field

from schemas import tables
from schemas.documents import read_document
from schemas.errors import QuanyuError
from schemas.settings import Settings

RETENTION_FILE = Path(__file__).parent / "clickhouse" / "retention.yaml"


class _Plain(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Kept(_Plain):
    """One table: the instant that cuts its months, and after how many they go, or move."""

    instant: str
    keep_months: int = Field(ge=13)
    cold_after_months: int | None = Field(default=None, ge=1)


class Retention(_Plain):
    """The file as a whole."""

    policy: str
    volume: str
    tables: dict[str, Kept]


@cache
def load_retention(path: Path = RETENTION_FILE) -> Retention:
    """Read and check the file; :class:`QuanyuError` names the field, or the table that is missing."""
    found = read_document(path, Retention)
    known = tables.columns(tables.load_migrations())
    if odd := sorted(known.keys() ^ found.tables.keys()):
        raise QuanyuError(f"{path}: tables.{odd[0]}: a table stands here and in the migrations")
    for table, kept in found.tables.items():
        if not known[table].get(kept.instant, "").startswith("Date"):
            raise QuanyuError(f"{path}: tables.{table}.instant: {kept.instant} is no instant of it")
    return found


def expression(kept: Kept, volume: str | None) -> str:
    """The table's TTL; moves only where there is a volume for it."""
    instant = f"toDateTime({kept.instant})"
    rules = [f"{instant} + toIntervalMonth({kept.keep_months})"]
    if volume and kept.cold_after_months:
        rules.append(f"{instant} + toIntervalMonth({kept.cold_after_months}) TO VOLUME '{volume}'")
    return ", ".join(rules)


def statements(table: str, database: str, cluster: str | None, tiered: bool) -> list[str]:
    """SQL that sets a table's retention, and its tiering where the server has the policy."""
    retention = load_retention()
    kept = retention.tables[table]
    name = f"`{database}`.`{table}{'_local' if cluster else ''}`"
    on = f" ON CLUSTER '{cluster}'" if cluster else ""
    settings = ["ttl_only_drop_parts = 1"]
    if tiered:
        settings.append(f"storage_policy = '{retention.policy}'")
    ttl = expression(kept, retention.volume if tiered else None)
    return [
        f"ALTER TABLE {name}{on} MODIFY SETTING {', '.join(settings)}",
        f"ALTER TABLE {name}{on} MODIFY TTL {ttl}",
    ]


def retention(settings: Settings, apply: bool = False) -> list[str]:
    """A line for each table whose retention is not as the file says; set when ``apply``.

    What is older then goes with the next merges. Raises :class:`QuanyuError` when the server refuses.
    """
    found = load_retention()
    database, cluster = settings.clickhouse_database, settings.clickhouse_cluster
    lines = []
    with tables.connect(settings) as client:
        policies = client.query(
            "SELECT DISTINCT policy_name FROM system.storage_policies"
        ).result_rows
        tiered = (found.policy,) in [tuple(row) for row in policies]
        rows = client.query(
            "SELECT name, create_table_query FROM system.tables WHERE database = {d:String}",
            parameters={"d": database},
        ).result_rows
        definitions = {str(row[0]): str(row[1]) for row in rows}
        for table, kept in found.tables.items():
            definition = definitions.get(f"{table}{'_local' if cluster else ''}")
            if definition is None:
                raise QuanyuError(
                    f"database {database} has no table {table}; run: quanyu tables apply"
                )
            wanted = expression(kept, found.volume if tiered else None)
            there = re.search(r"\bTTL (.+?) SETTINGS ", definition, re.DOTALL)
            if there is not None and " ".join(there[1].split()) == wanted:
                continue
            lines.append(f"table {table}: keeps {there[1] if there else 'for ever'}, not {wanted}")
            for statement in statements(table, database, cluster, tiered) if apply else ():
                try:
                    client.command(statement)
                except (ClickHouseError, OSError) as error:
                    raise QuanyuError(
                        f"table {table}: {str(error).splitlines()[0][:300]}"
                    ) from None
    return lines
