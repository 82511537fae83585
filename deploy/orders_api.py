"""Orders over HTTP: a unit's own work, the centre's book, and the steps of both.

``X-API-Key`` is a key of ``quanyu people``: units and grid workers see and act on their own unit's orders,
centre and supervisor on all. What may be done when and by whom is the life cycle's table
(``streams/dispatch/lifecycle.py``); an action that it forbids is answered 409 with the reason. A 202 means that
it is in Kafka and not decided yet.
"""

import hashlib
import time
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from connectors.forms import keep
from connectors.http_push import read_body
from connectors.refusal import Refusal, Refused
from deploy.desk import Actor, Desk
from deploy.desk_api import (
    RESPONSES,
    SECURED,
    IdempotencyKey,
    Identity,
    Outcome,
    answered,
    done,
    person,
)
from deploy.people import People, Role
from deploy.vision import media_type
from schemas.errors import QuanyuError
from schemas.settings import Settings

ROLES: tuple[Role, ...] = ("unit", "grid_worker", "centre", "supervisor")
#: Who sees only their own unit's orders.
OF_UNIT = ("unit", "grid_worker")
PHOTO_LIMIT = 10 * 1024 * 1024
PHOTO_S = 60.0
Text = Annotated[str, Field(max_length=2000)]


class Act(BaseModel):
    """One action: a verb of the life cycle and what it needs."""

    model_config = ConfigDict(extra="forbid")

    action: str = Field(max_length=40, description="sign, contact, start, handle, return, …")
    version: int | None = Field(default=None, ge=0, description="Of the order that was read.")
    reason: Text = ""
    note: Text = Field(default="", description="What was done; the citizen reads it.")
    media: list[Annotated[str, Field(max_length=200)]] = Field(default=[], max_length=20)
    to_unit: str = Field(default="", max_length=60)
    handler: str = Field(default="", max_length=60)
    extend_value: float = Field(default=0.0, ge=0, le=10_000)
    extend_unit: str = Field(default="", max_length=20)
    visit: str = Field(default="", max_length=20)
    solved: str = Field(default="", max_length=20)


class Photo(BaseModel):
    """A photo that is kept; name it in an action's media."""

    media: str


def router(settings: Settings, desk: Desk, people: People) -> APIRouter:
    """Routes under ``/orders``."""
    routes = APIRouter(prefix="/orders", tags=["orders"], responses=RESPONSES)

    async def read(request: Request, ask: Callable[[Actor], Any]) -> Response:
        async def work() -> Response:
            found = await run_in_threadpool(ask, person(people, request, ROLES))
            return JSONResponse(found, headers={"Cache-Control": "no-store"})

        return await answered(work())

    @routes.get("", dependencies=[SECURED])
    async def book(
        request: Request,
        unit_code: Annotated[str, Query(max_length=60)] = "",
        state: Annotated[str, Query(max_length=30)] = "",
        handler: Annotated[str, Query(max_length=60)] = "",
        over: Annotated[str, Query(pattern="^(yes|no|)$")] = "no",
        days: Annotated[int, Query(ge=1, le=800)] = 60,
        limit: Annotated[int, Query(ge=1, le=500)] = 100,
        offset: Annotated[int, Query(ge=0, le=1_000_000)] = 0,
    ) -> Response:
        """Orders, nearest deadline first; of a unit's people, their own unit's."""
        given = {"state": state, "handler": handler, "over": over, "days": days}

        def ask(actor: Actor) -> dict[str, Any]:
            unit = actor.unit_code if actor.role in OF_UNIT else unit_code
            rows = desk.rows(
                "order_book", at=_now(), unit_code=unit, limit=limit, offset=offset, **given
            )
            return {"at": _now(), "unit_code": unit, "rows": rows}

        return await read(request, ask)

    @routes.get("/{order_id}", dependencies=[SECURED])
    async def show(request: Request, order_id: Identity) -> Response:
        """An order with its steps and its event."""

        def ask(actor: Actor) -> dict[str, Any]:
            found = _own(desk, actor, order_id)
            events = desk.rows("event", event_id=found["event_id"])
            return {**found, "event": events[0] if events else None}

        return await read(request, ask)

    @routes.post("/{order_id}/actions", response_model=Outcome, dependencies=[SECURED])
    async def act(
        request: Request, order_id: Identity, body: Act, key: IdempotencyKey = ""
    ) -> Response:
        """Do something with an order."""

        async def work() -> Response:
            actor = person(people, request, ROLES)
            said = body.model_dump(exclude={"action"})
            return await done(
                desk, lambda: desk.order_action(actor, order_id, body.action, key, **said)
            )

        return await answered(work())

    @routes.post(
        "/{order_id}/photos",
        response_model=Photo,
        status_code=201,
        dependencies=[SECURED],
        responses={
            413: {"model": Refusal, "description": f"Larger than {PHOTO_LIMIT} bytes."},
            415: {"model": Refusal, "description": "No JPEG, PNG, WebP or GIF."},
        },
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {"image/*": {"schema": {"type": "string", "format": "binary"}}},
            }
        },
    )
    async def photo(request: Request, order_id: Identity) -> Response:
        """Keep a photo of the work; the body is the image itself."""

        async def work() -> Response:
            actor = person(people, request, ROLES)
            await run_in_threadpool(_own, desk, actor, order_id)
            data = await read_body(request, PHOTO_LIMIT, PHOTO_S)
            if not media_type(data):
                raise Refused(415, "not_an_image", "send JPEG, PNG, WebP or GIF")
            digest = hashlib.sha256(data).hexdigest()
            await run_in_threadpool(keep, settings.home, {digest: data})
            return JSONResponse({"media": f"sha256:{digest}"}, 201)

        return await answered(work())

    @routes.get("/media/{digest}", dependencies=[SECURED])
    async def media(
        request: Request, digest: Annotated[str, Path(pattern="^[0-9a-f]{64}$")]
    ) -> Response:
        """A photo that was kept here."""

        async def work() -> Response:
            person(people, request, ROLES)
            path = settings.home / "media" / digest[:2] / digest
            try:
                data = await run_in_threadpool(path.read_bytes)
            except OSError:
                raise Refused(404, "unknown", "no such photo is kept here") from None
            return Response(data, media_type=media_type(data) or "application/octet-stream")

        return await answered(work())

    return routes


def _own(desk: Desk, actor: Actor, order: str) -> dict[str, Any]:
    """An order that the actor may see; another unit's is as unknown as none."""
    found = desk.order(order)
    if actor.role in OF_UNIT and found["unit_code"] != actor.unit_code:
        raise QuanyuError(f"no order {order[:60]!r} of {actor.unit_code}")
    return found


def _now() -> int:
    return int(time.time() * 1000)
