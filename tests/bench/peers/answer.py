"""Whether an engine's answer is right: held against the pure steps over the very records that it decided.

Channels come interleaved as they happen to, so two runs order the reports of a zone differently and may open
other events. Therefore each step's answer is judged by that step's own input: outcomes by the raw topics,
links and events by the topic ``reports`` that the engine wrote, orders by its topic ``events``. What is told on
the way depends on how many reports are decided at once (versions of an event, events that a later report has
emptied again); which event each report ends in, and what that is, does not.
"""

from collections import Counter
from typing import Any

from confluent_kafka import Consumer, KafkaError, TopicPartition

from schemas.codec import Codec, default_codec
from schemas.kafka import consumer_config
from schemas.settings import Settings
from tests.bench.peers.plain import RAW, Steps

Log = dict[tuple[str, int], list[tuple[bytes | None, bytes | None, int, int]]]
PORTION = 4_000


def problems(settings: Settings, reports: int) -> list[str]:
    """What is wrong, in words; empty when the answer is the reference's."""
    codec, steps = default_codec(settings), Steps(settings)
    found = {
        topic: read(settings, [topic])
        for topic in ("reports", "report.outcomes", "event.links", "events", "orders")
    }
    intake = _decided(steps, read(settings, RAW))
    merge, dispatch = _decided(steps, found["reports"]), _decided(steps, found["events"])
    said: list[str] = []

    def hold(what: str, mine: dict[Any, Any], theirs: dict[Any, Any]) -> None:
        wrong = [key for key in mine.keys() | theirs.keys() if mine.get(key) != theirs.get(key)]
        if wrong:
            first = sorted(map(str, wrong))[0]
            said.append(f"{what}: {len(wrong)} of {len(theirs)} differ, such as {first}")

    outcomes = _records(codec, found["report.outcomes"])
    if len(outcomes) != reports:
        said.append(f"outcomes: {len(outcomes)} for {reports} reports")
    hold("outcomes", _outcomes(outcomes), _outcomes(_of(codec, intake, "report.outcomes")))
    hold(
        "reports",
        Counter(r["report_id"] for r in _records(codec, found["reports"])),
        Counter(r["report_id"] for r in _of(codec, intake, "reports")),
    )
    hold(
        "links",
        _links(_records(codec, found["event.links"])),
        _links(_of(codec, merge, "event.links")),
    )
    hold("events", _events(_records(codec, found["events"])), _events(_of(codec, merge, "events")))
    hold(
        "orders", _orders(_records(codec, found["orders"])), _orders(_of(codec, dispatch, "orders"))
    )
    return said


def read(settings: Settings, topics: list[str]) -> Log:
    """Every committed record of some topics, by partition and in order."""
    consumer = Consumer({**consumer_config(settings, "bench-answer"), "enable.partition.eof": True})
    partitions = [
        TopicPartition(topic, number, 0)
        for topic in topics
        for number in consumer.list_topics(topic, 20).topics[topic].partitions
    ]
    log: Log = {(place.topic, place.partition): [] for place in partitions}
    consumer.assign(partitions)
    left = set(log)
    while left:
        for message in consumer.consume(10_000, 1.0):
            place: Any = (message.topic(), message.partition())
            if error := message.error():
                assert error.code() == KafkaError._PARTITION_EOF, error
                left.discard(place)
                continue
            record: Any = (
                message.key(), message.value(), message.offset(), message.timestamp()[1],
            )  # fmt: skip
            log[place].append(record)
    consumer.close()
    return log


def _decided(steps: Steps, log: Log) -> list[tuple[str, bytes]]:
    outputs: list[tuple[str, bytes]] = []
    for (topic, partition), records in sorted(log.items()):
        for start in range(0, len(records), PORTION):
            keys, values, offsets, timestamps = zip(*records[start : start + PORTION], strict=True)
            decision = steps.decide(topic, partition, keys, values, offsets, timestamps)
            outputs += [(o.topic, o.value) for o in decision.outputs if o.value is not None]
    return outputs


def _records(codec: Codec, log: Log) -> list[dict[str, Any]]:
    return [codec.decode(value)[1] for records in log.values() for _, value, _, _ in records]


def _of(codec: Codec, outputs: list[tuple[str, bytes]], topic: str) -> list[dict[str, Any]]:
    return [codec.decode(value)[1] for name, value in outputs if name == topic]


def _outcomes(records: list[dict[str, Any]]) -> Counter[tuple[str, str, str]]:
    # A duplicate is told of again with the same id; where it came from tells them apart.
    return Counter(
        (r["report_id"], r["outcome"], f"{r['source_topic']}/{r['source_partition']}@{r['source_offset']}")
        for r in records
    )  # fmt: skip


def _links(records: list[dict[str, Any]]) -> dict[str, str]:
    newest: dict[str, dict[str, Any]] = {}
    for record in records:
        if record["sequence"] >= newest.get(record["report_id"], record)["sequence"]:
            newest[record["report_id"]] = record
    return {name: record["event_id"] for name, record in newest.items()}


def _events(records: list[dict[str, Any]]) -> dict[str, tuple[Any, ...]]:
    newest: dict[str, dict[str, Any]] = {}
    for record in records:
        if record["version"] >= newest.get(record["event_id"], record)["version"]:
            newest[record["event_id"]] = record
    names = ("status", "class_code", "report_count", "first_report_id", "grid_code")
    return {
        name: tuple(record[n] for n in names)
        for name, record in newest.items()
        if record["report_count"]
    }


def _orders(records: list[dict[str, Any]]) -> dict[str, tuple[Any, ...]]:
    newest: dict[str, dict[str, Any]] = {}
    for record in records:
        if record["version"] >= newest.get(record["order_id"], record)["version"]:
            newest[record["order_id"]] = record
    return {name: (record["event_id"], record["unit_code"]) for name, record in newest.items()}
