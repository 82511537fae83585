"""The first class comes from the pack's own words, and from nothing else."""

import random

import pytest

from schemas.city import CityPack
from streams.intake.classify import Classified, KeywordClassifier


@pytest.fixture
def classifier(city: CityPack) -> KeywordClassifier:
    return KeywordClassifier(city.classes)


@pytest.mark.parametrize("category", ["0201", "路灯不亮"])
def test_a_class_that_the_channel_names_wins_over_every_word(
    classifier: KeywordClassifier, category: str
) -> None:
    found = classifier.classify(category, "路面积水", "雨水倒灌")
    assert found == Classified("0201", 1.0, "native", (("0201", 1.0),))


@pytest.mark.parametrize("category", ["2999", "未分类", "没有这一类"])
def test_a_class_that_says_nothing_leaves_the_words_to_decide(
    classifier: KeywordClassifier, category: str
) -> None:
    found = classifier.classify(category, "路面积水", "")
    assert found is not None
    assert (found.code, found.method) == ("0101", "keyword")


def test_the_title_counts_more_than_the_text(classifier: KeywordClassifier) -> None:
    found = classifier.classify("", "积水", "路灯路灯路灯")
    assert found is not None
    assert found.code == "0101"
    assert found.confidence == pytest.approx(12 / 16)


def test_a_word_said_a_hundred_times_counts_once(classifier: KeywordClassifier) -> None:
    assert classifier.classify("", "", "噪声" * 100) == classifier.classify("", "", "噪声")


def test_a_tie_goes_to_the_lower_code_in_whatever_order_the_pack_lists_them(city: CityPack) -> None:
    classes = list(city.classes.values())
    for seed in range(5):
        random.Random(seed).shuffle(classes)
        found = KeywordClassifier({c.code: c for c in classes}).classify("", "", "积水 路灯 噪声")
        assert found is not None
        assert found.code == "0101"


@pytest.mark.parametrize("text", ["", "x", "今天天气很好", "\x00" * 50])
def test_no_word_of_the_taxonomy_is_no_class(classifier: KeywordClassifier, text: str) -> None:
    assert classifier.classify("", text, text) is None


def test_what_a_five_megabyte_letter_is_about_is_said_early(classifier: KeywordClassifier) -> None:
    assert classifier.classify("", "", "啊" * 5_000_000 + "积水") is None
    assert classifier.classify("", "", "积水" + "啊" * 5_000_000) is not None
