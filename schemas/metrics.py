"""Every metric of quanyu: one typed registry; alert rules and dashboards may use only these names.

Units are Prometheus base units: seconds, bytes; counters end in ``_total``. A new metric is one
entry here; a test holds rules and dashboards against :data:`REGISTRY`, and ``quanyu metrics`` writes the
page for people, deploy/prometheus/METRICS.md.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from schemas.settings import Settings

Kind = Literal["counter", "gauge", "histogram"]

#: Seconds; the freshness level is 60 s and the aim 1 s, so the buckets are dense around both.
LATENCY_BUCKETS = (
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.0,
    5.0,
    10.0,
    30.0,
    60.0,
    120.0,
    300.0,
    900.0,
    3600.0,
)
#: Seconds; one batch's work, one transaction, one insert.
STEP_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
#: Records in a batch or rows in a block.
SIZE_BUCKETS = (1.0, 10.0, 50.0, 100.0, 500.0, 1000.0, 2000.0, 5000.0, 10000.0, 50000.0)


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric's definition: exposed name, kind, labels, unit and meaning."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = STEP_BUCKETS

    @property
    def unit(self) -> str:
        """What one of it is, by its name's ending, as Prometheus has it."""
        if self.name.endswith("_timestamp_seconds") or self.name == "process_start_time_seconds":
            return "Unix time, s"
        units = {"_seconds": "s", "_bytes": "bytes", "_records": "records", "_offset": "offset"}
        named = self.name.removesuffix("_total")
        unit = next((unit for ending, unit in units.items() if named.endswith(ending)), "")
        return unit or ("events" if self.kind == "counter" else "number")


REGISTRY: dict[str, Metric] = {}
COLLECTORS = CollectorRegistry(auto_describe=True)


def _register(metric: Metric) -> Metric:
    if metric.name in REGISTRY:
        raise ValueError(f"metric {metric.name} is defined twice")
    REGISTRY[metric.name] = metric
    return metric


def counter(name: str, help: str, *labels: str) -> Counter:
    """A monotone count; ``name`` ends in ``_total``."""
    metric = _register(Metric(name, "counter", help, labels))
    return Counter(metric.name, metric.help, metric.labels, registry=COLLECTORS)


def gauge(name: str, help: str, *labels: str) -> Gauge:
    """A value that goes up and down."""
    metric = _register(Metric(name, "gauge", help, labels))
    return Gauge(metric.name, metric.help, metric.labels, registry=COLLECTORS)


def histogram(
    name: str, help: str, *labels: str, buckets: tuple[float, ...] = STEP_BUCKETS
) -> Histogram:
    """A distribution; ``name`` ends in its unit (``_seconds``, ``_records``)."""
    metric = _register(Metric(name, "histogram", help, labels, buckets))
    return Histogram(metric.name, metric.help, metric.labels, registry=COLLECTORS, buckets=buckets)


# Intake of the channels (connectors, screen). Rate, errors and duration of a channel are these three.
CHANNEL_REPORTS = counter(
    "quanyu_channel_reports_total", "Raw reports confirmed by the broker.", "channel", "transport"
)
CHANNEL_REFUSED = counter(
    "quanyu_channel_refused_total",
    "Requests or rows refused before Kafka, by reason; ``empty`` are the monitor's heartbeats too.",
    "channel",
    "transport",
    "reason",
)
PUBLISH_SECONDS = histogram(
    "quanyu_publish_seconds", "From hand-over to the broker's confirmation of a batch.", "channel"
)

CONNECTOR_UP = gauge(
    "quanyu_connector_up",
    "1 while the connector reaches its source, 0 while it waits to try again.",
    "channel",
    "transport",
)
CONNECTOR_READ_AT = gauge(
    "quanyu_connector_read_timestamp_seconds",
    "Unix time of the last successful look at the source, whether anything was there or not.",
    "channel",
    "transport",
)
CONNECTOR_ERRORS = counter(
    "quanyu_connector_errors_total",
    "Failures of a connector, each followed by another attempt.",
    "channel",
    "transport",
    "reason",
)

