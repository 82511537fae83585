"""A pack that holds passes; of a broken one file, line and field are named, nothing is thrown."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pytest
import shapely
from typer.testing import CliRunner

from deploy.city_check import SHOWN, Checked, Finding, check_layers, check_pack, draw_points
from deploy.cli import create_app
from schemas.city import load_city
from schemas.errors import QuanyuError
from schemas.grids import Grid, GridLayer
from tests.unit.tiny_city import EAST, NORTH, WEST, feature, square, write_whole_city

ROOT = Path(__file__).resolve().parents[3]
FIVE = {"district": 15, "street": 214, "community": 3505, "compound": 19787, "micro": 107158}


@pytest.fixture(autouse=True)
def own_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """Tiny packs are built into a folder of the test; the big one is where it is built already."""
    if "big" not in request.fixturenames:
        monkeypatch.setenv("QUANYU_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def big() -> Checked:
    """The repository's own pack, held against 100,000 points."""
    return check_pack("zhengzhou", points=100_000, seed=20_240_901)


def test_the_citys_own_pack_has_the_published_grids_nested_without_gap_or_overlap(
    big: Checked,
) -> None:
    assert [str(finding) for finding in big.findings] == []
    assert big.counts == FIVE | {"special": 4822}


def test_another_city_with_all_levels_holds(tmp_path: Path) -> None:
    checked = check_pack(str(write_whole_city(tmp_path / "city")))
    assert [str(finding) for finding in checked.findings] == []
    assert checked.counts == {
        **{"district": 3, "street": 5, "community": 10, "compound": 24, "micro": 60},
        "special": 6,
    }


def test_no_code_knows_a_city() -> None:
    """Only the default of QUANYU_CITY names one."""
    known = re.compile(r"zhengzhou|郑州|\b4101\d\d", re.IGNORECASE)
    sources = [
        path
        for folder in ("schemas", "connectors", "streams", "deploy")
        for path in sorted((ROOT / folder).rglob("*.py"))
    ]
    assert len(sources) > 50
    named = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for path in sources
        for line in path.read_text(encoding="utf-8").splitlines()
        if known.search(line)
    ]
    assert len(named) == 1, named
    assert named[0].startswith('schemas/settings.py: default="zhengzhou"')


# --- broken files ------------------------------------------------------------------------------


Spoil = Callable[[str, str, str], Path]


@pytest.fixture
def spoil(tmp_path: Path) -> Spoil:
    def change(name: str, old: str, new: str) -> Path:
        folder = write_whole_city(tmp_path / "city")
        text = (folder / name).read_text(encoding="utf-8")
        assert old in text
        (folder / name).write_text(text.replace(old, new, 1), encoding="utf-8")
        return folder

    return change


