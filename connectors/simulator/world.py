"""What is: places of the city and the matters there, which no part of the pipeline reads."""

import random
from bisect import bisect, bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt
import shapely

from connectors.simulator.scenarios import load_words
from schemas.city import UNCLASSIFIED, CityPack
from schemas.coordinates import FROM_CGCS2000
from schemas.grids import LEVELS, SPECIAL, Floats, Polygons

T = TypeVar("T")
Point = tuple[float, float]
Indices = npt.NDArray[np.int64]

#: Places drawn at once: points in polygons cost little only in numbers.
BLOCK = 2048
#: Tries to hit a polygon inside its box; a grid is rarely thinner than a fifth of it.
TRIES = 24


def pick(rng: random.Random, items: Sequence[T]) -> T:
    """One of them, each as often; cheaper than ``choice``."""
    return items[int(rng.random() * len(items))]


class Weighted(Generic[T]):
    """Things drawn by their weights."""

    def __init__(self, weights: Mapping[T, float]) -> None:
        self.items = [item for item, weight in weights.items() if weight > 0]
        self._sums = list(accumulate(weights[item] for item in self.items))

    def __bool__(self) -> bool:
        return bool(self.items)

    def draw(self, rng: random.Random) -> T:
        """One of them."""
        return self.items[bisect(self._sums, rng.random() * self._sums[-1], 0, len(self._sums) - 1)]


@dataclass(frozen=True, slots=True)
class Place:
    """A place by its finest grid, in every system that a channel may send (degrees; ``plane`` metres)."""

    grid: str
    special: str
    cgcs2000: Point
    gcj02: Point
    bd09: Point
    plane: Point | None
    district: str
    street: str
    address: str
    #: What a text says: the address without its district, and as people call it.
    spot: str
    called: str


@dataclass(frozen=True, slots=True)
class Matter:
    """One real-world matter."""

    id: str
    code: str
    word: str
    place: Place


class Ground:
    """Where things can be: every finest grid alike, because each holds about as many households."""

    def __init__(self, city: CityPack) -> None:
        self._city = city
        self._words = load_words()
        grids = city.grids
        layer = grids.layer(grids.finest)
        now = np.isnat(layer.valid_to)
        self._codes: list[str] = layer.codes[now].tolist()
        self._polygons: Polygons = layer.polygons[now]
        self._boxes = shapely.bounds(self._polygons)
        self._special = grids.layer(SPECIAL) if grids.has_special else None
        self._streets = {street.code: street.name for street in city.streets}
        self._communities = {place.code: place.name for place in city.communities}
        self._streets_of: dict[str, list[str]] = {}
        for street in city.streets:
            self._streets_of.setdefault(street.district, []).append(street.name)
        self._compounds = (
            dict(zip(grids.layer("compound").codes.tolist(), grids.layer("compound").names, strict=True))
            if "compound" in grids.levels
            else {}
        )  # fmt: skip
        self._called = self._names_of_people()

    def places(self, rng: np.random.Generator) -> Iterator[Place]:
        """Places for ever."""
        while True:
            yield from self.some(rng, BLOCK)

    def some(self, rng: np.random.Generator, many: int) -> list[Place]:
        """So many places."""
        return self._block(rng, rng.integers(len(self._codes), size=many))

    def near(self, rng: np.random.Generator, place: Place, many: int) -> list[Place]:
        """Places of the same street, or of the same grid where there is none finer."""
        prefix = place.grid[: LEVELS["street"]]
        first, end = bisect_left(self._codes, prefix), bisect_left(self._codes, prefix + "~")
        return self._block(rng, rng.integers(first, end, size=many))

    def _names_of_people(self) -> dict[str, list[str]]:
        """Code of a street or finer → what people call it or what stands there."""
        city = self._city
        codes: dict[str, str] = {name: code for code, name in self._communities.items()}
        codes |= {name: code for code, name in self._streets.items()}
        codes |= {entry.name: entry.code for entry in city.gazetteer}
        known = [(entry.name, entry.code) for entry in city.gazetteer]
        known += [(alias, codes.get(name, "")) for alias, name in city.aliases.items()]
        called: dict[str, list[str]] = {}
        for name, code in known:
            # Of a whole district it would say next to nothing.
            if len(code) >= LEVELS["street"]:
                called.setdefault(code, []).append(name)
        return called

    def _block(self, rng: np.random.Generator, index: Indices) -> list[Place]:
        """A random place in each of the grids."""
        many = len(index)
        lon, lat = self._points(rng, index)
        numbers = rng.integers(1, 300, many).tolist()
        luck = rng.random((many, 3)).tolist()
        gcj = _pairs(*FROM_CGCS2000["GCJ02"](lon, lat))
        bd = _pairs(*FROM_CGCS2000["BD09"](lon, lat))
        plane = self._city.plane
        metres = _pairs(*plane.from_cgcs2000(lon, lat)) if plane else None
        special = [""] * many
        if self._special is not None:
            found = self._special.locate(lon, lat, snap=False)
            codes = self._special.codes
            special = [str(codes[i]) if i >= 0 else "" for i in found.tolist()]
        places = []
        for i, (point, which) in enumerate(zip(_pairs(lon, lat), index.tolist(), strict=True)):
            grid = self._codes[which]
            district, street, spot, called = self._said(grid, numbers[i], luck[i])
            places.append(
                Place(
                    grid=grid,
                    special=special[i],
                    cgcs2000=point,
                    gcj02=gcj[i],
                    bd09=bd[i],
                    plane=metres[i] if metres else None,
                    district=district,
                    street=street,
                    address=f"{district}{spot}",
                    spot=spot,
                    called=called,
                )
            )
        return places

    def _points(self, rng: np.random.Generator, index: Indices) -> tuple[Floats, Floats]:
        """A random point of each grid."""
        west, south, east, north = self._boxes[index].T
        lon, lat = rng.uniform(west, east), rng.uniform(south, north)
        missed = np.arange(len(index))
        for _ in range(TRIES):
            missed = missed[
                ~shapely.contains_xy(self._polygons[index[missed]], lon[missed], lat[missed])
            ]
            if not len(missed):
                return lon, lat
            lon[missed] = rng.uniform(west[missed], east[missed])
            lat[missed] = rng.uniform(south[missed], north[missed])
        inner = shapely.point_on_surface(self._polygons[index[missed]])
        lon[missed], lat[missed] = shapely.get_x(inner), shapely.get_y(inner)
        return lon, lat

    def _said(self, grid: str, number: int, luck: Sequence[float]) -> tuple[str, str, str, str]:
        """District, street, spot and what people call it."""
        words = self._words
        district = self._city.district_name(grid[: LEVELS["district"]])
        street = self._streets.get(grid[: LEVELS["street"]], "")
        if not street:  # a pack without streets' grids: one of the district stands for its ground
            street = _of(self._streets_of.get(grid[: LEVELS["district"]], [""]), luck[2])
        community = self._communities.get(grid[: LEVELS["community"]], "")
        compound = self._compounds.get(grid[: LEVELS["compound"]], "")
        # A compound may be named after its community.
        inner = compound if community and compound.startswith(_short(community)) else ""
        spot = f"{street}{inner or _short(community) + compound}{number}号"
        called = self._called.get(grid[: LEVELS["community"]]) or self._called.get(
            grid[: LEVELS["street"]]
        )
        name = _of(called or words.called, luck[0]).format(street=_short(street))
        return district, street, spot, name + _of(words.near, luck[1])


