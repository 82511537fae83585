"""The ids that intake has seen, for ever: whatever comes again, however late, is told from what is new."""

from collections import deque
from collections.abc import Collection, Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

ID_BYTES = 16
#: New ids are merged into the sorted ones once there are so many, or a sixteenth of these.
YOUNG, SHARE = 8_192, 16
#: Entries of fewer ids are written as one as soon as they have so many together. Read whole when a partition is
#: taken over, a quiet channel's year would else be an entry for each report.
ENTRY_IDS = 1_024


class SeenIds:
    """Ids of 16 bytes seen in one partition of a raw topic, or answered in one of the answers.

    Equal native ids, and equal report ids, always come to the same one. It holds 16 bytes an id, and some 7 for
    the newest; a Python set takes 130: five gigabytes for a city's year of 36 million reports.
    """

    __slots__ = ("_old", "_small", "_small_bytes", "_young")

    def __init__(self, entries: Mapping[bytes, bytes] | None = None) -> None:
        """``entries`` of the state topic: ids one behind the other."""
        found = sorted((entries or {}).items())
        # Fixed width: numpy compares all 16 bytes, zeros at the end among them.
        packed = np.frombuffer(b"".join(ids for _, ids in found), f"S{ID_BYTES}")
        self._old: NDArray[np.bytes_] = np.sort(packed)
        self._young: set[bytes] = set()
        self._small = deque(entry for entry in found if len(entry[1]) < ENTRY_IDS * ID_BYTES)
        self._small_bytes = sum(len(ids) for _, ids in self._small)

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

    def changes(self, key: bytes, ids: bytes) -> list[tuple[bytes, bytes | None]]:
        """What the state topic is told of the ids of a batch, under a ``key`` that no other batch has."""
        if len(ids) >= ENTRY_IDS * ID_BYTES:
            return [(key, ids)]
        self._small.append((key, ids))
        self._small_bytes += len(ids)
        if self._small_bytes < ENTRY_IDS * ID_BYTES:
            return [(key, ids)]
        taken: list[bytes] = []
        whole = b""
        while len(whole) < ENTRY_IDS * ID_BYTES:
            last, some = self._small.popleft()
            taken.append(last)
            whole += some
        self._small_bytes -= len(whole)
        # Those before are still to be taken when entries of an earlier release lie there.
        alone = [] if taken[-1] == key else [(key, ids)]
        return [*alone, *((one, None) for one in taken[:-1]), (taken[-1], whole)]
