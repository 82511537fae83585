"""The ids that intake has seen, for ever: whatever comes again, however late, is told from what is new."""

from collections.abc import Collection, Iterable

import numpy as np
from numpy.typing import NDArray

ID_BYTES = 16
#: New ids are merged into the sorted ones once there are so many, or a sixteenth of these.
YOUNG, SHARE = 8_192, 16


class Seen:
    """A growing set of ids of 16 bytes; what it holds is 16 bytes an id, and some 7 for the newest.

    A Python set takes 130: five gigabytes for a city's year of 36 million reports.
    """

    __slots__ = ("_old", "_young")

    def __init__(self, ids: bytes = b"") -> None:
        """``ids`` one behind the other, in any order."""
        # Fixed width: numpy compares all 16 bytes, zeros at the end among them.
        self._old: NDArray[np.bytes_] = np.sort(np.frombuffer(ids, f"S{ID_BYTES}"))
        self._young: set[bytes] = set()

    def __len__(self) -> int:
        return len(self._old) + len(self._young)

    def among(self, ids: Collection[bytes]) -> set[bytes]:
        """Those of the ids that are held."""
        found = self._young.intersection(ids)
        asked = list(set(ids) - found)
        if asked and len(self._old):
            packed = np.frombuffer(b"".join(asked), self._old.dtype)
            places = np.searchsorted(self._old, packed)
            places[places == len(self._old)] = 0
            found.update(asked[i] for i in np.flatnonzero(self._old[places] == packed))
        return found

    def add(self, ids: Iterable[bytes]) -> None:
        """Hold these too; none of them is held."""
        self._young.update(ids)
        if len(self._young) >= max(YOUNG, len(self._old) // SHARE):
            packed = np.sort(np.frombuffer(b"".join(self._young), self._old.dtype))
            self._old = np.insert(self._old, np.searchsorted(self._old, packed), packed)
            self._young = set()
