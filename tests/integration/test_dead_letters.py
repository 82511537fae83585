"""Poison in a whole stack: listed, shown, replayed once its cause is mended, dropped; and all adds up."""

import os
import random
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka import Producer

from deploy.dead_letters import OpenLetters
from schemas.codec import HEADER, default_codec
from schemas.kafka import producer_config
from schemas.registry import load_schemas
from schemas.settings import load_settings
from schemas.tables import connect
from schemas.topics import raw_topic
from tests.conftest import eventually
from tests.faults.harness import Stack, free_base_port
from tests.unit.schemas.test_registry import Stub

pytestmark = [pytest.mark.integration, pytest.mark.long, pytest.mark.timeout(600)]

RAW = raw_topic("photo_app")


@pytest.fixture(scope="module")
def registry() -> Iterator[Stub]:
    """A schema registry of its own."""
    stub = Stub()
    yield stub
    stub.stop()


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory, registry: Stub) -> Iterator[Stack]:
    """A running stack whose schema ids are the registry's."""
    stack = Stack(tmp_path_factory.mktemp("letters"), free_base_port(random.Random()))
    stack.env["QUANYU_SCHEMA_REGISTRY_URL"] = registry.url
    with stack.running():
        yield stack


def audited(city: Stack) -> dict[str, int]:
    """Outcomes of the channel after an audit, which must be clean; and how many it received."""
    report = city.json("audit", "--timeout", "120", timeout=300)
    assert report["clean"], report
    (entry,) = [c for c in report["channels"] if c["channel"] == "photo_app"]
    return {"received": entry["received"], **entry["outcomes"]}


def listed(city: Stack) -> tuple[dict[str, int], dict[str, int], dict[str, int]]:
    """Open letters by reason, letters by state, open ones by attempt."""
    found = city.json("dlq", "list", "--channel", "photo_app")
    return tuple(found[what].get(f"{RAW}.dlq", {}) for what in ("topics", "states", "attempts"))


def test_poison_is_replayed_once_after_the_fix_or_dropped_and_every_record_has_one_outcome(
    city: Stack, registry: Stub
) -> None:
    settings = load_settings(home=city.home, port=city.port, schema_registry_url=registry.url)
    codec = default_codec(settings)
    # A version that is written before the registry knows it: two reports, one of them sent twice.
    newest = load_schemas()["RawReport", max(v for n, v in load_schemas() if n == "RawReport")]
    later = {
        **newest,
        "fields": [*newest["fields"], {"name": "z", "type": "string", "default": ""}],
    }
    unknown = 1001 + len(registry.handler.known)

    def report(native: str) -> bytes:
        plain = codec.encode(
            "RawReport",
            {"channel": "photo_app", "native_id": native, "received_at": int(time.time() * 1000),
             "payload": b"{}", "title": "金水区路灯不亮", "district": "金水区"},
        )  # fmt: skip
        return HEADER.pack(0, unknown) + plain[HEADER.size :] + b"\x00"

    producer = Producer(producer_config(settings))
    for key, value in (
        ("A", report("A")), ("B", report("B")), ("A", report("A")),
        ("x", b"not avro, call 13812345678"), ("y", None),
    ):  # fmt: skip
        producer.produce(RAW, key=key, value=value)
    assert producer.flush(30) == 0

    watched = OpenLetters(settings)

    def still_open() -> int:
        """As the monitor counts, which reads on from its last look."""
        number, oldest_ms = watched.look()[f"{RAW}.dlq"]
        assert (oldest_ms is None) == (number == 0)
        return number

    assert audited(city) == {"received": 5, "rejected": 5}
    assert still_open() == 5
    reasons = {"unknown_schema": 3, "bad_magic": 1, "null_value": 1}
    assert listed(city) == (reasons, {"open": 5}, {"0": 5})
    (shown,) = city.json("dlq", "show", RAW, "--pattern", "^not avro")["letters"]
    assert shown["preview"].startswith("not avro")
    assert "13812345678" not in shown["preview"]

    # Nothing happens by itself, by a dry run, or without a word for everything.
    replay = ("dlq", "replay", "--channel", "photo_app", "--reason-code", "unknown_schema")
    dry = city.json(*replay, "--dry-run")
    assert (dry["records"], dry["letters"]) == (3, {f"{RAW}.dlq": 3})
    assert city.run("dlq", "drop").returncode == 2
    assert listed(city) == (reasons, {"open": 5}, {"0": 5})

    # Too early: the one that is replayed is refused again, as a new letter of one attempt more.
    early = city.json(*replay, "--limit", "1", "--actor", "on-call-1")
    assert (early["records"], early["left"]) == (1, 2)
    assert audited(city) == {"received": 6, "rejected": 6}
    assert listed(city) == (reasons, {"replayed": 1, "open": 5}, {"0": 4, "1": 1})
    assert still_open() == 5

    # The cause is mended: the registry knows the schema, and the worker asks it anew.
    assert registry.register("RawReport", later) == unknown
    worker = city.parts()["worker"]["pid"]
    os.kill(worker, signal.SIGKILL)
    eventually(lambda: city.parts()["worker"]["pid"] not in (None, worker), 90)
    again = city.json(*replay, "--reason", "the registry knows it now")
    assert again["records"] == 3
    whole = audited(city)
    assert whole == {"received": 9, "rejected": 6, "accepted": 2, "duplicate": 1}
    assert still_open() == 2

    # Once more: nothing is open, hence nothing is sent.
    assert city.json(*replay)["records"] == 0
    assert audited(city) == whole

    rest = city.json("dlq", "drop", RAW, "--actor", "on-call-1", "--reason", "a scanner's noise")
    assert rest["letters"] == {f"{RAW}.dlq": 2}
    assert listed(city) == ({}, {"replayed": 4, "dropped": 2}, {})
    assert still_open() == OpenLetters(settings).look()[f"{RAW}.dlq"][0] == 0
    (dropped,) = city.json("dlq", "show", RAW, "--pattern", "^not avro")["letters"]
    assert (dropped["state"], dropped["actor"]) == ("dropped", "on-call-1")
    assert audited(city) == whole
    done = actions(city)
    assert [(a["action"], a["other"], a["actor"]) for a in done] == [
        ("replay", "1", "on-call-1"), ("replay", "3", "operator"), ("drop", "2", "on-call-1"),
    ]  # fmt: skip
    assert done[-1]["detail"] == "bad_magic 1, null_value 1: a scanner's noise"


def actions(city: Stack) -> list[dict[str, Any]]:
    """What the tables keep of people's actions on dead letters."""
    settings = load_settings(home=city.home, port=city.port)
    with connect(settings) as client:
        client.database = settings.clickhouse_database
        found = client.query(
            "SELECT action, other, actor, detail FROM action_outcomes WHERE kind = 'dlq' ORDER BY at"
        )
        return list(found.named_results())
