"""A push is taken whole and confirmed, or refused whole with field and index; a fake broker stands behind."""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from connectors.http_push import BODY_LIMIT, REPORTS_LIMIT, router
from connectors.publish import BrokerBehind, Publisher, Unpublishable
from schemas.ids import report_id
from schemas.settings import Settings

CHANNEL = "photo_app"
KEY = "the key"


class FakePublisher(Publisher):
    """Keeps what it would publish, or raises what it is told to."""

    def __init__(self) -> None:
        self.published: list[dict[str, Any]] = []
        self.error: Exception | None = None

    def publish(self, raws: Sequence[dict[str, Any]], transport: str) -> dict[int, int]:
        if self.error:
            raise self.error
        self.published += raws
        return {0: len(raws)}


@pytest.fixture
def publisher() -> FakePublisher:
    return FakePublisher()


@pytest.fixture
def place(tmp_path: Path) -> Settings:
    settings = Settings(home=tmp_path)
    settings.keys_path.parent.mkdir(parents=True, exist_ok=True)
    settings.keys_path.write_text(json.dumps({CHANNEL: KEY, "grid_patrol": "other"}))
    return settings


Push = Callable[..., Any]


@pytest.fixture
def push(place: Settings, publisher: FakePublisher) -> Iterator[Push]:
    app = FastAPI()
    app.include_router(router(place, publisher))
    with TestClient(app) as client:

        def send(
            body: Any, *, key: str | None = KEY, channel: str = CHANNEL, **headers: str
        ) -> Any:
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            sent = {"Content-Type": "application/json"} | {
                name.replace("_", "-"): value for name, value in headers.items()
            }
            if key is not None:
                sent["X-API-Key"] = key
            return client.post(f"/channels/{channel}/reports", content=data, headers=sent)

        yield send


def test_202_names_the_id_under_which_the_report_will_be_known(
    push: Push, publisher: FakePublisher
) -> None:
    answer = push([{"id": "a1", "title": "积水"}, {"id": " Ａ２ ", "revision": 3}])
    assert answer.status_code == 202
    # Intake reads an id without its blanks and in plain characters.
    expected = [report_id(CHANNEL, "a1", 0), report_id(CHANNEL, "A2", 3)]
    assert answer.json() == {"accepted": 2, "reports": expected}
    assert [raw["title"] for raw in publisher.published] == ["积水", None]


def test_a_single_report_keeps_the_very_bytes_that_were_sent(
    push: Push, publisher: FakePublisher
) -> None:
    body = b'{ "id" : "a1",\n "unmapped": [1.10] }'
    assert push(body).status_code == 202
    assert publisher.published[0]["payload"] == body


def test_a_reports_content_is_not_judged_here(push: Push, publisher: FakePublisher) -> None:
    odd = {"id": "a1", "shot_at": "2026-02-30", "location": {"lng": 0, "lat": 0}, "title": "\x00"}
    assert push(odd).status_code == 202
    assert publisher.published[0]["occurred_at"] == "2026-02-30"


GOOD = {"id": "good"}


