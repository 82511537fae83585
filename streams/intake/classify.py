"""What a report is about: the channel's own word, then the city's trained model, else the taxonomy's words.

The words make a new city work on its first day. Every keyword that occurs counts its length squared (a longer
word is the more specific), threefold in the title, once per text. The class with the highest sum wins, the
lower code on a tie.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from schemas.city import UNCLASSIFIED, CityPack, TaxonomyClass
from schemas.errors import QuanyuError

TITLE_WEIGHT = 3.0
#: What a matter is about is said early; the rest of a long letter only costs time.
TEXT_LIMIT = 600
#: So many classes are shown to who must choose.
TOP = 3


class Classified(NamedTuple):
    """A class, how sure and by which method (``native``, ``model``, ``keyword``).

    Confidence is 0 to 1: a model's calibrated probability, of keywords the winner's share of all evidence.
    ``top``: the best codes with theirs, best first. Not ``sure``: a person must decide.
    """

    code: str
    confidence: float
    method: str
    top: tuple[tuple[str, float], ...] = ()
    sure: bool = True


class ReportTexts(NamedTuple):
    """What one report says of its matter, each text cleaned."""

    category: str
    title: str
    text: str


def joined(title: str, text: str) -> str:
    """What a model reads, in training as in service: the title, if any, before the text."""
    return f"{title}。{text}" if title else text


class Words:
    """Finds words by their first two characters, and weighs what they speak for; pure and deterministic."""

    def __init__(self, words: Mapping[str, Iterable[str]]) -> None:
        self._index: dict[str, list[tuple[str, str, float]]] = {}
        for name, each in words.items():
            for word in each:
                if len(word) >= 2:
                    self._index.setdefault(word[:2], []).append((word, name, float(len(word) ** 2)))
        heads = "".join(sorted({start[0] for start in self._index}))
        self._heads = re.compile(f"[{re.escape(heads)}]" if heads else "(?!)")

    def scores(self, title: str, text: str) -> dict[str, float]:
        """Name → sum of its words that occur, above 0."""
        scores: dict[str, float] = {}
        self._score(title, TITLE_WEIGHT, scores)
        self._score(text[:TEXT_LIMIT], 1.0, scores)
        return scores

    def _score(self, text: str, weight: float, scores: dict[str, float]) -> None:
        index = self._index
        seen: set[tuple[str, str]] = set()
        for match in self._heads.finditer(text):
            position = match.start()
            found = index.get(text[position : position + 2])
            if found:
                for word, name, value in found:
                    if (word, name) not in seen and text.startswith(word, position):
                        seen.add((word, name))
                        scores[name] = scores.get(name, 0.0) + value * weight


class KeywordClassifier:
    """The class that the channel names, else the one for which the taxonomy's words speak."""

    def __init__(self, classes: Mapping[str, TaxonomyClass]) -> None:
        self._native = {code: code for code in classes if code != UNCLASSIFIED}
        self._native |= {c.name: c.code for c in classes.values() if c.code != UNCLASSIFIED}
        self._words = Words({c.code: c.keywords for c in classes.values()})

    def classify(self, category: str, title: str, text: str) -> Classified | None:
        """The class of one report from its cleaned texts; None when nothing speaks for any.

        A category that is a code or a name of the taxonomy is the channel's own knowledge and wins.
        """
        return self.native(category) or self.by_words(title, text)

    def native(self, category: str) -> Classified | None:
        """The class that the channel itself gave, by code or name."""
        code = self._native.get(category)
        return Classified(code, 1.0, "native", ((code, 1.0),)) if code else None

    def by_words(self, title: str, text: str) -> Classified | None:
        """The class for which the words of the taxonomy speak."""
        scores = self._words.scores(title, text)
        if not scores:
            return None
        total = sum(scores.values())
        best = sorted(scores, key=lambda c: (-scores[c], c))[:TOP]
        top = tuple((code, scores[code] / total) for code in best)
        return Classified(*top[0], "keyword", top)


class Classifier:
    """What intake classifies with, a batch at a time; pure and deterministic.

    Raises :class:`QuanyuError` when the pack names a model that cannot be read or knows labels that are no
    classes of the taxonomy.
    """

    def __init__(self, city: CityPack) -> None:
        self._keywords = KeywordClassifier(city.classes)
        self._model = None
        if city.classifier:
            # Here: scipy takes a fifth of a second of a start, and most cities begin without a model.
            from streams.intake.text_model import load_text_model

            path = city.folder / city.classifier.model
            self._model = load_text_model(path)
            self._threshold = city.classifier.threshold
            unknown = [label for label in self._model.labels if label not in city.classes]
            if unknown:
                raise QuanyuError(
                    f"{path}: label {unknown[0]!r} is no class of {city.folder / 'taxonomy.csv'}"
                    f" ({len(unknown)} such); train on labels that are its codes"
                )

    def classify(self, reports: Sequence[ReportTexts]) -> list[Classified | None]:
        """The class of each report; None when nothing speaks for any."""
        if self._model is None:
            return [self._keywords.classify(*report) for report in reports]
        found = [self._keywords.native(report.category) for report in reports]
        asked = [
            i
            for i, known in enumerate(found)
            if not known and (reports[i].title or reports[i].text)
        ]
        if asked:
            texts = [joined(reports[i].title, reports[i].text) for i in asked]
            probabilities = self._model.probabilities(texts)
            ranked = np.argsort(-probabilities, axis=1, kind="stable")[:, :TOP]
            for i, chances, best in zip(asked, probabilities, ranked, strict=True):
                top = tuple((self._model.labels[k], round(float(chances[k]), 4)) for k in best)
                code, chance = top[0]
                sure = chance >= self._threshold and code != UNCLASSIFIED
                found[i] = Classified(code, chance, "model", top, sure)
        return found
