"""The grids of a city: five geographic levels and the special grids laid over them.

Codes are prefixes of each other (domain practice after GB/T 30428.1 and CJ/T 349): district 6 digits,
street 9, community 12, compound 15, micro 18; a special grid (专属网格) is ``<community>Z<3>``. So a
roll-up is a prefix and a point is located once, at the finest level. Every grid is valid in
``[valid_from, valid_to)``; history keeps the grid that was valid then.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import shapely
from shapely.errors import ShapelyError

from schemas.errors import QuanyuError

#: Coarse to fine; the value is the length of the level's code.
LEVELS = {"district": 6, "street": 9, "community": 12, "compound": 15, "micro": 18}
SPECIAL = "special"
SPECIAL_CODE = re.compile(r"\A\d{12}Z\d{3}\Z")

#: Metres per degree of latitude; longitude is scaled by the cosine of the city's latitude.
METRES_PER_DEGREE = 111_320.0
#: A point this far outside every grid is put into the nearest one: digitised borders are not surveyed
#: better than this, and the simplified outer border of a pack is worse.
SNAP_METRES = 15.0

Codes = npt.NDArray[np.str_]
Floats = npt.NDArray[np.float64]
Days = npt.NDArray[np.datetime64]
Polygons = npt.NDArray[np.object_]

_NONE = np.iinfo(np.int64).max


def is_code(code: str, level: str) -> bool:
    """Whether a code is written as those of the level are."""
    if level == SPECIAL:
        return SPECIAL_CODE.match(code) is not None
    return len(code) == LEVELS[level] and code.isascii() and code.isdigit()


def level_of(code: str) -> str:
    """Level of a grid's code; empty when it is none."""
    return next((level for level in (*LEVELS, SPECIAL) if is_code(code, level)), "")


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
    """The grids of one level with their polygons (CGCS2000), ready to locate points in batches.

    Sorted by code. A code may stand more than once when its validities do not overlap.
    """

    def __init__(self, grids: Sequence[Grid], polygons: Polygons) -> None:
        order = sorted(range(len(grids)), key=lambda i: (grids[i].code, grids[i].valid_from))
        grids = [grids[i] for i in order]
        self._set(
            grids[0].level if grids else "",
            np.array([grid.code for grid in grids], dtype=np.str_),
            [grid.name for grid in grids],
            np.array([grid.valid_from for grid in grids], dtype="datetime64[D]"),
            np.array([grid.valid_to for grid in grids], dtype="datetime64[D]"),
            np.array([grid.synthetic for grid in grids], dtype=np.bool_),
            polygons[order],
        )

    @classmethod
    def of_columns(
        cls,
        level: str,
        codes: Codes,
        names: list[str],
        valid_from: Days,
        valid_to: Days,
        synthetic: npt.NDArray[np.bool_],
        polygons: Polygons,
    ) -> "GridLayer":
        """A layer of columns that are sorted by code; ``valid_to`` is NaT where there is no end."""
        layer = cls.__new__(cls)
        layer._set(level, codes, names, valid_from, valid_to, synthetic, polygons)
        return layer

    def _set(
        self,
        level: str,
        codes: Codes,
        names: list[str],
        valid_from: Days,
        valid_to: Days,
        synthetic: npt.NDArray[np.bool_],
        polygons: Polygons,
    ) -> None:
        self.level = level
        self.codes = codes
        self.names = names
        self.valid_from = valid_from
        self.valid_to = valid_to
        self.synthetic = synthetic
        self.polygons = polygons

    def __len__(self) -> int:
        return len(self.codes)

    @cached_property
    def grids(self) -> list[Grid]:
        """The same as objects, in the order of the columns."""
        columns = zip(
            self.codes.tolist(),
            self.names,
            self.valid_from.tolist(),
            self.valid_to.tolist(),
            self.synthetic.tolist(),
            strict=True,
        )
        return [Grid(code, name, self.level, *rest) for code, name, *rest in columns]

    @cached_property
    def _tree(self) -> shapely.STRtree:
        return shapely.STRtree(self.polygons)

    @cached_property
    def versioned(self) -> bool:
        """Whether the day matters: the grids are not all valid from one day on for ever."""
        return len(np.unique(self.valid_from)) > 1 or not np.isnat(self.valid_to).all()

    def on(self, day: date) -> "GridLayer":
        """The grids that are valid on a day; before the layer's first day those of the first."""
        when = np.datetime64(day, "D")
        if len(self):
            when = max(when, self.valid_from.min())
        return self.where(
            (self.valid_from <= when) & (np.isnat(self.valid_to) | (when < self.valid_to))
        )

    def where(self, kept: npt.NDArray[np.bool_]) -> "GridLayer":
        """The grids that a mask keeps, in order."""
        return GridLayer.of_columns(
            self.level,
            self.codes[kept],
            [self.names[i] for i in np.flatnonzero(kept)],
            self.valid_from[kept],
            self.valid_to[kept],
            self.synthetic[kept],
            self.polygons[kept],
        )

    def locate(
        self, lon: Floats, lat: Floats, days: Days | None = None, snap: bool = True
    ) -> npt.NDArray[np.int64]:
        """Index of the grid of each point, -1 for none.

        A point on a border belongs to the grid with the lowest code, whichever side it was digitised
        from: the one border rule. With ``snap`` a point up to :data:`SNAP_METRES` outside every grid
        belongs to the nearest. Coordinates are CGCS2000 degrees; NaN gives -1. Only grids valid on a
        point's day count; a day before the layer's first is its first, and without ``days`` the grids
        count that have not ended.
        """
        found = np.full(len(lon), _NONE, dtype=np.int64)
        points = np.asarray(shapely.points(lon, lat))
        which, index = self._valid(self._tree.query(points, predicate="intersects"), days)
        # Grids are sorted by code, so the lowest index is the lowest code.
        np.minimum.at(found, which, index)
        if snap:
            missing = np.flatnonzero((found == _NONE) & np.isfinite(lon) & np.isfinite(lat))
            if len(missing):
                near = self._tree.query(
                    points[missing], "dwithin", distance=SNAP_METRES / METRES_PER_DEGREE
                )
                which, index = self._valid(near, None if days is None else days[missing])
                away = shapely.distance(points[missing[which]], self.polygons[index])
                # Backwards, so that of a point's candidates the nearest is written last.
                order = np.lexsort((index, away))[::-1]
                found[missing[which[order]]] = index[order]
        found[found == _NONE] = -1
        return found

    def _valid(self, pairs: npt.NDArray[np.int64], days: Days | None) -> npt.NDArray[np.int64]:
        """Of the pairs (point, grid), as two rows, those that are valid on the point's day."""
        if not self.versioned:
            return pairs
        which, index = pairs
        until = self.valid_to[index]
        if days is None:
            kept = np.isnat(until)
        else:
            day = np.maximum(days, self.valid_from.min())[which]
            kept = (self.valid_from[index] <= day) & (np.isnat(until) | (day < until))
        return pairs[:, kept]


