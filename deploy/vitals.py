"""What the parts stand on, read by the monitor: brokers, registry, clocks, certificates, disks, the ways in.

Only reads, but for one word a round: the monitor's own group commits an offset, whose timestamp is the
broker's clock. A heartbeat is an empty batch that is pushed to each channel with its key: the whole way in
is walked, and nothing is there to be counted. What does not answer loses its gauge.
"""

import math
import shutil
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import httpx
import structlog
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError
from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec
from cryptography import x509
from prometheus_client import Gauge

from connectors import signature
from deploy.local import home as homes
from schemas import metrics, tables
from schemas.access import own_http_tls
from schemas.channels import ChannelSpec, load_channels
from schemas.errors import QuanyuError
from schemas.kafka import admin_config, consumer_config
from schemas.keys import Keys
from schemas.queries import run
from schemas.registry import Registry
from schemas.settings import Settings
from schemas.topics import raw_topic

log = structlog.get_logger("monitor")

#: Seconds between two rounds; an alert needs minutes, a scrape 15 s.
INTERVAL = 15.0
ANSWER_SECONDS = 3.0
GROUP = "quanyu-monitor"
OFFSETS_TOPIC = "__consumer_offsets"
NEWEST = OffsetSpec.max_timestamp()  # type: ignore[no-untyped-call] # the stubs lack it
REVIEW_WINDOW_MS = 30 * 24 * 3600 * 1000
#: Settings that name a PEM file with certificates.
CERTIFICATES = ("ca_file", "certificate_file")
#: What reading raises when the other side is away or says nonsense.
FAILURES = (
    QuanyuError,
    KafkaException,
    ClickHouseError,
    httpx.HTTPError,
    OSError,
    ValueError,
    LookupError,
)
#: An empty array of reports; of it a channel says that it is empty, once the key is found good.
HEARTBEAT = b"[]"


