"""A classifier learns from a city's history, says how sure it is, and refuses what it cannot learn from."""

import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.train_classify import Labelled, measure, read_labelled, train
from schemas.errors import QuanyuError
from streams.intake.features import features
from streams.intake.text_model import load_text_model

WORDS = {
    "水": ["水管破裂", "停水三天", "水压太低", "自来水发黄", "水表漏水"],
    "路": ["路面塌陷", "道路坑洼", "马路没修好", "路口没有红绿灯", "人行道损坏"],
    "学": ["学校收费", "老师补课", "入学报名难", "幼儿园学位", "教育局不回复"],
}


def history(rows: int = 120, seed: int = 5) -> Labelled:
    choice = random.Random(seed)
    texts, labels = [], []
    for number in range(rows):
        label = choice.choice(list(WORDS))
        texts.append(
            f"市民反映{choice.choice(WORDS[label])}，{number}号楼，{choice.choice(WORDS[label])}"
        )
        labels.append(label)
    return Labelled(texts, labels, {})


def csv_file(folder: Path, text: str) -> Path:
    path = folder / "history.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_it_learns_what_words_mean_and_says_how_sure_it_is(tmp_path: Path) -> None:
    model, result = train(history())
    assert result["cv_macro_f1"] > 0.95
    model.save(tmp_path / "m.npz")
    again = load_text_model(tmp_path / "m.npz")
    probabilities = again.probabilities(["楼里停水三天没人管", "路口道路坑洼", "幼儿园学位"])
    assert [again.labels[i] for i in probabilities.argmax(axis=1)] == ["水", "路", "学"]
    assert np.allclose(probabilities.sum(axis=1), 1.0, atol=1e-5)
    unknown = again.probabilities(["🙂🙂🙂", ""]).max(axis=1)
    assert (unknown < probabilities.max(axis=1).min()).all(), (
        "what it cannot read it must not be sure of"
    )


def test_the_same_history_gives_the_same_model() -> None:
    one, other = train(history())[0], train(history())[0]
    assert np.array_equal(one.weights, other.weights)
    assert np.array_equal(one.scale, other.scale)


def test_two_labels_are_enough_and_one_is_refused() -> None:
    data = history()
    two = [i for i, label in enumerate(data.labels) if label != "学"]
    model, _ = train(Labelled([data.texts[i] for i in two], [data.labels[i] for i in two], {}))
    assert model.labels[int(model.probabilities(["停水三天"]).argmax())] == "水"
    with pytest.raises(QuanyuError, match="nothing to tell apart"):
        train(Labelled(["停水"] * 20, ["水"] * 20, {}))


def test_a_label_with_too_few_texts_and_contradictions_are_said() -> None:
    data = history()
    texts = [*data.texts, "环境污染", data.texts[0]]
    labels = [*data.labels, "环", next(name for name in WORDS if name != data.labels[0])]
    result = train(Labelled(texts, labels, {}))[1]
    assert result["left_out"] == {"fewer than 5 texts: 环": 1}
    assert result["contradictory_texts"] == 1


@pytest.mark.parametrize(
    ("texts", "labels", "message"),
    [
        (["停水"] * 20, ["水", "路"] * 10, "0 of 2 labels have 5 different texts"),
        (["停水"] * 10 + ["坑洼"] * 10, ["水"] * 10 + ["路"] * 10, "0 of 2 labels"),
        (["🙂"] * 10 + ["🚰"] * 10, ["水"] * 10 + ["路"] * 10, "nothing to tell apart"),
        ([chr(0x4E00 + i) for i in range(40)], ["水", "路"] * 20, "too little in common"),
    ],
)
def test_a_history_of_too_few_texts_is_refused_with_what_it_lacks(
    texts: list[str], labels: list[str], message: str
) -> None:
    with pytest.raises(QuanyuError, match=message):
        train(Labelled(texts, labels, {}))


def test_a_history_that_contradicts_itself_everywhere_teaches_doubt() -> None:
    data = history()
    other = [{"水": "路", "路": "水"}.get(label, "学") for label in data.labels]
    model, result = train(Labelled(data.texts * 2, data.labels + other, {}))
    assert result["contradictory_texts"] == sum(label != "学" for label in data.labels)
    (sure,) = model.probabilities(["楼里停水三天没人管"]).max(axis=1)
    assert sure < 0.6


def test_a_text_of_nothing_known_is_not_the_label_that_most_texts_have() -> None:
    texts = [f"停水第{day}天" for day in range(400)] + [f"坑洼{day}" for day in range(8)]
    model, _ = train(Labelled(texts, ["水"] * 400 + ["路"] * 8, {}))
    for text in ("", "🙂🙂🙂", "ქუჩა"):
        assert model.probabilities([text]).tolist() == [[0.5, 0.5]]


def test_review_rate_and_accuracy_of_the_rest_add_up() -> None:
    data = Labelled(["a", "b", "c", "d"], ["水", "水", "路", "环"], {})
    probabilities = np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.55, 0.45]], dtype=np.float32)
    found = measure(data, ["水", "路"], probabilities, 0.6)
    assert found["rows"] == 4
    assert found["accuracy"] == 0.5
    assert found["review_rate"] == 0.25
    assert found["auto_accuracy"] == pytest.approx(2 / 3, abs=1e-4)
    assert found["per_class"]["环"] == {"rows": 1, "precision": 0.0, "recall": 0.0, "f1": 0.0}
    assert found["per_class"]["水"]["recall"] == 0.5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"history\.csv:1: column text is missing"),
        ("text,class\nx,y\n", r":1: column label is missing"),
        ("text,label\n,水\nx,\n", "no row with a text and a label"),
    ],
)
def test_a_file_that_teaches_nothing_is_refused_with_its_reason(
    tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(QuanyuError, match=message):
        read_labelled(csv_file(tmp_path, text))


def test_a_folder_in_place_of_a_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(QuanyuError, match=r"not readable \(Is a directory\)"):
        read_labelled(tmp_path)
    model, _ = train(history())
    for path in (tmp_path, tmp_path / "none" / "m.npz"):
        with pytest.raises(QuanyuError, match="not writable"):
            model.save(path)


def test_a_title_stands_before_its_text_and_rows_without_either_are_counted(tmp_path: Path) -> None:
    read = read_labelled(
        csv_file(tmp_path, "label,title,text\n水,停水,三天了\n水,,没水\n,x,y\n路,,\n")
    )
    assert read.texts == ["停水。三天了", "没水"]
    assert read.left_out == {"no label": 1, "no text": 1}


@pytest.mark.parametrize("content", [b"", b"no model", b"PK\x03\x04broken"])
def test_a_file_that_is_no_model_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.npz").write_bytes(content)
    with pytest.raises(QuanyuError, match=r"m\.npz: not a model"):
        load_text_model(tmp_path / "m.npz")
    with pytest.raises(QuanyuError, match="no such model"):
        load_text_model(tmp_path / "none.npz")


@given(st.lists(st.text(max_size=50), max_size=8))
def test_any_texts_become_rows_and_a_row_does_not_depend_on_its_neighbours(
    texts: list[str],
) -> None:
    rows = features(texts)
    assert rows.shape[0] == len(texts)
    for index, text in enumerate(texts):
        assert (features([text]).toarray() == rows[[index]].toarray()).all()
