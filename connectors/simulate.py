"""Runs a simulated city: each channel hands its reports over through its own transport, as they fall due.

A thread a channel, so that a slow one holds back no other. A report counts as sent, and stands in the truth
file, when its transport has accepted it; until then it is tried again with the same ids.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, TextIO
from zoneinfo import ZoneInfo

from connectors.simulator import CHANNELS, Report, Simulation, load_numbers
from connectors.simulator.feeders import Feeder, NotAccepted, feeder
from connectors.simulator.truth import line
from schemas.city import load_city
from schemas.errors import QuanyuError
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

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return asdict(self)


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


def simulate(
    settings: Settings,
    *,
    scenario: str,
    seed: int,
    rate: float,
    duration: float | None,
    speed: float = 1.0,
    truth: Path | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> SimulationResult:
    """Send ``rate`` reports a second for ``duration`` seconds, or until interrupted.

    The simulated clock runs ``speed`` times as fast and arrives at the real one at the end, so that nothing
    lies in the future. Raises :class:`QuanyuError` when a channel is not in service, refuses or stays away.
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
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="utf-8") as out:
            account = _Account(result, out, progress)
            channels = {name: _Channel(name, senders[name], account) for name in CHANNELS}
            _run(simulation, channels)
    except OSError as error:
        raise QuanyuError(f"{path}: {error.strerror}; name another: --truth FILE") from None
    result.seconds = round(time.monotonic() - begun, 2)
    return result


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
