"""What the gateway counts of its answers; a heartbeat walks every channel's way in and leaves no report."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import pytest
from fastapi.testclient import TestClient

from connectors.publish import Publisher
from deploy.gateway import create_app
from deploy.vitals import Vitals
from schemas.channels import load_channels
from schemas.metrics import COLLECTORS, HEARTBEAT_AT
from schemas.settings import Settings

PUSHING = [name for name, spec in load_channels().items() if spec.transports.http]


class Counting:
    """A publisher that keeps what it is given."""

    def __init__(self) -> None:
        self.given: list[Any] = []

    def publish(self, raws: Sequence[Any], _: str) -> dict[int, int]:
        """Keep them."""
        self.given += raws
        return {}

    def close(self, *_: float) -> None:
        """Nothing to wait for."""


@pytest.fixture
def publisher() -> Counting:
    """What the gateway of the test publishes to."""
    return Counting()


@pytest.fixture
def client(tmp_path: Path, publisher: Counting) -> Iterator[TestClient]:
    """A gateway with a key for each channel."""
    (tmp_path / "keys.json").write_text(json.dumps({name: f"key-of-{name}" for name in PUSHING}))
    settings = Settings(home=tmp_path, port=27940, clickhouse="http://127.0.0.1:1")
    app = create_app(settings, cast(Publisher, publisher))

    @app.get("/channels-broken")
    def broken() -> None:
        raise RuntimeError("a defect of ours")

    # The screen's files are mounted last and would answer first.
    app.router.routes.insert(0, app.router.routes.pop())
    with TestClient(app, raise_server_exceptions=False) as made:
        yield made


def beat(tmp_path: Path, client: TestClient) -> dict[str, float]:
    """When each channel's push last answered as it should, after one round."""
    vitals = Vitals(Settings(home=tmp_path, port=27940, kafka="127.0.0.1:1"))
    for name in PUSHING:
        HEARTBEAT_AT.labels(name, "push").set(0)
    vitals._http.close()
    vitals._http = cast(Any, client)
    vitals.pushes()
    vitals._member.close()
    return {
        name: COLLECTORS.get_sample_value(
            "quanyu_heartbeat_timestamp_seconds", {"channel": name, "step": "push"}
        )
        or 0.0
        for name in PUSHING
    }


def test_a_heartbeat_comes_through_to_every_channel_and_is_no_report(
    tmp_path: Path, client: TestClient, publisher: Counting
) -> None:
    assert all(beat(tmp_path, client).values())
    assert publisher.given == []


def test_a_channel_whose_key_the_gateway_does_not_take_has_no_heartbeat(
    tmp_path: Path, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "connectors.http_push.Keys.accepts", lambda _, name, __: name != "photo_app"
    )
    seen = beat(tmp_path, client)
    assert seen.pop("photo_app") == 0
    assert all(seen.values())


def test_an_exception_that_nobody_answers_counts_as_a_server_error(client: TestClient) -> None:
    labels = {"route": "static", "method": "GET", "status": "500"}
    before = COLLECTORS.get_sample_value("quanyu_http_requests_total", labels) or 0
    assert client.get("/channels-broken").status_code == 500
    assert COLLECTORS.get_sample_value("quanyu_http_requests_total", labels) == before + 1


def test_a_label_never_holds_a_method_that_a_stranger_made_up(client: TestClient) -> None:
    client.request("MADEUP", "/channels/photo_app/reports")
    text = client.get("/metrics").text
    assert "MADEUP" not in text
    assert 'method="other"' in text
