"""A trained classifier of texts: linear over character pieces, with calibrated probabilities.

A model is data: one .npz file without code in it, made by ``quanyu train classify`` from a city's own
labelled history. Its labels are whatever the history calls them; a model that serves the agents has codes of
the taxonomy.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from schemas.errors import QuanyuError
from streams.intake.features import BITS, LONGEST, POSITIONS, SLOTS, features

Floats = npt.NDArray[np.float32]

FORMAT = 1
#: What a model's weights mean; a model made with others is refused.
SHAPE: dict[str, Any] = {
    "bits": BITS,
    "longest": LONGEST,
    "positions": [list(p) for p in POSITIONS],
}


@dataclass(frozen=True, slots=True)
class TextModel:
    """``weights``: shape (pieces kept + 1, labels), the last row the intercept.

    ``scale`` turns margins into logits: a factor, then an offset a label. ``column`` maps a slot to its
    row in ``weights``, -1 for a piece that training saw too rarely.
    """

    labels: tuple[str, ...]
    column: npt.NDArray[np.int32]
    idf: Floats
    weights: Floats
    scale: Floats
    about: dict[str, Any]

    def probabilities(self, texts: Sequence[str]) -> Floats:
        """Calibrated probability of each label, rows sum to 1.

        A text without a piece that training knew (emoji, another script) says nothing: all are equal.
        """
        weighed = weigh(features(texts), self.column, self.idf)
        margins = np.asarray(weighed @ self.weights[:-1] + self.weights[-1], dtype=np.float32)
        chances = softmax(margins, self.scale)
        chances[np.diff(weighed.indptr) == 0] = 1 / len(self.labels)
        return chances

    def save(self, path: Path) -> None:
        """Write the model, whole or not at all; :class:`QuanyuError` when the folder takes none."""
        draft = path.with_name(path.name + ".new")
        about = json.dumps({"format": FORMAT, **SHAPE, **self.about}, ensure_ascii=False)
        try:
            with draft.open("wb") as out:
                np.savez_compressed(
                    out, labels=np.array(self.labels), slots=np.flatnonzero(self.column >= 0).astype(np.int32),
                    idf=self.idf, weights=self.weights, scale=self.scale, about=np.array(about),
                )  # fmt: skip
            draft.replace(path)
        except OSError as error:
            raise QuanyuError(
                f"{path}: not writable ({error.strerror}); name a file in a folder that is there"
            ) from None


def weigh(counted: csr_array, column: npt.NDArray[np.int32], idf: Floats) -> csr_array:
    """Rows of kept pieces, weighted by rarity, of length 1."""
    place = column[counted.indices]
    kept = place >= 0
    values = counted.data[kept] * idf[place[kept]]
    before = np.concatenate(([0], np.cumsum(kept)))
    pointers = before[counted.indptr]
    # Each row summed by itself: a text's probabilities are the same in whatever batch it comes.
    counts = np.diff(pointers)
    length = np.ones(len(counts))
    some = counts > 0
    if some.any():
        length[some] = np.sqrt(np.add.reduceat(values.astype(np.float64) ** 2, pointers[:-1][some]))
    values /= np.repeat(np.maximum(length, 1e-9), counts).astype(np.float32)
    narrow = pointers.astype(np.int32)  # what training takes
    return csr_array((values, place[kept], narrow), shape=(counted.shape[0], len(idf)))


def softmax(margins: Floats, scale: Floats) -> Floats:
    """Probabilities from margins; ``scale`` holds factor and, for each label, an offset."""
    logits = margins * scale[0] + scale[1:]
    logits -= logits.max(axis=1, keepdims=True)
    odds = np.exp(logits)
    return np.asarray(odds / odds.sum(axis=1, keepdims=True), dtype=np.float32)


def load_text_model(path: Path) -> TextModel:
    """Read a model; :class:`QuanyuError` says what is wrong with the file and what to do."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            about = json.loads(str(stored["about"]))
            arrays = {name: stored[name] for name in ("labels", "slots", "idf", "weights", "scale")}
    except FileNotFoundError:
        raise QuanyuError(f"{path}: no such model; make one: quanyu train classify") from None
    except (
        Exception
    ) as error:  # zipfile, numpy and json each fail in their own way on a damaged file
        raise QuanyuError(f"{path}: not a model of quanyu train classify ({error})") from None
    if about.get("format") != FORMAT or any(about.get(k) != v for k, v in SHAPE.items()):
        raise QuanyuError(f"{path}: made by another version; train it anew: quanyu train classify")
    slots, weights = arrays["slots"], arrays["weights"]
    if weights.shape != (len(slots) + 1, len(arrays["labels"])) or len(arrays["idf"]) != len(slots):
        raise QuanyuError(f"{path}: its parts do not fit together; train it anew")
    column = np.full(SLOTS, -1, dtype=np.int32)
    column[slots] = np.arange(len(slots), dtype=np.int32)
    return TextModel(
        tuple(map(str, arrays["labels"])), column, arrays["idf"], weights, arrays["scale"], about
    )
