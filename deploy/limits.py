"""What one connection may cost the gateway: bytes of a body that a framework reads whole, and its time.

Routes that take reports, photos or questions read their bodies themselves, each within its own limit
(:func:`connectors.http_push.read_body`); what remains is read by FastAPI, which knows no limit.
"""

import asyncio
from typing import Any

import uvicorn
from fastapi import FastAPI
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from connectors.refusal import Refused

#: A split of an event names up to 20,000 reports of 36 characters; nothing else is a hundredth of it.
BODY_LIMIT = 2 * 1024 * 1024
BODY_S = 20.0
#: Seconds in which a request's first line and headers have to be there.
HEAD_S = 10.0
#: Bytes of them; h11 gives up beyond.
HEAD_LIMIT = 32 * 1024
#: Connections and requests at once; more are answered 503 and come again.
CONNECTIONS = 1_000
#: First parts of the paths whose bodies are read by the framework.
WHOLE = ("desk", "orders", "trail")


class Bodies:
    """ASGI: reads a body before the route does, never more of it than the limit, and never for longer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        path = str(scope.get("path", ""))
        if (
            scope["type"] != "http"
            or scope["method"] in ("GET", "HEAD")
            or path.strip("/").partition("/")[0] not in WHOLE
            or path.endswith("/photos")
        ):
            await self._app(scope, receive, send)
            return
        try:
            body = await _whole(receive)
        except Refused as refused:
            answer = JSONResponse(
                refused.body.model_dump(exclude_none=True), refused.status, headers=refused.headers
            )
            await answer(scope, receive, send)
            return
        if body is None:
            return  # its sender left
        told = False

        async def again() -> Message:
            nonlocal told
            if told:
                return await receive()
            told = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self._app(scope, again, send)


async def _whole(receive: Receive) -> bytes | None:
    parts, size = [], 0
    close = {"Connection": "close"}  # what is left of the body is not waited for
    try:
        async with asyncio.timeout(BODY_S):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return None
                parts.append(message.get("body", b""))
                size += len(parts[-1])
                if size > BODY_LIMIT:
                    problem = f"the body is larger than {BODY_LIMIT} bytes"
                    raise Refused(413, "body_too_large", problem, headers=close)
                if not message.get("more_body", False):
                    return b"".join(parts)
    except TimeoutError:
        problem = f"the body was not there within {BODY_S:g} s"
        raise Refused(408, "slow_body", problem, headers=close) from None


class Impatient(H11Protocol):
    """Closes a connection whose request's head does not come: else a thousand slow ones hold the port."""

    def connection_made(self, transport: Any) -> None:
        """See :class:`asyncio.Protocol`."""
        super().connection_made(transport)
        self._wait()

    def on_response_complete(self) -> None:
        """See :class:`H11Protocol`."""
        super().on_response_complete()
        self._wait()

    def _wait(self) -> None:
        answered = self.cycle
        self.loop.call_later(HEAD_S, self._late, answered)

    def _late(self, answered: Any) -> None:
        if self.cycle is answered and not self.transport.is_closing():
            self.transport.close()


def server(app: FastAPI, **options: Any) -> uvicorn.Server:
    """A server of the gateway with these limits."""
    return uvicorn.Server(
        uvicorn.Config(
            app,
            http=Impatient,
            h11_max_incomplete_event_size=HEAD_LIMIT,
            limit_concurrency=CONNECTIONS,
            log_level="warning",
            server_header=False,
            **options,
        )
    )
