"""A push is taken whole and confirmed, or refused whole with field and index; a fake broker stands behind."""

import asyncio
import errno
import hashlib
import json
import os
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import event, given, settings
from hypothesis import strategies as st

from connectors import forms, http_push
from connectors.http_push import BODY_LIMIT, REPORTS_LIMIT, router
from connectors.publish import BrokerBehind, Publisher, Unpublishable
from connectors.signature import SIGNATURE_HEADER, TIMESTAMP_HEADER, sign
from schemas import metrics
from schemas.channels import channel_names
from schemas.ids import report_id
from schemas.secrets import load_hash_key, trail_secret
from schemas.settings import Settings

CHANNEL = "photo_app"
KEY = "the key"
KEYS = {CHANNEL: KEY, "grid_patrol": "other", "police110": ["newer", "older"], "online_window": KEY}


class FakePublisher(Publisher):
    """Keeps what it would publish, or raises what it is told to."""

    def __init__(self) -> None:
        self.published: list[dict[str, Any]] = []
        self.error: Exception | None = None
        self.seen: Callable[[], None] = lambda: None

    def publish(self, raws: Sequence[dict[str, Any]], transport: str) -> dict[int, int]:
        if self.error:
            raise self.error
        self.seen()
        self.published += raws
        return {0: len(raws)}


@pytest.fixture
def publisher() -> FakePublisher:
    return FakePublisher()


@pytest.fixture
def place(tmp_path: Path) -> Settings:
    settings = Settings(home=tmp_path)
    settings.keys_path.parent.mkdir(parents=True, exist_ok=True)
    settings.keys_path.write_text(json.dumps(KEYS))
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
    push: Push, publisher: FakePublisher, place: Settings
) -> None:
    answer = push([{"id": "a1", "title": "积水"}, {"id": " Ａ２ ", "revision": 3}])
    assert answer.status_code == 202
    # Intake reads an id without its blanks and in plain characters.
    expected = [report_id(CHANNEL, "a1", 0), report_id(CHANNEL, "A2", 3)]
    secrets = [trail_secret(load_hash_key(place), identity) for identity in expected]
    assert answer.json() == {"accepted": 2, "reports": expected, "secrets": secrets}
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


def test_a_channel_may_have_two_keys_while_its_senders_move(push: Push, place: Settings) -> None:
    place.keys_path.write_text(json.dumps({CHANNEL: ["new", "", KEY]}))
    assert [push(GOOD, key=key).status_code for key in ("new", KEY, "")] == [202, 202, 401]
    place.keys_path.write_text(json.dumps({CHANNEL: []}))
    assert push(GOOD, key="new").status_code == 401


def test_what_was_sent_compressed_is_not_inflated(push: Push) -> None:
    answer = push(b"\x1f\x8b", Content_Encoding="gzip")
    assert (answer.status_code, answer.headers["Accept-Encoding"]) == (415, "identity")
    assert push(GOOD, Content_Encoding="identity").status_code == 202


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_another_method_hears_which_one_is_taken(client: TestClient, method: str) -> None:
    answer = client.request(method, f"/channels/{CHANNEL}/reports")
    assert (answer.status_code, answer.headers["Allow"]) == (405, "POST")
    assert method == "HEAD" or answer.json()["reason"] == "method"


def test_another_address_of_a_channel_is_none(client: TestClient) -> None:
    for path in (f"/channels/{CHANNEL}", "/channels/", f"/channels/{CHANNEL}/reports/1"):
        answer = client.post(path, content=b"{}")
        assert (answer.status_code, answer.json()["reason"]) == (404, "unknown_address"), path


