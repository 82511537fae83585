"""A trained model in service decides where it is sure, a person where it is not, and no batch changes it."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.city_check import check_tables
from deploy.train_classify import Labelled, train
from schemas.city import CityPack, load_city
from schemas.codec import Codec
from schemas.errors import QuanyuError
from streams.intake.classify import Classifier, ReportTexts
from streams.intake.decide import IntakeStep, Reason
from tests.unit.streams.batches import batch, raw_report, records, run
from tests.unit.tiny_city import write_city

SAID: dict[str, tuple[str, ...]] = {
    "0101": ("路面积水很深车辆无法通行", "雨后地道里全是水", "小区门口积水三天没人抽"),
    "0201": ("夜里整条路漆黑一片", "灯杆倒了没有人修", "路口的灯坏了看不清"),
    "0202": ("广场舞音响太吵", "半夜施工声音大睡不着", "楼下酒吧放音乐扰民"),
}


def labelled(said: dict[str, tuple[str, ...]]) -> Labelled:
    """Each sentence of a label with each of seven endings."""
    rows = [
        (f"{text}，{ending}", label)
        for label, texts in said.items()
        for text in texts
        for ending in ("请处理", "望解决", "谢谢", "急", "已经报过", "请尽快", "拜托")
    ]
    return Labelled([text for text, _ in rows], [label for _, label in rows], {})


def pack(folder: Path, said: dict[str, tuple[str, ...]], threshold: float) -> CityPack:
    """The tiny city with a model of its own in service."""
    write_city(folder)
    model, _ = train(labelled(said))
    model.save(folder / "classifier.npz")
    with (folder / "city.yaml").open("a", encoding="utf-8") as out:
        out.write(f"classifier: {{model: classifier.npz, threshold: {threshold}}}\n")
    return load_city(str(folder))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> CityPack:
    return pack(tmp_path_factory.mktemp("trained") / "rain", SAID, 0.6)


def outcome(
    city: CityPack, codec: Codec, **said: Any
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    step = IntakeStep(city, codec, b"secret")
    outputs, _ = run(step, [batch([codec.encode("RawReport", raw_report(**said))])])
    (decided,) = records(codec, outputs, "report.outcomes")
    return decided, records(codec, outputs, "reports")


def test_what_no_keyword_says_is_classified_from_the_citys_history(
    trained: CityPack, codec: Codec
) -> None:
    decided, (report,) = outcome(trained, codec, title=None, text="酒吧放音乐太吵，半夜睡不着")
    assert decided["outcome"] == "accepted", decided
    assert (report["class_code"], report["class_method"]) == ("0202", "model")
    assert 0.6 <= report["class_confidence"] <= 1


def test_an_unsure_model_leaves_the_choice_to_a_person_with_the_best_three(
    trained: CityPack, codec: Codec
) -> None:
    decided, reports = outcome(trained, codec, title=None, text="你好，请问几点上班")
    assert (decided["outcome"], decided["reason"]) == ("review", Reason.CLASS_UNSURE)
    assert not reports
    named = [part.split()[:2] for part in decided["detail"].split(", ")]
    assert sorted(named) == [["0101", "积水"], ["0201", "路灯不亮"], ["0202", "噪声"]]


def test_a_class_that_the_channel_names_is_not_asked_of_the_model(
    trained: CityPack, codec: Codec
) -> None:
    decided, (report,) = outcome(trained, codec, category="0102", title=None, text="酒吧放音乐太吵")
    assert decided["outcome"] == "accepted"
    assert (report["class_code"], report["class_method"]) == ("0102", "native")


@pytest.mark.parametrize(
    "text",
    ["", "🚰🚰🚰", "水" * 1_000_000, "'; DROP TABLE orders; --", "<script>1</script>",
     "Протечка крыши", "\ud800"],
)  # fmt: skip
def test_whatever_is_written_is_a_class_or_a_question_never_a_crash(
    trained: CityPack, text: str
) -> None:
    (found,) = Classifier(trained).classify([ReportTexts("", "", text)])
    assert (found is None) == (text == "")


@given(st.permutations(range(12)), st.integers(1, 12))
@settings(max_examples=40)
def test_a_text_has_the_same_probability_in_whatever_batch_it_comes(
    trained: CityPack, order: list[int], size: int
) -> None:
    texts = [text for said in SAID.values() for text in said] + ["", "水", "吵" * 3_000]
    classifier = Classifier(trained)
    alone = [classifier.classify([ReportTexts("", "", text)])[0] for text in texts]
    together = [
        found
        for start in range(0, 12, size)
        for found in classifier.classify(
            [ReportTexts("", "", texts[i]) for i in order[start : start + size]]
        )
    ]
    assert together == [alone[i] for i in order]


def test_a_model_of_other_labels_than_the_taxonomys_does_not_start(
    codec: Codec, tmp_path: Path
) -> None:
    city = pack(tmp_path / "other", {"0101": SAID["0101"], "噪声类": SAID["0202"]}, 0.5)
    with pytest.raises(
        QuanyuError, match=r"classifier\.npz: label '噪声类' is no class of .*taxonomy"
    ):
        IntakeStep(city, codec, b"secret")
    (found,) = [f for f in check_tables(city) if f.file.endswith("classifier.npz")]
    assert found.remedy == "train on labels that are its codes"


def test_a_model_that_is_named_and_missing_says_how_to_make_one(
    trained: CityPack, tmp_path: Path, codec: Codec
) -> None:
    write_city(tmp_path / "bare")
    with (tmp_path / "bare" / "city.yaml").open("a", encoding="utf-8") as out:
        out.write("classifier: {model: none.npz}\n")
    with pytest.raises(QuanyuError, match=r"none\.npz: no such model; make one: quanyu train"):
        IntakeStep(load_city(str(tmp_path / "bare")), codec, b"secret")
