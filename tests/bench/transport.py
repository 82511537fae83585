"""Transport alone: records a second with an agent that does nothing, against Faust one event at a time."""

import random
from typing import Any

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from schemas.kafka import admin_config, producer_config
from tests.bench.rig import process, storage
from tests.conftest import Stack

PARTITIONS = 4
#: As the probe that set the aim: 195-byte records in four partitions. They differ, or compression would
#: bring all of them with the first fetch and nothing would be left to measure.
RECORDS = [random.Random(seed).randbytes(195) for seed in range(2000)]


def run(records: int = 1_500_000, peer_records: int = 60_000) -> dict[str, Any]:
    """Records a second of three workers on the same topic, and their ratios to the peer."""
    with storage(clickhouse=False) as stack:
        admin = AdminClient(admin_config(stack.settings))
        names = ["bench.empty", "bench.empty.empty.state"]
        created = admin.create_topics([NewTopic(name, PARTITIONS, 1) for name in names])
        for future in created.values():
            future.result(30)
        producer = Producer(
            {**producer_config(stack.settings), "queue.buffering.max.messages": 1_000_000}
        )
        for number in range(records):
            producer.produce(names[0], value=RECORDS[number % len(RECORDS)], key=b"%d" % number)
            if number % 10_000 == 0:
                producer.poll(0)
        producer.flush(60)
        peer = _rate(
            stack,
            "tests.bench.per_event_worker",
            peer_records,
            "--empty",
            names[0],
            str(peer_records),
        )
        batches = _rate(
            stack, "tests.bench.empty_worker", records, names[0], str(records), "transport"
        )
        ledger = _rate(stack, "tests.bench.empty_worker", records, names[0], str(records), "ledger")
    return {
        "records": records,
        "per_event_faust_per_s": round(peer),
        "batch_transport_per_s": round(batches),
        "with_transaction_per_s": round(ledger),
        "ratio_transport": round(batches / peer, 1),
        "ratio_with_transaction": round(ledger / peer, 1),
    }


def _rate(stack: Stack, module: str, records: int, *arguments: str) -> float:
    """Records a second over the last three quarters: what was fetched while the worker started is no
    measure of its speed."""
    with process(stack, module, *arguments) as worker:
        assert worker.stdout is not None
        marks: list[tuple[int, float]] = []
        for line in worker.stdout:
            parts = line.split()
            if len(parts) == 2 and parts[0].isdigit():
                marks.append((int(parts[0]), float(parts[1])))
                if marks[-1][0] >= records:
                    break
    last, ended = marks[-1]
    first, started = next(mark for mark in marks if mark[0] >= last / 4)
    return (last - first) / (ended - started)
