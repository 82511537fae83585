"""``/open311/v2``: the city as a GeoReport v2 server, in XML and JSON.

Services are the city's taxonomy. A posted request is published to the channel ``open311`` and answered only
when the broker has it; its id is the report's own. ``GET /requests`` shows the reports of every channel with
the matter that they joined; words, address and photo only of those that came through here, without
telephone numbers and e-mail addresses, and of no report who reported it.
"""

import asyncio
import functools
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, cast
from zoneinfo import ZoneInfo

import structlog
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError
from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict
from starlette.requests import ClientDisconnect
from starlette.routing import Match

from connectors.mapping import to_raw_report
from connectors.open311 import submission
from connectors.open311.model import (
    MEDIA_TYPES,
    Attribute,
    Discovery,
    Endpoint,
    Error,
    ExtendedAttributes,
    Format,
    Posted,
    Refused,
    Service,
    ServiceDefinition,
    ServiceRequest,
    Token,
    TrailStep,
    render,
)
from connectors.open311.submission import FORM
from connectors.publish import CONFIRM_TIMEOUT_S, BrokerBehind, Publisher, Unpublishable
from schemas import metrics
from schemas.channels import load_channel
from schemas.city import UNCLASSIFIED, CityPack, TaxonomyClass, load_city
from schemas.documents import read_document
from schemas.ids import report_id
from schemas.instants import parse_instant
from schemas.keys import Keys
from schemas.queries import connect, run
from schemas.secrets import is_trail_secret, load_hash_key, trail_secret
from schemas.settings import Settings
from schemas.texts import clean

log = structlog.get_logger("open311")

PREFIX = "/open311/v2"
CHANNEL = "open311"
TRANSPORT = "open311_post"
#: Named queries that are shown here and not on the screen.
QUERIES = ("open311_received", "open311_page", "open311_requests")
ATTRIBUTES = Path(__file__).parent / "attributes.yaml"
#: 4,000 Chinese characters are 36 kB in a form.
BODY_LIMIT = 256 * 1024
BODY_S = 20.0
#: The specification's limits of one answer.
PAGE_LIMIT, IDS_LIMIT, SPAN_MS = 1_000, 50, 90 * 86_400_000
#: What a page looks for first, ms.
FIRST_SPAN_MS = 3_600_000
#: Posts under way at once, and questions to ClickHouse: neither waits for the other.
POSTS, QUESTIONS = 8, 2
#: An engine that takes no connection in this time is down; one query has longer.
CONNECT_S, ANSWER_S = 2, 15
#: Requests just posted are known before they are decided; more than this many, only by the engine.
RECENT = 1_000
#: ClickHouse reads instants up to here, ms.
LAST_MS = 4_102_444_800_000
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
#: Telephone and identity numbers and e-mail addresses, which people write into a description.
_PERSONAL = re.compile(
    r"(?<!\d)(?:\d{17}[\dXx]|\d{7,18}|\d{3}[ -]\d{4}[ -]\d{4})(?!\d)|[\w.+-]+@[\w-]+(?:\.[\w-]+)+"
)

Row = dict[str, Any]
#: Finds a report's steps by a named query's rows.
Follow = Callable[[Callable[..., list[Row]], str], Sequence[Row]]
Jurisdiction = Annotated[
    str | None,
    Query(max_length=100, description="The city's code or its pack's name; may be left out."),
]
Instant = Annotated[
    str | None, Query(max_length=40, description="ISO 8601, as 2026-03-17T00:00:00+08:00.")
]
Extensions = Annotated[
    str | None,
    Query(pattern="^(true|false)?$", description="true: extended_attributes, with duplicate_of."),
]


class _Definitions(BaseModel):
    """``attributes.yaml``."""

    model_config = ConfigDict(extra="forbid")

    attributes: list[Attribute]


def load_attributes(path: Path = ATTRIBUTES) -> list[Attribute]:
    """The attributes of every service; :class:`QuanyuError` names the line at fault."""
    return read_document(path, _Definitions).attributes


class _Route(APIRoute):
    """A route whose every refusal has the specification's form."""

    def get_route_handler(self) -> Callable[[Request], Any]:
        handler = super().get_route_handler()

        async def guarded(request: Request) -> Response:
            form: Format = "xml"
            try:
                form = _format(request)
                answer: Response = await handler(request)
            except Refused as error:
                answer = _refusal(error, form)
            except RequestValidationError as error:
                first = error.errors()[0]
                answer = _refusal(Refused(400, f"{first['loc'][-1]}: {first['msg']}"), form)
            if "format" not in request.path_params:
                answer.headers["Vary"] = "Accept"
            return answer

        return guarded


