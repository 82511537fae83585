"""Fixtures shared by every test: the real Kafka broker and the real ClickHouse engine, once a run.

With ``QUANYU_TEST_CONTAINERS=1`` and a Docker engine the same fixtures use testcontainers; the
tests do not know which it is.
"""

import contextlib
import os
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import clickhouse_connect
import pytest
from clickhouse_connect.driver.client import Client
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, NewTopic
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from xdist.scheduler import LoadFileScheduling  # type: ignore[import-untyped] # it has no types

from deploy import city_build
from deploy.local.parts import (
    child_environment,
    http_ok,
    kafka_answers,
    module,
)
from deploy.local.parts import (
    free_base_port as free_base_port,
)
from deploy.local.supervisor import die_with_parent
from schemas.city import CityPack, load_city
from schemas.settings import Settings

T = TypeVar("T")

# No verdict may depend on how fast the machine is: neither a test's deadline nor how long its inputs take.
hypothesis_settings.register_profile(
    "quanyu", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
hypothesis_settings.load_profile("quanyu")

#: Starting a JVM on a busy two-core machine.
START_LIMIT_S = 120.0
#: Files that start whole stacks: two of these at once would leave no machine to the tests beside them.
WHOLE_STACKS = {
    "tests/faults/test_faults.py",
    "tests/integration/test_pipeline.py",
}


class OneStackAtATime(LoadFileScheduling):  # type: ignore[misc] # its base has no types
    """Tests of a file, and of all files that start whole stacks, run one after the other."""

    def _split_scope(self, nodeid: str) -> str:
        file = str(super()._split_scope(nodeid))
        return "whole stacks" if file in WHOLE_STACKS else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> OneStackAtATime:
    """What runs beside what under ``-n``."""
    return OneStackAtATime(config, log)


def eventually(probe: Callable[[], T], timeout: float = 30.0, interval: float = 0.05) -> T:
    """Poll until ``probe`` returns something true, and return it; fail with its last answer."""
    end = time.monotonic() + timeout
    while True:
        answer = probe()
        if answer:
            return answer
        if time.monotonic() > end:
            pytest.fail(f"not within {timeout:.0f} s; last answer: {answer!r}")
        time.sleep(interval)


@dataclass
class Stack:
    """A running broker and engine; ``restart_*`` are for tests that are about that."""

    settings: Settings
    processes: dict[str, subprocess.Popen[bytes]]

    def start_clickhouse(self) -> None:
        """Start the engine behind its HTTP interface and wait until it answers."""
        self._launch("clickhouse")
        eventually(lambda: http_ok(self.settings.clickhouse_port, "/ping"), START_LIMIT_S)

    def start_kafka(self) -> None:
        """Start the broker and wait until a client sees it."""
        self._launch("kafka")

        def answers() -> bool:
            with contextlib.suppress(KafkaException):
                return bool(AdminClient(quiet(self.settings)).list_topics(timeout=2).brokers)
            return False

        eventually(lambda: kafka_answers(self.settings.kafka_port) and answers(), START_LIMIT_S)

    def _launch(self, name: str) -> None:
        with (self.settings.home / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                module(f"deploy.local.{name}"),
                env=child_environment(self.settings, {}),
                stdout=log,
                stderr=log,
                # A test run that is killed leaves nothing behind.
                preexec_fn=die_with_parent(),
            )

    def stop(self) -> None:
        """Stop what runs; nothing is left behind."""
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def quiet(settings: Settings) -> dict[str, str | int | float | bool]:
    """Admin configuration that does not log refused connections while a broker starts."""
    return {"bootstrap.servers": settings.bootstrap, "log_level": "0"}


@dataclass
class Fresh:
    """Names that no other test uses."""

    settings: Settings
    prefix: str

    @property
    def database(self) -> str:
        """A ClickHouse database name; the caller creates it."""
        return f"test_{self.prefix}"

    def name(self, stem: str) -> str:
        """A unique name for groups, agents, files."""
        return f"{stem}-{self.prefix}"

    def topic(self, stem: str, partitions: int = 4, config: dict[str, str] | None = None) -> str:
        """Create a topic of its own and return its name."""
        name = f"{stem}.{self.prefix}"
        self.create_topic(name, partitions, config)
        return name

    def create_topic(
        self, name: str, partitions: int = 4, config: dict[str, str] | None = None
    ) -> None:
        """Create a topic and wait until a client can see its leaders."""
        admin = AdminClient(quiet(self.settings))
        topic = NewTopic(name, num_partitions=partitions, replication_factor=1, config=config or {})
        admin.create_topics([topic])[name].result(30)

        def led() -> bool:
            found = admin.list_topics(name, timeout=5).topics[name].partitions
            return len(found) == partitions and all(p.leader >= 0 for p in found.values())

        eventually(led)


def _docker() -> bool:
    if os.environ.get("QUANYU_TEST_CONTAINERS") != "1":
        return False
    try:
        import docker

        docker.from_env().ping()
    except Exception as error:
        pytest.fail(f"QUANYU_TEST_CONTAINERS=1, but no Docker engine answers: {error}")
    return True


@contextlib.contextmanager
def _containers(home: Path) -> Iterator[Stack]:
    from testcontainers.clickhouse import ClickHouseContainer
    from testcontainers.kafka import KafkaContainer

    with (
        KafkaContainer("apache/kafka:4.3.1").with_kraft() as kafka,
        ClickHouseContainer("clickhouse/clickhouse-server:26.9", port=8123) as clickhouse,
    ):
        url = f"http://{clickhouse.get_container_host_ip()}:{clickhouse.get_exposed_port(8123)}"
        yield Stack(Settings(home=home, kafka=kafka.get_bootstrap_server(), clickhouse=url), {})


@pytest.fixture(scope="session")
def zhengzhou() -> CityPack:
    """The shipped pack with its grids, which the first run on a machine builds into the normal cache."""
    city = load_city("zhengzhou")
    city_build.build(city)
    return city


@pytest.fixture(scope="session")
def stack(zhengzhou: CityPack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The run's broker and engine in a home of their own."""
    home = tmp_path_factory.mktemp("home")
    if _docker():
        with _containers(home) as containers:
            yield containers
        return
    stack = Stack(Settings(home=home, port=free_base_port()), {})
    try:
        stack.start_clickhouse()
        stack.start_kafka()
        yield stack
    finally:
        stack.stop()


@pytest.fixture(scope="session")
def settings(stack: Stack) -> Settings:
    """Settings that point at the run's broker and engine."""
    return stack.settings


@pytest.fixture
def clickhouse(settings: Settings) -> Iterator[Client]:
    """A plain ClickHouse client."""
    client = clickhouse_connect.get_client(
        dsn=settings.clickhouse_url, autogenerate_session_id=False
    )
    yield client
    client.close()


@pytest.fixture
def fresh(settings: Settings) -> Fresh:
    """Names for one test."""
    return Fresh(settings, uuid.uuid4().hex[:10])
