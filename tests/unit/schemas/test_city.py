"""A city is data: a pack written here works, and a wrong one is refused by file, line and field."""

from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest

from schemas.city import CITIES_DIR, CityPack, city_folder, load_city
from schemas.errors import QuanyuError
from tests.unit.tiny_city import EAST, HARBOUR, NORTH, WEST, write_city


def test_a_pack_anywhere_on_the_disk_is_a_city(city: CityPack) -> None:
    assert (city.code, city.name, city.time_zone) == ("990100", "雨城", "Europe/Warsaw")
    assert [grid.code for grid in city.districts.grids] == [EAST, WEST, NORTH]
    assert city.zone_of == {EAST: "core", WEST: "core", NORTH: NORTH, HARBOUR: HARBOUR}
    assert len(city.streets) == 6
    taxonomy = city.classes["0102"]
    assert (taxonomy.deadline, taxonomy.unit, taxonomy.keywords[0]) == (2.0, "urgent_hour", "井盖")


def test_districts_and_areas_have_names_and_what_is_unknown_keeps_its_code(city: CityPack) -> None:
    assert [city.district_name(code) for code in (WEST, HARBOUR, "1")] == [
        "西山区",
        "雨城港区",
        "1",
    ]


def test_the_longest_named_class_prefix_gives_the_merge_rule(city: CityPack) -> None:
    assert city.merge.rule("0201").radius_m == 300
    assert city.merge.rule("0101").radius_m == 100
    assert city.merge.rule("").radius_m == 100


def test_holidays_and_worked_sundays_are_the_packs(city: CityPack) -> None:
    days = [date(2026, 3, day) for day in (4, 5, 8, 15)]
    assert [city.calendar.is_workday(day) for day in days] == [True, False, True, False]


@pytest.mark.parametrize(
    "name", sorted(path.parent.name for path in CITIES_DIR.glob("*/city.yaml"))
)
def test_every_pack_of_the_repository_is_valid(name: str) -> None:
    pack = load_city(name)
    named = {name for entry in pack.classes.values() for name in entry.departments}
    assert named & pack.departments.keys()
    assert set(pack.zone_of) >= {grid.code for grid in pack.districts.grids}


def test_a_city_that_is_none_is_refused_with_the_known_ones() -> None:
    with pytest.raises(QuanyuError, match=r"known: .*zhengzhou"):
        city_folder("atlantis")


Spoil = Callable[[str, str, str], Path]


@pytest.fixture
def spoil(tmp_path: Path) -> Spoil:
    def change(name: str, old: str, new: str) -> Path:
        folder = write_city(tmp_path / "city")
        text = (folder / name).read_text(encoding="utf-8")
        assert old in text
        (folder / name).write_text(text.replace(old, new, 1), encoding="utf-8")
        return folder

    return change


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("city.yaml", 'code: "990100"', "code: 99", r"city\.yaml:1: code"),
        ("city.yaml", "Europe/Warsaw", "Europe/Nowhere", r"city\.yaml:3: time_zone: .*no time zone"),
        ("city.yaml", '"990103"]', '"123456"]', r"zones\.core: no district 123456"),
        ("city.yaml", "radius_m: 100", "radius_m: -1", r"city\.yaml:9: merge\.default\.radius_m"),
        ("city.yaml", "name: 雨城", "nmae: 雨城", r"city\.yaml:\d+: "),
        ("city.yaml", '"12:00"], ["13:00"', '"14:00"], ["13:00"', r"city\.yaml:17: calendar\.hours"),
        ("city.yaml", "2026-03-05", "2026-02-30", r"city\.yaml:\d+: calendar\.holidays"),
        ("city.yaml", "zones:", "\tzones:", r"city\.yaml:4: not YAML"),
        ("taxonomy.csv", "2uh", "2 hours", r"taxonomy\.csv:3: deadline: '2 hours'"),
        ("taxonomy.csv", "0102", "0101", r"taxonomy\.csv:3: code"),
        ("taxonomy.csv", "0102", "12", r"taxonomy\.csv:3: code"),
        ("taxonomy.csv", "2uh,1,", "2uh,9,", r"taxonomy\.csv:3: level"),
        ("taxonomy.csv", ",2uh,1,井盖|井盖丢失", "", r"taxonomy\.csv:3: deadline: the line ends"),
        ("taxonomy.csv", "2999", "2998", r"taxonomy\.csv: class 2999"),
        ("taxonomy.csv", ",deadline,", ",until,", r"taxonomy\.csv:1: column deadline is missing"),
        ("streets.csv", "990102001", "99010200", r"streets\.csv:2: code"),
        ("streets.csv", "长堤街道,990102", "长堤街道,123456", r"streets\.csv:2: district"),
        ("streets.csv", "长堤街道,990102", "长堤街道,990103", r"streets\.csv:2: code: .* does not begin"),
        ("streets.csv", "长堤街道,990102", "长堤街道", r"streets\.csv:2: district: the line ends"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_pack_is_named_by_file_line_and_field(
    spoil: Spoil, name: str, old: str, new: str, message: str
) -> None:
    with pytest.raises(QuanyuError, match=message):
        load_city.__wrapped__(str(spoil(name, old, new)))


@pytest.mark.parametrize("name", ["taxonomy.csv", "streets.csv", "districts.geojson"])
def test_a_missing_or_unreadable_file_is_named(tmp_path: Path, name: str) -> None:
    folder = write_city(tmp_path / "city")
    (folder / name).write_bytes(b"\xff\xfe\xff")
    with pytest.raises(QuanyuError, match=name):
        load_city.__wrapped__(str(folder))
    (folder / name).unlink()
    with pytest.raises(QuanyuError, match=name):
        load_city.__wrapped__(str(folder))
