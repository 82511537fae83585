"""Topics as code: what ``topics.yaml`` says, held against a cluster and applied to it."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml
from confluent_kafka import KafkaException
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    ResourceType,
)

from schemas.access import hold_kafka
from schemas.channels import channel_names
from schemas.errors import QuanyuError
from schemas.kafka import DEAD_LETTER_BYTES, admin_config
from schemas.settings import Settings

TOPICS_FILE = Path(__file__).parent / "topics.yaml"
DAY_MS = 24 * 3600 * 1000
#: A dead letter waits for a person: longer than the topic it comes from.
DLQ_DAYS = 90
ADMIN_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """One topic as it should be. ``stateful``: a key's state lives in its partition."""

    name: str
    partitions: int
    replication: int
    config: dict[str, str] = field(default_factory=dict)
    stateful: bool = False
    table: str | None = None


def raw_topic(channel: str) -> str:
    """Topic of a channel's raw reports."""
    return f"reports.raw.{channel}"


def dlq_topic(topic: str) -> str:
    """Topic of a topic's dead letters."""
    return f"{topic}.dlq"


def state_topic(topic: str, agent: str) -> str:
    """Compacted topic of an agent's state and position for one of its input topics."""
    return f"{topic}.{agent}.state"


def table_topics() -> dict[str, str]:
    """Topic → ClickHouse table, for every topic that has one."""
    document = _document()
    return {name: entry["table"] for name, entry in document["topics"].items() if "table" in entry}


def beside_topics() -> dict[str, str]:
    """Topic → the topic whose agents decide it too, with one state for both: equal key and partitions."""
    topics = _document()["topics"]
    return {name: entry["beside"] for name, entry in topics.items() if "beside" in entry}


def deciding_agents(topics: Iterable[str]) -> dict[str, str]:
    """Topic → the agent that decides it, or its own name when none of ours does.

    Raw topics of channels that are not known here are intake's too: workers are restarted one after another.
    """
    document = _document()
    raw = document["channels"]["name"].partition("{")[0]

    def agent(topic: str) -> str:
        entry = document["topics"].get(topic, {})
        if topic.startswith(raw):
            entry = document["channels"]
        return agent(entry["beside"]) if "beside" in entry else entry.get("agents", [topic])[0]

    return {topic: agent(topic) for topic in topics}


def load_topics(settings: Settings) -> list[TopicSpec]:
    """Every topic of this installation: raw topics per channel, dead letters, state."""
    document = _document()
    try:
        environment = document["environments"][settings.environment]
    except KeyError:
        known = ", ".join(document["environments"])
        raise QuanyuError(
            f"QUANYU_ENVIRONMENT={settings.environment}: {TOPICS_FILE.name} knows {known}"
        ) from None
    specs: list[TopicSpec] = []
    for name, entry in load_entries().items():
        specs.extend(_expand(name, entry, settings.environment, environment))
    return sorted(specs, key=lambda spec: spec.name)


def load_entries() -> dict[str, dict[str, Any]]:
    """Topic → what ``topics.yaml`` says of it, a raw topic for every channel among them."""
    document = _document()
    raw = document["channels"]
    raws = {raw["name"].format(channel=name): raw for name in channel_names()}
    topics: dict[str, dict[str, Any]] = document["topics"]
    return raws | topics


@dataclass(frozen=True, slots=True)
class Retention:
    """How long one topic's records stay, and the personal columns of its table; days, -1 for ever."""

    topic: str
    days: int
    personal: str
    table: str
    table_personal_days: int | None


def load_retention() -> list[Retention]:
    """Every topic that ages out, dead letters among them; compacted states hold what is open and no longer."""
    found = []
    for name, entry in load_entries().items():
        personal = entry.get("personal", "")
        columns = entry.get("table_personal_days")
        found.append(
            Retention(name, entry["retention_days"], personal, entry.get("table", ""), columns)
        )
        if entry.get("dlq"):
            found.append(Retention(dlq_topic(name), DLQ_DAYS, personal, "", None))
    return sorted(found, key=lambda one: one.topic)


def _document() -> Any:
    return yaml.safe_load(TOPICS_FILE.read_text(encoding="utf-8"))


