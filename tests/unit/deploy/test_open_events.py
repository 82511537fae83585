"""Open events in memory are those that the engine would tell, whatever became visible in which order."""

import random
from typing import Any

from deploy.open_events import OVERLAP_MS, WINDOW_MS, OpenEvents

NOW = 1_773_700_000_000
BOX = {"west": 20_000_000, "east": 20_010_000, "south": 50_000_000, "north": 50_010_000}


def row(event: str, version: int = 1, **changed: Any) -> dict[str, Any]:
    return {
        "event_id": event, "version": version, "status": "open", "class_code": "0101", "zone": "core",
        "lon": 20.005, "lat": 50.005, "grid_code": "990102001", "opened_at": NOW - 1000,
        "visible_at": NOW, **changed,
    }  # fmt: skip


class Engine:
    """Rows as ``events_changed`` reads them."""

    def __init__(self, *rows: dict[str, Any]) -> None:
        self.rows = list(rows)
        self.asked: list[dict[str, int]] = []

    def __call__(self, **asked: int) -> list[dict[str, Any]]:
        self.asked.append(asked)
        found = [
            r
            for r in self.rows
            if r["opened_at"] >= asked["opened"] and r["visible_at"] >= asked["since"]
        ]
        found.sort(key=lambda r: (-r["opened_at"], r["event_id"]))
        return found[: asked["limit"]]


def near(events: OpenEvents, **changed: Any) -> set[str]:
    question = {
        "since": NOW - WINDOW_MS, "until": NOW + 10_000, "zone": "core", "class_codes": "0101",
        "grid": "990102001", **BOX, **changed,
    }  # fmt: skip
    return {found["event_id"] for found in events.near(question)}


def refreshed(engine: Engine, **more: Any) -> OpenEvents:
    events = OpenEvents(engine, **more)
    events.refresh(NOW)
    return events


def test_box_grid_class_zone_and_time_choose_as_the_query_does() -> None:
    nowhere: dict[str, Any] = {"lon": None, "lat": None}
    events = refreshed(
        Engine(
            row("there"),
            row("beside", lon=20.02),
            row("named", **nowhere),
            row("named elsewhere", grid_code="990102002", **nowhere),
            row("class", class_code="0102"),
            row("zone", zone="990104"),
            row("old", opened_at=NOW - 7_200_000),
        )
    )
    assert near(events) == {"there", "named", "old"}
    assert near(events, since=NOW - 3_600_000) == {"there", "named"}
    assert near(events, until=NOW - 3_600_000) == {"old"}
    assert near(events, class_codes="0102,0101") == {"there", "named", "old", "class"}
    assert near(events, grid="") == {"there", "old"}
    boxless = dict.fromkeys(BOX, 0)
    assert near(events, **boxless) == {"there", "beside", "named", "old"}
    assert near(events, **boxless, grid="") == set()


def test_what_closed_is_gone_in_whatever_order_its_versions_become_visible() -> None:
    choice = random.Random(7)
    for _ in range(50):
        versions = [row("a", n, status="closed" if n == 4 else "open") for n in range(1, 5)]
        choice.shuffle(versions)
        engine = Engine()
        events = refreshed(engine)
        for at, version in enumerate(versions):
            engine.rows.append(version | {"visible_at": NOW + at})
            events.refresh(NOW)
        assert near(events) == set()


def test_only_what_changed_is_read_again_with_some_overlap() -> None:
    engine = Engine(row("a"))
    events = refreshed(engine)
    engine.rows += [row("b", visible_at=NOW - OVERLAP_MS), row("c", visible_at=NOW + 5)]
    events.refresh(NOW)
    assert [asked["since"] for asked in engine.asked] == [0, NOW - OVERLAP_MS]
    assert near(events) == {"a", "b", "c"}


def test_what_is_older_than_the_window_is_let_go() -> None:
    engine = Engine(row("a"))
    events = refreshed(engine)
    events.refresh(NOW + WINDOW_MS)
    assert near(events) == set()
    assert not events.covers({"since": NOW - 1})
    assert events.covers({"since": NOW})


def test_of_more_than_are_kept_it_knows_only_the_newest_and_says_so() -> None:
    engine = Engine(*(row(f"e{n}", opened_at=NOW - n) for n in range(30)))
    assert not OpenEvents(engine).covers({"since": NOW})
    events = refreshed(engine, kept=10)
    assert events.covers({"since": NOW - 8})
    assert not events.covers({"since": NOW - 9}), "of the oldest instant some may be missing"
    assert [found["event_id"] for found in events.newest(2)] == ["e0", "e1"]
    assert near(events, since=NOW - 8) == {f"e{n}" for n in range(9)}
    engine.rows += [row(f"f{n}", visible_at=NOW + 1) for n in range(20)]
    events.refresh(NOW)
    assert not events.covers({"since": NOW}), "it begins again"
    events.refresh(NOW)
    assert events.covers({"since": NOW})
