"""``POST /channels/{name}/reports``: channels push, 202 means that the broker has it.

One report or many as JSON, an API key per channel in ``X-API-Key``. Nothing is taken in half: a body
with one bad report is refused whole, naming it; and a sender that gets no 202 sends the same again.
"""

import hmac
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, cast

from fastapi import APIRouter, Header, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field, TypeAdapter, ValidationError
from starlette.concurrency import run_in_threadpool

from connectors.mapping import to_raw_report
from connectors.publish import BrokerBehind, Publisher, Unpublishable
from schemas import metrics
from schemas.channels import ChannelSpec, channel_names, load_channel
from schemas.ids import report_id
from schemas.settings import Settings
from schemas.texts import clean

#: A batch of 500 long reports is below 2 MB; photos come by reference.
BODY_LIMIT = 6 * 1024 * 1024
REPORTS_LIMIT = 1_000
DEPTH_LIMIT = 20
TRANSPORT = "http_push"
_KEYS = TypeAdapter(dict[str, str])


class Accepted(BaseModel):
    """Answer to an accepted push."""

    accepted: int = Field(description="Reports that the broker confirmed.")
    reports: list[str] = Field(description="report_id of each, in the order sent.")


class Refusal(BaseModel):
    """Answer to a refused push: what is wrong, and where."""

    error: str
    field: str | None = None
    index: int | None = None


class Refused(Exception):
    """A push that is not taken; carries the answer."""

    def __init__(
        self, status: int, reason: str, error: str, field: str | None = None, index: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(error)
        self.status, self.reason, self.headers = status, reason, dict(headers or {})
        self.body = Refusal(error=error, field=field, index=index)


class Keys:
    """API keys by channel, read again when their file changes, so that keys rotate without restart."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read_at: tuple[int, int] | None = None
        self._keys: dict[str, str] = {}

    def accepts(self, channel: str, key: str) -> bool:
        """Whether ``key`` is the channel's, in constant time."""
        self._refresh()
        known = self._keys.get(channel, "")
        return bool(known) and hmac.compare_digest(known.encode(), key.encode())

    def _refresh(self) -> None:
        try:
            stat = self._path.stat()
            stamp = (stat.st_mtime_ns, stat.st_size)
            if stamp != self._read_at:
                self._keys = _KEYS.validate_json(self._path.read_bytes(), strict=True)
                self._read_at = stamp
        except (OSError, ValidationError):
            self._keys, self._read_at = {}, None


def router(settings: Settings, publisher: Publisher) -> APIRouter:
    """The push interface of every channel with transport ``http``."""
    routes = APIRouter(tags=["channels"])
    keys = Keys(settings.keys_path)

    @routes.post(
        "/channels/{name}/reports",
        status_code=202,
        response_model=Accepted,
        responses={code: {"model": Refusal} for code in (400, 401, 404, 413, 415, 429)},
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {
                    "application/json": {
                        "schema": {
                            "anyOf": [
                                {"type": "object"},
                                {"type": "array", "items": {"type": "object"}},
                            ]
                        }
                    }
                },
            }
        },
    )
    async def push(
        name: str, request: Request, x_api_key: Annotated[str | None, Header()] = None
    ) -> JSONResponse:
        """Take one report or an array of reports in the channel's own fields."""
        try:
            spec = _channel(name)
            if not keys.accepts(name, x_api_key or ""):
                raise Refused(401, "key", f"X-API-Key is missing or not the key of {name}")
            natives, payloads = _read(
                spec, await _body(request), request.headers.get("content-type", "")
            )
            received_at = int(time.time() * 1000)
            raws = [
                to_raw_report(
                    spec, native, received_at=received_at, connector=TRANSPORT, payload=payload
                )
                for native, payload in zip(natives, payloads, strict=True)
            ]
            for index, raw in enumerate(raws):
                if raw["defects"]:
                    field = raw["defects"][0].partition(":")[0]
                    raise Refused(
                        400, "defect", raw["defects"][0], _native_field(spec, field), index
                    )
                if not clean(raw["native_id"]):
                    raise Refused(
                        400,
                        "missing_native_id",
                        f"{spec.native_id} is missing, empty or neither text nor number",
                        _native_field(spec, "native_id"),
                        index,
                    )
            await run_in_threadpool(_publish, publisher, raws)
        except Refused as refused:
            metrics.CHANNEL_REFUSED.labels(
                name if name in channel_names() else "unknown", TRANSPORT, refused.reason
            ).inc()
            return JSONResponse(
                refused.body.model_dump(exclude_none=True), refused.status, headers=refused.headers
            )
        ids = [report_id(name, clean(raw["native_id"]), raw["revision"]) for raw in raws]
        return JSONResponse({"accepted": len(ids), "reports": ids}, 202)

    return routes


