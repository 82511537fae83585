"""The sink on a real broker and the real engine: killed, frozen, refused, still exact."""

import contextlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from clickhouse_connect.driver.client import Client
from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from connectors.sink import table
from connectors.sink.columns import ColumnReader
from connectors.sink.machine import Block, Record
from connectors.sink.runner import EXIT_STOPPED, Route, routes
from connectors.sink.table import COLUMNS_FROM, Tables
from schemas import tables
from schemas.codec import Codec, default_codec
from schemas.kafka import admin_config, consumer_config, producer_config
from schemas.settings import Settings
from tests.bench.sink import Body
from tests.conftest import Fresh, Stack, eventually, free_base_port
from tests.faults import python_path

pytestmark = pytest.mark.integration

SCRIPT = Path(__file__).with_name("sink_process.py")
ROOT = Path(__file__).parents[3]
#: Many small blocks, so that a kill meets every phase.
SMALL = {"rows": 200, "age": 0.05, "busy_age": 0.05, "linger": 0.2}
#: Blocks that are read and sent as columns.
LARGE = {"rows": COLUMNS_FROM, "age": 5.0, "busy_age": 5.0, "linger": 0.2}
START_MS = 1_760_000_000_000


def outcome(number: int, **changes: Any) -> dict[str, Any]:
    """A ReportOutcome; its minute, channel and class vary, so that the counter has many keys."""
    return {
        "report_id": f"r{number:07}",
        "channel": f"channel{number % 3}",
        "native_id": None if number % 5 else f"n{number}",
        "revision": 0,
        "outcome": ("accepted", "duplicate", "review")[number % 3],
        "reason": "",
        "detail": "",
        "class_code": f"{number % 7:04}",
        "district_code": f"41010{number % 6}",
        "grid_code": "",
        "occurred_at": None if number % 4 else START_MS,
        # Two months, so that one block becomes two parts.
        "received_at": START_MS + number * 1000 + (number % 2) * 31 * 86_400_000,
        "decided_at": START_MS + number * 1000,
        "source_topic": "reports.raw.x",
        "source_partition": 0,
        "source_offset": number,
        "rule_version": "1",
        **changes,
    }


