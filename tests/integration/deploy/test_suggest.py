"""Suggestions with a real engine behind them, and photos told by a stub of an OpenAI-compatible endpoint."""

import asyncio
import base64
import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

import clickhouse_connect
import pytest
from clickhouse_connect.driver.client import Client
from fastapi.testclient import TestClient
from pydantic import SecretStr

from connectors.publish import Publisher
from deploy.gateway import create_app
from deploy.open_events import OpenEvents
from deploy.suggest import nearest
from deploy.vision import ANSWER_LIMIT, CONCURRENT, Vision
from schemas import tables
from schemas.channels import channel_names
from schemas.queries import run
from schemas.settings import Settings

pytestmark = pytest.mark.integration

NOW = datetime.now(UTC).replace(microsecond=0)
NOW_MS = round(NOW.timestamp() * 1000)
#: A crossing in 金水区; a metre of longitude and of latitude there.
LON, LAT = 113.68712, 34.77321
EAST_M, NORTH_M = 1 / 91_430, 1 / 111_320
DISTRICT, ZONE = "410105", "core"
PHOTO = b"\x89PNG\r\n\x1a\n" + bytes(range(256))
KEY = "k" * 32


def event(number: int, **changed: Any) -> dict[str, Any]:
    """A row of events: an open matter of the crossing, an hour old."""
    at = NOW - timedelta(hours=1)
    return {
        "event_id": f"event-{number}", "version": 1, "status": "open", "class_code": "2101",
        "lon": LON + 20 * EAST_M, "lat": LAT, "district_code": DISTRICT, "grid_code": "410105019001007006",
        "zone": ZONE, "title": "井盖丢失", "address": "", "first_report_id": f"report-{number}",
        "first_channel": "photo_app", "report_count": 1, "occurred_at": at, "opened_at": at,
        "updated_at": at, "decided_at": at, "priority": 0, "_topic": "t", "_partition": 0,
        "_offset": number, **changed,
    }  # fmt: skip


def report(number: int, **changed: Any) -> dict[str, Any]:
    """The row of reports that opened :func:`event` of the same number."""
    whole = event(number, **changed)
    same = (
        "class_code",
        "lon",
        "lat",
        "district_code",
        "grid_code",
        "zone",
        "title",
        "address",
        "occurred_at",
    )
    return {
        **{name: whole[name] for name in (*same, "_topic", "_partition", "_offset")},
        "report_id": whole["first_report_id"], "channel": "photo_app", "received_at": whole["opened_at"],
        "text": f"路口井盖丢失,第{number}件", "media": ["http://photos/1", "sha256:" + "ab" * 32],
        "reporter_hash": "somebody",
    }  # fmt: skip


def insert(client: Client, table: str, *rows: dict[str, Any]) -> None:
    for row in rows:
        client.insert(table, [list(row.values())], column_names=list(row))


