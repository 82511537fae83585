"""Runs a simulated city: each channel hands its reports over through its own transport, as they fall due.

A thread a channel, so that a slow one holds back no other. A report counts as sent, and stands in the truth
file, when its transport has accepted it; until then it is tried again with the same ids.

Beside them, if wanted, its departments deal with the orders that come of it: they read ``orders`` and ask for
actions through ``order.actions``, as any other system may.
"""

import json
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, TextIO
from zoneinfo import ZoneInfo

from confluent_kafka import Consumer, KafkaException, Message, Producer, TopicPartition

from connectors.simulator import CHANNELS, Report, Simulation, load_numbers
from connectors.simulator.departments import Departments, Record, load_behaviours
from connectors.simulator.feeders import Feeder, NotAccepted, feeder
from connectors.simulator.truth import line
from schemas.city import load_city
from schemas.codec import default_codec
from schemas.errors import QuanyuError
from schemas.kafka import consumer_config, producer_config
from schemas.settings import Settings
from schemas.sources import load_sources

#: How often what is due is handed to the channels; at 500/s that is a hundred at once.
TICK_S = 0.2
#: A sender repeats what was not accepted for so long before it gives up.
PATIENCE_S = 120.0
PAUSE_S = 0.5
#: Interrupts within so long are one.
ONCE_S = 2.0
#: Reports of one delivery, and reports that wait for a slow channel before all wait for it (some 200 MB).
DELIVERY, WAITING = 2_000, 100_000
#: Letters are gathered to one spreadsheet for so long, or until there are so many.
GATHER: dict[str, tuple[float, int]] = {"mailbox": (3.0, 200)}

#: What the departments read and where they ask; how long they wait for the next record, for a broker that is
#: away, for each other's first look, and, when all is told, for the answers to what they asked.
ORDERS, ANSWERS, ACTIONS = "orders", "action.outcomes", "order.actions"
READ_S, AWAY_S, LOOK_S, ANSWER_S = 0.05, 1.0, 15.0, 60.0
#: They go on for so long after the last report, so that it has its first steps, too.
GRACE_S = 10.0


@dataclass(slots=True)
class SimulationResult:
    """What was sent: messages that their transports accepted, and of how many matters."""

    scenario: str
    seed: int
    truth: str
    sent: int = 0
    resent: int = 0
    matters: int = 0
    repeated_requests: int = 0
    seconds: float = 0.0
    by_channel: dict[str, int] = field(default_factory=dict)
    resent_by_channel: dict[str, int] = field(default_factory=dict)
    departments: "DepartmentsResult | None" = None

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return asdict(self)


@dataclass(slots=True)
class DepartmentsResult:
    """What departments, centres and citizens asked for: verb → how many, and by what became of it.

    ``truth``: a JSON line for each action: the record and its ``outcome``, ``refusal`` and ``detail``.
    """

    truth: str
    asked: dict[str, int] = field(default_factory=dict)
    applied: dict[str, int] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)
    unanswered: int = 0
    failure: str = ""


class _Account:
    """Keeps the truth and the counts; used by every channel's thread."""

    def __init__(
        self, result: SimulationResult, truth: TextIO, done: Callable[[int], None]
    ) -> None:
        self._result, self._truth, self._done = result, truth, done
        self._matters: set[str] = set()
        self._lock = threading.Lock()

    def accepted(self, channel: str, reports: Sequence[Report]) -> None:
        """The transport has them."""
        now_ms = int(time.time() * 1000)
        lines = "".join(line(report, now_ms) for report in reports)
        resent = sum(report.resent for report in reports)
        result = self._result
        with self._lock:
            self._truth.write(lines)
            self._truth.flush()
            self._matters.update(matter.id for report in reports for matter in report.matters)
            result.sent += len(reports)
            result.resent += resent
            result.matters = len(self._matters)
            result.by_channel[channel] += len(reports)
            result.resent_by_channel[channel] += resent
        self._done(len(reports))

    def repeated(self) -> None:
        """A delivery has to be tried again."""
        with self._lock:
            self._result.repeated_requests += 1