class Grids:
    """All levels of one city, each read when it is first asked for."""

    def __init__(self, files: Mapping[str, Path], whole_from: str = "") -> None:
        """``files``: level → GeoJSON or parquet. ``whole_from``: from this level down every grid is
        divided without a gap, so that only the finest of them has to be searched."""
        self._files = files
        self._layers: dict[str, GridLayer] = {}
        self.levels = tuple(level for level in LEVELS if level in files)
        geographic = list(reversed(self.levels))
        if whole_from:
            geographic = [geographic[0], *(v for v in geographic if LEVELS[v] < LEVELS[whole_from])]
        self._searched = geographic

    @property
    def finest(self) -> str:
        """The finest geographic level that the city has."""
        return self.levels[-1]

    @property
    def has_special(self) -> bool:
        """Whether there are special grids."""
        return SPECIAL in self._files

    def layer(self, level: str) -> GridLayer:
        """The grids of a level; :class:`QuanyuError` when the city has none."""
        layer = self._layers.get(level)
        if layer is None:
            path = self._files.get(level)
            if path is None:
                raise QuanyuError(
                    f"no grids of the level {level!r}; there are {', '.join(self._files)}"
                )
            layer = read_table(path) if path.suffix == ".parquet" else read_layer(path, level)
            self._layers[level] = layer
        return layer

    def names(self, level: str) -> list[tuple[str, str, bool]]:
        """Code, name and ``synthetic`` of the grids of a level that have not ended, sorted by code.

        Empty when the city has none; of a table no polygon is read.
        """
        path = self._files.get(level)
        if path is None:
            return []
        if level not in self._layers and path.suffix == ".parquet":
            columns = _read(path, ["code", "name", "synthetic", "valid_to"])
            codes, names, synthetic, until = (c.to_pylist() for c in columns.columns)
        else:
            layer = self.layer(level)
            codes, names = layer.codes.tolist(), layer.names
            synthetic, until = layer.synthetic.tolist(), layer.valid_to.tolist()
        rows = zip(codes, names, synthetic, until, strict=True)
        return [(code, name, made) for code, name, made, end in rows if end is None]

    @cached_property
    def _overlaid(self) -> list[GridLayer]:
        special = [self.layer(SPECIAL)] if self.has_special else []
        return special + [self.layer(level) for level in self._searched]

    @property
    def versioned(self) -> bool:
        """Whether the day matters to :meth:`locate`."""
        return any(layer.versioned for layer in self._overlaid)

    def districts(self) -> list[str]:
        """Codes of the districts that the searched grids lie in; reads those layers."""
        cut = LEVELS["district"]
        found = {code[:cut] for layer in self._overlaid for code in layer.codes.tolist()}
        return sorted(found)

    def locate(self, lon: Floats, lat: Floats, days: Days | None = None) -> Codes:
        """Code of the grid of each point, empty for none.

        A special grid goes before geography; else the finest level that holds the point (属地兜底: a
        point in a gap of a fine level belongs to the next coarser grid), there the lowest code; else
        the nearest grid within the snap. ``days`` as in :meth:`GridLayer.locate`.
        """
        codes: Codes = np.full(len(lon), "", dtype="<U18")
        for snap in (False, True):
            for layer in self._overlaid:
                if snap and layer.level == SPECIAL:
                    continue
                pending = np.flatnonzero(codes == "")
                if not len(pending):
                    return codes
                day = None if days is None else days[pending]
                found = layer.locate(lon[pending], lat[pending], day, snap)
                hit = found >= 0
                codes[pending[hit]] = layer.codes[found[hit]]
        return codes


