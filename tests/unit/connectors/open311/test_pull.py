"""Another city's requests, from a stub of its server: each once, whatever the server's habits."""

import contextlib
import json
import random
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from connectors.open311 import pull
from connectors.open311.pull import open_source
from connectors.source import Source, SourceError
from schemas.channels import ChannelSpec, load_channel
from schemas.instants import parse_instant
from schemas.settings import Settings

Answer = tuple[int, dict[str, str], bytes]
HOUR_MS = 3_600_000


class City:
    """A server of requests: how many an answer holds, whether it pages, in which order and format."""

    def __init__(self) -> None:
        self.requests: dict[str, int] = {}
        self.limit = 1_000
        self.pages = True
        self.newest_first = True
        self.formats: tuple[str, ...] = ("xml", "json")
        self.asked: list[dict[str, str]] = []
        #: Called before an answer; what it returns is answered instead.
        self.instead: Callable[[str, dict[str, str]], Answer | None] = lambda *_: None
        self.url = ""

    def fill(self, count: int, days: float, seed: int = 3) -> None:
        """Requests spread over the last days."""
        choice, now = random.Random(seed), time.time() * 1000
        for number in range(count):
            self.requests[f"r{number}"] = int(now - choice.uniform(0, days) * 24 * HOUR_MS)

    def answer(self, path: str, query: dict[str, str]) -> Answer:
        """What a GeoReport v2 server answers."""
        self.asked.append(query)
        form = path.rpartition(".")[2]
        other = self.instead(path, query)
        if other is not None:
            return other
        if not path.startswith("/open311/v2/requests.") or form not in self.formats:
            return (
                404,
                {},
                b"<errors><error><code>404</code><description>none</description></error></errors>",
            )
        start, end = (parse_instant(query[name], "UTC") for name in ("start_date", "end_date"))
        assert start is not None
        assert end is not None
        assert end.ms - start.ms <= 90 * 24 * HOUR_MS
        found = [(ms, name) for name, ms in self.requests.items() if start.ms <= ms <= end.ms]
        found.sort(reverse=self.newest_first)
        first = (int(query.get("page", 1)) - 1) * self.limit if self.pages else 0
        rows = [
            {
                "service_request_id": name,
                "requested_datetime": datetime.fromtimestamp(ms / 1000, UTC).isoformat(),
            }
            for ms, name in found[first : first + self.limit]
        ]
        if form == "json":
            return 200, {}, json.dumps(rows).encode()
        inner = "".join(
            "<request>" + "".join(f"<{k}>{v}</{k}>" for k, v in row.items()) + "</request>"
            for row in rows
        )
        return 200, {}, f"<service_requests>{inner}</service_requests>".encode()


@pytest.fixture
def city() -> Iterator[City]:
    """A stub server of its own."""
    made = City()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            status, headers, body = made.answer(parts.path, dict(parse_qsl(parts.query)))
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            # Who asked may have given up.
            with contextlib.suppress(OSError):
                self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.url = f"http://127.0.0.1:{server.server_address[1]}/open311/v2"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield made
    server.shutdown()
    server.server_close()


def spec(**options: Any) -> ChannelSpec:
    """The channel, with other options of its pull."""
    channel = load_channel("open311")
    transports = channel.transports.model_dump(exclude_none=True)
    transports["open311"] |= {"interval_s": 3600.0, **options}
    return ChannelSpec(**{**channel.model_dump(), "transports": transports})


@pytest.fixture
def opened(city: City, tmp_path: Path) -> Callable[..., Source]:
    """Opens the stub's source in one home, each time as a process that starts anew would."""

    def do(query: str = "", **options: Any) -> Source:
        return open_source(Settings(home=tmp_path), spec(**options), city.url + query)

    return do


def drain(city: City, source: Source) -> list[str]:
    """Ids of every portion, confirmed, until the source asks no more: its pull is over."""
    found: list[str] = []
    while True:
        asked = len(city.asked)
        portion = source.read(0.0)
        if portion is not None:
            found += [str((entry.fields or {})["service_request_id"]) for entry in portion.entries]
            source.confirm(portion)
        elif len(city.asked) == asked:
            return found


