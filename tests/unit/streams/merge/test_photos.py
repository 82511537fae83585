"""Photos are one by their bytes, or by nearly the same look: candidates by a band, the distance decides."""

from hypothesis import given
from hypothesis import strategies as st

from streams.merge.photos import NEAR_BITS, PICTURES, photo_tokens, same_photo

SHA = "ab" * 32
HASHES = st.integers(0, 2**64 - 1)


def tokens(*hashes: int) -> list[str]:
    return photo_tokens([f"sha256:{SHA} phash:{value:016x} https://photos/1" for value in hashes])


def bands(found: list[str]) -> set[str]:
    return {token for token in found if token.startswith("p")}


def test_each_hash_of_a_report_is_a_token_once() -> None:
    media = [f"sha256:{SHA} phash:00000000000000ff https://photos/1.jpg", f"sha256:{SHA}"]
    found = photo_tokens(media)
    assert found[:2] == [f"m:{SHA}", "h:00000000000000ff"]
    assert found[2:] == ["p0:ff", "p1:0", "p2:0", "p3:0", "p4:0"]


def test_what_is_no_hash_makes_no_token() -> None:
    media = [
        "https://photos/1", "", "sha256:", "sha256:abc", "phash:", "phash:1234", "phash:zzzzzzzzzzzzzzzz",
        "phash:0x00000000000000", "phash:+000000000000001", "phash:１２３４５６７８９０１２３４５６",
    ]  # fmt: skip
    assert photo_tokens(media) == []


def test_of_many_photos_some_are_looked_at() -> None:
    assert len([t for t in tokens(*range(20)) if t.startswith("h:")]) == PICTURES


@given(HASHES, st.sets(st.integers(0, 63), max_size=NEAR_BITS))
def test_a_photo_that_differs_little_is_found_by_a_band_and_is_the_same(
    value: int, flipped: set[int]
) -> None:
    other = value
    for bit in flipped:
        other ^= 1 << bit
    one, again = tokens(value), tokens(other)
    assert bands(one) & bands(again)
    assert same_photo(one, again)
    assert same_photo(again, one)


@given(HASHES, st.sets(st.integers(0, 63), min_size=NEAR_BITS + 1))
def test_a_photo_that_differs_more_is_another(value: int, flipped: set[int]) -> None:
    other = value
    for bit in flipped:
        other ^= 1 << bit
    assert not same_photo(tokens(value), tokens(other))


@given(st.lists(st.text(max_size=90)))
def test_any_media_are_read(media: list[str]) -> None:
    found = photo_tokens(media)
    assert len(found) == len(set(found))
