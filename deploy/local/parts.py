"""The parts of an embedded stack: what runs, on which port, and when it answers."""

import contextlib
import os
import socket
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import httpx
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from deploy.local import kafka
from schemas.settings import Settings

PROBE_TIMEOUT_S = 2.0


@dataclass(frozen=True, slots=True)
class Part:
    """One supervised process. ``argv`` is called at each start; ``answers`` probes it from outside."""

    name: str
    argv: Callable[[], list[str]]
    ports: tuple[int, ...]
    answers: Callable[[], bool]
    env: Mapping[str, str] = field(default_factory=dict)


def storage_parts(settings: Settings) -> list[Part]:
    """Broker and engine, unless configured elsewhere."""
    parts = []
    if not settings.kafka:
        parts.append(
            Part(
                "kafka",
                lambda: kafka.command(settings),
                (settings.kafka_port, settings.kafka_controller_port),
                lambda: kafka_answers(settings),
            )
        )
    if not settings.clickhouse:
        port = settings.clickhouse_port
        parts.append(
            Part(
                "clickhouse", lambda: module("deploy.local.clickhouse"), (port,), lambda: http_ok(settings, port, "/ping")
            )
        )
    return parts


def pipeline_parts(settings: Settings) -> list[Part]:
    """The processes of quanyu itself."""
    return [
        Part(
            "worker",
            lambda: module("streams.worker"),
            (settings.metrics_port("worker"),),
            lambda: http_ok(settings, settings.metrics_port("worker"), "/metrics"),
            # A static member of the group: restarted, it has its partitions back at once.
            {"QUANYU_INSTANCE": "worker-0"},
        ),
        Part(
            "sink",
            lambda: module("connectors.sink"),
            (settings.metrics_port("sink"),),
            lambda: http_ok(settings, settings.metrics_port("sink"), "/metrics"),
        ),
        Part(
            "monitor",
            lambda: module("deploy.monitor"),
            (settings.metrics_port("monitor"),),
            lambda: http_ok(settings, settings.metrics_port("monitor"), "/metrics"),
        ),
        Part(
            "screen",
            lambda: module("deploy.gateway"),
            (settings.screen_port,),
            lambda: http_ok(settings, settings.screen_port, "/healthz"),
        ),
    ]


def module(name: str) -> list[str]:
    """Argv that runs one of our modules with this interpreter."""
    return [sys.executable, "-m", name]


def http_ok(settings: Settings, port: int, path: str) -> bool:
    """Whether a GET is answered 200."""
    with contextlib.suppress(httpx.HTTPError):
        return httpx.get(f"http://{settings.bind}:{port}{path}", timeout=PROBE_TIMEOUT_S).status_code == 200
    return False


def kafka_answers(settings: Settings) -> bool:
    """Whether the broker answers a metadata request."""
    # The client logs every refused connection; asking the port first keeps a start quiet.
    with contextlib.suppress(OSError), socket.create_connection((settings.bind, settings.kafka_port), 0.5):
        admin = AdminClient({"bootstrap.servers": settings.bootstrap, "log_level": 0})
        with contextlib.suppress(KafkaException):
            return bool(admin.list_topics(timeout=PROBE_TIMEOUT_S).brokers)
    return False


def port_in_use(bind: str, port: int) -> bool:
    """Whether somebody listens on the port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((bind, port))
        except OSError:
            return True
    return False


def child_environment(settings: Settings, part: Part) -> dict[str, str]:
    """What a part's process sees: our settings as variables, output unbuffered."""
    return {
        **os.environ,
        "QUANYU_HOME": str(settings.home.resolve()),
        "QUANYU_PORT": str(settings.port),
        "PYTHONUNBUFFERED": "1",
        **part.env,
    }
