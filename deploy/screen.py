"""The screen's side of the gateway: named queries, the city's names, its map."""

import asyncio
import re
import threading
import time
from datetime import date, datetime
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import clickhouse_connect
import structlog
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError
from fastapi import APIRouter, Query, Request
from fastapi.responses import FileResponse, JSONResponse
from starlette.concurrency import run_in_threadpool

from schemas.channels import load_channels
from schemas.city import load_city
from schemas.errors import QuanyuError
from schemas.queries import load_queries, run
from schemas.settings import Settings

log = structlog.get_logger()

#: Many screens ask the same; one answer a second serves them all.
CACHE_S = 1.0
CACHE_ENTRIES = 500
#: Queries at once; more would only wait inside the engine.
CONCURRENT = 4
TEXT_LIMIT = 100
_DATE = re.compile(r"\A\d{4}-\d{2}-\d{2}\Z")
_CODE = re.compile(r"\A[\w.:-]*\Z")


class Reader:
    """Runs named queries from threads, with a short memory."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._local = threading.local()
        self._cache: dict[tuple[Any, ...], tuple[float, list[dict[str, Any]]]] = {}
        self._slots = asyncio.Semaphore(CONCURRENT)

    async def rows(self, name: str, parameters: dict[str, Any]) -> list[dict[str, Any]]:
        """Rows of a named query, at most :data:`CACHE_S` old. Errors as :func:`schemas.queries.run`."""
        key = (name, *sorted((k, str(v)) for k, v in parameters.items()))
        cached = self._cache.get(key)
        if cached and time.monotonic() - cached[0] < CACHE_S:
            return cached[1]
        async with self._slots:
            rows = await run_in_threadpool(self._run, name, parameters)
        if len(self._cache) > CACHE_ENTRIES:
            self._cache.clear()
        self._cache[key] = time.monotonic(), rows
        return rows

    def _run(self, name: str, parameters: dict[str, Any]) -> list[dict[str, Any]]:
        client: Client | None = getattr(self._local, "client", None)
        if client is None:
            client = clickhouse_connect.get_client(
                dsn=self._settings.clickhouse_url,
                database=self._settings.clickhouse_database,
                autogenerate_session_id=False,
                query_limit=0,
            )
            self._local.client = client
        return [{k: plain(v) for k, v in row.items()} for row in run(client, name, **parameters)]


def plain(value: Any) -> Any:
    """A value as JSON carries it: instants as ISO 8601 in UTC."""
    if isinstance(value, datetime):
        return value.isoformat() + ("" if value.tzinfo else "Z")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, float) and value != value:
        return None
    return value


def router(settings: Settings) -> APIRouter:
    """``/api``: the named queries and what a screen needs to label them."""
    routes = APIRouter(prefix="/api", tags=["screen"])
    reader = Reader(settings)
    city = load_city(settings.city)
    zone = ZoneInfo(city.time_zone)

    def parameters(request: Request, name: str) -> dict[str, Any]:
        """Typed parameters of a query from the URL; defaults for what a screen leaves out."""
        given = request.query_params
        defaults: dict[str, Any] = {
            "day": datetime.now(zone).date().isoformat(),
            "time_zone": city.time_zone,
            "limit": 100,
            "offset": 0,
        }
        bound: dict[str, Any] = {}
        for key, kind in load_queries()[name].parameters.items():
            text = str(given.get(key) or defaults.get(key, ""))
            if kind == "Date":
                if not _DATE.match(text):
                    raise QuanyuError(f"{key}: {text[:20]!r} is not a date; write 2026-03-01")
                try:
                    bound[key] = date.fromisoformat(text)
                except ValueError:
                    raise QuanyuError(f"{key}: {text} is no day of the calendar") from None
            elif kind.startswith("UInt"):
                if not text.isdigit() or int(text) > (1000 if key == "limit" else 10**7):
                    raise QuanyuError(f"{key}: {text[:20]!r} is not a number in range")
                bound[key] = int(text)
            else:
                if key != "time_zone" and (len(text) > TEXT_LIMIT or not _CODE.match(text)):
                    raise QuanyuError(f"{key}: letters, digits and . : - _ only, at most {TEXT_LIMIT}")
                bound[key] = text
        return bound

    async def answer(request: Request, name: str) -> dict[str, Any]:
        """One query's answer, or its error; an error of one never spoils another."""
        query = load_queries().get(name)
        if query is None:
            return {"name": name[:60], "error": "no such query", "status": 404}
        try:
            rows = await reader.rows(name, parameters(request, name))
        except QuanyuError as error:
            return {"name": name, "error": str(error), "status": 400}
        except (ClickHouseError, OSError) as error:
            log.warning("query_failed", query=name, error=str(error)[:300])
            return {"name": name, "error": "ClickHouse does not answer this query now", "status": 503}
        return {"name": name, "rows": rows}

    @routes.get("/tiles")
    async def tiles(request: Request, names: Annotated[str, Query(max_length=1000)]) -> JSONResponse:
        """Several named queries at once; each has its own rows or error."""
        wanted = list(dict.fromkeys(filter(None, names.split(","))))[:20]
        answers = await asyncio.gather(*(answer(request, name) for name in wanted))
        return JSONResponse({"at": datetime.now(zone).isoformat(), "tiles": {a["name"]: a for a in answers}})

    @routes.get("/queries")
    async def queries() -> JSONResponse:
        """The named queries: title, unit, meaning, refresh, drill-down, parameters."""
        return JSONResponse(
            [
                {
                    "name": q.name, "title": q.title, "unit": q.unit, "meaning": q.meaning,
                    "refresh_s": q.refresh_s, "drill_down": q.drill_down, "parameters": dict(q.parameters),
                }
                for q in load_queries().values()
            ]
        )  # fmt: skip

    @routes.get("/queries/{name}")
    async def query(request: Request, name: str) -> JSONResponse:
        """One named query."""
        result = await answer(request, name)
        return JSONResponse(result, result.get("status", 200))

    @routes.get("/city")
    async def names() -> JSONResponse:
        """Names that go with the codes: classes, districts, streets, channels."""
        return JSONResponse(
            {
                "code": city.code,
                "name": city.name,
                "time_zone": city.time_zone,
                "classes": {c.code: {"name": c.name, "class_name": c.class_name, "level": c.level}
                            for c in city.classes.values()},
                "districts": {g.code: g.name for g in city.districts.grids}
                | {code: area.name for code, area in city.areas.items()},
                "streets": {s.code: s.name for s in city.streets},
                "channels": {
                    name: {"title": spec.title, "kind": spec.kind, "usual_gap_s": spec.usual_gap_s}
                    for name, spec in load_channels().items()
                },
            }
        )  # fmt: skip

    @routes.get("/map/districts.geojson")
    async def districts() -> FileResponse:
        """The districts' polygons (CGCS2000)."""
        return FileResponse(
            city.folder / "districts.geojson", media_type="application/geo+json",
            headers={"Cache-Control": "max-age=3600"},
        )  # fmt: skip

    return routes