# Webhooks to the units' systems (connectors); unit is an entry of webhooks.json
WEBHOOK_DELIVERIES = counter(
    "quanyu_webhook_deliveries_total",
    "Steps sent to a unit's system by result: delivered, failed (sent again later) or dead.",
    "unit",
    "result",
)
WEBHOOK_WAITING = gauge("quanyu_webhook_waiting", "Steps that wait for a unit's system.", "unit")
WEBHOOK_OLDEST = gauge(
    "quanyu_webhook_oldest_seconds",
    "Age of the oldest step that waits for a unit's system; 0 when none does.",
    "unit",
)
WEBHOOK_FAILING_SINCE = gauge(
    "quanyu_webhook_failing_timestamp_seconds",
    "Unix time since when a unit's system has taken nothing; 0 while it takes what it is sent.",
    "unit",
)
WEBHOOK_STATUS = gauge(
    "quanyu_webhook_status",
    "HTTP status of the last answer of a unit's system; 0 when there was none.",
    "unit",
)

# Streams (Faust worker). Rate, errors and duration of a stage: its records, its dead letters, its steps.
STREAM_RECORDS = counter("quanyu_stream_records_total", "Records decided.", "agent", "topic")
STREAM_BATCHES = counter("quanyu_stream_batches_total", "Batches committed.", "agent", "topic")
STREAM_BATCH_RECORDS = histogram(
    "quanyu_stream_batch_records", "Records in a committed batch.", "agent", buckets=SIZE_BUCKETS
)
STREAM_STEP_SECONDS = histogram(
    "quanyu_stream_step_seconds",
    "Time of one batch in one step: decide, produce, commit or restore.",
    "agent",
    "step",
)
STREAM_OUTCOMES = counter(
    "quanyu_outcomes_total", "Raw reports by outcome and reason.", "channel", "outcome", "reason"
)
STREAM_DLQ = counter(
    "quanyu_dlq_records_total", "Records sent to a dead-letter topic.", "topic", "reason"
)
STREAM_STATE_ENTRIES = gauge(
    "quanyu_stream_state_entries",
    "Entries held in an agent's state.",
    "agent",
    "topic",
    "partition",
)
STREAM_POSITION = gauge(
    "quanyu_stream_position", "Next offset an agent will decide.", "agent", "topic", "partition"
)
STREAM_COMMITTED_AT = gauge(
    "quanyu_stream_committed_timestamp_seconds",
    "Unix time of the last committed batch of a partition.",
    "agent",
    "topic",
    "partition",
)
STREAM_FENCED = counter(
    "quanyu_stream_fenced_total", "Batches given up because a newer owner took over.", "agent"
)
STREAM_ASSIGNED = gauge(
    "quanyu_stream_assigned_partitions", "Partitions assigned to this worker.", "agent"
)
PACK_INFO = gauge(
    "quanyu_pack_info",
    "Always 1; the pack that is decided by: its city, and twelve digits that differ where its contents do.",
    "city",
    "version",
)
PACK_REFUSED = gauge(
    "quanyu_pack_refused",
    "1 while the pack's files say something that was not taken up, so that an older version decides.",
)
STREAM_REBALANCES = counter(
    "quanyu_stream_rebalances_total", "Assignments of partitions that an agent was given.", "agent"
)

# Sink (Kafka to ClickHouse)
SINK_ROWS = counter("quanyu_sink_rows_total", "Rows confirmed by ClickHouse.", "table")
SINK_BLOCKS = counter("quanyu_sink_blocks_total", "Blocks confirmed by ClickHouse.", "table")
SINK_BLOCK_RECORDS = histogram(
    "quanyu_sink_block_records", "Rows in a confirmed block.", "table", buckets=SIZE_BUCKETS
)
SINK_REBALANCES = counter(
    "quanyu_sink_rebalances_total", "Assignments of partitions that the sink was given."
)
SINK_INSERT_SECONDS = histogram(
    "quanyu_sink_insert_seconds", "One insert, accepted or refused.", "table"
)
SINK_RETRIES = counter(
    "quanyu_sink_retries_total", "Inserts repeated, by error code.", "table", "code"
)
SINK_DLQ = counter(
    "quanyu_sink_dlq_records_total", "Records that no table accepted.", "topic", "reason"
)
SINK_POSITION = gauge(
    "quanyu_sink_position", "Next offset the sink will insert.", "topic", "partition"
)
SINK_COMMITTED_AT = gauge(
    "quanyu_sink_committed_timestamp_seconds",
    "Unix time of the last confirmed block of a partition.",
    "topic",
    "partition",
)
VISIBLE_SECONDS = histogram(
    "quanyu_report_visible_seconds",
    "From a report's receipt at its channel to its outcome being visible in ClickHouse.",
    "channel",
    buckets=LATENCY_BUCKETS,
)
DISPATCH_SECONDS = histogram(
    "quanyu_order_visible_seconds",
    "From the receipt of a matter's first report to its first order being visible in ClickHouse.",
    buckets=LATENCY_BUCKETS,
)

