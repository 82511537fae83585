"""Runs the simulated city against the push interface, as the channels' own senders would."""

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import httpx

from connectors.simulator import SimulatedReport, Simulator
from schemas.city import load_city
from schemas.errors import QuanyuError
from schemas.settings import Settings

#: How often reports are sent; at 500/s that is a hundred at once.
TICK_S = 0.2
#: A sender repeats what was not confirmed for so long before it gives up.
PATIENCE_S = 120.0


@dataclass(slots=True)
class SimulationResult:
    """What was sent: reports confirmed by the broker, and of how many matters."""

    seed: int
    sent: int = 0
    resent: int = 0
    matters: int = 0
    repeated_requests: int = 0
    seconds: float = 0.0
    by_channel: dict[str, int] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return asdict(self)


def simulate(
    settings: Settings,
    *,
    seed: int,
    rate: float,
    duration: float | None,
    progress: Callable[[int], None] = lambda _: None,
) -> SimulationResult:
    """Push ``rate`` reports a second for ``duration`` seconds, or until interrupted.

    A request that is not answered 202 is repeated with the same ids. Raises :class:`QuanyuError` when
    the interface refuses a key or stays away.
    """
    try:
        keys = json.loads(settings.keys_path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError):
        raise QuanyuError(
            f"{settings.keys_path}: no channel keys; start the stack: quanyu up"
        ) from None
    simulator = Simulator(load_city(settings.city), seed)
    result = SimulationResult(seed)
    started = time.monotonic()
    url = f"http://{settings.bind}:{settings.screen_port}"
    with httpx.Client(base_url=url, timeout=30.0) as client:
        stream = simulator.reports(int(time.time() * 1000))
        try:
            while duration is None or time.monotonic() - started < duration:
                elapsed = time.monotonic() - started
                due = int(rate * (elapsed + TICK_S)) - result.sent
                batch = [next(stream) for _ in range(max(0, due))]
                _send(client, keys, batch, result)
                progress(len(batch))
                if batch:
                    # The clock moves on: what is reported next occurred just now.
                    stream = simulator.reports(int(time.time() * 1000))
                time.sleep(max(0.0, started + elapsed + TICK_S - time.monotonic()))
        except KeyboardInterrupt:
            pass
    result.seconds = round(time.monotonic() - started, 2)
    return result


def _send(
    client: httpx.Client,
    keys: dict[str, str],
    batch: list[SimulatedReport],
    result: SimulationResult,
) -> None:
    by_channel: dict[str, list[SimulatedReport]] = {}
    for report in batch:
        by_channel.setdefault(report.channel, []).append(report)
    for channel, reports in by_channel.items():
        for start in range(0, len(reports), 500):
            part = reports[start : start + 500]
            _deliver(client, channel, keys.get(channel, ""), [r.native for r in part], result)
            result.sent += len(part)
            result.resent += sum(r.resent for r in part)
            result.by_channel[channel] = result.by_channel.get(channel, 0) + len(part)
            result.matters = max(result.matters, *(r.matter.number for r in part))


def _deliver(
    client: httpx.Client,
    channel: str,
    key: str,
    natives: list[dict[str, Any]],
    result: SimulationResult,
) -> None:
    """Until it is confirmed; a refusal that repetition cannot heal is raised."""
    end = time.monotonic() + PATIENCE_S
    problem = ""
    while time.monotonic() < end:
        try:
            answer = client.post(
                f"/channels/{channel}/reports", json=natives, headers={"X-API-Key": key}
            )
            if answer.status_code == 202:
                return
            problem = f"{answer.status_code} {answer.text[:200]}"
            if answer.status_code not in (408, 429) and answer.status_code < 500:
                raise QuanyuError(f"{channel}: refused: {problem}")
        except httpx.HTTPError as error:
            problem = f"{type(error).__name__}: {error}"
        result.repeated_requests += 1
        time.sleep(0.5)
    raise QuanyuError(
        f"{channel}: nothing confirmed for {PATIENCE_S:.0f} s ({problem}); see quanyu status"
    )
