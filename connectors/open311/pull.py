"""Pulls another city's requests from its GeoReport v2 server: ``GET /requests`` by windows of time.

The address is the endpoint's base (``https://city.example/open311/v2``), an ``api_key`` in its query. A
server answers with 1,000 requests at most, some with pages, some without, newest or oldest first; so a
window is asked page after page until a page says nothing new, and cut in two when the server has no pages
and its answer is full. The position is the newest ``requested_datetime`` confirmed, moved only when its
window is complete; the ids of the overlap are kept beside it, so that what is asked again is not sent again.
"""

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

import httpx
import structlog

from connectors.mapping import Entry
from connectors.open311.documents import parse
from connectors.position import Position
from connectors.source import Portion, SourceError
from schemas.channels import ChannelSpec, Open311Transport
from schemas.errors import QuanyuError
from schemas.instants import parse_instant
from schemas.settings import Settings

log = structlog.get_logger("connectors")

DAY_MS = 86_400_000
#: The specification's own range; a source that is new begins so far back.
FIRST_MS = 90 * DAY_MS
#: A window is short enough that its ids, kept until it is complete, are few.
WINDOW_MS = 7 * DAY_MS
#: What the specification lets a server answer at most.
FULL = 1_000
#: A page of 1,000 requests is about a megabyte.
BODY_LIMIT = 32 * 1024 * 1024
CONNECT_S, ANSWER_S, WHOLE_S = 5.0, 10.0, 30.0
REDIRECTS = 3


def open_source(settings: Settings, spec: ChannelSpec, address: str) -> "Open311Pull":
    """The channel's requests at a GeoReport v2 endpoint."""
    return Open311Pull(settings, spec, address)


@dataclass(slots=True)
class _Window:
    """A span of time that is being asked, ms since the epoch, and what it has shown so far."""

    start: int
    end: int
    page: int = 1
    shown: set[str] = field(default_factory=set)


