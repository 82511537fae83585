"""Topics as code against the real broker: what is missing is made, what differs is said, state is kept."""

from pathlib import Path

import pytest
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from schemas import topics
from schemas.errors import QuanyuError
from schemas.kafka import admin_config
from schemas.settings import Settings
from tests.conftest import Fresh, eventually

pytestmark = pytest.mark.integration

DOCUMENT = """
environments:
  local: {{replication: 1, min_insync: 1}}
channels:
  name: {prefix}.raw.{{channel}}
  partitions: {{local: 1}}
  retention_days: 30
  agents: [intake]
  dlq: true
topics:
  {prefix}.reports:
    {{partitions: {{local: {stateful}}}, retention_days: 30, agents: [merge], dlq: true, table: reports}}
  {prefix}.events: {{partitions: {{local: {stateless}}}, retention_days: 30}}
"""


@pytest.fixture
def write(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fresh: Fresh):  # type: ignore[no-untyped-def]
    """Puts a topics.yaml with names of this test's own in the place of the real one."""
    path = tmp_path / "topics.yaml"
    monkeypatch.setattr(topics, "TOPICS_FILE", path)

    def write(stateful: int = 2, stateless: int = 2) -> None:
        path.write_text(
            DOCUMENT.format(prefix=fresh.name("t"), stateful=stateful, stateless=stateless),
            encoding="utf-8",
        )

    write()
    return write


def test_what_is_missing_is_named_then_made_then_nothing_is_left_to_do(
    settings: Settings, fresh: Fresh, write: object
) -> None:
    missing = topics.diff(settings)
    assert any(line.startswith(f"{fresh.name('t')}.reports: missing") for line in missing)
    assert any(".reports.merge.state" in line for line in missing)
    assert any(".reports.dlq" in line for line in missing)
    assert len(topics.apply(settings)) == len(missing)
    eventually(lambda: topics.diff(settings) == [])
    assert topics.apply(settings) == []


def test_a_state_topic_is_compacted_and_keeps_what_time_would_delete(
    settings: Settings, fresh: Fresh, write: object
) -> None:
    topics.apply(settings)
    name = f"{fresh.name('t')}.reports.merge.state"
    resource = ConfigResource(ResourceType.TOPIC, name)
    admin = AdminClient(admin_config(settings))
    config = admin.describe_configs([resource])[resource].result(30)
    assert config["cleanup.policy"].value == "compact"


def test_a_configuration_changed_by_hand_is_said_and_mended(
    settings: Settings, fresh: Fresh, write: object
) -> None:
    topics.apply(settings)
    name = f"{fresh.name('t')}.events"
    change = ConfigEntry("retention.ms", "1000", incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, name, incremental_configs=[change])
    admin = AdminClient(admin_config(settings))
    admin.incremental_alter_configs([resource])[resource].result(30)
    # The controller has it; the broker that is asked learns it a moment later.
    said = [f"{name}: retention.ms is 1000, should be {30 * topics.DAY_MS}"]
    eventually(lambda: topics.diff(settings) == said)
    topics.apply(settings)
    eventually(lambda: topics.diff(settings) == [])


def test_partitions_grow_only_where_no_state_lives(settings: Settings, fresh: Fresh, write) -> None:  # type: ignore[no-untyped-def]
    topics.apply(settings)
    write(stateless=3)
    assert topics.apply(settings) == [f"raised the partitions of {fresh.name('t')}.events"]
    write(stateful=3, stateless=3)
    with pytest.raises(QuanyuError, match="it has state by partition"):
        topics.apply(settings)
    write(stateless=1)
    with pytest.raises(QuanyuError, match="cannot take partitions away"):
        topics.apply(settings)


def test_a_topic_of_a_channel_that_is_gone_is_said_and_left_alone(
    settings: Settings, fresh: Fresh, write: object
) -> None:
    topics.apply(settings)
    stray = f"{fresh.name('t')}.raw.closed_channel"
    fresh.create_topic(stray, 1)
    assert [line.partition(":")[0] for line in topics.diff(settings)] == [stray]
    assert topics.apply(settings) == []
    assert stray in AdminClient(admin_config(settings)).list_topics(timeout=30).topics


def test_a_broker_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topics, "ADMIN_TIMEOUT_S", 1.0)
    with pytest.raises(QuanyuError, match=r"127\.0\.0\.1:9 does not answer"):
        topics.diff(Settings(kafka="127.0.0.1:9"))
