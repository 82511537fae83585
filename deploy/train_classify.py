"""Training and measuring the classifier of texts on a city's own labelled history.

Method: one linear support vector machine a label (one against the rest) on weighted character pieces, each
piece weighted too by how much more often the label's texts hold it (after Wang and Manning, *Baselines and
Bigrams*, 2012; the root of the log ratio). Chosen because it measured best on citizens' letters among those
that read 40,000 texts a second: segmented words, title and text apart, naive Bayes, mixtures and unlabelled
letters were worse or no better. Margins become probabilities by a multinomial logistic fit (Platt's idea for
many labels) on held-out folds.
"""

import csv
import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.sparse import csr_array
from scipy.special import log_softmax
from sklearn.metrics import f1_score
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.svm import LinearSVC

from schemas.city import load_city
from schemas.errors import QuanyuError
from schemas.texts import clean
from streams.intake.classify import KeywordClassifier, joined
from streams.intake.features import SLOTS, features
from streams.intake.text_model import Floats, TextModel, softmax, weigh

#: Penalty of the machine; 1, 3 and 10 differ by half a point, 3 is best.
PENALTY = 3.0
FOLDS = 5
#: Of the calibration: how strongly a label's offset is held at zero.
PULL = 1e-3
#: A piece that one text alone holds says nothing of another.
RARE = 2
#: With fewer different texts of a label nothing can be learned, nor measured, of it.
LEAST = FOLDS

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Labelled:
    """Texts (title before text) and their labels, in the file's order; what was left out, by reason."""

    texts: list[str]
    labels: list[str]
    left_out: dict[str, int]


