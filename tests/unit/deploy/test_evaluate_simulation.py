"""The measures of a simulated run, on hand-made cases and against counting by hand."""

from collections.abc import Sequence
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.simulator.truth import Truth
from deploy.evaluate_simulation import Decided, Pairs, count_pairs, evaluate
from schemas.ids import report_id

MICRO = "990102001001001001"
SPECIAL = "990102001001Z001"


def told(
    native_id: str,
    *matters: str,
    channel: str = "hotline12345",
    classes: tuple[str, ...] = ("0101",),
    grid: str = MICRO,
    special: str = "",
    pointed: bool = True,
    defects: tuple[str, ...] = (),
) -> Truth:
    return Truth(
        channel, native_id, 0, 1000, matters or ("h1",), classes, grid, special, (20.1, 50.1), pointed, defects
    )  # fmt: skip


def identity(native_id: str, channel: str = "hotline12345") -> str:
    return report_id(channel, native_id, 0)


def accepted(code: str = "0101", grid: str = MICRO, duplicates: int = 0) -> Decided:
    return Decided("accepted", code, grid, duplicates)


def test_a_perfect_run_is_perfect() -> None:
    truth = [told("1", "h1"), told("2", "h1"), told("3", "h2")]
    decided = {identity(n): accepted() for n in "123"}
    events = {identity("1"): "e1", identity("2"): "e1", identity("3"): "e2"}
    orders = {"e1": [("o1", "CG-1")], "e2": [("o2", "CG-1")]}
    found = evaluate(truth, decided, events, {}, orders)
    assert found.overall.pairs == Pairs(1, 1, 1)
    assert (found.overall.pairs.precision, found.overall.pairs.recall, found.overall.pairs.f1) == (
        1.0,
        1.0,
        1.0,
    )
    assert (found.overall.class_of_accepted.right, found.overall.class_of_accepted.of) == (3, 3)
    assert (found.overall.lost, found.overall.review.right) == (0, 0)
    assert all(
        share[0].right == share[0].of == 3 for share in list(found.overall.grids.values())[:5]
    )
    assert (found.dispatched_twice.right, found.dispatched_twice.of) == (0, 2)


def test_lost_reviewed_and_wrong_reports_are_each_told_apart() -> None:
    truth = [told(str(n)) for n in range(1, 5)]
    decided = {
        identity("1"): accepted("0201"),
        identity("2"): Decided("review", "", ""),
        identity("3"): Decided("rejected", "", ""),
    }
    overall = evaluate(truth, decided, {identity("1"): "e1"}, {}, {}).overall
    assert overall.lost == 1
    assert overall.without_event == 0
    assert overall.outcomes == {"accepted": 1, "review": 1, "rejected": 1}
    assert (overall.class_of_accepted.right, overall.class_of_accepted.of) == (0, 1)
    assert (overall.class_of_all.right, overall.class_of_all.of) == (0, 4)
    assert (overall.review.right, overall.review.of) == (1, 4)
    # Who stands in no event shares none: all six pairs of the matter are missed.
    assert overall.pairs == Pairs(6, 0, 0)
    assert overall.pairs.precision is None
    assert overall.pairs.f1 == 0.0


def test_a_message_sent_twice_is_one_report_and_its_repetition_a_duplicate() -> None:
    truth = [told("1"), told("1", defects=("resent",))]
    overall = evaluate(truth, {identity("1"): accepted(duplicates=1)}, {}, {}, {}).overall
    assert (overall.sent, overall.reports, overall.duplicates, overall.lost) == (2, 1, 1, 0)
    assert overall.without_event == 1


def test_a_call_of_two_matters_is_right_with_either() -> None:
    truth = [told("1", "h1", "h2", classes=("0101", "0201")), told("2", "h1"), told("3", "h2")]
    decided = {identity(n): accepted("0201") for n in "123"}
    events = {identity("1"): "e1", identity("2"): "e1", identity("3"): "e2"}
    found = evaluate(truth, decided, events, {}, {})
    assert found.overall.pairs == Pairs(2, 1, 1)
    assert found.overall.class_of_accepted.right == 1


def test_what_was_taken_apart_is_right_into_its_matters_and_wrong_otherwise() -> None:
    two = ("0101", "0201")
    truth = [
        told("1", "h1", "h2", classes=two),  # right
        told("2", "h3", "h4", classes=two),  # not taken apart
        told("3", "h5", "h6", classes=two),  # of another class
        told("4", "h7"),  # of one matter
        told("5", "h2", classes=("0201",)),
    ]
    decided = {identity(n): accepted() for n in "25"}
    for number, codes in (("1", two), ("3", ("0101", "0102")), ("4", two)):
        parts = tuple((f"{number}-{n}", code) for n, code in enumerate(codes))
        decided[identity(number)] = Decided("accepted", "0101", MICRO, 0, parts)
    events = {"1-0": "e1", "1-1": "e2", identity("5"): "e2", "4-0": "e4", "4-1": "e5"}
    orders = {"e2": [("o1", "CG")], "e4": [("o2", "CG")], "e5": [("o3", "CG")]}
    found = evaluate(truth, decided, events, {}, orders)
    splits = found.overall.splits
    assert (splits.several, splits.right, splits.wrong) == (3, 1, 2)
    # The second matter of the first message is that of the fifth; those of the fourth are one, apart.
    assert found.overall.pairs == Pairs(2, 1, 1)
    assert found.overall.without_event == 3
    # What was taken apart wrongly is dispatched twice.
    assert (found.dispatched_twice.right, found.dispatched_twice.of) == (1, 2)


