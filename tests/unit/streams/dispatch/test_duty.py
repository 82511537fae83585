"""Whose duty: the most specific rule, the way of a returned order up to the city, who is on shift."""

import csv
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.city import CityPack, load_city
from schemas.errors import QuanyuError
from streams.dispatch.duty import FALLBACK, DutyList, Roster, as_event
from streams.dispatch.lifecycle import Duty
from tests.unit.tiny_city import DOCUMENT, EAST, HARBOUR, WEST, write_city

#: 3 March 2026, 10:00 in the tiny city.
AT = int(datetime(2026, 3, 3, 9, tzinfo=UTC).timestamp() * 1000)
JULY = int(datetime(2026, 7, 3, 9, tzinfo=UTC).timestamp() * 1000)
LONG_BANK = "990102001"  # 长堤街道

CONDITIONS = """\
conditions:
  危险: {meaning: 危险, rank: 9, words: [受伤, 被困], unless: [无人受伤]}
  告警: {meaning: 告警, rank: 8, channels: [iot]}
  雨季: {meaning: 雨季, rank: 7, season: ["05-15", "09-30"]}
  大路: {meaning: 大路, rank: 6, roads: [沿河路], not_before: [街道]}
  催办: {meaning: 催办, rank: 5, priority: 2}
calendar:
"""
DUTIES = """\
class_code,condition,area,department,level,deadline,closed_when,partners
0101,,,雨水局,city,4wh,干了,街灯队
0101,,990102,街灯队,district,3wh,干了,
0101,,990102001,值班室,street,2wh,干了,
0101,大路,,街灯队,district,1wh,干了,雨水局
0101,雨季,,雨水局,city,1uh,干了,
0102,危险,,雨水局,city,0.5uh,盖好,
01,危险,,值班室,district,0.1uh,脱险,
02,告警,,雨水局,city,1uh,复位,
0201,催办,,街灯队,district,1wd,亮了,
"""


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> CityPack:
    """The tiny city with a duty list."""
    folder = write_city(tmp_path_factory.mktemp("duty") / "city")
    document = DOCUMENT.replace("calendar:\n", CONDITIONS)
    (folder / "city.yaml").write_text(document, encoding="utf-8")
    (folder / "duty.csv").write_text(DUTIES, encoding="utf-8")
    return load_city(str(folder))


@pytest.fixture(scope="module")
def duties(pack: CityPack) -> DutyList:
    return DutyList(pack)


def event(class_code: str, grid_code: str, title: str = "", **fields: Any) -> dict[str, Any]:
    return {
        "class_code": class_code, "district_code": grid_code[:6], "grid_code": grid_code,
        "title": title, "address": "", "opened_at": AT,
    } | fields  # fmt: skip


@pytest.mark.parametrize(
    ("asked", "unit", "rule"),
    [
        (event("0101", WEST), "990100-YS", "0101"),
        (event("0101", EAST), "990102-JD", "0101 990102"),
        (event("0101", LONG_BANK + "001"), "990102001-ZB", "0101 990102001"),
        # A condition goes before an area.
        (event("0101", LONG_BANK, "沿河路积水"), "990102-JD", "0101 大路"),
        (event("0101", LONG_BANK, "", address="沿河路5号"), "990102-JD", "0101 大路"),
        (event("0101", WEST, "沿河路街道某院积水"), "990100-YS", "0101"),
        # Of two conditions the one of the higher rank, and a rule of the whole group where it alone fits.
        (event("0101", WEST, "沿河路积水", opened_at=JULY), "990100-YS", "0101 雨季"),
        (event("0101", WEST, "沿河路积水，有人受伤", opened_at=JULY), "990103-ZB", "01 危险"),
        (event("0101", WEST, "沿河路积水，无人受伤"), "990103-JD", "0101 大路"),
        # Of one condition the longer class.
        (event("0102", WEST, "有人被困"), "990100-YS", "0102 危险"),
        (event("0201", WEST, first_channel="iot"), "990100-YS", "02 告警"),
        (event("0201", WEST, first_channel="web"), "990103-JD", "0201:街灯队"),
        (event("0201", WEST, priority=2), "990103-JD", "0201 催办"),
        (event("0202", EAST), "990102-ZB", FALLBACK),
    ],
)
def test_the_most_specific_rule_wins(
    duties: DutyList, asked: Mapping[str, Any], unit: str, rule: str
) -> None:
    found = duties.duty(asked)
    assert (found.unit_code, found.rule) == (unit, rule)
    assert duties.explain(asked).duty == found
    # What held is enough to ask again.
    kept = {"conditions": duties.holding(asked)} | {
        name: asked[name] for name in ("class_code", "district_code", "grid_code", "opened_at")
    }
    assert duties.duty(kept) == found


