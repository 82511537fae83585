"""The run: what counts as sent was accepted, stands in the truth file, and nothing waits for another."""

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from connectors import simulate as run
from connectors.simulator import CHANNELS, Report
from connectors.simulator.feeders import NotAccepted
from connectors.simulator.truth import read_truth
from schemas.city import CityPack
from schemas.errors import QuanyuError
from schemas.settings import Settings


class Accepting:
    """Takes everything, in parts of seven; every fourth time nothing more of the delivery."""

    def __init__(self) -> None:
        self.taken: list[Report] = []
        self.calls = 0
        self.closed = False

    def deliver(self, reports: Sequence[Report]) -> Iterator[Sequence[Report]]:
        for start in range(0, len(reports), 7):
            self.calls += 1
            if self.calls % 4 == 0:
                raise NotAccepted("not now")
            part = reports[start : start + 7]
            self.taken += part
            yield part

    def close(self) -> None:
        self.closed = True


class Away(Accepting):
    """Never there."""

    def deliver(self, reports: Sequence[Report]) -> Iterator[Sequence[Report]]:
        raise NotAccepted("not there")


class Slow(Accepting):
    """Takes nothing until told."""

    def __init__(self, until: threading.Event) -> None:
        super().__init__()
        self._until = until

    def deliver(self, reports: Sequence[Report]) -> Iterator[Sequence[Report]]:
        assert self._until.wait(60)
        yield from super().deliver(reports)


@pytest.fixture
def senders(monkeypatch: pytest.MonkeyPatch) -> dict[str, Accepting]:
    """The channels' senders, by name; a test may put others in their place."""
    found = {name: Accepting() for name in CHANNELS}
    monkeypatch.setattr(run, "feeder", lambda _settings, _sources, name, **_: found[name])
    monkeypatch.setattr(run, "PAUSE_S", 0.001)
    return found


def start(city: CityPack, home: Path, **given: Any) -> run.SimulationResult:
    options: dict[str, Any] = {"scenario": "day", "seed": 3, "rate": 400.0, "duration": 2.0} | given
    return run.simulate(Settings(home=home, city=str(city.folder)), **options)


def test_every_report_is_sent_once_in_order_and_stands_in_the_truth(
    city: CityPack, senders: dict[str, Accepting], tmp_path: Path
) -> None:
    result = start(city, tmp_path)
    assert result.repeated_requests > 0
    assert 600 < result.sent < 1000
    truth = list(read_truth(Path(result.truth)))
    assert len(truth) == result.sent
    for name, sender in senders.items():
        assert sender.closed
        assert len(sender.taken) == result.by_channel[name] > 0
        assert sum(r.resent for r in sender.taken) == result.resent_by_channel[name]
        assert [r.due_s for r in sender.taken] == sorted(r.due_s for r in sender.taken)
        ours = [t.native_id for t in truth if t.channel == name]
        assert ours == [r.native_id for r in sender.taken]
    assert result.matters == len(
        {m.id for s in senders.values() for r in s.taken for m in r.matters}
    )
    assert Path(result.truth).parent == tmp_path / "truth"
    assert Path(result.truth).name.startswith("day-3-")


def test_a_slow_channel_holds_back_no_other(
    city: CityPack, senders: dict[str, Accepting], tmp_path: Path
) -> None:
    until = threading.Event()
    senders["mailbox"] = Slow(until)

    def others_are_done(_: int) -> None:
        # All but the slow one's: as many as an undisturbed run of this seed sends through them.
        done = sum(len(s.taken) for name, s in senders.items() if name != "mailbox")
        if done >= 700:
            until.set()

    result = start(city, tmp_path, progress=others_are_done)
    assert result.by_channel["mailbox"] > 0


def test_a_channel_that_stays_away_ends_the_run_with_a_sentence(
    city: CityPack,
    senders: dict[str, Accepting],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(run, "PATIENCE_S", 0.05)
    senders["photo_app"] = Away()
    with pytest.raises(QuanyuError, match=r"photo_app: nothing accepted for .* quanyu status"):
        start(city, tmp_path)


def test_speed_without_a_duration_has_no_end_to_arrive_at(city: CityPack, tmp_path: Path) -> None:
    with pytest.raises(QuanyuError, match="--duration"):
        start(city, tmp_path, duration=None, speed=60.0)


def test_nothing_that_was_sped_up_occurs_in_the_future(
    city: CityPack, senders: dict[str, Accepting], tmp_path: Path
) -> None:
    from datetime import UTC, datetime, timedelta

    start(city, tmp_path, speed=3600.0)
    now = datetime.now(UTC) + timedelta(seconds=5)
    times = [datetime.fromisoformat(r.native["ts"]) for r in senders["video_ai"].taken]
    assert max(times) < now
    # Two seconds at an hour a second.
    assert max(times) - min(times) > timedelta(hours=1.5)


def test_an_interrupt_ends_it_and_what_was_due_is_still_sent(
    city: CityPack, senders: dict[str, Accepting], tmp_path: Path
) -> None:
    import signal

    sent = 0

    def interrupted(number: int) -> None:
        nonlocal sent
        before, sent = sent, sent + number
        if before < 300 <= sent:
            signal.raise_signal(signal.SIGINT)

    def on_interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGINT, on_interrupt)
    try:
        result = start(city, tmp_path, duration=None, progress=interrupted)
    finally:
        signal.signal(signal.SIGINT, previous)
    assert result.sent >= 300
    assert result.sent == sum(len(s.taken) for s in senders.values())
