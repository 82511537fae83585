"""``POST /channels/{name}/reports``: channels push, 202 means that the broker has it.

One report or an array as JSON, or one as a form where the channel takes forms. A channel proves itself by
its key in ``X-API-Key``, or by a signature (:mod:`connectors.signature`). Nothing is taken in half: a body
with one bad report is refused whole, naming it; and a sender that gets no 202 sends the same again.

JSON is read strictly, because what two readers read differently is later disputed: UTF-8; no NaN, Infinity
or number beyond a double; no name twice in one object; nested at most 20 deep. Half of a surrogate pair is
no character: in a text it becomes U+FFFD, in an id it is refused, since two ids would become one.
"""

import asyncio
import contextlib
import json
import math
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

from fastapi import APIRouter, Request, Security
from fastapi.responses import JSONResponse
from fastapi.security import APIKeyHeader
from pydantic import BaseModel, Field
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect

from connectors import signature
from connectors.forms import (
    FORM_LIMIT,
    FORM_TYPES,
    MULTIPART,
    URLENCODED,
    Form,
    keep,
    read_form,
)
from connectors.mapping import RawReport, media_items, to_raw_report
from connectors.publish import CONFIRM_TIMEOUT_S, BrokerBehind, Publisher, Unpublishable
from connectors.refusal import Refusal, Refused
from schemas import metrics
from schemas.channels import ChannelSpec, HttpTransport, channel_names, load_channel, load_channels
from schemas.ids import report_id
from schemas.keys import Keys
from schemas.secrets import load_hash_key, trail_secret
from schemas.settings import Settings
from schemas.texts import clean

#: A batch of 500 long reports is below 2 MB; photos come by reference, or as files of a form.
BODY_LIMIT = 6 * 1024 * 1024
#: Seconds in which a whole body has to be there; a form with its files has longer.
BODY_S, FORM_S = 20.0, 60.0
REPORTS_LIMIT = 1_000
#: Values of a body, counted by what stands between them: six megabytes of [] take seconds to read.
VALUES_LIMIT = 200_000
DEPTH_LIMIT = 20
#: Pushes that are read and published at once; the others wait, and never for the screen's threads.
THREADS = 32
TRANSPORT = "http_push"


class Accepted(BaseModel):
    """Answer to an accepted push."""

    accepted: int = Field(description="Reports that the broker confirmed.")
    reports: list[str] = Field(description="report_id of each, in the order sent.")
    secrets: list[str] = Field(description="With which the citizen of each follows it: /trail.")


def router(settings: Settings, publisher: Publisher) -> APIRouter:
    """The push interface of every channel with transport ``http``."""
    routes = APIRouter(tags=["channels"])
    keys, replays = Keys(settings.keys_path), signature.Replays()
    hash_key = load_hash_key(settings)
    threads = ThreadPoolExecutor(THREADS, "push")

    def take(
        spec: ChannelSpec, headers: Headers, body: bytes, secrets: list[str], since: float
    ) -> list[str]:
        """Read, keep and publish; the report ids."""
        if time.monotonic() - since > CONFIRM_TIMEOUT_S:
            # Its sender is about to give up; those behind it have waited for as long.
            raise _not_now("broker_behind", "too many requests wait for the broker", 5)
        with _signed(spec, headers, body, keys, secrets, replays):
            payloads: list[bytes | None]
            if _media_type(headers) in FORM_TYPES:
                form = read_form(spec, body, headers["content-type"])
                natives, payloads = [form.native], [None]
            else:
                form = Form()
                natives, payloads = _read(spec, body)
            raws = _raw_reports(spec, natives, payloads)
            if form.files:
                keep(settings.home, form.files)
            _publish(publisher, raws)
        return [report_id(spec.name, clean(raw["native_id"]), raw["revision"]) for raw in raws]

    @routes.post(
        "/channels/{name}/reports",
        status_code=202,
        response_model=Accepted,
        responses=_responses(),
        openapi_extra=_request(),
        dependencies=[
            Security(APIKeyHeader(name="X-API-Key", scheme_name="key", auto_error=False)),
            Security(
                APIKeyHeader(
                    name=signature.SIGNATURE_HEADER,
                    scheme_name="signature",
                    auto_error=False,
                    description=f"With {signature.TIMESTAMP_HEADER}; channels that are signed "
                    "take this and no key.",
                )
            ),
        ],
    )
    async def push(request: Request) -> JSONResponse:
        """Take one report or an array of reports in the channel's own fields."""
        name, headers = request.path_params["name"], request.headers
        try:
            spec = _channel(name)
            known = keys.of(name)
            if _http(spec).signed:
                _timely(headers)
            elif not keys.accepts(name, headers.get("x-api-key", "")):
                raise Refused(401, "key", f"X-API-Key is missing or not the key of {name}")
            body = await read_body(request, *_limits(spec, headers))
            ids = await asyncio.get_running_loop().run_in_executor(
                threads, take, spec, headers, body, known, time.monotonic()
            )
        except Refused as refused:
            return _answer(name, refused)
        secrets = [trail_secret(hash_key, identity) for identity in ids]
        return JSONResponse({"accepted": len(ids), "reports": ids, "secrets": secrets}, 202)

    @routes.api_route(
        "/channels/{rest:path}",
        methods=["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"],
        include_in_schema=False,
    )
    async def elsewhere(request: Request) -> JSONResponse:
        name, _, what = request.path_params["rest"].partition("/")
        if what != "reports":
            return _answer(
                name,
                Refused(404, "unknown_address", "no such address; POST /channels/<name>/reports"),
            )
        return _answer(
            name,
            Refused(405, "method", f"{request.method[:10]} is not POST", headers={"Allow": "POST"}),
        )

    return routes


