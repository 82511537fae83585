"""Which parts run, and on which ports."""

import socket
from pathlib import Path

from deploy.local.parts import kafka_answers, pipeline_parts, storage_parts
from schemas.settings import Settings


def test_servers_of_ones_own_are_not_started(tmp_path: Path) -> None:
    def started(**outside: str) -> list[str]:
        settings = Settings(home=tmp_path, **outside)  # type: ignore[arg-type]  # strings
        return [part.name for part in storage_parts(settings)]

    assert started() == ["kafka", "clickhouse", "mqtt"]
    assert started(kafka="broker:9092") == ["clickhouse", "mqtt"]
    assert started(clickhouse="http://db:8123") == ["kafka", "mqtt"]


def test_two_homes_twenty_ports_apart_share_no_port(tmp_path: Path) -> None:
    def ports(base: int) -> set[int]:
        settings = Settings(home=tmp_path, port=base)
        parts = storage_parts(settings) + pipeline_parts(settings)
        return {port for part in parts for port in part.ports}

    assert len(ports(9000)) == 9
    assert not ports(9000) & ports(9020)


def test_something_else_on_the_brokers_port_is_not_a_broker() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        assert not kafka_answers(other.getsockname()[1])