class Vitals:
    """Readings of one installation, for one thread; each sets gauges or raises."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._keys = Keys(settings.keys_path)
        self._http = httpx.Client(
            timeout=ANSWER_SECONDS, trust_env=False, verify=own_http_tls(settings)
        )
        self._admin = AdminClient(admin_config(settings))
        self._member = Consumer({**consumer_config(settings, GROUP), "log_level": 0})
        self._failing: set[str] = set()
        # Who has not answered for long is told from when this began, also while it never answers.
        for name, spec in load_channels().items():
            for step in ("topic", "push") if spec.transports.http else ("topic",):
                metrics.HEARTBEAT_AT.labels(name, step).set_to_current_time()

    def round(self) -> None:
        """Every reading once; one that fails is said once, and its gauges vanish."""
        readings: list[tuple[Callable[[], None], tuple[Gauge, ...]]] = [
            (
                self.brokers,
                (metrics.BROKERS, metrics.BROKER_UNDER_REPLICATED, metrics.BROKER_OFFLINE),
            ),
            (
                self.clickhouse,
                (metrics.TABLE_PARTS, metrics.TABLE_PARTS_LIMIT, metrics.REVIEWS_OPEN),
            ),
            (self.broker_clock, ()),
            (self.pushes, ()),
            (self.registry, ()),
            (self.certificates, (metrics.CERTIFICATE_END,)),
            (self.home, ()),
        ]
        for read, gauges in readings:
            name = read.__name__
            try:
                read()
                self._failing.discard(name)
            except FAILURES as error:
                for gauge in gauges:
                    _unknown(gauge)
                if name not in self._failing:
                    log.warning("not read", what=name, error=str(error).partition("\n")[0][:300])
                self._failing.add(name)

    def close(self) -> None:
        """Give up the connections."""
        self._http.close()
        self._member.close()

    # Kafka --------------------------------------------------------------------------------------

    def brokers(self) -> None:
        """Replicas in sync, leaders, and for each channel whether its raw topic takes records."""
        cluster = self._admin.list_topics(timeout=ANSWER_SECONDS)
        partitions = {
            (name, p.id): p
            for name, topic in cluster.topics.items()
            for p in topic.partitions.values()
        }
        metrics.BROKERS.set(len(cluster.brokers))
        metrics.BROKER_UNDER_REPLICATED.set(
            sum(len(p.isrs) < len(p.replicas) for p in partitions.values())
        )
        metrics.BROKER_OFFLINE.set(sum(p.leader < 0 for p in partitions.values()))
        for channel in load_channels():
            found = [p for (name, _), p in partitions.items() if name == raw_topic(channel)]
            if found and all(p.leader >= 0 for p in found):
                metrics.HEARTBEAT_AT.labels(channel, "topic").set_to_current_time()

    def broker_clock(self) -> None:
        """The broker writes an offset's commit with its own time: the newest of those is its now."""
        try:
            raw = raw_topic(next(iter(load_channels())))
            # Asked first: a commit waits for three quarters of a minute for a broker that is away.
            partitions = self._of_offsets()
            before = time.time()
            self._member.commit(offsets=[TopicPartition(raw, 0, 0)], asynchronous=False)
            after = time.time()
            # The first commit of all makes the topic.
            asked = dict.fromkeys(partitions or self._of_offsets(), NEWEST)
            answers = self._admin.list_offsets(asked, request_timeout=ANSWER_SECONDS)
            newest = max(a.result(ANSWER_SECONDS).timestamp for a in answers.values()) / 1000
        except (KafkaException, TimeoutError):
            _forget(metrics.CLOCK_SKEW, "kafka")
            raise
        # Another group's commit may be newer than ours, by as much as the asking took.
        latest = max(after, min(newest, time.time()))
        metrics.CLOCK_SKEW.labels("kafka").set(_outside(newest, before, latest))

    def _of_offsets(self) -> list[TopicPartition]:
        """The partitions of the topic in which the broker keeps what was committed."""
        found = self._admin.list_topics(OFFSETS_TOPIC, timeout=ANSWER_SECONDS).topics[OFFSETS_TOPIC]
        return [TopicPartition(OFFSETS_TOPIC, number) for number in found.partitions]

    # ClickHouse ---------------------------------------------------------------------------------

    def clickhouse(self) -> None:
        """Parts, disks, the clock, and how many reports wait for a person."""
        try:
            with tables.connect(self._settings) as client:
                client.database = self._settings.clickhouse_database
                self._read_clickhouse(client)
        except (QuanyuError, ClickHouseError, OSError):
            _forget(metrics.CLOCK_SKEW, "clickhouse")
            raise

    def _read_clickhouse(self, client: Client) -> None:
        before = time.time()
        there = _rows(client, "SELECT toUnixTimestamp64Milli(now64(3))")[0][0] / 1000
        metrics.CLOCK_SKEW.labels("clickhouse").set(_outside(there, before, time.time()))
        limit = _rows(
            client,
            "SELECT toUInt64(value) FROM system.merge_tree_settings WHERE name = 'parts_to_delay_insert'",
        )
        metrics.TABLE_PARTS_LIMIT.set(limit[0][0])
        parts = _rows(
            client,
            "SELECT table, max(n) FROM (SELECT table, partition_id, count() AS n FROM system.parts "
            "WHERE active AND database = {d:String} GROUP BY table, partition_id) GROUP BY table",
            d=self._settings.clickhouse_database,
        )
        for table, number in parts:
            metrics.TABLE_PARTS.labels(table).set(number)
        for disk, free, size in _rows(
            client, "SELECT name, free_space, total_space FROM system.disks"
        ):
            metrics.DISK_FREE.labels(f"clickhouse:{disk}").set(free)
            metrics.DISK_SIZE.labels(f"clickhouse:{disk}").set(size)
        since = int(time.time() * 1000) - REVIEW_WINDOW_MS
        waiting = run(client, "reviews_open", since=since, limit=1)
        metrics.REVIEWS_OPEN.set(waiting[0]["total"] if waiting else 0)

    # Ways in ------------------------------------------------------------------------------------

    def pushes(self) -> None:
        """An empty batch to every channel that pushes: read, its key found good, refused as empty."""
        for name, spec in load_channels().items():
            if spec.transports.http is None:
                continue
            answer = self._http.post(
                f"{self._settings.screen_url}/channels/{name}/reports",
                content=HEARTBEAT,
                headers={"Content-Type": "application/json", **self._proof(name, spec)},
            )
            if is_heartbeat(answer):
                metrics.HEARTBEAT_AT.labels(name, "push").set_to_current_time()

    def _proof(self, name: str, spec: ChannelSpec) -> dict[str, str]:
        keys = self._keys.of(name)
        if not keys:
            return {}
        if spec.transports.http is not None and spec.transports.http.signed:
            return signature.sign(keys[0], int(time.time()), HEARTBEAT)
        return {"X-API-Key": keys[0]}

    # The rest -----------------------------------------------------------------------------------

    def registry(self) -> None:
        """Whether the registry, if one is configured, answers."""
        if not self._settings.schema_registry_url:
            return
        up = metrics.REGISTRY_UP.labels("registry")
        try:
            Registry(self._settings.schema_registry_url).find(1)
            up.set(1)
        except QuanyuError:
            up.set(0)

    def certificates(self) -> None:
        """When the first certificate of each configured TLS file ends."""
        for name in type(self._settings).model_fields:
            path = getattr(self._settings, name)
            if not name.endswith(CERTIFICATES) or path is None:
                continue
            ends = [
                certificate.not_valid_after_utc.timestamp()
                for certificate in x509.load_pem_x509_certificates(path.read_bytes())
            ]
            metrics.CERTIFICATE_END.labels(f"QUANYU_{name.upper()}").set(min(ends))

    def home(self) -> None:
        """Disk of the home; restarts that the supervisor of an embedded stack has counted."""
        usage = shutil.disk_usage(self._settings.home)
        metrics.DISK_FREE.labels("home").set(usage.free)
        metrics.DISK_SIZE.labels("home").set(usage.total)
        stack = homes.read_json(self._settings.home / homes.PARTS_FILE) or {"parts": []}
        for part in stack["parts"]:
            metrics.PART_RESTARTS.labels(part["name"]).set(part["restarts"])