def _publish(publisher: Publisher, raws: list[dict[str, Any]]) -> None:
    try:
        publisher.publish(raws, TRANSPORT)
    except BrokerBehind as error:
        raise Refused(
            429, "broker_behind", f"not taken: {error}; send the same again",
            headers={"Retry-After": str(error.retry_after_s)},
        ) from None  # fmt: skip
    except Unpublishable as error:
        raise Refused(
            413, "record_too_large", f"a report is larger than the broker takes: {error}"
        ) from None


def _channel(name: str) -> ChannelSpec:
    if name in channel_names():
        spec = load_channel(name)
        if spec.transports.http is not None:
            return spec
    known = ", ".join(n for n in channel_names() if load_channel(n).transports.http)
    raise Refused(404, "unknown_channel", f"no channel {name[:60]!r} that pushes; known: {known}")


def _native_field(spec: ChannelSpec, field: str) -> str:
    """The channel's own name of a raw report's field."""
    fixed = {"native_id": spec.native_id, "revision": spec.revision}
    mapped = {str(ours): theirs for ours, theirs in spec.fields.items()}
    source = fixed.get(field) or mapped.get(field) or field
    return source if isinstance(source, str) else str(source[0])


async def _body(request: Request) -> bytes:
    """The body, never more of it than the limit, whatever the header says."""
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > BODY_LIMIT:
            raise Refused(
                413,
                "body_too_large",
                f"the body is larger than {BODY_LIMIT} bytes; send fewer at once",
            )
        parts.append(part)
    return b"".join(parts)


def _read(
    spec: ChannelSpec, body: bytes, content_type: str
) -> tuple[list[dict[str, Any]], list[bytes | None]]:
    """Native messages and, for a single one, its very bytes."""
    if content_type.partition(";")[0].strip().lower() not in ("application/json", ""):
        raise Refused(
            415, "content_type", f"Content-Type {content_type[:60]!r}; send application/json"
        )
    try:
        document = json.loads(body.decode("utf-8"), parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        raise Refused(400, "encoding", f"the body is not UTF-8 at byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise Refused(
            400,
            "not_json",
            f"the body is not JSON: {error.msg}, line {error.lineno} column {error.colno}",
        ) from None
    except RecursionError:
        raise Refused(400, "depth", f"the body is nested deeper than {DEPTH_LIMIT}") from None
    except ValueError as error:
        raise Refused(400, "not_json", f"the body is not JSON: {error}") from None
    natives = document if isinstance(document, list) else [document]
    if not natives:
        raise Refused(400, "empty", "the array holds no report")
    if len(natives) > REPORTS_LIMIT:
        raise Refused(413, "too_many", f"{len(natives)} reports, at most {REPORTS_LIMIT} at once")
    for index, native in enumerate(natives):
        if not isinstance(native, dict):
            raise Refused(400, "not_object", f"a report of {spec.name} is an object", None, index)
        if _depth(native) > DEPTH_LIMIT:
            raise Refused(400, "depth", f"nested deeper than {DEPTH_LIMIT}", None, index)
    single = [body] if not isinstance(document, list) else [None] * len(natives)
    return natives, cast(list[bytes | None], single)


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def _depth(value: Any) -> int:
    """How deep a document is nested, counted without recursion."""
    deepest, todo = 0, [(value, 1)]
    while todo:
        item, depth = todo.pop()
        deepest = max(deepest, depth)
        if depth > DEPTH_LIMIT:
            return depth
        if isinstance(item, dict):
            todo.extend((child, depth + 1) for child in item.values())
        elif isinstance(item, list):
            todo.extend((child, depth + 1) for child in item)
    return deepest
