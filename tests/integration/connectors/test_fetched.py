"""Fetched sources on a real broker: killed at the worst moment, none of their entries is missing."""

import contextlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from connectors import __main__ as connectors
from connectors import kafka_bridge
from connectors.kafka_bridge import KafkaBridge, client_config, open_source
from connectors.publish import Publisher
from connectors.source import Feed, Portion, SourceError
from deploy.local.parts import child_environment
from schemas.channels import ChannelSpec
from schemas.errors import QuanyuError
from schemas.settings import Settings
from tests.conftest import Fresh, Stack, eventually
from tests.integration.connectors.conftest import Log

pytestmark = pytest.mark.integration

#: An existing channel's raw topic; the spec is the test's own.
CHANNEL = "hotline12345"
HERE = Path(__file__).parent
COUNT = 1_000


@pytest.fixture
def home(broker: Stack, tmp_path: Path) -> Settings:
    """The broker's settings with positions of the test's own."""
    return broker.settings.model_copy(update={"home": tmp_path / "home"})


@pytest.fixture
def log(broker: Stack) -> Iterator[Log]:
    made = Log(broker.settings, CHANNEL)
    yield made
    made.close()


@pytest.fixture
def topic(broker: Stack) -> str:
    """A topic of the other cluster, which is the same broker."""
    return Fresh(broker.settings, os.urandom(4).hex()).topic("other", 2)


def spec(transport: str, **options: Any) -> dict[str, Any]:
    return {
        "name": CHANNEL,
        "title": "a test",
        "transports": {transport: options},
        "native_id": "id",
        "fields": {"title": "text"},
    }


