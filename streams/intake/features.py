"""A text as a sparse vector: its pieces of one and two characters, hashed and weighted by where they stand.

Characters, not words: Chinese needs no segmenter then, and typing errors spoil few pieces. What a matter is
about is said early, so pieces at the beginning weigh more; a title stands before its text. Pure, whole
batches at a time, and the same on every machine: a model trained here reads texts there.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

#: 2²⁰ slots for some 160,000 different pieces of 2,500 letters: a collision is rare and harmless.
BITS = 20
SLOTS = 1 << BITS
#: Longest piece, in characters; three and more cost twice the time and are no better, with 500 as with 2,000
#: letters to learn from (measured on citizens' letters).
LONGEST = 2
#: (until this character, weight of a piece that begins before it); the last holds to the end.
POSITIONS = ((40, 3.0), (120, 2.0), (2000, 1.0))
TEXT_LIMIT = POSITIONS[-1][0]

_MULTIPLY = np.uint64(0x9E3779B97F4A7C15)
_MIX = np.uint64(0xBF58476D1CE4E5B9)


def features(texts: Sequence[str]) -> csr_array:
    """Rows of log(1 + summed weights) per piece, shape (len(texts), SLOTS), float32."""
    cut = [text[:TEXT_LIMIT] for text in texts]
    lengths = np.array([len(text) for text in cut], dtype=np.int64)
    joined = "".join(cut).encode("utf-32-le", "surrogatepass")
    characters = np.frombuffer(joined, dtype=np.uint32).astype(np.uint64)
    starts = np.cumsum(lengths) - lengths
    row = np.repeat(np.arange(len(cut), dtype=np.uint64), lengths)
    position = np.arange(len(characters)) - np.repeat(starts, lengths)
    left = np.repeat(lengths, lengths) - position
    weight = np.full(len(characters), POSITIONS[-1][1], dtype=np.float32)
    for until, value in reversed(POSITIONS[:-1]):
        weight[position < until] = value
    keys, weights = [], []
    hashed = np.zeros(len(characters), dtype=np.uint64)
    for size in range(1, LONGEST + 1):
        ahead = np.zeros(len(characters), dtype=np.uint64)
        ahead[: len(characters) - size + 1] = characters[size - 1 :]
        hashed = (hashed * _MULTIPLY + ahead + np.uint64(size)) * _MIX
        hashed ^= hashed >> np.uint64(29)
        whole = left >= size
        slot = (hashed[whole] >> np.uint64(20)) & np.uint64(SLOTS - 1)
        keys.append((row[whole] << np.uint64(BITS)) | slot)
        weights.append(weight[whole])
    key, value_of = np.concatenate(keys), np.concatenate(weights)
    order = np.argsort(key)
    key, value_of = key[order], value_of[order]
    first: npt.NDArray[np.int64] = np.flatnonzero(np.diff(key, prepend=~key[:1]) != 0)
    values = np.log1p(np.add.reduceat(value_of, first)) if len(first) else value_of
    key = key[first]
    ends = np.searchsorted(key, np.arange(1, len(cut) + 1, dtype=np.uint64) << np.uint64(BITS))
    pointers = np.concatenate(([0], ends)).astype(np.int64)
    slots = (key & np.uint64(SLOTS - 1)).astype(np.int32)
    return csr_array((values.astype(np.float32), slots, pointers), shape=(len(cut), SLOTS))