def _format(request: Request) -> Format:
    """The format of the path's extension, else JSON when it is accepted before XML."""
    named = request.path_params.get("format")
    if named is None:
        accepted = request.headers.get("accept", "").lower()
        json, xml = accepted.find("application/json"), accepted.find("xml")
        return "json" if json >= 0 and not 0 <= xml < json else "xml"
    if named not in MEDIA_TYPES:
        raise Refused(404, f"no format {named[:20]!r}; ask for .xml or .json")
    return cast(Format, named)


def _refusal(refused: Refused, form: Format) -> Response:
    errors = [Error(code=refused.status, description=reason) for reason in refused.reasons]
    headers = {"Retry-After": str(refused.retry_after_s)} if refused.retry_after_s else None
    return Response(render("errors", errors, form), refused.status, headers, MEDIA_TYPES[form])


class _Reader:
    """Asks ClickHouse off the event loop, a few questions at once."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._client: Client | None = None
        self._threads = ThreadPoolExecutor(QUESTIONS, "open311-read")

    async def of(self, ids: Sequence[str]) -> list[Row]:
        """Rows of those ids that are known."""
        named = ",".join(ids)
        for when in await self._ask("open311_received", ids=named):
            return await self._ask("open311_requests", ids=named, **when)
        return []

    async def page(self, since: int, until: int, limit: int, **filters: Any) -> list[Row]:
        """The newest rows of a span of time, ms."""
        span = FIRST_SPAN_MS
        while True:
            # Ever further back: the newest hour fills most pages, and costs a hundredth of 90 days.
            start = max(since, until - span)
            found = await self._ask(
                "open311_page", since=start, until=until, limit=limit, **filters
            )
            if len(found) >= limit or start == since:
                break
            span *= 12
        if not found:
            return []
        # What is known of them is looked for once, as far back as the page reaches.
        start = found[-1]["received_at"]
        return await self._ask("open311_requests", since=start, until=until, limit=limit, **filters)

    async def steps(self, follow: Follow, report: str) -> Sequence[Row]:
        """A report's steps, oldest first."""
        return await self._aside(follow, self._rows, report)

    async def _ask(self, name: str, **given: Any) -> list[Row]:
        return list(await self._aside(functools.partial(self._rows, name, **given)))

    async def _aside(self, read: Callable[..., Sequence[Row]], *given: Any) -> Sequence[Row]:
        """What ``read`` finds; :class:`Refused` (503) when ClickHouse does not answer."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, read, *given)
        except (ClickHouseError, OSError) as error:
            log.warning("query failed", error=str(error).partition("\n")[0][:300])
            raise Refused(503, "requests cannot be read now; ask again", retry_after_s=10) from None

    def _rows(self, name: str, **given: Any) -> list[Row]:
        if self._client is None:
            self._client = connect(
                self._settings, connect_s=CONNECT_S, answer_s=ANSWER_S, at_once=QUESTIONS
            )
        return run(self._client, name, **given)


class _Shown:
    """How the city's classes and reports are shown."""

    def __init__(self, city: CityPack) -> None:
        self.city = city
        self._zone = ZoneInfo(city.time_zone)

    def service(self, entry: TaxonomyClass) -> Service:
        """A class of the taxonomy."""
        return Service(
            service_code=entry.code, service_name=entry.name, metadata=True, group=entry.class_name,
            description=f"{entry.class_name} / {entry.name}", keywords=",".join(entry.keywords),
        )  # fmt: skip

    def request(
        self, row: Row, extensions: bool, trail: Sequence[Row] | None = None
    ) -> ServiceRequest:
        """A row of ``open311_requests``, with its steps for who may see them."""
        entry = self.city.classes.get(row["class_code"]) or self.city.classes[UNCLASSIFIED]
        ours = row["channel"] == CHANNEL
        first = row["first_report_id"]
        duplicate_of = first if first and first != row["report_id"] else None
        media = row["media"] if ours else []
        photos = [url for text in media for url in text.split() if url.startswith("http")]
        return ServiceRequest(
            service_request_id=row["report_id"],
            status=row["status"],
            status_notes=_notes(row, duplicate_of),
            service_name=entry.name,
            service_code=entry.code,
            description=_public(row["text"]) if ours else entry.class_name,
            agency_responsible=row["unit_name"] or None,
            requested_datetime=self.instant(row["received_at"]),
            updated_datetime=self.instant(row["updated_at"]),
            expected_datetime=self.instant(row["due_at"]) if row["due_at"] else None,
            address=_public(row["address"])
            if ours
            else self.city.district_name(row["district_code"]) or None,
            # CGCS2000 and WGS-84 are one system to a tenth of a millimetre.
            lat=row["lat"],
            long=row["lon"],
            media_url=photos[0] if photos else None,
            extended_attributes=ExtendedAttributes(
                channel=row["channel"],
                duplicate_of=duplicate_of,
                trail=None if trail is None else [self._step(step) for step in trail],
            )
            if extensions or trail is not None
            else None,
        )

    def _step(self, step: Row) -> TrailStep:
        return TrailStep(
            datetime=self.instant(step["at"]), what=step["what"], state=step["state"],
            agency=step["unit"] or None, notes=_public(step["note"]),
        )  # fmt: skip

    def instant(self, ms: int) -> str:
        """ISO 8601 to the second with the city's offset."""
        return datetime.fromtimestamp(ms / 1000, self._zone).isoformat(timespec="seconds")


