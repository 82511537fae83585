"""The gateway without broker and engine: what a browser may ask, and what it gets then."""

import asyncio
import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from clickhouse_connect.driver.exceptions import OperationalError
from fastapi.testclient import TestClient

from connectors.open311 import facade
from connectors.publish import Publisher
from deploy import desk, kpi, screen, suggest, trail
from deploy.gateway import BIGSCREEN_DIR, create_app
from schemas.queries import load_queries
from schemas.settings import Settings

TILES = json.loads((BIGSCREEN_DIR / "tiles.json").read_text(encoding="utf-8"))


class Nobody:
    """A publisher that is never asked."""

    def close(self, *_: float) -> None:
        """Nothing to wait for."""


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    """A gateway whose ClickHouse port is closed."""
    settings = Settings(home=tmp_path, port=27900, clickhouse="http://127.0.0.1:1")
    with TestClient(create_app(settings, cast(Publisher, Nobody()))) as made:
        yield made


def test_a_script_from_anywhere_else_is_forbidden(client: TestClient) -> None:
    answer = client.get("/")
    policy = answer.headers["content-security-policy"]
    assert answer.status_code == 200
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert not re.search(r"<script(?![^>]*\ssrc=)|\son\w+=|\sstyle=", answer.text)


def test_without_clickhouse_each_query_says_503_and_the_rest_lives(client: TestClient) -> None:
    assert client.get("/api/queries/by_channel").status_code == 503
    tiles = client.get("/api/tiles", params={"names": "by_channel,no_such"}).json()["tiles"]
    assert (tiles["by_channel"]["status"], tiles["no_such"]["status"]) == (503, 404)
    assert "Traceback" not in json.dumps(tiles)
    assert client.get("/api/status").json()["backlog"] is None
    assert client.get("/healthz").status_code == 200
    assert "quanyu_http_requests_total" in client.get("/metrics").text


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/queries/reports_of_day?day=yesterday", 400),
        ("/api/queries/reports_of_day?limit=100000", 400),
        ("/api/queries/reports_of_day?sql=SELECT+1", 400),
        ("/api/queries/SELECT%201", 404),
        ("/api/queries/..%2F..%2Fsettings", 404),
        ("/api/tiles", 422),
        ("/api/tiles?names=" + ",".join(f"q{n}" for n in range(30)), 400),
    ],
)
def test_only_named_queries_with_their_own_parameters(
    client: TestClient, path: str, status: int
) -> None:
    assert client.get(path).status_code == status


def test_names_and_map_come_without_a_database(client: TestClient) -> None:
    city = client.get("/api/city").json()
    assert city["districts"]["410105"] == "金水区"
    assert set(city["channels"]) >= {"hotline12345"}
    first = client.get("/api/map/areas")
    again = client.get("/api/map/areas", headers={"If-None-Match": first.headers["etag"]})
    centres = {area["code"]: area for area in first.json()["areas"]}
    assert set(city["units"]) == set(centres)
    assert all(len(ring) >= 4 for area in centres.values() for ring in area["rings"])
    assert (again.status_code, again.content) == (304, b"")
    assert first.headers["content-encoding"] == "gzip"
    streets = client.get("/api/map/areas", params={"parent": "410105ZD"}).json()["areas"]
    assert {city["unit_of"][area["code"]] for area in streets} == {"410105ZD"}
    (one, *_) = client.get("/api/map/areas", params={"parent": "410105001"}).json()["areas"]
    assert one["code"].startswith("410105001")
    assert len(one["code"]) == 12
    assert client.get("/api/map/areas", params={"parent": "x<y"}).status_code == 400