class City:
    """A database, topics, a group and the sinks of one test."""

    def __init__(self, settings: Settings, fresh: Fresh, client: Client) -> None:
        self.settings = settings.model_copy(update={"clickhouse_database": fresh.database})
        tables.apply(self.settings)
        self.client = client
        self.topic = fresh.topic("outcomes", 2)
        self.letters = fresh.topic("outcomes-dlq", 1)
        self.group = fresh.name("sink")
        self.codec: Codec = default_codec(settings)
        self.table = f"{fresh.database}.report_outcomes"
        self.counter = f"{fresh.database}.outcome_counts"
        self.produced = 0
        self.records = 0
        self.limits = SMALL
        self._transactions = 0
        self._sinks: list[subprocess.Popen[bytes]] = []
        self.clickhouse_url = self.settings.clickhouse_url

    def produce(self, count: int, transaction: int = 50, aborted: bool = True) -> None:
        """Transactions of `transaction` records, with an aborted one after each."""
        self._transactions += 1
        producer = Producer(
            {
                **producer_config(self.settings),
                "transactional.id": f"{self.group}-{self._transactions}",
            }
        )
        producer.init_transactions(30)
        end = self.produced + count
        while self.produced < end:
            producer.begin_transaction()
            for _ in range(min(transaction, end - self.produced)):
                self._put(producer, self.produced)
                self.produced += 1
            producer.commit_transaction(30)
            if aborted:
                producer.begin_transaction()
                for number in range(3):
                    self._put(producer, 9_000_000 + number)
                producer.flush(30)
                producer.abort_transaction(30)

    def produce_slowly(self) -> None:
        for _ in range(20):
            self.produce(150)

    def produce_until(self, enough: threading.Event) -> None:
        while not enough.is_set():
            self.produce(150)

    def _put(self, producer: Producer, number: int) -> None:
        value = self.codec.encode("ReportOutcome", outcome(number))
        producer.produce(self.topic, value, key=f"k{number}")

    def produce_raw(self, values: list[bytes | None], partition: int = 0) -> None:
        producer = Producer(producer_config(self.settings))
        for value in values:
            producer.produce(self.topic, value, key="raw", partition=partition)
        assert producer.flush(30) == 0

    def sink(
        self, instance: str | None = "a", failpoint: str = "", run_limit: int = 500
    ) -> subprocess.Popen[bytes]:
        given = {
            "settings": {
                "home": str(self.settings.home),
                "port": self.settings.port,
                "kafka": self.settings.bootstrap,
                "clickhouse": self.clickhouse_url,
                "clickhouse_database": self.settings.clickhouse_database,
            },
            "routes": [[self.topic, "ReportOutcome", "report_outcomes", self.letters]],
            "group": self.group,
            "instance": instance,
            "limits": self.limits,
            "run_limit": run_limit,
        }
        env = {
            **os.environ,
            "PYTHONPATH": python_path(ROOT),
            "QUANYU_FAILPOINT": f"sink.{failpoint}" if failpoint else "",
        }
        log = (self.settings.home / f"{self.group}.log").open("ab")
        sink = subprocess.Popen(
            [sys.executable, str(SCRIPT), json.dumps(given)], env=env, stdout=log, stderr=log
        )
        self._sinks.append(sink)
        return sink

    def stop_all(self) -> None:
        for sink in self._sinks:
            if sink.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    sink.send_signal(signal.SIGCONT)
                    sink.kill()
                sink.wait()

    def rows(self) -> int:
        return int(self.client.query(f"SELECT count() FROM {self.table}").result_rows[0][0])

    def wait_for_rows(self, count: int | None = None, timeout: float = 60) -> None:
        wanted = self.produced if count is None else count
        eventually(lambda: self.rows() >= wanted, timeout)

    def assert_exact(self, expected: set[str] | None = None) -> None:
        """Every record once in the table; the counter as if computed from the table now."""
        wanted = expected or {outcome(number)["report_id"] for number in range(self.produced)}
        rows = self.client.query(
            f"SELECT report_id, _topic, _partition, _offset FROM {self.table}"
        ).result_rows
        assert {row[0] for row in rows} == wanted
        assert len(rows) == len({tuple(row[1:]) for row in rows}) == len(wanted)
        # A block's rows are there a moment before what its view counts.
        with contextlib.suppress(pytest.fail.Exception):
            eventually(lambda: not self.difference())
        assert not self.difference()

    def difference(self) -> Sequence[Any]:
        """Groups that the counter counts otherwise than the table."""
        return self.client.query(
            f"""
            SELECT minute, channel, outcome, class_code, district_code,
                sum(a) AS a, sum(b) AS b FROM (
                SELECT toDateTime(toStartOfMinute(received_at), 'UTC') AS minute, channel, outcome,
                    class_code, district_code, count() AS a, 0 AS b FROM {self.table} GROUP BY ALL
                UNION ALL
                SELECT minute, channel, outcome, class_code, district_code, 0 AS a, sum(n) AS b
                    FROM {self.counter} GROUP BY ALL
            ) GROUP BY ALL HAVING a != b
            """
        ).result_rows

    def committed(self) -> dict[int, tuple[int, str]]:
        consumer = Consumer(consumer_config(self.settings, self.group))
        try:
            places = [TopicPartition(self.topic, partition) for partition in range(2)]
            return {p.partition: (p.offset, p.metadata or "") for p in consumer.committed(places)}
        finally:
            consumer.close()

    def dead(self) -> list[tuple[bytes | None, dict[str, bytes]]]:
        consumer = Consumer(consumer_config(self.settings, self.group + "-letters"))
        found: list[Any] = []
        try:
            place = TopicPartition(self.letters, 0, 0)
            _, end = consumer.get_watermark_offsets(place, timeout=10)
            consumer.assign([place])
            while len(found) < end:
                for message in consumer.consume(100, 1.0):
                    assert message.error() is None
                    found.append((message.value(), dict(message.headers() or [])))
        finally:
            consumer.close()
        return found

    def log(self) -> str:
        return (self.settings.home / f"{self.group}.log").read_text(encoding="utf-8")