def _notes(row: Row, duplicate_of: str | None) -> str | None:
    if duplicate_of:
        return f"Duplicate request. See {duplicate_of}."
    if row["outcome"] == "review":
        return f"In review by a person: {row['reason'].replace('_', ' ')}."
    return None if row["event_id"] else "Received."


def _public(text: str) -> str | None:
    """A text as anybody may read it; what is personal in it stays in the raw record."""
    return _PERSONAL.sub("***", text)[: submission.DESCRIPTION_LIMIT] or None


class _Recent:
    """Requests that were posted here a moment ago, until the engine knows them."""

    def __init__(self) -> None:
        self._rows: OrderedDict[str, Row] = OrderedDict()

    def add(self, identity: str, raw: dict[str, Any], class_code: str) -> None:
        """A request that the broker has."""
        self._rows[identity] = {
            "report_id": identity, "channel": CHANNEL, "outcome": "accepted", "reason": "",
            "class_code": class_code, "district_code": "", "received_at": raw["received_at"],
            "text": raw["text"] or "", "address": raw["address"] or "", "media": raw["media"],
            "lon": raw["lon"] and float(raw["lon"]), "lat": raw["lat"] and float(raw["lat"]),
            "event_id": "", "first_report_id": "",
            "unit_name": "", "due_at": None, "status": "open", "updated_at": raw["received_at"],
        }  # fmt: skip
        if len(self._rows) > RECENT:
            self._rows.popitem(last=False)

    def beside(self, ids: Sequence[str], rows: list[Row]) -> list[Row]:
        """The engine's rows, and of the other ids those that are known here."""
        known = {row["report_id"] for row in rows}
        for identity in known:
            self._rows.pop(identity, None)
        return rows + [self._rows[i] for i in ids if i not in known and i in self._rows]


def _documented(root: str, model: Any, *statuses: int) -> dict[str, Any]:
    """What a route answers, for the interface's description."""
    meanings = {
        400: "A parameter or the body at fault, named.",
        403: "api_key is missing or wrong.",
        404: "No such jurisdiction, service, request, token or format.",
        429: "The broker is behind; nothing is promised, send the same again.",
        503: "ClickHouse does not answer.",
    }
    xml = {"text/xml": {"schema": {"type": "string", "description": f"The same in <{root}>."}}}
    errors = {"text/xml": {"schema": {"type": "string", "description": "The same in <errors>."}}}
    return {
        "response_model": model,
        "responses": {
            200: {"content": xml},
            **{
                status: {
                    "model": list[Error],
                    "description": meanings[status],
                    "content": errors,
                }
                for status in (400, 404, *statuses)
            },
        },
    }


#: What a status of a refused post is called in the metric.
_REASONS = {403: "key", 404: "unknown", 429: "broker_behind"}


def _body_schema() -> dict[str, Any]:
    texts = {"description": submission.DESCRIPTION_LIMIT, **submission.TEXT_LIMITS}
    schema = {
        "type": "object",
        "required": ["service_code"],
        "description": "With lat and long, or address_string, or address_id; attributes of the "
        "service as attribute[code].",
        "properties": {
            "api_key": {"type": "string", "description": "The key of the channel open311."},
            "service_code": {"type": "string"},
            "lat": {"type": "string", "description": "Degrees, WGS-84."},
            "long": {"type": "string", "description": "Degrees, WGS-84."},
            **{name: {"type": "string", "maxLength": limit} for name, limit in texts.items()},
        },
    }
    return {
        "required": True,
        "content": {FORM: {"schema": schema}, "application/json": {"schema": schema}},
    }


