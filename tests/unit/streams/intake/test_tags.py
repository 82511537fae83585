"""Tags stand beside the class, come from the words of the pack alone, and never decide what is accepted."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.city import TagRules, load_city
from schemas.codec import Codec
from schemas.errors import QuanyuError
from streams.intake.decide import IntakeStep
from streams.intake.tags import Tagger, Tags
from tests.unit.streams.batches import batch, raw_report, records, run
from tests.unit.tiny_city import write_city

RULES = """\
intents:
  咨询: [咨询, 请问]
  投诉: [投诉, 没人管]
default_intent: 求助
urgent: [倒塌]
sensitive:
  未成年人: [未成年, 体罚]
  人身安全: [跳楼]
"""


@pytest.fixture(scope="module")
def tagger() -> Tagger:
    return Tagger(
        TagRules(
            intents={"咨询": ["咨询", "请问"], "投诉": ["投诉", "没人管"]},
            default_intent="求助",
            urgent=["倒塌"],
            sensitive={"未成年人": ["未成年", "体罚"], "人身安全": ["跳楼"]},
        )
    )


@pytest.mark.parametrize(
    ("title", "text", "tags"),
    [
        ("请问几点上班", "", Tags("咨询")),
        ("咨询一件事", "没人管没人管，一直投诉", Tags("咨询")),  # the title names its intent
        ("路灯", "投诉多次，没人管", Tags("投诉")),
        ("路灯不亮", "", Tags("求助")),
        ("墙要倒塌", "", Tags("求助", urgent=True)),
        ("老师体罚未成年学生", "有人要跳楼", Tags("求助", sensitive=("未成年人", "人身安全"))),
        ("", "", Tags("求助")),
    ],
)
def test_words_of_the_pack_make_the_tags(tagger: Tagger, title: str, text: str, tags: Tags) -> None:
    assert tagger.tags(title, text) == tags


@given(st.text(max_size=80), st.text(max_size=200))
def test_any_text_has_an_intent_of_the_rules(title: str, text: str) -> None:
    found = Tagger(TagRules(intents={"咨询": ["咨询"]}, default_intent="求助")).tags(title, text)
    assert found.intent in {"咨询", "求助"}
    assert found.sensitive == ()


def test_a_pack_without_rules_tags_nothing() -> None:
    assert Tagger(TagRules()).tags("投诉", "要倒塌了") == Tags()


@pytest.mark.parametrize(
    ("fields", "tags"),
    [
        ({"text": "请问谁管，墙要倒塌"}, ("咨询", True, [])),
        ({"text": "跳楼"}, ("求助", False, ["人身安全"])),
        ({"text": "请问", "device": "D1"}, ("", False, [])),
    ],
)
def test_an_accepted_report_carries_its_tags_and_a_device_none(
    fields: dict[str, Any], tags: tuple[str, bool, list[str]], codec: Codec, tmp_path: Path
) -> None:
    write_city(tmp_path / "rain")
    (tmp_path / "rain" / "tags.yaml").write_text(RULES, encoding="utf-8")
    step = IntakeStep(load_city(str(tmp_path / "rain")), codec, b"secret")
    outputs, _ = run(step, [batch([codec.encode("RawReport", raw_report(**fields))])])
    (report,) = records(codec, outputs, "reports")
    assert (report["intent"], report["urgent"], report["sensitive"]) == tags


def test_a_word_that_could_not_be_found_is_refused_with_its_line(tmp_path: Path) -> None:
    write_city(tmp_path / "rain")
    (tmp_path / "rain" / "tags.yaml").write_text("intents:\n  咨询: [问]\n", encoding="utf-8")
    with pytest.raises(QuanyuError, match=r"tags\.yaml:2: intents\.咨询\.0: .*2 characters"):
        load_city(str(tmp_path / "rain"))


def test_the_citys_own_rules_know_the_hotlines_six_intents() -> None:
    tagger = Tagger(load_city("zhengzhou").tags)
    for name in ("咨询", "求助", "投诉", "举报", "建议", "表扬"):
        assert tagger.tags(f"我要{name}", "").intent == name