@pytest.mark.parametrize("newest_first", [True, False])
@pytest.mark.parametrize(
    ("pages", "limit", "formats"),
    [(True, 50, ("xml", "json")), (True, 1_000, ("json",)), (False, 1_000, ("xml",))],
)
def test_every_request_comes_once_whether_a_server_pages_or_cuts(
    city: City,
    opened: Callable[..., Source],
    pages: bool,
    limit: int,
    formats: tuple[str, ...],
    newest_first: bool,
) -> None:
    city.pages, city.limit, city.formats, city.newest_first = pages, limit, formats, newest_first
    city.fill(2_600, days=5)
    city.fill(1, days=80)
    found = drain(city, opened())
    assert sorted(found) == sorted(city.requests)


def test_what_was_confirmed_never_comes_again_and_the_rest_always(
    city: City, opened: Callable[..., Source]
) -> None:
    city.limit = 40
    city.fill(100, days=0.9)
    source = opened()
    first = source.read(5.0)
    assert first is not None
    assert source.read(0.05) is first
    # Killed before the broker confirmed: another process reads it again.
    again = opened()
    portion = again.read(5.0)
    assert portion is not None
    assert portion.entries == first.entries
    again.confirm(portion)
    # Killed in the middle of the window, the newest page confirmed: the older ones are not lost.
    rest = drain(city, opened())
    assert len(rest) == len(set(rest)) == 60
    assert not set(rest) & {str((e.fields or {})["service_request_id"]) for e in first.entries}
    assert drain(city, opened()) == []


def test_a_request_that_is_late_within_the_overlap_is_found(
    city: City, opened: Callable[..., Source]
) -> None:
    city.fill(20, days=0.9)
    assert len(drain(city, opened(overlap_s=7200.0))) == 20
    newest = max(city.requests.values())
    city.requests |= {"late": newest - HOUR_MS, "too-late": newest - 3 * HOUR_MS}
    assert drain(city, opened(overlap_s=7200.0)) == ["late"]
    city.requests["new"] = newest + 1
    assert drain(city, opened(overlap_s=7200.0)) == ["new"]


def test_a_request_dated_in_the_future_does_not_end_the_pulling(
    city: City, opened: Callable[..., Source]
) -> None:
    source = opened()
    ahead = b'[{"service_request_id": "odd", "requested_datetime": "2099-01-01T00:00:00Z"}]'
    city.instead = lambda *_: (200, {}, ahead)
    assert drain(city, source) == ["odd"]
    city.instead = lambda *_: None
    city.requests["next"] = int(time.time() * 1000)
    assert drain(city, opened()) == ["next"]


@pytest.mark.parametrize(
    "body",
    [
        b"<service_requests><request><service_request_id>x</service_request_id></request>",
        b"<html>busy</html>",
        b'[{"service_request_id": "x"},',
        b"",
        b"<errors><error><code>500</code><description>later</description></error></errors>",
        b'<!DOCTYPE a [<!ENTITY b "c">]><service_requests/>',
    ],
)
def test_a_malformed_page_confirms_nothing_of_its_window_and_loses_nothing(
    city: City, opened: Callable[..., Source], body: bytes
) -> None:
    city.limit = 30
    city.fill(90, days=0.9)
    city.instead = lambda _, query: (200, {}, body) if query.get("page") == "2" else None
    source = opened()
    portion = source.read(5.0)
    assert portion is not None
    source.confirm(portion)
    with pytest.raises(SourceError) as caught:
        source.read(5.0)
    assert caught.value.reason == "malformed"
    city.instead = lambda *_: None
    assert len(drain(city, opened())) == 60


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ((429, {"Retry-After": "1"}, b""), "busy"),
        ((500, {}, b"<html>trace</html>"), "unavailable"),
        ((503, {}, b""), "unavailable"),
        ((403, {}, b"[{\"code\": 403, \"description\": \"bad api_key\"}]"), "refused"),
        ((400, {}, b"?"), "refused"),
        ((404, {}, b"?"), "not_found"),
        ((302, {"Location": "http://other.example/open311/v2/requests.xml"}, b""), "redirect"),
        ((302, {"Location": "//127.0.0.1:9/requests.xml"}, b""), "redirect"),
        ((302, {"Location": "/open311/v2/requests.xml"}, b""), "redirect"),
        ((200, {"Content-Length": "500"}, b"<service_requests/>"), "malformed"),
        ((200, {"Content-Encoding": "gzip"}, b"no gzip"), "malformed"),
    ],
)  # fmt: skip
def test_what_cannot_be_had_now_is_said_in_a_word_and_tried_again(
    city: City, opened: Callable[..., Source], answer: Answer, reason: str
) -> None:
    city.fill(3, days=0.5)
    city.instead = lambda *_: answer
    with pytest.raises(SourceError) as caught:
        opened("?api_key=very-secret").read(5.0)
    assert caught.value.reason == reason
    assert "very-secret" not in str(caught.value)
    if b"bad api_key" in answer[2]:
        assert "bad api_key" in str(caught.value)
    city.instead = lambda *_: None
    assert len(drain(city, opened())) == 3