_BODY = _body_schema()
_FORMAT = {
    "parameters": [
        {
            "name": "format",
            "in": "path",
            "required": True,
            "schema": {"type": "string", "enum": list(MEDIA_TYPES)},
        }
    ]
}


def router(
    settings: Settings,
    publisher: Publisher,
    follow: Follow,
    now_ms: Callable[[], int] = lambda: int(time.time() * 1000),
) -> APIRouter:
    """The façade of one city; :class:`QuanyuError` when its pack cannot be read.

    ``follow`` finds, by named queries, a report's steps, oldest first: ``at`` ms, ``what``, ``state``,
    ``unit``, ``note``.
    """
    routes = APIRouter(prefix=PREFIX, tags=["open311"], route_class=_Route)
    spec = load_channel(CHANNEL)
    city = load_city(settings.city)
    shown, attributes = _Shown(city), load_attributes()
    keys, reader, recent = Keys(settings.keys_path), _Reader(settings), _Recent()
    hash_key = load_hash_key(settings)
    posts = ThreadPoolExecutor(POSTS, "open311-post")
    jurisdictions = {city.code, city.name, city.folder.name}
    changed = datetime.fromtimestamp((city.folder / "taxonomy.csv").stat().st_mtime, UTC)

    def here(jurisdiction: str | None) -> None:
        if jurisdiction and jurisdiction not in jurisdictions:
            raise Refused(
                404, f"jurisdiction_id {jurisdiction[:60]!r} is not found; here is {city.code}"
            )

    def answer(request: Request, root: str, document: Any) -> Response:
        form = _format(request)
        return Response(render(root, document, form), media_type=MEDIA_TYPES[form])

    def offered(path: str, method: str = "GET", **options: Any) -> Callable[[Any], Any]:
        """One function at ``path.{format}`` and at ``path``."""

        def add(function: Any) -> Any:
            extra = options.pop("openapi_extra", {})
            for suffix, more in ((".{format}", _FORMAT), ("", {})):
                routes.add_api_route(
                    path + suffix, function, methods=[method],
                    openapi_extra={**extra, **more}, **options,
                )  # fmt: skip
            return function

        return add

    async def known(ids: Sequence[str]) -> list[Row]:
        found = [identity for identity in ids if _UUID.fullmatch(identity)]
        return recent.beside(found, await reader.of(found) if found else [])

    @offered("/discovery", **_documented("discovery", Discovery))
    async def discovery(request: Request) -> Response:
        """Which interfaces there are, and whom to ask for a key."""
        changeset = changed.isoformat(timespec="seconds")
        endpoint = Endpoint(
            url=str(request.base_url).rstrip("/") + PREFIX,
            changeset=changeset,
            type="production" if settings.environment == "production" else "test",
        )
        document = Discovery(
            changeset=changeset, contact=city.name, endpoints=[endpoint],
            key_service="Ask the operator of this installation for the key of the channel open311.",
        )  # fmt: skip
        return answer(request, "discovery", document)

    @offered("/services", **_documented("services", list[Service]))
    async def services(request: Request, jurisdiction_id: Jurisdiction = None) -> Response:
        """The types of service request: the city's taxonomy."""
        here(jurisdiction_id)
        return answer(request, "services", [shown.service(e) for e in city.classes.values()])

    @offered("/services/{service_code}", **_documented("service_definition", ServiceDefinition))
    async def definition(
        request: Request, service_code: str, jurisdiction_id: Jurisdiction = None
    ) -> Response:
        """What a sender may add to a request of one service."""
        here(jurisdiction_id)
        if service_code not in city.classes:
            raise Refused(404, f"service_code {service_code[:60]!r} is not found")
        document = ServiceDefinition(service_code=service_code, attributes=attributes)
        return answer(request, "service_definition", document)

    @offered("/requests", **_documented("service_requests", list[ServiceRequest], 503))
    async def requests(
        request: Request,
        jurisdiction_id: Jurisdiction = None,
        service_request_id: Annotated[
            str | None,
            Query(max_length=4_000, description=f"Up to {IDS_LIMIT} ids; no other filter holds."),
        ] = None,
        service_code: Annotated[
            str | None, Query(max_length=4_000, description="Codes, comma separated.")
        ] = None,
        start_date: Instant = None,
        end_date: Instant = None,
        status: Annotated[
            str | None, Query(pattern="^((open|closed)(,(open|closed))*)?$", description="Both.")
        ] = None,
        page: Annotated[
            str | None, Query(pattern=r"^([1-9]\d{0,3})?$", description="From 1; newest first.")
        ] = None,
        page_size: Annotated[
            str | None,
            Query(pattern=r"^([1-9]\d{0,2}|1000)?$", description=f"At most {PAGE_LIMIT}."),
        ] = None,
        extensions: Extensions = None,
    ) -> Response:
        """Requests of at most 90 days, newest first; the latest 90 days when no time is given."""
        here(jurisdiction_id)
        ids = list(dict.fromkeys(filter(None, (service_request_id or "").split(","))))
        if len(ids) > IDS_LIMIT:
            raise Refused(400, f"service_request_id: {len(ids)} ids, at most {IDS_LIMIT} at once")
        codes = set(filter(None, (service_code or "").split(",")))
        if ids:
            rows = await known([identity.strip() for identity in ids])
        elif codes and not codes & city.classes.keys():
            rows = []
        else:
            since, until = window(start_date, end_date, now_ms(), city.time_zone)
            statuses = set(filter(None, (status or "").split(",")))
            size = int(page_size or PAGE_LIMIT)
            rows = await reader.page(
                since,
                until,
                size,
                class_codes=",".join(sorted(codes & city.classes.keys())),
                status=statuses.pop() if len(statuses) == 1 else "",
                offset=(int(page or 1) - 1) * size,
            )
        document = [shown.request(row, extensions == "true") for row in rows]
        return answer(request, "service_requests", document)

    @offered(
        "/requests/{service_request_id}",
        **_documented("service_requests", list[ServiceRequest], 503),
    )
    async def one(
        request: Request,
        service_request_id: str,
        jurisdiction_id: Jurisdiction = None,
        extensions: Extensions = None,
        secret: Annotated[
            str | None,
            Header(
                alias="X-Trail-Secret",
                max_length=60,
                description="The request's own, from service_notice: then every step is shown.",
            ),
        ] = None,
    ) -> Response:
        """One request. What was posted elsewhere a moment ago is known some seconds later."""
        here(jurisdiction_id)
        own = secret is None or is_trail_secret(hash_key, service_request_id, secret)
        rows = await known([service_request_id]) if own else []
        if not rows:
            # Whether it is the number or the secret is told to nobody.
            which = "" if secret is None else " with this secret"
            raise Refused(
                404, f"service_request_id {service_request_id[:60]!r} is not found{which}"
            )
        steps = None if secret is None else await reader.steps(follow, service_request_id)
        document = [shown.request(row, extensions == "true", steps) for row in rows]
        response = answer(request, "service_requests", document)
        if steps is not None:
            response.headers["Cache-Control"] = "no-store"
        return response

    @offered("/tokens/{token}", **_documented("service_requests", list[Token], 503))
    async def by_token(
        request: Request, token: str, jurisdiction_id: Jurisdiction = None
    ) -> Response:
        """The request that a token stands for, once it is decided."""
        here(jurisdiction_id)
        rows = await known([report_id(CHANNEL, clean(token), 0)]) if clean(token) else []
        if not rows:
            raise Refused(
                404,
                f"token {token[:60]!r} is not found, or its request is not yet decided: ask again "
                "in some seconds",
            )
        document = [Token(service_request_id=rows[0]["report_id"], token=token)]
        return answer(request, "service_requests", document)

    def publish(raw: dict[str, Any], since: float) -> None:
        if time.monotonic() - since > CONFIRM_TIMEOUT_S:
            # Its sender is about to give up; those behind it have waited for as long.
            raise BrokerBehind("too many requests wait for the broker")
        publisher.publish([raw], TRANSPORT)

    async def take(request: Request, api_key: str | None, idempotency_key: str | None) -> str:
        """Read, hold and publish a posted request; its id."""
        sent = submission.read(await _body(request), request.headers.get("content-type", ""))
        here(sent.fields.get("jurisdiction_id"))
        if not keys.accepts(CHANNEL, sent.fields.get("api_key") or api_key or ""):
            raise Refused(403, f"api_key is missing or not the key of the channel {CHANNEL}")
        code = sent.fields.get("service_code", "")
        if code not in city.classes:
            raise Refused(
                404 if code else 400,
                f"service_code {code[:60]!r} is not found; GET {PREFIX}/services lists them"
                if code
                else "service_code is missing",
            )
        problems = submission.problems(sent, attributes, spec.time_zone)
        if problems:
            raise Refused(400, *problems)
        now = now_ms()
        token = submission.token_of(sent, idempotency_key)
        native = submission.native_of(sent, token, city.classes[code].name, shown.instant(now))
        raw = to_raw_report(spec, native, received_at=now, connector=TRANSPORT)
        try:
            await asyncio.get_running_loop().run_in_executor(posts, publish, raw, time.monotonic())
        except BrokerBehind as error:
            raise Refused(
                429, f"not taken: {error}; send the same again", retry_after_s=error.retry_after_s
            ) from None
        except Unpublishable as error:
            raise Refused(400, f"larger than the broker takes: {error}") from None
        identity = report_id(CHANNEL, token, 0)
        recent.add(identity, raw, code)
        return identity

    @offered(
        "/requests",
        "POST",
        openapi_extra={"requestBody": _BODY},
        **_documented("service_requests", list[Posted], 403, 429),
    )
    async def post(
        request: Request,
        jurisdiction_id: Jurisdiction = None,
        api_key: Annotated[
            str | None, Query(max_length=200, description="Better in the body, as a field.")
        ] = None,
        idempotency_key: Annotated[
            str | None,
            Header(max_length=255, description="The same again under one key is one request."),
        ] = None,
    ) -> Response:
        """Take a request; answered when the broker has it on every in-sync replica."""
        here(jurisdiction_id)
        try:
            identity = await take(request, api_key, idempotency_key)
        except Refused as error:
            reason = _REASONS.get(error.status, "invalid")
            metrics.CHANNEL_REFUSED.labels(CHANNEL, TRANSPORT, reason).inc()
            raise
        notice = f"Follow it at /follow/ with this number and the secret {trail_secret(hash_key, identity)}."
        posted = Posted(service_request_id=identity, service_notice=notice)
        return answer(request, "service_requests", [posted])

    @routes.api_route(
        "/{rest:path}",
        methods=["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"],
        include_in_schema=False,
    )
    async def elsewhere(request: Request) -> Response:
        allowed = {
            method
            for route in routes.routes
            if isinstance(route, APIRoute) and route.matches(request.scope)[0] is Match.PARTIAL
            for method in route.methods or ()
        }
        if allowed:
            refused = Refused(405, f"{request.method[:10]} is not {' or '.join(sorted(allowed))}")
            found = _refusal(refused, "xml")
            found.headers["Allow"] = ", ".join(sorted(allowed))
            return found
        raise Refused(404, f"no such address; GET {PREFIX}/discovery names the interface")

    return routes


