"""First-cut classification by the taxonomy's own words: a new city works on its first day.

Every keyword that occurs counts its length squared (a longer word is the more specific), threefold in
the title, once per text. The class with the highest sum wins, the lower code on a tie.
"""

from collections.abc import Mapping
from typing import NamedTuple

from schemas.city import UNCLASSIFIED, TaxonomyClass

TITLE_WEIGHT = 3.0
#: What a matter is about is said early; the rest of a long letter only costs time.
TEXT_LIMIT = 600


class Classified(NamedTuple):
    """A class, how sure (0 to 1: the winner's share of all evidence) and by which method."""

    code: str
    confidence: float
    method: str


class KeywordClassifier:
    """Finds keywords by their first two characters; pure and deterministic."""

    def __init__(self, classes: Mapping[str, TaxonomyClass]) -> None:
        self._native = {code: code for code in classes if code != UNCLASSIFIED}
        self._native |= {c.name: c.code for c in classes.values() if c.code != UNCLASSIFIED}
        self._index: dict[str, list[tuple[str, str, float]]] = {}
        for entry in classes.values():
            for word in entry.keywords:
                if len(word) >= 2:
                    self._index.setdefault(word[:2], []).append(
                        (word, entry.code, float(len(word) ** 2))
                    )

    def classify(self, category: str, title: str, text: str) -> Classified | None:
        """The class of one report from its cleaned texts; None when nothing speaks for any.

        A category that is a code or a name of the taxonomy is the channel's own knowledge and wins.
        """
        native = self._native.get(category)
        if native:
            return Classified(native, 1.0, "native")
        scores: dict[str, float] = {}
        self._score(title, TITLE_WEIGHT, scores)
        self._score(text[:TEXT_LIMIT], 1.0, scores)
        if not scores:
            return None
        code = min(scores, key=lambda c: (-scores[c], c))
        return Classified(code, scores[code] / sum(scores.values()), "keyword")

    def _score(self, text: str, weight: float, scores: dict[str, float]) -> None:
        index = self._index
        seen: set[str] = set()
        for position in range(len(text) - 1):
            found = index.get(text[position : position + 2])
            if found:
                for word, code, value in found:
                    if word not in seen and text.startswith(word, position):
                        seen.add(word)
                        scores[code] = scores.get(code, 0.0) + value * weight
