"""What the screen says of the channels is what the monitor decided, or that nobody knows."""

import asyncio
from collections.abc import Callable

import httpx
import pytest
from prometheus_client import CollectorRegistry, Gauge, generate_latest

from deploy import screen
from deploy.screen import Samples, backlog, channel_states, samples
from schemas.channels import load_channels

#: The monitor's gauges of channels and of lag, then the connectors'.
LAST = "quanyu_channel_last_report_timestamp_seconds"
GAP = "quanyu_channel_usual_gap_seconds"
LEARNING = "quanyu_channel_learning"
SILENT = "quanyu_channel_silent"


def page(values: dict[str, dict[str, float]], *labels: str) -> str:
    """A metrics page as a part serves it: metric → labels' values, divided by a blank → value."""
    registry = CollectorRegistry()
    for name, samples_ in values.items():
        gauge = Gauge(
            name,
            'Help, with quanyu_channel_silent{channel="x"} 1 in it.',
            labels or ["channel"],
            registry=registry,
        )
        for key, value in samples_.items():
            gauge.labels(*key.split()).set(value)
    return generate_latest(registry).decode()


def read(answer: str | Callable[[httpx.Request], httpx.Response]) -> Samples:
    """What the screen finds on a page."""
    handler = (lambda _: httpx.Response(200, text=answer)) if isinstance(answer, str) else answer

    async def ask() -> Samples:
        async with httpx.AsyncClient(transport=httpx.MockTransport(handler)) as client:
            return await samples(client, ["http://monitor"])

    return asyncio.run(ask())


def test_each_channel_has_its_state_its_gap_and_where_that_comes_from() -> None:
    configured = next(
        n for n, s in load_channels().items() if s.usual_gap_s and s.kind != "foreign"
    )
    monitor = read(
        page(
            {
                LAST: {configured: 1_767_225_600.5},
                GAP: dict.fromkeys(load_channels(), 60),
                LEARNING: dict.fromkeys(load_channels(), 0),
                SILENT: {**dict.fromkeys(load_channels(), 0), configured: 1},
            }
        )
    )
    connectors = read(
        page(
            {"quanyu_connector_up": {f"{configured} sql": 0, f"{configured} file": 1}},
            "channel",
            "transport",
        )
    )
    states = channel_states(monitor, connectors)
    assert states is not None
    assert set(states) == set(load_channels())
    assert states.pop(configured) == {
        "state": "silent",
        "last_seen": 1_767_225_600_500,
        "usual_gap_s": 60,
        "basis": "configured",
        "silent": True,
        "in_service": True,
        "connectors": {"sql": False, "file": True},
    }
    assert {s["state"] for s in states.values()} == {"unused"}
    assert {(s["last_seen"], s["in_service"], s["silent"]) for s in states.values()} == {
        (None, False, False)
    }


@pytest.mark.parametrize(
    ("learning", "expected"), [(1, ("learning", "default")), (0, ("alive", "learned"))]
)
def test_a_channel_without_a_configured_gap_is_learning_until_it_has_learned(
    monkeypatch: pytest.MonkeyPatch, learning: int, expected: tuple[str, str]
) -> None:
    spec = load_channels()["iot"].model_copy(update={"usual_gap_s": None})
    monkeypatch.setattr(screen, "load_channels", lambda: {"iot": spec})
    given = {LAST: 1.0, GAP: 900.0, LEARNING: learning, SILENT: 0}
    states = channel_states(read(page({name: {"iot": v} for name, v in given.items()})), {})
    assert states is not None
    assert (states["iot"]["state"], states["iot"]["basis"]) == expected


def test_without_a_monitor_or_a_broker_nobody_guesses() -> None:
    def away(_: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    nobody = read(away)
    assert (backlog(nobody), channel_states(nobody, nobody)) == (None, None)
    no_broker = read(page({"quanyu_part_up": {"kafka": 0}}, "part"))
    assert (backlog(no_broker), channel_states(no_broker, nobody)) == (None, None)


def test_what_waits_is_added_up_over_all_groups() -> None:
    labels = ("group", "topic", "partition")
    found = read(
        page(
            {
                "quanyu_lag_records": {"streams reports 0": 3, "sink events 1": 4},
                "quanyu_lag_seconds": {"streams reports 0": 1.5, "sink events 1": 7},
            },
            *labels,
        )
    )
    assert backlog(found) == {"records": 7, "oldest_s": 7}
