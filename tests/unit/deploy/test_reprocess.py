"""What is said of a time decided anew, and what is brought over: nothing that an agent has no action for."""

from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.reprocess import (
    Action,
    Comparison,
    Judged,
    Place,
    Side,
    Under,
    _decide,
    _Records,
    _with_switch,
    compare,
    merged_differently,
    plan,
    under,
)
from schemas.city import CityPack
from schemas.codec import Codec
from schemas.errors import QuanyuError
from schemas.ids import event_id, report_id
from schemas.merge_policy import MergePolicy, Rule
from schemas.settings import Settings
from tests.unit.streams.batches import NOW, raw_report
from tests.unit.tiny_city import EAST

TOPIC = "reports.raw.test"


def side(*reports: tuple[str, str, str], event: dict[str, str] | None = None) -> Side:
    """(report, outcome, class) of each raw record in turn; report → event."""
    found = Side(events=event or {})
    for offset, (report, outcome, code) in zip(count(10), reports, strict=False):
        judged = Judged(report, "test", outcome, "" if outcome == "accepted" else "r", code, "g1")
        judged.reports = [report] if outcome == "accepted" else []
        found.messages[Place(TOPIC, 0, offset)] = judged
    return found


def both(
    then: Side, now: Side, hand: set[str] | None = None, people: dict[str, str] | None = None
) -> tuple[Comparison, list[Action]]:
    """The comparison and the plan of two sides; the range begins at the first record."""
    begin = {(TOPIC, 0): 10}
    found = compare(then, now, hand or set(), people or {}, begin)
    return found, plan(then, now, found, hand or set(), begin)


def accepted(*names: str) -> list[tuple[str, str, str]]:
    return [(name, "accepted", "0101") for name in names]


def test_the_same_decisions_have_no_row_whatever_events_are_called() -> None:
    then = side(*accepted("a", "b", "c"), event={"a": "E1", "b": "E1", "c": "E2"})
    now = side(*accepted("a", "b", "c"), event={"a": "X", "b": "X", "c": "Y"})
    found, actions = both(then, now)
    assert (found.compared, found.rows, actions) == (3, [], [])
    assert (found.events_then, found.events_now) == (2, 2)


def test_each_kind_of_change_is_counted_and_says_whether_it_can_be_brought_over() -> None:
    then = side(("a", "review", ""), ("b", "accepted", "0101"), ("c", "accepted", "0101"))
    now = side(("a", "accepted", "0102"), ("b", "accepted", "0201"), ("c", "review", ""))
    then.events, now.events = {"b": "E1", "c": "E2"}, {"a": "E9", "b": "E1"}
    then.units, now.units = {"E1": "U1"}, {"E1": "U2"}
    found, actions = both(then, now)
    assert found.changed == {"outcome": 2, "class": 1, "unit": 1}
    assert found.outcomes == {"review → accepted": 1, "accepted → review": 1}
    assert found.classes == {"0101 → 0201": 1}
    assert actions == [Action("answer", "a")]
    found.actions = actions
    rows = {row.report_id: row for row in _with_switch(found)}
    assert (rows["a"].switch, rows["a"].why_not) == ("answer", "")
    assert "class: " in rows["b"].why_not
    assert "quanyu order assign" in rows["b"].why_not
    assert "order is under way" in rows["c"].why_not


def test_a_persons_word_is_counted_and_never_compared_or_changed() -> None:
    then = side(("a", "review", ""), *accepted("b", "c"), event={"b": "E1", "c": "E1"})
    now = side(("a", "accepted", "0102"), *accepted("b", "c"), event={"b": "E1", "c": "E2"})
    found, actions = both(then, now, hand={"b", "c"}, people={"a": "reject"})
    assert (found.by_person, found.compared, actions) == (3, 0, [])


def test_events_whose_reports_fall_together_whole_are_merged_into_one() -> None:
    then = side(*accepted("a", "b", "c"), event={"a": "E1", "b": "E2", "c": "E3"})
    now = side(*accepted("a", "b", "c"), event={"a": "E2", "b": "E2", "c": "E3"})
    found, actions = both(then, now)
    assert found.changed == {"merge": 2}
    assert actions == [Action("merge", "E1", into="E2")]


def test_an_event_whose_reports_fall_apart_is_split_and_one_part_stays() -> None:
    then = side(*accepted("a", "b", "c"), event=dict.fromkeys("abc", "E1"))
    now = side(*accepted("a", "b", "c"), event={"a": "E1", "b": "E1", "c": "E7"})
    assert both(then, now)[1] == [Action("split", "E1", reports=("c",))]


@pytest.mark.parametrize(
    "now",
    [
        {"a": "N1", "b": "N2", "c": "N2", "d": "N1"},  # crosswise: neither a merge nor a split
        {"a": "N1", "b": "N1", "c": "N1"},  # d is decided no more
    ],
)
def test_what_is_no_merge_and_no_split_of_whole_events_is_left_and_says_why(
    now: dict[str, str],
) -> None:
    then = side(*accepted(*"abcd"), event={"a": "E1", "b": "E1", "c": "E2", "d": "E2"})
    found, actions = both(then, side(*accepted(*"abcd"), event=now))
    assert actions == []
    assert all("merge: events do not fall together" in r.why_not for r in _with_switch(found))