def _answer(name: str, refused: Refused) -> JSONResponse:
    """The refusal, counted; a label never holds what a stranger typed."""
    known = name if name in channel_names() else "unknown"
    metrics.CHANNEL_REFUSED.labels(known, TRANSPORT, refused.reason).inc()
    return JSONResponse(
        refused.body.model_dump(exclude_none=True), refused.status, headers=refused.headers
    )


def _not_now(reason: str, problem: str, retry_after_s: int) -> Refused:
    return Refused(
        429, reason, f"not taken: {problem}; send the same again",
        headers={"Retry-After": str(retry_after_s)},
    )  # fmt: skip


def _publish(publisher: Publisher, raws: list[RawReport]) -> None:
    try:
        publisher.publish(raws, TRANSPORT)
    except BrokerBehind as error:
        raise _not_now("broker_behind", str(error), error.retry_after_s) from None
    except Unpublishable as error:
        raise Refused(
            413, "record_too_large", f"a report is larger than the broker takes: {error}"
        ) from None


def _channel(name: str) -> ChannelSpec:
    if name in channel_names():
        spec = load_channel(name)
        if spec.transports.http is not None:
            return spec
    known = ", ".join(_pushing())
    raise Refused(404, "unknown_channel", f"no channel {name[:60]!r} that pushes; known: {known}")


def _pushing() -> list[str]:
    return [name for name, spec in load_channels().items() if spec.transports.http]


def _http(spec: ChannelSpec) -> HttpTransport:
    return cast(HttpTransport, spec.transports.http)  # _channel gives no other


def _timely(headers: Headers) -> None:
    """Refuse what no body can heal before one is read."""
    try:
        signature.timely(
            headers.get(signature.TIMESTAMP_HEADER),
            headers.get(signature.SIGNATURE_HEADER),
            time.time(),
        )
    except signature.BadSignature as error:
        raise Refused(401, error.reason, str(error)) from None


@contextlib.contextmanager
def _signed(
    spec: ChannelSpec,
    headers: Headers,
    body: bytes,
    keys: Keys,
    secrets: list[str],
    replays: signature.Replays,
) -> Iterator[None]:
    """Holds the request's signature, where the channel is signed; used up when all went well."""
    if not _http(spec).signed:
        yield
        return
    timestamp = headers[signature.TIMESTAMP_HEADER]
    try:
        digest = signature.verified(secrets, timestamp, headers[signature.SIGNATURE_HEADER], body)
        left_s = int(timestamp) + signature.WINDOW_S - time.time()
        with replays.once(digest, left_s + 1.0):
            yield
        keys.used(spec.name, signature.signer(secrets, timestamp, digest, body))
    except signature.BadSignature as error:
        raise Refused(401, error.reason, str(error)) from None
    except signature.NotNow as error:
        raise _not_now("under_way", str(error), 1) from None


def _media_type(headers: Headers) -> str:
    return headers.get("content-type", "").partition(";")[0].strip().lower()


def _limits(spec: ChannelSpec, headers: Headers) -> tuple[int, float]:
    """Bytes and seconds that the body may take; :class:`Refused` when it is nothing we read."""
    coding = headers.get("content-encoding", "").strip().lower()
    if coding not in ("", "identity"):
        # A few kilobytes may inflate to gigabytes.
        raise Refused(
            415, "content_encoding", f"Content-Encoding {coding[:60]!r}; send the body as it is",
            headers={"Accept-Encoding": "identity"},
        )  # fmt: skip
    kind = _media_type(headers)
    if kind in ("application/json", ""):
        return BODY_LIMIT, BODY_S
    if _http(spec).form and kind in FORM_TYPES:
        return (FORM_LIMIT, FORM_S) if kind == MULTIPART else (BODY_LIMIT, BODY_S)
    taken = ["application/json", *(FORM_TYPES if _http(spec).form else ())]
    raise Refused(415, "content_type", f"Content-Type {kind[:60]!r}; send {' or '.join(taken)}")


async def read_body(request: Request, limit: int, limit_s: float) -> bytes:
    """The body, never more of it than the limit, whatever the header says, and never for longer.

    Raises :class:`Refused` (413, 408, 400).
    """
    parts, size = [], 0
    # What is left of the body is not waited for.
    close = {"Connection": "close"}
    try:
        async with asyncio.timeout(limit_s):
            async for part in request.stream():
                size += len(part)
                if size > limit:
                    raise Refused(
                        413,
                        "body_too_large",
                        f"the body is larger than {limit} bytes; send fewer at once",
                        headers=close,
                    )
                parts.append(part)
    except TimeoutError:
        raise Refused(
            408, "slow_body", f"the body was not there within {limit_s:g} s", headers=close
        ) from None
    except ClientDisconnect:
        raise Refused(400, "disconnected", "the sender left before the body's end") from None
    return b"".join(parts)


