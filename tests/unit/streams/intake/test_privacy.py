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
        ("请拨0371-6677 8899或座机66778899", "请拨[电话]或座机[电话]"),
        # Before its cue a number is one however it is mistyped, without it by its check digit.
        ("身份证41010519900307123X", "身份证[证件号]"),
        ("11010519491231002X 来电", "[证件号] 来电"),
        ("身份证号：410105900307123", "身份证号:[证件号]"),
        ("护照E12345678", "护照[证件号]"),
        ("卡号6222021234567890128", "卡号[卡号]"),
        ("银行卡6222 0212 3456 7890 128", "银行卡[卡号]"),
        ("车牌豫A·12345乱停", "车牌[车牌]乱停"),
        ("豫a12345和豫A1234学", "[车牌]和[车牌]"),
        ("新能源车豫AD12345占道", "新能源车[车牌]占道"),
        ("微信号:abc_12345", "[账号]"),
        ("邮箱zhang.san@example.com", "邮箱[邮箱]"),
        ("我叫张建国，住3号楼2单元1502室", "我叫张某,住3号楼2单元[室]"),
        ("家住12号院3号楼2单元1502，或5楼东户", "家住12号院3号楼2单元[室],或5楼[室]"),
        ("家住绿城花园3-2-501", "家住绿城花园3-2-[室]"),
        ("姓名：李四 投诉", "姓名:李某 投诉"),
        ("姓名张伟，联系人李小红13812345678", "姓名张某,联系人李某[电话]"),
        ("我的名字叫李雷", "我的名字叫李某"),
        ("举报人是赵六，户主 王五", "举报人是赵某,户主 王某"),
        ("本人李明反映路灯", "本人李某反映路灯"),
        ("您好,王建国先生反映路灯", "您好,王某先生反映路灯"),
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
        "申请人是村民组,反映人向有关部门投诉",
        "本人于2019年购房,本人方面,本人江西人,本人高新区业主",
        "王先生来电,李先生牛肉面馆油烟,白女士服装店占道",
        "王府井百货门口,黄河路与金水路交叉口,何庄村,马路对面",
        "A栋78户,18栋966户业主,6栋180户1000余人",
        "3-2-501,2025-3-12,10-12-2025",
        "订单410105202503071231",  # region, day and serial number: its last digit checks nothing
        "4008208820和400-820-8820没人接",
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