@pytest.fixture
def city(settings: Settings, fresh: Fresh, clickhouse: Client) -> Iterator[City]:
    city = City(settings, fresh, clickhouse)
    yield city
    city.stop_all()


def test_aborted_transactions_leave_gaps_and_sigterm_leaves_nothing_pending(city: City) -> None:
    city.produce(2_000)
    sink = city.sink()
    city.wait_for_rows()
    sink.terminate()
    assert sink.wait(10) == 0
    city.assert_exact()
    assert all(metadata == "" for _, metadata in city.committed().values())
    # A restart adds nothing.
    again = city.sink()
    city.produce(100)
    city.wait_for_rows()
    again.terminate()
    assert again.wait(10) == 0
    city.assert_exact()


@pytest.mark.parametrize(
    "failpoint",
    [
        "pending_committed:1:kill",
        "pending_committed:4:kill",
        "sending:2:kill",
        "inserted:1:kill",
        "inserted:5:kill",
        "done_committed:1:kill",
    ],
)
def test_killed_at_each_step_the_next_sink_makes_it_exact(city: City, failpoint: str) -> None:
    city.produce(1_500)
    killed = city.sink(failpoint=failpoint)
    assert killed.wait(60) == -signal.SIGKILL
    if failpoint.startswith(("pending", "sending", "inserted")):
        assert any(metadata for _, metadata in city.committed().values())
    city.produce(300)
    city.sink()
    city.wait_for_rows()
    city.assert_exact()


@pytest.mark.parametrize("failpoint", ["sending:1:kill", "inserted:2:kill"])
def test_killed_amid_blocks_of_columns_the_next_sink_makes_it_exact(
    city: City, failpoint: str
) -> None:
    city.limits = LARGE
    killed = city.sink(failpoint=failpoint)
    city.produce(4 * COLUMNS_FROM)
    assert killed.wait(60) == -signal.SIGKILL
    city.sink()
    city.wait_for_rows()
    city.assert_exact()


def random_value(kind: Any, choice: random.Random) -> Any:
    """A value of an Avro type, as a city may have it."""
    match kind:
        case ["null", branch]:
            return choice.choice([None, random_value(branch, choice)])
        case "string":
            return "".join(choice.choices('路灯不亮 a1"\\\n€𠮷', k=choice.randrange(1, 12)))
        case "boolean":
            return choice.random() < 0.5
        case "int" | "long":
            return choice.choice([1, -1]) * choice.randrange(1, 2 ** choice.randrange(1, 31))
        case "float" | "double":
            return choice.randrange(1, 10_000) / 64
        case {"logicalType": "timestamp-millis"}:
            return START_MS + choice.randrange(86_400_000)
        case {"type": "enum", "symbols": symbols}:
            return choice.choice(symbols)
        case {"type": "array", "items": items}:
            return [random_value(items, choice) for _ in range(choice.randrange(3))]
    raise AssertionError(kind)


@pytest.mark.parametrize("route", routes(), ids=lambda route: route.record)
def test_rows_sent_as_columns_are_the_rows_sent_one_by_one(
    route: Route, city: City, monkeypatch: pytest.MonkeyPatch
) -> None:
    choice = random.Random(31)
    _, fields = city.codec.layout(route.record)
    records = []
    for offset in range(300):
        value = {name: random_value(kind, choice) for name, kind in fields.items()}
        body = city.codec.encode(route.record, value)
        records.append(Record(offset, len(body), Body(body)))
    block = Block(route.topic, 1, tuple(records))
    there, found = Tables(city.settings), []
    name = f"{city.settings.clickhouse_database}.{route.table}"
    for least in (1, len(records) + 1):
        monkeypatch.setattr(table, "COLUMNS_FROM", least)
        rows = table.decode(city.codec, ColumnReader(city.codec), route.record, block)
        assert isinstance(rows.columns, dict) == (least > len(records))
        city.client.command(f"TRUNCATE TABLE {name}")
        there.insert(route.table, Block(route.topic, least, block.records), rows)
        asked = f"SELECT * EXCEPT (_inserted_at) FROM {name} ORDER BY _offset"
        found.append(city.client.query(asked).result_rows)
    assert len(found[0]) > 200
    assert found[0] == found[1]


