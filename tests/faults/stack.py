"""``python -m tests.faults.stack``: the embedded stack with a wire of its own between any two of its parts.

Started by the harness in place of ``quanyu up``. It is the product's own supervisor with the product's own
parts; only the addresses that they are given lead over the wires of ``tests/faults/network.py``, and the
broker has a listener for each. ``python -m tests.faults.stack kafka`` becomes that broker.
"""

import os
import sys
from dataclasses import replace

from deploy.local import home as homes
from deploy.local import kafka
from deploy.local.parts import Part, module, pipeline_parts, storage_parts
from deploy.local.supervisor import Supervisor
from schemas.errors import QuanyuError
from schemas.settings import Settings, load_settings

#: Parts with wires, in the order of their ports; "replay" is a connector that the harness starts.
WIRED = ("worker", "sink", "connectors", "screen", "monitor", "replay")
#: Ports above the stack's first: the product's own 20, the wires to Kafka and ClickHouse, the broker's
#: listeners behind them, and those of workers and sinks that come and go.
KAFKA_WIRES, CLICKHOUSE_WIRES, LISTENERS, GUESTS, PORTS = 20, 30, 40, 60, 120


def kafka_wire(port: int, part: str) -> int:
    """The port at which a part finds Kafka."""
    return port + KAFKA_WIRES + WIRED.index(part)


def clickhouse_wire(port: int, part: str) -> int:
    """The port at which a part finds ClickHouse."""
    return port + CLICKHOUSE_WIRES + WIRED.index(part)


def listener(port: int, part: str) -> int:
    """The broker's port behind a part's wire."""
    return port + LISTENERS + WIRED.index(part)


def addresses(port: int, part: str) -> dict[str, str]:
    """The environment in which a part finds both over its wires."""
    return {
        "QUANYU_KAFKA": f"127.0.0.1:{kafka_wire(port, part)}",
        "QUANYU_CLICKHOUSE": f"http://127.0.0.1:{clickhouse_wire(port, part)}",
    }


def wired(settings: Settings) -> tuple[list[Part], list[Part]]:
    """The product's storage and pipeline with the wires between them."""
    storage = [
        replace(part, argv=[*module("tests.faults.stack"), "kafka"])
        if part.name == "kafka"
        else part
        for part in storage_parts(settings)
    ]
    pipeline = [
        replace(part, env={**part.env, **addresses(settings.port, part.name)})
        for part in pipeline_parts(settings)
    ]
    return storage, pipeline


def broker_properties(settings: Settings) -> str:
    """What the wires add to the broker's configuration; of a name that is there twice the last counts."""
    port, names = settings.port, {part: part.upper() for part in WIRED}
    own = f"127.0.0.1:{settings.kafka_port}"
    here = [f"{name}://127.0.0.1:{listener(port, part)}" for part, name in names.items()]
    told = [f"{name}://127.0.0.1:{kafka_wire(port, part)}" for part, name in names.items()]
    protocols = [f"{name}:PLAINTEXT" for name in ("CONTROLLER", "PLAINTEXT", *names.values())]
    return (
        f"listeners=PLAINTEXT://{own},CONTROLLER://127.0.0.1:{settings.kafka_controller_port},"
        f"{','.join(here)}\n"
        f"advertised.listeners=PLAINTEXT://{own},{','.join(told)}\n"
        f"listener.security.protocol.map={','.join(protocols)}\n"
        "inter.broker.listener.name=PLAINTEXT\n"
    )


def become_broker(settings: Settings) -> None:
    """Never returns."""
    argv = kafka.command(settings)
    with (settings.home / "kafka" / "server.properties").open("a", encoding="utf-8") as file:
        file.write(broker_properties(settings))
    os.execv(argv[0], argv)


def main() -> None:
    """Supervise until SIGTERM, as ``deploy.local.supervisor`` does."""
    try:
        settings = load_settings()
        if sys.argv[1:] == ["kafka"]:
            become_broker(settings)
        with homes.owned(settings.home):
            homes.prepare(settings)
            storage, pipeline = wired(settings)
            Supervisor(settings, storage, pipeline, module("deploy.local.setup")).run()
    except QuanyuError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