def _expand(
    name: str, entry: dict[str, Any], where: str, environment: dict[str, Any]
) -> list[TopicSpec]:
    partitions, replication = entry["partitions"][where], environment["replication"]
    agents = entry.get("agents", [])
    common = {"min.insync.replicas": str(environment["min_insync"])}
    days = entry["retention_days"]
    config = common | {
        "cleanup.policy": "delete",
        "retention.ms": str(days * DAY_MS if days >= 0 else -1),
        # Only a closed segment is deleted: so what ages out is gone a day after its time, however little comes.
        "segment.ms": str(DAY_MS),
        "max.message.bytes": str(entry.get("max_message_bytes", 1024 * 1024)),
    }
    stateful = bool(agents) or "beside" in entry
    specs = [TopicSpec(name, partitions, replication, config, stateful, entry.get("table"))]
    # Small segments: a state topic is read whole when a partition is taken over, and only closed
    # segments are compacted.
    state = common | {
        "cleanup.policy": "compact",
        "segment.bytes": str(32 * 1024 * 1024),
        "min.cleanable.dirty.ratio": "0.3",
        "max.message.bytes": str(8 * 1024 * 1024),
    }
    specs += [
        TopicSpec(state_topic(name, agent), partitions, replication, state, True)
        for agent in agents
    ]
    if entry.get("dlq"):
        dlq = config | {
            "retention.ms": str(DLQ_DAYS * DAY_MS),
            "max.message.bytes": str(DEAD_LETTER_BYTES),
        }
        specs.append(TopicSpec(dlq_topic(name), 1, replication, dlq))
    return specs


@dataclass(frozen=True, slots=True)
class _Found:
    partitions: int
    config: dict[str, str]


@dataclass(frozen=True, slots=True)
class _Cluster:
    """``found``: our topics that exist; ``stray``: topics under our names that nobody asked for."""

    admin: AdminClient
    found: dict[str, _Found]
    stray: list[str]


def stray_topics(names: Iterable[str], specs: Sequence[TopicSpec]) -> list[str]:
    """Names that look like ours, yet stand in no topic's spec: of a removed channel, or misspelt.

    Under our names: every raw topic, and whatever hangs below a declared one (``<topic>.dlq``).
    """
    document, declared = _document(), {spec.name for spec in specs}
    raw = document["channels"]["name"].partition("{")[0]
    below = (raw, *(f"{name}." for name in document["topics"]))
    return sorted(name for name in names if name.startswith(below) and name not in declared)


def _cluster(settings: Settings, specs: list[TopicSpec]) -> _Cluster:
    admin = AdminClient(admin_config(settings))
    try:
        topics = admin.list_topics(timeout=ADMIN_TIMEOUT_S).topics
        wanted = [spec.name for spec in specs if spec.name in topics]
        resources = [ConfigResource(ResourceType.TOPIC, name) for name in wanted]
        configs = admin.describe_configs(resources) if resources else {}
        found = {
            resource.name: _Found(
                len(topics[resource.name].partitions),
                {key: entry.value for key, entry in future.result(ADMIN_TIMEOUT_S).items()},
            )
            for resource, future in configs.items()
        }
    except KafkaException as error:
        hold_kafka(settings)
        raise QuanyuError(
            f"Kafka at {settings.bootstrap} does not answer ({error.args[0].str()}); is it up? quanyu status"
        ) from None
    return _Cluster(admin, found, stray_topics(topics, specs))


def _changed(spec: TopicSpec, found: _Found) -> dict[str, str]:
    return {key: value for key, value in spec.config.items() if found.config.get(key) != value}


def _partition_difference(spec: TopicSpec, found: _Found) -> str | None:
    if spec.partitions == found.partitions:
        return None
    text = f"{spec.name}: {found.partitions} partitions, should be {spec.partitions}"
    if spec.stateful:
        return f"{text}; it has state by partition: create a new topic and replay into it"
    if spec.partitions < found.partitions:
        return f"{text}; Kafka cannot take partitions away: create a new topic"
    return text


