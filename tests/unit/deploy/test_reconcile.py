"""The audit's arithmetic finds exactly what was lost, invented or doubled."""

import uuid
from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from deploy.reconcile import (
    Links,
    Transitions,
    absent,
    broken_chains,
    compare,
    compare_counts,
    fingerprint,
    last_steps,
    links_in_force,
    newest_versions,
    repeated,
)

OFFSETS = st.lists(st.integers(0, 200))


def integers(*values: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.array(values, dtype=np.int64)


@given(expected=st.sets(st.integers(0, 200)), actual=OFFSETS)
def test_every_lost_invented_and_doubled_offset_is_named(
    expected: set[int], actual: list[int]
) -> None:
    found = compare(integers(*sorted(expected)), integers(*actual))
    assert found.missing.tolist() == sorted(expected - set(actual))
    assert found.extra.tolist() == sorted(set(actual) - expected)
    assert found.repeated.tolist() == sorted(v for v, n in Counter(actual).items() if n > 1)


def test_gaps_that_transaction_markers_leave_are_no_loss() -> None:
    found = compare(integers(0, 1, 3, 4, 6), integers(6, 4, 3, 1, 0))
    assert found.missing.size == found.extra.size == found.repeated.size == 0


def test_a_loss_that_a_double_makes_up_for_in_the_count_is_found() -> None:
    found = compare(integers(0, 1, 2), integers(0, 1, 1))
    assert found.missing.tolist() == [2]
    assert found.repeated.tolist() == [1]


@given(ids=OFFSETS, known=OFFSETS)
def test_absent_and_repeated_agree_with_sets(ids: list[int], known: list[int]) -> None:
    assert absent(integers(*ids), integers(*known)).tolist() == sorted(set(ids) - set(known))
    assert repeated(integers(*ids)).tolist() == sorted(v for v, n in Counter(ids).items() if n > 1)


def test_an_event_that_claims_one_report_too_many_is_found() -> None:
    wrong = compare_counts(integers(1, 2, 3), integers(2, 1, 1), integers(1, 1, 3, 3, 9))
    assert wrong.ids.tolist() == [2, 3]
    assert wrong.expected.tolist() == [0, 2]
    assert wrong.actual.tolist() == [1, 1]


def test_counts_without_any_occurrence_are_all_wrong() -> None:
    assert compare_counts(integers(1), integers(1), integers()).ids.tolist() == [1]


def test_a_link_that_was_taken_back_holds_no_more_in_any_stored_order() -> None:
    links = Links(
        link=integers(2, 1, 3, 1),
        report=integers(7, 7, 8, 7),
        event=integers(5, 4, 4, 4),
        sign=integers(1, -1, 1, 1),
    )
    held, uneven = links_in_force(links)
    assert dict(zip(held.report.tolist(), held.event.tolist(), strict=True)) == {7: 5, 8: 4}
    assert uneven.size == 0


def test_a_link_told_twice_or_taken_back_untold_is_named() -> None:
    links = Links(integers(1, 1, 2), integers(7, 7, 8), integers(4, 4, 4), integers(1, 1, -1))
    held, uneven = links_in_force(links)
    assert held.report.tolist() == [7]
    assert uneven.tolist() == [1, 2]


def steps(*rows: tuple[int, int, int, int]) -> Transitions:
    order, version, source, target = (integers(*c) for c in zip(*rows, strict=True))
    return Transitions(order, version, source, target)


def test_chain_of_steps_in_any_stored_order_is_whole() -> None:
    chain = steps((1, 2, 10, 20), (2, 1, 0, 10), (1, 1, 0, 10), (1, 3, 20, 30))
    assert broken_chains(chain, 0).size == 0
    assert last_steps(chain).to_state.tolist() == [30, 10]


def test_lost_doubled_and_headless_chains_are_named() -> None:
    lost = [(1, 1, 0, 10), (1, 3, 20, 30)]
    doubled = [(2, 1, 0, 10), (2, 1, 0, 10)]
    headless = [(3, 2, 10, 20)]
    whole = [(4, 1, 0, 10)]
    assert broken_chains(steps(*lost, *doubled, *headless, *whole), 0).tolist() == [1, 2, 3]


def test_newest_version_is_found_per_id_and_unknown_ids_have_none() -> None:
    newest = newest_versions(integers(5, 3, 5), integers(1, 7, 4), integers(3, 4, 5, 9))
    assert newest.tolist() == [7, -1, 4, -1]
    assert newest_versions(integers(), integers(), integers(1)).tolist() == [-1]


def test_fingerprints_differ_where_ids_do() -> None:
    ids = [str(uuid.UUID(int=number)) for number in range(10_000)]
    assert len({fingerprint(i) for i in ids}) == len(ids)
