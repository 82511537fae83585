"""The loop that runs a source: nothing confirmed before the broker has it, and no failure ends it."""

import threading
from collections.abc import Callable, Sequence
from typing import Any, cast

from connectors.mapping import Entry
from connectors.publish import BrokerBehind, Publisher, Unpublishable
from connectors.source import (
    HEARTBEAT,
    PAUSE_FIRST_S,
    PAUSE_LAST_S,
    REFUSED,
    Feed,
    Portion,
    SourceError,
    is_heartbeat,
    raw_reports,
)
from schemas import metrics
from schemas.channels import load_channel
from schemas.settings import Settings

CHANNEL = "grid_patrol"


class Story(threading.Event):
    """The stop event, which does not pause but writes the pauses down; stops after some of them."""

    def __init__(self, pauses: int) -> None:
        super().__init__()
        self.limit, self.pauses = pauses, list[float]()

    def wait(self, timeout: float | None = None) -> bool:
        self.pauses.append(timeout or 0.0)
        if len(self.pauses) >= self.limit:
            self.set()
        return self.is_set()


class Broker:
    """A publisher that takes what ``refuses`` lets through."""

    def __init__(self, refuses: Callable[[Sequence[dict[str, Any]]], Exception | None]) -> None:
        self.refuses, self.taken = refuses, list[dict[str, Any]]()

    def publish(self, raws: Sequence[dict[str, Any]], transport: str) -> dict[int, int]:
        if error := self.refuses(raws):
            raise error
        self.taken += raws
        return {}


class Shelf:
    """A source of portions, given again until confirmed; stops the story when all are."""

    def __init__(self, stop: Story, portions: list[list[str]]) -> None:
        self.stop, self.portions, self.opened, self.closed = stop, portions, 0, 0
        self.fail_confirm: Exception | None = None
        self.fail_close: Exception | None = None

    def open(self, *_: object) -> "Shelf":
        self.opened += 1
        return self

    def read(self, timeout_s: float) -> Portion | None:
        if not self.portions:
            self.stop.set()
            return None
        entries = [
            Entry(n, {"task_id": id_, "title": "路灯不亮"})
            for n, id_ in enumerate(self.portions[0], 1)
        ]
        return Portion(entries, "shelf")

    def confirm(self, portion: Portion) -> None:
        if self.fail_confirm:
            raise self.fail_confirm
        self.portions.pop(0)

    def close(self) -> None:
        self.closed += 1
        if self.fail_close:
            raise self.fail_close


def run(shelf: Shelf, broker: Broker) -> None:
    publisher = cast(Publisher, broker)
    Feed(
        Settings(), load_channel(CHANNEL), "file", "nowhere", shelf.open, publisher, shelf.stop
    ).run()


def up() -> float:
    return float(metrics.CONNECTOR_UP.labels(CHANNEL, "file")._value.get())


def test_a_position_that_cannot_be_moved_is_tried_ever_more_seldom() -> None:
    """A full disk: each attempt publishes the portion again, so the first pause for ever would flood."""
    stop = Story(pauses=9)
    shelf = Shelf(stop, [["a"]])
    shelf.fail_confirm = OSError(28, "No space left on device")
    broker = Broker(lambda _: None)
    run(shelf, broker)
    assert stop.pauses == [min(PAUSE_LAST_S, PAUSE_FIRST_S * 2**n) for n in range(9)]
    assert len(broker.taken) == 9
    assert up() == 0


def test_a_source_that_cannot_be_closed_is_opened_again_all_the_same() -> None:
    stop = Story(pauses=100)
    shelf = Shelf(stop, [["a"], ["b"]])
    shelf.fail_close = RuntimeError("connection is gone")
    failing = iter([SourceError("unreachable", "gone")])
    read = shelf.read

    def once(timeout_s: float) -> Portion | None:
        for error in failing:
            raise error
        return read(timeout_s)

    shelf.read = once  # type: ignore[method-assign] # the story of one failure
    broker = Broker(lambda _: None)
    run(shelf, broker)
    assert [raw["native_id"] for raw in broker.taken] == ["a", "b"]
    assert (shelf.opened, shelf.closed, stop.pauses) == (2, 2, [PAUSE_FIRST_S])


