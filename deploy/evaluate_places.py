"""How well points and addresses are located, measured with the functions that the agent runs."""

import json
import re
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import shapely
from shapely.errors import ShapelyError

from schemas.city import CityPack, load_city
from schemas.coordinates import TO_CGCS2000, Floats
from schemas.documents import read_rows
from schemas.errors import QuanyuError
from schemas.grids import METRES_PER_DEGREE, Grid, GridLayer, Grids
from streams.intake.address import AddressBook
from streams.intake.locate import read_points

#: So near to a border (m) digitising and datum decide on which side of it a point lies: WGS-84 and the
#: plates' own systems are about so far apart.
BORDER_METRES = 1.0
#: How spreadsheets write a code that is a number.
_WHOLE = re.compile(r"\A(\d+)\.0+\Z")


def measure_points(points: Path, areas: Path, name: str) -> dict[str, Any]:
    """Counts, and the share of points with an expectation that lie in the expected area.

    ``border``: those with an expectation within :data:`BORDER_METRES` of a border, of which no rule can tell
    by the point alone what a city's clerks took them for; ``border_agreed``: of these.
    """
    layer = read_areas(areas, name)
    rows = [row for _, row in read_rows(points, ("id", "lon", "lat", "crs", "expected"))]
    given = [(row["lon"], row["lat"], row["crs"].upper().replace("-", "")) for row in rows]
    bounds = shapely.total_bounds(layer.polygons)
    reasons, lon, lat = read_points(given, TO_CGCS2000, bounds)
    found = layer.locate(lon, lat)
    codes = [layer.codes[i] if i >= 0 else "" for i in found]
    expected = [_label(row["expected"]) for row in rows]
    border = _near_border(layer, lon, lat).tolist()
    told = [(a == b, near) for a, b, near in zip(codes, expected, border, strict=True) if b]
    agreed = sum(right for right, _ in told)
    taken = reasons.count("")
    located = int((found >= 0).sum())
    return {
        "points": len(rows),
        "located": located,
        "unlocated": taken - located,
        "rejected": len(rows) - taken,
        "agreement": round(agreed / len(told), 4) if told else None,
        "expected": len(told),
        "agreed": agreed,
        "border": sum(near for _, near in told),
        "border_agreed": sum(right and near for right, near in told),
    }


def _label(value: Any) -> str:
    """An area's name as text; a number without the decimals that a spreadsheet gave it."""
    text = "" if value is None else str(value).strip()
    whole = _WHOLE.match(text)
    return whole[1] if whole else text


def _near_border(layer: GridLayer, lon: Floats, lat: Floats) -> npt.NDArray[np.bool_]:
    """Which points lie within :data:`BORDER_METRES` of a border."""
    near = np.zeros(len(lon), dtype=np.bool_)
    known = np.flatnonzero(np.isfinite(lon) & np.isfinite(lat))
    if not len(known):
        return near
    flat = np.array([np.cos(np.radians(lat[known].mean())), 1.0])
    borders = shapely.boundary(shapely.transform(layer.polygons, lambda xy: xy * flat))
    points = np.asarray(shapely.points(lon[known] * flat[0], lat[known]))
    within = BORDER_METRES / METRES_PER_DEGREE
    near[known[shapely.STRtree(borders).query(points, "dwithin", distance=within)[0]]] = True
    return near


def read_areas(path: Path, name: str) -> GridLayer:
    """Polygons by a property's value, repaired when they cross themselves.

    :class:`QuanyuError` names the feature that is none, and coordinates that are no degrees.
    """
    try:
        features = json.loads(path.read_text(encoding="utf-8"))["features"]
    except OSError as error:
        raise QuanyuError(f"{path}: not readable ({error.strerror})") from None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise QuanyuError(f"{path}: not a GeoJSON FeatureCollection in UTF-8") from None
    if not isinstance(features, list) or not features:
        raise QuanyuError(f"{path}: there is no feature in it")
    # One area may come in several features; a code stands once in a layer.
    by_code: dict[str, list[Any]] = {}
    for number, feature in enumerate(features):
        where = f"{path}: feature {number + 1}"
        try:
            value = feature["properties"][name]
        except (KeyError, TypeError):
            raise QuanyuError(f"{where}: no property {name!r}; see --name") from None
        try:
            shape = shapely.geometry.shape(feature["geometry"])
            shape = shapely.make_valid(shape)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, ShapelyError):
            raise QuanyuError(f"{where}: its geometry is no polygon") from None
        # Repair leaves lines and points where a border ran back on itself.
        kept = [
            p
            for part in shapely.get_parts(shape)
            for p in shapely.get_parts(part)
            if p.geom_type == "Polygon" and not p.is_empty
        ]
        if not kept:
            raise QuanyuError(f"{where}: its geometry is no polygon, or an empty one")
        polygon = shapely.union_all(kept)
        west, south, east, north = polygon.bounds
        if west < -180 or east > 180 or south < -90 or north > 90:
            raise QuanyuError(f"{where}: coordinates are no degrees; write the areas in WGS-84")
        by_code.setdefault(_label(value), []).append(polygon)
    array = np.empty(len(by_code), dtype=object)
    array[:] = [shapely.union_all(parts) for parts in by_code.values()]
    return GridLayer([Grid(code, code, "area", date(1970, 1, 1)) for code in by_code], array)


def measure_addresses(queries: Path, city_name: str) -> dict[str, Any]:
    """Shares of the queries that expect a district or street, and the counts behind them."""
    city = load_city(city_name)
    rows = [row for _, row in read_rows(queries, ("text", "district", "street"))]
    # Generated names decide no street, so that nothing has to be built for this.
    book = AddressBook(city, Grids(city.shipped).names("compound"))
    districts = districts_right = streets = right = wrong = review = 0
    for row in rows:
        found = book.parse(row["text"])
        review += not found.street
        if row["district"]:
            districts += 1
            districts_right += _is_district(city, book, found.grid, row["district"])
        if row["street"]:
            streets += 1
            hit = bool(found.street) and _is_street(city, book, found.street, row)
            right += hit
            wrong += bool(found.street) and not hit
    return {
        "queries": len(rows),
        "district_correct": _share(districts_right, districts),
        "street_correct": _share(right, streets),
        "street_wrong": _share(wrong, streets),
        "review": _share(review, len(rows)),
        "districts_expected": districts,
        "districts_right": districts_right,
        "streets_expected": streets,
        "streets_right": right,
        "streets_wrong": wrong,
        "reviews": review,
    }


def _is_district(city: CityPack, book: AddressBook, grid: str, expected: str) -> bool:
    """By code or any of its names; a zone without a code of its own by its streets."""
    if not grid:
        return False
    if expected.isdigit():
        return grid.startswith(expected)
    if city.district_name(grid[:6]) == expected:
        return True
    return grid.startswith(tuple(book.district_codes(expected)))


def _is_street(city: CityPack, book: AddressBook, street: str, row: dict[str, str]) -> bool:
    """By code, or by name; a name that stands in two districts counts in the expected one only."""
    if row["street"].isdigit():
        return street == row["street"]
    if street not in book.street_codes(row["street"]):
        return False
    return not row["district"] or _is_district(city, book, street, row["district"])


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 4) if whole else None
