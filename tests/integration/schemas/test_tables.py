"""Migrations on the real engine: idempotent, concurrent, and drift is seen."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from clickhouse_connect.driver.client import Client

from schemas import tables
from schemas.errors import QuanyuError
from schemas.settings import Settings
from tests.conftest import Fresh

pytestmark = pytest.mark.integration


@pytest.fixture
def own(settings: Settings, fresh: Fresh) -> Settings:
    return settings.model_copy(update={"clickhouse_database": fresh.database})


def test_apply_creates_everything_once_and_diff_is_empty_after(own: Settings) -> None:
    known = [migration.name for migration in tables.load_migrations()]
    assert tables.diff(own) == [f"migration {name} is not applied" for name in known]
    assert tables.apply(own) == [f"applied migration {name}" for name in known]
    assert tables.diff(own) == []
    assert tables.apply(own) == []


def test_two_processes_that_apply_at_once_both_succeed(own: Settings, clickhouse: Client) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: tables.apply(own), range(4)))
    assert tables.diff(own) == []
    applied = clickhouse.query(
        f"SELECT count() FROM {own.clickhouse_database}.schema_migrations FINAL"
    )
    assert applied.result_rows[0][0] == len(tables.load_migrations())


def test_an_interrupted_apply_goes_on(own: Settings, clickhouse: Client) -> None:
    database = own.clickhouse_database
    clickhouse.command(f"CREATE DATABASE {database}")
    first = tables.load_migrations()[0]
    for statement in tables.statements(first, database, None)[:4]:
        clickhouse.command(statement)
    tables.apply(own)
    assert tables.diff(own) == []


def test_a_changed_migration_is_refused(
    own: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables.apply(own)
    for path in tables.MIGRATIONS_DIR.glob("*.sql"):
        (tmp_path / path.name).write_text(path.read_text(encoding="utf-8") + "\n-- changed\n")
    changed = tables.load_migrations(tmp_path)
    monkeypatch.setattr(tables, "load_migrations", lambda: changed)
    for ask in (tables.diff, tables.apply):
        with pytest.raises(QuanyuError, match=r"0001_\w+\.sql was changed after it was applied"):
            ask(own)


def test_tables_newer_than_the_program_are_refused(own: Settings, clickhouse: Client) -> None:
    tables.apply(own)
    clickhouse.command(
        f"INSERT INTO {own.clickhouse_database}.schema_migrations SELECT 9999, '9999_x', '', now()"
    )
    with pytest.raises(QuanyuError, match="9999_x is applied"):
        tables.apply(own)


def test_drift_is_named_by_table_and_column(own: Settings, clickhouse: Client) -> None:
    tables.apply(own)
    database = own.clickhouse_database
    for statement in (
        f"ALTER TABLE {database}.reports DROP COLUMN media",
        f"ALTER TABLE {database}.events ADD COLUMN mood String",
        f"ALTER TABLE {database}.orders MODIFY COLUMN rule String",
        f"ALTER TABLE {database}.event_links MODIFY SETTING non_replicated_deduplication_window=0",
        f"DROP TABLE {database}.outcome_counts",
    ):
        clickhouse.command(statement)
    found = "\n".join(tables.diff(own))
    for line in (
        "table reports: column media Array(String) is missing",
        "table events: column mood is in no migration",
        "table orders: column rule is String, not LowCardinality(String)",
        "table event_links: deduplication_window = 10000 is missing",
        "table outcome_counts is missing",
    ):
        assert line in found


def test_no_server_is_one_sentence_with_the_address(own: Settings) -> None:
    away = own.model_copy(update={"clickhouse": "http://127.0.0.1:9"})
    away.__dict__.pop("clickhouse_url", None)
    with pytest.raises(QuanyuError, match=r"does not answer at http://127\.0\.0\.1:9 "):
        tables.diff(away)
