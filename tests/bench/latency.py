"""From a report's receipt to its committed order, at a steady rate: the automatic part of dispatch.

Everything runs on this machine, the sink too. Measured is the wall clock between ``received_at`` of the
report that opened an event and the moment when a reader of committed records has its first order.
"""

import threading
import time
from typing import Any

import numpy as np
from confluent_kafka import Consumer, TopicPartition

from connectors.mapping import to_raw_report
from connectors.publish import Publisher
from connectors.simulator import Simulation, load_numbers
from schemas.channels import load_channel
from schemas.city import load_city
from schemas.codec import default_codec
from schemas.kafka import consumer_config
from tests.bench.rig import process, storage, wait_answers
from tests.conftest import Stack

SEED = 4102
#: Reports are handed over in portions, as a gateway under this load does.
PORTION_S = 0.05
#: The first seconds warm processes up and are not counted.
WARM_S = 10.0
QUIET_S = 5.0


def run(rate: int = 500, seconds: float = 40.0) -> dict[str, Any]:
    """Milliseconds from receipt to order: ``{"rate", "orders", "p50_ms", "p95_ms", "p99_ms"}``."""
    with (
        storage() as stack,
        process(stack, "connectors.sink"),
        process(stack, "streams.worker"),
    ):
        for part in ("sink", "worker"):
            wait_answers(stack.settings.metrics_port(part))
        done = threading.Event()
        found: list[tuple[float, float]] = []
        reading = threading.Thread(target=_read, args=(stack, done, found))
        reading.start()
        began = _publish(stack, rate, seconds)
        time.sleep(QUIET_S)
        done.set()
        reading.join()
    waits = np.array([seen - got for got, seen in found if got >= began + WARM_S]) * 1000
    p50, p95, p99 = (round(float(p)) for p in np.percentile(waits, (50, 95, 99)))
    return {"rate": rate, "orders": len(waits), "p50_ms": p50, "p95_ms": p95, "p99_ms": p99}


def _publish(stack: Stack, rate: int, seconds: float) -> float:
    """Hand over a simulated day in real time; when it began, in unix seconds."""
    publisher = Publisher(stack.settings)
    city, day = load_city(stack.settings.city), load_numbers().scenario("day")
    start_ms = int(time.time() * 1000) - 600_000
    simulated = Simulation(city, day, seed=SEED, rate=float(rate), start_ms=start_ms).reports()
    natives = [next(simulated) for _ in range(int(rate * seconds))]
    began, sent = time.time(), 0
    while sent < len(natives):
        until = min(len(natives), int((time.time() - began) * rate))
        now = int(time.time() * 1000)
        raws = [
            to_raw_report(load_channel(r.channel), r.native, received_at=now, connector="bench")
            for r in natives[sent:until]
        ]
        if raws:
            publisher.publish(raws, "bench")
        sent = until
        time.sleep(max(0.0, PORTION_S - (time.time() - now / 1000)))
    publisher.close()
    return began


def _read(stack: Stack, done: threading.Event, found: list[tuple[float, float]]) -> None:
    """(received, seen) of each event's first order, in unix seconds."""
    codec = default_codec(stack.settings)
    consumer = Consumer(consumer_config(stack.settings, "bench-latency"))
    numbers = consumer.list_topics("orders", 20).topics["orders"].partitions
    consumer.assign([TopicPartition("orders", number, 0) for number in numbers])
    while not done.is_set():
        messages = consumer.consume(500, 0.02)
        seen = time.time()
        for message in messages:
            order = codec.decode(message.value())[1]
            if order["version"] == 1:
                found.append((order["opened_at"] / 1000, seen))
    consumer.close()