def test_a_duty_says_deadline_condition_of_closing_and_partners(duties: DutyList) -> None:
    assert duties.duty(event("0101", WEST)) == Duty(
        "990100-YS", "雨城雨水局", "city", "0101", 4.0, "work_hour", "干了", ("街灯队",)
    )


@pytest.mark.parametrize(
    ("grid", "unit"),
    [
        (LONG_BANK + "001001001", "990102001-ZB"),
        (LONG_BANK + "001Z001", "990102001-ZB"),
        (EAST, "990102-ZB"),
        (HARBOUR, "990171-ZB"),
        ("990102999001", "990102-ZB"),
        ("123456", "990100-ZB"),
        ("", "990100-ZB"),
    ],
)
def test_what_is_nobodys_duty_is_that_of_the_street_else_the_district_else_the_city(
    city: CityPack, grid: str, unit: str
) -> None:
    found = DutyList(city).duty(event("7777", grid))
    assert (found.unit_code, found.rule, found.unit) == (unit, FALLBACK, None)


def test_a_returned_order_goes_to_rules_partners_and_centres_up_to_the_city(
    duties: DutyList,
) -> None:
    asked = event("0101", LONG_BANK, "沿河路积水")
    way: list[tuple[str, str]] = []
    tried: list[str] = []
    while (duty := duties.next(asked, tried)) is not None:
        way.append((duty.unit_code, duty.rule))
        tried.append(duty.unit_code)
    assert way == [
        ("990102-JD", "0101 大路"),
        ("990102001-ZB", "0101 990102001"),
        ("990100-YS", "0101"),
        ("990102-ZB", FALLBACK),
        ("990100-ZB", FALLBACK),
    ]


@settings(deadline=None, max_examples=150)
@given(
    class_code=st.sampled_from(["0101", "0102", "0201", "0202", "2999", "7777"]),
    grid=st.sampled_from(["", EAST, WEST, HARBOUR, LONG_BANK, LONG_BANK + "001001001", "888888"]),
    title=st.text("沿河路街道受伤被困无人水", max_size=20),
    at=st.integers(0, 2_000_000_000_000),
)
def test_every_chain_ends_at_the_city_and_asks_nobody_twice(
    duties: DutyList, class_code: str, grid: str, title: str, at: int
) -> None:
    asked = event(class_code, grid, title, opened_at=at)
    codes = [duty.unit_code for duty in duties.chain(asked)]
    assert len(codes) == len(set(codes))
    city = next(duty for duty in duties.chain(asked) if duty.unit_code == "990100-ZB")
    # A rule may name the city's centre before others; else it is the last.
    assert city.rule != FALLBACK or codes[-1] == city.unit_code
    assert duties.next(asked, codes) is None
    fitting = [c.rule for c in duties.explain(asked).considered if c.fits]
    if fitting:
        first = duties.duty(asked)
        assert (first.deadline, first.unit) == (fitting[0].deadline, fitting[0].unit)