@pytest.mark.parametrize(
    ("body", "status", "words", "place_of"),
    [
        (b"{", 400, "not JSON", {}),
        (b"", 400, "not JSON", {}),
        (b'{"id": "a\xff"}', 400, "not UTF-8 at byte 9", {}),
        (b'{"id": NaN}', 400, "NaN is not JSON", {}),
        (b'{"id": ' + b"9" * 5000 + b"}", 400, "not JSON", {}),
        (b"[" * 100_000, 400, "nested", {}),
        ([], 400, "no report", {}),
        ("text", 400, "is an object", {"index": 0}),
        ([GOOD, 7], 400, "is an object", {"index": 1}),
        ([GOOD, [GOOD]], 400, "is an object", {"index": 1}),
        ([GOOD, {}], 400, "id is missing", {"field": "id", "index": 1}),
        ([GOOD, {"id": ""}], 400, "id is missing", {"field": "id", "index": 1}),
        ([GOOD, {"id": True}], 400, "id is missing", {"field": "id", "index": 1}),
        ([GOOD, {"id": {"a": 1}}], 400, "id is missing", {"field": "id", "index": 1}),
        (b'{"id": 1e999}', 400, "1e999 is beyond", {}),
        (b'[{"id": "a"}, {"id": "b", "x": {"y": 1, "z": 2, "y": 1}}]', 400, "twice", {"field": "y"}),
        (b'[{"id": "a"}, {"id": "b\\ud83d"}]', 400, "half a", {"field": "id", "index": 1}),
        (b'{"id": "b", "x": [' + b"[]," * 400_000 + b"[]]}", 413, "values", {}),
        ([GOOD, {"id": "b", "photos": ["a"] * 10}], 400, "at most 9", {"field": "photos", "index": 1}),
        ([GOOD, {"id": " \x00"}], 400, "id is missing", {"field": "id", "index": 1}),
        ([GOOD, {"id": "b", "revision": "x"}], 400, "revision", {"field": "revision", "index": 1}),
        ([{"id": "b", "title": "x" * 200_000}], 400, "title", {"field": "title", "index": 0}),
        ([{"id": "b", "description": "x" * 200_000}], 400, "text", {"field": "description", "index": 0}),
        ([GOOD] * (REPORTS_LIMIT + 1), 413, "at most", {}),
        (b" " * (BODY_LIMIT + 1), 413, "larger than", {}),
    ],
)  # fmt: skip
def test_a_bad_body_is_refused_whole_saying_what_and_where(
    push: Push,
    publisher: FakePublisher,
    body: Any,
    status: int,
    words: str,
    place_of: dict[str, Any],
) -> None:
    answer = push(body)
    refusal = answer.json()
    assert answer.status_code == status
    assert words in refusal.pop("error")
    assert refusal.pop("reason")
    assert refusal == place_of
    assert publisher.published == []
    assert push(GOOD).status_code == 202


def test_a_report_nested_too_deep_is_refused_by_its_index(push: Push) -> None:
    deep: Any = "x"
    for _ in range(40):
        deep = {"a": deep}
    answer = push([GOOD, {"id": "b", "extra": deep}])
    assert (answer.status_code, answer.json()["index"]) == (400, 1)


@pytest.mark.parametrize("key", [None, "", "wrong", "other", "the key x"])
def test_without_the_channels_own_key_nothing_is_read(
    push: Push, publisher: FakePublisher, key: str | None
) -> None:
    answer = push(GOOD, key=key)
    assert (answer.status_code, publisher.published) == (401, [])


def test_keys_rotate_without_a_restart(push: Push, place: Settings) -> None:
    place.keys_path.write_text(json.dumps({CHANNEL: "a new and longer key"}))
    assert push(GOOD).status_code == 401
    assert push(GOOD, key="a new and longer key").status_code == 202


@pytest.mark.parametrize("content", [None, "", "{broken", "[]", '{"photo_app": 5}', "\udcff"])
def test_without_readable_keys_nobody_gets_in(
    push: Push, place: Settings, content: str | None
) -> None:
    place.keys_path.unlink()
    if content is not None:
        place.keys_path.write_bytes(content.encode("utf-8", "surrogateescape"))
    assert push(GOOD).status_code == 401
    assert push(GOOD, key="").status_code == 401


@pytest.mark.parametrize("channel", ["nobody", "chicago311", "..%2Fphoto_app"])
def test_a_channel_that_does_not_push_is_unknown(push: Push, channel: str) -> None:
    assert push(GOOD, channel=channel).status_code == 404


def test_another_content_type_is_refused_by_name(push: Push) -> None:
    answer = push(b"id=1", Content_Type="application/x-www-form-urlencoded")
    assert answer.status_code == 415
    assert "application/x-www-form-urlencoded" in answer.json()["error"]
    assert push(GOOD, Content_Type="application/json; charset=utf-8").status_code == 202


def test_a_broker_that_is_behind_is_no_202_and_says_when_to_come_again(
    push: Push, publisher: FakePublisher
) -> None:
    publisher.error = BrokerBehind("the broker confirmed 3 of 5 in time", retry_after_s=7)
    answer = push(GOOD)
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "7")
    assert "send the same again" in answer.json()["error"]


def test_a_report_that_the_broker_never_takes_is_no_reason_to_repeat_it(
    push: Push, publisher: FakePublisher
) -> None:
    publisher.error = Unpublishable("Broker: Message size too large")
    assert push(GOOD).status_code == 413
