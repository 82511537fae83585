"""What intake has seen, for ever."""

import tracemalloc
from random import Random
from unittest.mock import patch

from hypothesis import given
from hypothesis import strategies as st

from streams.intake import seen as module
from streams.intake.seen import Seen

#: Few bytes, zeros at the end among them: what a fixed width could lose.
IDS = st.binary(min_size=2, max_size=2).map(lambda head: head + bytes(14))


@given(st.lists(st.lists(IDS)), st.integers(0, 3), st.integers(1, 5))
def test_what_was_added_is_found_and_nothing_else(
    batches: list[list[bytes]], restored: int, young: int
) -> None:
    held = {one for batch in batches[:restored] for one in batch}
    seen = Seen(b"".join(held))
    with patch.object(module, "YOUNG", young):
        for batch in batches:
            assert seen.among(batch) == held & set(batch)
            seen.add(set(batch) - held)
            held.update(batch)
            assert len(seen) == len(held)
    assert Seen(b"".join(held)).among(held) == held


def test_a_million_ids_take_no_more_than_32_bytes_each() -> None:
    random = Random(7)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        seen = Seen()
        for _ in range(1000):
            seen.add([random.randbytes(16) for _ in range(1000)])
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert len(seen) == 1_000_000
    assert taken / len(seen) < 32
