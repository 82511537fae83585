"""``/trail/{report_id}``: a citizen follows a report by its id and its secret, and says how it ended."""

from typing import Annotated, Literal

from fastapi import APIRouter, Header, Path
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from connectors.refusal import Refusal, Refused
from deploy.desk import Actor, Desk
from deploy.desk_api import RESPONSES, IdempotencyKey, Outcome, answered, done
from deploy.trail import Trail, read_trail
from schemas.errors import QuanyuError
from schemas.secrets import is_trail_secret

#: Nobody's code: a citizen is known by the report alone.
CITIZEN = Actor("citizen", "citizen")
Report = Annotated[str, Path(max_length=60, pattern=r"^[0-9a-f-]+$")]
Secret = Annotated[str, Header(alias="X-Trail-Secret", max_length=60)]


class Visit(BaseModel):
    """How content a citizen is with what was done (回访)."""

    model_config = ConfigDict(extra="forbid")

    visit: Literal["satisfied", "unsatisfied"]
    solved: Literal["solved", "unsolved"]
    reason: str = Field(default="", max_length=500)


def router(desk: Desk, hash_key: bytes) -> APIRouter:
    """The trail's routes."""
    routes = APIRouter(tags=["trail"])
    # A wrong secret and an unknown report are told alike: nobody learns which reports there are.
    unknown = Refused(404, "unknown", "no report with this number and secret")

    def prove(report_id: str, secret: str) -> None:
        if not is_trail_secret(hash_key, report_id, secret):
            raise unknown

    @routes.get(
        "/trail/{report_id}",
        response_model=Trail,
        responses={
            404: {"model": Refusal, "description": "No such report, or not its secret."},
            503: {"model": Refusal, "description": "ClickHouse does not answer."},
        },
    )
    async def follow(
        report_id: Report,
        secret: Secret = "",
    ) -> Response:
        """Every step of a report and of its matter's order; no personal data."""

        async def work() -> Response:
            prove(report_id, secret)
            found = await run_in_threadpool(read_trail, desk.rows, report_id)
            if found is None:
                raise unknown
            return JSONResponse(found.model_dump(), headers={"Cache-Control": "no-store"})

        return await answered(work())

    @routes.post("/trail/{report_id}/visit", response_model=Outcome, responses=RESPONSES)
    async def visit(
        report_id: Report, body: Visit, secret: Secret = "", key: IdempotencyKey = ""
    ) -> Response:
        """Say whether it is solved and one is satisfied; unsatisfied, it is done again (不满意重办)."""

        def ask() -> str:
            prove(report_id, secret)
            links = desk.rows("report_links", report_id=report_id)
            event = links[-1]["event_id"] if links else ""
            steps = desk.rows("event_orders", event_id=event) if event else []
            if not steps:
                raise QuanyuError("no order of this report is known yet; come again later")
            said = body.model_dump()
            # Of one report only its own word counts once, whoever else told of the same matter.
            own = f"{report_id}:{key}" if key else ""
            return desk.order_action(CITIZEN, steps[-1]["order_id"], "visit", own, **said)

        return await answered(done(desk, ask))

    return routes