def line_of(path: Path, text: str) -> int:
    """The line, counted from 1, that begins to be other than it was: where ``text`` stands."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return next(number for number, line in enumerate(lines, 1) if text in line)


def only(findings: list[Finding], folder: Path, file: str, field: str) -> Finding:
    assert [(Path(f.file), f.field) for f in findings] == [(folder / file, field)], findings
    assert findings[0].what
    assert findings[0].remedy
    return findings[0]


@pytest.mark.parametrize(
    ("name", "old", "new", "field", "at"),
    [
        # What the loader refuses.
        ("city.yaml", "radius_m: 100", "radius_m: -1", "merge.default.radius_m", "radius_m: -1"),
        ("city.yaml", "Europe/Warsaw", "Europe/Nowhere", "time_zone", "Nowhere"),
        ("city.yaml", "weekend:", "kpi: {response: 0.9}\n  weekend:", "calendar.kpi", "kpi:"),
        ("city.yaml", "calendar:", "kpi: {response: 0.9}\ncalendar:", "kpi", "kpi:"),
        ("taxonomy.csv", "2uh", "2 hours", "deadline", "2 hours"),
        ("taxonomy.csv", "0102", "12", "code", "井盖"),
        ("taxonomy.csv", "2uh,1,", "2uh,9,", "level", "井盖"),
        ("streets.csv", "990102001", "99010200", "code", "长堤"),
        ("communities.csv", "坊,990102001", "坊,990102009", "street", "990102009"),
        ("duty.csv", "雨水局", "雪水局", "department", "雪水局"),
        ("duty.csv", "0102", "0109", "class_code", "0109"),
        ("duty.csv", "井盖已补", "", "closed_when", "0102"),
        ("units.csv", "990104", "990109", "members", "990109"),
        ("gazetteer.csv", "street,990102001", "street,990102099", "code", "990102099"),
        ("gazetteer.csv", "street,990102001", "community,990102001", "level", "钟楼"),
        ("aliases.csv", "钟楼", "鼓楼", "name", "鼓楼"),
        # What only a comparison shows.
        ("city.yaml", 'code: "990100"', 'code: "980100"', "code", "980100"),
        ("city.yaml", "areas:", 'areas:\n  "99017": {name: 岛}', "areas.99017", '"99017"'),
        ("city.yaml", "code: JD", "code: YS", "departments.街灯队", "街灯队"),
        ("city.yaml", "code: ZB", "code: YS", "departments.雨水局", "雨水局:"),
        ("city.yaml", "weekend: [7]", "weekend: [0, 7]", "calendar.weekend", "weekend"),
        ("city.yaml", '["2026-03-08"]', '["2026-03-09"]', "calendar.workdays", "2026-03-09"),
        ("city.yaml", '["2026-03-05"]', '["2026-03-08"]', "calendar.workdays", "workdays"),
        ("city.yaml", '"02": {', '"07": {', "merge.classes.07", '"07"'),
        ("city.yaml", '  core: ["990102"', '  a: ["990103"]\n  core: ["990102"', "zones.core", "core"),
        ("city.yaml", "[20.11, 50.05]", "[50.05, 20.11]", "synthesis.centres.990102", "50.05, 20"),
        ("city.yaml", '    "990102": [20', '    "990109": [20', "synthesis.centres.990109", "990109"),
        ("city.yaml", '"{n}格"', '"{m}格"', "synthesis.names.micro", "{m}"),
        ("city.yaml", '"{name}{n}号"', '"{"', "synthesis.names.again", "again"),
        ("city.yaml", "community: 10", "community: 11", "counts.community", "community: 11"),
        ("taxonomy.csv", "2uh", "0uh", "deadline", "0uh"),
        ("taxonomy.csv", "雨水局,4wh", "无此部门,4wh", "departments", "无此部门"),
        ("taxonomy.csv", "0202,噪声,照明", "0202,噪声,噪音", "class_name", "噪音"),
        ("taxonomy.csv", "0101,积水,", "0101,,", "name", "0101"),
        ("duty.csv", "2uh", "0uh", "deadline", "0uh"),
        ("duty.csv", "雨水局,city", "雨水局,district", "level", "0102"),
        ("units.csv", "外围,", "外围,老城", "aliases", "外围"),
    ],
)  # fmt: skip
def test_a_fault_in_a_file_is_named_by_file_line_and_field(
    spoil: Spoil, name: str, old: str, new: str, field: str, at: str
) -> None:
    folder = spoil(name, old, new)
    found = only(check_pack(str(folder), points=10).findings, folder, name, field)
    assert found.line == line_of(folder / name, at), found


def test_several_faults_are_told_at_once(spoil: Spoil) -> None:
    folder = spoil("city.yaml", "code: JD", "code: YS")
    text = (folder / "taxonomy.csv").read_text(encoding="utf-8")
    (folder / "taxonomy.csv").write_text(text.replace("4wh", "0wh"), encoding="utf-8")
    found = check_pack(str(folder), points=10).findings
    assert [(Path(f.file).name, f.field) for f in found] == [
        ("city.yaml", "departments.街灯队"),
        ("taxonomy.csv", "deadline"),
    ]


CONDITIONS = """conditions:
  大路: {meaning: 大路, rank: 3, roads: [沿河路]}
  雨季: {meaning: 雨季, rank: RANK, season: ["05-15", "09-30"]}
  告警: {meaning: 告警, rank: 9, channels: [CHANNEL]}
