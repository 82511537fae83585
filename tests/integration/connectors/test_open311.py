"""Open311 on a real broker and engine: what is posted is in Kafka, what is known is shown and pulled."""

import json
import random
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import clickhouse_connect
import pytest
import uvicorn
from clickhouse_connect.driver.client import Client
from fastapi import FastAPI
from fastapi.testclient import TestClient

from connectors.open311.facade import router
from connectors.open311.pull import open_source
from connectors.publish import Publisher
from connectors.replay import replay
from connectors.source import SourceError
from deploy.trail import steps_of
from schemas import tables
from schemas.channels import ChannelSpec, load_channel
from schemas.ids import event_id, report_id
from schemas.queries import run
from schemas.settings import Settings
from tests.conftest import Stack, eventually
from tests.integration.connectors.conftest import Log

pytestmark = pytest.mark.integration

NOW = datetime(2026, 3, 17, 2, 30, 12, tzinfo=UTC)
NOW_MS = round(NOW.timestamp() * 1000)
KEY = "the key"
FIXTURES = Path(__file__).resolve().parents[2] / "fixtures" / "open311"


def insert(client: Client, table: str, *rows: dict[str, Any]) -> None:
    """Rows of one shape; where they lie in Kafka is left out."""
    names = list(rows[0])
    client.insert(table, [[row[name] for name in names] for row in rows], column_names=names)


class Known:
    """A few matters in a database of their own, told by their ids."""

    def __init__(self, settings: Settings, home: Path) -> None:
        self.settings = settings.model_copy(
            update={
                "home": home, "clickhouse_database": "test_open311",
                "clickhouse": settings.clickhouse_url, "kafka": settings.bootstrap,
            }
        )  # fmt: skip
        home.mkdir(exist_ok=True)
        self.settings.keys_path.write_text(json.dumps({"open311": KEY}))
        tables.apply(self.settings)
        self.client = clickhouse_connect.get_client(
            dsn=settings.clickhouse_url, database="test_open311", autogenerate_session_id=False
        )
        self.first = self.report(
            "first", hours=5, channel="open311", text="路灯坏了，电话 13812345678"
        )
        self.second = self.report("second", hours=4, joined=self.first, text="王某家门口")
        self.closed = self.report("closed", hours=30, status="closed", code="2401")
        self.review = self.report("review", hours=3, outcome="review")
        self.fresh = self.report("fresh", hours=0, linked=False)
        self.old = self.report("old", hours=24 * 80)
        self.report("rejected", hours=1, outcome="rejected")

    def report(
        self, native: str, *, hours: float, outcome: str = "accepted", channel: str = "hotline12345",
        code: str = "0102", text: str = "", joined: str = "", status: str = "open",
        linked: bool = True,
    ) -> str:  # fmt: skip
        """A report and, unless it is in review, what came of it."""
        identity, at = report_id(channel, native, 0), NOW - timedelta(hours=hours)
        base = {"report_id": identity, "channel": channel, "received_at": at}
        decided = at + timedelta(seconds=1)
        outcomes = base | {
            "native_id": native, "outcome": outcome, "class_code": code, "district_code": "410105",
            "reason": "" if outcome == "accepted" else "no_location", "decided_at": decided,
        }  # fmt: skip
        # A repetition has the same id, and is no second request.
        repeated = outcomes | {"outcome": "duplicate", "reason": "exact_duplicate"}
        insert(self.client, "report_outcomes", outcomes, repeated)
        if outcome != "accepted":
            return identity
        insert(self.client, "reports", base | {
            "text": text, "address": "花园路 9 号", "lon": 113.6, "lat": 34.7, "class_code": code,
            "occurred_at": at, "media": ["https://photos.example/1.jpg"],
        })  # fmt: skip
        if not linked:
            return identity
        opened = joined or identity
        event = event_id(opened)
        insert(self.client, "event_links", base | {
            "link_id": identity, "event_id": event, "occurred_at": at, "decided_at": decided,
            "relation": "co_report" if joined else "opened",
        })  # fmt: skip
        if joined:
            return identity
        rows = [
            {"event_id": event, "version": v, "status": s, "first_report_id": opened,
             "opened_at": at, "occurred_at": at, "updated_at": at,
             "decided_at": decided + timedelta(hours=v)}
            for v, s in ((1, "open"), (2, status))
        ]  # fmt: skip
        insert(self.client, "events", *rows)
        for v, unit in ((1, "城管局"), (2, "金水区城管局")):
            insert(self.client, "orders", {
                "order_id": f"order-{native}", "version": v, "event_id": event, "unit_name": unit,
                "state": "DISPATCHED", "opened_at": at, "dispatched_at": decided,
                "due_at": at + timedelta(hours=4),
            })  # fmt: skip
        insert(self.client, "order_transitions", {
            "transition_id": f"step-{native}", "order_id": f"order-{native}", "event_id": event,
            "version": 1, "to_state": "DISPATCHED", "at": decided + timedelta(seconds=1),
        })  # fmt: skip
        return identity


