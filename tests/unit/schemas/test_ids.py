"""The same inputs give the same id, different inputs never do."""

import uuid

from hypothesis import given
from hypothesis import strategies as st

from schemas import ids

TEXT = st.text(max_size=12)


@given(channel=TEXT, native=TEXT, revision=st.integers(0, 2**31 - 1))
def test_an_id_is_a_plain_uuid5_of_its_length_prefixed_parts(
    channel: str, native: str, revision: int
) -> None:
    parts = ("report", channel, native, str(revision))
    expected = uuid.uuid5(ids.NAMESPACE, "".join(f"{len(part)}:{part}" for part in parts))
    assert ids.report_id(channel, native, revision) == str(expected)


@given(one=st.tuples(TEXT, TEXT), other=st.tuples(TEXT, TEXT))
def test_parts_that_join_to_one_text_are_still_two_ids(
    one: tuple[str, str], other: tuple[str, str]
) -> None:
    assert (ids.report_id(*one, 0) == ids.report_id(*other, 0)) == (one == other)


def test_an_id_written_down_years_ago_is_still_the_same() -> None:
    assert ids.report_id("hotline12345", "A1", 0) == "9bd121f8-4005-5b50-9ddc-b0f1bdcf429e"
    assert ids.event_id("r") == "2b0df38c-a476-552d-bc04-fe384826b90e"


def test_ids_of_different_things_never_meet() -> None:
    made = [
        ids.report_id("a", "b", 0),
        ids.report_id("a", "b", 1),
        ids.undecodable_report_id("a", 0, 0),
        ids.undecodable_report_id("a", 0, 1),
        ids.undecodable_report_id("a", 1, 0),
        ids.event_id("a"),
        ids.link_id("a"),
        ids.link_id("a", 1),
        ids.order_id("a", "b"),
        ids.order_id("a", "b", 1),
        ids.transition_id("a", 1),
    ]
    assert len(set(made)) == len(made)


def test_half_a_surrogate_pair_is_an_id_like_any_other() -> None:
    assert ids.report_id("a", "\ud800", 0) != ids.report_id("a", "\ud801", 0)