def test_a_redirect_on_the_same_server_is_followed(
    city: City, opened: Callable[..., Source]
) -> None:
    city.fill(3, days=0.5)
    span = "start_date=2020-01-01T00:00:00Z&end_date=2020-01-02T00:00:00Z"
    moved = {"Location": f"/open311/v2/requests.json?{span}"}
    city.instead = lambda path, _: (307, moved, b"") if path.endswith("xml") else None
    assert opened().read(0.0) is None
    assert [query["start_date"][:4] for query in city.asked[1:]] == ["2020"]


def test_key_and_jurisdiction_go_with_each_question(
    city: City, opened: Callable[..., Source], tmp_path: Path
) -> None:
    city.fill(60, days=0.5)
    city.limit = 50
    drain(city, opened("?api_key=very-secret", jurisdiction_id="city.example"))
    assert {(q["api_key"], q["jurisdiction_id"]) for q in city.asked} == {
        ("very-secret", "city.example")
    }
    for path in (tmp_path / "positions").iterdir():
        assert "very-secret" not in path.name + path.read_text(encoding="utf-8")


def test_an_answer_without_end_is_not_read_to_the_end(
    city: City, opened: Callable[..., Source], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pull, "BODY_LIMIT", 1_000)
    city.instead = lambda *_: (200, {}, b" " * 5_000)
    with pytest.raises(SourceError, match="larger than"):
        opened().read(5.0)
    monkeypatch.setattr(pull, "WHOLE_S", 0.0)
    city.instead = lambda *_: (200, {}, b" ")
    with pytest.raises(SourceError, match="takes over"):
        opened().read(5.0)


def test_a_server_that_is_not_there_or_silent_is_said(
    city: City, opened: Callable[..., Source], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SourceError) as caught:
        open_source(Settings(home=tmp_path), spec(), "http://127.0.0.1:9/v2?api_key=s3cret").read(5)
    assert caught.value.reason == "unreachable"
    for address in ("ftp://a/b", "city.example/open311/v2", "http://", "http://[::1"):
        with pytest.raises(SourceError, match="begins with https"):
            open_source(Settings(home=tmp_path), spec(), address)
    monkeypatch.setattr(pull, "ANSWER_S", 0.05)
    over = threading.Event()

    def silent(*_: Any) -> Answer:
        over.wait(20)
        return 200, {}, b"[]"

    city.instead = silent
    with pytest.raises(SourceError) as caught:
        opened().read(5.0)
    over.set()
    assert caught.value.reason == "timeout"


def test_a_pull_begins_again_after_the_interval_and_not_before(
    city: City, opened: Callable[..., Source]
) -> None:
    city.fill(5, days=0.5)
    source = opened(interval_s=0.2)
    seen: set[str] = set()
    while len(seen) < 6:
        portion = source.read(0.05)
        if portion is not None:
            seen |= {str((entry.fields or {})["service_request_id"]) for entry in portion.entries}
            source.confirm(portion)
        city.requests["later"] = max(city.requests.values())
    quiet = opened(interval_s=3600.0)
    drain(city, quiet)
    asked = len(city.asked)
    assert quiet.read(0.01) is None
    assert len(city.asked) == asked
