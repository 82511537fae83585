"""Several demands in one text become several reports of one origin; what is in doubt stays whole."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.city import CityPack
from schemas.codec import Codec
from schemas.ids import report_id
from schemas.texts import clean
from streams.intake.decide import IntakeStep
from streams.intake.demands import Demands, demands, may_list, names_house, part_id, plain_numbers
from streams.merge.decide import MergeStep
from tests.unit.streams.batches import Record, batch, raw_report, records, run
from tests.unit.tiny_city import EAST, IN_EAST, WEST

PONDING, LAMP = "磨坊边路面积水很深", "门口的路灯不亮了"


def split(text: str) -> list[Demands]:
    cleaned = clean(plain_numbers(text))
    found = list(demands(cleaned))
    assert may_list(cleaned) or not found
    return found


@pytest.mark.parametrize(
    "text",
    [
        f"1、{PONDING}；2、{LAMP}。",
        f"1.{PONDING}；2.{LAMP}。",
        f"1）{PONDING}；2）{LAMP}。",
        f"（1）{PONDING}（2）{LAMP}。",
        f"(一){PONDING}(二){LAMP}。",
        f"①{PONDING}②{LAMP}。",
        f"１、{PONDING}２、{LAMP}。",
        f"一、{PONDING}。二、{LAMP}。",
        f"一是{PONDING}，二是{LAMP}。",
        f"第一，{PONDING}；第二，{LAMP}。",
        f"第一个问题是{PONDING}。第二个问题是{LAMP}。",
        f"首先{PONDING}，其次，{LAMP}。",
    ],
)
def test_what_is_counted_falls_into_its_parts(text: str) -> None:
    ((common, parts),) = split("反映两个问题：" + text)
    assert common == "反映两个问题:"
    assert [part.strip("。;,") for part in parts] == [PONDING, LAMP]


@pytest.mark.parametrize("word", ["另外，", "此外，", "还有一件事，", "还有个问题："])
def test_a_sentence_that_begins_anew_is_a_part(word: str) -> None:
    ((common, parts),) = split(f"{PONDING}，请尽快处理。{word}{LAMP}。")
    assert (common, parts) == ("", (f"{PONDING},请尽快处理。", f"{LAMP}。"))


@pytest.mark.parametrize(
    "text",
    [
        "2025.1.2日起停水，2.3日仍未恢复，请尽快处理",
        "1、2号楼电梯都坏了很久没有人来修理",
        "1号楼和2号楼之间路灯不亮，3号楼楼下积水",
        "收费1.5元，涨到2.5元一小时，太贵了不合理",
        "电话0371-66778899转1，或者转2，没有人接听",
        "上午10:1、下午12:2、都没有人在窗口办理业务",
        "一、二、三楼的楼道灯全部都不亮了请修理",
        "住在第一小学和第二人民医院之间，路灯不亮",
        "唯一是担心二是孩子安全问题没有保障",
        "4、路灯不亮需要修理 5、路面积水需要处理",
        "2、路灯不亮需要修理 1、路面积水需要处理",
        "小区另外一侧的路灯不亮，还有积水没人管",
        f"1、{PONDING} 1、{LAMP} 2、没有人来修理的",
        f"1、{PONDING}" + "水" * 300 + f" 2、{LAMP}",
    ],
)
def test_dates_houses_prices_and_lists_within_lists_are_no_enumeration(text: str) -> None:
    assert split(text) == []


def test_a_circled_number_joins_no_digit_behind_it() -> None:
    assert clean(plain_numbers("①2号楼")) == "(1)2号楼"


@pytest.mark.parametrize(
    ("text", "own"), [("长堤12号路灯不亮", True), ("3号楼电梯", False), ("2号线口", False)]
)
def test_a_house_of_its_own_is_told_from_a_building_of_a_compound(text: str, own: bool) -> None:
    assert names_house(text) is own


@given(st.text(max_size=60), st.text(alphabet="123一二三、.()第是另外,。首先其次水灯", max_size=60))
def test_any_text_is_read_and_no_word_of_a_part_is_made_up(free: str, counted: str) -> None:
    for text in (clean(plain_numbers(free)), clean(counted), clean(free + counted)):
        for found in demands(text):
            assert may_list(text)
            assert len(found.parts) >= 2
            assert found.common in text
            assert all(part in text for part in found.parts)


# ---- intake


@pytest.fixture
def step(city: CityPack, codec: Codec) -> IntakeStep:
    return IntakeStep(city, codec, b"secret")


def decide(step: IntakeStep, codec: Codec, *raws: Record) -> tuple[list[Record], list[Record]]:
    outputs, _ = run(step, [batch([codec.encode("RawReport", raw) for raw in raws])])
    return records(codec, outputs, "report.outcomes"), records(codec, outputs, "reports")


def two(first: str = PONDING, second: str = LAMP, **fields: Any) -> Record:
    text = f"这里有两个问题:1、{first};2、{second}。"
    return raw_report(**({"title": "两个问题", "text": text} | fields))


def test_one_outcome_and_a_report_of_each_demand(step: IntakeStep, codec: Codec) -> None:
    (outcome,), reports = decide(step, codec, two(forwarded_from="partner/7", media=["sha256:ab"]))
    whole = report_id("test", "A1", 0)
    assert (outcome["outcome"], outcome["report_id"], outcome["parts"]) == ("accepted", whole, 2)
    assert outcome["detail"] == "demands: 0101, 0201"
    assert outcome["class_code"] == "0101"
    assert [r["native_id"] for r in reports] == ["A1-01", "A1-02"]
    assert [r["report_id"] for r in reports] == [part_id(whole, 1), part_id(whole, 2)]
    assert [r["class_code"] for r in reports] == ["0101", "0201"]
    assert {r["origin"] for r in reports} == {whole}
    assert [r["text"] for r in reports] == [
        f"这里有两个问题: {PONDING}",
        f"这里有两个问题: {LAMP}。",
    ]
    assert [r["forwarded_from"] for r in reports] == ["partner/7-01", "partner/7-02"]
    assert {r["district_code"] for r in reports} == {WEST}
    assert {(r["source_topic"], r["source_offset"]) for r in reports} == {("reports.raw.test", 0)}


def test_what_is_not_taken_apart_is_its_own_origin(step: IntakeStep, codec: Codec) -> None:
    (outcome,), (report,) = decide(step, codec, raw_report())
    assert (outcome["parts"], report["origin"]) == (1, "")


@pytest.mark.parametrize(
    "raw",
    [
        two(second="磨坊边雨水倒灌进来了"),  # one class
        two(second="路边井盖丢失很危险"),  # another class of the same kind: one unit sees both
        two(second="请早日给予我们答复"),  # no class
        two(category="0202"),  # of neither demand
        two(device="cam-1"),  # a device lists nothing
        two(occurred_at="2099-01-01 00:00:00"),  # somebody must look at it
        two(lon="0", lat="0"),
        two(second="长堤九弄12号路灯不亮"),  # a house that no one knows
        two(second="同名街道路灯不亮了请修"),  # either of two
    ],
)
def test_a_doubt_leaves_the_message_whole(step: IntakeStep, codec: Codec, raw: Record) -> None:
    outcomes, reports = decide(step, codec, raw)
    assert [o["parts"] for o in outcomes] == [1]
    assert [r["origin"] for r in reports] in ([], [""])


def test_the_channels_own_class_is_that_of_the_demand_it_is_of(
    step: IntakeStep, codec: Codec
) -> None:
    _, reports = decide(step, codec, two(category="0201"))
    assert [(r["class_code"], r["class_method"]) for r in reports] == [
        ("0101", "keyword"), ("0201", "native"),
    ]  # fmt: skip


def test_a_title_goes_to_the_demand_that_it_is_of(step: IntakeStep, codec: Codec) -> None:
    _, reports = decide(step, codec, two(title="路面积水没人管"))
    assert [r["title"] for r in reports] == ["路面积水没人管", f"{LAMP}。"]


def test_a_demand_elsewhere_is_where_its_own_words_say(step: IntakeStep, codec: Codec) -> None:
    text = f"{PONDING},请尽快处理。另外,长堤街道路灯不亮了。"
    (outcome,), (here, there) = decide(step, codec, raw_report(text=text, address="磨坊"))
    assert (here["district_code"], here["lon"], here["address"]) == (WEST, 20.0512, "磨坊")
    assert (there["district_code"], there["lon"], there["address"]) == (EAST, None, "")
    assert (there["source_lon"], there["grid_code"]) == ("", "990102001")
    assert outcome["district_code"] == WEST


def test_personal_data_is_masked_in_every_part(step: IntakeStep, codec: Codec) -> None:
    _, reports = decide(step, codec, two(second=f"{LAMP},电话13812345678"))
    assert "13812345678" not in "".join(r["text"] for r in reports)
    assert len({r["reporter_hash"] for r in reports}) == 1


def test_the_same_message_again_is_one_duplicate(step: IntakeStep, codec: Codec) -> None:
    outcomes, reports = decide(step, codec, two(), two())
    assert [(o["outcome"], o["parts"]) for o in outcomes] == [("accepted", 2), ("duplicate", 1)]
    assert len(reports) == 2


def test_no_demand_has_the_id_of_a_message(step: IntakeStep, codec: Codec) -> None:
    # Some channels number the parts of a call themselves.
    outcomes, reports = decide(step, codec, two(), raw_report("A1-01"), raw_report("A1-02"))
    assert [o["outcome"] for o in outcomes] == ["accepted"] * 3
    assert len({r["report_id"] for r in reports}) == 4


def test_the_demands_of_a_message_never_merge(city: CityPack, codec: Codec) -> None:
    raws = [two(reporter="13812345678", lon=str(IN_EAST[0]), lat=str(IN_EAST[1]))]
    values = [codec.encode("RawReport", raw) for raw in raws]
    decided, _ = run(IntakeStep(city, codec, b"secret"), [batch(values)])
    reports = [o.value for o in decided if o.topic == "reports"]
    merged, _ = run(MergeStep(city, codec), [batch(reports, "reports")])
    assert len({link["event_id"] for link in records(codec, merged, "event.links")}) == 2