def read_labelled(path: Path) -> Labelled:
    """Read ``text,label`` and, if there, ``title``; :class:`QuanyuError` names line and column."""
    csv.field_size_limit(sys.maxsize)
    texts, labels = [], []
    left_out: Counter[str] = Counter()
    try:
        with path.open(encoding="utf-8-sig", newline="") as handle:
            reader = csv.DictReader(handle)
            missing = [name for name in ("text", "label") if name not in (reader.fieldnames or [])]
            if missing:
                raise QuanyuError(
                    f"{path}:1: column {missing[0]} is missing; the header must name text and label"
                )
            for row in reader:
                label = clean(row["label"])
                text = joined(clean(row.get("title")), clean(row["text"]))
                if not label:
                    left_out["no label"] += 1
                elif not text:
                    left_out["no text"] += 1
                else:
                    texts.append(text)
                    labels.append(label)
    except OSError as error:
        raise QuanyuError(f"{path}: not readable ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise QuanyuError(f"{path}: not UTF-8 at byte {error.start}; save it as UTF-8") from None
    except csv.Error as error:
        raise QuanyuError(f"{path}:{reader.line_num}: not CSV: {error}") from None
    if not texts:
        raise QuanyuError(f"{path}: no row with a text and a label")
    return Labelled(texts, labels, dict(left_out))


def train(data: Labelled, seed: int = 0) -> tuple[TextModel, dict[str, Any]]:
    """A model of all rows, and what cross-validation says of rows that it has not seen.

    Equal texts stay on one side of every split. Labels with fewer than five different texts are left out,
    and said. Raises :class:`QuanyuError` when fewer than two labels can be learned.
    """
    count = Counter(data.labels)
    different = Counter(label for _, label in set(zip(data.texts, data.labels, strict=True)))
    rare = {label: n for label, n in count.items() if different[label] < LEAST}
    kept = [i for i, label in enumerate(data.labels) if label not in rare]
    names = sorted(set(count) - set(rare))
    if len(names) < 2:
        raise QuanyuError(
            f"{len(names)} of {len(count)} labels have {LEAST} different texts or more: there is nothing"
            " to tell apart; give two such labels or more"
        )
    texts = [data.texts[i] for i in kept]
    labels = np.array([names.index(data.labels[i]) for i in kept])
    counted = features(texts)
    folds = _folds(labels, _groups(texts), seed)
    margins = _held_out(counted, labels, len(names), folds)
    scale = _calibrate(margins, labels)
    guessed = np.zeros_like(labels)
    for rest, fold in folds:  # neither machine nor scale have seen what is guessed
        own = _calibrate(margins[rest], labels[rest])
        guessed[fold] = softmax(margins[fold], own).argmax(axis=1)
    column, idf, weights = _fit(counted, labels, len(names))
    result = {
        "rows": len(texts),
        "labels": len(names),
        "cv_macro_f1": round(float(f1_score(labels, guessed, average="macro")), 4),
        "cv_accuracy": round(float((labels == guessed).mean()), 4),
        "folds": FOLDS,
        "contradictory_texts": _contradictions(data),
        "left_out": {
            **data.left_out,
            **{f"fewer than {LEAST} texts: {k}": n for k, n in rare.items()},
        },
    }
    about = {name: result[name] for name in ("rows", "cv_macro_f1", "cv_accuracy")}
    return TextModel(tuple(names), column, idf, weights, scale, about), result


def measure(
    data: Labelled,
    labels: Sequence[str],
    probabilities: Floats,
    threshold: float,
) -> dict[str, Any]:
    """``rows, accuracy, macro_f1, per_class, review_rate, auto_accuracy`` of given probabilities.

    A label of the data that the model does not know counts as wrong. Below ``threshold`` a text goes to
    review; ``auto_accuracy`` is that of the others.
    """
    best = probabilities.argmax(axis=1)
    sure = probabilities.max(axis=1)
    guessed = np.array([labels[i] if p > 0 else "" for i, p in zip(best, sure, strict=True)])
    truth = np.array(data.labels)
    right, auto = guessed == truth, sure >= threshold
    per_class = {}
    for name in sorted(set(data.labels)):
        is_, said = truth == name, guessed == name
        both = int((is_ & said).sum())
        precision = both / int(said.sum()) if said.any() else 0.0
        recall = both / int(is_.sum())
        f1 = 2 * precision * recall / (precision + recall) if both else 0.0
        per_class[name] = {
            "rows": int(is_.sum()),
            "precision": round(precision, 4),
            "recall": round(recall, 4),
            "f1": round(f1, 4),
        }
    return {
        "rows": len(truth),
        "accuracy": round(float(right.mean()), 4),
        "macro_f1": round(float(np.mean([entry["f1"] for entry in per_class.values()])), 4),
        "per_class": per_class,
        "threshold": threshold,
        "review_rate": round(float(1.0 - auto.mean()), 4),
        "auto_accuracy": round(float(right[auto].mean()), 4) if auto.any() else None,
        "left_out": data.left_out,
    }


def by_keywords(data: Labelled, city: str, mapping: Path | None) -> tuple[tuple[str, ...], Floats]:
    """What a city without a history knows on its first day: its taxonomy's words.

    ``mapping`` gives the data's label for a code of the taxonomy or for the class of its first two digits;
    without it the labels are the codes themselves.
    """
    pack = load_city(city)
    label_of = _mapping(mapping) if mapping else {}
    names = tuple(sorted(set(label_of.values()) | set(data.labels)))
    classifier = KeywordClassifier(pack.classes)
    probabilities = np.zeros((len(data.texts), len(names)), dtype=np.float32)
    for row, text in enumerate(data.texts):
        found = classifier.by_words("", text)
        if found is not None:
            label = label_of.get(found.code) or label_of.get(found.code[:2]) or found.code
            if label in names:
                probabilities[row, names.index(label)] = found.confidence
    return names, probabilities


def _mapping(path: Path) -> dict[str, str]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as handle:
            reader = csv.DictReader(handle)
            if not {"code", "label"} <= set(reader.fieldnames or []):
                raise QuanyuError(f"{path}:1: the header must name code and label")
            return {row["code"]: clean(row["label"]) for row in reader}
    except OSError as error:
        raise QuanyuError(f"{path}: not readable ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise QuanyuError(f"{path}: not UTF-8 at byte {error.start}; save it as UTF-8") from None


def _groups(texts: Sequence[str]) -> npt.NDArray[np.int64]:
    """A number a text, equal for equal ones."""
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(text, len(numbers)) for text in texts])