def test_killed_at_random_again_and_again_while_reports_come(city: City) -> None:
    seed = 20
    chance = random.Random(seed)
    feeding = threading.Thread(target=city.produce_slowly)
    feeding.start()
    for _ in range(6):
        place = chance.choice(["pending_committed", "sending", "inserted", "done_committed"])
        sink = city.sink(failpoint=f"{place}:{chance.randint(1, 6)}:kill")
        with contextlib.suppress(subprocess.TimeoutExpired):
            sink.wait(chance.uniform(3, 6))
        sink.kill()
        sink.wait()
    feeding.join()
    city.sink()
    city.wait_for_rows()
    city.assert_exact()


def test_two_sinks_share_take_over_and_hand_back(city: City) -> None:
    enough = threading.Event()
    # Reports come for as long as the sinks change hands, however fast the machine is.
    feeding = threading.Thread(target=city.produce_until, args=(enough,), daemon=True)
    feeding.start()
    first = city.sink(instance=None)
    city.wait_for_rows(300)
    second = city.sink(instance=None)
    eventually(lambda: city.log().count("rebuild=None") >= 3, 60)
    city.wait_for_rows(city.rows() + 100)
    first.terminate()
    assert first.wait(15) == 0, city.log()
    third = city.sink(instance=None)
    eventually(lambda: f"listens {third.pid}" in city.log(), 60)
    city.wait_for_rows(city.rows() + 100)
    enough.set()
    feeding.join()
    city.wait_for_rows()
    city.assert_exact()
    for sink in (second, third):
        sink.terminate()
        assert sink.wait(15) == 0, city.log()


@pytest.mark.parametrize(
    "place",
    [
        "sending",
        *(pytest.param(p, marks=pytest.mark.long) for p in ("pending_committed", "inserted")),
    ],
)
def test_frozen_revived_after_another_took_over_it_doubles_nothing(city: City, place: str) -> None:
    city.produce(1_000)
    frozen = city.sink(instance=None, failpoint=f"{place}:3:stop")
    eventually(lambda: _stopped(frozen), 60)
    city.sink(instance=None)
    city.wait_for_rows()
    frozen.send_signal(signal.SIGCONT)
    # It notices that it slept longer than its session and ends for the supervisor to restart.
    assert frozen.wait(30) == EXIT_STOPPED
    city.produce(300)
    city.wait_for_rows()
    city.assert_exact()


def _stopped(process: subprocess.Popen[bytes]) -> bool:
    status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
    return re.search(r"State:\s+T", status) is not None


