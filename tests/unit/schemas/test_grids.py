"""A point lies in one grid: the border rule, the snap, and layers that are refused by feature."""

import json
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.city import CityPack
from schemas.errors import QuanyuError
from schemas.grids import (
    METRES_PER_DEGREE,
    SNAP_METRES,
    Grid,
    GridLayer,
    Grids,
    read_layer,
    write_layer,
    write_table,
)
from tests.unit.tiny_city import EAST, IN_EAST, IN_NORTH, IN_WEST, NORTH, WEST, at, feature, square


def codes(layer: GridLayer, *points: tuple[float, float]) -> list[str]:
    return [layer.grids[i].code if i >= 0 else "" for i in layer.locate(*at(*points)).tolist()]


def test_each_point_is_in_its_district_and_none_elsewhere(city: CityPack) -> None:
    found = codes(city.districts, IN_EAST, IN_WEST, (25.0, 50.0), IN_NORTH)
    assert found == [EAST, WEST, "", NORTH]


@pytest.mark.parametrize(
    ("point", "code"),
    [((20.1, 50.05), EAST), ((20.05, 50.1), WEST), ((20.1, 50.1), EAST)],
    ids=["two districts", "west and north", "corner of three"],
)
def test_a_border_point_goes_to_the_lowest_code(
    city: CityPack, point: tuple[float, float], code: str
) -> None:
    assert codes(city.districts, point) == [code]


def test_the_border_rule_does_not_depend_on_the_order_of_the_file(city: CityPack) -> None:
    layer = city.districts
    turned = GridLayer(layer.grids[::-1], layer.polygons[::-1])
    assert codes(turned, (20.1, 50.05), (20.1, 50.1)) == [EAST, EAST]


def test_a_point_just_outside_snaps_to_the_nearest_and_no_further(city: CityPack) -> None:
    near, far = (SNAP_METRES - 1) / METRES_PER_DEGREE, (SNAP_METRES + 1) / METRES_PER_DEGREE
    assert codes(city.districts, (20.15, 50.0 - near), (20.15, 50.0 - far)) == [EAST, ""]


def test_no_number_is_no_place(city: CityPack) -> None:
    nan, inf = float("nan"), float("inf")
    assert codes(city.districts, (nan, nan), (nan, 50.05), (inf, 50.05), IN_EAST) == [
        "", "", "", EAST,
    ]  # fmt: skip


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(points=st.lists(st.tuples(st.floats(19.9, 20.3), st.floats(49.9, 50.3)), min_size=1))
def test_a_batch_is_its_points_one_by_one(
    city: CityPack, points: list[tuple[float, float]]
) -> None:
    alone = [codes(city.districts, point)[0] for point in points]
    assert codes(city.districts, *points) == alone


def test_a_layer_written_is_the_layer_read_and_the_same_bytes(tmp_path: Path) -> None:
    grids = [
        Grid("990102", "甲", "district", date(2020, 1, 1), date(2026, 1, 1), synthetic=True),
        Grid("990103", "乙", "district", date(2020, 1, 1)),
    ]
    polygons = np.array([shapely.box(0, 0, 1, 1), shapely.box(1, 0, 2, 1)], dtype=object)
    write_layer(tmp_path / "one", grids, polygons)
    layer = read_layer(tmp_path / "one", "district")
    assert layer.grids == grids
    assert shapely.equals(layer.polygons, polygons).all()
    write_layer(tmp_path / "two", layer.grids, layer.polygons)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_names_are_those_in_force_with_and_without_polygons_read(tmp_path: Path) -> None:
    grids = [
        Grid("990102", "甲", "district", date(2020, 1, 1), date(2026, 1, 1)),
        Grid("990103", "乙", "district", date(2020, 1, 1), synthetic=True),
    ]
    polygons = np.array([shapely.box(0, 0, 1, 1), shapely.box(1, 0, 2, 1)], dtype=object)
    write_layer(tmp_path / "a.geojson", grids, polygons)
    write_table(tmp_path / "a.parquet", GridLayer(grids, polygons))
    for name in ("a.geojson", "a.parquet"):
        city_grids = Grids({"district": tmp_path / name})
        assert city_grids.names("district") == [("990103", "乙", True)]
        assert city_grids.names("compound") == []
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    with pytest.raises(QuanyuError, match=r"a\.parquet: not readable"):
        Grids({"district": tmp_path / "a.parquet"}).names("district")


GOOD = feature("990102", "甲", square(0.0, 0.0))
BOW = {"type": "Polygon", "coordinates": [[[0, 0], [1, 1], [1, 0], [0, 1], [0, 0]]]}


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ([GOOD, {"type": "Feature"}], "feature 2: KeyError"),
        ([GOOD, feature("99010", "乙", square(1.0, 0.0))], "feature 2: code '99010' .* 6 digits"),
        ([GOOD, feature("990103", "乙", BOW)], "feature 2: 990103 is not a valid polygon"),
        ([GOOD, feature("990103", "乙", {"type": "Point", "coordinates": [0, 0]})], "feature 2"),
        ([GOOD, feature("990103", "乙", {"type": "Nonsense"})], "feature 2"),
        ([GOOD, feature("990103", "乙", {"type": "Polygon", "coordinates": [[[0, 0]]]})], "feature 2"),
        ([GOOD, feature("990103", "乙", {"type": "Polygon", "coordinates": []})], "feature 2"),
        ([GOOD, GOOD], "a code stands twice"),
        (7, "not a GeoJSON FeatureCollection"),
    ],
)  # fmt: skip
def test_a_layer_that_is_wrong_is_refused_by_file_and_feature(
    tmp_path: Path, features: Any, message: str
) -> None:
    path = tmp_path / "layer.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    with pytest.raises(QuanyuError, match=message) as caught:
        read_layer(path, "district")
    assert "layer.geojson" in str(caught.value)


@pytest.mark.parametrize("content", [None, b"{", b"[]", b"\xff\xfe"])
def test_a_file_that_is_no_layer_is_refused_by_name(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "layer.geojson"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(QuanyuError, match=r"layer\.geojson"):
        read_layer(path, "district")
