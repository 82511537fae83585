"""What an orchestrator and Prometheus ask of a part over HTTP: one port, three questions.

``/healthz``: does it still turn? Not: restart it. ``/readyz``: has it started? Until then it is starting, not
stuck. Both say why not in one line. Everything else is the metrics. None asks Kafka or ClickHouse: a part that
waits for them is well, and a restart would mend nothing.
"""

import threading
import time
from collections.abc import Callable, Iterable
from http import HTTPStatus
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import make_wsgi_app

from schemas.metrics import COLLECTORS
from schemas.settings import Settings

#: Returns why not, or nothing.
Probe = Callable[[], str]


class Pulse:
    """The beats of a main loop, each proof that it turned; silent for longer than ``limit_s``, it is stuck."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._at = time.monotonic()

    def beat(self) -> None:
        """It turned just now."""
        self._at = time.monotonic()

    def stuck(self) -> str:
        """Why it counts as stuck; empty while it turns."""
        silent = time.monotonic() - self._at
        return f"has not turned for {silent:.0f} s" if silent > self._limit_s else ""


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Silent(WSGIRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Who scraped is no event."""


def serve(settings: Settings, part: str, *, stuck: Probe, starting: Probe) -> Callable[[], None]:
    """Answer on the part's port in a thread of its own; call what is returned to close it.

    Raises :class:`OSError` when the port is taken.
    """
    answers: dict[str, Probe] = {"/healthz": stuck, "/readyz": lambda: stuck() or starting()}
    exposition: Any = make_wsgi_app(COLLECTORS)

    def app(environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        probe = answers.get(environ["PATH_INFO"])
        if probe is None:
            found: Iterable[bytes] = exposition(environ, start)
            return found
        why = probe()
        status = HTTPStatus.SERVICE_UNAVAILABLE if why else HTTPStatus.OK
        start(f"{status.value} {status.phrase}", [("Content-Type", "text/plain; charset=utf-8")])
        return [f"{why or 'ok'}\n".encode()]

    port = settings.metrics_port(part)
    server = make_server(settings.bind, port, app, _Server, _Silent)
    threading.Thread(target=server.serve_forever, daemon=True, name="probes").start()

    def close() -> None:
        server.shutdown()
        server.server_close()

    return close
