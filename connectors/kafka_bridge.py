"""Kafka bridge: a topic of another cluster, whose values are JSON objects.

The consumer group on that cluster holds the position: its offsets move only after our broker confirmed.
A portion is of one partition, so an entry's number is its offset there. When a partition goes to another
member of the group, what was read of it and not confirmed is dropped: that member reads it.
"""

import time
from collections import deque
from collections.abc import Sequence
from urllib.parse import parse_qsl, urlsplit

import structlog
from confluent_kafka import (
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)

from connectors.files import json_entry
from connectors.mapping import Entry
from connectors.source import Portion, SourceError
from schemas.access import Config
from schemas.channels import ChannelSpec, KafkaTransport
from schemas.errors import QuanyuError
from schemas.settings import Settings

log = structlog.get_logger("connectors")

#: Messages asked for at once.
CHUNK = 2_000
#: How long the other cluster may take to answer when the source is opened.
ANSWER_S = 5.0
#: Errors of a client that has lost all of its brokers, or is not let in.
GONE = {KafkaError._ALL_BROKERS_DOWN, KafkaError._TRANSPORT, KafkaError._RESOLVE}
REFUSED = {
    KafkaError._AUTHENTICATION,
    KafkaError.SASL_AUTHENTICATION_FAILED,
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError._SSL,
}


def open_source(settings: Settings, spec: ChannelSpec, address: str) -> "KafkaBridge":
    """The channel's topic at bootstrap servers, or ``kafka://host:port?security.protocol=SASL_SSL&…``."""
    if spec.transports.kafka is None:
        raise QuanyuError(f"channel {spec.name} has no transport kafka")
    return KafkaBridge(spec.name, spec.transports.kafka, address)


def client_config(channel: str, address: str) -> Config:
    """Client settings of an address; those that the promise of delivery hangs on are not its to set."""
    servers, options = address, []
    if "://" in address:
        parts = urlsplit(address)
        if parts.scheme != "kafka":
            raise QuanyuError(
                f"source {channel}.kafka: write kafka://host:port?option=value, or host:port"
            )
        servers = parts.netloc
        options = parse_qsl(parts.query, keep_blank_values=True)
    if not servers:
        raise QuanyuError(f"source {channel}.kafka: names no server; write host:port")
    return {**dict(options), "bootstrap.servers": servers}


class KafkaBridge:
    """One topic, read as the module says. Not thread-safe."""

    def __init__(self, channel: str, transport: KafkaTransport, address: str) -> None:
        self._topic = transport.topic
        self._ready: deque[Portion] = deque()
        self._lost: set[int] = set()
        self._failure: KafkaError | None = None
        try:
            self._consumer = Consumer(
                {
                    "socket.connection.setup.timeout.ms": 5_000,
                    # While our own broker is away nothing is read: the group waits this long for us.
                    "max.poll.interval.ms": 600_000,
                    "queued.max.messages.kbytes": 32_768,
                    "log_level": 0,
                    **client_config(channel, address),
                    "group.id": transport.group,
                    "enable.auto.commit": False,
                    "enable.auto.offset.store": False,
                    "auto.offset.reset": "earliest",
                    "isolation.level": "read_committed",
                    "enable.partition.eof": False,
                    "error_cb": self._failed,
                }
            )
        except (KafkaException, ValueError) as error:
            found = error.args[0]
            words = found.str() if isinstance(found, KafkaError) else found
            raise QuanyuError(f"source {channel}.kafka: {words}") from None
        try:
            found = self._consumer.list_topics(self._topic, ANSWER_S).topics[self._topic]
            if found.error is not None:
                raise SourceError(
                    "schema_changed",
                    f"topic {self._topic}: {found.error.str()}; create it there, or name another as "
                    f"transports.kafka.topic in connectors/channels/{channel}.yaml",
                )
            self._consumer.subscribe(
                [self._topic],
                on_assign=self._assigned,
                on_revoke=self._revoked,
                on_lost=self._revoked,
            )
        except KafkaException as error:
            self._consumer.close()
            raise self._meaning(self._failure or error.args[0]) from None
        except SourceError:
            self._consumer.close()
            raise

    def read(self, timeout_s: float) -> Portion | None:
        """See :class:`connectors.source.Source`."""
        if not self._ready:
            self._fetch(timeout_s)
        return self._ready[0] if self._ready else None

    def confirm(self, portion: Portion) -> None:
        """See :class:`connectors.source.Source`."""
        self._ready.popleft()
        try:
            committed = self._consumer.commit(offsets=[portion.position], asynchronous=False)
            failure = next((p.error for p in committed or [] if p.error), None)
        except KafkaException as error:
            failure = error.args[0]
        if failure is not None:
            # Another member has the partition by now, or the cluster is away: it is read again, from there
            # on, and recognised. To go on would skip what was not confirmed.
            raise SourceError("not_committed", f"the other cluster: {failure.str()}")

    def close(self) -> None:
        """See :class:`connectors.source.Source`."""
        self._consumer.close()

    def _fetch(self, timeout_s: float) -> None:
        self._failure = None
        self._lost.clear()
        end = time.monotonic() + timeout_s
        messages: Sequence[Message] = ()
        while not messages:
            # A full batch at once, else what is there after a moment.
            messages = self._consumer.consume(1, max(0.0, end - time.monotonic()))
            if messages:
                messages = [*messages, *self._consumer.consume(CHUNK - 1, 0.02)]
            elif self._failure is not None and self._failure.code() in GONE | REFUSED:
                raise self._meaning(self._failure)
            elif time.monotonic() >= end:
                return
        of: dict[int, list[Message]] = {}
        for message in messages:
            error, partition = message.error(), message.partition()
            if error is not None:
                raise self._meaning(error)
            if partition is not None:
                of.setdefault(partition, []).append(message)
        for partition, part in of.items():
            if partition not in self._lost:
                self._ready.append(self._portion(partition, part))

    def _portion(self, partition: int, messages: list[Message]) -> Portion:
        entries: list[Entry] = []
        last = 0
        for message in messages:
            last, value = message.offset() or 0, message.value()
            entries.append(
                Entry(last, data=message.key() or b"", defect="malformed:no value")
                if value is None
                else json_entry(last, value)
            )
        place = TopicPartition(self._topic, partition, last + 1)
        return Portion(entries, f"{self._topic}[{partition}]", place)

    def _assigned(self, _: Consumer, places: list[TopicPartition]) -> None:
        """What was read of a partition before it came back comes again: better twice than never."""
        self._lost.difference_update(place.partition for place in places)

    def _revoked(self, _: Consumer, places: list[TopicPartition]) -> None:
        """Called while messages are fetched, never between a read and its confirmation."""
        self._lost.update(place.partition for place in places)
        log.info("partitions revoked", topic=self._topic, partitions=sorted(self._lost))

    def _failed(self, error: KafkaError) -> None:
        self._failure = error

    def _meaning(self, error: KafkaError) -> SourceError:
        if error.code() in REFUSED:
            return SourceError("refused", f"the other cluster: {error.str()}")
        return SourceError("unreachable", f"the other cluster: {error.str()}")
