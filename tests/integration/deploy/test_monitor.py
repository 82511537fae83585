"""The monitor tells the truth about a living pipeline, and about a dead broker."""

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest
from confluent_kafka import Producer
from prometheus_client.parser import text_string_to_metric_families

from deploy.audit import audit
from deploy.checks import CHECKS
from schemas import tables, topics
from schemas.codec import default_codec
from schemas.kafka import producer_config
from schemas.settings import Settings
from schemas.topics import raw_topic
from tests.conftest import eventually

pytestmark = pytest.mark.integration

AT = 1_767_225_600_000
CHANNEL = "hotline12345"
REPORTS = 300


@contextmanager
def part(module: str, settings: Settings, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a part of quanyu as a process, and end it with SIGTERM."""
    environment = os.environ | {
        "QUANYU_HOME": str(settings.home),
        "QUANYU_PORT": str(settings.port),
        "QUANYU_KAFKA": settings.bootstrap,
        "QUANYU_CLICKHOUSE": settings.clickhouse_url,
        "QUANYU_CLICKHOUSE_DATABASE": settings.clickhouse_database,
    }
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", module], env=environment, stdout=output, stderr=output
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(20)
        finally:
            process.kill()


def samples(settings: Settings, name: str) -> dict[tuple[str, ...], float]:
    """A metric's values by its labels' values, in order of the labels' names; {} without answer."""
    port = settings.metrics_port("monitor")
    try:
        text = httpx.get(f"http://127.0.0.1:{port}/metrics").text
    except httpx.HTTPError:
        return {}
    return {
        tuple(v for _, v in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name
    }


def send_reports(settings: Settings, number: int) -> None:
    """Raw reports of a hotline: most are new, every tenth is a word-for-word repetition."""
    encode = default_codec(settings).encoder("RawReport")
    producer = Producer(producer_config(settings))
    run = uuid.uuid4().hex[:8]
    for index in range(number):
        native = f"{run}-{index - 1 if index % 10 == 9 else index}"
        record = {
            "channel": CHANNEL,
            "native_id": native,
            "received_at": AT + index * 1000,
            "occurred_at": "2026-01-01 08:00:00",
            "title": "路面塌陷",
            "payload": b"{}",
            "text": f"第{index}号路口路面塌陷,请尽快处理",
            "district": "金水区",
            "street": "经八路街道",
            "address": f"金水区经八路街道{index}号",
        }
        producer.produce(raw_topic(CHANNEL), encode(record), key=native)
    producer.produce(raw_topic(CHANNEL), b"\x07no avro", key=b"poison")
    producer.flush()


@pytest.fixture(scope="module")
def pipeline(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """A worker and a sink on topics and tables of this installation."""
    logs = tmp_path_factory.mktemp("logs")
    topics.apply(settings)
    tables.apply(settings)
    with ExitStack() as parts:
        for module in ("streams.worker", "connectors.sink"):
            parts.enter_context(part(module, settings, logs / f"{module}.log"))
        yield settings


def test_whole_pipeline_is_audited_clean_and_every_report_is_accounted_for(
    pipeline: Settings,
) -> None:
    before = audit(pipeline, timeout=60)
    send_reports(pipeline, REPORTS)
    report = audit(pipeline, timeout=60)
    assert {check.name: check.first for check in report.checks if not check.ok} == {}
    assert report.quiet
    outcomes = {c.channel: c for c in report.channels}[CHANNEL]
    earlier = {c.channel: c for c in before.channels}[CHANNEL]
    assert outcomes.received - earlier.received == REPORTS + 1
    assert outcomes.outcomes["duplicate"] - earlier.outcomes.get("duplicate", 0) == REPORTS // 10
    assert outcomes.outcomes["rejected"] - earlier.outcomes.get("rejected", 0) == 1
    assert sum(outcomes.outcomes.values()) == outcomes.received


def test_monitor_shows_no_lag_parts_up_and_a_clean_audit(
    pipeline: Settings, tmp_path: Path
) -> None:
    with part("deploy.monitor", pipeline, tmp_path / "log") as monitor:
        send_reports(pipeline, 50)

        def caught_up() -> bool:
            lag = samples(pipeline, "quanyu_lag_records")
            groups = {group for group, _, _ in lag}
            return groups == {"quanyu-streams", "quanyu-sink"} and not any(lag.values())

        eventually(caught_up, 60)
        assert samples(pipeline, "quanyu_topic_end_offset")["0", raw_topic(CHANNEL)] > 0
        up = samples(pipeline, "quanyu_part_up")
        assert {p for (p,), value in up.items() if value} >= {"kafka", "clickhouse", "worker"}
        assert up["screen",] == 0
        eventually(lambda: samples(pipeline, "quanyu_audit_timestamp_seconds").get(()), 60)
        offenders = samples(pipeline, "quanyu_audit_offenders")
        assert offenders == {(name,): 0.0 for name in CHECKS}
        monitor.terminate()
        assert monitor.wait(20) == 0


def test_monitor_lives_on_without_a_broker_and_says_so(settings: Settings, tmp_path: Path) -> None:
    alone = settings.model_copy(update={"kafka": "127.0.0.1:1", "bootstrap": "127.0.0.1:1"})
    with part("deploy.monitor", alone, tmp_path / "log") as monitor:
        eventually(lambda: ("kafka",) in samples(alone, "quanyu_part_up"), 60)
        assert samples(alone, "quanyu_part_up")["kafka",] == 0
        assert samples(alone, "quanyu_part_up")["clickhouse",] == 1
        assert samples(alone, "quanyu_lag_records") == {}
        assert monitor.poll() is None
