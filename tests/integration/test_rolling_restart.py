"""Every part is restarted, one after another, under load: nothing is lost, nothing doubled, nothing late.

Once at a small rate; `make restarts RATE=500 MINUTES=5` goes on for so long at such a rate.
"""

import itertools
import math
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from deploy.local.parts import pipeline_parts, storage_parts
from schemas.settings import load_settings
from tests.conftest import eventually
from tests.faults.harness import RECOVERY_LIMIT_S, Stack, free_base_port
from tests.faults.loads import Device, Drop, Load, Push

pytestmark = [pytest.mark.integration, pytest.mark.long, pytest.mark.timeout(1500)]

SEED = 12
#: Reports pushed a second, and for how long at least restarts go on.
RATE = int(os.environ.get("RESTARTS_RATE", "40"))
LASTS_S = 60 * float(os.environ.get("RESTARTS_MINUTES", "0"))
#: Reports of each channel that are confirmed and visible between two restarts at least.
BETWEEN = 40
#: Service level of freshness: this share of the reports is visible within so many seconds.
SHARE, LEVEL_S = 0.99, 60.0


@pytest.fixture
def city(tmp_path: Path) -> Iterator[Stack]:
    """A running stack of its own."""
    with Stack(tmp_path, free_base_port(random.Random())).running() as stack:
        yield stack


class Freshness:
    """How soon reports were visible, as the sink measured it, over its restarts."""

    def __init__(self, city: Stack) -> None:
        self._url = f"http://127.0.0.1:{city.port + 5}/metrics"
        self._former: Counter[float] = Counter()
        self._latest: Counter[float] = Counter()

    def read(self) -> None:
        """Read what the sink has counted since its start, if it answers.

        What it counts between the last reading and its end is in no number.
        """
        try:
            text = httpx.get(self._url, timeout=30, trust_env=False).text
        except httpx.HTTPError:
            return
        found: Counter[float] = Counter()
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name == "quanyu_report_visible_seconds_bucket":
                    found[float(sample.labels["le"])] += int(sample.value)
        if found[math.inf] < self._latest[math.inf]:
            self._former += self._latest
        self._latest = found

    @property
    def within(self) -> dict[float, int]:
        """Upper bound in seconds → reports that were visible so soon."""
        return dict(sorted((self._former + self._latest).items()))


def visible(city: Stack, *names: str) -> dict[str, Counter[str]]:
    """Channel → how often each of its ids, or of these alone, counts."""
    found: dict[str, Counter[str]] = {}
    which = ", ".join(f"'{name}'" for name in names)
    for channel, name, count in city.rows(
        "SELECT channel, native_id, countIf(outcome != 'duplicate') FROM quanyu.report_outcomes "
        + (f"WHERE native_id IN ({which}) " if names else "")
        + "GROUP BY channel, native_id"
    ):
        found.setdefault(channel, Counter())[name] = int(count)
    return found


def test_every_part_restarted_under_load_loses_doubles_and_delays_nothing(city: Stack) -> None:
    loads: list[Load] = [
        Push(city, SEED, rate=RATE, batch=10),
        Drop(city, SEED + 1, rows=40),
        Device(city, SEED + 2, batch=10, pause_s=0.5),
    ]
    settings = load_settings(home=city.home, port=city.port)
    answers = {
        part.name: part.answers for part in (*storage_parts(settings), *pipeline_parts(settings))
    }
    freshness = Freshness(city)

    def flows() -> None:
        """Each sender has more reports confirmed, and the city sees them."""
        wanted = [len(load.confirmed) + BETWEEN for load in loads]

        def came() -> bool:
            freshness.read()
            assert not any(load.error for load in loads), [load.error for load in loads]
            return all(len(load.confirmed) >= w for load, w in zip(loads, wanted, strict=True))

        eventually(came, RECOVERY_LIMIT_S)
        last = [(load.channel, load.confirmed[-1]) for load in loads]

        def seen() -> bool:
            freshness.read()
            found = visible(city, *(name for _, name in last))
            return all(found.get(channel, Counter())[name] for channel, name in last)

        eventually(seen, RECOVERY_LIMIT_S, 0.5)

    for load in loads:
        load.start()
    flows()
    parts = city.recorded()
    assert parts.keys() == answers.keys(), "every part of the stack"
    began = time.monotonic()
    for number, name in enumerate(itertools.cycle(parts)):
        if number >= len(parts) and time.monotonic() - began > LASTS_S:
            break
        # One that ends by itself when another does, as the sink may with the broker, is another process by now.
        eventually(lambda name=name: city.recorded()[name]["pid"], RECOVERY_LIMIT_S)  # type: ignore[misc]
        former = city.recorded()[name]["pid"]
        os.kill(former, signal.SIGTERM)
        eventually(
            lambda name=name, former=former: city.recorded()[name]["pid"] not in (None, former),  # type: ignore[misc]
            RECOVERY_LIMIT_S,
        )
        eventually(answers[name], RECOVERY_LIMIT_S)
        flows()
    for load in loads:
        load.finish()
    assert not any(load.error for load in loads), [load.error for load in loads]

    promised = {(load.channel, name) for load in loads for name in load.confirmed}

    def all_seen() -> bool:
        found = visible(city)
        return all(found.get(channel, Counter())[name] for channel, name in promised)

    eventually(all_seen, RECOVERY_LIMIT_S, 1.0)
    report = city.json("audit", "--timeout", "240", timeout=400)
    assert report["clean"], report
    assert {count for names in visible(city).values() for count in names.values()} == {1}
    restarts = {name: part["restarts"] for name, part in city.recorded().items()}
    assert min(restarts.values()) >= 1
    freshness.read()
    total = freshness.within[math.inf]
    lasted = time.monotonic() - began
    print(f"\n{len(promised)} promised in {lasted:.0f} s, {number} restarts: {restarts}")
    print(f"visible within seconds: {freshness.within}")
    assert total > 0.8 * len(promised)
    assert freshness.within[LEVEL_S] >= SHARE * total, freshness.within
