"""A broker of this folder's own: its tests stop it, and count every record of a channel."""

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaException, TopicPartition

from schemas import topics
from schemas.codec import default_codec
from schemas.kafka import consumer_config
from schemas.settings import Settings
from schemas.topics import raw_topic
from tests.conftest import Stack, eventually, free_base_port


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A running broker with every topic. Whoever stops it starts it again."""
    stack = Stack(Settings(home=tmp_path_factory.mktemp("broker"), port=free_base_port()), {})
    try:
        stack.start_kafka()
        topics.apply(stack.settings)
        yield stack
    finally:
        stack.stop()


class Log:
    """What a channel's raw topic received since this was made."""

    def __init__(self, settings: Settings, channel: str) -> None:
        self._topic = raw_topic(channel)
        self._codec = default_codec(settings)
        self._consumer = Consumer({**consumer_config(settings, "a-look"), "log_level": 0})
        parts = self._consumer.list_topics(self._topic, 20).topics[self._topic].partitions
        self._next = {part: self._ends(part) for part in parts}
        #: Partition → highest offset of a record seen.
        self.last: dict[int, int] = {}

    def _ends(self, partition: int) -> int:
        def end() -> list[int]:
            # The leader of a topic just made, or of a broker just started, answers a little later.
            with contextlib.suppress(KafkaException):
                return [self._consumer.get_watermark_offsets(place, 20)[1]]
            return []

        place = TopicPartition(self._topic, partition)
        return eventually(end)[0]

    def records(self) -> list[tuple[bytes, dict[str, Any]]]:
        """Key and record of each since the last look, in the order of each partition."""
        found = []
        for partition, start in self._next.items():
            end = self._ends(partition)
            self._consumer.assign([TopicPartition(self._topic, partition, start)])
            while start < end:
                message = self._consumer.poll(20)
                assert message is not None, "a record that the broker holds did not come"
                assert message.error() is None, message.error()
                offset, key = message.offset(), message.key()
                assert offset is not None
                found.append((key or b"", self._codec.decode(message.value())[1]))
                self.last[partition], start = offset, offset + 1
            self._next[partition] = end
        return found

    def close(self) -> None:
        """Leave."""
        self._consumer.close()
