"""Migrations: what their text must hold, for a single node and for a cluster."""

import json
import re
from pathlib import Path

import pytest

from schemas import tables
from schemas.errors import QuanyuError

AVRO = Path(tables.__file__).parent / "avro"
TABLES = {
    "reports": "Report",
    "report_outcomes": "ReportOutcome",
    "event_links": "Link",
    "events": "Event",
    "orders": "Order",
    "order_transitions": "OrderTransition",
    "action_outcomes": "ActionOutcome",
}
SOURCE = {"_topic", "_partition", "_offset", "_inserted_at"}


@pytest.mark.parametrize(("table", "record"), TABLES.items())
def test_columns_are_the_fields_of_the_newest_contract(table: str, record: str) -> None:
    newest = max(AVRO.glob(f"{record}.v*.avsc"), key=lambda path: int(path.stem.split(".v")[1]))
    fields = {field["name"] for field in json.loads(newest.read_text(encoding="utf-8"))["fields"]}
    declared = tables.columns(tables.load_migrations())[table]
    assert set(declared) == fields | SOURCE


@pytest.mark.parametrize("cluster", [None, "main"])
def test_every_table_and_view_target_has_a_deduplication_window(cluster: str | None) -> None:
    for migration in tables.load_migrations():
        for statement in tables.statements(migration, "quanyu", cluster):
            if "CREATE TABLE" in statement and "Distributed" not in statement:
                assert "deduplication_window = 10000" in statement, statement[:80]


@pytest.mark.parametrize("cluster", [None, "main"])
def test_every_statement_can_run_twice(cluster: str | None) -> None:
    for migration in tables.load_migrations():
        for statement in tables.statements(migration, "quanyu", cluster):
            assert re.match(
                r"CREATE (TABLE|MATERIALIZED VIEW) IF NOT EXISTS|ALTER TABLE \S+ .*"
                r"(ADD (COLUMN|INDEX) IF NOT EXISTS|DROP (COLUMN|INDEX) IF EXISTS|MODIFY)|"
                r"DROP (TABLE|VIEW) IF EXISTS",
                statement,
                re.DOTALL,
            ), statement[:80]
            assert "POPULATE" not in statement


def test_a_cluster_gets_replicated_engines_on_cluster_and_a_distributed_table() -> None:
    [migration] = tables.load_migrations()[:1]
    single = "\n".join(tables.statements(migration, "quanyu", None))
    cluster = "\n".join(tables.statements(migration, "quanyu", "main"))
    assert "Replicated" not in single
    assert "ON CLUSTER" not in single
    assert not re.search(r"ENGINE = (Replacing|Aggregating|Summing)?MergeTree", cluster)
    assert "ENGINE = Distributed('main', 'quanyu', 'reports_local', cityHash64" in cluster
    assert "TO `quanyu`.`link_counts_local`" in cluster


def test_the_first_migration_for_a_cluster_is_what_clusters_were_made_with() -> None:
    [migration] = tables.load_migrations()[:1]
    made = ";\n\n".join(tables.statements(migration, "quanyu", "main")) + ";\n"
    assert made == (Path(__file__).parent / "golden" / "0001_cluster.sql").read_text(
        encoding="utf-8"
    )


def test_on_a_cluster_a_block_and_all_versions_of_an_entity_lie_in_one_shard() -> None:
    statements = tables.script("quanyu", "main")
    targets = {
        s.split("TO `quanyu`.")[1].split()[0] for s in statements if "MATERIALIZED VIEW" in s
    }
    kept = [s for s in statements if "CREATE TABLE" in s and "ENGINE = Distributed" not in s]
    spread = [s for s in statements if "ENGINE = Distributed" in s]
    assert len(kept) == len(spread) == len(tables.columns(tables.load_migrations()))
    for statement in kept:
        assert re.search(
            r"ENGINE = Replicated\w*MergeTree\('/clickhouse/tables/\{shard\}/", statement
        )
        assert "replicated_deduplication_window = 10000" in statement
        assert f"replicated_deduplication_window_seconds = {7 * 86_400}" in statement
    for statement in spread:
        local = re.search(r"'quanyu', '(\w+)'", statement)
        assert local
        # By the Kafka partition, where a token and an entity's versions stay together; what only a view fills
        # is filled on the shard of its facts and takes no rows through here.
        by_partition = statement.endswith(", cityHash64(_topic, _partition))")
        assert by_partition != (f"`{local[1]}`" in targets), statement


def test_a_gap_in_the_numbers_is_refused(tmp_path: Path) -> None:
    (tmp_path / "0001_a.sql").write_text("SELECT 1;")
    (tmp_path / "0003_b.sql").write_text("SELECT 1;")
    with pytest.raises(QuanyuError, match=r"without gap.*\[1, 3\]"):
        tables.load_migrations(tmp_path)


def test_a_badly_named_file_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "first.sql").write_text("SELECT 1;")
    with pytest.raises(QuanyuError, match=r"first\.sql"):
        tables.load_migrations(tmp_path)


def test_an_unknown_placeholder_is_named() -> None:
    migration = tables.Migration(1, "0001_x", "CREATE TABLE {locl:x} (a Int8);", "")
    with pytest.raises(QuanyuError, match=r"0001_x.*locl"):
        tables.statements(migration, "quanyu", None)


def test_an_added_column_is_part_of_the_declared_columns() -> None:
    first = tables.Migration(
        1,
        "0001_x",
        "CREATE TABLE IF NOT EXISTS {local:t} {on_cluster}\n(\n    a Int8 CODEC(T64)\n)",
        "",
    )
    second = tables.Migration(
        2,
        "0002_y",
        "ALTER TABLE {local:t} {on_cluster} "
        "ADD COLUMN IF NOT EXISTS b DateTime64(3, 'UTC') AFTER a;",
        "",
    )
    assert tables.columns([first, second]) == {"t": {"a": "Int8", "b": "DateTime64(3, 'UTC')"}}