def test_many_screens_cost_one_query(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []

    def counting(_: Any, name: str, **__: Any) -> list[dict[str, Any]]:
        ran.append(name)
        return [{"n": 1}]

    monkeypatch.setattr(screen, "run", counting)
    monkeypatch.setattr("clickhouse_connect.get_client", lambda **_: None)
    now = iter(range(1_000_000, 2_000_000))
    reader = screen.Reader(Settings(home=tmp_path), "Asia/Shanghai", lambda: next(now))
    query = load_queries()["by_channel"]

    async def thirty() -> None:
        await asyncio.gather(*(reader.ask(query, {}) for _ in range(30)))
        await reader.ask(query, {"day": "2026-03-17"})

    asyncio.run(thirty())
    assert len(ran) == 2


def test_a_dear_answer_is_given_at_once_while_the_next_is_worked_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = threading.Event()
    asked = 0

    def run(*_: Any, **__: Any) -> list[dict[str, int]]:
        nonlocal asked
        asked += 1
        # The first answers at once, the second when it is let.
        if asked == 2:
            release.wait(30)
        return [{"n": asked}]

    monkeypatch.setattr(screen, "connect", lambda *_, **__: None)
    monkeypatch.setattr(screen, "run", run)
    now = iter(range(10_000, 99_000, 1_000))
    reader = screen.Reader(Settings(home=tmp_path), "Asia/Shanghai", lambda: next(now))
    query = load_queries()["quality"]
    assert query.refresh_s == 30

    async def rounds() -> list[screen.Answer]:
        found = [await reader.ask(query, {})]
        monkeypatch.setattr(screen, "CACHE_SHARE", -1.0)
        monkeypatch.setattr(screen, "CACHE_S", -1.0)
        found.append(await reader.ask(query, {}))
        release.set()
        while len(found) < 50 and found[-1].rows[0]["n"] < 2:
            await asyncio.sleep(0.01)
            monkeypatch.setattr(screen, "CACHE_S", 1000.0)
            found.append(await reader.ask(query, {}))
        return found

    found = asyncio.run(rounds())
    # The old one says when it was read: nobody takes it for a new one.
    assert [(answer.at, answer.rows[0]["n"]) for answer in found[:2]] == [(10_000, 1), (10_000, 1)]
    assert (found[-1].at, found[-1].rows[0]["n"], asked) == (11_000, 2, 2)


def test_a_refusal_of_clickhouse_is_told_without_its_words(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refusing(*_: Any, **__: Any) -> None:
        raise OperationalError("Code: 241. secret host 10.0.0.1")

    monkeypatch.setattr("clickhouse_connect.get_client", refusing)
    answer = client.get("/api/queries/by_class")
    assert answer.status_code == 503
    assert "10.0.0.1" not in answer.text


def test_every_tile_has_its_block_and_every_query_its_place() -> None:
    page = (BIGSCREEN_DIR / "index.html").read_text(encoding="utf-8")
    queries = load_queries()
    shown = [name for tile in TILES for name in tile["queries"]]
    opened = {drill.query for name in shown for drill in queries[name].drill_down}
    opened |= {drill.query for name in opened for drill in queries[name].drill_down}
    read = {query.over for query in queries.values()} - {""}
    assert len(shown) == len(set(shown))
    asked = {*facade.QUERIES, *suggest.QUERIES, *desk.QUERIES, *trail.QUERIES, *kpi.QUERIES}
    assert set(shown) | opened | asked | read == set(queries)
    blocks = set(re.findall(r'<(?:section|header|aside)[^>]*\sid="(\w+)"', page))
    assert {tile["id"] for tile in TILES} == blocks


def test_every_number_of_a_block_is_a_column_that_opens_rows() -> None:
    page = (BIGSCREEN_DIR / "index.html").read_text(encoding="utf-8")
    for tile in TILES:
        section = re.search(rf'<section[^>]*id="{tile["id"]}".*?</section>', page, re.DOTALL)
        columns = set(re.findall(r'data-column="(\w+)"', section[0])) if section else set()
        opens = {d.column for name in tile["queries"] for d in load_queries()[name].drill_down}
        assert columns <= opens, tile["id"]


def test_text_from_data_never_becomes_markup() -> None:
    for path in BIGSCREEN_DIR.glob("*.js"):
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(",
            path.read_text("utf-8"),
        ), path.name


@pytest.mark.parametrize("theme", [":root {", ":root[data-theme=light] {"])
@pytest.mark.parametrize("ground", ["--ground", "--panel"])
@pytest.mark.parametrize(
    "mark", ["--text", "--second", "--accent", "--red", "--yellow", "--green", "--stale"]
)
def test_colours_can_be_told_from_their_ground(theme: str, ground: str, mark: str) -> None:
    style = (BIGSCREEN_DIR / "style.css").read_text("utf-8").partition(theme)[2].partition("}")[0]
    found = dict(re.findall(r"(--\w+):\s*(#[0-9a-f]{6})", style))

    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light, dark = sorted((luminance(found[mark]), luminance(found[ground])), reverse=True)
    assert (light + 0.05) / (dark + 0.05) >= 4.5
