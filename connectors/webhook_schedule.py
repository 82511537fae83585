"""When which step is sent to which unit's system; pure, with the clock passed in.

Every endpoint has a queue of its own, so that one that is slow or gone holds up no other. Of one order the
later step waits until the earlier one is delivered or dead. What is not delivered within :data:`LIFETIME_S`,
or holds back too much of a partition, is given up, which is a dead letter: so memory is bounded, and a position
that is committed passes no step that is neither delivered nor in the dead-letter topic.
"""

import heapq
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto
from itertools import count
from typing import Literal, NamedTuple

#: Pauses before a step is sent again: from the first to the last they double, give or take a half.
PAUSE_FIRST_S, PAUSE_LAST_S = 1.0, 1800.0
#: An endpoint that failed so often in a row gets one step at a time, and between them these pauses.
FAILURES, PAUSE_ENDPOINT_S = 3, 60.0
#: Steps of different orders that are on their way to one endpoint at once.
CONCURRENT = 4
#: A step that is not delivered by then is given up.
LIFETIME_S = 24 * 3600.0
#: Records of a partition between the committed position and the newest one read: what waits in memory, and
#: what is at most sent again after a crash.
WINDOW = 10_000
#: So long a step may hold back a full window of its partition when its endpoint is slow, not failing.
PATIENCE_S = 10.0


class State(Enum):
    """Where a delivery stands; DEAD ones leave when their dead letter is in Kafka."""

    WAITING = auto()
    SENDING = auto()
    DEAD = auto()
    DONE = auto()


class Answer(NamedTuple):
    """What came of an attempt; ``status`` is 0 when there was no HTTP answer.

    ``refused`` is for ever, of this step; ``gone`` is for ever, of everything. A system that says when to
    come again (``Retry-After``) is left alone for ``pause_s``, with all its steps.
    """

    verdict: Literal["delivered", "failed", "refused", "gone"]
    reason: str
    status: int = 0
    pause_s: float = 0.0


class Step(NamedTuple):
    """One record of ``order.transitions``; ``at`` is its time in Kafka, in unix seconds."""

    partition: int
    offset: int
    at: float
    order_id: str
    transition_id: str
    value: bytes


@dataclass(slots=True, eq=False)
class Delivery:
    """A step on its way to the endpoint of an entry."""

    unit: str
    step: Step
    queue: "_Queue"
    since: float
    due: float
    attempts: int = 0
    state: State = State.WAITING
    reason: str = "not tried"


@dataclass(slots=True)
class _Queue:
    orders: dict[str, deque[Delivery]] = field(default_factory=dict)
    #: First deliveries of their orders, by when they are due.
    heads: list[tuple[float, int, Delivery]] = field(default_factory=list)
    #: All of them, the oldest first.
    by_age: dict[Delivery, None] = field(default_factory=dict)
    dropped: bool = False
    sending: int = 0
    failures: int = 0
    failing_since: float = 0.0
    not_before: float = 0.0
    stopped: str = ""
    status: int = 0

    def oldest(self) -> Delivery | None:
        return next(iter(self.by_age), None)


@dataclass(slots=True)
class _Partition:
    position: int = 0
    by_offset: dict[int, Delivery] = field(default_factory=dict)

    def committable(self) -> int:
        return next(iter(self.by_offset), self.position)


class Health(NamedTuple):
    """An endpoint as a person wants to know it; times are of the clock that was passed in, 0 for none."""

    waiting: int
    oldest_at: float
    failing_since: float
    status: int


