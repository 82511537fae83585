"""The same steps in Bytewax: ``python -m tests.bench.peers.bytewax_flow [--empty TOPIC COUNT]``.

Its operators take what a source hands over at once, so the steps decide portions, as the project's own do.
State in memory, no recovery store: quicker than if it kept it. One worker thread.
"""

from collections.abc import Iterable
from itertools import groupby
from typing import Any

import bytewax.operators as op  # type: ignore[import-not-found]  # in the peer's environment only
from bytewax.connectors.kafka import (  # type: ignore[import-not-found]  # the same
    KafkaSink,
    KafkaSinkMessage,
    KafkaSource,
)
from bytewax.dataflow import Dataflow  # type: ignore[import-not-found]  # the same
from bytewax.run import cli_main  # type: ignore[import-not-found]  # the same

from schemas.settings import load_settings
from tests.bench.peers.plain import FETCHING, INPUTS, Steps, empty

PORTION = 4_000


def main() -> None:
    """Run until SIGTERM."""
    settings = load_settings()
    brokers = [settings.bootstrap]
    sink = KafkaSink(
        brokers,
        None,
        {"partitioner": "murmur2_random", "compression.type": "lz4", "enable.idempotence": "true"},
    )
    flow = Dataflow("bench")
    asked = empty()
    steps = None if asked else Steps(settings)

    def decide(messages: list[Any]) -> Iterable[Any]:
        if asked:
            asked[1].add(len(messages))
            return []
        assert steps is not None
        written: list[Any] = []
        for (topic, partition), group in groupby(messages, key=lambda m: (m.topic, m.partition)):
            run = list(group)
            decision = steps.decide(
                topic,
                partition,
                [m.key for m in run],
                [m.value for m in run],
                [m.offset for m in run],
                [m.timestamp[1] for m in run],
            )
            written += [KafkaSinkMessage(o.key, o.value, topic=o.topic) for o in decision.outputs]
        return written

    topics = [asked[0]] if asked else INPUTS
    source = KafkaSource(
        brokers,
        topics,
        batch_size=PORTION,
        add_config={"isolation.level": "read_committed", **FETCHING},
    )
    read = op.input("read", flow, source)
    op.output("write", op.flat_map_batch("decide", read, decide), sink)
    cli_main(flow)


if __name__ == "__main__":
    main()