def test_grids_count_at_each_level_and_apart_for_reports_without_a_point() -> None:
    truth = [
        told("1"),
        told("2", pointed=False),
        told("3", special=SPECIAL),
        told("4", grid="990102"),
    ]
    decided = {
        identity("1"): accepted(grid=MICRO[:15] + "002"),
        identity("2"): accepted(grid=MICRO[:9]),
        identity("3"): accepted(grid=SPECIAL),
        identity("4"): accepted(grid=MICRO),
    }
    grids = evaluate(truth, decided, {}, {}, {}).overall.grids

    def shares(level: str) -> list[tuple[int, int]]:
        return [(share.right, share.of) for share in grids[level]]

    assert shares("district") == [(3, 3), (1, 1)]
    assert shares("street") == [(2, 2), (1, 1)]
    assert shares("community") == [(2, 2), (0, 1)]
    assert shares("compound") == [(1, 1), (0, 1)]
    assert shares("micro") == [(0, 1), (0, 1)]
    assert shares("special") == [(1, 1), (0, 0)]


def test_a_matter_is_dispatched_twice_when_one_unit_has_two_orders_of_it() -> None:
    truth = [told("1", "h1"), told("2", "h1"), told("3", "h2"), told("4", "h2"), told("5", "h3")]
    decided = {identity(n): accepted() for n in "12345"}
    # h1: two events to one unit. h2: to two units. h3: its event went into another, its order stays.
    events = {
        identity(n): event for n, event in zip("12345", ("a", "b", "c", "d", "e"), strict=True)
    }
    opened = {identity("5"): {"f"}}
    orders = {
        "a": [("1", "CG")], "b": [("2", "CG")], "c": [("3", "CG")], "d": [("4", "HW")],
        "e": [("5", "CG")], "f": [("6", "CG")],
    }  # fmt: skip
    twice = evaluate(truth, decided, events, opened, orders).dispatched_twice
    assert (twice.right, twice.of) == (2, 3)


def test_what_waits_for_an_answer_is_no_second_dispatch_but_told_beside_it() -> None:
    truth = [told("1", "h1"), told("2", "h1"), told("3", "h2"), told("4", "h3"), told("5", "h3")]
    decided = {identity(n): accepted() for n in "12345"}
    events = {identity(n): f"e{n}" for n in "12345"}
    orders = {f"e{n}": [(f"o{n}", "CG")] for n in "12345"}
    found = evaluate(truth, decided, events, {}, orders, waiting={"o2", "o3"}, parked=3)
    assert (found.dispatched_twice.right, found.dispatched_twice.of) == (1, 3)
    assert found.as_dict()["parked"] == {
        "orders": 2, "of": 5, "share": 0.4, "known": 1, "precision": 0.5, "ever": 3,
        "twice_if_dispatched": {"matters": 2, "of": 3, "share": 0.6667},
    }  # fmt: skip


def test_each_channel_has_the_pairs_that_its_reports_are_in() -> None:
    truth = [told("1"), told("2", channel="iot"), told("3", channel="iot"), told("4", "h2")]
    events = {identity("1"): "a", identity("2", "iot"): "a", identity("3", "iot"): "b"}
    found = evaluate(truth, {}, events, {}, {})
    assert found.overall.pairs == Pairs(3, 1, 1)
    assert found.channels["hotline12345"].pairs == Pairs(2, 1, 1)
    assert found.channels["iot"].pairs == Pairs(3, 1, 1)
    assert found.as_dict()["channels"]["iot"]["pairs"]["recall"] == pytest.approx(0.3333)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["iot", "uav", "mailbox"]),
            st.lists(st.sampled_from("abcd"), min_size=1, max_size=3, unique=True),
            st.none() | st.sampled_from("xyz"),
        ),
        max_size=25,
    )
)
def test_pairs_are_those_that_listing_them_finds(
    reports: list[tuple[str, Sequence[str], str | None]],
) -> None:
    def listed(channel: str | None) -> Pairs:
        true = decided = both = 0
        for a, b in combinations(reports, 2):
            if channel is None or channel in (a[0], b[0]):
                one_matter = bool(set(a[1]) & set(b[1]))
                one_event = a[2] is not None and a[2] == b[2]
                true += one_matter
                decided += one_event
                both += one_matter and one_event
        return Pairs(true, decided, both)

    overall, channels = count_pairs(reports)
    assert overall == listed(None)
    assert channels == {name: listed(name) for name in {r[0] for r in reports}}
