"""Reports a second from a full source into Kafka with the broker's confirmation, one connector process.

Each source is filled before the clock starts, except that of MQTT, whose broker hands over while a publisher
beside it still fills; and HTTP, where one sender waits for each answer before it sends the next fifty.
"""

import asyncio
import csv
import json
import sqlite3
import time
from pathlib import Path
from typing import Any

import aiomqtt
import httpx

from deploy.local.parts import http_ok
from tests.bench.rig import metric_sums, process, storage, wait_answers
from tests.conftest import Stack, eventually

HTTP_BATCH = 50
#: Messages that the gateway of devices has under way at once.
IN_FLIGHT = 500
LIMIT_S = 180.0
COLUMNS = (
    *("order_num", "call_time", "updated_at", "title", "main_content", "address", "district"),
    *("lng", "lat", "crs", "caller_phone"),
)


def run(reports: int = 100_000) -> dict[str, int]:
    """Transport → reports/s."""
    return {
        "sql": _fetched("hotline12345", "sql", reports, _database),
        "file": _fetched("hotline12345", "file", reports, _folder),
        "mqtt": _mqtt(reports // 4),
        "http": _http(reports // 4),
    }


def row(number: int) -> tuple[str, ...]:
    """One call as the call centre keeps it."""
    return (
        f"B{number:08d}",
        "2026-03-01 08:15:00",
        f"2026-03-01 {8 + number // 36000:02d}:{number // 600 % 60:02d}:{number // 10 % 60:02d}.{number % 10}",
        "花园路暴露垃圾无人清理",
        "市民反映：金水区花园路附近暴露垃圾已经好几天了，没人管，请尽快处理。",
        "金水区花园路88号",
        "金水区",
        "113.6612345",
        "34.7812345",
        "GCJ02",
        f"138{number:08d}",
    )


def _database(home: Path, reports: int) -> str:
    path = home / "hotline.db"
    with sqlite3.connect(path) as database:
        database.execute(f"CREATE TABLE work_orders ({', '.join(f'{c} TEXT' for c in COLUMNS)})")
        database.execute("CREATE INDEX by_watermark ON work_orders (updated_at, order_num)")
        marks = ",".join("?" * len(COLUMNS))
        database.executemany(f"INSERT INTO work_orders VALUES ({marks})", map(row, range(reports)))
    return f"sqlite:///{path}"


def _folder(home: Path, reports: int) -> str:
    folder = home / "drop"
    folder.mkdir()
    with (folder / "calls.csv").open("w", encoding="utf-8", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(COLUMNS)
        writer.writerows(map(row, range(reports)))
    return str(folder)


def _fetched(channel: str, transport: str, reports: int, fill: Any) -> int:
    """Fill the source, start the connector, wait for its count."""
    with storage(clickhouse=False) as stack:
        home = stack.settings.home
        sources = {channel: {transport: fill(home, reports)}}
        stack.settings.sources_path.write_text(json.dumps(sources), encoding="utf-8")
        with process(stack, "connectors") as connectors:
            port = stack.settings.metrics_port("connectors")
            wait_answers(port, connectors)
            return _rate(port, channel, reports)


def _rate(port: int, channel: str, reports: int) -> int:
    """Reports/s between the first sight of any and that of all."""
    first: tuple[float, float] | None = None
    end = time.monotonic() + LIMIT_S
    while time.monotonic() < end:
        done = metric_sums(port, "quanyu_channel_reports_total", "channel").get((channel,), 0.0)
        now = time.monotonic()
        if done and first is None:
            first = done, now
        if first is not None and done >= reports:
            return round((done - first[0]) / max(now - first[1], 1e-3))
        time.sleep(0.05)
    raise RuntimeError(f"{channel}: not {reports} reports within {LIMIT_S:.0f} s")


def _mqtt(reports: int) -> int:
    with storage(clickhouse=False) as stack:
        settings = stack.settings
        address = f"mqtt://127.0.0.1:{settings.mqtt_port}"
        settings.sources_path.write_text(json.dumps({"iot": {"mqtt": address}}), encoding="utf-8")
        port = settings.metrics_port("connectors")
        with process(stack, "deploy.local.mqtt"):
            with process(stack, "connectors") as connectors:
                wait_answers(port, connectors)
                up = "quanyu_connector_up"
                eventually(lambda: metric_sums(port, up, "channel").get(("iot",)) == 1.0, 60)
            # The broker keeps them for the session: the devices take no time from what is measured.
            asyncio.run(_publish_alarms(stack, reports))
            with process(stack, "connectors") as connectors:
                wait_answers(port, connectors)
                return _rate(port, "iot", reports)


async def _publish_alarms(stack: Stack, reports: int) -> None:
    """Hand over with QoS 1, many in flight."""
    async with aiomqtt.Client("127.0.0.1", stack.settings.mqtt_port) as client:
        client.pending_calls_threshold = (
            IN_FLIGHT  # above it each call is a warning on the terminal
        )
        for start in range(0, reports, IN_FLIGHT):
            alarms = [
                client.publish(
                    f"city/iot/B{number % 1000:04d}/alarm",
                    json.dumps({"device_id": f"B{number % 1000:04d}", "seq": number,
                                "ts": "2026-03-01T08:15:00+08:00", "metric": "ponding", "value": 12,
                                "unit": "cm", "station": "农业路下穿", "state": "alarm",
                                "lng": 113.6612345, "lat": 34.7812345}),
                    qos=1,
                )
                for number in range(start, min(reports, start + IN_FLIGHT))
            ]  # fmt: skip
            await asyncio.gather(*alarms)


def _http(reports: int) -> int:
    with storage(clickhouse=False) as stack:
        settings = stack.settings
        settings.keys_path.write_text(json.dumps({"photo_app": "k" * 32}), encoding="utf-8")
        with process(stack, "deploy.gateway"):
            eventually(lambda: http_ok(settings.screen_port, "/healthz"), 60)
            url = f"http://127.0.0.1:{settings.screen_port}/channels/photo_app/reports"
            with httpx.Client(
                headers={"X-API-Key": "k" * 32}, timeout=60, trust_env=False
            ) as client:
                started = time.monotonic()
                for start in range(0, reports, HTTP_BATCH):
                    answer = client.post(url, json=[_photo(start + i) for i in range(HTTP_BATCH)])
                    answer.raise_for_status()
                return round(reports / (time.monotonic() - started))


def _photo(number: int) -> dict[str, Any]:
    return {
        "id": f"B{number}",
        "title": "花园路暴露垃圾",
        "description": "花园路附近暴露垃圾已经好几天了，没人管。",
        "shot_at": "2026-03-01T08:15:00+08:00",
        "location": {"lng": "113.6612345", "lat": "34.7812345", "crs": "GCJ02"},
        "user_id": f"u{number}",
        "photos": [{"url": "", "sha256": f"{number:064x}"}],
    }


if __name__ == "__main__":
    print(run())
