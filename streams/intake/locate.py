"""Where is it: a point by the city's polygons, else what the names say. Never a guess.

A point and names check each other. A point far outside of the place that the report names by itself is one
of home, of another system of coordinates or of a device that was moved, or the names are wrong: which of
them only a person can tell. A pin that fell just over the border of the community or compound that is named
belongs where the name says.
"""

from collections.abc import Callable, Container, Mapping, Sequence
from datetime import date, datetime
from functools import lru_cache
from math import cos, isfinite, nan, radians
from typing import NamedTuple
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import shapely

from schemas.city import CityPack
from schemas.coordinates import Floats, Pair
from schemas.errors import QuanyuError
from schemas.grids import LEVELS, METRES_PER_DEGREE, SPECIAL, GridLayer, level_of
from streams.intake.address import TEXT_LIMIT, Address, AddressBook

#: A coordinate with fewer decimals names a square of 100 m or more: not a place (Baltimore's feed has
#: hundreds at (39, -77)). Metres of the city's plane may be whole.
MIN_DECIMALS = 3
PLANE = "CITY"
#: What lies outside 1970 … 2100 is no date of a grid; a received number may be anything.
_LATEST_MS = 4_102_444_800_000
_DISTRICT, _COMMUNITY, _COMPOUND = LEVELS["district"], LEVELS["community"], LEVELS["compound"]
#: A point so far outside of the place that is named contradicts it: more than the outer borders of a pack
#: may be off and a pin may scatter, less than GCJ-02 taken for WGS-84 moves a point (some 570 m).
CONFLICT_METRES = 500.0
#: Pins and receivers scatter by less than this around what they mean.
SCATTER_METRES = 150.0
#: Systems of degrees, and under which name each is tried in place of another.
DEGREES = {"WGS84": "WGS84", "CGCS2000": "WGS84", "GCJ02": "GCJ02", "BD09": "BD09"}
#: Less certain names contradict no point: a road may bear the name of a street far away.
CONFLICT_CONFIDENCE = 0.7
CANDIDATES_SHOWN = 5
#: Ways of finding names that contradict no point: hospitals have branches, roads and villages namesakes.
WEAK = frozenset({"bare_name", "gazetteer", "mended", "repaired"})
#: Channels name the same districts and streets, and devices their own addresses, again and again.
PARSED_KEPT = 4096


class Place(NamedTuple):
    """What a report says of its place, cleaned texts as received.

    ``at`` is the instant (ms since the epoch) whose grids count; None: those that have not ended. The first
    of the texts is the address: with district and street, what is said of the place alone.
    """

    lon: str
    lat: str
    crs: str
    district: str
    street: str
    texts: tuple[str, ...]
    at: int | None = None


class Located(NamedTuple):
    """A place in the city, or the reason why it is none (then codes are empty).

    ``grid`` is the finest that is known, ``lon`` and ``lat`` are CGCS2000 degrees, ``method`` is point, name,
    both: a point beside the grid that is named, or person. ``confidence`` is 1 for a point, for names as of
    :class:`~streams.intake.address.Address`.
    ``detail`` says for a reviewer what speaks for which grid.
    """

    district: str = ""
    grid: str = ""
    zone: str = ""
    lon: float | None = None
    lat: float | None = None
    method: str = ""
    reason: str = ""
    confidence: float = 0.0
    detail: str = ""


def read_coordinate(text: str) -> tuple[float, int] | None:
    """A finite decimal number and how many decimals it has; None when it is no such number."""
    try:
        value = float(text)
    except ValueError:
        return None
    if not isfinite(value) or "_" in text:
        return None
    if "e" in text or "E" in text:
        return value, 16
    return value, len(text.partition(".")[2].rstrip("0 "))


def check_point(
    east: str,
    north: str,
    crs: str,
    systems: Container[str],
    bounds: npt.NDArray[np.float64],
) -> tuple[str, float, float]:
    """Reason to refuse a point as received (else empty), and its numbers in its own system.

    ``bounds`` of the city in degrees: west, south, east, north.
    """
    lon, lat = read_coordinate(east), read_coordinate(north)
    if lon is None or lat is None:
        return "bad_coordinate", 0.0, 0.0
    (x, east_decimals), (y, north_decimals) = lon, lat
    if x == 0.0 and y == 0.0:
        return "null_island", 0.0, 0.0
    if crs not in systems:
        return "unknown_crs", 0.0, 0.0
    if crs == PLANE:
        # Degrees of the city itself, named metres.
        wrong = bounds[0] <= x <= bounds[2] and bounds[1] <= y <= bounds[3]
        return "bad_coordinate" if wrong else "", x, y
    if abs(x) > 180.0 or abs(y) > 90.0:
        return "bad_coordinate", 0.0, 0.0
    if east_decimals < MIN_DECIMALS and north_decimals < MIN_DECIMALS:
        return "rounded_point", 0.0, 0.0
    return "", x, y


