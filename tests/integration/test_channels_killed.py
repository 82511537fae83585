"""Each channel's connector is killed in the middle of 5,000 reports: none is lost, none is counted twice.

The senders know nothing of the pipeline: a database that fills, files that are dropped, a device that
publishes, an application that repeats its request until it hears 202.
"""

import contextlib
import csv
import json
import os
import random
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import clickhouse_connect
import httpx
import openpyxl
import paho.mqtt.client as mqtt
import pytest
from clickhouse_connect.driver.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from connectors.signature import sign
from schemas.channels import load_channel
from tests.conftest import eventually
from tests.faults.harness import Stack, free_base_port

pytestmark = [pytest.mark.integration, pytest.mark.long, pytest.mark.timeout(900)]

REPORTS = 5_000
CHUNK = 100
#: The connector is killed when so many of its reports have an outcome.
KILLED_AT = (500, 2_500)
LIMIT_S = 180.0
TIME = "2026-03-01T08:15:00+08:00"

Natives = Sequence[dict[str, Any]]
Send = Callable[[Natives, int], None]


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A running stack of its own, for the channels one after another."""
    home = tmp_path_factory.mktemp("killed")
    with Stack(home, free_base_port(random.Random())).running() as stack:
        yield stack


@pytest.fixture(scope="module")
def client(city: Stack) -> Iterator[Client]:
    """Asks the tables."""
    made = clickhouse_connect.get_client(
        host="127.0.0.1", port=city.port + 1, database="quanyu", autogenerate_session_id=False
    )
    yield made
    made.close()


# --- what each channel sends, by number


def hotline(n: int) -> dict[str, Any]:
    return {"order_num": f"K{n}", "call_time": TIME, "updated_at": f"2026-03-01 08:15:{n / 100:09.6f}",
            "title": "路灯不亮", "main_content": "市民反映路灯不亮", "district": "金水区"}  # fmt: skip


def management(n: int) -> dict[str, Any]:
    return {"task_num": f"K{n}", "create_time": TIME, "update_time": f"2026-03-01 08:15:{n / 100:09.6f}",
            "sub_type_code": "0102", "sub_type_name": "暴露垃圾", "district_name": "金水区"}  # fmt: skip


def letter(n: int) -> dict[str, Any]:
    return {
        "message_id": f"K{n}",
        "sent_at": TIME,
        "title": "路灯不亮",
        "content": "金水区的路灯不亮",
    }


def target(n: int) -> dict[str, Any]:
    x, y = 113.66 + n * 1e-5, 34.78
    ring = [[x, y], [x + 1e-4, y], [x + 1e-4, y + 1e-4], [x, y]]
    return {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [ring]},
            "properties": {"flight_id": "K", "frame": 1, "target_no": n, "frame_time": TIME,
                           "ai_class": "waste"}}  # fmt: skip


def sensor(n: int) -> dict[str, Any]:
    return {"device_id": "K", "seq": n, "ts": TIME, "metric": "ponding", "value": 12, "unit": "cm",
            "station": "下穿", "state": "alarm", "lng": 113.661234, "lat": 34.781234}  # fmt: skip


def camera(n: int) -> dict[str, Any]:
    return {"device_id": "K", "alarm_id": str(n), "ts": TIME, "minor_type": "FIRE_LANE_BLOCKED",
            "minor_type_name": "消防通道占压", "lng": 113.661234, "lat": 34.781234, "crs": "WGS84"}  # fmt: skip


def police(n: int) -> dict[str, Any]:
    return {"alarm_no": f"K{n}", "alarm_time": TIME, "alarm_kind": "噪音", "content": "商业噪音扰民",
            "district": "金水区", "caller_phone": "13800000000"}  # fmt: skip


def photo(n: int) -> dict[str, Any]:
    return {"id": f"K{n}", "shot_at": TIME, "title": "暴露垃圾", "district": "金水区",
            "photos": [{"sha256": f"{n:064x}"}]}  # fmt: skip


def patrol(n: int) -> dict[str, Any]:
    return {"task_id": f"K{n}", "found_at": TIME, "title": "暴露垃圾", "class_code": "0102",
            "lng": 113.661234, "lat": 34.781234, "self_handled": n % 2 == 0}  # fmt: skip


def window(n: int) -> dict[str, Any]:
    return {
        "accept_no": f"K{n}",
        "submitted_at": TIME,
        "subject": "路灯不亮",
        "content": "路灯不亮",
        "district": "金水区",
    }


# --- how each transport takes it


def rows_into(city: Stack, channel: str, table: str) -> Send:
    """The other system's own writes, a transaction each."""
    address = json.loads((city.home / "sources.json").read_text(encoding="utf-8"))[channel]["sql"]
    path = Path(address.removeprefix("sqlite:///"))
    path.parent.mkdir(parents=True, exist_ok=True)

    def send(natives: Natives, _: int) -> None:
        columns = list(natives[0])
        with sqlite3.connect(path, timeout=60) as database:
            database.execute("PRAGMA journal_mode = WAL")
            database.execute(
                f"CREATE TABLE IF NOT EXISTS {table} ({', '.join(f'{c} TEXT' for c in columns)})"
            )
            marks = ",".join("?" * len(columns))
            database.executemany(
                f"INSERT INTO {table} VALUES ({marks})", [tuple(n.values()) for n in natives]
            )
        database.close()

    return send