# Monitor (lag and audit)
LAG_RECORDS = gauge(
    "quanyu_lag_records", "Records not yet processed.", "group", "topic", "partition"
)
LAG_SECONDS = gauge(
    "quanyu_lag_seconds",
    "Age of the oldest record not yet processed.",
    "group",
    "topic",
    "partition",
)
TOPIC_END = gauge("quanyu_topic_end_offset", "End offset (read committed).", "topic", "partition")
AUDIT_OFFENDERS = gauge("quanyu_audit_offenders", "Offenders of the last audit, by check.", "check")
AUDIT_AT = gauge("quanyu_audit_timestamp_seconds", "Unix time of the last finished audit.")
AUDIT_SECONDS = histogram("quanyu_audit_seconds", "One audit run.")

DLQ_OPEN = gauge(
    "quanyu_dlq_open",
    "Dead letters that nobody has replayed or dropped; topic is the dead-letter topic.",
    "topic",
)
DLQ_OLDEST = gauge(
    "quanyu_dlq_oldest_seconds", "Age of the oldest of them; 0 when there is none.", "topic"
)

# Monitor (silence of the channels; deploy/silence.py decides)
CHANNEL_LAST_REPORT_AT = gauge(
    "quanyu_channel_last_report_timestamp_seconds",
    "Unix time of the newest record of a channel's raw topic; absent for a channel never heard.",
    "channel",
)
CHANNEL_USUAL_GAP = gauge(
    "quanyu_channel_usual_gap_seconds",
    "Pause between reports that is usual for a channel now: configured, learned, or a default.",
    "channel",
)
CHANNEL_LEARNING = gauge(
    "quanyu_channel_learning",
    "1 while a channel has too few days behind it for a usual gap of its own.",
    "channel",
)
CHANNEL_SILENT = gauge(
    "quanyu_channel_silent",
    "1 while a channel has not been heard for three times its usual gap.",
    "channel",
)

# Monitor (what the parts stand on; deploy/vitals.py). What cannot be asked vanishes rather than stands still.
HEARTBEAT_AT = gauge(
    "quanyu_heartbeat_timestamp_seconds",
    "Unix time when a channel's way in last answered the monitor as it should; step push: an empty batch with "
    "the channel's key is read and refused as empty; step topic: every partition takes records; steps mqtt and "
    "file: its connector has read what the monitor left there.",
    "channel",
    "step",
)
BROKERS = gauge("quanyu_broker_nodes", "Brokers that the cluster says are there.")
BROKER_UNDER_REPLICATED = gauge(
    "quanyu_broker_under_replicated_partitions",
    "Partitions with fewer replicas in sync than assigned.",
)
BROKER_OFFLINE = gauge(
    "quanyu_broker_offline_partitions",
    "Partitions without a leader: nothing is written or read there.",
)
REGISTRY_UP = gauge(
    "quanyu_registry_up",
    "1 when the schema registry answers; absent when none is configured.",
    "server",
)
CLOCK_SKEW = gauge(
    "quanyu_clock_skew_seconds",
    "A server's clock minus the monitor's; true to half of the answer's time.",
    "server",
)
CERTIFICATE_END = gauge(
    "quanyu_certificate_end_timestamp_seconds",
    "Unix time when the first certificate of a configured TLS file ends.",
    "setting",
)
DISK_FREE = gauge(
    "quanyu_disk_free_bytes", "Free space of a disk: home, or one of ClickHouse's.", "disk"
)
DISK_SIZE = gauge("quanyu_disk_size_bytes", "Whole size of the disk.", "disk")
TABLE_PARTS = gauge(
    "quanyu_table_parts", "Active parts in the fullest partition of a table.", "table"
)
TABLE_PARTS_LIMIT = gauge(
    "quanyu_table_parts_limit", "Parts in one partition from which ClickHouse slows inserts down."
)
REVIEWS_OPEN = gauge(
    "quanyu_reviews_open", "Reports of the last thirty days that wait for a person's review."
)

