"""The same steps in Quix Streams: ``python -m tests.bench.peers.quix [--empty TOPIC COUNT]``.

One record at a time, as its operators are; the steps' state in memory, no changelog: quicker than if it
kept it.
"""

from typing import Any

from quixstreams import (  # type: ignore[import-not-found]  # in the peer's environment only
    Application,
    message_context,
)
from quixstreams.models.serializers import (  # type: ignore[import-not-found]  # the same
    Serializer,
)

from schemas.settings import load_settings
from streams.batch import Output
from tests.bench.peers.plain import FETCHING, INPUTS, Steps, empty

OUTPUTS = {
    *("reports", "report.outcomes", "event.links", "events"),
    *("orders", "order.transitions", "action.outcomes"),
}
READ = {"key_deserializer": "bytes", "value_deserializer": "bytes"}


class Encoded(Serializer):  # type: ignore[misc]  # its base has no types here
    """The steps have encoded it already."""

    def __call__(self, value: Output, *_: Any, **__: Any) -> Any:
        """The output's bytes."""
        return value.value


def main() -> None:
    """Run until SIGTERM."""
    settings = load_settings()
    app = Application(
        settings.bootstrap,
        consumer_group="bench-quix",
        auto_offset_reset="earliest",
        loglevel="WARNING",
        auto_create_topics=False,
        use_changelog_topics=False,
        state_dir=settings.home / "quix",
        consumer_extra_config={"isolation.level": "read_committed", **FETCHING},
        producer_extra_config={
            **{"partitioner": "murmur2_random", "compression.type": "lz4"},
            **{"linger.ms": 20, "acks": "all", "enable.idempotence": True},
        },
    )
    if asked := empty():
        topic, counter = asked

        def count(value: bytes) -> bytes:
            counter.add(1)
            return value

        app.dataframe(app.topic(topic, **READ)).apply(count)
        app.run()
        return
    steps = Steps(settings)
    written = {
        name: app.topic(name, **READ, key_serializer="bytes", value_serializer=Encoded())
        for name in OUTPUTS
    }

    def decide(value: bytes, key: bytes | None, timestamp: int, _: Any) -> list[Output]:
        at = message_context()
        return steps.decide(
            at.topic, at.partition, [key], [value], [at.offset], [timestamp]
        ).outputs

    for name in INPUTS:
        frame = app.dataframe(written.get(name) or app.topic(name, **READ))
        decided = frame.apply(decide, expand=True, metadata=True)
        decided.to_topic(lambda output, *_: written[output.topic], key=lambda output: output.key)
    app.run()


if __name__ == "__main__":
    main()