@pytest.fixture(scope="module")
def own(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """A database and a home of its own, with keys."""
    changed = settings.model_copy(
        update={
            "clickhouse_database": "test_suggest",
            "home": tmp_path_factory.mktemp("suggest"),
        }
    )
    changed.keys_path.write_text(json.dumps(dict.fromkeys(channel_names(), KEY)), encoding="utf-8")
    tables.apply(changed)
    yield changed
    with clickhouse_connect.get_client(dsn=changed.clickhouse_url) as client:
        client.command("DROP DATABASE test_suggest")


@pytest.fixture(scope="module")
def engine(own: Settings) -> Iterator[Client]:
    """Known events around the crossing."""
    with clickhouse_connect.get_client(
        dsn=own.clickhouse_url, database="test_suggest", autogenerate_session_id=False
    ) as client:
        old = NOW - timedelta(hours=200)
        far = {"lat": LAT + 3000 * NORTH_M}
        nowhere = {"lon": None, "lat": None}
        street, other = {"grid_code": "410105019"}, {"grid_code": "410105001"}
        known: list[dict[str, Any]] = [
            {},  # 0: there
            {"class_code": "0102"},  # 1: another class
            {"zone": "410181"},  # 2: another zone
            far,  # 3
            {"opened_at": old, "occurred_at": old},  # 4
            {**nowhere, **street},  # 5: by name, in the street
            {**nowhere, **other},  # 6: by name, in another street
            {"lon": LON + 60 * EAST_M},  # 7: closes below
        ]
        for number, changed in enumerate(known):
            insert(client, "events", event(number, **changed))
            insert(client, "reports", report(number, **changed))
        insert(client, "events", event(0, version=2, report_count=3))
        insert(client, "events", event(7, lon=LON + 60 * EAST_M, version=2, status="closed"))
        insert(client, "events", event(8, lon=LON + 40 * EAST_M))  # its report is on its way
        yield client


BOX = {
    "west": round((LON - 500 * EAST_M) * 1e6),
    "east": round((LON + 500 * EAST_M) * 1e6),
    "south": round((LAT - 500 * NORTH_M) * 1e6),
    "north": round((LAT + 500 * NORTH_M) * 1e6),
}


def nearby(engine: Client, **changed: Any) -> dict[str, Mapping[str, Any]]:
    since = NOW_MS - 72 * 3_600_000
    given: dict[str, Any] = {
        "since": since,
        "until": NOW_MS,
        "zone": ZONE,
        "class_codes": "2101",
        **BOX,
    }
    given |= {"grid": "410105019", **changed}
    return {row["event_id"]: row for row in nearest(run(engine, "events_nearby", **given), given)}


def test_open_events_of_box_street_class_zone_and_time_are_found(engine: Client) -> None:
    found = nearby(engine)
    assert set(found) == {"event-0", "event-5", "event-8"}
    assert found["event-0"]["report_count"] == 3
    assert set(nearby(engine, class_codes="2101,0102")) == {*found, "event-1"}
    assert set(nearby(engine, since=NOW_MS - 300 * 3_600_000)) == {*found, "event-4"}
    assert nearby(engine, until=NOW_MS - 7_200_000) == {}
    assert set(nearby(engine, grid="")) == {"event-0", "event-8"}
    assert list(nearby(engine)) == ["event-0", "event-8", "event-5"], "the nearest first"


def test_without_a_box_all_that_lies_in_the_street_is_found(engine: Client) -> None:
    boxless = dict.fromkeys(BOX, 0)
    assert set(nearby(engine, **boxless)) == {"event-0", "event-3", "event-5", "event-8"}
    assert nearby(engine, **boxless, grid="") == {}


@pytest.mark.parametrize("box", [BOX, dict.fromkeys(BOX, 0)])
@pytest.mark.parametrize("grid", ["410105019", "410105", ""])
@pytest.mark.parametrize("hours", [0, 72, 150])
def test_from_memory_comes_what_the_query_would_tell(
    engine: Client, box: dict[str, str | int], grid: str, hours: int
) -> None:
    def changed(**asked: int) -> list[dict[str, Any]]:
        return run(engine, "events_changed", **asked)

    events = OpenEvents(changed)
    events.refresh(NOW_MS)
    given = {
        "since": NOW_MS - hours * 3_600_000,
        "until": NOW_MS,
        "zone": ZONE,
        "grid": grid,
        **box,
    }
    for class_codes in ("2101", "2101,0102", ""):
        asked: dict[str, str | int] = {**given, "class_codes": class_codes}
        told = {
            row["event_id"]: row for row in nearest(run(engine, "events_nearby", **asked), asked)
        }
        kept = {row["event_id"]: row for row in nearest(events.near(asked), asked)}
        assert events.covers(asked)
        assert kept.keys() == told.keys()
        assert all(kept[event].items() >= row.items() for event, row in told.items())


def test_opening_reports_are_told_without_who_reported(engine: Client) -> None:
    rows = run(engine, "opening_reports", ids="report-0,report-7,report-8,' OR 1=1 --")
    assert {row["report_id"]: row["text"] for row in rows} == {
        f"report-{n}": f"路口井盖丢失,第{n}件" for n in (0, 7)
    }
    assert "somebody" not in json.dumps(rows)


@pytest.mark.parametrize("name", ["since", "until", "west", "north"])
@pytest.mark.parametrize("value", [-(2**63), 2**63 - 1])
def test_numbers_beyond_all_bounds_are_answered(engine: Client, name: str, value: int) -> None:
    nearby(engine, **{name: value})


@contextmanager
def gateway(settings: Settings) -> Iterator[TestClient]:
    """A gateway of these settings, asked with a channel's key."""

    class Nobody:
        def close(self, limit_s: float = 1.0) -> None:
            """Nothing to wait for."""

    with TestClient(create_app(settings, cast(Publisher, Nobody()))) as client:
        client.headers["X-API-Key"] = KEY
        yield client


BODY = {"text": "昨晚路口井盖丢失", "lon": LON, "lat": LAT, "crs": "CGCS2000"}


def test_a_known_event_is_told_with_the_words_for_why(engine: Client, own: Settings) -> None:
    with gateway(own) as client:
        found = client.post("/suggest", json=BODY).json()
    assert found["events_state"] == "known"
    assert [c["code"] for c in found["classes"]] == ["2101"]
    assert [g["level"] for g in found["grids"]] == [
        "district",
        "street",
        "community",
        "compound",
        "micro",
    ]
    first = found["events"][0]
    assert (first["event_id"], first["same"]) == ("event-0", True)
    assert first["distance_m"] == pytest.approx(20.0, abs=1)
    assert first["age_s"] >= 3600
    assert "20 m" in first["why"]
    assert found["missing"] == []


# ---- photos


@dataclass
class Stub:
    """A stub of ``POST /v1/chat/completions``: what it answers, and what it was asked."""

    port: int = 0
    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    held: threading.Event = field(default_factory=threading.Event)
    asked: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)

    def says(self, words: Any) -> None:
        """Answer with these words, as the protocol has them."""
        answer = {"choices": [{"index": 0, "message": {"role": "assistant", "content": words}}]}
        self.body = json.dumps(answer).encode()


