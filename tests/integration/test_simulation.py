"""A minute of a simulated storm, 500 reports a second through ten transports of their own: none is lost."""

import random
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from connectors.simulate import simulate
from schemas.errors import QuanyuError
from schemas.settings import Settings
from tests.conftest import eventually
from tests.faults.harness import Stack, free_base_port

pytestmark = [pytest.mark.integration, pytest.mark.long, pytest.mark.timeout(900)]

RATE, SECONDS = 500, 60
LIMIT_S = 420.0


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A running stack of its own."""
    home = tmp_path_factory.mktemp("storm")
    with Stack(home, free_base_port(random.Random())).running() as stack:
        yield stack


def test_a_storm_through_all_ten_transports_is_decided_without_loss(city: Stack) -> None:
    sent = city.json(
        *("simulate", "--scenario", "storm", "--seed", "11"),
        *("--rate", str(RATE), "--duration", str(SECONDS)),
        timeout=LIMIT_S,
    )
    assert sent["sent"] > RATE * SECONDS / 2
    assert all(sent["by_channel"].values()), "each of the ten channels reports"

    def decided() -> bool:
        query = "SELECT count() FROM quanyu.report_outcomes"
        answer = httpx.post(f"http://127.0.0.1:{city.port + 1}/", content=query, timeout=30)
        return int(answer.text) >= int(sent["sent"])

    eventually(decided, LIMIT_S, 1.0)
    report = city.json("audit", "--timeout", "180", timeout=300)
    assert report["clean"], report
    received = {entry["channel"]: entry["received"] for entry in report["channels"]}
    for channel, number in sent["by_channel"].items():
        assert received[channel] >= number, f"{channel} lost some"
    measured = city.json("evaluate", "simulation", timeout=300)
    assert measured["overall"]["lost"] == 0, measured


def test_without_a_running_stack_the_sentence_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(QuanyuError, match="quanyu up"):
        simulate(Settings(home=tmp_path), scenario="day", seed=7, rate=50, duration=3)
