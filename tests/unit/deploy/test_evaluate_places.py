"""Measuring places: every point is located, unlocated or rejected, and bad input is one sentence."""

import json
from pathlib import Path
from typing import Any

import pytest

from deploy.evaluate_places import measure_addresses, measure_points
from schemas.errors import QuanyuError

SQUARE = [[10, 50], [10.1, 50], [10.1, 50.1], [10, 50.1], [10, 50]]
POINTS = """id,lon,lat,crs,expected,note
1,10.0211,50.0211,WGS84,a,inside
2,0,0,WGS84,,null island
3,NaN,NaN,WGS84,a,no number
4,10.02,50.02,WGS84,a,rounded
5,10.10001,50.0211,wgs-84,a,a metre outside
6,12.0211,50.0211,WGS84,,far outside
7,0.0001,90.0,BD09,,at the pole
8
"""


def areas(folder: Path, geometry: Any) -> Path:
    feature = {"type": "Feature", "properties": {"n": "a"}, "geometry": geometry}
    path = folder / "areas.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    return path


def test_every_point_is_counted_once_and_agreement_is_over_all_that_expect(tmp_path: Path) -> None:
    points = tmp_path / "points.csv"
    points.write_text(POINTS)
    result = measure_points(
        points, areas(tmp_path, {"type": "Polygon", "coordinates": [SQUARE]}), "n"
    )
    assert result["points"] == 8
    assert (result["located"], result["unlocated"], result["rejected"]) == (2, 2, 4)
    assert (result["agreed"], result["expected"], result["agreement"]) == (2, 4, 0.5)
    # The point a metre outside, whose metres of longitude are shorter here.
    assert (result["border"], result["border_agreed"]) == (1, 1)


@pytest.mark.parametrize(
    ("geometry", "word"),
    [
        (None, "no polygon"),
        ({"type": "Point", "coordinates": [1, 2]}, "no polygon"),
        ({"type": "Polygon", "coordinates": []}, "no polygon"),
        ({"type": "Polygon", "coordinates": [[["x", 2], [3, 4], [1, 1], ["x", 2]]]}, "no polygon"),
        (
            {"type": "Polygon", "coordinates": [[[5e5, 4e6], [6e5, 4e6], [6e5, 5e6], [5e5, 4e6]]]},
            "no degrees",
        ),
    ],
)
def test_an_area_that_is_none_names_its_feature(tmp_path: Path, geometry: Any, word: str) -> None:
    points = tmp_path / "points.csv"
    points.write_text(POINTS)
    with pytest.raises(QuanyuError, match=f"feature 1: .*{word}"):
        measure_points(points, areas(tmp_path, geometry), "n")


def test_a_code_is_one_whether_text_or_number(tmp_path: Path) -> None:
    points = tmp_path / "points.csv"
    points.write_text("id,lon,lat,crs,expected\n1,10.0211,50.0211,WGS84, 10001.0\n")
    path = areas(tmp_path, {"type": "Polygon", "coordinates": [SQUARE]})
    for number in ("10001", "10001.0", '"10001"'):
        text = path.read_text().replace('"n": "a"', f'"n": {number}')
        (tmp_path / "numbered.geojson").write_text(text)
        assert measure_points(points, tmp_path / "numbered.geojson", "n")["agreement"] == 1.0


@pytest.mark.parametrize(
    "row", ["1,NaN,NaN,WGS84,a", "1,0.0,90.0,WGS84,a", "1,180.0,-90.0,GCJ02,a", "1,,,,a"]
)
def test_poles_and_what_is_no_number_are_in_no_area(tmp_path: Path, row: str) -> None:
    points = tmp_path / "points.csv"
    points.write_text(f"id,lon,lat,crs,expected\n{row}\n")
    result = measure_points(
        points, areas(tmp_path, {"type": "Polygon", "coordinates": [SQUARE]}), "n"
    )
    assert (result["located"], result["agreement"]) == (0, 0.0)


def test_a_point_where_areas_overlap_is_in_the_lowest_code_in_any_order(tmp_path: Path) -> None:
    points = tmp_path / "points.csv"
    points.write_text("id,lon,lat,crs,expected\n1,10.0211,50.0211,WGS84,a\n")
    layer = json.loads(areas(tmp_path, {"type": "Polygon", "coordinates": [SQUARE]}).read_text())
    layer["features"].append({**layer["features"][0], "properties": {"n": "b"}})
    for features in (layer["features"], layer["features"][::-1]):
        path = tmp_path / "overlap.geojson"
        path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
        assert measure_points(points, path, "n")["agreement"] == 1.0


def test_an_area_that_crosses_itself_is_repaired(tmp_path: Path) -> None:
    points = tmp_path / "points.csv"
    points.write_text("id,lon,lat,crs,expected\n1,10.0112,50.0501,WGS84,a\n")
    bow = [[10, 50], [10.1, 50.1], [10.1, 50], [10, 50.1], [10, 50]]
    result = measure_points(points, areas(tmp_path, {"type": "Polygon", "coordinates": [bow]}), "n")
    assert result["agreement"] == 1.0


def test_an_address_without_an_expectation_counts_as_a_query_only(tmp_path: Path) -> None:
    queries = tmp_path / "queries.csv"
    queries.write_text(
        "text,district,street\n😀,,\n金水区花园路街道,金水区,花园路街道\n"
        "郑东新区如意湖办事处,郑东新区,如意湖街道\n金水区农业路,金水区,\n",
        encoding="utf-8",
    )
    result = measure_addresses(queries, "zhengzhou")
    assert (result["queries"], result["reviews"]) == (4, 2)
    assert (result["district_correct"], result["street_correct"], result["street_wrong"]) == (
        1,
        1,
        0,
    )


def test_a_file_without_its_columns_says_which(tmp_path: Path) -> None:
    queries = tmp_path / "queries.csv"
    queries.write_text("text,street\n")
    with pytest.raises(QuanyuError, match="column district is missing"):
        measure_addresses(queries, "zhengzhou")
