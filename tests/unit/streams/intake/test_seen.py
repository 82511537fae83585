"""What intake has seen, for ever."""

import tracemalloc
from random import Random
from unittest.mock import patch

from hypothesis import given
from hypothesis import strategies as st

from streams.intake import seen as module
from streams.intake.seen import SeenIds

#: Few bytes, zeros at the end among them: what a fixed width could lose.
IDS = st.binary(min_size=2, max_size=2).map(lambda head: head + bytes(14))


@given(st.lists(st.lists(IDS)), st.integers(0, 3), st.integers(1, 5))
def test_what_was_added_is_found_and_nothing_else(
    batches: list[list[bytes]], restored: int, young: int
) -> None:
    held = {one for batch in batches[:restored] for one in batch}
    seen = SeenIds({b"a batch": b"".join(held)})
    with patch.object(module, "YOUNG", young):
        for batch in batches:
            assert seen.among(batch) == held & set(batch)
            seen.add(set(batch) - held)
            held.update(batch)
            assert len(seen) == len(held)


@given(st.lists(st.integers(0, 9)), st.integers(1, 5), st.integers(0, 30))
def test_the_state_topic_gives_all_of_it_back_in_few_entries(
    sizes: list[int], limit: int, switched: int
) -> None:
    """``switched``: before, an earlier release wrote an entry for each batch."""
    topic: dict[bytes, bytes] = {}
    written: list[bytes] = []
    seen = SeenIds()
    with patch.object(module, "ENTRY_IDS", limit):
        for number, size in enumerate(sizes):
            ids = [b"%016d" % (len(written) + i) for i in range(size)]
            if not ids:
                continue
            written += ids
            key = b"seen:%020d" % number
            if number < switched:
                topic[key] = b"".join(ids)
                seen = SeenIds(topic)
                continue
            seen.add(ids)
            for name, value in seen.changes(key, b"".join(ids)):
                assert name == key or name in topic, "an entry that is not there"
                if value is None:
                    del topic[name]
                else:
                    topic[name] = value
        assert sorted(b"".join(topic.values())) == sorted(b"".join(written))
        again = SeenIds(topic)
        assert again.among(written) == set(written)
        assert len(again) == len(seen) == len(written)
        if not switched:
            small = [ids for ids in topic.values() if len(ids) < 16 * limit]
            assert sum(map(len, small)) < 16 * limit
            assert all(len(ids) < 16 * max(2 * limit, 10) for ids in topic.values())
        # Entries of before are written together one by one, with each batch that comes.
        for number in range(len(sizes), 2 * len(sizes) + 1):
            for name, value in again.changes(b"seen:%020d" % number, b"%016d" % (10_000 + number)):
                topic[name] = value or b""
        small = [ids for ids in topic.values() if 0 < len(ids) < 16 * limit]
        assert sum(map(len, small)) < 16 * limit


def test_a_million_ids_take_no_more_than_32_bytes_each() -> None:
    random = Random(7)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        seen = SeenIds()
        for _ in range(1000):
            seen.add([random.randbytes(16) for _ in range(1000)])
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert len(seen) == 1_000_000
    assert taken / len(seen) < 32