class Proxy:
    """Between sink and engine: may refuse an insert, or apply it and lose the answer."""

    def __init__(self, target: str) -> None:
        self.faults: list[str] = []
        self.held, self.released, self.arrived = (threading.Event() for _ in range(3))
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self._body()
                fault = proxy.faults.pop(0) if b"INSERT INTO" in body[:200] and proxy.faults else ""
                if fault == "hold":
                    proxy.held.set()
                    proxy.released.wait(60)
                if fault == "refuse":
                    text = b"Code: 252. DB::Exception: Too many parts. (TOO_MANY_PARTS)"
                    self._answer(500, text, {"X-ClickHouse-Exception-Code": "252"})
                    return
                headers = {
                    k: v
                    for k, v in self.headers.items()
                    if k.lower() not in ("host", "transfer-encoding", "content-length")
                }
                answer = httpx.post(target + self.path, content=body, headers=headers, timeout=60)
                if fault == "hold":
                    assert answer.status_code == 200
                    proxy.arrived.set()
                if fault == "lose answer":
                    self.close_connection = True
                    self.connection.close()
                    return
                self._answer(answer.status_code, answer.content, dict(answer.headers))

            do_GET = do_POST  # noqa: N815 - the name that http.server looks for

            def _body(self) -> bytes:
                if self.headers.get("transfer-encoding", "") != "chunked":
                    return self.rfile.read(int(self.headers.get("content-length", 0)))
                parts = []
                while size := int(self.rfile.readline(), 16):
                    parts.append(self.rfile.read(size))
                    self.rfile.readline()
                self.rfile.readline()
                return b"".join(parts)

            def _answer(self, status: int, content: bytes, headers: dict[str, str]) -> None:
                self.send_response(status)
                for name, value in headers.items():
                    if name.lower().startswith(("x-clickhouse", "content-type")):
                        self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def test_refusals_and_lost_answers_are_repeated_with_the_same_token(city: City) -> None:
    proxy = Proxy(city.settings.clickhouse_url)
    try:
        proxy.faults = ["refuse", "lose answer", "", "lose answer", "lose answer", "refuse"] * 3
        city.clickhouse_url = proxy.url
        city.produce(2_000)
        sink = city.sink()
        city.wait_for_rows()
        eventually(lambda: not proxy.faults or city.rows() == city.produced)
        sink.terminate()
        assert sink.wait(15) == 0
        assert len(proxy.faults) < 10, "the faults did not happen"
    finally:
        proxy.close()
    city.assert_exact()


def test_request_on_the_wire_that_outlives_its_sink_doubles_nothing(city: City) -> None:
    proxy = Proxy(city.settings.clickhouse_url)
    try:
        proxy.faults = ["", "", "hold"]
        direct, city.clickhouse_url = city.clickhouse_url, proxy.url
        city.produce(1_000)
        killed = city.sink()
        assert proxy.held.wait(60)
        killed.kill()
        killed.wait()
        city.clickhouse_url = direct
        city.sink()
        city.wait_for_rows()
        proxy.released.set()
        assert proxy.arrived.wait(60)
    finally:
        proxy.close()
    city.assert_exact()


def test_killed_engine_comes_back_and_the_sink_goes_on(city: City, stack: Stack) -> None:
    if "clickhouse" not in stack.processes:
        pytest.skip("the engine is a container")
    city.produce(1_000)
    city.sink()
    city.wait_for_rows(200)
    stack.processes["clickhouse"].kill()
    stack.processes["clickhouse"].wait()
    city.produce(500)
    stack.start_clickhouse()
    city.wait_for_rows()
    city.assert_exact()


def test_poison_goes_to_the_dead_letters_and_everything_around_it_to_the_table(city: City) -> None:
    good = [city.codec.encode("ReportOutcome", outcome(number)) for number in range(400)]
    undecodable: list[bytes | None] = [
        b"\x01not ours",
        None,
        good[0][:40],
        good[0] + b"x",
        b"\x00\x00\x00\xff\xff" + good[0][5:],
        b"",
    ]
    refused = city.codec.encode("ReportOutcome", outcome(7, report_id="bad", channel="refused"))
    city.client.command(f"ALTER TABLE {city.table} ADD CONSTRAINT c CHECK channel != 'refused'")
    poison = [*undecodable, refused]
    values: list[bytes | None] = list(good)
    for index, value in enumerate(poison):
        values.insert(30 + index * 50, value)
    city.produce_raw(values)
    sink = city.sink()
    city.wait_for_rows(400)
    eventually(lambda: city.committed()[0] == (407, ""), 30)
    sink.terminate()
    assert sink.wait(15) == 0
    city.assert_exact({outcome(number)["report_id"] for number in range(400)})
    letters = city.dead()
    assert sorted(value or b"" for value, _ in letters) == sorted(value or b"" for value in poison)
    for value, headers in letters:
        assert headers["__connect.errors.topic"].decode() == city.topic
        assert values[int(headers["__connect.errors.offset"])] == value
        assert headers["__connect.errors.connector.name"] == b"quanyu-sink"
    codes = {headers["__connect.errors.exception.class.name"].decode() for _, headers in letters}
    assert {"bad_magic", "null_value", "unknown_schema", "trailing_bytes", "refused"} <= codes


