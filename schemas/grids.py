"""The grids of a city: five geographic levels and the special grids laid over them.

Codes are prefixes of each other (domain practice after GB/T 30428.1 and CJ/T 349): district 6 digits,
street 9, community 12, compound 15, micro 18; a special grid (专属网格) is ``<community>Z<3>``. So a
roll-up is a prefix and a point is located once, at the finest level. Every grid is valid in
``[valid_from, valid_to)``; history keeps the grid that was valid then.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import shapely
from shapely.errors import ShapelyError

from schemas.errors import QuanyuError

#: Coarse to fine; the value is the length of the level's code.
LEVELS = {"district": 6, "street": 9, "community": 12, "compound": 15, "micro": 18}
SPECIAL = "special"

#: Metres per degree of latitude; longitude is scaled by the cosine of the city's latitude.
METRES_PER_DEGREE = 111_320.0
#: A point this far outside every grid is put into the nearest one: digitised borders are not surveyed
#: better than this, and the simplified outer border of a pack is worse.
SNAP_METRES = 15.0

Codes = npt.NDArray[np.str_]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Grid:
    """One grid: code, name, level, validity; ``synthetic`` when its border or name was generated."""

    code: str
    name: str
    level: str
    valid_from: date
    valid_to: date | None = None
    synthetic: bool = False


class GridLayer:
    """The grids of one level with their polygons (CGCS2000), ready to locate points in batches."""

    def __init__(self, grids: Sequence[Grid], polygons: npt.NDArray[np.object_]) -> None:
        order = sorted(range(len(grids)), key=lambda i: grids[i].code)
        self.grids = [grids[i] for i in order]
        self.polygons = polygons[order]
        self.codes: Codes = np.array([grid.code for grid in self.grids])
        shapely.prepare(self.polygons)
        self._tree = shapely.STRtree(self.polygons)

    def __len__(self) -> int:
        return len(self.grids)

    def locate(self, lon: Floats, lat: Floats) -> npt.NDArray[np.int64]:
        """Index of the grid of each point, -1 for none.

        A point on a border belongs to the grid with the lowest code, whichever side it was digitised
        from: the one border rule. A point up to :data:`SNAP_METRES` outside every grid belongs to the
        nearest. Coordinates are CGCS2000 degrees; NaN gives -1.
        """
        found = np.full(len(lon), np.iinfo(np.int64).max, dtype=np.int64)
        points = np.asarray(shapely.points(lon, lat))
        which, index = self._tree.query(points, predicate="intersects")
        # Grids are sorted by code, so the lowest index is the lowest code.
        np.minimum.at(found, which, index)
        found[found == np.iinfo(np.int64).max] = -1
        missing = np.flatnonzero((found < 0) & np.isfinite(lon) & np.isfinite(lat))
        if len(missing):
            which, index = self._tree.query_nearest(
                points[missing], max_distance=SNAP_METRES / METRES_PER_DEGREE, all_matches=True
            )
            nearest = np.full(len(missing), np.iinfo(np.int64).max, dtype=np.int64)
            np.minimum.at(nearest, which, index)
            nearest[nearest == np.iinfo(np.int64).max] = -1
            found[missing] = nearest
        return found


def write_layer(path: Path, grids: Iterable[Grid], polygons: npt.NDArray[np.object_]) -> None:
    """Write a layer as GeoJSON, one feature a line; the same layer gives the same bytes."""
    with path.open("w", encoding="utf-8", newline="\n") as out:
        out.write('{"type":"FeatureCollection","features":[\n')
        for number, (grid, polygon) in enumerate(zip(grids, polygons, strict=True)):
            properties = {
                "code": grid.code,
                "name": grid.name,
                "valid_from": grid.valid_from.isoformat(),
                "valid_to": grid.valid_to.isoformat() if grid.valid_to else None,
                "synthetic": grid.synthetic,
            }
            head = json.dumps(properties, ensure_ascii=False, separators=(",", ":"))
            comma = ",\n" if number else ""
            out.write(
                f'{comma}{{"type":"Feature","properties":{head},"geometry":{shapely.to_geojson(polygon)}}}'
            )
        out.write("\n]}\n")


def read_layer(path: Path, level: str) -> GridLayer:
    """Read a layer; :class:`QuanyuError` names the file and the feature at fault."""
    grids: list[Grid] = []
    polygons: list[Any] = []
    for number, feature in enumerate(_features(path)):
        where = f"{path}: feature {number + 1}"
        try:
            properties = feature["properties"]
            code = str(properties["code"])
            grids.append(
                Grid(
                    code,
                    str(properties["name"]),
                    level,
                    date.fromisoformat(properties["valid_from"]),
                    date.fromisoformat(properties["valid_to"])
                    if properties.get("valid_to")
                    else None,
                    bool(properties.get("synthetic", False)),
                )
            )
            polygon = shapely.geometry.shape(feature["geometry"])
        except (KeyError, TypeError, ValueError, AttributeError, ShapelyError) as error:
            raise QuanyuError(
                f"{where}: {type(error).__name__} {error}; see deploy/README.md"
            ) from None
        if level in LEVELS and len(code) != LEVELS[level]:
            raise QuanyuError(f"{where}: code {code!r} of a {level} needs {LEVELS[level]} digits")
        if (
            polygon.is_empty
            or not polygon.is_valid
            or polygon.geom_type not in ("Polygon", "MultiPolygon")
        ):
            raise QuanyuError(
                f"{where}: {code} is not a valid polygon ({shapely.is_valid_reason(polygon)}); repair it first"
            )
        polygons.append(polygon)
    if len({grid.code for grid in grids}) != len(grids):
        raise QuanyuError(f"{path}: a code stands twice")
    array = np.empty(len(polygons), dtype=object)
    array[:] = polygons
    return GridLayer(grids, array)


def _features(path: Path) -> Iterator[dict[str, Any]]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        yield from document["features"]
    except FileNotFoundError:
        raise QuanyuError(f"{path} is missing; see deploy/README.md") from None
    except (ValueError, KeyError, TypeError) as error:
        raise QuanyuError(f"{path}: not a GeoJSON FeatureCollection ({error})") from None