def test_every_refusal_is_counted_under_names_that_are_ours(push: Push) -> None:
    def counted(channel: str, reason: str) -> float:
        return float(
            metrics.CHANNEL_REFUSED.labels(channel, http_push.TRANSPORT, reason)._value.get()
        )

    before = counted(CHANNEL, "key"), counted("unknown", "unknown_channel")
    push(GOOD, key="wrong")
    push(GOOD, channel="<script>")
    assert (counted(CHANNEL, "key"), counted("unknown", "unknown_channel")) == (
        before[0] + 1,
        before[1] + 1,
    )


def test_who_waited_long_for_a_broker_that_is_behind_hears_so(
    push: Push, publisher: FakePublisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_push, "CONFIRM_TIMEOUT_S", -1.0)
    answer = push(GOOD)
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "5")
    assert publisher.published == []


def test_a_body_that_does_not_arrive_is_not_waited_for(
    place: Settings, publisher: FakePublisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_push, "BODY_S", 0.05)
    app = FastAPI()
    app.include_router(router(place, publisher))
    first = iter([{"type": "http.request", "body": b"{", "more_body": True}])
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        for message in first:
            return message
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(app(scope(f"/channels/{CHANNEL}/reports", {"X-API-Key": KEY}), receive, send))
    assert sent[0]["status"] == 408
    assert (b"connection", b"close") in sent[0]["headers"]


def scope(path: str, headers: dict[str, str]) -> dict[str, Any]:
    """An ASGI request."""
    return {
        "type": "http",
        "method": "POST",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(k.lower().encode(), v.encode("latin-1")) for k, v in headers.items()],
        "http_version": "1.1",
        "scheme": "http",
        "root_path": "",
        "server": ("testserver", 80),
        "client": ("testclient", 1),
    }


# Signed channels

ALARM = json.dumps({"alarm_no": "a1", "content": "占道"}).encode()


def now() -> int:
    return int(time.time())


def signed(push: Push, headers: dict[str, str], body: bytes = ALARM) -> tuple[int, str | None]:
    answer = push(body, channel="police110", key=None, **headers)
    return answer.status_code, answer.json().get("reason")


@pytest.mark.parametrize("secret", ["newer", "older"])
def test_a_signed_channel_takes_what_one_of_its_keys_signed(
    push: Push, publisher: FakePublisher, secret: str
) -> None:
    assert signed(push, sign(secret, now(), ALARM)) == (202, None)
    assert publisher.published[0]["payload"] == ALARM


def test_what_was_taken_once_is_refused_as_replayed(push: Push, publisher: FakePublisher) -> None:
    headers = sign("newer", now(), ALARM)
    assert signed(push, headers) == (202, None)
    assert signed(push, headers) == (401, "replayed")
    upper = {**headers, SIGNATURE_HEADER: "v1=" + headers[SIGNATURE_HEADER][3:].upper()}
    assert signed(push, upper) == (401, "replayed")
    assert len(publisher.published) == 1
    assert signed(push, sign("newer", now() + 1, ALARM)) == (202, None)


def test_who_got_no_202_may_send_the_very_same_again(push: Push, publisher: FakePublisher) -> None:
    headers = sign("newer", now(), ALARM)
    publisher.error = BrokerBehind("not in time")
    assert signed(push, headers) == (429, "broker_behind")
    publisher.error = None
    assert signed(push, headers) == (202, None)
    bad = b'{"alarm_no": ""}'
    headers = sign("newer", now(), bad)
    for _ in range(2):
        assert signed(push, headers, bad) == (400, "missing_native_id")


def test_what_proves_nothing_is_refused_by_its_reason(push: Push, publisher: FakePublisher) -> None:
    good = sign("newer", now(), ALARM)
    assert signed(push, sign("stranger", now(), ALARM)) == (401, "signature")
    assert signed(push, good, ALARM + b" ") == (401, "signature")
    assert signed(push, {**good, TIMESTAMP_HEADER: str(now() + 7)}) == (401, "signature")
    assert signed(push, sign("newer", now() - 400, ALARM)) == (401, "timestamp")
    assert signed(push, sign("newer", now() + 400, ALARM)) == (401, "timestamp")
    assert signed(push, {SIGNATURE_HEADER: good[SIGNATURE_HEADER]}) == (401, "timestamp")
    assert signed(push, {}) == (401, "signature")
    # The key itself is no signature: it would be on the line for everybody to use.
    answer = push(ALARM, channel="police110", key="newer")
    assert (answer.status_code, answer.json()["reason"]) == (401, "signature")
    assert publisher.published == []


