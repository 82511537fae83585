"""Which photos are one: the same bytes by their SHA-256, the same picture by nearly the same perceptual hash.

A report's media stand as ``sha256:… phash:… url``. Two hashes of 64 bits that differ in at most four have
one of five bands in common (four differences touch four bands at most): bands find candidates, the whole
distance decides. Pure.
"""

import re
from collections.abc import Iterable, Sequence

#: So many bits may differ between two pictures of one photo (sent again smaller, compressed again).
NEAR_BITS = 4
#: Of a report so many photos are looked at, and of so many what they look like.
PHOTOS, PICTURES = 20, 3
_BANDS = ((0, 13), (13, 13), (26, 13), (39, 13), (52, 12))
_HASHES = re.compile(r"(?:\A| )(?:sha256:(\S{64})|phash:([0-9a-f]{16}))(?= |\Z)")


def photo_tokens(media: Sequence[str]) -> list[str]:
    """Tokens of a report's photos, each once.

    ``m:`` the SHA-256: equal, it is the same photo. ``h:`` the perceptual hash, ``p0:`` to ``p4:`` its bands:
    where one is equal, :func:`same_photo` decides. What is no hash makes no token.
    """
    tokens: list[str] = []
    looks = 0
    for medium in media[:PHOTOS]:
        for digest, look in _HASHES.findall(medium):
            if digest:
                tokens.append(f"m:{digest}")
            elif looks < PICTURES:
                looks += 1
                bits = int(look, 16)
                tokens.append(f"h:{look}")
                tokens += [
                    f"p{band}:{bits >> start & (1 << size) - 1:x}"
                    for band, (start, size) in enumerate(_BANDS)
                ]
    return list(dict.fromkeys(tokens))


def same_photo(tokens: Iterable[str], others: Iterable[str]) -> bool:
    """Whether a photo of the one looks like one of the other, both as of :func:`photo_tokens`."""
    theirs = [int(token[2:], 16) for token in others if token.startswith("h:")]
    return any(
        (int(token[2:], 16) ^ other).bit_count() <= NEAR_BITS
        for token in tokens
        if token.startswith("h:")
        for other in theirs
    )
