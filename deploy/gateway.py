"""``python -m deploy.gateway``: one HTTP port for people and channels.

The screen and its named queries, the channels' push interface, suggestions, Open311, health and metrics. A
browser names queries and never sends SQL.
"""

import asyncio
import contextlib
import logging
import sys
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.middleware.gzip import GZipMiddleware
from fastapi.responses import PlainTextResponse
from fastapi.staticfiles import StaticFiles
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from connectors import http_push
from connectors.open311 import facade
from connectors.publish import Publisher
from deploy import desk_api, orders_api, screen, suggest, trail_api
from deploy.desk import Desk
from deploy.guard import BURST, RATE, Buckets, Refusals, nobody, too_often
from deploy.limits import Bodies, server
from deploy.people import People
from deploy.trail import steps_of
from schemas import metrics
from schemas.access import hold_kafka, http_files
from schemas.city import CityPack, load_city
from schemas.errors import QuanyuError
from schemas.secrets import load_hash_key
from schemas.settings import Settings, load_settings
from streams.renew import LOOK_S, Renewal

#: After SIGTERM: requests under way are answered, then their connections are closed.
GRACEFUL_S = 7
BIGSCREEN_DIR = Path(__file__).parent / "bigscreen"
#: Scripts and styles are files of ours; nothing inline, nothing from elsewhere.
CONTENT_SECURITY_POLICY = (
    "default-src 'self'; img-src 'self' data:; style-src 'self'; script-src 'self'; "
    "connect-src 'self'; "
    "object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'self'"
)
#: A label never holds what a stranger typed.
METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))


def create_app(settings: Settings, publisher: Publisher) -> FastAPI:
    """The gateway of one installation."""

    desk, people = Desk(settings), People(settings.people_path)
    city = load_city(settings.city)
    pack, suggestions = screen.Pack(city), suggest.Service(settings)
    keep = _renewed(settings, city, pack, suggestions)
    rates, refusals = Buckets(RATE, BURST), Refusals(desk.note)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        renewing = asyncio.create_task(keep())
        yield
        renewing.cancel()
        desk.close()
        # Whoever sent what is not confirmed by now was not told that we have it.
        publisher.close(1.0)

    app = FastAPI(title="quanyu", docs_url=None, redoc_url=None, lifespan=lifespan)
    app.add_middleware(Bodies)  # below: who has no key is refused before a body is read

    @app.middleware("http")
    async def guard(request: Request, call_next: Any) -> Response:
        method = request.method if request.method in METHODS else "other"
        labels = _route(request.url.path), method
        status = 500  # of an exception that nobody answers
        try:
            with metrics.HTTP_SECONDS.labels(*labels).time():
                response: Response = (
                    too_often(rates, request) or nobody(people, request) or await call_next(request)
                )
            status = response.status_code
        finally:
            metrics.HTTP_REQUESTS.labels(*labels, str(status)).inc()
            refusals.told(request, status)
        response.headers["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Referrer-Policy"] = "no-referrer"
        # Files of the screen are asked for again with their tag, so that an upgrade shows at once.
        response.headers.setdefault("Cache-Control", "no-cache")
        return response

    @app.get("/healthz", include_in_schema=False)
    async def healthz() -> PlainTextResponse:
        return PlainTextResponse("ok\n")

    @app.get("/readyz", include_in_schema=False)
    async def readyz() -> PlainTextResponse:
        # Without Kafka or ClickHouse it still shows and says what is wrong: only the city must be read.
        read = app.state.suggest.warmed
        return PlainTextResponse("ok\n" if read else "reads the city\n", 200 if read else 503)

    @app.get("/metrics", include_in_schema=False)
    async def exposition() -> Response:
        return Response(generate_latest(metrics.COLLECTORS), media_type=CONTENT_TYPE_LATEST)

    # The chart library is a megabyte, a third of that compressed.
    app.add_middleware(GZipMiddleware, minimum_size=2000, compresslevel=6)
    app.include_router(http_push.router(settings, publisher))
    app.include_router(screen.router(settings, pack=pack))
    app.state.suggest = suggestions
    app.include_router(suggest.router(app.state.suggest))
    app.include_router(desk_api.router(desk, people))
    app.include_router(orders_api.router(settings, desk, people))
    app.include_router(trail_api.router(desk, load_hash_key(settings)))
    app.include_router(facade.router(settings, publisher, steps_of))
    app.mount("/", StaticFiles(directory=BIGSCREEN_DIR, html=True))
    return app


def _renewed(
    settings: Settings, city: CityPack, pack: screen.Pack, suggestions: suggest.Service
) -> Callable[[], Coroutine[Any, Any, None]]:
    """Takes up a changed pack for names, queries, map and suggestions, for as long as it runs."""

    def build(city: CityPack) -> Callable[[], None]:
        shown, adviser = screen.Shown(city), suggest.Adviser(city)

        def put() -> None:
            pack.shown = shown
            suggestions.renew(adviser)

        return put

    # The file in the home is the worker's, which decides.
    renewal = Renewal(settings, city, build, record=False)

    async def keep() -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            await renewal.look()

    return keep


def _route(path: str) -> str:
    """The path's kind, so that a label never holds what a stranger typed."""
    first = path.strip("/").partition("/")[0]
    known = (
        "channels",
        "api",
        "open311",
        "suggest",
        "desk",
        "orders",
        "trail",
        "healthz",
        "readyz",
        "metrics",
        "",
    )
    return first if first in known else "static"


def main() -> None:
    """Serve until SIGTERM; requests under way are answered."""
    settings = load_settings()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(ensure_ascii=False),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelName(settings.log_level)
        ),
    )
    try:
        hold_kafka(settings)
        certificate, key = http_files(settings)
        app = create_app(settings, Publisher(settings))
    except QuanyuError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from None
    metrics.describe_process(settings)
    # The city takes seconds to read; whoever asks first should not wait for them.
    threading.Thread(target=app.state.suggest.warm, name="warm", daemon=True).start()
    server(
        app,
        host=settings.bind,
        port=settings.screen_port,
        timeout_graceful_shutdown=GRACEFUL_S,
        ssl_certfile=certificate,
        ssl_keyfile=key,
    ).run()


if __name__ == "__main__":
    main()