def database(path: Path, count: int = COUNT) -> str:
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE calls (id TEXT, text TEXT, w INT)")
        connection.executemany(
            "INSERT INTO calls VALUES (?, '路灯不亮', ?)",
            ((f"N{n}", n // 300) for n in range(count)),
        )
    connection.close()
    return f"sqlite:///{path}"


def send(broker: Stack, topic: str, values: list[bytes | None]) -> None:
    producer = Producer({"bootstrap.servers": broker.settings.bootstrap})
    for n, value in enumerate(values):
        producer.produce(topic, value, key=f"k{n}".encode(), partition=n % 2)
    assert producer.flush(30) == 0


class Child:
    """Feeds in processes of their own over one source."""

    def __init__(self, settings: Settings, folder: Path, document: dict[str, Any]) -> None:
        self._document = {"chunk": 100, "idle_s": 2.0} | document
        self._folder = folder
        self._environment = child_environment(settings, {}) | {
            "QUANYU_HOME": str(settings.home),
            "QUANYU_KAFKA": settings.bootstrap,
            "PYTHONPATH": str(HERE.parents[2]),
        }

    def start(self, **more: Any) -> subprocess.Popen[str]:
        path = self._folder / f"feed-{len(list(self._folder.glob('feed-*')))}.json"
        path.write_text(json.dumps(self._document | more), encoding="utf-8")
        return subprocess.Popen(
            [sys.executable, str(HERE / "feed_process.py"), str(path)],
            env=self._environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def run(self, **more: Any) -> int:
        process = self.start(**more)
        words, _ = process.communicate(timeout=120)
        if process.returncode not in (0, -9):
            pytest.fail(words)
        return process.returncode


def seen(log: Log) -> Counter[str]:
    return Counter(record["native_id"] for _, record in log.records())


@pytest.mark.parametrize(
    "transport", ["sql", "file", pytest.param("kafka", marks=pytest.mark.long)]
)
def test_killed_between_publishing_and_confirming_a_source_loses_none(
    broker: Stack, home: Settings, log: Log, topic: str, tmp_path: Path, transport: str
) -> None:
    options: dict[str, Any]
    if transport == "sql":
        options, address = {"table": "calls", "watermark": "w"}, database(tmp_path / "a.db")
    elif transport == "file":
        options, address = {"settle_s": 0, "interval_s": 0.05}, str(tmp_path / "drop")
        (tmp_path / "drop").mkdir()
        (tmp_path / "drop" / "a.csv").write_text(
            "id,text\n" + "".join(f"N{n},x\n" for n in range(COUNT))
        )
    else:
        # The group waits as long as this for a member that was killed.
        options, address = (
            {"topic": topic, "group": topic},
            (f"kafka://{broker.settings.bootstrap}?session.timeout.ms=6000"),
        )
        send(
            broker, topic, [json.dumps({"id": f"N{n}", "text": "x"}).encode() for n in range(COUNT)]
        )
    child = Child(
        home, tmp_path,
        {"spec": spec(transport, **options), "transport": transport, "address": address},
    )  # fmt: skip
    idle_s = 20.0 if transport == "kafka" else 2.0
    for kill_at in (4, 3):
        assert child.run(kill_at=kill_at, idle_s=idle_s) == -9
    assert child.run(idle_s=idle_s) == 0
    found = seen(log)
    assert set(found) == {f"N{n}" for n in range(COUNT)}
    # Each time one portion was published and not confirmed: it came again, and nothing else did.
    assert COUNT < found.total() <= COUNT + 200
    if transport == "file":
        assert [p.name for p in (tmp_path / "drop" / "done").iterdir()] == ["a.csv"]


def test_two_processes_share_a_drop_folder(home: Settings, log: Log, tmp_path: Path) -> None:
    drop = tmp_path / "drop"
    drop.mkdir()
    for n in range(30):
        rows = "".join(f"N{n * 50 + m},x\n" for m in range(50))
        (drop / f"{n}.csv").write_text("id,text\n" + rows)
    child = Child(
        home, tmp_path,
        {
            "spec": spec("file", settle_s=0, interval_s=0.05),
            "transport": "file",
            "address": str(drop),
            "chunk": 20,
        },
    )  # fmt: skip
    processes = [child.start(), child.start()]
    for process in processes:
        words, _ = process.communicate(timeout=120)
        assert process.returncode == 0, words
    assert seen(log) == Counter(f"N{n}" for n in range(1_500))
    assert len(list((drop / "done").iterdir())) == 30


class Running:
    """A feed on a thread of its own."""

    def __init__(self, settings: Settings, document: dict[str, Any], address: str) -> None:
        (transport,) = document["transports"]
        self.stop = threading.Event()
        self.publisher = Publisher(settings)
        feed = Feed(
            settings, ChannelSpec.model_validate(document), transport, address,
            connectors.opener(transport), self.publisher, self.stop,
        )  # fmt: skip
        self.thread = threading.Thread(target=feed.run, daemon=True)

    def __enter__(self) -> "Running":
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self.thread.join(30)
        self.publisher.close()


def until(log: Log, wanted: set[str]) -> Counter[str]:
    found: Counter[str] = Counter()

    def complete() -> bool:
        found.update(seen(log))
        return wanted <= set(found)

    eventually(complete, 60)
    return found


def test_a_database_that_goes_and_comes_back_while_polled_goes_on_where_it_was(
    home: Settings, log: Log, tmp_path: Path
) -> None:
    address = database(tmp_path / "a.db", 10)
    options = {"table": "calls", "watermark": "w", "interval_s": 0.05}
    with Running(home, spec("sql", **options), address):
        assert until(log, {f"N{n}" for n in range(10)}).total() == 10
        away = shutil.move(tmp_path / "a.db", tmp_path / "away.db")

        def comes_back_after(*statements: str) -> None:
            # Under its own name the file is only swapped, as a database is that was restored.
            with contextlib.closing(sqlite3.connect(away)) as connection, connection:
                for statement in statements:
                    connection.execute(statement)
            shutil.copy(away, tmp_path / "new.db")
            shutil.move(tmp_path / "new.db", tmp_path / "a.db")

        comes_back_after("INSERT INTO calls VALUES ('N10', 'x', 1)")
        comes_back_after(
            "ALTER TABLE calls RENAME COLUMN text TO words",
            "INSERT INTO calls VALUES ('N11', 'x', 1)",
        )
        comes_back_after("ALTER TABLE calls RENAME COLUMN words TO text")
        assert until(log, {"N10", "N11"}).keys() == {"N10", "N11"}


def test_a_file_that_is_dropped_while_another_is_broken_comes_through(
    home: Settings, log: Log, tmp_path: Path
) -> None:
    options = {"settle_s": 0.1, "interval_s": 0.05}
    with Running(home, spec("file", **options), str(tmp_path / "drop")):
        eventually((tmp_path / "drop" / "failed").is_dir)
        (tmp_path / "drop" / "broken.xlsx").write_bytes(b"PK\x03\x04")
        (tmp_path / "drop" / "a.csv").write_text("id,text\nN1,x\nN2\nN3,x\n")
        found: dict[str, str | None] = {}

        def all_three() -> bool:
            found.update((r["connector"], r["native_id"]) for _, r in log.records())
            return len(found) == 3

        eventually(all_three)
        assert found == {"file:a.csv:1": "N1", "file:a.csv:2": None, "file:a.csv:3": "N3"}
        eventually((tmp_path / "drop" / "failed" / "broken.xlsx.reason.txt").exists)


# --- The bridge alone


def bridge(broker: Stack, topic: str, group: str = "") -> KafkaBridge:
    document = ChannelSpec.model_validate(spec("kafka", topic=topic, group=group or topic))
    return open_source(broker.settings, document, f"kafka://{broker.settings.bootstrap}")


def portions(source: KafkaBridge, entries: int) -> list[Portion]:
    """Portions until they hold so many entries, each confirmed."""
    found: list[Portion] = []

    def enough() -> bool:
        portion = source.read(0.2)
        if portion is not None:
            found.append(portion)
            source.confirm(portion)
        return sum(len(p.entries) for p in found) >= entries

    eventually(enough, 60)
    return found


def test_every_value_of_a_topic_comes_out_as_fields_or_as_its_bytes(
    broker: Stack, topic: str
) -> None:
    values = [b'{"id": "N0"}', b"\xff", None, b"[1]", b'{"id": "N4"}']
    send(broker, topic, values)
    source = bridge(broker, topic)
    found = portions(source, 5)
    entries = {(p.origin, e.number): e for p in found for e in p.entries}
    assert len(entries) == 5
    zero, one = f"{topic}[0]", f"{topic}[1]"
    assert [entries[zero, n].fields for n in (0, 2)] == [{"id": "N0"}, {"id": "N4"}]
    assert (entries[one, 0].data, entries[one, 0].defect) == (b"\xff", "encoding:not UTF-8")
    assert entries[zero, 1].defect == "malformed:no value"
    assert entries[one, 1].defect == "malformed:not an object"
    source.close()


def test_what_was_not_confirmed_comes_again_to_whoever_reads_next(
    broker: Stack, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka_bridge, "CHUNK", 5)
    send(broker, topic, [b'{"id": "N%d"}' % n for n in range(40)])
    first = bridge(broker, topic)
    confirmed = portions(first, 10)
    open_ = eventually(lambda: first.read(0.2))
    assert open_ is not None
    assert first.read(0.2) is open_
    first.close()
    second = bridge(broker, topic)
    done = {(p.origin, e.number) for p in confirmed for e in p.entries}
    rest = {(p.origin, e.number) for p in portions(second, 40 - len(done)) for e in p.entries}
    assert not done & rest
    assert len(done | rest) == 40
    assert {(open_.origin, e.number) for e in open_.entries} <= rest
    second.close()


def test_a_partition_that_goes_to_another_member_is_not_committed_by_the_first(
    broker: Stack, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka_bridge, "CHUNK", 3)
    ids = {f"N{n}" for n in range(60)}
    send(broker, topic, [b'{"id": "N%d"}' % n for n in range(60)])
    first = bridge(broker, topic)
    held = eventually(lambda: first.read(0.2), 60)
    # A second member joins while the first holds a portion; both read on until each id was confirmed.
    second = bridge(broker, topic)
    confirmed: set[str] = set()
    reasons: set[str] = set()
    holding: dict[KafkaBridge, Portion | None] = {first: held, second: None}

    def turn() -> bool:
        for source, portion in holding.items():
            if portion is not None:
                try:
                    source.confirm(portion)
                except SourceError as error:
                    reasons.add(error.reason)
                else:
                    confirmed.update((e.fields or {})["id"] for e in portion.entries)
            holding[source] = source.read(0.1)
        return confirmed == ids

    eventually(turn, 90)
    assert reasons <= {"not_committed"}
    first.close()
    second.close()


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("http://host:1", "write kafka://host:port"),
        ("kafka://", "names no server"),
        ("kafka://h:1?no.such.option=s3cret", "No such configuration property"),
    ],
)
def test_an_address_that_is_none_is_said(address: str, message: str) -> None:
    document = ChannelSpec.model_validate(spec("kafka", topic="t"))
    with pytest.raises(QuanyuError, match=message) as caught:
        open_source(Settings(), document, address)
    assert "s3cret" not in str(caught.value)


def test_an_address_sets_security_but_not_what_delivery_hangs_on() -> None:
    found = client_config("c", "kafka://a:1,b:2?security.protocol=SASL_SSL&sasl.password=x%26y")
    assert found == {
        "bootstrap.servers": "a:1,b:2",
        "security.protocol": "SASL_SSL",
        "sasl.password": "x&y",
    }


def test_a_cluster_that_does_not_answer_or_has_no_such_topic_is_said(
    broker: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka_bridge, "ANSWER_S", 1.0)
    document = ChannelSpec.model_validate(spec("kafka", topic="t"))
    with pytest.raises(SourceError) as caught:
        open_source(Settings(), document, "127.0.0.1:1")
    assert caught.value.reason == "unreachable"
    monkeypatch.undo()
    with pytest.raises(SourceError, match=r"topic none: .*create it there") as caught:
        bridge(broker, "none")
    assert caught.value.reason == "schema_changed"
