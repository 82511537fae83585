"""The open events of the last days in memory, so that nobody who writes a report waits for the engine.

Read whole once, then what became visible since; asked while somebody asks, at most once a second. Bounded: of
more events than :data:`KEPT` only the newest are here, and :meth:`OpenEvents.covers` says since when.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from heapq import nlargest
from typing import Any

Row = Mapping[str, Any]
Nearby = Mapping[str, str | int]

#: Rows at most, some 1 kB each, and the time for which events are kept: the windows of nearly all classes.
KEPT = 50_000
WINDOW_MS = 8 * 24 * 3_600_000
#: Rows of one instant may become visible one after the other; what was read twice counts once.
OVERLAP_MS = 10_000


class OpenEvents:
    """Open events by zone and class; safe to read while it is refreshed."""

    def __init__(self, read: Callable[..., Sequence[Row]], kept: int = KEPT) -> None:
        """``read``: runs ``events_changed`` with its parameters; what it raises passes through."""
        self._read = read
        self._kept = kept
        self._lock = threading.Lock()
        self._begin()

    def _begin(self) -> None:
        self._places: dict[tuple[str, str], dict[str, Row]] = {}
        self._known: dict[str, Row] = {}
        self._visible_at = 0
        self._since: int | None = None

    def covers(self, nearby: Nearby) -> bool:
        """Whether everything that the question is about is here."""
        return self._since is not None and int(nearby["since"]) >= self._since

    def refresh(self, now_ms: int) -> None:
        """Learn what changed. Called by one thread at a time."""
        floor = now_ms - WINDOW_MS
        since = max(0, self._visible_at - OVERLAP_MS)
        rows = self._read(since=since, opened=floor, limit=self._kept)
        with self._lock:
            whole = len(rows) < self._kept
            if self._since is not None and (not whole or len(self._known) > self._kept):
                # More than is read at once, or is kept: from the beginning, at the next time.
                self._begin()
                return
            if self._since is None:
                self._since = floor if whole else min(row["opened_at"] for row in rows) + 1
            # Of an event's versions the newest is learnt last.
            for row in sorted(rows, key=lambda row: row["version"]):
                self._learn(row)
            for event, row in list(self._known.items()):
                if row["opened_at"] < floor:
                    self._drop(event)
            self._since = max(self._since, floor)

    def near(self, nearby: Nearby) -> list[Row]:
        """The open events that ``events_nearby`` would tell."""
        west, south, east, north = (
            int(nearby.get(side, 0)) / 1e6 for side in ("west", "south", "east", "north")
        )
        grid = str(nearby["grid"])
        found: list[Row] = []
        with self._lock:
            for code in str(nearby["class_codes"]).split(","):
                for row in self._places.get((str(nearby["zone"]), code), {}).values():
                    if not int(nearby["since"]) <= row["opened_at"] <= int(nearby["until"]):
                        continue
                    lon, lat = row["lon"], row["lat"]
                    inside = lon is not None and west <= lon <= east and south <= lat <= north
                    named = grid and (not west or lon is None) and row["grid_code"].startswith(grid)
                    if inside or named:
                        found.append(row)
        return found

    def newest(self, limit: int) -> list[Row]:
        """The open events that were opened last."""
        with self._lock:
            return nlargest(limit, self._known.values(), key=lambda row: row["opened_at"])

    def _learn(self, row: Row) -> None:
        self._visible_at = max(self._visible_at, row["visible_at"])
        event = row["event_id"]
        known = self._known.get(event)
        if known is not None and known["version"] > row["version"]:
            return
        self._drop(event)
        if row["status"] == "open":
            self._known[event] = row
            self._places.setdefault((row["zone"], row["class_code"]), {})[event] = row

    def _drop(self, event: str) -> None:
        row = self._known.pop(event, None)
        if row is not None:
            del self._places[row["zone"], row["class_code"]][event]
