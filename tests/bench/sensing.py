"""Raw sensing: how fast readings are inserted and rolled up, what they cost on disk, how soon they answer.

The plan for a city's devices (7 billion readings a year): readings are kept for days (TTL by partition), what
is asked later is kept as an hour of each device (least, most, sum, number), made at the insert. The
tables are the bench's own: no channel brings raw readings today, only the alarms that devices make of them.
"""

import argparse
import json
import time
from typing import Any

from clickhouse_connect.driver.client import Client
from rich.console import Console

from schemas.queries import connect
from tests.bench.machine import machine
from tests.bench.year import cpu_ms, engine, quantiles, timed

DEVICES, EVERY_S = 100_000, 450
BLOCK = 5_000_000
#: The last step of the bench keeps readings so long only, to see days dropped whole.
SHORT_DAYS = 2
TABLES = (
    """CREATE TABLE readings
    (
        at DateTime('UTC') CODEC(Delta(4), ZSTD(1)),
        device UInt32 CODEC(Delta(4), ZSTD(1)),
        value Float32 CODEC(ZSTD(1)),
        quality UInt8 CODEC(T64, ZSTD(1))
    )
    ENGINE = MergeTree PARTITION BY toYYYYMMDD(at) ORDER BY (toStartOfHour(at), device, at)
    TTL at + INTERVAL 7 DAY SETTINGS ttl_only_drop_parts = 1, non_replicated_deduplication_window = 10000""",
    """CREATE TABLE readings_hourly
    (
        since DateTime('UTC') CODEC(Delta(4), ZSTD(1)),
        device UInt32 CODEC(Delta(4), ZSTD(1)),
        least SimpleAggregateFunction(min, Float32) CODEC(ZSTD(1)),
        most SimpleAggregateFunction(max, Float32) CODEC(ZSTD(1)),
        total SimpleAggregateFunction(sum, Float64) CODEC(ZSTD(1)),
        n SimpleAggregateFunction(sum, UInt64) CODEC(T64, ZSTD(1))
    )
    ENGINE = AggregatingMergeTree PARTITION BY toYYYYMM(since) ORDER BY (device, since)
    SETTINGS non_replicated_deduplication_window = 10000""",
    """CREATE MATERIALIZED VIEW readings_hourly_view TO readings_hourly AS
    SELECT toStartOfHour(at) AS since, device, min(value) AS least, max(value) AS most,
        sum(toFloat64(value)) AS total, count() AS n
    FROM readings GROUP BY since, device""",
)
INSERT = """INSERT INTO readings
SELECT {since:UInt32} + intDiv(number, {devices:UInt32}) * {every:UInt32} + cityHash64(number % {devices:UInt32}) % {every:UInt32} AS at,
    number % {devices:UInt32} AS device,
    round(20 + 10 * sin((at % 86400) / 13751) + (cityHash64(number) % 100) / 50, 1) AS value, 0 AS quality
FROM numbers({first:UInt64}, {n:UInt64})"""  # noqa: E501 - a statement
QUESTIONS = {
    "one device, a day of readings": "SELECT at, value FROM readings WHERE device = 4711 "
    "AND at >= toDateTime({last:UInt32}) - 86400",
    "one device, all hours": "SELECT since, min(least), max(most), sum(total) / sum(n) FROM readings_hourly "
    "WHERE device = 4711 GROUP BY since ORDER BY since",
    "ten devices above 30 in the last hour": "SELECT device, max(most) AS top FROM readings_hourly WHERE "
    "since >= toDateTime({last:UInt32}) - 3600 GROUP BY device HAVING top > 30 ORDER BY top DESC LIMIT 10",
}  # fmt: skip


def _sizes(client: Client) -> dict[str, dict[str, int]]:
    found = client.query(
        "SELECT table, sum(rows) AS rows, sum(bytes_on_disk) AS bytes FROM system.parts "
        "WHERE active AND database = currentDatabase() AND startsWith(table, 'readings') GROUP BY table"
    )
    return {
        row["table"]: {"rows": row["rows"], "bytes": row["bytes"]} for row in found.named_results()
    }


def run(readings: int) -> dict[str, Any]:
    """Insert so many readings, oldest first; figures. The rollup is held against the readings, exactly."""
    with (
        engine(None) as (settings, pid),
        connect(
            settings.model_copy(update={"clickhouse_database": "default"}),
            connect_s=5, answer_s=3600, at_once=2,
        ) as client,
    ):  # fmt: skip
        for statement in TABLES:
            client.command(statement)
        since = int(time.time()) - readings // DEVICES * EVERY_S
        given = {"since": since, "devices": DEVICES, "every": EVERY_S}
        started, before = time.monotonic(), cpu_ms(pid)
        for first in range(0, readings, BLOCK):
            block = {**given, "first": first, "n": min(BLOCK, readings - first)}
            client.command(INSERT, parameters=block, settings={"async_insert": 0})
        seconds, spent = time.monotonic() - started, cpu_ms(pid) - before
        exact = client.query(
            "SELECT (SELECT (count(), sum(toFloat64(value))) FROM readings) AS raw, "
            "(SELECT (sum(n), sum(total)) FROM readings_hourly) AS rolled"
        ).result_rows[0]
        sizes = _sizes(client)
        last = since + readings // DEVICES * EVERY_S
        answers = {}
        for name, sql in QUESTIONS.items():
            values = [timed(client.query, sql, parameters={"last": last})[0] for _ in range(20)]
            answers[name] = dict(zip(("p50_ms", "p99_ms"), quantiles(values), strict=True))
        shorter = f"ALTER TABLE readings MODIFY TTL at + INTERVAL {SHORT_DAYS} DAY"
        client.command(shorter, settings={"mutations_sync": 2})
        left = _sizes(client)
        (raw, raw_sum), (rolled, rolled_sum) = exact
        return {
            "machine": machine(), "readings": readings, "days": round(readings / DEVICES * EVERY_S / 86400, 1),
            "rows_per_s": round(readings / seconds), "cpu_us_per_reading": round(spent * 1000 / readings, 2),
            "rollup_is_exact": raw == rolled and abs(raw_sum - rolled_sum) <= 1e-9 * abs(raw_sum),
            "bytes_per_reading": round(sizes["readings"]["bytes"] / readings, 2),
            "rollup_rows": sizes["readings_hourly"]["rows"],
            "rollup_bytes_per_reading": round(sizes["readings_hourly"]["bytes"] / readings, 2),
            "questions": answers, "readings_after_ttl": left["readings"]["rows"],
            "rollup_rows_after_ttl": left["readings_hourly"]["rows"],
        }  # fmt: skip


def main() -> None:
    """One JSON object on stdout."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.sensing")
    parser.add_argument("--readings", type=int, default=100_000_000)
    result = run(parser.parse_args().readings)
    Console(stderr=True).print(result)
    print(json.dumps(result, ensure_ascii=False))


if __name__ == "__main__":
    main()
