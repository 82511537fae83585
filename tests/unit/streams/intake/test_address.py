"""An address is the grids that its names make certain; else it goes to review with its candidates."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.city import load_city
from streams.intake.address import AddressBook

CITY = load_city("zhengzhou")
BOOK = AddressBook(CITY)


@pytest.mark.parametrize(
    ("text", "street"),
    [
        ("金水区花园路街道某某社区门口", "410105002"),
        ("河南省郑州市二七区大学路办事处康桥华城小区3号楼", "410103007"),
        ("ＺＺ 郑州市 金水区 花 园路街道", "410105002"),
        ("高新区枫杨街道办", "410172560"),
        ("经开区明湖办事处", "410171560"),
        ("郑东新区如意湖街道", "410105560"),
        ("新郑市城关乡", "410184200"),
        ("新密市新华路街道", "410183002"),
        ("碧沙岗社区门口", "410102001"),
        ("中原区碧沙岗社区居委会对面", "410102001"),
        ("薛店孟庄镇", "410184107"),
    ],
)
def test_what_is_named_is_found(text: str, street: str) -> None:
    assert BOOK.parse(text).street == street


@pytest.mark.parametrize(
    ("text", "district"),
    [
        ("金水区花园路52号", "410105"),
        ("金水区花圆路", "410105"),
        ("管城区紫荆山路与东大街交叉口", "410104"),
        ("郑东新区", "410105"),
        ("二七区", "410103"),
        ("中原区碧沙岗社区向东2公里", "410102"),
    ],
)
def test_a_road_is_no_street(text: str, district: str) -> None:
    found = BOOK.parse(text)
    assert (found.district, found.street) == (district, "")
    assert found.reason


def test_two_candidates_are_shown_and_none_is_taken() -> None:
    found = BOOK.parse("新华路街道办事处门口")
    assert (found.grid, found.reason) == ("", "ambiguous_street")
    assert set(found.candidates) == {"410181001", "410183002", "410184002"}


@pytest.mark.parametrize(
    ("text", "grid"),
    [
        ("龙湖街道办公楼", "410105562"),
        ("龙湖镇政府", "410184109"),
        # 中牟县 has a 东风路街道 too, so a road of that name, whatever the gazetteer lists.
        ("东风路附近", ""),
        ("金水区东风路附近", "410105"),
        ("花园路附近", "410105"),
        ("大学路与航海路交叉口", "410103"),
        ("紫荆山路与航海路交叉口", ""),
        ("东风路与文化路交叉口东北角", "410105"),
    ],
)
def test_roads_and_namesakes_tell_as_much_as_is_certain(text: str, grid: str) -> None:
    assert BOOK.parse(text).grid == grid


def test_a_districts_name_without_its_ending_is_less_certain() -> None:
    whole, short = BOOK.parse("新郑市某店门口"), BOOK.parse("新郑红枣店门口")
    assert whole.grid == short.grid == "410184"
    assert short.confidence < whole.confidence


def test_a_wrong_district_is_repaired_and_less_certain() -> None:
    right, wrong = BOOK.parse("金水区花园路街道"), BOOK.parse("二七区花园路街道")
    assert right.street == wrong.street == "410105002"
    assert wrong.method == "repaired"
    assert wrong.confidence < right.confidence


@pytest.mark.parametrize(
    ("text", "street"),
    [
        ("金水区花圆路街道12号", "410105002"),
        ("中原区碧纱岗社区3号楼", "410102001"),
        ("新密市超花镇", "410183104"),
        # No district, a village's short name, two characters, and the end of a longer name.
        ("花圆路街道12号", ""),
        ("中牟县车刘村", ""),
        ("中牟县星沙镇", ""),
        ("金水区化圆路街道", ""),
        ("金水区西花圆路街道", ""),
        # As near to a name of the district as it is the name of another: either may be wrong.
        ("荥阳市京广路街道", ""),
    ],
)
def test_one_wrong_character_of_a_name_is_mended_in_the_named_district(
    text: str, street: str
) -> None:
    found = BOOK.parse(text)
    assert found.street == street
    assert found.confidence <= 0.7


@pytest.mark.parametrize(
    ("text", "street"),
    [
        ("浙江省温州市苍南县龙港镇洪口路916号", ""),
        ("洛阳市涧西区花园路街道", ""),
        ("浙江省江山市双塔街道陈村村", ""),
        ("多次向市政府反映花园路街道", "410105002"),
        ("洛阳市人，现住在金水区花园路街道", "410105002"),
        ("河南省郑州市金水区花园路街道", "410105002"),
        ("河南新郑市龙湖镇", "410184109"),
        ("大型超市花园路街道店", "410105002"),
    ],
)
def test_a_name_in_another_citys_address_is_none_of_this_city(text: str, street: str) -> None:
    assert BOOK.parse(text).street == street


@pytest.mark.parametrize(
    ("text", "street"),
    [
        ("道路两侧梧桐树飘絮严重", ""),
        ("我家小区，九龙仓物业不作为", ""),
        ("请给新城国际花都装路灯", ""),
        ("在场的有荷花园街道办事处人员", ""),
        ("白沙那边路灯不亮", "410122105"),
        ("中牟县白沙的路灯不亮", "410122105"),
    ],
)
def test_words_of_the_language_are_no_places_unless_said_as_such(text: str, street: str) -> None:
    assert BOOK.parse(text).street == street


def test_a_phrase_is_never_more_certain_than_its_anchor() -> None:
    anchor = BOOK.parse("中原区碧沙岗社区")
    for phrase in ("向东50米", "对面", "附近"):
        found = BOOK.parse("中原区碧沙岗社区" + phrase)
        assert found.street == anchor.street
        assert found.confidence < anchor.confidence
        assert len(found.grid) == 9


def test_the_end_of_a_longer_unknown_name_is_no_place() -> None:
    names = {c.name: c for c in CITY.communities}
    assert "韦沟村委会" in names
    assert BOOK.parse("韦沟村").street
    assert not BOOK.parse("大韦沟村").street


#: Compounds of 碧沙岗 and of its neighbour 互助路, two of one name; the last is a surveyed one.
COMPOUNDS = [
    ("410102001002001", "锦绣家园", True),
    ("410102001002002", "锦绣家园2区", True),
    ("410102001002003", "碧沙岗小区", True),
    ("410102001003001", "锦绣家园", True),
    ("410102001003002", "互助佳苑", False),
]
FINE = AddressBook(CITY, COMPOUNDS)


@pytest.mark.parametrize(
    ("text", "grid"),
    [
        ("中原区林山寨街道碧沙岗锦绣家园12号", "410102001002001"),
        ("中原区林山寨街道碧沙岗锦绣家园2区12号", "410102001002002"),
        ("中原区林山寨街道互助路锦绣家园12号", "410102001003001"),
        ("林山寨街道碧沙岗小区3号楼", "410102001002003"),
        ("中原区碧沙岗社区锦绣家园", "410102001002001"),
        ("二七区林山寨街道碧沙岗锦绣家园", "410102001002001"),
        ("中原区互助佳苑", "410102001003002"),
        ("林山寨街道碧沙岗三组", "410102001002"),
        # A generated name alone, a short name alone, and two at once are nothing certain.
        ("林山寨街道锦绣家园12号", "410102001"),
        ("林山寨街道碧沙岗公园", "410102001"),
        ("林山寨街道碧沙岗锦绣家园、林山寨街道互助路锦绣家园", "410102001"),
        ("林山寨街道碧沙岗锦绣家园对面", "410102001"),
        ("中原区碧沙岗锦绣家园", "410102"),
    ],
)
def test_a_compound_is_found_where_its_community_is_certain(text: str, grid: str) -> None:
    assert FINE.parse(text).grid == grid


@pytest.mark.parametrize(
    "text",
    [
        "中原区林山寨街道碧沙岗锦绣家园12号",
        "林山寨街道碧沙岗小区",
        "林山寨街道",
        "碧沙岗锦绣家园",
        "林山寨街道碧沙岗锦绣家园附近",
        "林山寨街道碧沙岗锦绣家园和林山寨街道互助路锦绣家园",
        "",
    ],
)
def test_the_short_way_inside_a_street_leads_where_the_long_one_does(text: str) -> None:
    found = FINE.parse("中原区", "林山寨街道")
    short = FINE.inside(found, "林山寨街道", text)
    assert short in (found, FINE.parse("中原区", "林山寨街道", text))


def test_a_village_and_the_township_of_its_name_are_not_taken_for_each_other() -> None:
    names = {c.name: c.code for c in CITY.communities if c.code.startswith("410182201")}
    assert any(name.startswith("高村") for name in names)
    assert BOOK.parse("荥阳市高村那边").grid == "410182201"


def test_an_address_is_cut_into_its_parts() -> None:
    parts = BOOK.parts("河南省郑州市二七区大学路办事处大学路12号3号楼")
    assert [p.kind for p in parts[:4]] == ["province", "city", "district", "street"]
    assert parts[-1] == ("unit", "3号楼")
    assert ("number", "12号") in parts


@pytest.mark.parametrize("text", ["", "a", "😀" * 400, "x" * 1_000_000, "Где это?", "\x00\ud800"])
def test_what_is_no_address_has_no_place(text: str) -> None:
    found = BOOK.parse(text)
    assert (found.grid, found.reason) == ("", "no_location")


@given(
    st.lists(st.sampled_from([*"路街区镇村社东米01，", "金水区", "龙湖", "新华路街道", "刘庄村"]))
)
@settings(max_examples=200, deadline=None)
def test_any_text_has_a_grid_or_a_reason(pieces: list[str]) -> None:
    found = BOOK.parse("".join(pieces))
    assert found.grid or found.reason
    assert found.street or found.reason
    assert 0.0 <= found.confidence <= 1.0
    assert "".join(part.text for part in BOOK.parts("".join(pieces))) == "".join(pieces).replace(
        "，", ","
    )


def test_streets_and_communities_of_the_pack_are_found_where_they_are() -> None:
    rng = random.Random(11)
    streets = {street.code: street.name for street in CITY.streets}
    wrong = right = 0
    sample = rng.sample(CITY.communities, 600)
    for place in sample:
        district, street = CITY.district_name(place.code[:6]), streets[place.street]
        text = rng.choice(
            [f"{district}{street}{place.name}", f"{district}{place.name}", f"{place.name}附近"]
        )
        found = BOOK.parse(text)
        right += found.street == place.street
        wrong += found.street not in ("", place.street)
    assert right >= 0.80 * len(sample)
    assert wrong <= 0.03 * len(sample)