# Every process
PART_UP = gauge("quanyu_part_up", "1 when the part answered its readiness check.", "part")
PART_RESTARTS = gauge(
    "quanyu_part_restarts",
    "Restarts of an embedded part since the stack started; absent where no stack is embedded.",
    "part",
)
BUILD_INFO = gauge("quanyu_build_info", "Always 1; version and city as labels.", "version", "city")
CONFIG_INFO = gauge(
    "quanyu_config_info",
    "Always 1; the environment, and a digest of all settings but secrets: parts with different digests are "
    "configured differently.",
    "environment",
    "digest",
)
TRACE_SPANS = counter(
    "quanyu_trace_spans_total",
    "Spans that the collector of traces took (exported) or that were lost on the way to it (failed).",
    "result",
)
MEMORY_LIMIT = gauge(
    "quanyu_memory_limit_bytes",
    "Memory that the process may have: its container's limit, else the machine's.",
)
HTTP_REQUESTS = counter(
    "quanyu_http_requests_total", "HTTP requests answered.", "route", "method", "status"
)
HTTP_SECONDS = histogram("quanyu_http_seconds", "HTTP request duration.", "route", "method")

# Of the client library, read at each scrape (Linux): its names, our words.
for _metric in (
    Metric("process_cpu_seconds_total", "counter", "CPU time of the process."),
    Metric("process_resident_memory_bytes", "gauge", "Memory that the process holds."),
    Metric("process_virtual_memory_bytes", "gauge", "Address space of the process."),
    Metric("process_start_time_seconds", "gauge", "When the process started."),
    Metric("process_open_fds", "gauge", "Open files and connections of the process."),
    Metric("process_max_fds", "gauge", "How many it may have open."),
):
    _register(_metric)
ProcessCollector(registry=COLLECTORS)

#: Where a container's memory limit stands (cgroup 2); ``max`` is none.
CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")
VERSION = "0.1.0"


def describe_process(settings: Settings) -> None:
    """Say what this process is: build, configuration, memory that it may have."""
    BUILD_INFO.labels(VERSION, Path(settings.city).name).set(1)
    CONFIG_INFO.labels(settings.environment, config_digest(settings)).set(1)
    try:
        limit = int(CGROUP_LIMIT.read_text(encoding="ascii"))
    except (OSError, ValueError):
        limit = int(psutil.virtual_memory().total)
    MEMORY_LIMIT.set(limit)


def config_digest(settings: Settings) -> str:
    """Twelve digits that differ where settings differ; secrets do not go in."""
    # A secret is dumped as stars; how loud a process logs changes nothing that it does.
    plain = settings.model_dump(mode="json", exclude={"log_level"})
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:12]


def page() -> str:
    """deploy/prometheus/METRICS.md: every metric with type, labels, unit and meaning."""
    rows = [
        f"| `{m.name}` | {m.kind} | {', '.join(f'`{label}`' for label in m.labels)} | {m.unit} | "
        f"{m.help.replace('``', '`')} |"
        for m in sorted(REGISTRY.values(), key=lambda metric: metric.name)
    ]
    head = [
        "# Metrics",
        "",
        "Written by `quanyu metrics --write` from `schemas/metrics.py`; do not edit. Every part serves "
        "its own at `/metrics`; the scrape adds `job`, `instance` and `process`. A histogram has "
        "`_bucket`, `_count` and `_sum`.",
        "",
        "| name | type | labels | unit | meaning |",
        "| --- | --- | --- | --- | --- |",
    ]
    return "\n".join([*head, *rows]) + "\n"