# Forms

REPORT = {"accept_no": "f1", "subject": "路灯 & 井盖", "lng": "113.6", "lat": "34.7"}
File = tuple[str, tuple[str, bytes]]


@pytest.fixture
def client(place: Settings, publisher: FakePublisher) -> Iterator[TestClient]:
    app = FastAPI()
    app.include_router(router(place, publisher))
    with TestClient(app, headers={"X-API-Key": KEY}) as made:
        yield made


def post_form(client: TestClient, files: Sequence[File] = (), **more: Any) -> Any:
    return client.post(
        "/channels/online_window/reports", data=REPORT | more, files=list(files) or None
    )


def media(place: Settings) -> dict[str, bytes]:
    """Whatever lies in the folder of kept files, drafts too."""
    found = (place.home / "media").rglob("*")
    return {path.name: path.read_bytes() for path in found if path.is_file()}


def test_a_form_is_a_report(client: TestClient, publisher: FakePublisher) -> None:
    answer = post_form(client)
    assert answer.status_code == 202
    assert answer.json()["reports"] == [report_id("online_window", "f1", 0)]
    (raw,) = publisher.published
    assert (raw["title"], raw["lon"], raw["crs"]) == ("路灯 & 井盖", "113.6", "GCJ02")
    assert json.loads(raw["payload"]) == REPORT


def test_a_field_that_stands_twice_is_kept_twice(
    client: TestClient, publisher: FakePublisher
) -> None:
    assert post_form(client, tag=["a", "b", "c"]).status_code == 202
    assert json.loads(publisher.published[0]["payload"])["tag"] == ["a", "b", "c"]


def test_files_are_on_the_disk_before_the_202_and_their_hashes_in_the_report(
    client: TestClient, place: Settings, publisher: FakePublisher
) -> None:
    found_then: list[dict[str, bytes]] = []
    publisher.seen = lambda: found_then.append(media(place))
    files = [
        ("attachments", ("灯.jpg", b"one")),
        ("attachments", ("../../etc/passwd", b"two")),
        ("other", ("again.jpg", b"one")),
        ("empty", ("", b"")),
    ]
    assert post_form(client, files).status_code == 202
    one, two = (hashlib.sha256(data).hexdigest() for data in (b"one", b"two"))
    assert found_then == [{one: b"one", two: b"two"}]
    assert media(place) == {one: b"one", two: b"two"}
    kept = place.home / "media" / one[:2] / one
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert stat.S_IMODE(kept.parent.stat().st_mode) == 0o700
    (raw,) = publisher.published
    assert raw["media"] == [f"sha256:{one}", f"sha256:{two}", f"sha256:{one}"]
    assert json.loads(raw["payload"])["attachments"][1] == {
        "sha256": two,
        "url": "",
        "name": "../../etc/passwd",
        "size": 3,
    }


def test_a_file_by_reference_and_one_by_its_bytes_are_both_media(
    client: TestClient, publisher: FakePublisher
) -> None:
    answer = post_form(
        client, [("attachments", ("a", b"x"))], attachments="https://window.example/1.jpg"
    )
    assert answer.status_code == 202
    assert publisher.published[0]["media"] == [
        "https://window.example/1.jpg",
        f"sha256:{hashlib.sha256(b'x').hexdigest()}",
    ]