@pytest.fixture
def stub() -> Iterator[Stub]:
    """The endpoint on 127.0.0.1; held until ``held`` is set."""
    told = Stub()
    told.held.set()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            told.asked.append((self.path, self.headers["Authorization"], question))
            told.held.wait(30)
            with suppress(OSError):  # who asked may have gone
                self.send_response(told.status)
                for name, value in told.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(told.body)

        def log_message(self, format: str, *args: Any) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    told.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield told
    told.held.set()
    server.shutdown()
    server.server_close()


def seeing(stub: Stub, home: Path, **changed: Any) -> Settings:
    return Settings(
        home=home,
        **{
            "vision_url": f"http://127.0.0.1:{stub.port}/v1",
            "vision_model": "sees",
            "vision_key": SecretStr("a secret"),
            "vision_timeout_s": 20.0,
            **changed,
        },
    )


def describe(settings: Settings) -> tuple[str, str, str]:
    return asyncio.run(Vision(settings, "请描述").describe(PHOTO))


def test_a_photo_is_sent_as_data_url_and_its_words_come_back_masked(
    stub: Stub, tmp_path: Path
) -> None:
    stub.says("井盖丢失,旁边的车豫A12345,电话 13800138000。")
    state, reason, text = describe(seeing(stub, tmp_path))
    assert (state, reason) == ("described", "")
    assert text.startswith("井盖丢失")
    assert "13800138000" not in text
    assert "豫A12345" not in text
    ((path, authorization, question),) = stub.asked
    assert (path, authorization) == ("/v1/chat/completions", "Bearer a secret")
    (message,) = question["messages"]
    text_part, image_part = message["content"]
    assert (question["model"], message["role"], text_part["text"]) == ("sees", "user", "请描述")
    head, _, data = image_part["image_url"]["url"].partition(",")
    assert (image_part["type"], head) == ("image_url", "data:image/png;base64")
    assert base64.b64decode(data) == PHOTO


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (500, b"", "http_500"),
        (401, b"bad key", "http_401"),
        (429, b"", "http_429"),
        (200, b"", "answer_not_understood"),
        (200, b"<html>", "answer_not_understood"),
        (200, b"[" * 90_000, "answer_not_understood"),
        (200, b'{"choices": []}', "answer_not_understood"),
        (200, b'{"choices": [{"message": {"content": null}}]}', "answer_not_understood"),
        (200, b'{"choices": [{"message": {"content": " "}}]}', "no_words"),
        (200, b"x" * (ANSWER_LIMIT + 1), "answer_too_long"),
    ],
)
def test_whatever_the_endpoint_answers_is_a_reason_and_no_error(
    stub: Stub, tmp_path: Path, status: int, body: bytes, reason: str
) -> None:
    stub.status, stub.body = status, body
    assert describe(seeing(stub, tmp_path)) == ("unavailable", reason, "")


