"""``GET /trail/{report_id}``: a citizen follows a report by its id and its secret."""

from typing import Annotated

from fastapi import APIRouter, Header, Path
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

from connectors.refusal import Refusal, Refused
from deploy.desk import Desk, Unavailable
from deploy.desk_api import refusal
from deploy.trail import Trail, read_trail
from schemas.secrets import is_trail_secret


def router(desk: Desk, hash_key: bytes) -> APIRouter:
    """The trail's one route."""
    routes = APIRouter(tags=["trail"])

    @routes.get(
        "/trail/{report_id}",
        response_model=Trail,
        responses={
            404: {"model": Refusal, "description": "No such report, or not its secret."},
            503: {"model": Refusal, "description": "ClickHouse does not answer."},
        },
    )
    async def follow(
        report_id: Annotated[str, Path(max_length=60, pattern=r"^[0-9a-f-]+$")],
        secret: Annotated[str, Header(alias="X-Trail-Secret", max_length=60)] = "",
    ) -> JSONResponse:
        """Every step of a report and of its matter's order; no personal data."""
        # A wrong secret and an unknown report are told alike: nobody learns which reports there are.
        unknown = Refused(404, "unknown", "no report with this number and secret")
        if not is_trail_secret(hash_key, report_id, secret):
            return refusal(unknown)
        try:
            found = await run_in_threadpool(read_trail, desk.rows, report_id)
        except Unavailable as error:
            return refusal(Refused(503, "unavailable", str(error), headers={"Retry-After": "5"}))
        if found is None:
            return refusal(unknown)
        return JSONResponse(found.model_dump(), headers={"Cache-Control": "no-store"})

    return routes
