"""A unit's own system for the tests: takes signed webhooks, and misbehaves as its path says."""

import contextlib
import json
import socket
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from connectors.signature import SIGNATURE_HEADER, TIMESTAMP_HEADER, timely, verified

SECRET = "a secret of the unit's own system"


@dataclass
class Received:
    """One request whose signature held."""

    path: str
    key: str
    body: dict[str, Any]


@dataclass
class Receiver:
    """What came; ``statuses`` are answered one after the other for a path, then 200."""

    port: int = 0
    received: list[Received] = field(default_factory=list)
    statuses: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    #: Requests whose signature did not hold.
    unsigned: int = 0
    closing: threading.Event = field(default_factory=threading.Event)

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def of(self, path: str) -> list[Received]:
        return [r for r in self.received if r.path == path]


class _Handler(BaseHTTPRequestHandler):
    receiver: Receiver
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        body = self.rfile.read(length)
        if len(body) < length:  # its sender was killed in the middle of it
            self.close_connection = True
            return
        stamp, given = self.headers[TIMESTAMP_HEADER], self.headers[SIGNATURE_HEADER]
        try:
            timely(stamp, given, time.time())
            verified([SECRET], stamp, given, body)
        except Exception:
            self.receiver.unsigned += 1
            self._answer(401)
            return
        key = self.headers["Idempotency-Key"]
        self.receiver.received.append(Received(self.path, key, json.loads(body)))
        kind = self.path.split("/")[1]
        misbehave = getattr(self, f"_{kind}", None)
        if misbehave is not None:
            misbehave()
            return
        left = self.receiver.statuses[self.path]
        self._answer(left.pop(0) if left else 200)

    def _answer(self, status: int, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _hangs(self) -> None:
        self.receiver.closing.wait(60)
        self.close_connection = True

    def _rubbish(self) -> None:
        self.wfile.write(b"\x00\xffSMTP 220 hello\r\n\r\n" * 100)
        self.close_connection = True

    def _closes(self) -> None:
        self.connection.shutdown(socket.SHUT_RDWR)
        self.close_connection = True

    def _redirects(self) -> None:
        self._answer(307, Location=self.receiver.url("/elsewhere"))

    def _endless(self) -> None:
        """A yes with a body that never ends."""
        self.send_response(200)
        self.send_header("Set-Cookie", "stale=1")
        self.end_headers()
        with contextlib.suppress(OSError):
            while not self.receiver.closing.is_set():
                self.wfile.write(b"x" * 65_536)
        self.close_connection = True

    def _trickles(self) -> None:
        """A yes whose body comes a byte at a time."""
        self.send_response(200)
        self.send_header("Content-Length", "1000000")
        self.end_headers()
        with contextlib.suppress(OSError):
            while not self.receiver.closing.wait(0.05):
                self.wfile.write(b"x")
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class _Server(ThreadingHTTPServer):
    def handle_error(self, *_: Any) -> None:
        """Say nothing of a sender that was killed."""


@contextlib.contextmanager
def receiving() -> Iterator[Receiver]:
    """A receiver on loopback."""
    receiver = Receiver()
    handler = type("Handler", (_Handler,), {"receiver": receiver})
    server = _Server(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    receiver.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        receiver.closing.set()
        server.shutdown()
        server.server_close()
        thread.join(10)
