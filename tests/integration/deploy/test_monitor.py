"""The monitor tells the truth about a living pipeline, and about a dead broker."""

import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from confluent_kafka import Producer
from prometheus_client.parser import text_string_to_metric_families

from deploy.audit import audit
from deploy.checks import CHECKS
from deploy.flows import topology
from deploy.monitor import learn, read_channels
from deploy.positions import Positions
from deploy.silence import SILENT_GAPS, ChannelState
from schemas import tables, topics
from schemas.channels import channel_names, load_channels
from schemas.codec import default_codec
from schemas.errors import QuanyuError
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
        heard = samples(pipeline, "quanyu_channel_last_report_timestamp_seconds")
        assert abs(heard[CHANNEL,] - time.time()) < 60
        silent = samples(pipeline, "quanyu_channel_silent")
        assert (set(silent), silent[CHANNEL,]) == ({(name,) for name in channel_names()}, 0)
        up = samples(pipeline, "quanyu_part_up")
        assert {p for (p,), value in up.items() if value} >= {"kafka", "clickhouse", "worker"}
        assert up["screen",] == 0
        eventually(lambda: samples(pipeline, "quanyu_audit_timestamp_seconds").get(()), 60)
        offenders = samples(pipeline, "quanyu_audit_offenders")
        assert offenders == {(name,): 0.0 for name in CHECKS}
        monitor.terminate()
        assert monitor.wait(20) == 0


def test_a_channel_of_a_real_broker_falls_silent_by_its_newest_record_and_by_nothing_else(
    pipeline: Settings,
) -> None:
    spec = load_channels()[CHANNEL]
    assert spec.usual_gap_s is not None
    producer = Producer(producer_config(pipeline))
    newest = round(time.time() * 1000)
    # The last to be written need not be the newest: a message that was delivered again, say.
    for age in (7200, 0, 3600):
        producer.produce(raw_topic(CHANNEL), b"x", key=b"k", timestamp=newest - age * 1000)
    producer.flush()
    limit = round(1000 * SILENT_GAPS * spec.usual_gap_s)
    with Positions(pipeline) as positions:
        flows = topology(pipeline, positions)

        def state(now_ms: int, before: dict[str, ChannelState] | None = None) -> ChannelState:
            return read_channels(positions, flows, {}, before or {}, now_ms)[CHANNEL]

        assert state(newest + limit) == ChannelState(newest, spec.usual_gap_s, "configured", False)
        late = state(newest + limit + 1)
        assert late.silent
        # A sender's clock ahead of ours has no silence in advance.
        assert state(newest - 60_000).last_ms == newest - 60_000
        send_reports(pipeline, 1)
        again = state(round(time.time() * 1000) + 1000, {CHANNEL: late})
        assert not again.silent
        assert (again.last_ms or 0) >= newest


def test_usual_gaps_are_learned_from_the_counters_and_kept_while_clickhouse_is_away(
    settings: Settings,
) -> None:
    own = settings.model_copy(update={"clickhouse_database": "test_learned"})
    tables.apply(own)
    now = datetime(2026, 3, 17, 2, 30, tzinfo=UTC)
    with tables.connect(own) as client:
        client.insert(
            "report_outcomes",
            [
                [f"{day}-{minute}", "iot", "accepted", now - timedelta(days=day, minutes=minute)]
                for day in range(1, 8)
                for minute in range(-60, 61, 5)
            ],
            column_names=["report_id", "channel", "outcome", "received_at"],
            database=own.clickhouse_database,
        )
        now_ms = round(now.timestamp() * 1000)
        assert learn(own, now_ms) == {"iot": 300}
        away = own.model_copy(update={"clickhouse_url": "http://127.0.0.1:1"})
        with pytest.raises(QuanyuError, match="ClickHouse does not answer"):
            learn(away, now_ms)
        client.command(f"DROP DATABASE {own.clickhouse_database}")


def test_monitor_lives_on_without_a_broker_and_says_so(settings: Settings, tmp_path: Path) -> None:
    alone = settings.model_copy(update={"kafka": "127.0.0.1:1", "bootstrap": "127.0.0.1:1"})
    with part("deploy.monitor", alone, tmp_path / "log") as monitor:
        eventually(lambda: ("kafka",) in samples(alone, "quanyu_part_up"), 60)
        assert samples(alone, "quanyu_part_up")["kafka",] == 0
        assert samples(alone, "quanyu_part_up")["clickhouse",] == 1
        assert samples(alone, "quanyu_lag_records") == {}
        assert samples(alone, "quanyu_channel_silent") == {}
        assert monitor.poll() is None