def test_a_form_with_too_much_is_refused_and_keeps_nothing(
    client: TestClient, place: Settings, publisher: FakePublisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    ten = [("attachments", (f"{n}", b"x")) for n in range(10)]
    answer = post_form(client, ten)
    assert (answer.status_code, answer.json()["field"], answer.json()["index"]) == (
        400,
        "attachments",
        9,
    )
    answer = post_form(client, ten[:9], attachments="https://window.example/1.jpg")
    assert (answer.status_code, answer.json()["reason"]) == (400, "media_limit")
    many: dict[str, Any] = {f"f{n}": "x" for n in range(300)}
    assert post_form(client, (), **many).status_code == 413
    assert post_form(client, ten[:1], **many).status_code == 413
    monkeypatch.setattr(forms, "FILE_LIMIT", 100)
    answer = post_form(client, [*ten[:1], ("attachments", ("big", b"x" * 101))])
    assert (answer.status_code, answer.json()["reason"], answer.json()["index"]) == (
        413,
        "file_too_large",
        1,
    )
    monkeypatch.setattr(http_push, "FORM_LIMIT", 1000)
    assert post_form(client, [("attachments", ("big", b"x" * 2000))]).status_code == 413
    assert (publisher.published, (place.home / "media").exists()) == ([], False)


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_full_disk_is_507_nothing_is_published_and_a_repetition_heals_it(
    client: TestClient,
    place: Settings,
    publisher: FakePublisher,
    monkeypatch: pytest.MonkeyPatch,
    failing: str,
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as broken:
        if failing == "fsync":
            broken.setattr(os, "fsync", full)
        else:
            broken.setattr(Path, "replace", full)
        answer = post_form(client, [("attachments", ("a", b"x"))])
    assert (answer.status_code, answer.json()["reason"]) == (507, "no_room")
    assert "No space left" in answer.json()["error"]
    assert (publisher.published, media(place)) == ([], {})
    assert post_form(client, [("attachments", ("a", b"x"))]).status_code == 202
    assert list(media(place).values()) == [b"x"]


HEAD = b'--b\r\nContent-Disposition: form-data; name="accept_no"\r\n\r\n'


@pytest.mark.parametrize(
    ("body", "content_type", "words"),
    [
        (HEAD + b"f1\r\n", "multipart/form-data; boundary=b", "last boundary"),
        (HEAD + b"f1\r\n--b--\r\n", "multipart/form-data", "boundary"),
        (HEAD + b"f1\r\n--b--\r\n", "multipart/form-data; boundary=" + "x" * 300, "oundary"),
        (HEAD + b"\xff\r\n--b--\r\n", "multipart/form-data; boundary=b", "UTF-8"),
        (b"--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b--\r\n",
         "multipart/form-data; boundary=b", "name"),
        (b"", "multipart/form-data; boundary=b", "last boundary"),
        (b"garbage", "multipart/form-data; boundary=b", "not a form"),
        (b"accept_no=f1&subject=%ff", "application/x-www-form-urlencoded", "UTF-8"),
        (b"accept_no=f1&subject=\xff", "application/x-www-form-urlencoded", "UTF-8"),
        (b"", "application/x-www-form-urlencoded", "accept_no is missing"),
    ],
)  # fmt: skip
def test_a_broken_form_is_refused_and_never_read_in_part(
    client: TestClient, publisher: FakePublisher, body: bytes, content_type: str, words: str
) -> None:
    answer = client.post(
        "/channels/online_window/reports", content=body, headers={"Content-Type": content_type}
    )
    assert answer.status_code == 400
    assert words in answer.json()["error"]
    assert publisher.published == []


def test_a_form_channel_still_takes_json(push: Push, publisher: FakePublisher) -> None:
    assert push([REPORT, REPORT | {"accept_no": "f2"}], channel="online_window").status_code == 202
    assert [raw["native_id"] for raw in publisher.published] == ["f1", "f2"]


# Whatever comes

JSONS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["accept_no", "attachments", "lng"]), inner, max_size=4)
    ),
    max_leaves=20,
)
REPORTS = st.dictionaries(st.sampled_from(["accept_no", "attachments", "subject"]), JSONS)
FIELDS = st.dictionaries(st.text(max_size=9) | st.just("accept_no"), st.text(max_size=9))
#: Pieces of forms in any order.
PIECES = st.lists(
    st.sampled_from(
        [HEAD, HEAD, b"--b\r\n", b"\r\n--b\r\n", b"\r\n--b--\r\n", b"--b--", b"\r\n", b"\n", b"x",
         b"\xff", b"--", b":", b"f1", b"\r\n\r\n",
         b'Content-Disposition: form-data; name="attachments"; filename="a\xff"\r\n',
         b'Content-Disposition: form-data; name="attachments"; filename=""\r\n',
         b"Content-Transfer-Encoding: base64\r\n", b"Content-Type: a/b; charset=x\r\n"]
    ),
    max_size=9,
).map(b"".join)  # fmt: skip
VALUES = st.text(st.characters(max_codepoint=255, exclude_characters="\r\n\0"), max_size=30)
MESSAGES = st.one_of(
    st.tuples(
        st.just("application/json"),
        (REPORTS | st.lists(REPORTS, max_size=3) | JSONS).map(lambda v: json.dumps(v).encode()),
    ),
    st.tuples(
        st.just("application/x-www-form-urlencoded"),
        FIELDS.map(lambda pairs: urlencode(pairs, errors="replace").encode())
        | st.binary(max_size=99),
    ),
    st.tuples(
        st.just("multipart/form-data; boundary=b"),
        PIECES | PIECES.map(lambda pieces: HEAD + b"f1\r\n--b\r\n" + pieces + b"\r\n--b--\r\n"),
    ),
    st.tuples(VALUES | st.just('multipart/form-data; boundary="\xe9"'), st.binary(max_size=200)),
)
HEADERS = st.fixed_dictionaries(
    {"X-API-Key": st.sampled_from([KEY, KEY, KEY, KEY, "", "\xe9"])},
    optional={
        "Content-Length": VALUES,
        TIMESTAMP_HEADER: VALUES | st.just("1773706801"),
        SIGNATURE_HEADER: VALUES | st.just("v1=" + "a" * 64),
    },
)
CODINGS = st.sampled_from(
    [{}, {}, {}, {"Content-Encoding": "identity"}, {"Content-Encoding": "br"}]
)
CHANNELS = st.sampled_from([*["online_window"] * 6, "grid_patrol", "police110", "x"])


