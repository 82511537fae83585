"""A bare confluent-kafka loop with the same steps: what this approach can reach in one process.

``python -m tests.bench.peers.bare [--exact | --empty TOPIC COUNT]``. Plain, it keeps state in memory and
commits offsets after its outputs: at least once, and a restart would have forgotten everything. With
``--exact`` it makes the worker's promise in the simplest way: one transaction for all that a portion causes,
changes of state included.
"""

import signal
import sys
from itertools import groupby
from typing import Any, cast

from confluent_kafka import Consumer, Message, Producer, TopicPartition

from schemas.kafka import consumer_config, producer_config
from schemas.settings import load_settings
from tests.bench.peers.plain import FETCHING, INPUTS, Steps, empty

PORTION = 4_000
WAIT_S = 0.02


def main() -> None:
    """Run until SIGTERM."""
    stop: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stop.append(number))
    settings = load_settings()
    consumer = Consumer({**consumer_config(settings, "bench-bare"), **FETCHING})
    if asked := empty():
        topic, counter = asked
        consumer.subscribe([topic])
        while not stop:
            counter.add(len(consumer.consume(PORTION, WAIT_S)))
        return
    exact = sys.argv[1:2] == ["--exact"]
    config: dict[str, Any] = {
        **producer_config(settings),
        "queue.buffering.max.messages": 1_000_000,
    }
    producer = Producer({**config, "transactional.id": "bench-bare"} if exact else config)
    if exact:
        producer.init_transactions()
    steps = Steps(settings)
    consumer.subscribe(INPUTS)
    while not stop:
        messages = consumer.consume(PORTION, WAIT_S)
        if not messages:
            continue
        if exact:
            producer.begin_transaction()
        ends = _decide(steps, producer, messages, exact)
        if exact:
            producer.send_offsets_to_transaction(ends, consumer.consumer_group_metadata())
            producer.commit_transaction()
        else:
            producer.flush()
            consumer.commit(offsets=ends, asynchronous=True)
    consumer.close()


def _decide(
    steps: Steps, producer: Producer, messages: list[Message], exact: bool
) -> list[TopicPartition]:
    """Decide and produce; where each partition goes on."""

    def place(message: Message) -> tuple[Any, Any]:
        return message.topic(), message.partition()

    ends = []
    for (topic, partition), group in groupby(sorted(messages, key=place), key=place):
        run = list(group)
        decision = steps.decide(
            topic,
            partition,
            [m.key() for m in run],
            [m.value() for m in run],
            [m.offset() or 0 for m in run],
            [m.timestamp()[1] for m in run],
        )
        for output in decision.outputs:
            where = -1 if output.partition is None else output.partition
            producer.produce(
                output.topic, output.value, output.key, where, headers=cast(Any, output.headers)
            )  # fmt: skip
        if exact:
            state = steps.state_topic(topic)
            for key, value in decision.changes:
                producer.produce(state, value, key, partition)
        ends.append(TopicPartition(topic, partition, (run[-1].offset() or 0) + 1))
        producer.poll(0)
    return ends


if __name__ == "__main__":
    main()
