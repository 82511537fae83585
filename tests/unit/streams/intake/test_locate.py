"""A place is a point of the pack's polygons or a unique name; everything else is a reason, never a guess."""

import json
from pathlib import Path

import numpy as np
import pytest
import shapely

from deploy.city_build import build
from schemas.city import CityPack, load_city
from schemas.coordinates import FROM_CGCS2000
from schemas.grids import METRES_PER_DEGREE
from streams.intake.locate import SCATTER_METRES, Located, Locator, Place, read_coordinate
from tests.unit.tiny_city import (
    EAST,
    HARBOUR,
    IN_EAST,
    IN_NORTH,
    IN_WEST,
    NORTH,
    WEST,
    write_city,
    write_whole_city,
)


@pytest.fixture
def locator(city: CityPack) -> Locator:
    return Locator(city)


def point(lon: str, lat: str, crs: str = "WGS84") -> Place:
    return Place(lon, lat, crs, "", "", ())


def named(district: str = "", street: str = "", *texts: str) -> Place:
    return Place("", "", "", district, street, texts)


@pytest.mark.parametrize("crs", ["WGS84", "CGCS2000", "GCJ02", "BD09"])
def test_one_place_in_every_system_is_one_point_of_the_city(locator: Locator, crs: str) -> None:
    x, y = FROM_CGCS2000[crs](np.array([IN_WEST[0]]), np.array([IN_WEST[1]]))
    (found,) = locator.locate([point(f"{x[0]:.9f}", f"{y[0]:.9f}", crs)])
    assert (found.district, found.zone, found.method, found.reason) == (WEST, "core", "point", "")
    assert found.lon == pytest.approx(IN_WEST[0], abs=1e-7)
    assert found.lat == pytest.approx(IN_WEST[1], abs=1e-7)


def test_a_point_on_the_border_goes_to_the_lowest_code(locator: Locator) -> None:
    (found,) = locator.locate([point("20.100", "50.0512")])
    assert found.district == EAST


@pytest.mark.parametrize(
    ("lon", "lat", "crs", "reason"),
    [
        ("0", "0", "WGS84", "null_island"),
        ("0.000000", "-0.0", "", "null_island"),
        ("25.0512", "50.0512", "WGS84", "outside_city"),
        ("50.0512", "20.0512", "WGS84", "outside_city"),
        ("20.0512", "50.0512", "", "unknown_crs"),
        ("20.0512", "50.0512", "LOCAL54", "unknown_crs"),
        ("20.05", "50.05", "WGS84", "rounded_point"),
        ("20.0500", "50", "WGS84", "rounded_point"),
        ("NaN", "NaN", "WGS84", "bad_coordinate"),
        ("inf", "50.0512", "WGS84", "bad_coordinate"),
        ("1" * 500, "50.0512", "WGS84", "bad_coordinate"),
        ("20.0512", "", "WGS84", "bad_coordinate"),
        ("东经20度", "50.0512", "WGS84", "bad_coordinate"),
        ("20_0.512", "50.0512", "WGS84", "bad_coordinate"),
        ("200.0512", "50.0512", "WGS84", "bad_coordinate"),
        ("20.0512", "95.0512", "GCJ02", "bad_coordinate"),
        ("20,0512", "50,0512", "WGS84", "bad_coordinate"),
    ],
)
def test_a_point_that_is_none_names_its_reason_and_gets_no_place(
    locator: Locator, lon: str, lat: str, crs: str, reason: str
) -> None:
    assert locator.locate([point(lon, lat, crs)]) == [Located(reason=reason)]


def reported(point: tuple[float, float], *said: str) -> Place:
    """A point with what is said beside it: district, street, address and more texts."""
    district, street, *texts = said
    return Place(str(point[0]), str(point[1]), "WGS84", district, street, tuple(texts))


@pytest.mark.parametrize(
    "said",
    [
        ("东湾区", "", ""),
        ("", "", "雨城东湾区长堤街道12号"),
        ("", "长堤街道", ""),
    ],
)
def test_a_point_and_a_name_that_contradict_each_other_go_to_review(
    locator: Locator, said: tuple[str, ...]
) -> None:
    (found,) = locator.locate([reported(IN_WEST, *said)])
    assert (found.reason, found.grid) == ("place_conflict", "")
    assert found.detail.startswith(f"point in {WEST}, named {EAST}")
    (found,) = locator.locate([reported(IN_EAST, *said)])
    assert (found.district, found.method) == (EAST, "point")