def test_a_topic_of_nothing_but_poison_stops_the_sink_instead_of_being_drained(city: City) -> None:
    city.produce_raw([b"rubbish"] * 300)
    sink = city.sink(run_limit=100)
    assert sink.wait(60) == EXIT_STOPPED
    assert "in a row could not be inserted" in city.log()
    assert len(city.dead()) < 100


def test_an_expired_commit_does_not_insert_the_topic_again(city: City) -> None:
    city.produce(600)
    sink = city.sink()
    city.wait_for_rows()
    sink.terminate()
    assert sink.wait(15) == 0
    admin = AdminClient(admin_config(city.settings))

    def deleted() -> bool:
        with contextlib.suppress(Exception):
            admin.delete_consumer_groups([city.group])[city.group].result(10)
            return True
        return False

    eventually(deleted, 40, 0.5)
    city.produce(200)
    city.sink()
    city.wait_for_rows()
    city.assert_exact()


def test_a_stale_commit_is_noticed_against_the_table(city: City) -> None:
    city.produce(600)
    sink = city.sink(instance=None)
    city.wait_for_rows()
    sink.terminate()
    assert sink.wait(15) == 0
    admin = AdminClient(admin_config(city.settings))
    stale = [
        TopicPartition(city.topic, 0, 3, "pending:3-9"),
        TopicPartition(city.topic, 1, 5, ""),
    ]
    request = ConsumerGroupTopicPartitions(city.group, stale)
    admin.alter_consumer_group_offsets([request])[city.group].result(10)
    city.produce(200)
    city.sink()
    city.wait_for_rows()
    city.assert_exact()
    assert city.log().count("stale commit") == 2


def test_retention_that_overtook_the_sink_stops_it_loudly(city: City) -> None:
    city.produce(600)
    sink = city.sink()
    city.wait_for_rows()
    sink.terminate()
    assert sink.wait(15) == 0
    city.produce(600)
    place = TopicPartition(city.topic, 0, city.committed()[0][0] + 100)
    admin = AdminClient(admin_config(city.settings))
    admin.delete_records([place])[place].result(10)
    assert city.sink().wait(60) == EXIT_STOPPED
    assert "retention has deleted offsets" in city.log()


def test_the_module_serves_metrics_and_ends_on_sigterm(
    settings: Settings, fresh: Fresh, tmp_path: Path
) -> None:
    own = Settings(home=tmp_path, port=free_base_port())
    env = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "QUANYU_HOME": str(tmp_path),
        "QUANYU_PORT": str(own.port),
        "QUANYU_KAFKA": settings.bootstrap,
        "QUANYU_CLICKHOUSE": settings.clickhouse_url,
        "QUANYU_CLICKHOUSE_DATABASE": fresh.database,
    }
    command = [sys.executable, "-m", "connectors.sink"]
    refused = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
    assert refused.returncode == 2
    assert refused.stderr.strip().endswith("run: quanyu tables apply")
    tables.apply(settings.model_copy(update={"clickhouse_database": fresh.database}))
    sink = subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True)
    try:

        def answers() -> bool:
            with contextlib.suppress(httpx.HTTPError):
                url = f"http://127.0.0.1:{own.metrics_port('sink')}/metrics"
                return "quanyu_sink_rows_total" in httpx.get(url).text
            return False

        eventually(answers)
        begun = time.monotonic()
        sink.terminate()
        assert sink.wait(15) == 0
        assert time.monotonic() - begun < 10
    finally:
        sink.kill()
    assert sink.stderr is not None
    for line in sink.stderr.read().splitlines():
        json.loads(line)