def _folds(
    labels: npt.NDArray[np.int64], groups: npt.NDArray[np.int64], seed: int
) -> list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """Rows to learn from and rows held out; equal texts stay on one side."""
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
    return list(folds.split(np.zeros((len(labels), 1)), labels, groups))


def _held_out(
    counted: csr_array,
    labels: npt.NDArray[np.int64],
    width: int,
    folds: Sequence[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]],
) -> Floats:
    """Margins of each text by a machine that has not seen it."""
    margins = np.zeros((len(labels), width), dtype=np.float32)
    for train_rows, test_rows in folds:
        column, idf, weights = _fit(counted[train_rows], labels[train_rows], width)
        weighed = weigh(counted[test_rows], column, idf)
        margins[test_rows] = weighed @ weights[:-1] + weights[-1]
    return margins


def _fit(
    counted: csr_array, labels: npt.NDArray[np.int64], width: int
) -> tuple[npt.NDArray[np.int32], Floats, Floats]:
    """Which pieces are kept, their rarity, and the machine's weights with the intercept as last row."""
    seen = np.bincount(counted.indices, minlength=SLOTS)
    slots = np.flatnonzero(seen >= RARE)
    if not len(slots) or len(np.unique(labels)) < 2:
        raise QuanyuError(
            "the texts have too little in common to learn from; give more texts of each label"
        )
    column = np.full(SLOTS, -1, dtype=np.int32)
    column[slots] = np.arange(len(slots), dtype=np.int32)
    idf = (np.log((1 + counted.shape[0]) / (1 + seen[slots])) + 1).astype(np.float32)
    weighed = weigh(counted, column, idf)
    holds = csr_array((np.ones_like(weighed.data), weighed.indices, weighed.indptr), weighed.shape)
    weights = np.zeros((len(slots) + 1, width), dtype=np.float32)
    weights[-1] = -1.0  # of a label that this part of the history does not have
    for label in np.unique(labels):
        # How many texts hold each piece, one more lest nothing be impossible.
        inside = holds[labels == label].sum(axis=0) + 1.0
        outside = holds[labels != label].sum(axis=0) + 1.0
        ratio = np.log(inside / inside.sum()) - np.log(outside / outside.sum())
        telling = np.sqrt(np.abs(ratio)).astype(np.float32)
        told = csr_array(
            (weighed.data * telling[weighed.indices], weighed.indices, weighed.indptr),
            weighed.shape,
        )
        machine = LinearSVC(C=PENALTY, random_state=0).fit(told, labels == label)
        weights[:-1, label] = machine.coef_[0] * telling
        weights[-1, label] = machine.intercept_[0]
    return column, idf, weights


def _calibrate(margins: Floats, labels: npt.NDArray[np.int64]) -> Floats:
    """Factor and offsets under which the held-out margins give the truth the highest likelihood.

    The offsets mend what one machine a label leaves skew: they add a point of macro-F1 on citizens' letters.
    """
    count, width = margins.shape
    exact = margins.astype(np.float64)
    truth = np.zeros((count, width))
    truth[np.arange(count), labels] = 1.0

    def loss(scale: Doubles) -> tuple[float, Doubles]:
        chances = log_softmax(exact * scale[0] + scale[1:], axis=1)
        # A pull to zero offsets: rare labels have too few texts to say their own.
        value = -(chances * truth).sum() / count + PULL * (scale[1:] ** 2).sum()
        slope = (np.exp(chances) - truth) / count
        offsets = slope.sum(axis=0) + 2 * PULL * scale[1:]
        return float(value), np.concatenate(([(slope * exact).sum()], offsets))

    start = np.concatenate(([3.0], np.zeros(width)))
    return np.asarray(minimize(loss, start, jac=True, method="L-BFGS-B").x, dtype=np.float32)


def _contradictions(data: Labelled) -> int:
    """Texts that stand with more than one label: no classifier can be right on all of them."""
    labels: dict[str, set[str]] = defaultdict(set)
    for text, label in zip(data.texts, data.labels, strict=True):
        labels[text].add(label)
    return sum(len(found) > 1 for found in labels.values())