@pytest.mark.parametrize(
    ("point", "said"),
    [
        # Beside the border: nearer than borders and pins may be off.
        ((20.0975, 50.0512), ("东湾区", "", "")),
        # Another place only among the free texts, nothing, two places, two witnesses, a far one.
        (IN_WEST, ("", "", "", "东湾区来的人", "东湾区")),
        (IN_WEST, ("", "", "")),
        (IN_WEST, ("", "", "从东湾区到北原区")),
        (IN_WEST, ("东湾区", "长堤街道", "西山区磨坊街道")),
        (IN_WEST, ("", "", "同名街道")),
        (IN_WEST, ("", "", "东湾区长堤街道向西7公里")),
        # A district's name without its ending may be anything.
        (IN_WEST, ("", "", "东湾海鲜店门口")),
        # A named district that the street beside it repairs is no witness.
        (IN_NORTH, ("东湾区", "磨坊街道", "")),
    ],
)
def test_what_is_not_certain_contradicts_no_point(
    locator: Locator, point: tuple[float, float], said: tuple[str, ...]
) -> None:
    (found,) = locator.locate([reported(point, *said)])
    assert (found.method, found.reason) == ("point", "")


def test_a_zone_without_a_surveyed_border_contradicts_its_neighbours_never(tmp_path: Path) -> None:
    folder = write_city(tmp_path / "zones")
    layer = json.loads((folder / "districts.geojson").read_text(encoding="utf-8"))
    for part in layer["features"]:
        part["properties"]["synthetic"] = part["properties"]["code"] == NORTH
    (folder / "districts.geojson").write_text(json.dumps(layer), encoding="utf-8")
    locator = Locator(load_city(str(folder)))
    for point, name, conflict in (
        (IN_NORTH, "西山区", False),
        (IN_WEST, "北原区", False),
        (IN_WEST, "东湾区", True),
    ):
        (found,) = locator.locate([reported(point, name, "", "")])
        assert (found.reason == "place_conflict") is conflict


@pytest.fixture
def whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CityPack:
    """The tiny city with all levels, in which every community has a name of its own."""
    monkeypatch.setenv("QUANYU_CACHE", str(tmp_path / "cache"))
    folder = write_whole_city(tmp_path / "city")
    head, *lines = (folder / "communities.csv").read_text(encoding="utf-8").splitlines()
    for i, (line, name) in enumerate(zip(lines, "春夏秋冬梅兰竹菊松柏桃李", strict=True)):
        code, _, street = line.split(",")
        lines[i] = f"{code},{name}溪社区,{street}"
    (folder / "communities.csv").write_text("\n".join([head, *lines]), encoding="utf-8")
    city = load_city(str(folder))
    build(city)
    return city


def test_a_pin_just_over_the_border_of_what_is_named_belongs_where_the_name_says(
    whole: CityPack,
) -> None:
    layer = whole.grids.layer("community")
    names = dict(zip(layer.codes.tolist(), layer.names, strict=True))
    rng = np.random.default_rng(4)
    border = shapely.get_parts(shapely.boundary(layer.polygons))
    on = shapely.line_interpolate_point(border, rng.random(len(border)), normalized=True)
    step = rng.uniform(-0.5, 0.5, (len(on), 2)) * SCATTER_METRES / METRES_PER_DEGREE
    lon, lat = (shapely.get_coordinates(on) + step).T
    places, expected = [], []
    for x, y, code in zip(lon, lat, whole.grids.locate(lon, lat).tolist(), strict=True):
        near = layer.locate(np.array([x]), np.array([y]), snap=False)[0]
        away = shapely.distance(shapely.Point(x, y), layer.polygons) * METRES_PER_DEGREE
        for other in np.flatnonzero(away < 0.6 * SCATTER_METRES).tolist():
            if near >= 0:
                named = str(layer.codes[other])
                places.append(
                    Place(f"{x:.7f}", f"{y:.7f}", "WGS84", "", "", (names[named] + "3号楼",))
                )
                expected.append(code if code.startswith(named) else named)
    found = Locator(whole).locate(places)
    assert [place.grid for place in found] == expected
    assert {place.method for place in found} == {"point", "both"}
    assert all(place.lon is not None for place in found)


