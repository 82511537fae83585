"""``quanyu bench sink``: rows a second and exactness after ``kill -9``, beside a naive loop and bulk inserts.

Both sinks read the same topic into the same table, each on a fresh broker and engine. Killed, they are so
within a second (by a seed) after a further part of the rows has become visible: in any of their steps.
"""

import random
import signal
import time
import uuid
from collections.abc import Callable
from typing import Any

import clickhouse_connect
import psutil
from clickhouse_connect.driver.client import Client
from confluent_kafka import Producer
from rich.console import Console

from connectors.sink.columns import ColumnReader
from connectors.sink.machine import Block, Record
from connectors.sink.table import Tables, decode
from schemas.codec import default_codec
from schemas.kafka import producer_config
from schemas.settings import Settings
from tests.bench import record
from tests.bench.machine import machine
from tests.bench.rig import Process, alive, process, storage
from tests.conftest import Stack

#: Module, arguments.
SINKS = {
    "quanyu sink": ("connectors.sink", ("--instance", "bench-0")),
    "naive loop": ("tests.bench.naive_sink", ()),
}
KILLS, KILL_WITHIN_S, SEED = 6, 1.0, 4103
LIMIT_S = 240.0
#: Without a new row for so long, nothing more comes.
QUIET_S = 5.0

TEXT = "中原路与桐柏路交叉口东北角人行道地砖破损，雨后积水，行人通行不便，请尽快处理。"
BLOCK = 50_000


class Body:
    """What decoding needs of a message."""

    def __init__(self, value: bytes) -> None:
        self._value = value

    def value(self) -> bytes:
        return self._value


def report(number: int) -> dict[str, Any]:
    """A report of ordinary size (about 400 bytes in Avro)."""
    at = 1_760_000_000_000 + number * 20
    return {
        "report_id": str(uuid.UUID(int=number * 0x9E3779B97F4A7C15 % 2**128)),
        "channel": f"channel{number % 10}", "native_id": f"N{number:09}", "revision": 0,
        "occurred_at": at, "occurred_offset_min": 480, "received_at": at + 300,
        "title": "人行道破损", "text": TEXT[: 20 + number % 19], "class_code": f"{number % 90:04}",
        "class_confidence": 0.9, "class_method": "model",
        "lon": 113.6 + number % 1000 / 1e4, "lat": 34.7 + number % 997 / 1e4,
        "source_lon": "113.65", "source_lat": "34.76", "crs": "GCJ02",
        "district_code": f"4101{number % 16:02}", "grid_code": f"4101{number % 4000:08}",
        "locate_method": "point", "zone": f"zone{number % 8}", "address": TEXT[:14],
        "reporter_hash": f"{number % 99991:032x}", "forwarded_from": None, "media": [],
        "source_topic": "reports.raw.channel", "source_partition": 0, "source_offset": number,
        "rule_version": "1",
    }  # fmt: skip


def main() -> None:
    """Progress on stderr, one table or one JSON object on stdout."""
    parser = record.parser("sink", __doc__ or "")
    parser.add_argument("--rows", type=int, default=400_000)
    arguments = parser.parse_args()
    where = machine()
    say = Console(stderr=True, highlight=False).print
    result: dict[str, Any] = {"machine": where, "rows": arguments.rows, "kills": KILLS}
    encode = default_codec(Settings()).encoder("Report")
    values = [encode(report(number)) for number in range(arguments.rows)]
    for name in SINKS:
        with storage() as stack:
            _fill(stack, values)
            whole = _run(stack, name, arguments.rows, kills=0)
            if not result.get("bulk"):
                result["bulk"] = bulk(stack, values)
        with storage() as stack:
            _fill(stack, values)
            killed = _run(stack, name, arguments.rows, kills=KILLS)
        result[name] = {
            "rows_per_s": whole["rows_per_s"],
            "cpu_us_per_row": whole["cpu_us_per_row"],
        }
        result[name] |= {f"killed_{key}": killed[key] for key in ("lost", "doubled", "kills")}
        result[name] |= {"lost": whole["lost"], "doubled": whole["doubled"]}
        say(f"{name}: {result[name]}")
    client_rate = result["bulk"]["client_rows_per_s"]
    rows = [
        (
            name,
            result[name]["rows_per_s"],
            round(result[name]["rows_per_s"] / client_rate, 2),
            result[name]["cpu_us_per_row"],
            result[name]["killed_kills"],
            result[name]["killed_lost"],
            result[name]["killed_doubled"],
        )
        for name in SINKS
    ]
    rows += [
        ("bulk insert of the client, rows decoded before", client_rate, 1.0, None, None, None, None),
        ("INSERT … SELECT inside the engine", result["bulk"]["engine_rows_per_s"],
         round(result["bulk"]["engine_rows_per_s"] / client_rate, 2), None, None, None, None),
    ]  # fmt: skip
    columns = ("", "rows/s", "÷ bulk insert", "CPU µs/row", "kill -9", "rows lost", "rows doubled")
    notes = [
        f"{arguments.rows:,} rows of {result['bulk']['bytes_per_row']} bytes in two partitions into `reports` "
        "with its views; from the first visible block to the last.",
    ]
    record.finish(arguments, "sink", result, columns, rows, notes)