def test_a_unit_is_named_by_its_code_whoever_has_the_duty(duties: DutyList) -> None:
    asked = event("0101", WEST)
    named = duties.named(asked, "990102-JD")
    assert named is not None
    assert (named.unit_name, named.level, named.deadline) == ("东湾区街灯队", "district", 4.0)
    assert duties.named(asked, "990100-YS") == duties.duty(asked)
    for stranger in ("990102-YS", "990100-JD", "990102-XX", "888888-ZB", "", "x"):
        assert duties.named(asked, stranger) is None


# --- centres -------------------------------------------------------------------------------------


def test_the_big_citys_centres_are_one_sixteen_and_two_hundred_and_fourteen() -> None:
    big = load_city("zhengzhou")
    levels = [centre.level for centre in big.centres.values()]
    assert [levels.count(level) for level in ("city", "district", "street")] == [1, 16, 214]
    for code in big.centres:
        way = [centre.code for centre in big.above(code)]
        assert way[-1] == big.code
        assert len(way) == len(set(way)) <= 3
    assert sum(map(len, big.below.values())) == 230
    # A zone without a code of its own is the parent of the streets that it has from others.
    assert big.centres["410105014"].parent == "410105ZD"


def test_on_a_main_road_of_a_zone_a_parked_car_goes_to_the_traffic_police() -> None:
    big = load_city("zhengzhou")
    asked = as_event(big, "0505", "410171401", "市民拍照：经开第八大街机动车乱停放", AT)
    found = DutyList(big).duty(asked)
    assert (found.unit_name, found.rule) == ("郑州市交警", "0505 主干道")


def test_every_line_of_the_big_citys_list_has_the_duty_somewhere() -> None:
    """No line is dead: an event that meets its condition in its area alone goes by it."""
    big = load_city("zhengzhou")
    duties = DutyList(big)
    for rule in big.duties:
        code = rule.class_code if len(rule.class_code) == 4 else rule.class_code + "01"
        if code not in big.classes:
            code = next(known for known in big.classes if known.startswith(rule.class_code))
        asked = event(code, rule.area or "410102001")
        held: dict[str, Any] = {"conditions": (rule.condition,) if rule.condition else ()}
        names = {duty.rule for duty in duties.chain(asked | held)}
        wanted = " ".join(filter(None, (rule.class_code, rule.condition, rule.area)))
        fits = [c.rule for c in duties.explain(asked | held).considered]
        assert rule in fits
        assert wanted in names or len(rule.class_code) == 2, wanted


# --- staff ---------------------------------------------------------------------------------------

STAFF = """\
staff_id,grid_code,shifts,max_load
a,990102001001,08:00-12:00,2
b,990102001001,08:00-16:00,4
n,990102001,22:00-06:00,5
d,990102,,9
"""


@pytest.fixture(scope="module")
def roster(tmp_path_factory: pytest.TempPathFactory) -> Roster:
    folder = write_city(tmp_path_factory.mktemp("staff") / "city")
    (folder / "staff.csv").write_text(STAFF, encoding="utf-8")
    return Roster(load_city(str(folder)))


def at(hour: int) -> int:
    """An hour of 3 March 2026 in the tiny city (UTC+1)."""
    return int(datetime(2026, 3, 3, tzinfo=UTC).timestamp() * 1000) + (hour - 1) * 3_600_000


@pytest.mark.parametrize(
    ("grid", "hour", "loads", "worker"),
    [
        ("990102001001001", 10, {}, "a"),
        ("990102001001001", 10, {"a": 1, "b": 1}, "b"),  # a quarter, not a half
        ("990102001001001", 10, {"a": 1, "b": 2}, "a"),  # alike: the lower code
        ("990102001001001", 12, {}, "b"),  # a shift's end is not in it
        ("990102001001001", 10, {"a": 2, "b": 4}, "d"),  # full: the next coarser grid, off shift
        ("990102001001001", 23, {}, "n"),
        ("990102001001001", 5, {}, "n"),
        ("990102001001Z001", 10, {}, "a"),
        ("990102002", 10, {}, "d"),
        ("990102002", 10, {"d": 9}, None),
        ("990103001", 10, {}, None),
        ("", 10, {}, None),
    ],
)
def test_the_worker_on_shift_of_the_finest_grid_with_the_least_load_is_chosen(
    roster: Roster, grid: str, hour: int, loads: dict[str, int], worker: str | None
) -> None:
    chosen, why = roster.choose(grid, at(hour), loads)
    assert chosen == worker
    assert why


