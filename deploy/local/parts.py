"""The parts of an embedded stack: what runs, on which port, and when it answers."""

import contextlib
import os
import random
import socket
import ssl
import struct
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from schemas.access import own_http_tls
from schemas.settings import Settings
from schemas.sources import embedded_sources, load_sources

PROBE_TIMEOUT_S = 2.0
ROOT = Path(__file__).resolve().parents[2]
#: Trusts nobody, for plain HTTP: reading the system's authorities takes 18 ms of CPU, at each probe of a start.
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


@dataclass(frozen=True, slots=True)
class Part:
    """One supervised process; ``answers`` asks it from outside, within a few seconds."""

    name: str
    argv: list[str]
    ports: tuple[int, ...]
    answers: Callable[[], bool]
    env: Mapping[str, str] = field(default_factory=dict)


def storage_parts(settings: Settings) -> list[Part]:
    """Brokers and engine, unless configured elsewhere.

    Raises :class:`QuanyuError` when the sources' file is wrong.
    """
    kafka, engine, mqtt = settings.kafka_port, settings.clickhouse_port, settings.mqtt_port
    parts = []
    if not settings.kafka:
        ports = (kafka, settings.kafka_controller_port)
        argv = module("deploy.local.kafka")
        parts.append(Part("kafka", argv, ports, lambda: kafka_answers(kafka)))
    if not settings.clickhouse:
        argv = module("deploy.local.clickhouse")
        parts.append(Part("clickhouse", argv, (engine,), lambda: http_ok(engine, "/ping")))
    if uses_embedded_mqtt(settings):
        argv = module("deploy.local.mqtt")
        parts.append(Part("mqtt", argv, (mqtt,), lambda: mqtt_answers(mqtt)))
    return parts


def uses_embedded_mqtt(settings: Settings) -> bool:
    """Whether a channel listens to the embedded broker; before the first start: whether one will."""
    chosen = settings.sources_path.exists() or settings.sources_file is not None
    sources = load_sources(settings) if chosen else embedded_sources(settings)
    return f"mqtt://127.0.0.1:{settings.mqtt_port}" in {s.get("mqtt") for s in sources.values()}


def pipeline_parts(settings: Settings) -> list[Part]:
    """The processes of quanyu itself."""

    def part(name: str, package: str, port: int, path: str, **env: str) -> Part:
        return Part(name, module(package), (port,), lambda: http_ok(port, path), env)

    metrics = settings.metrics_port
    return [
        # Static members of their groups: restarted, they have their partitions back at once.
        part("worker", "streams.worker", metrics("worker"), "/readyz", QUANYU_INSTANCE="worker-0"),
        part("sink", "connectors.sink", metrics("sink"), "/readyz", QUANYU_INSTANCE="sink-0"),
        part(
            "connectors",
            "connectors",
            metrics("connectors"),
            "/readyz",
            QUANYU_INSTANCE="connectors-0",
        ),
        part("monitor", "deploy.monitor", metrics("monitor"), "/readyz"),
        Part(
            "screen",
            module("deploy.gateway"),
            (settings.screen_port,),
            lambda: http_ok(0, "/healthz", settings.screen_url, own_http_tls(settings)),
        ),
    ]


def module(name: str) -> list[str]:
    """Argv that runs one of our modules with this interpreter."""
    return [sys.executable, "-m", name]


def http_ok(port: int, path: str, url: str = "", tls: ssl.SSLContext | bool = True) -> bool:
    """Whether a GET on loopback (or at ``url``) is answered 200."""
    asked = f"{url or f'http://127.0.0.1:{port}'}{path}"
    verify = tls if asked.startswith("https:") else NO_TLS
    with contextlib.suppress(httpx.HTTPError):
        # A proxy of the environment has no business on loopback.
        answer = httpx.get(asked, timeout=PROBE_TIMEOUT_S, trust_env=False, verify=verify)
        return answer.status_code == httpx.codes.OK
    return False


def kafka_answers(port: int) -> bool:
    """Whether a broker on loopback answers an ApiVersions request.

    By hand, because a client library would bring threads into the supervisor, which forks.
    """
    request = struct.pack(">ihhih", 10, 18, 0, 1, -1)
    with (
        contextlib.suppress(OSError),
        socket.create_connection(("127.0.0.1", port), PROBE_TIMEOUT_S) as connection,
    ):
        connection.sendall(request)
        return len(connection.recv(8)) > 0
    return False


def mqtt_answers(port: int) -> bool:
    """Whether a broker on loopback lets a client in (CONNECT, MQTT 3.1.1, an empty client id)."""
    request = b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x0a\x00\x00"
    with (
        contextlib.suppress(OSError),
        socket.create_connection(("127.0.0.1", port), PROBE_TIMEOUT_S) as connection,
    ):
        connection.sendall(request)
        answered = connection.recv(4) == b"\x20\x02\x00\x00"
        connection.sendall(b"\xe0\x00")  # DISCONNECT: nothing of this client is kept
        return answered
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


def free_base_port() -> int:
    """A base port whose twenty ports are free now."""
    # Below 32768: from there up the system hands ports to outgoing connections at any moment.
    for base in random.sample(range(12000, 32000, 20), 200):
        with contextlib.ExitStack() as held:
            try:
                for offset in range(20):
                    held.enter_context(socket.socket()).bind(("127.0.0.1", base + offset))
            except OSError:
                continue
            return base
    raise RuntimeError("no twenty free ports in a row on 127.0.0.1")


def child_environment(settings: Settings, extra: Mapping[str, str]) -> dict[str, str]:
    """What a part's process sees: our settings as variables, output unbuffered."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "QUANYU_HOME": str(settings.home.resolve()),
        "QUANYU_PORT": str(settings.port),
        "PYTHONUNBUFFERED": "1",
        **extra,
    }