def files_into(city: Stack, channel: str) -> Send:
    """Whole files under their own names: written beside, then renamed."""
    folder = city.home / "drop" / channel

    def send(natives: Natives, number: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        draft = folder / f"{number}.part"
        if channel == "uav":
            draft.write_text(
                json.dumps({"type": "FeatureCollection", "features": list(natives)}),
                encoding="utf-8",
            )
            draft.rename(folder / f"{number}.geojson")
        elif number % 2:
            book = openpyxl.Workbook(write_only=True)
            sheet = book.create_sheet()
            for cells in ([*natives[0]], *([*native.values()] for native in natives)):
                sheet.append(cells)
            book.save(draft)
            draft.rename(folder / f"{number}.xlsx")
        else:
            with draft.open("w", encoding="utf-8", newline="") as out:
                writer = csv.DictWriter(out, list(natives[0]))
                writer.writeheader()
                writer.writerows(natives)
            draft.rename(folder / f"{number}.csv")

    return send


def published(city: Stack) -> Send:
    """A gateway of devices: it believes nothing but the broker's acknowledgement."""
    client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="devices", clean_session=False)
    client.connect("127.0.0.1", city.port + 8)
    client.loop_start()

    def send(natives: Natives, _: int) -> None:
        sent = [client.publish("city/iot/K/alarm", json.dumps(n), qos=1) for n in natives]
        for message in sent:
            message.wait_for_publish(60)
            assert message.is_published()

    return send


def pushed(city: Stack, channel: str) -> Send:
    """An application that sends the same again until it hears 202."""
    key = json.loads((city.home / "keys.json").read_text(encoding="utf-8"))[channel]
    http = load_channel(channel).transports.http
    assert http is not None
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    client = httpx.Client(base_url=city.url, timeout=15, trust_env=False)

    def post(body: bytes, headers: dict[str, str]) -> None:
        end = time.monotonic() + LIMIT_S
        while True:
            proof = sign(key, int(time.time()), body) if http.signed else {"X-API-Key": key}
            answer = None
            with contextlib.suppress(httpx.HTTPError):
                answer = client.post(
                    f"/channels/{channel}/reports", content=body, headers={**headers, **proof}
                )
            if answer is not None and answer.status_code == 202:
                return
            if answer is not None and answer.status_code not in (401, 429, 503):
                raise AssertionError(answer.text)
            assert time.monotonic() < end, "not confirmed in time"
            time.sleep(0.2)

    def send(natives: Natives, number: int) -> None:
        if http.form and number % 5 == 0:  # people fill in one form at a time
            for native in natives:
                post(urlencode(native).encode(), form)
        else:
            post(json.dumps(natives).encode(), {"Content-Type": "application/json"})

    return send


