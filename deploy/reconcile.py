"""The arithmetic of an audit: sets of offsets and identities held against each other, as arrays.

Identities are 64-bit fingerprints of ids (:func:`fingerprint`), so that tens of millions of rows
are compared in memory; two ids in 36 million share one with a probability of about 4e-5.
"""

import hashlib
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
Mask = np.ndarray[Any, np.dtype[np.bool_]]


def fingerprint(identity: str) -> int:
    """The same number as the SQL of :func:`fingerprint_sql` gives for the id."""
    digest = hashlib.md5(identity.encode(), usedforsecurity=False).digest()
    return int.from_bytes(digest[:8], "little")


def fingerprint_sql(column: str) -> str:
    """ClickHouse expression (UInt64) for the fingerprint of a String column."""
    return f"reinterpretAsUInt64(MD5({column}))"


@dataclass(frozen=True, slots=True)
class Difference:
    """How a set of offsets differs from the expected one; each array ascending."""

    missing: Array
    extra: Array
    repeated: Array


def compare(expected: Array, actual: Array) -> Difference:
    """``expected`` has each value once; ``actual`` should have exactly these, each once."""
    values, counts = np.unique(actual, return_counts=True)
    return Difference(
        missing=np.setdiff1d(expected, values),
        extra=np.setdiff1d(values, expected),
        repeated=values[counts > 1],
    )


def repeated(ids: Array) -> Array:
    """Ids that stand more than once."""
    values, counts = np.unique(ids, return_counts=True)
    return values[counts > 1]


def absent(ids: Array, known: Array) -> Array:
    """Ids (each once, ascending) that are not among the known ones."""
    return np.setdiff1d(ids, known)


class Links(NamedTuple):
    """Links as columns: fingerprints of link, report and event, and the sign."""

    link: Array
    report: Array
    event: Array
    sign: Array


def links_in_force(links: Links) -> tuple[Links, Array]:
    """The links that were not taken back, each once; and those that were told twice, or taken back untold."""
    names, first, index = np.unique(links.link, return_index=True, return_inverse=True)
    sums = np.bincount(index, weights=links.sign, minlength=names.size).astype(np.int64)
    kept = Links(*(column[first[sums > 0]] for column in links))
    return kept, names[(sums != 0) & (sums != 1)]


@dataclass(frozen=True, slots=True)
class Mismatch:
    """Ids whose number is not the expected one, column by column."""

    ids: Array
    expected: Array
    actual: Array


def compare_counts(ids: Array, claimed: Array, occurrences: Array) -> Mismatch:
    """Each id claims a number; ``occurrences`` holds the id as often as it really happened.

    Occurrences of unknown ids are not looked at.
    """
    values, counts = np.unique(occurrences, return_counts=True)
    real = np.zeros(ids.size, dtype=np.int64)
    if values.size:
        at = np.minimum(np.searchsorted(values, ids), values.size - 1)
        real = np.where(values[at] == ids, counts[at], 0)
    wrong = real != claimed
    return Mismatch(ids[wrong], real[wrong], claimed[wrong])


class Transitions(NamedTuple):
    """Steps of orders as columns; states are codes of any kind that can be compared."""

    order: Array
    version: Array
    from_state: Array
    to_state: Array


def broken_chains(steps: Transitions, initial: Any) -> Array:
    """Orders whose steps, by version, do not lead from ``initial`` each to the next, each once."""
    if not steps.order.size:
        return steps.order
    at = np.lexsort((steps.version, steps.order))
    order, version, source, target = (column[at] for column in steps)
    first = np.append(True, order[1:] != order[:-1])
    expected = np.roll(target, 1)
    expected[first] = initial
    same_version = np.append(False, version[1:] == version[:-1]) & ~first
    return np.unique(order[(source != expected) | same_version])


def last_steps(steps: Transitions) -> Transitions:
    """The step of the highest version of each order, ascending by order."""
    at = np.lexsort((steps.version, steps.order))
    ordered = Transitions(*(column[at] for column in steps))
    if not at.size:
        return ordered
    last = np.append(ordered.order[1:] != ordered.order[:-1], True)
    return Transitions(*(column[last] for column in ordered))


def newest_versions(ids: Array, versions: Array, of: Array) -> Array:
    """Highest version known for each id of ``of``; -1 when there is none."""
    if not ids.size:
        return np.full(of.size, -1, dtype=np.int64)
    order = np.lexsort((versions, ids))
    ids, versions = ids[order], versions[order]
    at = np.searchsorted(ids, of, side="right") - 1
    found = (at >= 0) & (ids[at] == of)
    return np.where(found, versions[at], -1).astype(np.int64)