def test_without_a_roster_every_grid_has_its_worker(city: CityPack) -> None:
    roster = Roster(city, max_load=3)
    assert roster.choose("990102001001001001", AT, {})[0] == "W990102001001001001"
    assert roster.choose("990102001001Z001", AT, {})[0] == "W990102001001"
    assert roster.choose("990102001", AT, {"W990102001": 3})[0] is None


# --- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("duty.csv", "0101,大路", "0101,小路", r"duty\.csv:5: condition: '小路'"),
        ("duty.csv", "02,告警", "09,告警", r"duty\.csv:9: class_code: no class 09"),
        ("duty.csv", "街灯队,district,3wh", "街灯处,district,3wh", r"duty\.csv:3: department"),
        ("duty.csv", "4wh", "4h", r"duty\.csv:2: deadline: '4h'; write"),
        ("duty.csv", "0101,,990102001", "0101,,990102", r"duty\.csv:4: class_code: the same class"),
        ("city.yaml", '["05-15", "09-30"]', '["05-15", "9-30"]', r"city\.yaml:\d+: conditions\.雨季"),
        ("city.yaml", "priority: 2", "note: 2", r"city\.yaml:\d+: conditions\.催办"),
        ("city.yaml", "rank: 9, words: [受伤, 被困], ", "rank: 9, ", r"never holds"),
        ("city.yaml", "calendar:\n", "stages: {accept: {1: 5min}}\ncalendar:\n", r"stages\.accept"),
        ("city.yaml", "calendar:\n", "stages: {sign: {1: 5, 2: 5min, 3: 5min}}\ncalendar:\n", r"stages"),
        ("staff.csv", "d,990102,", "d,990109,", r"staff\.csv:5: grid_code"),
        ("staff.csv", "d,990102,", "a,990102,", r"staff\.csv:5: staff_id"),
        ("staff.csv", "08:00-16:00", "8-16", r"staff\.csv:3: shifts: '8-16'"),
        ("staff.csv", "08:00-16:00", "08:00-08:00", r"staff\.csv:3: shifts"),
        ("staff.csv", ",9\n", ",0\n", r"staff\.csv:5: max_load"),
        ("units.csv", "990103,\n", "990103,U2\n", r"units\.csv:2: parent: a cycle, U1 → U2 → U1"),
        ("units.csv", "990103,\n", "990103,U9\n", r"units\.csv:2: parent: no unit U9"),
    ],
)  # fmt: skip
def test_a_mistake_in_the_duty_lists_files_is_named_by_file_line_and_field(
    tmp_path: Path, file: str, old: str, new: str, message: str
) -> None:
    folder = write_city(tmp_path / "city")
    texts = {
        "city.yaml": DOCUMENT.replace("calendar:\n", CONDITIONS),
        "duty.csv": DUTIES,
        "staff.csv": STAFF,
        "units.csv": f"code,name,aliases,members,parent\nU1,一,,{WEST},\nU2,二,,{EAST},U1\n",
    }
    assert old in texts[file]
    texts[file] = texts[file].replace(old, new, 1)
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    with pytest.raises(QuanyuError, match=message):
        load_city.__wrapped__(str(folder))


def test_the_list_names_each_class_of_the_big_citys_taxonomy_in_general() -> None:
    big = load_city("zhengzhou")
    with (big.folder / "duty.csv").open(encoding="utf-8") as lines:
        general = {r["class_code"] for r in csv.DictReader(lines) if not r["condition"] + r["area"]}
    assert general == set(big.classes)