#: Channel → part that carries it, its messages, its way.
CHANNELS: dict[str, tuple[str, Callable[[int], dict[str, Any]], Callable[[Stack], Send]]] = {
    "hotline12345": ("connectors", hotline, lambda city: rows_into(city, "hotline12345", "work_orders")),
    "city_management": ("connectors", management, lambda city: rows_into(city, "city_management", "cases")),
    "mailbox": ("connectors", letter, lambda city: files_into(city, "mailbox")),
    "uav": ("connectors", target, lambda city: files_into(city, "uav")),
    "iot": ("connectors", sensor, published),
    "video_ai": ("screen", camera, lambda city: pushed(city, "video_ai")),
    "police110": ("screen", police, lambda city: pushed(city, "police110")),
    "photo_app": ("screen", photo, lambda city: pushed(city, "photo_app")),
    "grid_patrol": ("screen", patrol, lambda city: pushed(city, "grid_patrol")),
    "online_window": ("screen", window, lambda city: pushed(city, "online_window")),
}  # fmt: skip


class Sender(threading.Thread):
    """Sends all reports, a chunk at a time; what it could not do is in ``error``."""

    def __init__(self, send: Send, native: Callable[[int], dict[str, Any]]) -> None:
        super().__init__(daemon=True)
        self._send_chunk, self._native = send, native
        self.sent = 0
        self.go_on = threading.Event()
        self.error: BaseException | None = None

    def run(self) -> None:
        """Thread body: waits in the middle until a kill was seen, so that every machine sees one."""
        try:
            for start in range(0, REPORTS, CHUNK):
                if start == REPORTS - 10 * CHUNK:
                    assert self.go_on.wait(LIMIT_S)
                natives = [self._native(n) for n in range(start, start + CHUNK)]
                self._send_chunk(natives, start // CHUNK)
                self.sent = start + CHUNK
        except BaseException as error:
            self.error = error


@pytest.mark.parametrize("channel", CHANNELS)
def test_a_connector_killed_in_the_middle_loses_nothing_and_doubles_nothing(
    city: Stack, client: Client, channel: str
) -> None:
    part, native, way = CHANNELS[channel]

    def outcomes() -> int:
        found = client.query(
            "SELECT uniqExact(native_id) FROM report_outcomes WHERE channel = {c:String}",
            parameters={"c": channel},
        ).result_rows
        return int(found[0][0])

    sender = Sender(way(city), native)
    sender.start()
    for at in KILLED_AT:
        eventually(lambda at=at: sender.error or outcomes() >= at, LIMIT_S)  # type: ignore[misc]
        assert sender.error is None, sender.error
        pid = city.parts()[part]["pid"]
        os.kill(pid, signal.SIGKILL)
        eventually(lambda pid=pid: city.parts()[part]["pid"] not in (None, pid), LIMIT_S)  # type: ignore[misc]
    sender.go_on.set()
    sender.join(LIMIT_S)
    assert sender.error is None, sender.error
    assert sender.sent == REPORTS
    eventually(lambda: outcomes() >= REPORTS, LIMIT_S)
    rows = client.query(
        "SELECT native_id, countIf(outcome != 'duplicate') AS counted FROM report_outcomes "
        "WHERE channel = {c:String} GROUP BY native_id",
        parameters={"c": channel},
    ).result_rows
    assert len(rows) == REPORTS
    assert [row for row in rows if row[1] != 1] == [], "each report counts once"


def test_after_all_of_that_everything_adds_up(city: Stack) -> None:
    report = city.json("audit", "--timeout", "180", timeout=300)
    assert report["clean"], report
    counted = {entry["channel"]: entry["outcomes"] for entry in report["channels"]}
    for channel in CHANNELS:
        outcomes = counted.get(channel)
        if outcomes:  # a channel whose test did not run has none
            assert sum(n for kind, n in outcomes.items() if kind != "duplicate") == REPORTS
