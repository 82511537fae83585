"""The desk over HTTP: reviews to answer, events to merge and split, and what became of it.

``X-API-Key`` is a key of ``quanyu people``; centre and supervisor may act here. A 202 means that the action is
in Kafka and not decided yet; ask ``/desk/actions/<id>`` again. The same ``Idempotency-Key`` of one person is
one action.
"""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Path, Query, Request, Security
from fastapi.responses import JSONResponse, Response
from fastapi.security import APIKeyHeader
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from connectors.refusal import Refusal, Refused
from deploy.desk import Actor, Desk, Unavailable
from deploy.people import People, Role
from schemas.errors import QuanyuError

#: How long an answer waits for what the agent decides.
WAIT_S = 3.0
_KEY = APIKeyHeader(name="X-API-Key", scheme_name="key", auto_error=False)
SECURED = Security(_KEY)
Identity = Annotated[str, Path(max_length=60, pattern=r"^[0-9A-Za-z-]+$")]
IdempotencyKey = Annotated[str, Header(alias="Idempotency-Key", max_length=200)]
Reason = Annotated[str, Field(default="", max_length=500, description="Why; kept with the action.")]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Merge(_Body):
    """Into which event it goes."""

    into: str = Field(max_length=60)
    reason: Reason


class Split(_Body):
    """Which reports leave, together."""

    report_ids: list[Annotated[str, Field(max_length=60)]] = Field(min_length=1, max_length=20_000)
    reason: Reason


class Apart(_Body):
    """Which other event it is not."""

    other: str = Field(max_length=60)
    reason: Reason


class Answer(_Body):
    """What a person says of a report; what is left out stays as the rules found it."""

    action: Literal["accept", "reject"]
    class_code: str = Field(default="", max_length=10)
    grid_code: str = Field(default="", max_length=30)
    lon: float | None = Field(default=None, ge=-180, le=180, description="CGCS2000 degrees.")
    lat: float | None = Field(default=None, ge=-90, le=90)
    reason: Reason


class Outcome(BaseModel):
    """What became of an action."""

    action_id: str
    outcome: Literal["applied", "refused", "pending"]
    reason: str = Field(default="", description="Of a refusal, in one word.")
    detail: str = Field(default="", description="And in words, with what to do.")


def person(people: People, request: Request, roles: tuple[Role, ...]) -> Actor:
    """Who asks; :class:`Refused` without a known key, or in a role that may not do this."""
    found = people.find(request.headers.get("x-api-key", ""))
    if found is None:
        raise Refused(401, "key", "X-API-Key is missing or nobody's; see quanyu people add")
    request.state.person = found
    if found.role not in roles:
        raise Refused(403, "role", f"a {found.role} may not do this; only {' and '.join(roles)}")
    return Actor(found.code, found.role, found.unit_code)


def refusal(refused: Refused) -> JSONResponse:
    """The answer to a request that is refused."""
    return JSONResponse(
        refused.body.model_dump(exclude_none=True), refused.status, headers=refused.headers
    )


async def answered(work: Awaitable[Response]) -> Response:
    """The answer of a route, or why there is none: refused, nothing of that id, or not now."""
    try:
        return await work
    except Refused as refused:
        return refusal(refused)
    except QuanyuError as error:
        return refusal(Refused(404, "unknown", str(error)))
    except Unavailable as error:
        return refusal(Refused(503, "unavailable", str(error), headers={"Retry-After": "5"}))


async def done(desk: Desk, ask: Callable[[], str]) -> JSONResponse:
    """Ask for an action and answer what became of it, or that it is under way."""
    action = await run_in_threadpool(ask)
    return outcome(action, await run_in_threadpool(desk.outcome, action, WAIT_S))


def outcome(action: str, found: dict[str, Any] | None) -> JSONResponse:
    """200 when it was done, 409 when it was refused, 202 while nobody knows."""
    if found is None:
        return JSONResponse(Outcome(action_id=action, outcome="pending").model_dump(), 202)
    told = Outcome.model_validate({k: found[k] for k in Outcome.model_fields})
    return JSONResponse(told.model_dump(), 200 if told.outcome == "applied" else 409)


