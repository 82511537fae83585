"""Personal data does not reach what people read; the matter's own place and words do."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.texts import clean
from streams.intake.privacy import mask, telephone


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("联系电话13812345678，请回复", "联系电话[电话],请回复"),
        ("电话 138 1234 5678", "电话 [电话]"),
        ("请拨+86-13812345678或0371-66778899", "请拨[电话]或[电话]"),
        ("身份证41010519900307123X", "身份证[证件号]"),
        ("卡号6222021234567890128", "卡号[卡号]"),
        ("车牌豫A·12345乱停", "车牌[车牌]乱停"),
        ("新能源车豫AD12345占道", "新能源车[车牌]占道"),
        ("微信号:abc_12345", "[账号]"),
        ("邮箱zhang.san@example.com", "邮箱[邮箱]"),
        ("我叫张建国，住3号楼2单元1502室", "我叫张某,住3号楼2单元[室]"),
        ("姓名：李四 投诉", "姓名:李某 投诉"),
        ("本人王小明，反映路灯", "本人王某,反映路灯"),
    ],
)
def test_personal_data_is_masked(text: str, masked: str) -> None:
    assert mask(clean(text)).text == masked


@pytest.mark.parametrize(
    "text",
    [
        "2025年3月1日10:30金水区经八路88号3号楼楼下积水",
        "12345热线打不通",
        "G107国道K12+300处路面塌陷",
        "工单250912101108115409未办",
        "联系人事部门没有结果",
        "本人是业主,电梯停了",
        "水位325cm,超警戒",
        "公交B12路、地铁5号线",
    ],
)
def test_what_tells_of_the_matter_stays(text: str) -> None:
    assert mask(clean(text)).text == clean(text)


def test_one_number_is_one_reporter_however_it_is_written() -> None:
    assert {telephone(t) for t in ("138 1234 5678", "+86-13812345678", "8613812345678")} == {
        "13812345678"
    }
    assert mask("电话138-1234-5678").phones == ("13812345678",)


@given(st.text(max_size=80))
def test_what_is_masked_stays_as_it_is_when_masked_again(text: str) -> None:
    once = mask(clean(text)).text
    assert mask(once).text == once


@given(
    st.text(alphabet="市民反映路灯坏了请处理,。", max_size=20),
    st.from_regex(r"1[3-9][0-9]{9}", fullmatch=True),
    st.text(alphabet="市民反映路灯坏了请处理,。", max_size=20),
)
def test_no_telephone_number_survives_between_any_words(
    before: str, number: str, after: str
) -> None:
    assert number not in mask(before + number + after).text