def is_heartbeat(answer: httpx.Response) -> bool:
    """Whether a way in answered as it should: the empty batch was read, or, without a key here, not let in."""
    if answer.status_code == HTTPStatus.BAD_REQUEST:
        return bool(answer.json().get("reason") == "empty")
    return answer.status_code == HTTPStatus.UNAUTHORIZED and not _proved(answer.request)


def _proved(request: httpx.Request) -> bool:
    return "x-api-key" in request.headers or signature.SIGNATURE_HEADER in request.headers


def _outside(there: float, before: float, after: float) -> float:
    """How far a server's clock lies outside of the time that the asking took, seconds; 0 within it."""
    return min(0.0, there - before) or max(0.0, there - after)


def _unknown(gauge: Gauge) -> None:
    """Nothing is compared with what is no number; a gauge without labels cannot vanish."""
    if gauge._labelnames:
        gauge.clear()
    else:
        gauge.set(math.nan)


def _forget(gauge: Gauge, label: str) -> None:
    try:
        gauge.remove(label)
    except KeyError:
        return


def _rows(client: Client, sql: str, **parameters: Any) -> list[Any]:
    return list(client.query(sql, parameters=parameters).result_rows)


def watch_vitals(settings: Settings, stop: threading.Event) -> None:
    """Read everything every :data:`INTERVAL` until told to stop."""
    vitals = Vitals(settings)
    while not stop.is_set():
        vitals.round()
        stop.wait(INTERVAL)
    vitals.close()
