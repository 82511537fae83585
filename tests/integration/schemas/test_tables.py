"""Migrations on the real engine: idempotent, concurrent, and drift is seen."""

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from clickhouse_connect.driver.client import Client

from schemas import retention, tables
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


def test_who_comes_late_makes_no_view_anew_that_others_insert_through_by_then(
    own: Settings, clickhouse: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def views() -> list[str]:
        asked = "SELECT uuid FROM system.tables WHERE database = {d:String} ORDER BY name"
        found = clickhouse.query(asked, parameters={"d": own.clickhouse_database})
        return [str(uuid) for (uuid,) in found.result_rows]

    tables.apply(own)
    before = views()
    # It asked what is pending before the first one was done.
    monkeypatch.setattr(tables, "_pending", lambda *_: tables.load_migrations())
    assert tables.apply(own) == []
    assert views() == before


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


class Migrations:
    """More migrations after those of the tree, one at a time."""

    def __init__(self, own: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
        self._own = own
        self._known = tables.load_migrations()
        self._next = ""
        monkeypatch.setattr(tables, "load_migrations", self._load)

    def _load(self) -> list[tables.Migration]:
        number = len(self._known) + 1
        return [*self._known, tables.Migration(number, f"{number:04}_more", self._next, "x")]

    def apply(self, text: str) -> None:
        """Apply one of this text; a refused one is forgotten."""
        self._next = text
        more = self._load()[-1]
        assert tables.apply(self._own) == [f"applied migration {more.name}"]
        self._known.append(more)


ALTER = "ALTER TABLE {local:reports} {on_cluster} "
LOSING = {
    "reports.title": ALTER + "DROP COLUMN IF EXISTS title;",
    "reports.lon": ALTER + "MODIFY COLUMN lon Nullable(Int8);",
    "reports.revision": ALTER + "MODIFY COLUMN revision UInt8 CODEC(T64, LZ4);",
    "reports.received_at": ALTER + "MODIFY COLUMN received_at DateTime('UTC');",
    "reports.lat": ALTER + "MODIFY COLUMN lat Float64;",
    "reports": ALTER + "DELETE WHERE revision = 300;",
    "outcome_counts": "DROP TABLE IF EXISTS {local:outcome_counts} {on_cluster};",
    "link_counts": "TRUNCATE TABLE IF EXISTS {local:link_counts} {on_cluster};",
}


@pytest.fixture
def living(own: Settings, clickhouse: Client) -> Settings:
    """A database with rows that a careless migration would harm."""
    tables.apply(own)
    database = own.clickhouse_database
    clickhouse.command(
        f"INSERT INTO {database}.reports (report_id, title, lon, lat, revision, received_at) VALUES "
        "('a', '积水', 113.65, NULL, 300, '2026-03-17 08:00:00.250')"
    )
    clickhouse.command(f"INSERT INTO {database}.outcome_counts (channel, n) VALUES ('x', 1)")
    clickhouse.command(f"INSERT INTO {database}.link_counts (channel, n) VALUES ('x', 1)")
    return own


def test_a_migration_that_would_lose_rows_is_refused_by_name_and_runs_when_it_says_so(
    living: Settings, clickhouse: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = Migrations(living, monkeypatch)
    everything = f"SELECT * FROM {living.clickhouse_database}.reports"
    before = clickhouse.query(everything).result_rows
    for subject, text in LOSING.items():
        said = rf"\d+_more\.sql would lose .*: {subject}: .*1 rows"
        with pytest.raises(QuanyuError, match=said):
            more.apply(text)
        with pytest.raises(QuanyuError, match=said):
            more.apply(f"-- loses: {subject}_too\n{text}")
    assert clickhouse.query(everything).result_rows == before
    for subject in ("reports.title", "reports.lon", "reports", "outcome_counts", "link_counts"):
        more.apply(f"-- loses: {subject} — nobody needs it\n{LOSING[subject]}")


def test_a_migration_that_loses_nothing_of_what_is_there_runs(
    living: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = Migrations(living, monkeypatch)
    for text in (
        ALTER + "MODIFY COLUMN revision Int64 CODEC(T64, LZ4);",
        ALTER + "MODIFY COLUMN revision Int16;",  # the value fits
        ALTER + "MODIFY COLUMN title LowCardinality(String);",
        ALTER + "MODIFY COLUMN occurred_offset_min Nullable(Int32);",
        ALTER + "DROP COLUMN IF EXISTS forwarded_from;",  # nobody filled it
        ALTER + "ADD COLUMN IF NOT EXISTS mood String;",
        "TRUNCATE TABLE IF EXISTS {local:transition_counts} {on_cluster};",
        "DROP VIEW IF EXISTS {local:link_counts_view} {on_cluster} SYNC;",  # its rows are in link_counts
    ):
        more.apply(text)


def test_retention_is_shown_set_once_and_keeps_what_is_young(
    living: Settings, clickhouse: Client
) -> None:
    differing = retention.retention(living)
    assert len(differing) == len(retention.load_retention().tables)
    assert differing[0] == (
        "table reports: keeps for ever, not toDateTime(received_at) + toIntervalMonth(36)"
    )
    database = living.clickhouse_database
    clickhouse.command(
        f"INSERT INTO {database}.reports (report_id, received_at) VALUES ('old', '2020-01-01 00:00:00')"
    )
    retention.retention(living, apply=True)
    assert retention.retention(living) == []
    assert tables.diff(living) == []
    clickhouse.command(f"OPTIMIZE TABLE {database}.reports FINAL")
    left = clickhouse.query(f"SELECT report_id FROM {database}.reports").result_rows
    assert ("a",) in left


def test_every_statement_for_a_cluster_is_sql(clickhouse: Client) -> None:
    statements = tables.script("quanyu", "main")
    for table in retention.load_retention().tables:
        statements += retention.statements(table, "quanyu", "main", tiered=True)
    for statement in statements:
        # As text of the query: the driver escapes a long parameter otherwise than the engine reads it.
        quoted = statement.replace("\\", "\\\\").replace("'", "\\'")
        parsed = clickhouse.query(f"SELECT formatQuery('{quoted}')")
        assert "ON CLUSTER main" in parsed.result_rows[0][0]


def test_views_of_a_cluster_select_from_what_its_tables_are_called_there(
    fresh: Fresh, clickhouse: Client
) -> None:
    # One engine has neither replicas nor a cluster: all else of the statements is run as it is.
    alone = (
        (r"ON CLUSTER 'main'", ""),
        (r"Replicated(\w*MergeTree)\('[^']*', '[^']*'(?:, )?", r"\1("),
        (r"replicated_deduplication_window_seconds = \d+", "index_granularity = 8192"),
        (r"replicated_deduplication_window =", "non_replicated_deduplication_window ="),
        (r"Distributed\('main', ('\w+'), '(\w+)'.*\)$", r"Merge(\1, '^\2$')"),
    )
    for statement in tables.script(fresh.database, "main"):
        for pattern, instead in alone:
            statement = re.sub(pattern, instead, statement)
        clickhouse.command(statement)
    clickhouse.command(
        f"INSERT INTO {fresh.database}.order_transitions_local "
        "(order_id, version, to_state, from_state, due_at) VALUES ('o', 1, 'SIGNED', 'UNKNOWN', now())"
    )
    for table in ("transition_counts", "orders_in_hand", "matters", "order_scores"):
        assert clickhouse.query(f"SELECT 1 FROM `{fresh.database}`.{table}").result_rows, table


def test_an_upgrade_says_which_new_table_lacks_the_rows_that_are_there(
    own: Settings, clickhouse: Client
) -> None:
    tables.apply(own, up_to=8)
    clickhouse.command(
        f"INSERT INTO `{own.clickhouse_database}`.order_transitions (order_id, version) VALUES ('o', 1)"
    )
    said = [line for line in tables.apply(own) if "rebuild" in line]
    assert [line.split()[-1] for line in said] == ["orders_in_hand", "matters", "order_scores"]
    assert tables.apply(own) == []