class Open311Pull:
    """A :class:`connectors.source.Source` over one endpoint."""

    def __init__(self, settings: Settings, spec: ChannelSpec, address: str) -> None:
        try:
            url = httpx.URL(address)
        except httpx.InvalidURL:
            url = httpx.URL("")
        if url.scheme not in ("http", "https") or not url.host:
            raise SourceError(
                "address", f"{spec.name}: the address of an Open311 server begins with https://"
            )
        self._spec = spec
        self._options = spec.transports.open311 or Open311Transport()
        self._given = dict(url.params)
        if self._options.jurisdiction_id:
            self._given["jurisdiction_id"] = self._options.jurisdiction_id
        # The key stands in the query, which is shown nowhere.
        self._base = url.copy_with(query=None, fragment=None, userinfo=None)
        self._auth = (url.username, url.password) if url.username else None
        self._formats = ["xml", "json"]
        identity = hashlib.sha256(
            f"{self._base}\0{self._options.jurisdiction_id or ''}".encode()
        ).hexdigest()
        self._position = Position(
            settings.home / "positions" / f"{spec.name}-open311-{identity[:12]}.json"
        )
        kept = self._position.read()
        newest, seen = kept.get("newest"), kept.get("seen")
        self._newest: int | None = newest if isinstance(newest, int) else None
        #: What was confirmed of the overlap and of windows not yet complete: id → requested, ms.
        self._seen: dict[str, int] = dict(seen) if isinstance(seen, dict) else {}
        #: Until when every window was complete in this process; None before the first pull.
        self._through: int | None = None
        self._todo: list[_Window] = []
        self._due = time.monotonic()
        self._unconfirmed: Portion | None = None
        self._client = httpx.Client(
            timeout=httpx.Timeout(ANSWER_S, connect=CONNECT_S),
            headers={
                "Accept": "text/xml, application/json;q=0.5", "Accept-Encoding": "identity",
                "User-Agent": "quanyu",
            },
        )  # fmt: skip

    def read(self, timeout_s: float) -> Portion | None:
        """The next page's new requests; see :class:`connectors.source.Source`."""
        if self._unconfirmed is not None:
            return self._unconfirmed
        end = time.monotonic() + timeout_s
        while True:
            if not self._todo:
                wait = self._due - time.monotonic()
                if wait > 0:
                    time.sleep(max(0.0, min(wait, end - time.monotonic())))
                if self._due > time.monotonic():
                    return None
                self._plan(int(time.time() * 1000))
            self._unconfirmed = self._page(self._todo[-1])
            if self._unconfirmed is not None or time.monotonic() >= end:
                return self._unconfirmed

    def confirm(self, portion: Portion) -> None:
        """Keep the ids; the newest instant follows when the window is complete."""
        self._seen.update(portion.position)
        self._keep()
        self._unconfirmed = None

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def _keep(self) -> None:
        self._position.write({"newest": self._newest, "seen": self._seen})

    def _plan(self, now: int) -> None:
        """Windows up to now, the oldest to be asked first."""
        self._due = time.monotonic() + self._options.interval_s
        overlap = round(self._options.overlap_s * 1000)
        start = now - FIRST_MS if self._newest is None else self._newest - overlap
        if self._through is not None:
            # A channel that has been quiet for months is not asked for all of them each time.
            start = max(start, self._through - max(WINDOW_MS, overlap))
        windows = []
        while True:
            end = min(start + WINDOW_MS, now)
            windows.append(_Window(start, end))
            if end >= now:
                break
            start = end
        self._todo = windows[::-1]

    def _page(self, window: _Window) -> Portion | None:
        """Ask the window's next page; None when it showed nothing that is new."""
        span = {"start_date": _w3(window.start), "end_date": _w3(window.end, up=True)}
        more = {"page": str(window.page)} if window.page > 1 else {}
        origin = f"{self._base.host} {span['start_date']}..{span['end_date']} page {window.page}"
        try:
            entries = parse(self._get({**self._given, **span, **more}), origin)
        except QuanyuError as error:
            raise SourceError("malformed", str(error)) from None
        keys = [_key(entry) for entry in entries]
        if not set(keys) - window.shown:
            self._shown(window, repeated=window.page == 2 and len(keys) >= FULL)
            return None
        window.shown.update(keys)
        window.page += 1
        fresh = [e for e, key in zip(entries, keys, strict=True) if key not in self._seen]
        if not fresh:
            return None
        instants = {_key(entry): self._requested(entry, window) for entry in fresh}
        return Portion(fresh, origin, instants)

    def _shown(self, window: _Window, repeated: bool) -> None:
        """The window says nothing more: it is complete, or too much for a server without pages."""
        self._todo.pop()
        if repeated and window.end - window.start > 2_000:
            middle = (window.start + window.end) // 2
            self._todo += [_Window(middle, window.end), _Window(window.start, middle)]
            return
        if repeated:
            log.warning(
                "requests of one second beyond the server's limit", channel=self._spec.name,
                second=_w3(window.start),
            )  # fmt: skip
        self._through = max(window.end, self._through or 0)
        newest = max((self._seen[key] for key in window.shown if key in self._seen), default=None)
        if newest is not None and newest > (self._newest or 0):
            self._newest = newest
        if self._newest is not None and self._seen:
            before = self._newest - round(self._options.overlap_s * 1000) - 1_000
            self._seen = {key: ms for key, ms in self._seen.items() if ms >= before}
            self._keep()

    def _requested(self, entry: Entry, window: _Window) -> int:
        """When it was requested, as the window lets it be: a clock ahead must not end the pulling."""
        text = str((entry.fields or {}).get("requested_datetime") or "")
        instant = parse_instant(text, self._spec.time_zone)
        return window.end if instant is None else min(max(instant.ms, window.start), window.end)

    def _get(self, params: Mapping[str, str]) -> bytes:
        """The body of ``requests.xml``, or of ``requests.json`` where there is no XML."""
        status, body = 0, b""
        for form in self._formats:
            url = self._base.copy_with(path=f"{self._base.path.rstrip('/')}/requests.{form}")
            status, body = self._fetch(url.copy_merge_params(params))
            if status == 200:
                self._formats = [form]
                return body
            if status not in (404, 406):
                break
        raise self._meaning(status, body)

    def _fetch(self, url: httpx.URL) -> tuple[int, bytes]:
        """Status and body; redirects are followed on the same host only, never from https to http."""
        deadline = time.monotonic() + WHOLE_S
        try:
            for _ in range(REDIRECTS + 1):
                with self._client.stream("GET", url, auth=self._auth) as answer:
                    following = answer.next_request
                    if following is None:
                        return answer.status_code, self._body(answer, deadline)
                    if not _same_server(url, following.url):
                        raise SourceError(
                            "redirect",
                            f"{self._base} sends to another server, {following.url.host}; if it moved, "
                            "change the address",
                        )
                    url = following.url
        except httpx.TimeoutException:
            raise SourceError("timeout", f"{self._base} does not answer in time") from None
        except (httpx.RemoteProtocolError, httpx.DecodingError) as error:
            raise SourceError("malformed", f"{self._base}: {error}") from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise SourceError("unreachable", f"{self._base}: {error}") from None
        raise SourceError("redirect", f"{self._base} redirects more than {REDIRECTS} times")

    def _body(self, answer: httpx.Response, deadline: float) -> bytes:
        parts, size = [], 0
        for part in answer.iter_bytes():
            size += len(part)
            if size > BODY_LIMIT:
                raise SourceError(
                    "too_large", f"{self._base}: the answer is larger than {BODY_LIMIT >> 20} MB"
                )
            if time.monotonic() > deadline:
                raise SourceError("timeout", f"{self._base}: the answer takes over {WHOLE_S:.0f} s")
            parts.append(part)
        return b"".join(parts)

    def _meaning(self, status: int, body: bytes) -> SourceError:
        """What a status other than 200 means, with the server's own reason where it gives one."""
        reasons = {401: "refused", 403: "refused", 404: "not_found", 429: "busy"}
        reason = reasons.get(status, "unavailable" if status >= 500 else "refused")
        said = ""
        try:
            parse(body, "")
        except QuanyuError as error:
            head, found, words = str(error).partition("an error answer, no requests: ")
            said = f": {words}" if found and not head.strip(": ") else ""
        return SourceError(reason, f"{self._base} answers {status}{said}")


def _key(entry: Entry) -> str:
    """What tells an entry from others: its id, else its very content."""
    native = (entry.fields or {}).get("service_request_id")
    if isinstance(native, str | int) and not isinstance(native, bool) and str(native).strip():
        return str(native).strip()[:200]
    content = entry.data or json.dumps(entry.fields, sort_keys=True).encode()
    return "content:" + hashlib.sha256(content).hexdigest()


def _w3(ms: int, up: bool = False) -> str:
    """The instant to the second, as the specification writes it; ``up`` is to the next one."""
    seconds = -(-ms // 1000) if up else ms // 1000
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _same_server(one: httpx.URL, other: httpx.URL) -> bool:
    if one.host != other.host:
        return False
    if one.scheme == other.scheme:
        return one.port == other.port
    return (one.scheme, other.scheme) == ("http", "https")