def _of(items: Sequence[str], luck: float) -> str:
    return items[int(luck * len(items))]


@cache
def _short(name: str) -> str:
    """A street's or community's name without its kind."""
    for kind in sorted(load_words().kinds, key=len, reverse=True):
        if name.endswith(kind) and len(name) > len(kind) + 1:
            return name.removesuffix(kind)
    return name


def _pairs(x: Floats, y: Floats) -> list[Point]:
    return list(zip(x.tolist(), y.tolist(), strict=True))


class World:
    """Draws matters of one kind of reporter, each named by ``mark`` and its number."""

    def __init__(self, city: CityPack, ground: Ground, seed: int, mark: str) -> None:
        self._city, self._ground = city, ground
        self._mark = mark
        self._rng = random.Random(f"{seed}/{mark}/matters")  # noqa: S311 - a simulation, not a secret
        self._points = np.random.default_rng([seed, *mark.encode()])
        self.places = ground.places(self._points)
        self._count = 0

    def matter(self, code: str, place: Place | None = None) -> Matter:
        """A new matter of a class, somewhere unless said where."""
        self._count += 1
        return Matter(
            f"{self._mark}{self._count}", code, self.word(code), place or next(self.places)
        )

    def near(self, place: Place, many: int) -> list[Place]:
        """Places of the same neighbourhood."""
        return self._ground.near(self._points, place, many)

    def word(self, code: str) -> str:
        """One of a class's words."""
        entry = self._city.classes.get(code)
        return pick(self._rng, entry.keywords) if entry and entry.keywords else code

    def classes(self, prefixes: Mapping[str, float]) -> Weighted[str]:
        """The city's classes by the weights of their prefixes; all alike where it knows none of them."""
        known = [c for c in self._city.classes.values() if c.code != UNCLASSIFIED and c.keywords]
        matching = {
            prefix: [c.code for c in known if c.code.startswith(prefix)] for prefix in prefixes
        }
        weights: dict[str, float] = {}
        for prefix, codes in matching.items():
            for code in codes:
                weights[code] = weights.get(code, 0.0) + prefixes[prefix] / len(codes)
        return Weighted(weights or {c.code: 1.0 for c in known})
