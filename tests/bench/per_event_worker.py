"""The peer: a plain Faust app, one event at a time, that does the same three steps with the same code.

Decoding, deciding and encoding are the pipeline's own; only the transport is Faust as it comes: no
batches, no transactions, state in memory. At least once, and quicker than if it kept its state.
``python -m tests.bench.per_event_worker [--empty SOURCE]``: with ``--empty`` an agent that does nothing.
"""

import sys
import time
from typing import Any

import faust

from schemas.channels import channel_names
from schemas.city import load_city
from schemas.codec import default_codec
from schemas.settings import load_settings
from schemas.topics import raw_topic
from streams.batch import Batch
from streams.dispatch.decide import DispatchStep
from streams.intake.decide import IntakeStep
from streams.merge.decide import MergeStep


def _plain(app: Any, step: Any, topics: list[str]) -> None:
    states: dict[tuple[str, int], Any] = {}
    outputs: dict[str, Any] = {}

    async def decide(stream: Any) -> None:
        async for event in stream.events():
            message = event.message
            tp = message.topic, message.partition
            if tp not in states:
                states[tp] = step.restore(*tp, {})
            batch = Batch(
                *tp,
                [message.key],
                [message.value],
                [message.offset],
                [int(message.timestamp * 1000)],
                [None],
            )
            decision = step.decide(states[tp], batch, int(time.time() * 1000))
            for output in decision.outputs:
                if output.topic not in outputs:
                    outputs[output.topic] = app.topic(
                        output.topic, key_serializer="raw", value_serializer="raw"
                    )
                await outputs[output.topic].send(key=output.key, value=output.value)

    channel = app.topic(*topics, key_serializer="raw", value_serializer="raw")
    app.agent(channel, name=step.name)(decide)


def main() -> None:
    """Run until SIGTERM."""
    settings = load_settings()
    app = faust.App(
        "per-event",
        broker=f"kafka://{settings.bootstrap}",
        topic_allow_declare=False,
        topic_disable_leader=True,
        web_enabled=False,
        consumer_auto_offset_reset="earliest",
        stream_buffer_maxsize=16384,
        producer_linger_ms=20,
        producer_compression_type="lz4",
    )
    if sys.argv[1:2] == ["--empty"]:

        async def nothing(stream: Any) -> None:
            count = 0
            async for _ in stream:
                count += 1
                if count % 500 == 0 or count >= int(sys.argv[3]):
                    print(count, time.time(), flush=True)

        app.agent(
            app.topic(sys.argv[2], key_serializer="raw", value_serializer="raw"), name="empty"
        )(nothing)
    else:
        city, codec = load_city(settings.city), default_codec(settings)
        _plain(
            app, IntakeStep(city, codec, b"k" * 32), [raw_topic(name) for name in channel_names()]
        )
        _plain(app, MergeStep(city, codec), ["reports"])
        _plain(app, DispatchStep(city, codec), ["events"])
    faust.Worker(app, loglevel="WARNING", redirect_stdouts=False).execute_from_commandline()


if __name__ == "__main__":
    main()
