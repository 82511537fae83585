"""What is reported as published is on the broker; what is not, is said within a known time."""

import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from connectors import publish
from connectors.mapping import to_raw_report
from connectors.publish import BrokerBehind, Publisher, Unpublishable
from schemas import metrics
from schemas.channels import load_channel
from tests.conftest import Stack, eventually
from tests.integration.connectors.conftest import Log

pytestmark = pytest.mark.integration

CHANNEL = "grid_patrol"


def raws(first: int, count: int, **fields: Any) -> list[dict[str, Any]]:
    spec = load_channel(CHANNEL)
    return [
        to_raw_report(
            spec,
            {"task_id": f"T{n}", "title": "路灯不亮"} | fields,
            received_at=n,
            connector="test",
        )
        for n in range(first, first + count)
    ]


@pytest.fixture
def log(broker: Stack) -> Iterator[Log]:
    made = Log(broker.settings, CHANNEL)
    yield made
    made.close()


@pytest.fixture
def publisher(broker: Stack) -> Iterator[Publisher]:
    made = Publisher(broker.settings)
    yield made
    made.close()


def test_published_means_that_every_record_is_there_up_to_the_offsets_told(
    publisher: Publisher, log: Log
) -> None:
    counted = metrics.CHANNEL_REPORTS.labels(CHANNEL, "test")
    before = counted._value.get()
    offsets = publisher.publish(raws(0, 3000), "test")
    found = log.records()
    assert sorted(int(record["native_id"][1:]) for _, record in found) == list(range(3000))
    assert all(key == record["native_id"].encode() for key, record in found)
    assert offsets == log.last
    assert counted._value.get() - before == 3000


def test_a_report_without_an_id_is_published_all_the_same(publisher: Publisher, log: Log) -> None:
    publisher.publish(raws(0, 1, task_id=""), "test")
    ((key, record),) = log.records()
    assert (record["native_id"], bool(key)) == (None, True)


def test_many_senders_at_once_mix_nothing_up(publisher: Publisher, log: Log) -> None:
    with ThreadPoolExecutor(16) as pool:
        told = list(pool.map(lambda n: publisher.publish(raws(n * 50, 50), "test"), range(100)))
    assert len(told) == 100
    found = sorted(int(record["native_id"][1:]) for _, record in log.records())
    assert found == list(range(5000))


def test_a_record_that_the_broker_never_takes_is_told_apart(publisher: Publisher, log: Log) -> None:
    (big,) = raws(0, 1)
    big["payload"] = b"x" * 9_000_000
    with pytest.raises(Unpublishable):
        publisher.publish([big], "test")
    publisher.publish(raws(1, 1), "test")
    assert [record["native_id"] for _, record in log.records()] == ["T1"]


def test_a_channel_whose_topic_is_missing_says_what_to_do(
    broker: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publish, "CONFIRM_TIMEOUT_S", 2.0)
    publisher = Publisher(broker.settings)
    (stray,) = raws(0, 1)
    stray["channel"] = "no_such_channel"
    with pytest.raises(BrokerBehind, match="quanyu topics apply"):
        publisher.publish([stray], "test")
    publisher.close()


def test_a_broker_that_stands_still_is_told_in_time_and_keeps_no_endless_queue(
    broker: Stack, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publish, "CONFIRM_TIMEOUT_S", 3.0)
    monkeypatch.setattr(publish, "IN_FLIGHT_LIMIT", 100)
    publisher = Publisher(broker.settings)
    publisher.publish(raws(0, 1), "test")
    errors: list[Exception] = []

    def send() -> None:
        try:
            publisher.publish(raws(1, 150), "test")
        except BrokerBehind as error:
            errors.append(error)

    broker.processes["kafka"].send_signal(signal.SIGSTOP)
    try:
        first = threading.Thread(target=send)
        first.start()
        eventually(lambda: publisher.waiting > 100)
        started = time.monotonic()
        with pytest.raises(BrokerBehind, match="wait for the broker"):
            publisher.publish(raws(1000, 1), "test")
        # Refused at once, not after the wait that the first one has to go through.
        assert time.monotonic() - started < 2.0
        first.join(60)
        assert not first.is_alive()
        assert len(errors) == 1
    finally:
        broker.processes["kafka"].send_signal(signal.SIGCONT)

    def works_again() -> bool:
        try:
            return bool(publisher.publish(raws(1, 150), "test"))
        except BrokerBehind:
            return False

    # The same batch again: each of its reports is there at least once, the refused one is not.
    eventually(works_again)
    found = {record["native_id"] for _, record in log.records()}
    assert found == {f"T{n}" for n in range(151)}
    publisher.close()
