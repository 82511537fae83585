"""Raw reports into Kafka: what is reported as published is on every in-sync replica."""

import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from schemas import metrics, tracing
from schemas.codec import Codec, default_codec
from schemas.ids import report_id
from schemas.kafka import producer_config
from schemas.settings import Settings
from schemas.texts import clean
from schemas.topics import raw_topic

#: How long the broker may take to confirm a batch before its sender is told to come again.
CONFIRM_TIMEOUT_S = 10.0
#: Records handed over and not yet confirmed, over all batches; above it the broker is behind.
IN_FLIGHT_LIMIT = 50_000


class BrokerBehind(Exception):
    """The broker did not confirm in time, or too much waits for it; send the same reports again later.

    Some of the batch may be published all the same: the repetition is recognised as duplicate.
    """

    def __init__(self, message: str, retry_after_s: int = 5) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Unpublishable(Exception):
    """A record that the broker will never take, such as one above its size limit."""


class _Batch:
    """Counts a batch's confirmations; called on the delivery thread, of which there is one."""

    def __init__(self, size: int) -> None:
        self.left = size
        self.error: KafkaError | None = None
        self.done = threading.Event()
        self.offsets: dict[int, int] = {}

    def delivered(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self.error = error
        else:
            partition, offset = message.partition(), message.offset()
            if partition is not None and offset is not None:
                self.offsets[partition] = max(offset, self.offsets.get(partition, -1))
        self.left -= 1
        if self.left == 0:
            self.done.set()


class Publisher:
    """Publishes batches of raw reports from any number of threads through one producer."""

    def __init__(self, settings: Settings, codec: Codec | None = None) -> None:
        self._encode = (codec or default_codec(settings)).encoder("RawReport")
        self._encode_lock = threading.Lock()
        self._share = settings.trace_share
        self._spans = tracing.spans_of(settings, "connectors")
        self._producer = Producer(
            {
                **producer_config(settings),
                # A record that is not confirmed by then is given up, and its sender was told long before.
                "delivery.timeout.ms": int(CONFIRM_TIMEOUT_S * 1000),
                # A topic that is still unknown by then is missing, and that is what is said.
                "topic.metadata.propagation.max.ms": int(CONFIRM_TIMEOUT_S * 500),
                "queue.buffering.max.messages": 2 * IN_FLIGHT_LIMIT,
                "queue.buffering.max.kbytes": 512 * 1024,
                "log_level": 2,
            }
        )
        self._stop = threading.Event()
        self._poller = threading.Thread(target=self._poll, daemon=True, name="publisher")
        self._poller.start()

    def publish(self, raws: Sequence[dict[str, Any]], transport: str) -> dict[int, int]:
        """Publish and wait for the broker's confirmation of all; partition → highest offset.

        Raises :class:`BrokerBehind` when that did not come in time, :class:`Unpublishable` for a record
        that never will be.
        """
        if not raws:
            return {}
        if self.waiting > IN_FLIGHT_LIMIT:
            raise BrokerBehind(f"{self.waiting} reports wait for the broker")
        batch, started = _Batch(len(raws)), time.monotonic()
        traced, begun = list[tuple[str, tracing.Context]](), time.time_ns()
        with self._encode_lock:
            values = [self._encode(raw) for raw in raws]
        for raw, value in zip(raws, values, strict=True):
            # Keyed by the id as intake reads it, so that every spelling of one id meets in one partition;
            # without an id any stable key will do: the payload's own bytes.
            native = clean(raw["native_id"])
            key, topic = native.encode() or raw["payload"][:64], raw_topic(raw["channel"])
            headers: Any = None
            if self._spans is not None and native:
                identity = report_id(raw["channel"], native, raw["revision"])
                if (context := tracing.begin(identity, self._share)) is not None:
                    headers = context.headers
                    traced.append((topic, context))
            while True:
                try:
                    self._producer.produce(
                        topic, value=value, key=key, headers=headers, on_delivery=batch.delivered
                    )
                    break
                except BufferError:
                    if time.monotonic() - started > CONFIRM_TIMEOUT_S:
                        raise BrokerBehind("the buffer to the broker is full") from None
                    time.sleep(0.01)
                except KafkaException as error:
                    raise self._meaning(error.args[0]) from None
        # The producer gives up a record after its delivery timeout; a little later we must know of each.
        if not batch.done.wait(CONFIRM_TIMEOUT_S + 2.0):
            raise BrokerBehind(
                f"the broker confirmed {len(raws) - batch.left} of {len(raws)} in time"
            )
        if batch.error is not None:
            raise self._meaning(batch.error)
        channel = raws[0]["channel"]
        metrics.CHANNEL_REPORTS.labels(channel, transport).inc(len(raws))
        metrics.PUBLISH_SECONDS.labels(channel).observe(time.monotonic() - started)
        if self._spans is not None and traced:
            self._spans.tell(_told(traced, len(raws), begun, transport))
        return batch.offsets

    @property
    def waiting(self) -> int:
        """Reports handed over and not yet confirmed."""
        return len(self._producer)

    @staticmethod
    def _meaning(error: KafkaError) -> Exception:
        if error.code() in (KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_MSG):
            return Unpublishable(error.str())
        if error.code() in (KafkaError._UNKNOWN_TOPIC, KafkaError.UNKNOWN_TOPIC_OR_PART):
            return BrokerBehind(f"{error.str()}; run: quanyu topics apply")
        return BrokerBehind(error.str())

    def _poll(self) -> None:
        while not self._stop.is_set():
            self._producer.poll(0.1)

    def close(self, limit_s: float = CONFIRM_TIMEOUT_S) -> None:
        """Wait for what is under way, no longer than ``limit_s``, then stop."""
        # Deliveries are counted by one thread at a time: with two, a confirmation could go uncounted.
        self._stop.set()
        self._poller.join()
        self._producer.flush(limit_s)
        if self._spans is not None:
            self._spans.close()


def _told(
    traced: Sequence[tuple[str, tracing.Context]], size: int, begun: int, transport: str
) -> Iterator[tracing.Span]:
    """The spans of a confirmed batch's traced reports."""
    end = time.time_ns()
    for topic, context in traced:
        said = tracing.place(topic, None, None, size) | {"quanyu.transport": transport}
        yield tracing.Span("publish", "PRODUCER", context, None, begun, end, said)