def _raw_reports(
    spec: ChannelSpec, natives: list[dict[str, Any]], payloads: list[bytes | None]
) -> list[RawReport]:
    """The raw reports, each with an id and nothing unread in it."""
    received_at = int(time.time() * 1000)
    raws = []
    for index, (native, payload) in enumerate(zip(natives, payloads, strict=True)):
        media = spec.fields.get("media")
        if media and len(media_items(native, media)) > _http(spec).media_limit:
            raise Refused(
                400, "media_limit", f"at most {_http(spec).media_limit} photos or files a report",
                _native_field(spec, "media"), index,
            )  # fmt: skip
        raw = to_raw_report(
            spec, native, received_at=received_at, connector=TRANSPORT, payload=payload
        )
        if raw["defects"]:
            field = raw["defects"][0].partition(":")[0]
            raise Refused(400, "defect", raw["defects"][0], _native_field(spec, field), index)
        native_id = clean(raw["native_id"])
        if not native_id or "\ufffd" in native_id:
            problem = (
                "holds half a character"
                if native_id
                else "is missing, empty or neither text nor number"
            )
            raise Refused(
                400,
                "broken_native_id" if native_id else "missing_native_id",
                f"{spec.native_id} {problem}",
                _native_field(spec, "native_id"),
                index,
            )
        raws.append(raw)
    return raws


def _native_field(spec: ChannelSpec, field: str) -> str:
    """The channel's own name of a raw report's field."""
    fixed = {"native_id": spec.native_id, "revision": spec.revision}
    mapped = {str(ours): theirs for ours, theirs in spec.fields.items()}
    source = fixed.get(field) or mapped.get(field) or field
    return source if isinstance(source, str) else str(source[0])


def _read(spec: ChannelSpec, body: bytes) -> tuple[list[dict[str, Any]], list[bytes | None]]:
    """Native messages and, for a single one, its very bytes."""
    if sum(map(body.count, (b",", b"[", b"{"))) > VALUES_LIMIT:
        raise Refused(413, "too_many", f"more than {VALUES_LIMIT} values; send fewer at once")
    try:
        document = json.loads(
            body.decode("utf-8"),
            parse_constant=_no_constant,
            parse_float=_number,
            object_pairs_hook=_object,
        )
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


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        counts = Counter(name for name, _ in pairs)
        twice = counts.most_common(1)[0][0][:60].encode(errors="replace").decode()
        raise Refused(400, "duplicate_name", f"{twice!r} stands twice in one object", twice)
    return found


def _number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:40]} is beyond any number here")
    return number


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


#: What each refusal means, for the interface's description.
_REFUSALS = {
    400: "A report or the form at fault, named.",
    401: "Wrong key; signature wrong, expired or replayed.",
    404: "No channel of this name that pushes.",
    408: "The body came too slowly.",
    413: "Too large, or too many at once.",
    415: "Neither JSON nor a form that the channel takes; or compressed.",
    429: "The broker is behind; nothing is promised, send the same again.",
    507: "No room for attachments; nothing was taken.",
}


def _responses() -> dict[int | str, dict[str, Any]]:
    found: dict[int | str, dict[str, Any]] = {
        code: {"model": Refusal, "description": meaning} for code, meaning in _REFUSALS.items()
    }
    found[429]["headers"] = {
        "Retry-After": {
            "description": "Seconds.",
            "required": True,
            "schema": {"type": "integer", "minimum": 1},
        }
    }
    return found


def _request() -> dict[str, Any]:
    """What a push consists of, in OpenAPI; FastAPI sees only the request."""
    report = {"type": "object", "description": "A report in the channel's own fields."}
    texts = {"type": "object", "additionalProperties": {"type": "string"}}
    parts = {"type": "string", "format": "binary"}
    return {
        "parameters": [
            {
                "name": "name",
                "in": "path",
                "required": True,
                "description": "The channel.",
                "schema": {"type": "string", "enum": _pushing()},
            },
            {
                "name": signature.TIMESTAMP_HEADER,
                "in": "header",
                "description": "Unix time in seconds, with a signature.",
                "schema": {"type": "string", "pattern": "^[1-9][0-9]{0,11}$"},
            },
        ],
        "requestBody": {
            "required": True,
            "description": "Forms are taken from channels whose spec says so.",
            "content": {
                "application/json": {
                    "schema": {
                        "anyOf": [
                            report,
                            {
                                "type": "array",
                                "items": report,
                                "minItems": 1,
                                "maxItems": REPORTS_LIMIT,
                            },
                        ]
                    }
                },
                URLENCODED: {"schema": texts},
                MULTIPART: {
                    "schema": {
                        "type": "object",
                        "additionalProperties": {"anyOf": [{"type": "string"}, parts]},
                    }
                },
            },
        },
    }
