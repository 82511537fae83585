"""What a stranger may cost the gateway: bytes, depth, headers and time, on a real socket."""

import asyncio
import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import httpx
import pytest

from connectors.publish import Publisher
from deploy import limits
from deploy.desk import Desk
from deploy.gateway import create_app
from deploy.people import add_person
from schemas.settings import Settings
from tests.conftest import eventually, free_base_port

EVENT = "/desk/events/0f0e0d0c-0b0a-5908-8706-050403020100/merge"


class Nobody:
    """A publisher that is never asked."""

    def close(self, *_: float) -> None:
        """Nothing to wait for."""


class Gate:
    """A served gateway, a person's key, and how to speak to it byte by byte."""

    def __init__(self, port: int, key: str) -> None:
        self.port, self.key = port, key
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False)

    def raw(self, data: bytes) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self.port), 30)
        connection.sendall(data)
        return connection


@pytest.fixture
def gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    monkeypatch.setattr(limits, "HEAD_S", 1.0)
    monkeypatch.setattr(limits, "BODY_S", 1.0)
    monkeypatch.setattr(Desk, "note", lambda *_, **__: None)
    port = free_base_port()
    settings = Settings(home=tmp_path, port=port, clickhouse="http://127.0.0.1:1")
    app = create_app(settings, cast(Publisher, Nobody()))
    server = limits.server(app, host="127.0.0.1", port=port)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()), daemon=True)
    thread.start()
    eventually(lambda: server.started)
    yield Gate(port, add_person(settings.people_path, "desk-1", "centre"))
    server.should_exit = True
    thread.join(20)


def test_a_head_that_comes_byte_by_byte_ends_and_who_asks_beside_it_is_answered(
    gate: Gate,
) -> None:
    slow = gate.raw(b"GET /healthz HTTP/1.1\r\n")
    began = time.monotonic()
    with contextlib.suppress(OSError):
        while time.monotonic() - began < 30:
            slow.sendall(b"X")
            time.sleep(0.1)
            slow.settimeout(0.01)
            with contextlib.suppress(TimeoutError):
                assert slow.recv(100) == b""
                break
    assert time.monotonic() - began < 20
    assert gate.client.get("/healthz").status_code == 200


def test_a_head_without_an_end_is_refused(gate: Gate) -> None:
    sent = b"GET /healthz HTTP/1.1\r\nHost: a\r\nX-Long: " + b"x" * (limits.HEAD_LIMIT + 60_000)
    with contextlib.suppress(OSError):  # it may close before it has read all
        answer = gate.raw(sent).recv(1000)
        assert b" 400 " in answer or answer == b""
    assert gate.client.get("/healthz").status_code == 200


def test_without_a_key_no_byte_of_a_body_is_waited_for(gate: Gate) -> None:
    head = f"POST {EVENT} HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999\r\n\r\n"
    assert b" 401 " in gate.raw(head.encode()).recv(100)


@pytest.mark.parametrize("declared", [True, False])
def test_a_body_beyond_the_limit_is_refused_whatever_its_header_says(
    gate: Gate, declared: bool
) -> None:
    chunks = iter([b"x" * 65536] * (limits.BODY_LIMIT // 65536 + 2))
    content: Any = b"".join(chunks) if declared else chunks
    with contextlib.suppress(httpx.WriteError):
        answer = gate.client.post(EVENT, content=content, headers={"X-API-Key": gate.key})
        assert answer.status_code == 413


def test_a_body_that_does_not_come_is_not_waited_for(gate: Gate) -> None:
    head = f"POST {EVENT} HTTP/1.1\r\nHost: a\r\nX-API-Key: {gate.key}\r\nContent-Length: 100\r\n\r\n{{"
    assert b" 408 " in gate.raw(head.encode()).recv(100)


@pytest.mark.parametrize(
    "body", [b"[" * 500_000, b'{"into":' * 100_000, json.dumps({"into": "x" * 1_000_000}).encode()]
)
def test_a_nested_or_endless_document_is_a_4xx_and_nothing_falls_over(
    gate: Gate, body: bytes
) -> None:
    answer = gate.client.post(
        EVENT, content=body,
        headers={"X-API-Key": gate.key, "Content-Type": "application/json"}, timeout=60,
    )  # fmt: skip
    assert 400 <= answer.status_code < 500
    assert gate.client.get("/healthz").status_code == 200
