"""Who asks too often waits, who is refused stands in the log; a stranger writes nothing of his own there."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from fastapi.testclient import TestClient

from connectors.publish import Publisher
from deploy import gateway
from deploy.desk import Desk
from deploy.guard import BURST, LINES_BURST, RATE, Buckets
from deploy.people import add_person
from schemas.settings import Settings

ORDER = "0f0e0d0c-0b0a-5908-8706-050403020100"


class Nobody:
    """A publisher that is never asked."""

    def close(self, *_: float) -> None:
        """Nothing to wait for."""


class Gate:
    """A gateway without broker and engine, and what it writes into the people's log."""

    def __init__(self, settings: Settings, client: TestClient, lines: list[dict[str, Any]]) -> None:
        self.settings, self.client, self.lines = settings, client, lines


@pytest.fixture
def gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    lines: list[dict[str, Any]] = []
    monkeypatch.setattr(Desk, "note", lambda _, **said: lines.append(said))
    settings = Settings(home=tmp_path, port=27920, clickhouse="http://127.0.0.1:1")
    with TestClient(gateway.create_app(settings, cast(Publisher, Nobody()))) as client:
        yield Gate(settings, client, lines)


def test_a_role_that_may_not_gets_403_and_a_line_that_names_who_what_and_which_object(
    gate: Gate,
) -> None:
    key = add_person(gate.settings.people_path, "u-1", "unit", "410105-CG")
    answer = gate.client.post(
        f"/desk/events/{ORDER}/merge",
        headers={"X-API-Key": key},
        json={"into": ORDER, "reason": ""},
    )
    assert (answer.status_code, answer.json()["reason"]) == (403, "role")
    (line,) = gate.lines
    assert line == {
        "kind": "access", "action": "POST /desk/events/{event_id}/merge", "target": ORDER,
        "outcome": "refused", "reason": "role", "detail": "", "actor": "u-1", "role": "unit",
    }  # fmt: skip


@pytest.mark.parametrize("path", ["/desk/reviews", "/orders", f"/orders/{ORDER}"])
def test_without_a_key_a_line_says_so_and_bears_nothing_that_a_stranger_typed(
    gate: Gate, path: str
) -> None:
    key = "13812345678"
    assert gate.client.get(path, headers={"X-API-Key": key}).status_code == 401
    assert gate.client.get("/desk/actions/13812345678").status_code == 401
    assert [(line["actor"], line["reason"]) for line in gate.lines] == [("unknown", "key")] * 2
    assert key not in str(gate.lines)


def test_a_channel_with_a_wrong_key_is_named_in_the_log(gate: Gate) -> None:
    answer = gate.client.post(
        "/channels/photo_app/reports", json={}, headers={"X-API-Key": "no key of it"}
    )
    assert answer.status_code == 401
    assert [line["actor"] for line in gate.lines] == ["channel:photo_app"]


def test_who_tries_keys_by_the_thousand_does_not_fill_the_log(gate: Gate) -> None:
    for _ in range(int(LINES_BURST) + 50):
        gate.client.get("/orders")
    assert LINES_BURST <= len(gate.lines) < LINES_BURST + 50


def test_a_key_that_asks_too_often_hears_when_to_come_again_and_no_other_key_waits(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask(key: str) -> Any:
        return gate.client.get("/healthz", headers={"X-API-Key": key})

    slow = Buckets(0.001, 2)
    monkeypatch.setattr(gateway, "Buckets", lambda *_: slow)
    with TestClient(gateway.create_app(gate.settings, cast(Publisher, Nobody()))) as client:
        gate.client = client
        assert [ask("one").status_code for _ in range(3)] == [200, 200, 429]
        assert int(ask("one").headers["Retry-After"]) >= 900
        assert ask("another").status_code == 200
        assert client.get("/healthz").status_code == 200


def test_a_bucket_lets_the_burst_through_and_then_its_rate() -> None:
    now = 0.0
    buckets = Buckets(RATE, BURST, clock=lambda: now)
    passed = sum(buckets.take("k") == 0 for _ in range(3_000))
    assert passed == BURST
    now = 2.0
    assert sum(buckets.take("k") == 0 for _ in range(3_000)) == 2 * RATE


def test_strangers_with_a_million_keys_hold_no_more_memory_than_ten_thousand() -> None:
    buckets = Buckets(RATE, BURST, limit=100)
    for number in range(1_000):
        buckets.take(str(number))
    assert len(buckets._known) == 100


#: Routes that answer without a key, and why each may.
OPEN = {
    "/healthz": "whether it lives",
    "/readyz": "whether it is ready",
    "/metrics": "numbers without personal data, for Prometheus inside the network",
    "/api/tiles": "the screen hangs on a wall: named queries that are not private",
    "/api/queries": "as above",
    "/api/queries/{name}": "as above",
    "/api/city": "names of the city's pack",
    "/api/map/areas": "borders of the city's pack",
    "/api/status": "how fresh the screen is",
    "/trail/{report_id}": "its secret is the key",
    "/trail/{report_id}/visit": "its secret is the key",
    "/open311/v2/discovery": "public by its specification",
    "/open311/v2/services": "public by its specification",
    "/open311/v2/services/{service_code}": "public by its specification",
    "/open311/v2/requests": "public by its specification; posting needs the channel's key",
    "/open311/v2/requests/{service_request_id}": "public by its specification",
    "/open311/v2/tokens/{token}": "public by its specification",
    "/channels/{rest:path}": "says only which address and method are right",
    "/openapi.json": "describes the interface",
}


def test_no_route_without_a_key_answers_anything_that_should_have_one(gate: Gate) -> None:
    told = gate.client.get("/openapi.json").json()["paths"]
    guarded = 0
    for path, methods in told.items():
        for method in methods:
            if path.removesuffix(".{format}") in OPEN and (method == "get" or "trail" in path):
                continue
            filled = path.replace("{name}", "photo_app").replace("{format}", "json")
            filled = re.sub(r"\{\w*digest\}", "0" * 64, filled)
            filled = re.sub(r"\{\w+\}", ORDER, filled)
            for headers in ({}, {"X-API-Key": "nobody's"}):
                answer = gate.client.request(method, filled, headers=headers, content=b"")
                assert answer.status_code in (401, 403), (method, path, answer.text)
            guarded += 1
    assert guarded >= 15


def test_every_open_route_is_one_that_there_is(gate: Gate) -> None:
    routes = {getattr(route, "path", "") for route in _routes(gate.client.app)}
    assert {path for path in OPEN if "{rest" not in path} <= routes
    described = set(gate.client.get("/openapi.json").json()["paths"])
    # What the description does not name is looked at here, by name.
    assert {path for path in routes - described if path} <= {
        "/healthz", "/readyz", "/metrics", "/openapi.json", "/channels/{rest:path}",
        *(path for path in routes if path.startswith("/open311")),
    }  # fmt: skip


def _routes(app: Any) -> list[Any]:
    found: list[Any] = []
    for route in app.routes:
        inner = getattr(getattr(route, "original_router", None), "routes", None)
        found += inner if inner else [route]
    return found