def test_a_point_that_lies_where_is_named_in_another_system_only_goes_to_review(
    whole: CityPack,
) -> None:
    city, layer = whole, whole.grids.layer("community")
    rng = np.random.default_rng(3)
    lon, lat = rng.uniform(20.0, 20.2, 400), rng.uniform(50.0, 50.1, 400)
    where = layer.locate(lon, lat)
    x, y = FROM_CGCS2000["GCJ02"](lon, lat)
    as_plain = layer.locate(x, y)
    places = [
        Place(f"{x[i]:.7f}", f"{y[i]:.7f}", crs, "", "", (layer.names[where[i]] + "3号楼",))
        for crs in ("GCJ02", "WGS84")
        for i in range(len(lon))
    ]
    results = Locator(city).locate(places)
    right, mistaken = results[: len(lon)], results[len(lon) :]
    assert {found.reason for found in right} == {""}
    away = shapely.distance(shapely.points(x, y), layer.polygons[where]) * METRES_PER_DEGREE
    far = (away > 1.6 * SCATTER_METRES).tolist()  # a degree of longitude is shorter there
    assert sum(far) > 5
    for i, found in enumerate(mistaken):
        if far[i]:
            assert found.reason in ("place_conflict", "outside_city")
        elif where[i] == as_plain[i]:
            assert found.reason == ""


def test_one_bad_point_spoils_no_other_of_its_batch(locator: Locator) -> None:
    good = point("20.0512", "50.0512")
    places = [good, point("NaN", "NaN"), named(), point("0", "0"), good, named("北原区")]
    alone = [locator.locate([place])[0] for place in places]
    assert locator.locate(places) == alone
    assert [place.district for place in alone] == [WEST, "", "", "", WEST, NORTH]


def test_an_empty_batch_is_no_error(locator: Locator) -> None:
    assert locator.locate([]) == []


@pytest.mark.parametrize(
    ("place", "district", "grid"),
    [
        (named("东湾区"), EAST, EAST),
        (named("新港"), HARBOUR, HARBOUR),
        (named("西山区", "磨坊街道"), WEST, "990103001"),
        (named("", "", "地址不详", "磨坊街道12号", ""), WEST, "990103001"),
        (named("", "", "北原区山口镇口"), NORTH, "990104001"),
        (named("", "", "磨坊街道到西山区政府"), WEST, "990103001"),
        (named("雨城以外", "", "码头街道"), HARBOUR, "990171001"),
        # Channels write more into a field than the name alone.
        (named("雨城市西山区"), WEST, WEST),
        (named("雨城市西山区", "磨坊街道办事处"), WEST, "990103001"),
        # Two streets of one district: only the district is certain.
        (named("", "", "长堤街道旁", "同名街道", "长堤街道"), EAST, "990102001"),
    ],
)
def test_a_unique_name_is_a_place(locator: Locator, place: Place, district: str, grid: str) -> None:
    (found,) = locator.locate([place])
    assert (found.district, found.grid, found.method) == (district, grid, "name")
    assert found.lon is None


def test_a_street_name_that_stands_twice_is_a_place_beside_its_district_only(
    locator: Locator,
) -> None:
    assert locator.locate([named("", "同名街道")]) == [
        Located(reason="ambiguous_place", detail="may be 990102002, 990103002")
    ]
    (found,) = locator.locate([named("东湾区", "同名街道")])
    assert found.grid == "990102002"


def test_names_of_two_districts_are_ambiguous(locator: Locator) -> None:
    for text in ("从磨坊街道到山口镇", "东湾区与北原区交界", "从东湾区到北原区"):
        (found,) = locator.locate([named("", "", text)])
        assert (found.reason, found.grid) == ("ambiguous_place", "")
        assert found.detail.startswith("may be 99")


def test_a_wrong_district_beside_a_unique_street_is_repaired(locator: Locator) -> None:
    (found,) = locator.locate([named("雨城市东湾区", "磨坊街道办事处")])
    assert (found.district, found.grid) == (WEST, "990103001")


def test_a_later_text_makes_finer_but_never_contradicts(locator: Locator) -> None:
    (found,) = locator.locate([named("", "长堤街道", "磨坊街道")])
    assert found.grid == "990102001"
    (found,) = locator.locate([named("北原区", "", "东湾区与西山区的人都来")])
    assert found.grid == NORTH


def test_the_other_citys_names_are_unknown_here(locator: Locator) -> None:
    assert locator.locate([named("金水区", "", "郑州市金水区花园路")]) == [
        Located(reason="no_location")
    ]


@pytest.mark.parametrize(
    ("text", "value", "decimals"),
    [
        ("113.650000", 113.65, 2),
        ("113", 113.0, 0),
        ("1.1365e2", 113.65, 16),
        (" 34.7466 ", 34.7466, 4),
    ],
)
def test_decimals_are_those_that_say_something(text: str, value: float, decimals: int) -> None:
    assert read_coordinate(text) == (value, decimals)
