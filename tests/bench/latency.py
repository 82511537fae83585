"""``quanyu bench latency``: from a report's receipt to its order, and to its being visible, at steady rates.

Everything runs on this machine, the sink too. Measured is the wall clock between ``received_at`` of the
report that opened an event and the moment when a reader of committed records has its first order; and between
``received_at`` of each report and the answer in which somebody who asks ClickHouse again and again finds its
outcome for the first time.
"""

import threading
import time
from typing import Any

import clickhouse_connect
import numpy as np
from confluent_kafka import Consumer, TopicPartition
from rich.console import Console

from connectors.mapping import to_raw_report
from connectors.publish import Publisher
from connectors.simulator import Simulation, load_numbers
from deploy import city_build
from schemas.channels import load_channel
from schemas.city import load_city
from schemas.codec import default_codec
from schemas.kafka import consumer_config
from schemas.settings import Settings
from tests.bench import record
from tests.bench.machine import machine
from tests.bench.rig import process, storage, wait_answers
from tests.conftest import Stack

SEED = 4102
#: Reports are handed over in portions, as a gateway under this load does.
PORTION_S = 0.05
#: The first seconds warm processes up and are not counted.
WARM_S = 10.0
QUIET_S = 2.0
#: The rest must be visible so long after the last was handed over.
LIMIT_S = 60.0
#: Somebody who looks at the table asks again after so long.
ASK_S = 0.02
RATES = (100, 500, 2000, 5000)
PERCENTILES = (50, 95, 99, 99.9)


def run(rate: int = 500, seconds: float = 40.0) -> dict[str, Any]:
    """Milliseconds from receipt to order and to visible; ``late`` of the sender: more than this is its own."""
    with (
        storage() as stack,
        process(stack, "connectors.sink") as sink,
        process(stack, "streams.worker") as worker,
    ):
        for name, part in (("sink", sink), ("worker", worker)):
            wait_answers(stack.settings.metrics_port(name), part)
        done = threading.Event()
        ordered: list[tuple[float, float]] = []
        visible: list[tuple[float, float]] = []
        readers = [
            threading.Thread(target=_read, args=(stack, done, ordered)),
            threading.Thread(target=_ask, args=(stack, done, visible)),
        ]
        for reader in readers:
            reader.start()
        began, ended = _publish(stack, rate, seconds)
        until = time.monotonic() + LIMIT_S
        while len(visible) < int(rate * seconds) and time.monotonic() < until:
            time.sleep(0.2)
        time.sleep(QUIET_S)
        done.set()
        for reader in readers:
            reader.join()
    order = _waits(ordered, began)
    return {
        "rate": rate,
        "orders": len(order),
        **{f"p{p}_ms": v for p, v in _percentiles(order).items()},
        "reports": len(visible),
        "missing": int(rate * seconds) - len(visible),
        "published_s": round(ended - began, 1),
        **{f"visible_p{p}_ms": v for p, v in _percentiles(_waits(visible, began)).items()},
    }


def _waits(found: list[tuple[float, float]], began: float) -> list[float]:
    return [(seen - got) * 1000 for got, seen in found if got >= began + WARM_S]


def _percentiles(waits: list[float]) -> dict[str, int | None]:
    if not waits:
        return dict.fromkeys(map(str, PERCENTILES))
    found = np.percentile(np.array(waits), PERCENTILES)
    return {str(p): round(float(v)) for p, v in zip(PERCENTILES, found, strict=True)}


def main() -> None:
    """Progress on stderr, one table or one JSON object on stdout."""
    parser = record.parser("latency", __doc__ or "")
    parser.add_argument("--rate", type=int, action="append", help="default: 100 500 2000 5000")
    parser.add_argument("--seconds", type=float, default=25.0, help="of each rate; 10 warm it up")
    arguments = parser.parse_args()
    where = machine()
    say = Console(stderr=True, highlight=False).print
    city_build.build(load_city(Settings().city), say=say)
    found = []
    for rate in arguments.rate or RATES:
        found.append(run(rate, arguments.seconds))
        say(found[-1])
    columns = ["reports/s", "visible p50 ms", "p99", "p99.9", "order p50 ms", "p95", "p99", "p99.9"]
    rows = [
        [one["rate"], *(one[f"visible_p{p}_ms"] for p in ("50", "99", "99.9"))]
        + [one[f"p{p}_ms"] for p in ("50", "95", "99", "99.9")]
        for one in found
    ]
    notes = [
        f"{arguments.seconds:.0f} s of each rate, the first {WARM_S:.0f} not counted; a reader asks ClickHouse "
        f"every {ASK_S * 1000:.0f} ms."
    ]
    for one in found:
        if one["missing"]:
            notes.append(
                f"{one['rate']}/s: {one['missing']} reports not visible {LIMIT_S:.0f} s after the last"
            )
        if one["published_s"] > arguments.seconds * 1.1:
            notes.append(
                f"{one['rate']}/s: the sender itself took {one['published_s']} s: the rate was not reached"
            )
    record.finish(arguments, "latency", {"machine": where, "rates": found}, columns, rows, notes)


def _publish(stack: Stack, rate: int, seconds: float) -> tuple[float, float]:
    """Hand over a simulated day in real time; when it began and ended, in unix seconds."""
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
    return began, time.time()


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


def _ask(stack: Stack, done: threading.Event, found: list[tuple[float, float]]) -> None:
    """(received, seen) of each report whose outcome is visible, in unix seconds."""
    client = clickhouse_connect.get_client(
        dsn=stack.settings.clickhouse_url,
        database=stack.settings.clickhouse_database,
        autogenerate_session_id=False,
    )
    # Where each partition goes on; an element that is not there is 0.
    ends: list[int] = []
    while not done.is_set():
        rows = client.query(
            "SELECT _partition, _offset, toUnixTimestamp64Milli(received_at) FROM report_outcomes "
            "WHERE _offset >= {ends:Array(UInt64)}[_partition + 1]",
            {"ends": ends},
        ).result_rows
        seen = time.time()
        for partition, offset, received in rows:
            ends += [0] * (partition + 1 - len(ends))
            ends[partition] = max(offset + 1, ends[partition])
            found.append((received / 1000, seen))
        time.sleep(ASK_S)
    client.close()


if __name__ == "__main__":
    main()