RESPONSES: dict[int | str, dict[str, Any]] = {
    202: {"model": Outcome, "description": "In Kafka; not decided yet."},
    400: {"description": "The body is no JSON in UTF-8."},
    401: {"model": Refusal, "description": "No key of anybody."},
    403: {"model": Refusal, "description": "A role that may not do this."},
    404: {"model": Refusal, "description": "No such event or report."},
    408: {"model": Refusal, "description": "The body came too slowly."},
    409: {"model": Outcome, "description": "Refused, and why."},
    413: {"model": Refusal, "description": "The body is too large."},
    429: {
        "model": Refusal,
        "description": "Too many requests with one key; Retry-After says when.",
    },
    503: {"model": Refusal, "description": "Kafka or ClickHouse does not answer."},
}


def router(desk: Desk, people: People) -> APIRouter:
    """Routes under ``/desk``."""
    routes = APIRouter(prefix="/desk", tags=["desk"], responses=RESPONSES)
    roles: tuple[Role, ...] = ("centre", "supervisor")

    async def act(request: Request, ask: Callable[[Actor], str]) -> Response:
        async def work() -> Response:
            actor = person(people, request, roles)
            return await done(desk, lambda: ask(actor))

        return await answered(work())

    async def read(request: Request, ask: Callable[[], Any]) -> Response:
        async def work() -> Response:
            person(people, request, roles)
            rows = await run_in_threadpool(ask)
            return JSONResponse({"rows": rows}, headers={"Cache-Control": "no-store"})

        return await answered(work())

    @routes.get("/reviews", dependencies=[SECURED])
    async def reviews(
        request: Request,
        limit: Annotated[int, Query(ge=1, le=200)] = 50,
        offset: Annotated[int, Query(ge=0, le=1_000_000)] = 0,
    ) -> Response:
        """Reports that wait for a person, newest first, personal data masked."""
        return await read(request, lambda: desk.reviews(limit, offset))

    @routes.get("/doubts", dependencies=[SECURED])
    async def doubts(
        request: Request,
        limit: Annotated[int, Query(ge=1, le=200)] = 50,
        offset: Annotated[int, Query(ge=0, le=1_000_000)] = 0,
    ) -> Response:
        """Pairs of events that may be one, newest first."""
        return await read(request, lambda: desk.doubts(limit, offset))

    @routes.post("/reviews/{report_id}", response_model=Outcome, dependencies=[SECURED])
    async def answer(
        request: Request, report_id: Identity, body: Answer, key: IdempotencyKey = ""
    ) -> Response:
        """Accept a report with its class and place, or reject it."""
        said = body.model_dump(exclude={"action", "reason"})
        return await act(
            request, lambda a: desk.answer(a, report_id, body.action, body.reason, key, **said)
        )

    @routes.post("/events/{event_id}/merge", response_model=Outcome, dependencies=[SECURED])
    async def merge(
        request: Request, event_id: Identity, body: Merge, key: IdempotencyKey = ""
    ) -> Response:
        """Its reports go into another event; its order is withdrawn."""
        return await act(request, lambda a: desk.merge(a, event_id, body.into, body.reason, key))

    @routes.post("/events/{event_id}/split", response_model=Outcome, dependencies=[SECURED])
    async def split(
        request: Request, event_id: Identity, body: Split, key: IdempotencyKey = ""
    ) -> Response:
        """Some of its reports get an event of their own, with an order."""
        return await act(
            request, lambda a: desk.split(a, event_id, body.report_ids, body.reason, key)
        )

    @routes.post("/events/{event_id}/apart", response_model=Outcome, dependencies=[SECURED])
    async def apart(
        request: Request, event_id: Identity, body: Apart, key: IdempotencyKey = ""
    ) -> Response:
        """It is not one with another event; nobody is asked again."""
        return await act(request, lambda a: desk.apart(a, event_id, body.other, body.reason, key))

    @routes.get("/actions/{action_id}", response_model=Outcome, dependencies=[SECURED])
    async def action(request: Request, action_id: Identity) -> Response:
        """What became of an action."""

        async def work() -> Response:
            person(people, request, roles)
            return outcome(action_id, await run_in_threadpool(desk.outcome, action_id))

        return await answered(work())

    return routes
