"""One run of a scenario: people and devices, each a seeded sequence of its own, put in time.

What is told depends on the seed, when on the start and the speed. So neither a slow machine nor the hour of
the day changes what a seed means.
"""

import heapq
import random
from collections.abc import Callable, Iterator

from connectors.simulator.devices import Devices
from connectors.simulator.natives import base36
from connectors.simulator.people import People
from connectors.simulator.report import Report
from connectors.simulator.scenarios import (
    HORIZON_S,
    PEOPLE,
    SENSING,
    STORM_S,
    Scenario,
    intensity,
    load_numbers,
)
from connectors.simulator.world import Ground, Matter, World
from schemas.city import CityPack

#: A standing matter is told of so often on average.
PER_STANDING = 20


class Simulation:
    """One run of a scenario in a city.

    ``rate``: mean reports a second; ``start_ms``: the simulated clock at the beginning, which runs ``speed``
    times as fast as the real one. Without ``duration`` (s) it never ends.
    """

    def __init__(
        self,
        city: CityPack,
        scenario: Scenario,
        *,
        seed: int,
        rate: float,
        start_ms: int,
        duration: float | None = None,
        speed: float = 1.0,
    ) -> None:
        self._city, self._scenario, self._seed, self._rate = city, scenario, seed, rate
        self._start_ms, self._duration, self._speed = start_ms, duration, speed
        self._numbers = load_numbers()
        ground = Ground(city)
        tag = base36(start_ms // 1000) + base36(seed % 1296)
        whole = sum(scenario.rates.values())
        self._people_share = sum(scenario.rates[name] for name in PEOPLE) / whole
        standing = _standing(World(city, ground, seed, "p"), scenario, self._many())
        self._people = People(
            World(city, ground, seed, "h"), self._numbers, scenario, seed, tag, standing, city
        )
        rates = {name: rate * scenario.rates[name] / whole / speed for name in SENSING}
        self._devices = Devices(
            World(city, ground, seed, "s"), ground, self._numbers, seed, tag, standing, city, rates
        )

    def _many(self) -> float:
        """How many reports tell of a standing matter."""
        scenario = self._scenario
        seconds = self._duration or (STORM_S if scenario.surge else HORIZON_S) / self._speed
        reports = self._rate * seconds * self._people_share
        return reports * scenario.near_duplicates * scenario.standing.share

    def reports(self) -> Iterator[Report]:
        """The run's reports in the order in which they are due."""
        streams = [
            self._stream(self._people.slot, self._people_share, people=True),
            self._stream(self._devices.slot, 1.0 - self._people_share, people=False),
        ]
        return heapq.merge(*streams, key=lambda report: report.due_s)

    def _stream(
        self, slot: Callable[[float, int], list[Report]], share: float, *, people: bool
    ) -> Iterator[Report]:
        """Slots in time, as many as the scenario wants at each hour."""
        spans = intensity(
            self._numbers,
            self._scenario,
            people=people,
            zone=self._city.time_zone,
            start_ms=self._start_ms,
            duration=self._duration,
            speed=self._speed,
        )
        # People come when they come, devices at their interval.
        luck = random.Random(f"{self._seed}/{people}/when").random  # noqa: S311 - a simulation
        begin, before, number = 0.0, 0.0, 0
        until = float("inf") if self._duration is None else self._duration
        offset = luck() if people else 0.5
        for end, weight in spans:
            rate = self._rate * share * weight
            while True:
                due = begin + (number + offset - before) / rate if rate > 0 else float("inf")
                if due >= until:
                    return
                if due >= end:
                    break
                yield from slot(due, self._start_ms + int(due * self._speed * 1000))
                number += 1
                offset = luck() if people else 0.5
            before += (end - begin) * rate
            begin = end


def _standing(world: World, scenario: Scenario, reports: float) -> list[Matter]:
    """Matters that many see: few enough that each is told of again and again."""
    places = min(scenario.standing.places, max(3, round(reports / PER_STANDING)))
    classes = world.classes(scenario.classes)
    rng = random.Random(places)  # noqa: S311 - a simulation
    return [world.matter(classes.draw(rng)) for _ in range(places)]
