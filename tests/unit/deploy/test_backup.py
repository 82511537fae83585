"""Where a backup cuts a partition: never through a block of the sink, and never before or behind its rows."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.backup import next_offsets
from deploy.positions import Extent

PLACE = ("events", 0)


def cut(committed: tuple[int, str] | None, reached: int | None, first: int = 0) -> int | None:
    found = next_offsets(
        {} if committed is None else {PLACE: committed},
        {} if reached is None else {PLACE: reached},
        {PLACE: Extent(first, 1_000)},
    )
    return None if found is None else found[PLACE]


@pytest.mark.parametrize(
    ("committed", "reached", "expected", "why"),
    [
        (None, None, 0, "nobody read it yet"),
        ((120, ""), 119, 120, "all that is committed is there"),
        ((120, ""), 90, 120, "the last records were dead letters or transaction markers"),
        ((120, ""), None, 120, "so were all of them"),
        ((120, "pending:120-150"), 119, 120, "the block is recorded, and was not inserted"),
        ((120, "pending:120-150"), None, 120, "the same, of a table without a row"),
        ((120, "pending:120-150"), 150, None, "it is there, whole or not: who knows"),
        ((120, "pending:120-150"), 130, None, "a month of it is there"),
        ((120, "pending:120-150"), 120, None, "a row of it is there"),
        ((120, "pending:120-150"), 200, 201, "a stale commit, as the sink itself judges"),
        ((90, ""), 119, 120, "a stale commit below the table's last row"),
        (None, 119, 120, "an expired commit"),
    ],
)
def test_the_cut_is_what_the_sink_says_and_the_table_shows(
    committed: tuple[int, str] | None, reached: int | None, expected: int | None, why: str
) -> None:
    assert cut(committed, reached) == expected, why


def test_a_partition_that_begins_later_is_cut_there() -> None:
    assert cut(None, None, first=70) == 70


@given(st.lists(st.integers(1, 5), min_size=1, max_size=20), st.data())
def test_wherever_the_sink_stands_a_cut_lies_between_blocks(
    sizes: list[int], data: st.DataObject
) -> None:
    """Blocks one after another, each recorded, inserted row by row, then done."""
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    block = data.draw(st.integers(0, len(sizes) - 1))
    first, last = starts[block], starts[block] + sizes[block] - 1
    inserted = data.draw(st.integers(0, sizes[block]))
    reached = first + inserted - 1
    found = cut((first, f"pending:{first}-{last}"), reached if reached >= 0 else None)
    assert found == (first if inserted == 0 else None)
