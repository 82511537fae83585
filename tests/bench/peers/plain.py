"""What every peer runs: the project's own three steps behind one function, with their state in memory."""

import gc
import sys
import time
from collections.abc import Sequence
from typing import Any

from schemas.channels import channel_names
from schemas.city import load_city
from schemas.codec import default_codec
from schemas.settings import Settings
from schemas.topics import raw_topic, state_topic
from streams.batch import Batch, Decision, Step
from streams.dispatch.decide import DispatchStep
from streams.intake.decide import IntakeStep
from streams.merge.decide import MergeStep

HASH_KEY = b"k" * 32
RAW = [raw_topic(name) for name in channel_names()]
INPUTS = [*RAW, "reports", "events"]
#: librdkafka fetches no more for a whole second once 100,000 records of a partition wait: with small records
#: and an agent that does nothing, that would be all that is measured.
FETCHING = {"fetch.queue.backoff.ms": 10}


class Steps:
    """Decides records of any input topic; the state of each partition lives in this process."""

    def __init__(self, settings: Settings) -> None:
        city, codec = load_city(settings.city), default_codec(settings)
        intake: Step[Any] = IntakeStep(city, codec, HASH_KEY)
        self.of: dict[str, Step[Any]] = dict.fromkeys(RAW, intake)
        self.of |= {"reports": MergeStep(city, codec), "events": DispatchStep(city, codec)}
        self._states: dict[tuple[str, int], Any] = {}
        # As the worker does: what is live is not looked through for garbage.
        gc.collect()
        gc.freeze()
        gc.set_threshold(200_000, 50, 100)

    def decide(
        self,
        topic: str,
        partition: int,
        keys: Sequence[bytes | None],
        values: Sequence[bytes | None],
        offsets: Sequence[int],
        timestamps: Sequence[int],
    ) -> Decision:
        """What consecutive records of one partition cause."""
        place = topic, partition
        if place not in self._states:
            self._states[place] = self.of[topic].restore(topic, partition, {})
        batch = Batch(
            topic, partition, list(keys), list(values), list(offsets), list(timestamps), [None] * len(offsets)
        )  # fmt: skip
        return self.of[topic].decide(self._states[place], batch, int(time.time() * 1000))

    def state_topic(self, topic: str) -> str:
        """Where the changes of state of an input topic belong."""
        return state_topic(topic, self.of[topic].name)


class Counter:
    """Transport alone: says from time to time how far it came."""

    #: Between two lines.
    EVERY = 500

    def __init__(self, until: int) -> None:
        self._until, self._count, self._said = until, 0, 0

    def add(self, records: int) -> None:
        """So many more came."""
        self._count += records
        if self._count - self._said >= self.EVERY or self._count >= self._until:
            self._said = self._count
            print(self._count, time.time(), flush=True)


def empty() -> tuple[str, Counter] | None:
    """(topic, counter) of ``--empty TOPIC COUNT``; None for the full work."""
    if sys.argv[1:2] != ["--empty"]:
        return None
    return sys.argv[2], Counter(int(sys.argv[3]))
