"""Transport alone: records a second with an agent that does nothing, against Faust one event at a time."""

import random
import sys
import threading
from typing import Any

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from schemas.kafka import admin_config, producer_config
from tests.bench.rig import process, storage
from tests.conftest import Stack

PARTITIONS = 4
LIMIT_S = 120.0
#: As the probe that set the aim: 195-byte records in four partitions. They differ, or compression would
#: bring all of them with the first fetch and nothing would be left to measure.
RECORDS = [random.Random(seed).randbytes(195) for seed in range(2000)]


def run(records: int = 1_500_000, peer_records: int = 60_000) -> dict[str, Any]:
    """Records a second of three workers on the same topic, and their ratios to the peer."""
    with storage(clickhouse=False) as stack:
        topic = "bench.empty"
        fill(stack, records, topic)
        peer = rate(
            stack, "tests.bench.per_event_worker", peer_records, "--empty", topic, str(peer_records)
        )
        batches = rate(stack, "tests.bench.empty_worker", records, topic, str(records), "transport")
        ledger = rate(stack, "tests.bench.empty_worker", records, topic, str(records), "ledger")
    return {
        "records": records,
        "per_event_faust_per_s": round(peer),
        "batch_transport_per_s": round(batches),
        "with_transaction_per_s": round(ledger),
        "ratio_transport": round(batches / peer, 1),
        "ratio_with_transaction": round(ledger / peer, 1),
    }


def fill(stack: Stack, records: int, topic: str) -> None:
    """A topic with so many records, and the state topic of an agent that is called empty."""
    admin = AdminClient(admin_config(stack.settings))
    names = [topic, f"{topic}.empty.state"]
    created = admin.create_topics([NewTopic(name, PARTITIONS, 1) for name in names])
    for future in created.values():
        future.result(30)
    producer = Producer(
        {**producer_config(stack.settings), "queue.buffering.max.messages": 1_000_000}
    )
    for number in range(records):
        value = RECORDS[number % len(RECORDS)]
        while True:
            try:
                producer.produce(topic, value=value, key=b"%d" % number)
                break
            except BufferError:
                producer.poll(0.1)
        if number % 10_000 == 0:
            producer.poll(0)
    producer.flush(120)


def rate(
    stack: Stack, module: str, records: int, *arguments: str, python: str = sys.executable
) -> float:
    """Records a second over the last three quarters: what was fetched while the worker started is no
    measure of its speed."""
    with process(stack, module, *arguments, python=python) as worker:
        assert worker.stdout is not None
        # Whoever hangs says nothing for ever.
        guard = threading.Timer(LIMIT_S, worker.kill)
        guard.start()
        marks: list[tuple[int, float]] = []
        for line in worker.stdout:
            parts = line.split()
            if len(parts) == 2 and parts[0].isdigit():
                marks.append((int(parts[0]), float(parts[1])))
                if marks[-1][0] >= records:
                    break
        guard.cancel()
        if not marks or marks[-1][0] < records:
            came = marks[-1][0] if marks else 0
            raise RuntimeError(f"{came} of {records} records came; {worker.last_words()}")
    last, ended = marks[-1]
    first, started = next(mark for mark in marks if mark[0] >= last / 4)
    return (last - first) / (ended - started)