@settings(max_examples=400, deadline=None, derandomize=True, database=None)
@given(CHANNELS, MESSAGES, HEADERS, CODINGS)
def test_whatever_comes_is_answered_with_a_202_or_its_reason(
    fuzzed: tuple[FastAPI, FakePublisher],
    channel: str,
    message: tuple[str, bytes],
    headers: dict[str, str],
    coding: dict[str, str],
) -> None:
    kind, body = message
    headers = headers | coding | {"Content-Type": kind}
    app, publisher = fuzzed
    publisher.published.clear()
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(app(scope(f"/channels/{channel}/reports", headers), receive, send))
    answer = json.loads(b"".join(m.get("body", b"") for m in sent))
    status = sent[0]["status"]
    event(f"{status} {answer.get('reason')}")
    if status == 202:
        assert len(publisher.published) == answer["accepted"] > 0
    else:
        assert status in {400, 401, 404, 413, 415}
        assert set(answer) <= {"error", "reason", "field", "index"}
        assert publisher.published == []


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> tuple[FastAPI, FakePublisher]:
    place = Settings(home=tmp_path_factory.mktemp("fuzzed"))
    place.keys_path.write_text(json.dumps(dict.fromkeys(channel_names(), KEY)))
    app, publisher = FastAPI(), FakePublisher()
    app.include_router(router(place, publisher))
    return app, publisher
