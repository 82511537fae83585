"""The doctor beside a real broker and a real engine: what it finds is so, and its commands mend it."""

import json
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from deploy.flows import STREAMS_GROUP
from deploy.positions import Positions
from schemas import tables, topics
from schemas.kafka import admin_config, consumer_config, producer_config
from schemas.settings import Settings
from tests.conftest import Stack, eventually

pytestmark = pytest.mark.integration

RAW = "reports.raw.photo_app"


@pytest.fixture
def city(stack: Stack, tmp_path: Path, clickhouse: Client) -> Iterator[Settings]:
    """Servers of one's own, with all topics and a database of this test's."""
    database = f"doctor_{uuid.uuid4().hex[:8]}"
    settings = Settings(
        home=tmp_path,
        kafka=stack.settings.bootstrap,
        clickhouse=stack.settings.clickhouse_url,
        clickhouse_database=database,
    )
    topics.apply(settings)
    tables.apply(settings)
    yield settings
    clickhouse.command(f"DROP DATABASE {database}")


def doctor(settings: Settings) -> tuple[int, list[dict[str, Any]]]:
    """Exit code and findings of the command, run as a user does."""
    env = {
        **os.environ,
        "QUANYU_HOME": str(settings.home),
        "QUANYU_KAFKA": settings.bootstrap,
        "QUANYU_CLICKHOUSE": settings.clickhouse_url,
        "QUANYU_CLICKHOUSE_DATABASE": settings.clickhouse_database,
        "QUANYU_HASH_KEY": "a key that is long enough",
    }
    done = subprocess.run(
        [sys.executable, "-m", "deploy.cli", "doctor", "--json"],
        env=env, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout.splitlines()[-1])["findings"]


def errors(findings: list[dict[str, Any]], area: str) -> list[dict[str, Any]]:
    """What is wrong in an area."""
    return [f for f in findings if f["area"] == area and f["severity"] in ("error", "unknown")]


def test_drifted_tables_are_mended_by_the_commands_that_it_names(
    city: Settings, clickhouse: Client
) -> None:
    if shutil.which("curl") is None:
        pytest.skip("the commands use curl, which is not installed")
    _, before = doctor(city)
    assert errors(before, "tables") == errors(before, "clickhouse") == errors(before, "kafka") == []
    assert errors(before, "clocks") == errors(before, "topics") == errors(before, "schemas") == []
    name = f"{city.clickhouse_database}.reports"
    clickhouse.command(f"ALTER TABLE {name} DROP COLUMN sensitive")
    clickhouse.command(f"ALTER TABLE {name} RESET SETTING non_replicated_deduplication_window")
    code, findings = doctor(city)
    found = errors(findings, "tables")
    assert code == 1
    assert len(found) == 2, found
    for finding in found:
        done = subprocess.run(["bash", "-c", finding["mend"]], capture_output=True, text=True)
        assert (done.returncode, done.stdout) == (0, ""), finding
    assert errors(doctor(city)[1], "tables") == []


def test_what_retention_deleted_under_a_stopped_worker_is_an_error(city: Settings) -> None:
    producer = Producer(producer_config(city))
    for _ in range(6):
        producer.produce(RAW, b"x", partition=0)
    assert producer.flush(30) == 0
    with Positions(city) as positions:
        end = positions.ends([(RAW, 0)])[RAW, 0]
    group = Consumer(consumer_config(city, STREAMS_GROUP))
    group.commit(offsets=[TopicPartition(RAW, 0, end - 5)], asynchronous=False)
    group.close()
    assert errors(doctor(city)[1], "offsets") == []
    admin = AdminClient(admin_config(city))
    deleted = admin.delete_records([TopicPartition(RAW, 0, end - 1)])
    for future in deleted.values():
        future.result(30)
    try:
        code, findings = doctor(city)
        (found,) = errors(findings, "offsets")
        assert code == 1
        assert "up to 4 records were deleted unread" in found["what"]
        assert "--channel photo_app" in found["mend"]
    finally:
        group = Consumer(consumer_config(city, STREAMS_GROUP))
        group.commit(offsets=[TopicPartition(RAW, 0, end)], asynchronous=False)
        group.close()
        for future in admin.delete_records([TopicPartition(RAW, 0, end)]).values():
            future.result(30)


def test_a_topic_that_is_missing_is_an_error_and_apply_brings_it_back(city: Settings) -> None:
    admin = AdminClient(admin_config(city))
    for future in admin.delete_topics(["webhooks.dlq"]).values():
        future.result(30)
    try:
        found = eventually(lambda: errors(doctor(city)[1], "topics"))
        assert [f["mend"] for f in found] == ["quanyu topics apply"]
        assert found[0]["what"].startswith("webhooks.dlq: missing")
    finally:
        topics.apply(city)
    assert errors(doctor(city)[1], "topics") == []