class _Channel(threading.Thread):
    """Delivers one channel's reports in their order."""

    def __init__(self, name: str, sender: Feeder, account: _Account) -> None:
        super().__init__(name=name, daemon=True)
        self._sender, self._account = sender, account
        self._gather_s, self._gather = GATHER.get(name, (0.0, 1))
        self._waiting: deque[Report] = deque()
        self._closed = False
        self._changed = threading.Condition()
        self.failure: QuanyuError | None = None

    def put(self, reports: Sequence[Report]) -> None:
        """Hand over what is due; waits when the channel is far behind, raises when it has failed."""
        with self._changed:
            self._changed.wait_for(lambda: self.failure or len(self._waiting) < WAITING)
            self.check()
            self._waiting.extend(reports)
            self._changed.notify_all()

    def check(self) -> None:
        """Raise what ended the channel, if anything did."""
        if self.failure:
            raise self.failure

    def finish(self) -> None:
        """Deliver what waits, and end."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def run(self) -> None:
        """Thread body."""
        try:
            while reports := self._next():
                self._deliver(reports)
        except Exception as error:
            self.failure = (
                error
                if isinstance(error, QuanyuError)
                else QuanyuError(f"{self.name}: {type(error).__name__}: {error}")
            )
            with self._changed:
                self._changed.notify_all()
        finally:
            self._sender.close()

    def _next(self) -> list[Report]:
        """What is to be delivered together; empty at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            enough = lambda: len(self._waiting) >= self._gather or self._closed  # noqa: E731 - one condition
            self._changed.wait_for(enough, self._gather_s)
            size = min(len(self._waiting), DELIVERY)
            # What belongs together is not cut.
            while 0 < size < len(self._waiting) and (
                self._waiting[size].group and self._waiting[size].group == self._waiting[size - 1].group
            ):  # fmt: skip
                size += 1
            taken = [self._waiting.popleft() for _ in range(size)]
            self._changed.notify_all()
            return taken

    def _deliver(self, reports: list[Report]) -> None:
        begun = time.monotonic()
        done = 0
        while done < len(reports):
            try:
                for accepted in self._sender.deliver(reports[done:]):
                    done += len(accepted)
                    self._account.accepted(self.name, accepted)
                    begun = time.monotonic()
            except NotAccepted as error:
                if time.monotonic() - begun > PATIENCE_S:
                    raise QuanyuError(
                        f"{self.name}: nothing accepted for {PATIENCE_S:.0f} s ({error}); "
                        "see quanyu status"
                    ) from None
                self._account.repeated()
                time.sleep(PAUSE_S)