@pytest.fixture(scope="module")
def known(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Known]:
    made = Known(settings, tmp_path_factory.mktemp("open311"))
    yield made
    made.client.command("DROP DATABASE test_open311")
    made.client.close()


class Nobody(Publisher):
    """A publisher that is never asked."""

    def __init__(self) -> None:
        pass


@pytest.fixture(scope="module")
def app(known: Known) -> FastAPI:
    made = FastAPI()
    made.include_router(router(known.settings, Nobody(), steps_of, lambda: NOW_MS))
    return made


Get = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def get(app: FastAPI) -> Get:
    """Requests by their filters."""
    client = TestClient(app)

    def ask(path: str = "requests.json", **params: Any) -> list[dict[str, Any]]:
        answer = client.get(f"/open311/v2/{path}", params=params)
        assert answer.status_code == 200, answer.text
        found: list[dict[str, Any]] = answer.json()
        return found

    return ask


def ids(requests: list[dict[str, Any]]) -> list[str]:
    return [request["service_request_id"] for request in requests]


def test_requests_are_the_reports_of_90_days_newest_first_each_once(known: Known, get: Get) -> None:
    newest_first = [
        known.fresh, known.review, known.second, known.first, known.closed, known.old,
    ]  # fmt: skip
    assert ids(get()) == newest_first
    assert ids(get(page_size=2)) + ids(get(page_size=2, page=2)) == newest_first[:4]
    assert ids(get(page_size=4, page=2)) == newest_first[4:]
    assert get(page_size=4, page=3) == []


def test_each_filter_leaves_what_it_says(known: Known, get: Get) -> None:
    assert ids(get(status="closed")) == [known.closed]
    assert known.closed not in ids(get(status="open"))
    assert len(get(status="open")) == 5
    assert ids(get(service_code="2401")) == [known.closed]
    assert ids(get(end_date=(NOW - timedelta(days=70)).isoformat())) == [known.old]
    edge = NOW - timedelta(hours=4)
    assert ids(get(start_date=edge.isoformat(), end_date=edge.isoformat())) == [known.second]
    assert ids(get(service_request_id=f"{known.old},{known.first}", status="closed")) == [
        known.first, known.old,
    ]  # fmt: skip


def test_a_message_of_two_demands_is_one_request_that_is_closed_when_both_are(
    known: Known, get: Get
) -> None:
    # Older than what is listed, so that no other test sees it.
    at = NOW - timedelta(days=100)
    message = report_id("open311", "both", 0)
    base = {
        "channel": "open311",
        "received_at": at,
        "class_code": "0102",
        "district_code": "410105",
    }
    insert(known.client, "report_outcomes", base | {
        "report_id": message, "outcome": "accepted", "parts": 2, "decided_at": at,
    })  # fmt: skip
    demands = {f"demand-{n}": event_id(f"demand-{n}") for n in (1, 2)}
    for number, (demand, event) in enumerate(demands.items(), 1):
        insert(known.client, "reports", base | {
            "report_id": demand, "native_id": f"both-0{number}", "origin": message, "occurred_at": at,
            "text": f"第{number}件事", "address": f"花园路{number}号", "lon": 113.6, "lat": 34.7,
        })  # fmt: skip
        insert(known.client, "event_links", base | {
            "link_id": demand, "report_id": demand, "event_id": event, "occurred_at": at,
            "decided_at": at, "relation": "opened",
        })  # fmt: skip
        state(known, demand, event, at, 1, "open")
    insert(known.client, "orders", {
        "order_id": "order-demand-1", "version": 1, "event_id": demands["demand-1"],
        "unit_name": "城管局", "state": "DISPATCHED", "opened_at": at, "dispatched_at": at,
        "due_at": at,
    })  # fmt: skip

    def shown(**more: str) -> dict[str, Any]:
        (request,) = get(f"requests/{message}.json", extensions="true", **more)
        return request

    found = shown()
    assert (found["status"], found["agency_responsible"]) == ("open", "城管局")
    assert (found["description"], found["address"]) == ("第1件事 第2件事", "花园路1号")
    # It opened both matters: it is nobody's duplicate.
    assert found["extended_attributes"]["duplicate_of"] is None
    state(known, "demand-1", demands["demand-1"], at, 2, "closed")
    assert shown()["status"] == "open"
    state(known, "demand-2", demands["demand-2"], at, 2, "closed")
    assert shown()["status"] == "closed"
    assert ids(get(service_request_id=message)) == [message]


def state(known: Known, first: str, event: str, at: datetime, version: int, status: str) -> None:
    """A version of an event."""
    insert(known.client, "events", {
        "event_id": event, "version": version, "status": status, "first_report_id": first,
        "opened_at": at, "occurred_at": at, "updated_at": at, "decided_at": at,
    })  # fmt: skip


