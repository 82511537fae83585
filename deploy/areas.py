"""The polygons of the screen's map: what lies below a centre or a grid, simplified for its level."""

from collections.abc import Callable
from typing import Any

import numpy as np
import shapely

from schemas.city import CityPack
from schemas.errors import QuanyuError
from schemas.grids import LEVELS, level_of

#: Degrees by which a line may be drawn wrong: less than a pixel while its level fills a screen.
TOLERANCE = {
    "centre": 6e-4,
    "district": 6e-4,
    "street": 1.5e-4,
    "community": 5e-5,
    "compound": 1e-5,
    "micro": 0.0,
}
#: Decimals of a coordinate, 1 m.
DECIMALS = 5
_LEVELS = tuple(LEVELS)

Area = dict[str, Any]


def below(city: CityPack, parent: str) -> list[Area]:
    """Code, name and rings (lon, lat in CGCS2000 degrees) of each area below; empty below the finest.

    ``parent``: empty for the city, a centre's or a grid's code. Where the grids of the city are not built
    the districts stand for its centres. Raises :class:`QuanyuError` for a code that is none.
    """
    if not parent:
        return _centres(city)
    if parent in city.units or parent in city.districts.codes.tolist():
        return _grids(city, "street", lambda code: _centre(city, code) == parent)
    level = level_of(parent)
    if level not in LEVELS:
        raise QuanyuError(f"parent {parent[:30]!r} is no centre and no grid")
    finer = _LEVELS[_LEVELS.index(level) + 1 :]
    if not finer or finer[0] not in city.grids.levels:
        return []
    return _grids(city, finer[0], lambda code: code.startswith(parent))


def _centre(city: CityPack, code: str) -> str:
    unit = city.unit_of(code)
    return unit.code if unit else code[: LEVELS["district"]]


def _grids(city: CityPack, level: str, wanted: Callable[[str], bool]) -> list[Area]:
    layer = city.grids.layer(level)
    kept = [
        i
        for i, code in enumerate(layer.codes.tolist())
        if wanted(code) and np.isnat(layer.valid_to[i])
    ]
    return [
        _area(str(layer.codes[i]), layer.names[i], layer.polygons[i], TOLERANCE[level])
        for i in kept
    ]


def _centres(city: CityPack) -> list[Area]:
    """Every centre with all that it steers: streets where they are known, else whole districts."""
    try:
        layer = city.grids.layer("street")
    except QuanyuError:
        layer = city.districts
    parts: dict[str, list[Any]] = {}
    for code, polygon in zip(layer.codes.tolist(), layer.polygons, strict=True):
        parts.setdefault(_centre(city, code), []).append(polygon)
    return [
        _area(
            code,
            city.units[code].name if code in city.units else city.district_name(code),
            shapely.union_all(polygons, grid_size=1e-6),
            TOLERANCE["centre"],
        )
        for code, polygons in sorted(parts.items())
    ]


def _area(code: str, name: str, polygon: Any, tolerance: float) -> Area:
    drawn = shapely.simplify(polygon, tolerance) if tolerance else polygon
    rings = []
    for part in shapely.get_parts(drawn):
        for ring in (part.exterior, *part.interiors):
            points = np.round(shapely.get_coordinates(ring), DECIMALS)
            if len(points) >= 4:
                rings.append(points.tolist())
    return {"code": code, "name": name, "rings": rings}