class _Offices(threading.Thread):
    """Lets the departments hear of orders and answers, and asks for what they want; holds up nobody.

    Starts at the ends of the topics: what was there before is others' work. A broker that goes away is waited
    for; an action that it did not confirm is sent again, the same.
    """

    def __init__(
        self, settings: Settings, departments: Departments, result: DepartmentsResult
    ) -> None:
        super().__init__(name="departments", daemon=True)
        self._settings, self._departments, self._result = settings, departments, result
        self._codec = default_codec(settings)
        self._encode = self._codec.encoder("OrderAction")
        self._unsent: deque[Record] = deque()
        self._asked, self._applied, self._refused = Counter[str](), Counter[str](), Counter[str]()
        self._acts_until, self._ends_at = float("inf"), float("inf")
        self.ready = threading.Event()

    def finish(self, grace_s: float, answer_s: float = ANSWER_S) -> None:
        """Go on for the grace, then wait so long for what is not answered."""
        self._ends_at = time.monotonic() + grace_s + answer_s
        self._acts_until = time.monotonic() + grace_s

    def run(self) -> None:
        """Thread body."""
        result = self._result
        try:
            with Path(result.truth).open("w", encoding="utf-8") as truth:
                self._work(truth)
        except Exception as error:
            result.failure = f"{type(error).__name__}: {error}"
        finally:
            result.asked, result.applied = dict(self._asked), dict(self._applied)
            result.refused = dict(self._refused)
            result.unanswered = self._departments.unanswered
            self.ready.set()

    def _work(self, truth: TextIO) -> None:
        consumer = Consumer(
            {**consumer_config(self._settings, "simulated-departments"), "log_level": 0}
        )
        producer = Producer({**producer_config(self._settings), "log_level": 0})
        try:
            while not self._looks(consumer):
                if time.monotonic() > self._acts_until:
                    return
                time.sleep(AWAY_S)
            self.ready.set()
            departments, asked = self._departments, self._asked
            while (now := time.monotonic()) < self._ends_at:
                over = now > self._acts_until
                if over and not departments.unanswered:
                    return
                self._hear(consumer.consume(1000, READ_S), truth)
                if not over:
                    actions = departments.due(int(time.time() * 1000))
                    asked.update(action["action"] for action in actions)
                    self._unsent.extend(actions)
                self._send(producer)
        finally:
            consumer.close()
            producer.flush(AWAY_S)

    @staticmethod
    def _looks(consumer: Consumer) -> bool:
        """Begin at the ends of the topics; False when the broker does not tell them now."""
        places = []
        try:
            for topic in (ORDERS, ANSWERS):
                partitions = consumer.list_topics(topic, timeout=5.0).topics[topic].partitions
                for number in partitions:
                    _, end = consumer.get_watermark_offsets(TopicPartition(topic, number), 5.0)
                    places.append(TopicPartition(topic, number, end))
        except KafkaException:
            return False
        consumer.assign(places)
        return {place.topic for place in places} == {ORDERS, ANSWERS}

    def _hear(self, messages: Sequence[Message], truth: TextIO) -> None:
        """Orders first: an answer is to a version that is known by then."""
        values: dict[str | None, list[bytes]] = {ORDERS: [], ANSWERS: []}
        for message in messages:
            # What carries an error is the client's own word, on a broker that comes back.
            if message.error() is None and (value := message.value()) is not None:
                values[message.topic()].append(value)
        for order in self._codec.decode_batch("Order", values[ORDERS])[0]:
            if order is not None:
                self._departments.hear(order)
        for outcome in self._codec.decode_batch("ActionOutcome", values[ANSWERS])[0]:
            action = outcome and self._departments.answered(outcome)
            if outcome and action:
                self._account(action, outcome, truth)

    def _account(self, action: Record, outcome: Record, truth: TextIO) -> None:
        if outcome["outcome"] == "refused":
            self._refused[f"{action['action']}: {outcome['reason']}"] += 1
        else:
            self._applied[action["action"]] += 1
        line_ = {
            **action,
            "outcome": outcome["outcome"],
            "refusal": outcome["reason"],
            "detail": outcome["detail"],
        }
        truth.write(json.dumps(line_, ensure_ascii=False) + "\n")

    def _send(self, producer: Producer) -> None:
        while self._unsent:
            action = self._unsent[0]
            try:
                producer.produce(
                    ACTIONS,
                    value=self._encode(action),
                    key=action["event_id"].encode(),
                    on_delivery=partial(self._delivered, action),
                )
            except (BufferError, KafkaException):
                break
            self._unsent.popleft()
        producer.poll(0)

    def _delivered(self, action: Record, error: object, _: Message) -> None:
        if error is not None:
            self._unsent.append(action)