def test_an_event_with_reports_from_before_the_range_is_not_touched() -> None:
    then = side(*accepted("a", "b"), event={"a": "E1", "b": "E2", "old": "E1"})
    now = side(*accepted("a", "b"), event={"a": "E1", "b": "E1", "old": "E1"})
    assert both(then, now)[1] == []


def test_a_message_of_several_demands_is_no_answer() -> None:
    then, now = side(("a", "review", "")), side(("a", "accepted", "0101"))
    now.messages[Place(TOPIC, 0, 10)].reports = ["a-01", "a-02"]
    assert both(then, now)[1] == []


@given(st.dictionaries(st.integers(0, 30), st.tuples(st.integers(0, 4), st.integers(0, 4))))
def test_reports_are_merged_differently_when_their_company_is_another(
    events: dict[int, tuple[int, int]],
) -> None:
    then = {str(r): str(old) for r, (old, _) in events.items()}
    now = {str(r): str(new) for r, (_, new) in events.items()}

    def company(of: dict[str, str], report: str) -> set[str]:
        return {r for r in of if of[r] == of[report]}

    expected = {r for r in then if company(then, r) != company(now, r)}
    assert merged_differently(then, now, then) == expected


class Stored:
    """A record as the client hands it over."""

    def __init__(self, value: bytes, offset: int, at: int) -> None:
        self._value, self._offset, self._at = value, offset, at

    def key(self) -> None:
        return None

    def value(self) -> bytes:
        return self._value

    def offset(self) -> int:
        return self._offset

    def timestamp(self) -> tuple[int, int]:
        return 1, self._at


@pytest.fixture
def decide(city: CityPack, codec: Codec, tmp_path: Path) -> Callable[..., Side]:
    """Decides raw reports, each of its own time, spread over two partitions."""

    def decided(*raws: dict[str, Any], answers: Sequence[dict[str, Any]] = (), **more: Any) -> Side:
        found = _Records()
        for n, raw in enumerate(raws):
            at = NOW + n * 1000
            value = codec.encode("RawReport", {**raw, "received_at": at})
            record: Any = Stored(value, n, at)
            found.raw.setdefault((TOPIC, n % 2), []).append(record)
        for n, said in enumerate(answers):
            answer: Any = Stored(codec.encode("ReviewAnswer", said), n, NOW + 3_600_000)
            found.answers.append(answer)
        settings = Settings(home=tmp_path)
        given = {"seen": set(), "people": {}, **more}
        under_ = Under(city, given.get("policy"))
        return _decide(
            settings, codec, under_, found, given["seen"], given["people"], lambda _: None
        )

    return decided


def by_native(found: Side) -> list[str]:
    return [found.messages[place].outcome for place in sorted(found.messages, key=lambda p: p[2])]


def test_reports_are_decided_and_merged_as_the_agents_do_across_partitions(
    decide: Callable[..., Side],
) -> None:
    raws = [
        raw_report("A1"),
        raw_report("A2"),
        raw_report("A1"),
        raw_report("A3", title="你好", text=""),
    ]
    found = decide(*raws)
    assert by_native(found) == ["accepted", "accepted", "duplicate", "review"]
    first, second = (report_id("test", name, 0) for name in ("A1", "A2"))
    assert found.events[first] == found.events[second] == event_id(first)
    assert found.units[event_id(first)].endswith("-YS")
    never = MergePolicy(default=Rule(mode="never"))
    assert len(set(decide(*raws, policy=never).events.values())) == 2


def test_what_was_known_before_the_time_is_a_repetition_in_it(decide: Callable[..., Side]) -> None:
    known = bytes.fromhex(report_id("test", "A1", 0).replace("-", ""))
    found = decide(raw_report("A1"), raw_report("A2"), seen={known})
    assert by_native(found) == ["duplicate", "accepted"]
    assert report_id("test", "A1", 0) not in found.events


def test_a_persons_answer_stands_whatever_the_rules_say_now(
    decide: Callable[..., Side], codec: Codec
) -> None:
    raw = raw_report("A1")
    report = report_id("test", "A1", 0)
    answer = {
        "action_id": "a1", "report_id": report, "action": "accept", "class_code": "0201",
        "grid_code": EAST, "actor": "p7", "role": "centre", "at": NOW,
        "raw": codec.encode("RawReport", raw), "source_topic": TOPIC, "source_partition": 0,
        "source_offset": 0, "source_timestamp": NOW,
    }  # fmt: skip
    found = decide(raw, raw_report("A2"), answers=[answer], people={report: "accept"})
    judged = found.messages[Place(TOPIC, 0, 0)]
    assert judged.reports == [report]
    # By the rules alone it would be of the other's event; by the person's word it is a matter of its own.
    assert found.events[report] == event_id(report)
    assert found.events[report_id("test", "A2", 0)] == event_id(report_id("test", "A2", 0))


def test_a_threshold_without_any_model_is_refused(city: CityPack) -> None:
    with pytest.raises(QuanyuError, match="--model"):
        under(city, None, 0.5, None)
    assert under(city, None, None, None).city is city
