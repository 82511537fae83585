"""What a unit's system is sent, and what each of its answers means, however it misbehaves."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest

from connectors import webhooks
from connectors.webhook_schedule import Answer
from connectors.webhooks import FIELDS, INSTANTS, Sender, meaning, step_body, wanted
from schemas.registry import load_schemas
from schemas.webhooks import Endpoint
from tests.webhook_receiver import SECRET, Receiver, receiving


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as running:
        yield running


def endpoint(url: str, secret: str = SECRET, actions: list[str] | None = None) -> Endpoint:
    return Endpoint.model_validate({"url": url, "secret": secret, "actions": actions})


def send(target: Endpoint, times: int = 1, body: bytes = b'{"order_id": "o1"}') -> list[Answer]:
    async def all_of_them() -> list[Answer]:
        sender = Sender()
        try:
            return [await sender.send(target, "t1", body) for _ in range(times)]
        finally:
            await sender.close()

    return asyncio.run(all_of_them())


def transition(**changes: Any) -> dict[str, Any]:
    newest = max(version for name, version in load_schemas() if name == "OrderTransition")
    fields = load_schemas()["OrderTransition", newest]["fields"]
    record = {f["name"]: f.get("default", "x") for f in fields}
    return record | {"at": 1_772_323_200_123, "due_at": 1_772_409_600_000, **changes}


def test_every_field_that_is_sent_is_one_of_the_record() -> None:
    assert {*FIELDS, *INSTANTS} <= transition().keys()


def test_a_step_is_sent_without_who_acted_and_without_free_text() -> None:
    body = json.loads(
        step_body(
            transition(
                order_id="o-1",
                actor="staff-7",
                handler="staff-8",
                reason="张三 13800000000",
                media=["ab12"],
            )
        )
    )
    assert not {"actor", "role", "handler", "reason", "media", "address"} & body.keys()
    assert not any(word in json.dumps(body) for word in ("staff", "138", "ab12"))
    assert body["at"] == "2026-03-01T00:00:00.123Z"
    assert body["due_at"] == "2026-03-02T00:00:00.000Z"
    assert body["closed_at"] is None
    assert body["link"] == "/orders/o-1"


def test_the_receiver_can_verify_the_signature_and_knows_a_repetition_by_its_key(
    receiver: Receiver,
) -> None:
    receiver.statuses["/hook"] = [500]
    answers = send(endpoint(receiver.url("/hook")), times=2)
    assert [a.verdict for a in answers] == ["failed", "delivered"]
    assert [r.key for r in receiver.of("/hook")] == ["t1", "t1"]
    assert receiver.of("/hook")[0].body == {"order_id": "o1"}
    [refused] = send(endpoint(receiver.url("/hook"), secret="another secret, another"))
    assert refused == Answer("refused", "http_401", 401)
    assert receiver.unsigned == 1


@pytest.mark.parametrize(
    ("path", "verdict", "reason"),
    [
        ("/hangs", "failed", "timeout"),
        ("/rubbish", "failed", "no_http_answer"),
        ("/closes", "failed", "no_http_answer"),
        ("/redirects", "failed", "http_307"),
        ("/endless", "delivered", "http_200"),
        ("/trickles", "delivered", "http_200"),
    ],
)
def test_whatever_the_endpoint_does_is_an_answer_in_time(
    receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
    path: str,
    verdict: str,
    reason: str,
) -> None:
    monkeypatch.setattr(webhooks, "WHOLE_S", 0.5)
    for answer in send(endpoint(receiver.url(path)), times=2):
        assert (answer.verdict, answer.reason) == (verdict, reason)
    assert receiver.of("/elsewhere") == []


def test_who_is_not_there_is_tried_again_later(unused_port: int) -> None:
    [answer] = send(endpoint(f"http://127.0.0.1:{unused_port}/hook"))
    assert answer == Answer("failed", "no_connection")


def test_a_proxy_of_the_environment_is_not_asked(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch, unused_port: int
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{unused_port}")
    assert send(endpoint(receiver.url("/hook")))[0].verdict == "delivered"


@pytest.fixture
def unused_port() -> int:
    with receiving() as gone:
        return gone.port


@pytest.mark.parametrize(
    ("verdict", "statuses"),
    [
        ("delivered", [200, 201, 202, 204, 299]),
        ("gone", [410]),
        ("refused", [400, 401, 403, 404, 405, 413, 415, 422, 451]),
        (
            "failed",
            [301, 302, 304, 307, 308, 408, 409, 423, 425, 429, 500, 502, 503, 504, 599, 999],
        ),
    ],
)
def test_only_2xx_is_a_yes_and_what_may_pass_is_tried_again(
    verdict: str, statuses: list[int]
) -> None:
    assert {meaning(status).verdict for status in statuses} == {verdict}


@pytest.mark.parametrize(
    ("header", "seconds"), [("120", 120.0), ("", 0.0), ("-3", 0.0), ("soon", 0.0), ("9" * 400, 0.0)]
)
def test_seconds_of_retry_after_are_kept_and_rubbish_is_not(header: str, seconds: float) -> None:
    assert meaning(503, header).pause_s == seconds
    assert meaning(200, header).pause_s == 0.0


def test_an_endpoint_that_names_actions_is_told_of_these_only() -> None:
    some = endpoint("https://unit.example/hook", actions=["dispatch", "return"])
    assert wanted(some, transition(action="return"))
    assert not wanted(some, transition(action="sign"))
    assert wanted(endpoint("https://unit.example/hook"), transition(action=""))
