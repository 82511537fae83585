"""What is said of a time decided anew, and what is brought over: nothing that an agent has no action for."""

from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.reprocess import (
    Action,
    Comparison,
    Judged,
    Place,
    Side,
    _with_switch,
    compare,
    merged_differently,
    plan,
    under,
)
from schemas.city import CityPack
from schemas.errors import QuanyuError

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


def test_a_threshold_without_any_model_is_refused(city: CityPack) -> None:
    with pytest.raises(QuanyuError, match="--model"):
        under(city, None, 0.5, None)
    assert under(city, None, None, None).city is city
