"""The screen's side of the gateway: named queries, names and map of the city, how fresh it all is.

A browser names queries and gives typed parameters; SQL never comes from it. Each answer is shared
by every screen that asks the same within a second.
"""

import asyncio
import hashlib
import json
import re
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Annotated, Any

import httpx
import structlog
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError
from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

from deploy.areas import below
from schemas.channels import load_channels
from schemas.city import CityPack, load_city
from schemas.errors import QuanyuError
from schemas.kpi import kpi_rules, light_rules
from schemas.queries import NamedQuery, connect, day_of, load_queries, run
from schemas.settings import Settings

log = structlog.get_logger("screen")

#: Many screens ask the same; one answer a second serves them all.
CACHE_S = 1.0
#: An answer that is worth asking again only after a minute serves the others for a fifth of it.
CACHE_SHARE = 0.2
CACHE_ENTRIES = 500
#: What is worth asking again only after so long is dear over a year of a city (KPIs): who asks gets the
#: answer that is there, at most as old as its refresh, with the instant of its reading, while the next one
#: is worked out.
DEAR_REFRESH_S = 30
#: Queries at once; more would only wait inside the engine, before the sink's inserts.
CONCURRENT = 4
NAMES_LIMIT = 20
#: A drawer shows so many rows at once; the rest by offset.
ROWS_LIMIT = 1000
#: An engine that does not take a connection in this time is down; one query has longer.
CONNECT_S, ANSWER_S = 2, 15
#: A sample of those that say how the pipeline and its channels are; their labels need no unescaping.
_SAMPLE = re.compile(r"^quanyu_(lag|channel|connector)(\w+)\{([^}]*)\} (\S+)$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="([^"]*)"')
#: The city's own people first, then its sensors, then what other cities send.
_KINDS = ("human", "sensing", "foreign")

#: Metric's name without its prefix → labels and value of each sample.
Samples = Mapping[str, Sequence[tuple[Mapping[str, str], float]]]
Rows = list[dict[str, Any]]


class UnavailableError(Exception):
    """ClickHouse did not answer; the same question may be asked again."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Rows and when they were read, ms since the epoch."""

    at: int
    rows: Rows


class Reader:
    """Runs named queries with a memory of a second; askers of the same question share one query."""

    def __init__(
        self,
        settings: Settings,
        time_zone: str,
        now_ms: Callable[[], int],
        pack: Callable[[], Mapping[str, str | int]] = dict,
    ) -> None:
        self._settings = settings
        self._time_zone = time_zone
        self._pack = pack
        self._now_ms = now_ms
        self._client: Client | None = None
        self._slots = asyncio.Semaphore(CONCURRENT)
        self._answers: dict[tuple[Any, ...], tuple[float, asyncio.Task[Answer]]] = {}
        self._before: dict[tuple[Any, ...], tuple[float, Answer]] = {}

    async def ask(self, query: NamedQuery, given: Mapping[str, Any]) -> Answer:
        """Rows at most :data:`CACHE_S`, or :data:`CACHE_SHARE` of their refresh, old; of what is dear see
        :data:`DEAR_REFRESH_S`.

        What is not given of day, zone, now and what the city's pack says is filled in.

        Raises :class:`QuanyuError` for a bad parameter, :class:`UnavailableError` when ClickHouse
        does not answer.
        """
        now = self._now_ms()
        clock = {
            "time_zone": self._time_zone, "at": now, "day": day_of(now, self._time_zone), **self._pack()
        }  # fmt: skip
        known = {parameter.name for parameter in query.parameters}
        bound = query.bind({**{k: v for k, v in clock.items() if k in known}, **given})
        if int(bound.get("limit", 0)) > ROWS_LIMIT:
            raise QuanyuError(
                f"query {query.name}: parameter limit: at most {ROWS_LIMIT}; use offset"
            )
        # Now itself is not part of the question, unless somebody asks about another now.
        key = (query.name, *((k, v) for k, v in sorted(bound.items()) if k != "at" or k in given))
        kept = self._answers.get(key)
        keep_s = max(CACHE_S, CACHE_SHARE * query.refresh_s)
        if kept is None or time.monotonic() - kept[0] > keep_s or _failed(kept[1]):
            if len(self._answers) >= CACHE_ENTRIES:
                self._forget()
            self._before.pop(key, None)
            if kept and kept[1].done() and not _failed(kept[1]):
                self._before[key] = kept[0], kept[1].result()
            kept = time.monotonic(), asyncio.create_task(self._read(query.name, bound, now))
            self._answers[key] = kept
        old = self._before.get(key) if query.refresh_s >= DEAR_REFRESH_S else None
        if old and not kept[1].done() and time.monotonic() - old[0] <= query.refresh_s:
            return old[1]
        # One asker that goes away must not end the question of the others.
        return await asyncio.shield(kept[1])

    def _forget(self) -> None:
        old = time.monotonic() - CACHE_S
        self._answers = {k: v for k, v in self._answers.items() if v[0] > old or not v[1].done()}
        self._before = {k: v for k, v in self._before.items() if k in self._answers}

    async def _read(self, name: str, bound: Mapping[str, Any], now: int) -> Answer:
        async with self._slots:
            try:
                return Answer(now, await run_in_threadpool(self._run, name, bound))
            except (ClickHouseError, OSError) as error:
                log.warning("query failed", query=name, error=str(error).partition("\n")[0][:300])
                raise UnavailableError("ClickHouse does not answer this query now") from None

    def _run(self, name: str, bound: Mapping[str, Any]) -> Rows:
        if self._client is None:
            self._client = connect(
                self._settings, connect_s=CONNECT_S, answer_s=ANSWER_S, at_once=CONCURRENT
            )
        return run(self._client, name, **bound)


def _failed(task: asyncio.Task[Answer]) -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None)


def pack_parameters(city: CityPack) -> dict[str, str | int]:
    """What a city's pack says of its lights, scores and centres, as the named queries take it."""
    rules = kpi_rules(city)
    members = (f"{member}:{unit.code}" for unit in city.units.values() for member in unit.members)
    return {
        **light_rules(city).parameters,
        "card": rules.card,
        "least": rules.least,
        "centres": "|".join(members),
    }


class Shown:
    """What is shown of one city's pack: its names, what the queries take of it, its areas."""

    def __init__(self, city: CityPack) -> None:
        self.time_zone, self.names, self.parameters = (
            city.time_zone,
            _names(city),
            pack_parameters(city),
        )
        #: Parent → its areas as JSON, and their tag.
        self.drawn = lru_cache(maxsize=256)(partial(_drawn, city))


class Pack:
    """The pack that the screen goes by; ``shown`` may be replaced at any moment."""

    def __init__(self, city: CityPack) -> None:
        self.shown = Shown(city)


def router(
    settings: Settings,
    now_ms: Callable[[], int] = lambda: int(time.time() * 1000),
    pack: Pack | None = None,
) -> APIRouter:
    """``/api``: the named queries and what a screen needs to label them."""
    routes = APIRouter(prefix="/api", tags=["screen"])
    goes_by = pack or Pack(load_city(settings.city))
    # Another time zone is no pack that could be taken up while this runs.
    reader = Reader(settings, goes_by.shown.time_zone, now_ms, lambda: goes_by.shown.parameters)
    parts = httpx.AsyncClient(timeout=1.0, trust_env=False)

    async def answer(name: str, given: Mapping[str, str]) -> dict[str, Any]:
        """One query's answer, or its error and status; the error of one never spoils another."""
        query = load_queries().get(name)
        if query is None or query.private:
            return {"error": f"no query {name[:60]!r}; /api/queries lists them", "status": 404}
        try:
            found = await reader.ask(query, given)
        except QuanyuError as error:
            return {"error": str(error), "status": 400}
        except UnavailableError as error:
            return {"error": str(error), "status": 503}
        return {"at": found.at, "rows": found.rows}

    @routes.get("/tiles", responses={400: {"description": "Too many names."}})
    async def tiles(
        request: Request, names: Annotated[str, Query(max_length=1000)]
    ) -> JSONResponse:
        """Several named queries at once, each with its own rows or error.

        Further URL parameters go to every named query that has a parameter of that name.
        """
        wanted = list(dict.fromkeys(filter(None, names.split(","))))
        if len(wanted) > NAMES_LIMIT:
            return JSONResponse({"error": f"at most {NAMES_LIMIT} names"}, 400)
        given = {k: v for k, v in request.query_params.items() if k != "names"}
        found = await asyncio.gather(*(answer(name, _of(name, given)) for name in wanted))
        return JSONResponse({"at": now_ms(), "tiles": dict(zip(wanted, found, strict=True))})

    @routes.get("/queries")
    async def queries() -> JSONResponse:
        """The named queries: title, unit, meaning, refresh, drill-down, parameters."""
        return JSONResponse(
            {q.name: _described(q) for q in load_queries().values() if not q.private}
        )

    @routes.get(
        "/queries/{name}",
        responses={
            400: {"description": "A parameter is wrong."},
            404: {"description": "No query has this name."},
            503: {"description": "ClickHouse does not answer now."},
        },
    )
    async def one(request: Request, name: str) -> JSONResponse:
        """One query; 400: a bad parameter, 404: no such name, 503: ClickHouse does not answer."""
        found = await answer(name, request.query_params)
        return JSONResponse(found, found.get("status", 200))

    @routes.get("/city")
    async def described() -> JSONResponse:
        """Names that go with the codes: classes, districts, channels."""
        names = goes_by.shown.names
        return JSONResponse({**names, "now": now_ms()}, headers={"Cache-Control": "no-cache"})

    @routes.get(
        "/map/areas",
        responses={
            304: {"description": "The asker has these very polygons."},
            400: {"description": "The parent is no centre and no grid."},
        },
    )
    async def areas(
        request: Request, parent: Annotated[str, Query(max_length=20)] = ""
    ) -> Response:
        """The areas below a centre or a grid (empty: the city's centres), CGCS2000, simplified."""
        try:
            body, tag = await run_in_threadpool(goes_by.shown.drawn, parent)
        except QuanyuError as error:
            return JSONResponse({"error": str(error)}, 400)
        headers = {"ETag": tag, "Cache-Control": "max-age=3600"}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(body, media_type="application/json", headers=headers)

    @routes.get("/status")
    async def status() -> JSONResponse:
        """How fresh the picture is: newest rows, records on their way, each channel's state.

        ``backlog`` and ``channels`` are null while the monitor does not answer or knows no broker.
        """
        fresh, monitor, connectors = await asyncio.gather(
            answer("data_as_of", {}),
            *(samples(parts, settings.part_urls(part)) for part in ("monitor", "connectors")),
        )
        return JSONResponse(
            {
                "at": now_ms(),
                "data_as_of": fresh,
                "backlog": backlog(monitor),
                "channels": channel_states(monitor, connectors),
            }
        )

    return routes


def _drawn(city: CityPack, parent: str) -> tuple[bytes, str]:
    """The areas as JSON, and their tag."""
    found = {"parent": parent, "areas": below(city, parent)}
    body = json.dumps(found, ensure_ascii=False, separators=(",", ":")).encode()
    return body, f'"{hashlib.sha256(body).hexdigest()[:16]}"'


async def samples(client: httpx.AsyncClient, urls: Sequence[str]) -> Samples:
    """What a part says of lag, channels and connectors; nothing of an address that does not answer."""
    found = defaultdict[str, list[tuple[Mapping[str, str], float]]](list)
    for url in urls:
        try:
            text = (await client.get(f"{url}/metrics")).text
        except httpx.HTTPError:
            continue
        for subject, name, labels, value in _SAMPLE.findall(text):
            found[subject + name].append((dict(_LABEL.findall(labels)), float(value)))
    return found


def backlog(monitor: Samples) -> dict[str, float] | None:
    """Records on their way and the age of the oldest, seconds; None when unknown."""
    records = [value for _, value in monitor.get("lag_records", ())]
    seconds = [value for _, value in monitor.get("lag_seconds", ())]
    return {"records": sum(records), "oldest_s": max(seconds, default=0.0)} if records else None


def channel_states(monitor: Samples, connectors: Samples) -> dict[str, dict[str, Any]] | None:
    """Each channel as the monitor judges it (deploy/silence.py), and whether its connectors reach their
    sources; None when unknown. ``state`` is silent, unused (never heard), learning or alive."""
    silent = _by_channel(monitor, "channel_silent")
    if not silent:
        return None
    last = _by_channel(monitor, "channel_last_report_timestamp_seconds")
    gap = _by_channel(monitor, "channel_usual_gap_seconds")
    learning = _by_channel(monitor, "channel_learning")
    reached = defaultdict[str, dict[str, bool]](dict)
    for labels, value in connectors.get("connector_up", ()):
        reached[labels["channel"]][labels["transport"]] = bool(value)
    states: dict[str, dict[str, Any]] = {}
    for name, spec in load_channels().items():
        if name not in silent:
            continue
        basis = "configured" if spec.usual_gap_s else "default" if learning.get(name) else "learned"
        state = "silent" if silent[name] else "unused" if name not in last else "alive"
        states[name] = {
            "state": "learning" if state == "alive" and basis == "default" else state,
            "last_seen": round(1000 * last[name]) if name in last else None,
            "usual_gap_s": gap.get(name),
            "basis": basis,
            "silent": bool(silent[name]),
            "in_service": name in last,
            "connectors": reached.get(name, {}),
        }
    return states


def _by_channel(found: Samples, name: str) -> dict[str, float]:
    return {labels["channel"]: value for labels, value in found.get(name, ())}


def _of(name: str, given: Mapping[str, str]) -> dict[str, str]:
    """Those of the parameters that the query has."""
    query = load_queries().get(name)
    has = {parameter.name for parameter in query.parameters} if query else set()
    return {key: value for key, value in given.items() if key in has}


def _described(query: NamedQuery) -> dict[str, Any]:
    return {
        "title": query.title,
        "unit": query.unit,
        "meaning": query.meaning,
        "refresh_s": query.refresh_s,
        "parameters": [
            {"name": p.name, "type": p.type, "default": p.default, "meaning": p.meaning}
            for p in query.parameters
        ],
        "drill_down": {
            d.column: {
                "query": d.query,
                "from_columns": dict(d.from_columns),
                "fixed": dict(d.fixed),
            }
            for d in query.drill_down
        },
    }


def _names(city: CityPack) -> dict[str, Any]:
    return {
        "code": city.code,
        "name": city.name,
        "time_zone": city.time_zone,
        "classes": {
            c.code: {"name": c.name, "class_name": c.class_name} for c in city.classes.values()
        },
        "districts": {grid.code: grid.name for grid in city.districts.grids}
        | {code: area.name for code, area in city.areas.items()},
        "streets": {street.code: street.name for street in city.streets},
        "units": {unit.code: unit.name for unit in city.units.values()},
        "unit_of": {m: unit.code for unit in city.units.values() for m in unit.members},
        "score_without": kpi_rules(city).beyond_a_day,
        "channels": {
            name: {"title": spec.title, "kind": spec.kind}
            for name, spec in sorted(
                load_channels().items(), key=lambda item: (_KINDS.index(item[1].kind), item[0])
            )
        },
    }