def window(start: str | None, end: str | None, now: int, time_zone: str) -> tuple[int, int]:
    """The span of time asked for, ms; without both ends it is 90 days, without any the latest.

    Raises :class:`Refused` for a time that is none and for a span that is longer or reversed.
    """
    found: list[int | None] = []
    for name, text in (("start_date", start), ("end_date", end)):
        # A plus that was not escaped in the URL arrives as a blank.
        instant = parse_instant(text.strip().replace(" ", "+"), time_zone) if text else None
        if text and instant is None:
            raise Refused(400, f"{name} is no time; write e.g. 2026-03-17T00:00:00Z")
        found.append(min(max(instant.ms, 0), LAST_MS) if instant else None)
    since, until = found
    if since is None:
        until = now if until is None else until
        since = max(0, until - SPAN_MS)
    elif until is None:
        until = since + SPAN_MS
    if until < since:
        raise Refused(400, "end_date is before start_date")
    if until - since > SPAN_MS:
        raise Refused(400, "start_date to end_date is longer than 90 days; ask in parts")
    return since, until


async def _body(request: Request) -> bytes:
    """The body, never more of it than the limit, and never for longer."""
    parts, size = [], 0
    try:
        async with asyncio.timeout(BODY_S):
            async for part in request.stream():
                size += len(part)
                if size > BODY_LIMIT:
                    raise Refused(400, f"the body is larger than {BODY_LIMIT} bytes")
                parts.append(part)
    except TimeoutError:
        raise Refused(400, f"the body was not there within {BODY_S:g} s") from None
    except ClientDisconnect:
        raise Refused(400, "the sender left before the body's end") from None
    return b"".join(parts)