def test_pauses_begin_anew_after_a_portion_was_confirmed() -> None:
    stop = Story(pauses=100)
    shelf = Shelf(stop, [[id_] for id_ in "abcd"])
    answers = iter([OSError(), None, None, OSError(), None, None])
    confirm = shelf.confirm

    def sometimes(portion: Portion) -> None:
        if error := next(answers):
            raise error
        confirm(portion)

    shelf.confirm = sometimes  # type: ignore[method-assign] # the story of two failures
    run(shelf, Broker(lambda _: None))
    assert stop.pauses == [PAUSE_FIRST_S, PAUSE_FIRST_S]


def test_nothing_is_confirmed_while_the_broker_is_behind_and_all_is_tried_again() -> None:
    stop = Story(pauses=100)
    shelf = Shelf(stop, [["a", "b"]])
    answers: list[Exception | None] = [BrokerBehind("behind", 3), BrokerBehind("behind", 9), None]
    broker = Broker(lambda _: answers.pop(0))
    run(shelf, broker)
    assert [raw["native_id"] for raw in broker.taken] == ["a", "b"]
    assert (stop.pauses, shelf.opened) == ([3, 5], 1)


def test_told_to_stop_while_the_broker_is_behind_leaves_the_portion_unread() -> None:
    stop = Story(pauses=1)
    shelf = Shelf(stop, [["a"]])
    run(shelf, Broker(lambda _: BrokerBehind("behind")))
    assert (shelf.portions, shelf.closed) == ([["a"]], 1)


def test_one_record_that_is_never_taken_does_not_hold_back_its_neighbours() -> None:
    def refuses(raws: Sequence[dict[str, Any]]) -> Exception | None:
        return Unpublishable("too large") if any(r["native_id"] == "c" for r in raws) else None

    shelf = Shelf(Story(pauses=100), [list("abcde")])
    broker = Broker(refuses)
    run(shelf, broker)
    assert shelf.portions == []
    assert sorted(raw["native_id"] or "" for raw in broker.taken) == ["", "a", "b", "d", "e"]
    (excerpt,) = (raw for raw in broker.taken if raw["native_id"] is None)
    assert excerpt["defects"] == [f"{REFUSED}: too large"]
    assert excerpt["connector"] == "file:shelf:3"


def test_a_topic_that_takes_nothing_at_all_is_a_failure_with_pauses_not_a_loop_without_end() -> (
    None
):
    stop = Story(pauses=3)
    shelf = Shelf(stop, [["a", "b"]])
    run(shelf, Broker(lambda _: Unpublishable("refused")))
    assert (len(stop.pauses), shelf.portions) == (3, [["a", "b"]])
    assert up() == 0


def test_a_heartbeat_among_reports_is_none_and_what_says_more_is_one() -> None:
    beat, more = {"_topic": "a/b", **HEARTBEAT}, {**HEARTBEAT, "task_id": "7"}
    entries = [Entry(n, fields) for n, fields in enumerate([beat, more, {"task_id": "8"}], 1)]
    assert [is_heartbeat(entry) for entry in entries] == [True, False, False]
    assert not is_heartbeat(Entry(1, data=b"?", defect="malformed:?"))
    raws = raw_reports(load_channel(CHANNEL), "file", Portion(entries, "here"), 1)
    assert [raw["native_id"] for raw in raws] == ["7", "8"]


def test_a_heartbeat_is_told_once_its_source_has_confirmed_it() -> None:
    stop = Story(3)
    shelf, broker = Shelf(stop, [["1"]]), Broker(lambda _: None)
    portion = Portion([Entry(1, dict(HEARTBEAT))], "shelf")
    shelf.read = lambda timeout_s: portion if shelf.portions else stop.set()  # type: ignore[method-assign]
    beat = metrics.HEARTBEAT_AT.labels(CHANNEL, "file")
    beat.set(0)
    run(shelf, broker)
    assert not broker.taken
    assert not shelf.portions, "its position moved on"
    assert beat._value.get() > 0