class Schedule:
    """All deliveries; for one thread. ``jitter`` returns chance in [0, 1)."""

    def __init__(self, jitter: Callable[[], float]) -> None:
        self._jitter = jitter
        self._queues: dict[str, _Queue] = {}
        self._partitions: dict[int, _Partition] = {}
        self._dead: list[Delivery] = []
        self._order = count()

    # --- what is read

    def skip(self, partition: int, offset: int) -> None:
        """A record that goes to nobody was read."""
        self._partitions.setdefault(partition, _Partition()).position = offset + 1

    def take(self, step: Step, unit: str, now: float, dead: str = "") -> None:
        """A record was read that goes to the unit's entry, or with a reason straight to the dead letters."""
        self.skip(step.partition, step.offset)
        queue = self._queues.setdefault(unit, _Queue())
        delivery = Delivery(unit, step, queue, since=now, due=now)
        self._partitions[step.partition].by_offset[step.offset] = delivery
        queue.by_age[delivery] = None
        order = queue.orders.setdefault(step.order_id, deque())
        order.append(delivery)
        if dead or queue.stopped:
            self._give_up(delivery, dead or queue.stopped)
        elif len(order) == 1:
            self._push(queue, delivery)

    def forget(self, partition: int) -> None:
        """Somebody else reads the partition from its committed position on."""
        gone = self._partitions.pop(partition, _Partition())
        for delivery in gone.by_offset.values():
            self._finish(delivery)

    # --- what is sent

    def ready(self, now: float) -> list[Delivery]:
        """What is to be sent now; each is SENDING until :meth:`answered`."""
        chosen: list[Delivery] = []
        for queue in self._queues.values():
            limit = 1 if queue.failures >= FAILURES else CONCURRENT
            while queue.sending < limit and now >= queue.not_before:
                delivery = self._due(queue, now)
                if delivery is None:
                    break
                delivery.state = State.SENDING
                delivery.attempts += 1
                queue.sending += 1
                chosen.append(delivery)
        return chosen

    def answered(self, delivery: Delivery, answer: Answer, now: float) -> None:
        """What came of sending it."""
        queue = delivery.queue
        queue.sending -= 1
        queue.status = answer.status
        if answer.verdict == "delivered":
            queue.failures, queue.failing_since, queue.not_before = 0, 0.0, 0.0
        elif answer.verdict == "failed":
            queue.failures += 1
            queue.failing_since = queue.failing_since or now
            if queue.failures >= FAILURES:
                pause = self._pause(queue.failures - FAILURES + 1, PAUSE_ENDPOINT_S)
                queue.not_before = now + pause
            queue.not_before = max(queue.not_before, now + min(answer.pause_s, PAUSE_LAST_S))
        else:
            queue.failing_since = queue.failing_since or now
        if answer.verdict == "gone":
            queue.stopped = answer.reason
        delivery.reason = answer.reason
        if delivery.state is not State.SENDING:
            pass  # its partition is somebody else's by now
        elif answer.verdict == "delivered" or queue.dropped:
            self._finish(delivery)
        elif answer.verdict == "failed":
            delivery.state = State.WAITING
            delivery.due = now + self._pause(delivery.attempts, PAUSE_LAST_S)
            self._push(queue, delivery)
        else:
            self._give_up(delivery, answer.reason)
        if queue.stopped:
            for waiting in [d for d in queue.by_age if d.state is State.WAITING]:
                self._give_up(waiting, queue.stopped)

    # --- what is given up

    def expire(self, now: float) -> None:
        """Give up what waited too long, and what holds back a full window."""
        for queue in self._queues.values():
            for delivery in queue.by_age:
                if now - delivery.since < LIFETIME_S:
                    break
                if delivery.state is State.WAITING:
                    self._give_up(delivery, f"{delivery.reason}, given up")
        for number in self.full():
            partition = self._partitions[number]
            half = partition.position - WINDOW // 2
            for offset, delivery in partition.by_offset.items():
                if offset >= half:
                    break
                slow = delivery.queue.failures > 0 or now - delivery.since >= PATIENCE_S
                if delivery.state is State.WAITING and slow:
                    self._give_up(delivery, f"{delivery.reason}, too many wait")

    def dead(self) -> list[Delivery]:
        """What was given up since the last call; each stays until :meth:`buried`."""
        found, self._dead = self._dead, []
        return [d for d in found if d.state is State.DEAD]

    def buried(self, delivery: Delivery) -> None:
        """Its dead letter is in Kafka."""
        if delivery.state is State.DEAD:
            self._finish(delivery)

    # --- the endpoints

    def reset(self, unit: str) -> None:
        """The entry was changed: what waits is sent at once, to the new endpoint."""
        queue = self._queues.get(unit)
        if queue is None:
            return
        queue.failures, queue.failing_since, queue.not_before, queue.stopped = 0, 0.0, 0.0, ""
        queue.heads.clear()
        for order in queue.orders.values():
            order[0].due = 0.0
            if order[0].state is State.WAITING:
                self._push(queue, order[0])

    def drop(self, unit: str) -> int:
        """The entry was taken out of the file: what waits is sent to nobody; how many these are."""
        queue = self._queues.pop(unit, _Queue())
        queue.dropped = True
        waiting = [d for d in queue.by_age if d.state is State.WAITING]
        for delivery in waiting:
            self._finish(delivery)
        return len(waiting)

    def health(self, unit: str) -> Health:
        """How an entry's endpoint is."""
        queue = self._queues.get(unit, _Queue())
        oldest = queue.oldest()
        return Health(
            len(queue.by_age),
            oldest.step.at if oldest else 0.0,
            queue.failing_since,
            queue.status,
        )

    # --- the position

    def committable(self) -> dict[int, int]:
        """Partition → offset below which every record is delivered, buried or for nobody."""
        return {number: p.committable() for number, p in self._partitions.items()}

    def full(self) -> set[int]:
        """Partitions of which nothing more is to be read now."""
        return {n for n, p in self._partitions.items() if p.position - p.committable() >= WINDOW}

    def sending(self) -> bool:
        """Whether anything is on its way."""
        return any(queue.sending for queue in self._queues.values())

    # --- within

    def _due(self, queue: _Queue, now: float) -> Delivery | None:
        while queue.heads and queue.heads[0][0] <= now:
            delivery = heapq.heappop(queue.heads)[2]
            if delivery.state is State.WAITING:
                return delivery
        return None

    def _push(self, queue: _Queue, delivery: Delivery) -> None:
        heapq.heappush(queue.heads, (delivery.due, next(self._order), delivery))

    def _pause(self, attempts: int, last: float) -> float:
        return min(last, PAUSE_FIRST_S * 2.0 ** min(attempts - 1, 20)) * (0.5 + self._jitter())

    def _give_up(self, delivery: Delivery, reason: str) -> None:
        delivery.state, delivery.reason = State.DEAD, reason
        self._dead.append(delivery)

    def _finish(self, delivery: Delivery) -> None:
        """It waits no more; the next step of its order may go."""
        delivery.state = State.DONE
        step, queue = delivery.step, delivery.queue
        del queue.by_age[delivery]
        partition = self._partitions.get(step.partition)
        if partition is not None:
            del partition.by_offset[step.offset]
        order = queue.orders[step.order_id]
        was_first = order[0] is delivery
        order.remove(delivery)
        if not order:
            del queue.orders[step.order_id]
        elif was_first and order[0].state is State.WAITING:
            self._push(queue, order[0])