def read_points(
    points: Sequence[tuple[str, str, str]],
    systems: Mapping[str, Callable[[Floats, Floats], Pair]],
    bounds: Floats,
) -> tuple[list[str], Floats, Floats]:
    """Reasons to refuse points as received (east, north, crs), empty where there is none; CGCS2000 degrees.

    Longitude and latitude of what is refused are NaN. ``bounds`` as for :func:`check_point`.
    """
    reasons: list[str] = []
    by_crs: dict[str, list[int]] = {}
    lon, lat = np.full(len(points), np.nan), np.full(len(points), np.nan)
    for i, (east, north, crs) in enumerate(points):
        reason, x, y = check_point(east, north, crs, systems, bounds)
        reasons.append(reason)
        if not reason:
            lon[i], lat[i] = x, y
            by_crs.setdefault(crs, []).append(i)
    for crs, indices in by_crs.items():
        lon[indices], lat[indices] = systems[crs](lon[indices], lat[indices])
    return reasons, lon, lat


def _metres(layer: GridLayer, code: str, lon: float, lat: float) -> float:
    """How far a point lies outside of a grid, rather less; not a number when there is no such grid."""
    first, end = np.searchsorted(layer.codes, code), np.searchsorted(layer.codes, code, "right")
    if first == end:
        return nan
    away = shapely.distance(shapely.Point(lon, lat), layer.polygons[first:end]).min()
    return float(away) * METRES_PER_DEGREE * cos(radians(lat))