def write_table(path: Path, layer: GridLayer) -> None:
    """Write a layer as parquet (polygons as WKB); the same layer gives the same bytes."""
    table = pa.table(
        {
            "code": pa.array(layer.codes.tolist(), pa.string()),
            "name": pa.array(layer.names, pa.string()),
            "valid_from": pa.array(layer.valid_from, pa.date32()),
            "valid_to": pa.array(layer.valid_to, pa.date32()),
            "synthetic": pa.array(layer.synthetic, pa.bool_()),
            # The name and encoding that GeoParquet 1.0 takes for granted.
            "geometry": pa.array(shapely.to_wkb(layer.polygons, byte_order=1), pa.binary()),
        },
        metadata={"level": layer.level},
    )
    pq.write_table(table, path, compression="zstd")


def read_table(path: Path) -> GridLayer:
    """Read what :func:`write_table` wrote; :class:`QuanyuError` when the file is gone or damaged."""
    table = _read(path)
    try:
        # By way of lists: to_numpy would import pandas, a quarter of a second of each part's start.
        return GridLayer.of_columns(
            table.schema.metadata[b"level"].decode(),
            np.array(table["code"].to_pylist(), np.str_),
            table["name"].to_pylist(),
            _days(table["valid_from"]),
            _days(table["valid_to"]),
            np.array(table["synthetic"].to_pylist(), np.bool_),
            shapely.from_wkb(table["geometry"].to_pylist()),
        )
    except (KeyError, TypeError, ShapelyError) as error:
        raise _damaged(path, error) from None


def _days(column: pa.ChunkedArray) -> Days:
    """A column of dates, NaT for none."""
    numbers = column.combine_chunks().view(pa.int32()).to_pylist()
    none = np.iinfo(np.int64).min
    return np.array([none if day is None else day for day in numbers], np.int64).view(
        "datetime64[D]"
    )


def _read(path: Path, columns: list[str] | None = None) -> pa.Table:
    try:
        # read_table would import pandas, too.
        with pq.ParquetFile(path) as file:
            return file.read(columns)
    except (OSError, pa.ArrowException) as error:
        raise _damaged(path, error) from None


def _damaged(path: Path, error: Exception) -> QuanyuError:
    return QuanyuError(
        f"{path}: not readable ({error}); remove its folder and run: quanyu city build"
    )


def write_layer(path: Path, grids: Iterable[Grid], polygons: Polygons) -> None:
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
                f"{where}: {type(error).__name__} {error}; see deploy/cities/README.md"
            ) from None
        if not is_code(code, level):
            form = (
                f"{LEVELS[level]} digits" if level in LEVELS else "a community's code, Z, 3 digits"
            )
            raise QuanyuError(f"{where}: code {code!r} of a {level} needs {form}")
        if not _ordered(grids[-1]):
            raise QuanyuError(f"{where}: {code}: valid_to must come after valid_from")
        if (
            polygon.is_empty
            or not polygon.is_valid
            or polygon.geom_type not in ("Polygon", "MultiPolygon")
        ):
            raise QuanyuError(
                f"{where}: {code} is not a valid polygon ({shapely.is_valid_reason(polygon)}); repair it first"
            )
        polygons.append(polygon)
    array = np.empty(len(polygons), dtype=object)
    array[:] = polygons
    layer = GridLayer(grids, array)
    for earlier, later in zip(layer.grids, layer.grids[1:], strict=False):
        if earlier.code == later.code and (
            earlier.valid_to is None or later.valid_from < earlier.valid_to
        ):
            raise QuanyuError(f"{path}: {later.code}: a code stands twice at the same time")
    return layer


def _ordered(grid: Grid) -> bool:
    return grid.valid_to is None or grid.valid_from < grid.valid_to


def _features(path: Path) -> Iterator[dict[str, Any]]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        yield from document["features"]
    except FileNotFoundError:
        raise QuanyuError(f"{path} is missing; see deploy/cities/README.md") from None
    except (ValueError, KeyError, TypeError) as error:
        raise QuanyuError(f"{path}: not a GeoJSON FeatureCollection ({error})") from None
