"""Rows per second of the sink, held against the engine's own bulk insert of the same rows."""

import threading
import time
import uuid
from typing import Any

import clickhouse_connect
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from connectors.sink.machine import Block, Record
from connectors.sink.runner import Route, Sink
from connectors.sink.table import Tables, decode
from schemas import tables
from schemas.codec import default_codec
from schemas.kafka import admin_config, producer_config
from schemas.settings import Settings

TEXT = "中原路与桐柏路交叉口东北角人行道地砖破损，雨后积水，行人通行不便，请尽快处理。"
BLOCK = 50_000


class _Body:
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


def run(settings: Settings, rows: int = 200_000) -> dict[str, Any]:
    """Fill a topic, sink it, insert the same rows directly; figures in rows per second.

    Uses a database and a topic of its own on the given broker and engine and removes them.
    """
    name = f"bench_{uuid.uuid4().hex[:8]}"
    own = settings.model_copy(update={"clickhouse_database": name})
    tables.apply(own)
    admin = AdminClient(admin_config(own))
    admin.create_topics([NewTopic(name, 2, 1)])[name].result(30)
    client = clickhouse_connect.get_client(dsn=own.clickhouse_url, autogenerate_session_id=False)
    codec = default_codec(own)
    try:
        encode = codec.encoder("Report")
        values = [encode(report(number)) for number in range(rows)]
        producer = Producer({**producer_config(own), "queue.buffering.max.messages": 1_000_000})
        for number, value in enumerate(values):
            producer.produce(name, value, partition=number % 2)
            if number % 10_000 == 0:
                producer.poll(0)
        producer.flush(120)

        def count() -> int:
            return int(client.query(f"SELECT count() FROM {name}.reports").result_rows[0][0])

        sink = Sink(own, [Route(name, "Report", "reports", name + ".dlq")], group=name)
        thread = threading.Thread(target=sink.run)
        thread.start()
        try:
            while not count():
                time.sleep(0.01)
            # From the first visible block on: joining the group is not the sink's speed.
            seen, begun = count(), time.perf_counter()
            end = begun + 300
            while (now_there := count()) < rows and time.perf_counter() < end:
                time.sleep(0.2)
            seconds = time.perf_counter() - begun
        finally:
            sink.stop()
            thread.join(30)
        exact = client.query(
            f"SELECT count() = uniqExact(report_id) FROM {name}.reports"
        ).result_rows[0][0]

        direct = Tables(own)
        client.command(f"TRUNCATE TABLE {name}.reports")
        decode_s = insert_s = 0.0
        for start in range(0, rows, BLOCK):
            block = Block(
                "direct",
                0,
                tuple(
                    Record(start + index, len(value), _Body(value))
                    for index, value in enumerate(values[start : start + BLOCK])
                ),
            )
            t0 = time.perf_counter()
            decoded = decode(codec, "Report", block)
            t1 = time.perf_counter()
            direct.insert("reports", block, decoded)
            decode_s += t1 - t0
            insert_s += time.perf_counter() - t1
        return {
            "rows": rows,
            "bytes_per_row": sum(map(len, values)) // rows,
            "exact": bool(exact) and now_there == rows,
            "sink_rows_per_s": round((rows - seen) / seconds) if rows > seen else None,
            "bulk_insert_rows_per_s": round(rows / insert_s),
            "decode_rows_per_s": round(rows / decode_s),
        }
    finally:
        admin.delete_topics([name])[name].result(30)
        client.command(f"DROP DATABASE {name}")
