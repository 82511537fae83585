"""Retention as data: every table has one, and no number outlives the rows behind it."""

from pathlib import Path

import pytest
import yaml

from schemas import tables
from schemas.errors import QuanyuError
from schemas.retention import RETENTION_FILE, load_retention, statements

FED = {
    "outcome_counts": "report_outcomes",
    "link_counts": "event_links",
    "transition_counts": "order_transitions",
    "orders_in_hand": "order_transitions",
    "matters": "order_transitions",
    "order_scores": "order_transitions",
}


def test_a_counter_keeps_as_long_as_the_facts_that_feed_it() -> None:
    kept = load_retention().tables
    views = [s for s in tables.script("quanyu", None) if "MATERIALIZED VIEW" in s]
    assert {view.split("TO `quanyu`.`")[1].split("`")[0] for view in views} == set(FED)
    for counter, facts in FED.items():
        assert kept[counter].keep_months == kept[facts].keep_months


def test_the_instant_is_the_one_that_cuts_the_tables_months() -> None:
    created = {
        s.split("`.`")[1].split("`")[0]: s
        for s in tables.script("quanyu", None)
        if "CREATE TABLE" in s
    }
    for table, kept in load_retention().tables.items():
        assert f"PARTITION BY toYYYYMM({kept.instant})" in created[table]


def test_on_a_cluster_older_months_move_before_they_go() -> None:
    setting, ttl = statements("reports", "quanyu", "main", tiered=True)
    assert setting.endswith("ttl_only_drop_parts = 1, storage_policy = 'tiered'")
    assert ttl == (
        "ALTER TABLE `quanyu`.`reports_local` ON CLUSTER 'main' MODIFY TTL "
        "toDateTime(received_at) + toIntervalMonth(36), "
        "toDateTime(received_at) + toIntervalMonth(3) TO VOLUME 'cold'"
    )
    assert "VOLUME" not in "".join(statements("reports", "quanyu", None, tiered=False))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"reports": None}, r"tables\.reports: a table stands here and in the migrations"),
        ({"mood": {"instant": "at", "keep_months": 36}}, r"tables\.mood: a table stands"),
        ({"events": {"instant": "at", "keep_months": 36}}, r"tables\.events\.instant: at is no"),
        ({"events": {"instant": "opened_at", "keep_months": 1}}, r"tables\.events\.keep_months: "),
    ],
)
def test_a_mistake_is_named_by_table_and_field(
    tmp_path: Path, change: dict[str, dict[str, object] | None], said: str
) -> None:
    document = yaml.safe_load(RETENTION_FILE.read_text(encoding="utf-8"))
    document["tables"].update(change)
    document["tables"] = {k: v for k, v in document["tables"].items() if v is not None}
    path = tmp_path / "retention.yaml"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    with pytest.raises(QuanyuError, match=said):
        load_retention(path)
