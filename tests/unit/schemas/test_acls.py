"""Least rights in Kafka: every flow has its reader and writer, and nobody has more."""

import pytest
import yaml
from typer.testing import CliRunner

from connectors import webhooks
from connectors.sink.runner import GROUP as SINK_GROUP
from deploy.cli import create_app
from deploy.vitals import GROUP as MONITOR_GROUP
from schemas.acls import PARTS, Acl, as_commands, as_strimzi, load_acls
from schemas.settings import Settings
from schemas.topics import load_retention, load_topics
from streams.app import APP_ID


@pytest.fixture(scope="module")
def acls() -> list[Acl]:
    return load_acls()


def may(acls: list[Acl], part: str, kind: str, name: str, operation: str) -> bool:
    return any(
        acl.part == part
        and acl.kind == kind
        and operation in acl.operations
        and (name.startswith(acl.name) if acl.prefixed else name == acl.name)
        for acl in acls
    )


def test_every_topic_is_written_and_only_by_whom_it_is_for(acls: list[Acl]) -> None:
    for spec in load_topics(Settings()):
        writers = {p for p in PARTS if may(acls, p, "topic", spec.name, "Write")} - {"admin"}
        assert writers, spec.name
        if spec.name.endswith(".state"):
            assert writers == {"worker"}
        if spec.name in ("reports", "events", "orders", "report.outcomes", "event.links"):
            assert writers == {"worker"}
        assert "monitor" not in writers
        if not spec.name.endswith(".dlq"):
            assert "sink" not in writers


def test_whoever_reports_it_is_raw_topics_are_read_by_three_parts_alone(acls: list[Acl]) -> None:
    for spec in load_topics(Settings()):
        if spec.name.startswith("reports.raw.") and not spec.name.endswith((".dlq", ".state")):
            readers = {p for p in PARTS if may(acls, p, "topic", spec.name, "Read")}
            assert readers == {"worker", "gateway", "monitor", "admin"}


def test_each_part_has_its_own_group_and_transactions(acls: list[Acl]) -> None:
    for part, group in (
        ("worker", APP_ID), ("worker", f"{APP_ID}-merge-log"), ("worker", "state-reports-0"),
        ("sink", SINK_GROUP), ("webhooks", webhooks.GROUP), ("connectors", webhooks.GROUP),
        ("monitor", MONITOR_GROUP), ("monitor", "quanyu-audit"),
    ):  # fmt: skip
        assert may(acls, part, "group", group, "Read"), (part, group)
    assert not may(acls, "gateway", "group", SINK_GROUP, "Read")
    assert may(acls, "worker", "transactionalId", f"{APP_ID}.merge.reports.0", "Write")
    assert may(acls, "admin", "transactionalId", "quanyu-dlq", "Write")
    assert not any(acl.kind == "transactionalId" and acl.part == "sink" for acl in acls)


def test_nobody_may_delete_and_none_but_the_operator_may_create(acls: list[Acl]) -> None:
    for acl in acls:
        assert not {"All", "Delete", "ClusterAction", "AlterCluster"} & set(acl.operations)
        if acl.part != "admin":
            assert set(acl.operations) <= {"Read", "Write", "Describe"}


def test_it_is_printed_for_the_brokers_own_tool_and_for_strimzi(acls: list[Acl]) -> None:
    commands = as_commands(acls).splitlines()
    assert len(commands) == len(acls)
    assert all(
        c.startswith("kafka-acls.sh ") and "--allow-principal User:quanyu-" in c for c in commands
    )
    users = list(yaml.safe_load_all(as_strimzi(acls, "city")))
    assert {u["metadata"]["name"] for u in users} == {f"quanyu-{part}" for part in PARTS}
    assert {u["metadata"]["labels"]["strimzi.io/cluster"] for u in users} == {"city"}
    assert sum(len(u["spec"]["authorization"]["acls"]) for u in users) == len(acls)
    for argv in (
        ["topics", "acls"],
        ["topics", "acls", "--format", "strimzi"],
        ["topics", "retention"],
    ):
        assert CliRunner().invoke(create_app(), argv, catch_exceptions=False).exit_code == 0


def test_what_holds_persons_ages_out_and_its_dead_letters_say_so_too() -> None:
    found = {one.topic: one for one in load_retention()}
    raws = [one for name, one in found.items() if name.startswith("reports.raw.")]
    assert raws
    assert all(one.personal == "raw" and 0 < one.days <= 90 for one in raws)
    for name in ("reports", "events", "event.actions", "review.answers"):
        assert found[name].personal
        assert found[f"{name}.dlq"].personal == found[name].personal
    assert found["reports"].table_personal_days is not None
    # A log's last segment is closed within a day, or nothing of it would ever be deleted.
    for spec in load_topics(Settings()):
        if spec.config["cleanup.policy"] == "delete":
            assert spec.config["segment.ms"] == str(24 * 3600 * 1000)
