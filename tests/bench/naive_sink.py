"""The sink that everybody writes first: consume, decode, insert, commit. ``python -m tests.bench.naive_sink``.

At least once, with the clients' defaults and no token: what is inserted and not yet committed when it dies is
inserted again.
"""

import signal

import clickhouse_connect
from confluent_kafka import Consumer

from schemas.codec import default_codec
from schemas.kafka import consumer_config
from schemas.settings import load_settings

BATCH = 50_000
WAIT_S = 0.5


def main() -> None:
    """Run until SIGTERM."""
    stop: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stop.append(number))
    settings = load_settings()
    client = clickhouse_connect.get_client(
        dsn=settings.clickhouse_url, database=settings.clickhouse_database
    )
    codec = default_codec(settings)
    consumer = Consumer(
        {
            **consumer_config(settings, "bench-naive"),
            # What consume() has handed over is what commit() commits.
            "enable.auto.offset.store": True,
            # As the sink: restarted, it has its partitions back at once.
            "group.instance.id": "bench-naive-0",
            "session.timeout.ms": 10_000,
        }
    )
    consumer.subscribe(["reports"])
    while not stop:
        messages = consumer.consume(BATCH, WAIT_S)
        if not messages:
            continue
        rows = []
        for message in messages:
            place = {"_topic": message.topic(), "_partition": message.partition()}
            fields = codec.decode(message.value())[1]
            rows.append({**fields, **place, "_offset": message.offset()})
        names = list(rows[0])
        client.insert("reports", [[row[name] for name in names] for row in rows], names)
        consumer.commit(asynchronous=False)
    consumer.close()


if __name__ == "__main__":
    main()