class Locator:
    """Locates batches of places in one city; reads the city's grids when it is made.

    Raises :class:`QuanyuError` when they are not built or do not fit the pack.
    """

    def __init__(self, city: CityPack) -> None:
        self._city = city
        self._grids = city.grids
        strange = set(self._grids.districts()) - city.zone_of.keys()
        if strange:
            raise QuanyuError(
                f"{city.folder}: grids of {min(strange)}, which is no district; see quanyu city check"
            )
        self._zone = ZoneInfo(city.time_zone)
        self._systems = city.systems
        self._bounds = shapely.total_bounds(city.districts.polygons)
        compounds = self._grids.names("compound")
        self._book = AddressBook(city, compounds)
        self._compounds = {code: name for code, name, _ in compounds}
        self._parsed = lru_cache(PARSED_KEPT)(self._book.parse)
        # Generated borders contradict nobody.
        self._surveyed = [
            city.own_layer(level) for level in ("street", "district") if level in city.shipped
        ]
        self._alike = lru_cache(PARSED_KEPT)(self._called_alike)

    def locate(self, places: Sequence[Place]) -> list[Located]:
        """One result for each place, in order."""
        results = [Located()] * len(places)
        pointed: list[int] = []
        for i, place in enumerate(places):
            if place.lon or place.lat:
                pointed.append(i)
            else:
                results[i] = self._by_name(place)
        if not pointed:
            return results
        given = [places[i][:3] for i in pointed]
        reasons, lon, lat = read_points(given, self._systems, self._bounds)
        days = self._days([places[i] for i in pointed]) if self._grids.versioned else None
        codes = self._grids.locate(lon, lat, days).tolist()
        for i, reason, code, x, y in zip(
            pointed, reasons, codes, lon.tolist(), lat.tolist(), strict=True
        ):
            if reason or not code:
                results[i] = Located(reason=reason or "outside_city")
            else:
                results[i] = self._by_both(places[i], code, x, y)
        return results

    def grid(self, code: str) -> Located:
        """The grid that a person names; ``unknown_grid`` when the city has none of that code."""
        level = level_of(code)
        known = bool(level) and code[:_DISTRICT] in self._city.zone_of
        if known and level != "district":
            known = level in self._grids.levels and code in self._grids.layer(level).codes
        if not known:
            return Located(reason="unknown_grid", detail=f"no grid {code[:40]!r} in the city")
        district = code[:_DISTRICT]
        return Located(
            district, code, self._city.zone_of[district], method="person", confidence=1.0
        )

    def _by_both(self, place: Place, code: str, lon: float, lat: float) -> Located:
        """A point in the grid ``code`` and what is named beside it."""
        named = self._contradicted(place, code, lon, lat)
        grid, method, confidence = code, "point", 1.0
        if not named:
            found = self._named_inside(place, code)
            if found.grid:
                away = _metres(self._grids.layer(level_of(found.grid)), found.grid, lon, lat)
                if away <= SCATTER_METRES:
                    grid, method, confidence = found.grid, "both", found.confidence
                elif self._in_another_system(place, found.grid):
                    named = found.grid
        if named:
            detail = f"point in {code}, named {named}"
            return Located(reason="place_conflict", detail=detail)
        district = grid[:_DISTRICT]
        return Located(
            district, grid, self._city.zone_of[district], lon, lat, method, confidence=confidence
        )

    def _contradicted(self, place: Place, code: str, lon: float, lat: float) -> str:
        """The grid that a report names beside a point in the grid ``code``, far from it; else empty."""
        address = place.texts[0] if place.texts else ""
        if not (place.district or place.street or address):
            return ""
        district = self._city.district_name(code[:_DISTRICT])
        if len(self._surveyed) == 1 and (district in place.district or district in address):
            return ""
        named = self._parse(place.district, place.street)
        if not named.grid:
            named = self._parse(place.district, place.street, address)
        if (
            named.confidence < CONFLICT_CONFIDENCE
            # A village beside no district and no street may be a hamlet that is in no list.
            or named.method in (*WEAK, "community")
            or named.reason == "far_from_anchor"
            or code.startswith((named.grid, *named.candidates))
        ):
            return ""
        for layer in self._surveyed:
            length = LEVELS[layer.level]
            grid = named.grid[:length]
            if len(grid) < length or code.startswith(grid):
                continue
            if (
                not self._alike(layer.level, grid, code[:length])
                and _metres(layer, grid, lon, lat) > CONFLICT_METRES
            ):
                return named.grid
        return ""

    def _named_inside(self, place: Place, code: str) -> Address:
        """The community or compound that the address names, when it is not the point's; else nothing."""
        address = place.texts[0] if place.texts else ""
        stem = self._book.stems.get(code[:_COMMUNITY])
        if not address or (
            stem and stem in address and self._compounds.get(code[:_COMPOUND], "") in address
        ):
            return Address()
        found = self._parse(place.district, place.street)
        if found.method == "street":
            found = self._book.inside(found, place.street, address)
        if len(found.grid) <= _COMMUNITY:
            found = self._parse(place.district, place.street, address)
        level = level_of(found.grid)
        if (
            len(found.grid) < _COMMUNITY
            or code.startswith(found.grid)
            # What overrides geography goes before its neighbours in it too.
            or (level_of(code) == SPECIAL and code.startswith(found.grid[:_COMMUNITY]))
            or found.method in WEAK
            or level not in self._grids.levels
        ):
            return Address()
        return found

    def _in_another_system(self, place: Place, grid: str) -> bool:
        """Whether the point lies in a grid in another system of degrees than it says.

        So far off by chance is improbable, so that here generated borders serve as well.
        """
        if place.crs not in DEGREES:
            return False
        layer = self._grids.layer(level_of(grid))
        east, north = np.array([float(place.lon)]), np.array([float(place.lat)])
        for crs in sorted(set(DEGREES.values()) - {DEGREES[place.crs]}):
            x, y = self._systems[crs](east, north)
            if _metres(layer, grid, float(x[0]), float(y[0])) <= SCATTER_METRES / 3:
                return True
        return False

    def _parse(self, *texts: str) -> Address:
        """As of the book, remembered; of long texts the part is kept that the book reads."""
        return self._parsed(*(text[:TEXT_LIMIT] for text in texts))

    def _called_alike(self, level: str, one: str, other: str) -> bool:
        """Whether one is a zone without a surveyed border beside the other.

        Whoever lives in a zone that was cut out of a district names either.
        """
        (layer,) = (layer for layer in self._surveyed if layer.level == level)
        first, second = layer.codes == one, layer.codes == other
        if not (layer.synthetic[first].any() or layer.synthetic[second].any()):
            return False
        near = CONFLICT_METRES / METRES_PER_DEGREE
        ours, theirs = layer.polygons[first], layer.polygons[second]
        return any(bool(shapely.dwithin(ours, polygon, near).any()) for polygon in theirs)

    def _days(self, places: Sequence[Place]) -> npt.NDArray[np.datetime64]:
        """Day of the city for each place; where no instant is given, the last there is."""
        days = [
            datetime.fromtimestamp(min(max(place.at, 0), _LATEST_MS) / 1000, self._zone).date()
            if place.at is not None
            else date.max
            for place in places
        ]
        return np.array(days, dtype="datetime64[D]")

    def _by_name(self, place: Place) -> Located:
        """The finest grid that is named; a later text only makes finer what the earlier ones say."""
        names = [place.district, place.street]
        found = self._parse(*names)
        if found.method == "street" and place.texts:
            found = self._book.inside(found, place.street, place.texts[0])
        for text in place.texts:
            if not text:
                continue
            if len(found.grid) > _COMMUNITY:
                break
            names.append(text)
            # Addresses come again, what is said of them hardly.
            again = text is place.texts[0]
            finer = self._parse(*names) if again else self._book.parse(*names)
            if finer.grid.startswith(found.grid) and (finer.grid or finer.candidates):
                found = finer
            if found.street and again:
                break
        if not found.grid:
            if not found.candidates:
                return Located(reason="no_location")
            shown = ", ".join(found.candidates[:CANDIDATES_SHOWN])
            rest = len(found.candidates) - CANDIDATES_SHOWN
            detail = f"may be {shown}" + (f" and {rest} more" if rest > 0 else "")
            return Located(reason="ambiguous_place", detail=detail)
        zone = self._city.zone_of[found.district]
        return Located(found.district, found.grid, zone, method="name", confidence=found.confidence)