def simulate(
    settings: Settings,
    *,
    scenario: str,
    seed: int,
    rate: float,
    duration: float | None,
    speed: float = 1.0,
    truth: Path | None = None,
    departments: float | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> SimulationResult:
    """Send ``rate`` reports a second for ``duration`` seconds, or until interrupted.

    The simulated clock runs ``speed`` times as fast and arrives at the real one at the end, so that nothing
    lies in the future. ``departments``: seconds of the departments' time in a real one; None: there are none.
    Raises :class:`QuanyuError` when a channel is not in service, refuses or stays away.
    """
    if speed != 1.0 and duration is None:
        raise QuanyuError("--speed needs --duration: the simulated time ends at the real one")
    chosen = load_numbers().scenario(scenario)
    city, sources = load_city(settings.city), load_sources(settings)
    now = datetime.now(ZoneInfo(city.time_zone))
    run = f"{scenario}-{seed}-{now:%Y%m%dT%H%M%S}"
    path = truth or settings.home / "truth" / f"{run}.jsonl"
    senders = {
        name: feeder(settings, sources, name, zone=city.time_zone, run=run) for name in CHANNELS
    }
    start_ms = int((time.time() - (duration or 0.0) * (speed - 1.0)) * 1000)
    simulation = Simulation(
        city, chosen, seed=seed, rate=rate, start_ms=start_ms, duration=duration, speed=speed
    )
    result = SimulationResult(scenario, seed, str(path))
    result.by_channel = dict.fromkeys(CHANNELS, 0)
    result.resent_by_channel = dict.fromkeys(CHANNELS, 0)
    begun = time.monotonic()
    offices: _Offices | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="utf-8") as out:
            account = _Account(result, out, progress)
            channels = {name: _Channel(name, senders[name], account) for name in CHANNELS}
            if departments is not None:
                # By another ending, because it holds no reports.
                actions = path.with_suffix(".actions.ndjson")
                result.departments = DepartmentsResult(str(actions))
                office = Departments(seed, load_behaviours(), pace=departments)
                offices = _Offices(settings, office, result.departments)
            # At their real pace nobody gets further in a few seconds.
            grace_s = 0.0 if duration is None or departments == 1.0 else GRACE_S
            with nullcontext() if offices is None else _beside(offices, grace_s):
                _run(simulation, channels)
    except OSError as error:
        raise QuanyuError(f"{path}: {error.strerror}; name another: --truth FILE") from None
    result.seconds = round(time.monotonic() - begun, 2)
    return result


@contextmanager
def _beside(offices: _Offices, grace_s: float) -> Iterator[None]:
    """Have the departments at work meanwhile and for the grace; an interrupt then ends them at once."""
    offices.start()
    offices.ready.wait(LOOK_S)
    try:
        yield
        offices.finish(grace_s)
        offices.join()
    except BaseException as error:
        offices.finish(0.0, 0.0)
        offices.join()
        if not isinstance(error, KeyboardInterrupt):
            raise


def _run(simulation: Simulation, channels: dict[str, _Channel]) -> None:
    """Hand over what is due, tick by tick; an interrupt ends it, and what is due is still delivered."""
    for channel in channels.values():
        channel.start()
    begun = time.monotonic()
    due: dict[str, list[Report]] = {name: [] for name in channels}
    until, interrupted = TICK_S, 0.0
    try:
        for report in simulation.reports():
            while report.due_s >= until:
                _hand_over(due, channels)
                until += TICK_S
                time.sleep(max(0.0, begun + until - TICK_S - time.monotonic()))
            due[report.channel].append(report)
    except KeyboardInterrupt:
        interrupted = time.monotonic()
    while True:
        try:
            _hand_over(due, channels)
            for channel in channels.values():
                channel.finish()
            for channel in channels.values():
                channel.join()
                channel.check()
            return
        except KeyboardInterrupt:
            # One Ctrl-C may arrive twice: from the terminal, and handed on by whoever started this.
            if time.monotonic() - interrupted > ONCE_S:
                raise


def _hand_over(due: dict[str, list[Report]], channels: dict[str, _Channel]) -> None:
    for name, reports in due.items():
        channels[name].check()
        if reports:
            channels[name].put(reports)
            reports.clear()