def test_a_request_shows_its_matter_and_no_persons_words(known: Known, get: Get) -> None:
    (first,) = get(f"requests/{known.first}.json")
    assert first["description"] == "路灯坏了，电话 ***"
    assert first["agency_responsible"] == "金水区城管局"
    assert first["requested_datetime"] == "2026-03-17T05:30:12+08:00"
    assert first["updated_datetime"] == "2026-03-17T05:30:14+08:00"
    assert first["expected_datetime"] == "2026-03-17T09:30:12+08:00"
    assert (first["lat"], first["long"]) == (34.7, 113.6)
    assert first["media_url"] == "https://photos.example/1.jpg"
    (second,) = get(f"requests/{known.second}.json", extensions="true")
    assert second["status_notes"] == f"Duplicate request. See {known.first}."
    assert second["extended_attributes"]["duplicate_of"] == known.first
    assert (second["description"], second["address"]) == ("市容环境", "金水区")
    assert second["media_url"] is None
    assert "王某" not in json.dumps(get(), ensure_ascii=False)
    (closed,) = get(f"requests/{known.closed}.json")
    assert (closed["status"], closed["updated_datetime"]) == ("closed", "2026-03-16T06:30:13+08:00")
    (fresh,) = get(f"requests/{known.fresh}.json")
    assert (fresh["status"], fresh["status_notes"]) == ("open", "Received.")
    assert get("tokens/first.json") == [{"service_request_id": known.first, "token": "first"}]


def test_words_of_other_channels_do_not_leave_the_engine(known: Known) -> None:
    for row in run(known.client, "open311_requests"):
        ours = row["channel"] == "open311"
        assert bool(row["address"] or row["media"] or row["text"]) == (
            ours and row["outcome"] == "accepted"
        )


def test_a_posted_request_is_in_kafka_before_it_is_answered(broker: Stack, known: Known) -> None:
    settings = Settings(
        home=known.settings.home, kafka=broker.settings.bootstrap,
        clickhouse=known.settings.clickhouse_url, clickhouse_database="test_open311",
    )  # fmt: skip
    publisher, log = Publisher(settings), Log(broker.settings, "open311")
    app = FastAPI()
    app.include_router(router(settings, publisher, steps_of, lambda: NOW_MS))
    client = TestClient(app)
    form = {
        "api_key": KEY,
        "service_code": "0102",
        "address_string": "花园路",
        "description": "垃圾",
    }
    answers = [
        client.post("/open311/v2/requests.json", data=form, headers={"Idempotency-Key": key})
        for key in ("one", "one", "two")
    ]
    published = [raw for _, raw in log.records()]
    publisher.close()
    found = [answer.json()[0]["service_request_id"] for answer in answers]
    assert found[0] == found[1] != found[2]
    assert sorted(report_id("open311", raw["native_id"], 0) for raw in published) == sorted(found)
    assert {raw["address"] for raw in published} == {"花园路"}


@pytest.mark.parametrize(
    ("file", "entries"),
    [
        ("sferik_open311/service_requests.xml", 2),
        ("sferik_open311/services.xml", 36),
        ("npm_open311/service-requests.xml", 2),
        ("npm_open311/dc-services.xml", 86),
    ],
)
def test_replaying_another_citys_document_publishes_every_entry(
    broker: Stack, file: str, entries: int
) -> None:
    log = Log(broker.settings, "open311")
    result = replay(broker.settings, FIXTURES / file, "open311")
    assert (result.rows, result.published, result.defects) == (entries, entries, 0)
    assert len(log.records()) == entries


@pytest.fixture
def served(known: Known) -> Iterator[str]:
    """The façade on a port, with a clock that goes."""
    app = FastAPI()
    app.include_router(router(known.settings, Nobody(), steps_of))
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    eventually(lambda: server.started)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/open311/v2"
    server.should_exit = True
    thread.join(10)


def test_what_one_city_shows_another_pulls_each_once(
    known: Known, served: str, tmp_path: Path
) -> None:
    choice, now = random.Random(5), datetime.now(UTC)
    rows: list[dict[str, Any]] = []
    for number in range(2_300):
        at = now - timedelta(seconds=choice.uniform(0, 3 * 86_400))
        rows.append({
            "report_id": report_id("photo_app", f"p{number}", 0), "channel": "photo_app",
            "native_id": f"p{number}", "outcome": "accepted", "class_code": "0102",
            "received_at": at, "decided_at": at,
        })  # fmt: skip
    insert(known.client, "report_outcomes", *rows)
    channel = load_channel("open311")
    spec = ChannelSpec(
        **{
            **channel.model_dump(),
            "transports": {"open311": {"interval_s": 3600, "jurisdiction_id": "zhengzhou"}},
        }
    )
    source = open_source(Settings(home=tmp_path), spec, served)
    found: list[str] = []
    end = time.monotonic() + 120
    while len(found) < len(rows) and time.monotonic() < end:
        try:
            portion = source.read(0.2)
        except SourceError:
            continue  # a busy server's page is asked for again, as the feed does
        if portion is not None:
            found += [str((entry.fields or {})["service_request_id"]) for entry in portion.entries]
            source.confirm(portion)
    source.close()
    assert sorted(found) == sorted(row["report_id"] for row in rows)