def _fill(stack: Stack, values: list[bytes]) -> None:
    producer = Producer(
        {**producer_config(stack.settings), "queue.buffering.max.messages": 1_000_000}
    )
    for number, value in enumerate(values):
        producer.produce("reports", value, partition=number % 2)
        if number % 10_000 == 0:
            producer.poll(0)
    producer.flush(120)


def _client(stack: Stack) -> Client:
    return clickhouse_connect.get_client(
        dsn=stack.settings.clickhouse_url,
        database=stack.settings.clickhouse_database,
        autogenerate_session_id=False,
    )


def _run(stack: Stack, name: str, rows: int, kills: int) -> dict[str, Any]:
    """Sink the topic, killed so many times on the way; what is in the table in the end."""
    client = _client(stack)

    def count() -> int:
        return int(client.query("SELECT count() FROM reports").result_rows[0][0])

    module, arguments = SINKS[name]
    done, chance = 0, random.Random(SEED)
    for number in range(kills):
        with process(stack, module, *arguments) as running:
            _until(running, lambda at=(number + 1) * rows // (kills + 2): count() > at)  # type: ignore[misc]  # mypy does not infer a default
            time.sleep(chance.uniform(0.0, KILL_WITHIN_S))
            if count() < rows:
                running.send_signal(signal.SIGKILL)
                running.wait()
                done += 1
    with process(stack, module, *arguments) as running:
        if not kills:
            _until(running, lambda: count() > 0)
        first, began = count(), time.monotonic()
        spent = _cpu(running)
        seen, last = first, began
        while seen < rows or time.monotonic() - last < QUIET_S:
            if time.monotonic() - began > LIMIT_S:
                break
            alive(running)
            if (now := count()) != seen:
                seen, last, cpu = now, time.monotonic(), _cpu(running)
            time.sleep(0.05)
    exact = "SELECT count(), uniqExact(_partition, _offset) FROM reports"
    total, distinct = client.query(exact).result_rows[0]
    result: dict[str, Any] = {"lost": rows - distinct, "doubled": total - distinct, "kills": done}
    if not kills:
        moved = rows - first
        result["rows_per_s"] = round(moved / (last - began)) if moved else None
        result["cpu_us_per_row"] = round((cpu - spent) / moved * 1e6, 2) if moved else None
    return result


def _cpu(running: Process) -> float:
    user, system = psutil.Process(running.pid).cpu_times()[:2]
    return float(user + system)


def _until(running: Process, seen: Callable[[], bool]) -> None:
    end = time.monotonic() + LIMIT_S
    while not seen():
        alive(running)
        if time.monotonic() > end:
            raise RuntimeError(f"{running.module}: nothing new within {LIMIT_S:.0f} s")
        time.sleep(0.005)


def bulk(stack: Stack, values: list[bytes]) -> dict[str, Any]:
    """The same rows inserted directly: by the client out of decoded blocks, and inside the engine."""
    client, codec, direct = _client(stack), default_codec(stack.settings), Tables(stack.settings)
    reader = ColumnReader(codec)
    client.command("TRUNCATE TABLE reports")
    rows = len(values)
    decode_s = insert_s = 0.0
    for start in range(0, rows, BLOCK):
        records = (
            Record(start + index, len(value), Body(value))
            for index, value in enumerate(values[start : start + BLOCK])
        )
        block = Block("direct", 0, tuple(records))
        t0 = time.perf_counter()
        decoded = decode(codec, reader, "Report", block)
        t1 = time.perf_counter()
        direct.insert("reports", block, decoded)
        decode_s += t1 - t0
        insert_s += time.perf_counter() - t1
    client.command("CREATE TABLE bench_copy ENGINE = Memory AS SELECT * FROM reports")
    client.command("TRUNCATE TABLE reports")
    t0 = time.perf_counter()
    client.command(
        "INSERT INTO reports SELECT * FROM bench_copy",
        settings={"max_insert_threads": 1, "insert_deduplication_token": uuid.uuid4().hex},
    )
    engine_s = time.perf_counter() - t0
    client.command("DROP TABLE bench_copy")
    return {
        "bytes_per_row": sum(map(len, values)) // rows,
        "client_rows_per_s": round(rows / insert_s),
        "decode_rows_per_s": round(rows / decode_s),
        "engine_rows_per_s": round(rows / engine_s),
    }


if __name__ == "__main__":
    main()