@dataclass(frozen=True, slots=True)
class Difference:
    """What the cluster lacks or has differently, in a sentence; ``mended``: :func:`apply` mends it."""

    topic: str
    kind: Literal["missing", "partitions", "config", "stray"]
    text: str
    mended: bool = True


def differences(settings: Settings) -> list[Difference]:
    """What the cluster lacks or has differently; empty when it agrees."""
    specs = load_topics(settings)
    cluster = _cluster(settings, specs)
    found = [
        Difference(
            name,
            "stray",
            f"{name}: no spec asks for it; delete it when nothing reads it, or restore its channel",
            mended=False,
        )
        for name in cluster.stray
    ]
    for spec in specs:
        there = cluster.found.get(spec.name)
        if there is None:
            missing = f"{spec.name}: missing ({spec.partitions} partitions)"
            found.append(Difference(spec.name, "missing", missing))
            continue
        partitions = _partition_difference(spec, there)
        if partitions:
            grows = not spec.stateful and spec.partitions > there.partitions
            found.append(Difference(spec.name, "partitions", partitions, grows))
        found += [
            Difference(
                spec.name,
                "config",
                f"{spec.name}: {key} is {there.config.get(key)}, should be {value}",
            )
            for key, value in sorted(_changed(spec, there).items())
        ]
    return found


def diff(settings: Settings) -> list[str]:
    """The sentences of :func:`differences`."""
    return [difference.text for difference in differences(settings)]


def apply(settings: Settings) -> list[str]:
    """Create what is missing and alter what differs; what was done. Nothing is ever deleted.

    Raises :class:`QuanyuError` before any change when a topic would have to be replaced.
    """
    specs = load_topics(settings)
    cluster = _cluster(settings, specs)
    admin, found = cluster.admin, cluster.found
    refused = [
        line
        for spec in specs
        if spec.name in found
        and (line := _partition_difference(spec, found[spec.name]))
        and (spec.stateful or spec.partitions < found[spec.name].partitions)
    ]
    if refused:
        raise QuanyuError("; ".join(refused))
    missing = [spec for spec in specs if spec.name not in found]
    new = [NewTopic(s.name, s.partitions, s.replication, config=s.config) for s in missing]
    grown = [
        NewPartitions(s.name, s.partitions)
        for s in specs
        if s.name in found and s.partitions > found[s.name].partitions
    ]
    altered = []
    for spec in specs:
        if spec.name in found and (changed := _changed(spec, found[spec.name])):
            entries = [
                ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET)
                for key, value in changed.items()
            ]
            altered.append(
                ConfigResource(ResourceType.TOPIC, spec.name, incremental_configs=entries)
            )
    try:
        for futures in (
            admin.create_topics(new) if new else {},
            admin.create_partitions(grown) if grown else {},
            admin.incremental_alter_configs(altered) if altered else {},
        ):
            for name, future in futures.items():
                _finished(str(name), future)
        _wait_visible(admin, specs)
    except KafkaException as error:
        raise QuanyuError(f"Kafka refused: {error.args[0].str()}") from None
    done = [f"created {spec.name} ({spec.partitions} partitions)" for spec in missing]
    done += [f"raised the partitions of {partitions.topic}" for partitions in grown]
    return done + [f"altered the configuration of {resource.name}" for resource in altered]


def _finished(name: str, future: Any) -> None:
    try:
        future.result(ADMIN_TIMEOUT_S)
    except KafkaException as error:
        # Another process applied at the same time: the outcome is what was wanted.
        if error.args[0].name() != "TOPIC_ALREADY_EXISTS":
            raise QuanyuError(f"{name}: {error.args[0].str()}") from None


def _wait_visible(admin: AdminClient, specs: list[TopicSpec]) -> None:
    """A created topic is usable once its leaders are known."""
    end = time.monotonic() + ADMIN_TIMEOUT_S
    while time.monotonic() < end:
        topics = admin.list_topics(timeout=ADMIN_TIMEOUT_S).topics
        if all(
            spec.name in topics
            and all(p.leader >= 0 for p in topics[spec.name].partitions.values())
            for spec in specs
        ):
            return
        time.sleep(0.1)
    raise QuanyuError(f"the topics were created, but have no leaders after {ADMIN_TIMEOUT_S:.0f} s")