calendar:"""


@pytest.mark.parametrize(
    ("rank", "channel", "line", "file", "field", "at"),
    [
        ("3", "iot", "0102,雨季,,雨水局,city,1uh,井盖已补,", "duty.csv", "condition", "雨季"),
        ("4", "loT", "", "city.yaml", "conditions.告警.channels", "loT"),
        ("4", "iot", "2999,雨季,,值班室,city,1uh,答复,", "duty.csv", "class_code", "2999"),
        ("4", "iot", "0102,雨季,,雨水局,city,1uh,井盖已补,", "", "", ""),
    ],
)
def test_two_equal_rules_a_gap_and_a_channel_that_is_none_are_found(
    spoil: Spoil, rank: str, channel: str, line: str, file: str, field: str, at: str
) -> None:
    conditions = CONDITIONS.replace("RANK", rank).replace("CHANNEL", channel)
    folder = spoil("city.yaml", "calendar:", conditions)
    with (folder / "duty.csv").open("a", encoding="utf-8") as out:
        out.write(f"0102,大路,,雨水局,city,1uh,井盖已补,\n{line}\n")
    findings = check_pack(str(folder), points=10).findings
    if not file:
        assert findings == []
        return
    found = only(findings, folder, file, field)
    assert found.line == line_of(folder / file, at)


def test_a_calendar_without_holidays_and_one_with_a_year_left_out_are_found(spoil: Spoil) -> None:
    folder = spoil("city.yaml", 'holidays: ["2026-03-05"]', "holidays: []")
    found = check_pack(str(folder), points=10).findings
    only(found, folder, "city.yaml", "calendar.holidays")
    text = (folder / "city.yaml").read_text(encoding="utf-8")
    given = text.replace("holidays: []", 'holidays: ["2024-03-05", "2026-03-05"]')
    (folder / "city.yaml").write_text(given, encoding="utf-8")
    load_city.cache_clear()
    found = check_pack(str(folder), points=10).findings
    assert "2025" in only(found, folder, "city.yaml", "calendar.holidays").what


def test_duty_explain_tells_rule_deadline_and_way_without_an_event(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Not the home of a demo in this folder, whose limits are shortened.
    monkeypatch.setenv("QUANYU_HOME", str(tmp_path))
    asked = ["duty", "explain", "--class", "0110", "--grid", "410102001"]
    run = CliRunner().invoke(create_app(), [*asked, "--text", "花园路路面破损", "--json"])
    told = json.loads(run.stdout.splitlines()[-1])
    assert (told["rule"], told["unit_code"]) == ("0110 主干道", "410102-SZ")
    assert [rule["rule"] for rule in told["rules"] if rule["applies"]] == ["0110 主干道"]
    assert told["handle_due_at"] == told["opened_at"] + 24 * 3_600_000
    assert told["due_at"] == told["stages"]["total"] > told["handle_due_at"]
    assert [centre["level"] for centre in told["escalation"]] == ["street", "district", "city"]
    plain = CliRunner().invoke(create_app(), asked)
    assert "duty.csv:" in plain.stdout
    wrong = CliRunner().invoke(create_app(), ["duty", "explain", "--class", "0110"])
    assert isinstance(wrong.exception, QuanyuError)


def test_a_street_in_no_unit_is_found(spoil: Spoil) -> None:
    folder = spoil("units.csv", "|990171", "")
    found = only(check_pack(str(folder), points=10).findings, folder, "units.csv", "members")
    assert "990171001" in found.what


def test_a_merge_rule_for_a_class_that_is_none_is_found(tmp_path: Path) -> None:
    folder = write_whole_city(tmp_path / "city")
    (folder / "merge.yaml").write_text('classes:\n  "07": {radius_m: 5}\n', encoding="utf-8")
    found = only(check_pack(str(folder), points=10).findings, folder, "merge.yaml", "classes.07")
    assert found.line == 2


def test_a_merge_policy_that_cannot_be_read_is_found(tmp_path: Path) -> None:
    folder = write_whole_city(tmp_path / "city")
    (folder / "merge.yaml").write_text("default: {radius_m: -5}\n", encoding="utf-8")
    found = check_pack(str(folder), points=10).findings
    assert only(found, folder, "merge.yaml", "default.radius_m").line == 1


@pytest.mark.parametrize(
    ("file", "text", "field", "what"),
    [
        ("kpi.yaml", "least: 5\nrepeat: {days: 0}\n", "repeat.days", "greater"),
        (
            "kpi.yaml",
            "scorecard:\n  response_rate: {weight: 0.4, target: 0.9}\n",
            "scorecard",
            "sum to 0.4",
        ),
        ("lights.yaml", "red: [dangerus]\n", "red", "no rule 'dangerus'"),
    ],
)
def test_weights_and_lights_that_cannot_be_are_found_before_anybody_asks_for_a_score(
    tmp_path: Path, file: str, text: str, field: str, what: str
) -> None:
    folder = write_whole_city(tmp_path / "city")
    (folder / file).write_text(text, encoding="utf-8")
    assert what in only(check_pack(str(folder), points=10).findings, folder, file, field).what


@pytest.mark.parametrize("name", ["city.yaml", "taxonomy.csv", "streets.csv", "districts.geojson"])
@pytest.mark.parametrize("content", [None, b"\xff\xfe\xff", b"", b"[1", b"\0", b'{"features":[1]}'])
def test_a_missing_or_damaged_file_is_found_and_nothing_is_thrown(
    tmp_path: Path, name: str, content: bytes | None
) -> None:
    folder = write_whole_city(tmp_path / "city")
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_bytes(content)
    findings = check_pack(str(folder), points=10).findings
    assert len(findings) == 1
    assert name in str(findings[0])


@pytest.mark.parametrize("name", ["taxonomy.csv", "duty.csv", "city.yaml", "districts.geojson"])
def test_a_folder_where_a_file_should_be_is_found(tmp_path: Path, name: str) -> None:
    folder = write_whole_city(tmp_path / "city")
    (folder / name).unlink()
    (folder / name).mkdir()
    findings = check_pack(str(folder), points=10).findings
    assert len(findings) == 1
    assert name in str(findings[0])


def test_a_city_that_cannot_be_filled_as_declared_is_a_finding(spoil: Spoil) -> None:
    folder = spoil("city.yaml", "compound: 24", "compound: 4")
    found = check_pack(str(folder), points=10).findings
    assert len(found) == 1
    assert "raise counts" in str(found[0])


def test_no_such_city_is_the_askers_mistake() -> None:
    with pytest.raises(QuanyuError, match="no pack of that name"):
        check_pack("atlantis")


# --- broken grids ------------------------------------------------------------------------------


def write_layer_of(folder: Path, level: str, features: list[dict[str, object]]) -> Path:
    path = folder / f"{level}.geojson"
    if level != "districts":
        path = folder / "grids" / f"{level}.geojson"
        path.parent.mkdir(exist_ok=True)
    body = ",\n".join(json.dumps(one, ensure_ascii=False) for one in features)
    path.write_text('{"type": "FeatureCollection", "features": [\n' + body + "\n]}\n", "utf-8")
    return path


def halves(code: str, west: float, south: float, shift: float = 0.0) -> list[dict[str, object]]:
    """Two streets that fill a district; ``shift`` degrees of overlap (+) or gap (-)."""
    middle, north, east = round(west + 0.05, 6), round(south + 0.1, 6), round(west + 0.1, 6)

    def box(left: float, right: float) -> dict[str, object]:
        ring = [[left, south], [right, south], [right, north], [left, north], [left, south]]
        return {"type": "Polygon", "coordinates": [ring]}

    return [
        feature(f"{code}001", "甲街道", box(west, middle + shift)),
        feature(f"{code}002", "乙街道", box(middle, east)),
    ]


STREETS_OF_NORTH = [feature("990104001", "山口镇", square(20.0, 50.1))]


@pytest.fixture
def surveyed(tmp_path: Path) -> Path:
    """A pack that ships its streets."""
    folder = write_whole_city(tmp_path / "city")
    streets = [*halves(EAST, 20.1, 50.0), *halves(WEST, 20.0, 50.0), *STREETS_OF_NORTH]
    write_layer_of(folder, "street", streets)
    return folder


def test_a_pack_with_surveyed_streets_holds(surveyed: Path) -> None:
    assert [str(finding) for finding in check_pack(str(surveyed)).findings] == []


def streets_with(folder: Path, west: list[dict[str, object]]) -> Path:
    return write_layer_of(folder, "street", [*halves(EAST, 20.1, 50.0), *west, *STREETS_OF_NORTH])


@pytest.mark.parametrize(
    ("shift", "word", "kind"),
    [(0.01, "overlap", "more than one street"), (-0.01, "leave a gap", "no street")],
)
def test_streets_that_overlap_or_leave_a_gap_are_found_by_area_and_by_points(
    surveyed: Path, shift: float, word: str, kind: str
) -> None:
    path = streets_with(surveyed, halves(WEST, 20.0, 50.0, shift))
    found = [f for f in check_pack(str(surveyed)).findings if Path(f.file) == path]
    assert {f.field for f in found} == {"geometry"}
    assert any(word in f.what and f.line == 4 for f in found), found
    assert any(f"in {kind}" in f.what for f in found), found


def test_a_street_that_lies_outside_its_district_is_found(surveyed: Path) -> None:
    one, two = halves(WEST, 20.0, 50.0)
    away = feature(f"{WEST}002", "乙街道", square(20.3, 50.3))
    path = streets_with(surveyed, [one, away])
    assert two["properties"] == away["properties"]
    found = [f for f in check_pack(str(surveyed)).findings if "outside" in f.what]
    assert (Path(found[0].file), found[0].line, found[0].field) == (path, 5, "geometry")
    assert "990103002" in found[0].what


def test_a_street_of_no_district_is_found(surveyed: Path) -> None:
    one, two = halves(WEST, 20.0, 50.0)
    stray = feature("990188001", "丙街道", square(20.3, 50.3))
    path = streets_with(surveyed, [one, two, stray])
    found = check_pack(str(surveyed)).findings
    assert any(
        (Path(f.file), f.line, f.field) == (path, 6, "code") and "no district" in f.what
        for f in found
    ), found


def test_a_polygon_that_crosses_itself_is_found(tmp_path: Path) -> None:
    folder = write_whole_city(tmp_path / "city")
    bow = [[20.0, 50.0], [20.1, 50.1], [20.1, 50.0], [20.0, 50.1], [20.0, 50.0]]
    features = [
        feature(NORTH, "北原区", square(20.0, 50.1)),
        feature(WEST, "西山区", {"type": "Polygon", "coordinates": [bow]}),
    ]
    write_layer_of(folder, "districts", features)
    found = only(check_pack(str(folder)).findings, folder, "districts.geojson", "feature 2")
    assert found.line == 3
    assert "Self-intersection" in found.what


def test_a_polygon_in_metres_is_found(tmp_path: Path) -> None:
    folder = write_whole_city(tmp_path / "city")
    city = load_city(str(folder))
    layer = GridLayer(
        city.districts.grids, shapely.transform(city.districts.polygons, lambda c: c * 1e4)
    )
    found = check_layers(city, {"district": layer}, points=0)
    assert any("no degrees" in f.what and f.field == "geometry" for f in found)


def test_districts_that_overlap_are_found(tmp_path: Path) -> None:
    folder = write_whole_city(tmp_path / "city")
    features = [
        feature(WEST, "西山区", square(20.0, 50.0)),
        feature(NORTH, "北原区", square(20.0, 50.1)),
        feature(EAST, "东湾区", square(20.09, 50.0)),
    ]
    path = write_layer_of(folder, "districts", features)
    city = load_city(str(folder))
    found = check_layers(city, {"district": city.districts})
    hits = [f for f in found if "overlaps" in f.what]
    assert [(Path(f.file), f.line, f.field) for f in hits] == [(path, 2, "geometry")]
    assert any("more than one district" in f.what for f in found)


def test_a_hole_between_districts_is_found(tmp_path: Path) -> None:
    folder = write_whole_city(tmp_path / "city")
    ring = square(20.0, 50.0)
    hole = [[20.04, 50.04], [20.04, 50.06], [20.06, 50.06], [20.06, 50.04], [20.04, 50.04]]
    ring["coordinates"] = [*ring["coordinates"], hole]  # type: ignore[misc]  # a list of rings
    others = [
        feature(NORTH, "北原区", square(20.0, 50.1)),
        feature(EAST, "东湾区", square(20.1, 50.0)),
    ]
    write_layer_of(folder, "districts", [feature(WEST, "西山区", ring), *others])
    city = load_city(str(folder))
    found = check_layers(city, {"district": city.districts}, points=0)
    assert any("gap between districts" in f.what for f in found)


# --- periods -----------------------------------------------------------------------------------


def box_layer(level: str, *rows: tuple[str, date, date | None]) -> GridLayer:
    grids = [Grid(code, "甲", level, start, end) for code, start, end in rows]
    shapes = np.empty(len(grids), dtype=object)
    shapes[:] = [shapely.box(20.0, 50.0, 20.1, 50.1)] * len(grids)
    return GridLayer(grids, shapes)


@pytest.mark.parametrize(
    ("rows", "field", "word"),
    [
        ([("990103", date(2024, 1, 1), date(2023, 1, 1))], "valid_to", "not after"),
        (
            [("990103", date(2023, 1, 1), date(2024, 6, 1)), ("990103", date(2024, 1, 1), None)],
            "valid_from",
            "stands twice",
        ),
    ],
)
def test_periods_that_cannot_be_are_found(
    tmp_path: Path, rows: list[tuple[str, date, date | None]], field: str, word: str
) -> None:
    city = load_city(str(write_whole_city(tmp_path / "city")))
    found = check_layers(city, {"district": box_layer("district", *rows)}, points=0)
    assert any(f.field == field and word in f.what for f in found), found


def test_a_grid_that_begins_when_its_district_has_ended_is_found(tmp_path: Path) -> None:
    city = load_city(str(write_whole_city(tmp_path / "city")))
    layers = {
        "district": box_layer(
            "district",
            ("990103", date(2020, 1, 1), date(2022, 1, 1)),
            ("990103", date(2023, 1, 1), None),
        ),
        "street": box_layer("street", ("990103001", date(2022, 6, 1), None)),
    }
    found = check_layers(city, layers, points=0)
    assert any(f.field == "valid_from" and "is not valid" in f.what for f in found), found


def test_a_succession_of_grids_is_no_fault(tmp_path: Path) -> None:
    city = replace(load_city(str(write_whole_city(tmp_path / "city"))), counts={}, gazetteer=())
    layers = {
        "district": box_layer(
            "district",
            ("990103", date(2020, 1, 1), date(2022, 1, 1)),
            ("990103", date(2022, 1, 1), None),
        )
    }
    assert check_layers(city, layers, points=100) == []


# --- the command -------------------------------------------------------------------------------


def test_points_are_inside_and_the_seeds_own() -> None:
    outline = shapely.Polygon([(0, 0), (2, 0), (0, 1)])
    points = draw_points(outline, 500, seed=3)
    assert shapely.contains_xy(outline, points[:, 0], points[:, 1]).all()
    assert len(points) == 500
    assert (points == draw_points(outline, 500, seed=3)).all()
    assert (points != draw_points(outline, 500, seed=4)).any()


def test_a_wrong_layer_is_told_by_its_first_grids_and_their_number(tmp_path: Path) -> None:
    city = load_city(str(write_whole_city(tmp_path / "city")))
    day = date(2020, 1, 1)
    streets = box_layer("street", *((f"880103{n:03d}", day, None) for n in range(30)))
    layers = {"district": city.districts, "street": streets}
    told = [f for f in check_layers(city, layers, points=0) if f.field == "code"]
    assert len([f for f in told if "belongs to no district" in f.what]) == SHOWN
    assert any("20 more" in f.what for f in told)


def test_the_command_ends_with_0_and_a_summary_or_1_and_the_findings(spoil: Spoil) -> None:
    folder = spoil("units.csv", "外围", "外围")
    run = CliRunner().invoke(create_app(), ["city", "check", str(folder), "--points", "50"])
    assert run.exit_code == 0, run.output
    assert "the pack holds: 3 district, 5 street" in run.stdout
    folder = spoil("taxonomy.csv", "2uh", "soon")
    load_city.cache_clear()
    run = CliRunner().invoke(create_app(), ["city", "check", str(folder)])
    assert run.exit_code == 1
    assert f"{folder}/taxonomy.csv:3: deadline: 'soon'; write e.g." in run.stdout
    run = CliRunner().invoke(create_app(), ["city", "check", str(folder), "--json"])
    assert run.exit_code == 1
    told = json.loads(run.stdout.splitlines()[-1])
    assert told["ok"] is False
    assert {"line": 3, "field": "deadline"}.items() <= told["findings"][0].items()