def test_a_photo_goes_nowhere_but_where_the_settings_say(stub: Stub, tmp_path: Path) -> None:
    stub.status, stub.headers = 307, {"Location": f"http://127.0.0.1:{stub.port}/elsewhere"}
    assert describe(seeing(stub, tmp_path)) == ("unavailable", "http_307", "")
    assert [path for path, _, _ in stub.asked] == ["/v1/chat/completions"]


def test_an_endpoint_that_is_not_there_or_no_address_is_a_reason(
    stub: Stub, tmp_path: Path
) -> None:
    for url in ("http://127.0.0.1:1/v1", "http://no-such-host.invalid/v1", "http://[/v1"):
        state, reason, _ = describe(seeing(stub, tmp_path, vision_url=url))
        assert (state, reason) == ("unavailable", "no_connection"), url


def test_a_slow_endpoint_is_not_waited_for(stub: Stub, tmp_path: Path) -> None:
    stub.held.clear()
    began = time.monotonic()
    assert describe(seeing(stub, tmp_path, vision_timeout_s=0.3)) == ("unavailable", "timeout", "")
    assert time.monotonic() - began < 10


def test_more_photos_than_the_endpoint_bears_are_told_busy(stub: Stub, tmp_path: Path) -> None:
    stub.held.clear()
    stub.says("井盖丢失")

    async def crowd() -> list[tuple[str, str, str]]:
        vision = Vision(seeing(stub, tmp_path), "请描述")
        first = [asyncio.create_task(vision.describe(PHOTO)) for _ in range(CONCURRENT)]
        await asyncio.sleep(0)  # each has begun
        more = await vision.describe(PHOTO)
        stub.held.set()
        return [more, *await asyncio.gather(*first), await vision.describe(PHOTO)]

    more, *others = asyncio.run(crowd())
    assert more == ("unavailable", "busy", "")
    assert {state for state, _, _ in others} == {"described"}


def test_a_photo_alone_is_classed_by_its_words(engine: Client, own: Settings, stub: Stub) -> None:
    stub.says("路面上的井盖丢失,没有围挡。")
    photo = base64.b64encode(PHOTO).decode()
    settings = own.model_copy(
        update={"vision_url": f"http://127.0.0.1:{stub.port}/v1", "vision_timeout_s": 20.0}
    )
    with gateway(settings) as client:
        found = client.post("/suggest", json={**BODY, "text": "", "photo": photo}).json()
        stub.status = 503
        failed = client.post("/suggest", json={**BODY, "photo": photo})
    assert (found["photo"], found["classes"][0]["code"]) == ("described", "2101")
    assert found["events"][0]["event_id"] == "event-0"
    assert failed.status_code == 200
    assert (failed.json()["photo"], failed.json()["photo_reason"]) == ("unavailable", "http_503")
    assert failed.json()["classes"][0]["code"] == "2101"
