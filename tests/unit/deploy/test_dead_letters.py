"""Which dead letters a replay or a drop takes: never a record twice, never what one of two readers has."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.dead_letters import CHUNK_BYTES, SINK, DeadLetter, _plan, chunks, refusal
from schemas.dead_letter import (
    ATTEMPT,
    FIRST,
    PREFIX,
    dead_letter_headers,
    offsets_of,
    ranges,
)
from schemas.settings import Settings
from schemas.topics import load_topics

SPECS = {spec.name: spec for spec in load_topics(Settings())}
RAW = "reports.raw.photo_app"


def letter(
    topic: str, offset: int, at: int, *, sink: bool = False, size: int = 3, **fields: Any
) -> DeadLetter:
    """The ``at``-th letter of a topic, of the record at ``offset``."""
    names = {"topic": topic, "partition": "0", "offset": str(offset)}
    names |= {"connector.name": SINK if sink else "quanyu", "exception.class.name": "bad_magic"}
    said = {PREFIX + name: value for name, value in names.items()}
    return DeadLetter(f"{topic}.dlq", 0, at, 1000 + at, said, size, "abc", **fields)


def plan(
    letters: list[DeadLetter], verb: str = "replay", limit: int = 10, taken: Any = None
) -> Any:
    """What an action would take of letters of which the filter takes all, or those at ``taken``."""
    chosen = {le.place for le in letters if taken is None or le.offset in taken}
    return _plan(letters, chosen, verb, SPECS, limit)


def test_a_record_with_letters_of_agent_and_sink_is_sent_once_and_both_are_marked() -> None:
    found = plan([letter("reports", 7, 0), letter("reports", 7, 1, sink=True)], taken={1})
    assert [le.offset for le in found.letters] == [0, 1]
    assert found.twins == {("reports.dlq", 0, 1)}
    assert found.refused == []


@pytest.mark.parametrize("topic", ["reports", "events"])
@pytest.mark.parametrize("sink", [True, False])
def test_what_agent_or_sink_has_taken_is_not_brought_to_it_again(topic: str, sink: bool) -> None:
    found = plan([letter(topic, 7, 0, sink=sink)])
    assert found.letters == []
    assert "twice" in found.refused[0].why


def test_a_letter_of_a_replayed_record_is_not_replayed_by_its_other_letter() -> None:
    found = plan([letter(RAW, 7, 0, state="replayed"), letter(RAW, 7, 1)])
    assert found.letters == []
    assert "already" in found.refused[0].why


def test_the_limit_counts_records_and_says_what_is_left() -> None:
    letters = [letter(RAW, 7, 0), letter(RAW, 7, 1), letter(RAW, 8, 2), letter(RAW, 9, 3)]
    found = plan(letters, limit=2)
    assert [le.offset for le in found.letters] == [0, 1, 2]
    assert found.left == 1
    dropped = plan(letters, "drop", limit=3)
    assert (len(dropped.letters), dropped.left) == (3, 1)


def test_what_is_dropped_or_replayed_is_not_taken_again() -> None:
    letters = [letter(RAW, 7, 0, state="dropped"), letter(RAW, 8, 1, state="replayed")]
    for verb in ("replay", "drop"):
        assert plan(letters, verb).letters == []


def test_a_letter_that_names_no_place_or_an_unknown_topic_is_refused_with_the_reason() -> None:
    nowhere = DeadLetter("reports.dlq", 0, 0, 0, {}, 0, "")
    assert "where it lay" in plan([nowhere]).refused[0].why
    assert "reports.raw.gone" in refusal(letter("reports.raw.gone", 1, 0).origin, {False}, SPECS)


def test_a_letter_of_a_replayed_record_knows_how_often_and_where_it_first_lay() -> None:
    came: list[tuple[str, bytes | None]] = [
        (ATTEMPT, b"2"),
        (FIRST, b"t/0/1"),
        (PREFIX + "topic", b"no"),
    ]
    found = dead_letter_headers("t", 0, 9, "intake", "bad_magic", "x", came)
    assert dict(found)[ATTEMPT] == b"2"
    assert dict(found)[FIRST] == b"t/0/1"
    assert dict(found)[PREFIX + "topic"] == b"t"


@given(st.lists(st.integers(0, CHUNK_BYTES * 2), max_size=40))
def test_a_transaction_takes_letters_in_order_up_to_its_size(sizes: list[int]) -> None:
    letters = [letter(RAW, n, n, size=size) for n, size in enumerate(sizes)]
    parts = list(chunks(letters))
    assert [le for part in parts for le in part] == letters
    assert all(len(p) == 1 or sum(le.size for le in p) <= CHUNK_BYTES for p in parts)
    assert all(parts)


@given(st.sets(st.integers(0, 60), min_size=1))
def test_offsets_in_short_are_the_same_offsets(offsets: set[int]) -> None:
    assert {o for span in offsets_of(ranges(offsets)) for o in span} == offsets
