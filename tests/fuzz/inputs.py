"""Inputs: samples of what is right, spoilt at random places, and texts that are known to hurt readers."""

import json
import random
from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

#: Pieces that readers trip over.
BITS: tuple[bytes, ...] = (
    b"",
    b"\x00",
    b"\xff",
    b"\xef\xbb\xbf",
    b"\xff\xfe",
    b"\r",
    b"\n",
    b"\r\n",
    b'"',
    b"'",
    b"\\",
    b"\\u0000",
    b"\\ud800",
    b"\xed\xa0\x80",
    b",",
    b";",
    b"\t",
    b"[",
    b"]",
    b"{",
    b"}",
    b"{}",
    b"[]",
    b"null",
    b"true",
    b"NaN",
    b"Infinity",
    b"-1e999",
    b"1e400",
    b"99999999999999999999999999",
    b"-0",
    b"0x1f",
    b"<a>",
    b"</a>",
    b"&lt;",
    b"&x;",
    b"<!DOCTYPE a [<!ENTITY b 'c'>]>",
    b"<![CDATA[",
    b"]]>",
    b"<?xml version='1.0' encoding='utf-7'?>",
    b"%00",
    b"%zz",
    b"=",
    b"&",
    b"+",
    b"#",
    b"/",
    b"..",
    b"2026-02-30",
    b"0000-00-00T00:00:00Z",
    b"9999-12-31T23:59:59+14:00",
    b"- ",
    b": ",
    b"!!python/object:os.system",
    b"&a [*a]",
    b"*a",
    b"---",
    b"{{",
    b"}}",
    b"{id}",
    b"__proto__",
    "郑州".encode(),
    "㐂".encode("gb18030"),
    "郑".encode()[:2],
    "\u202e".encode(),
    "\U0001f525".encode(),
    b"\x1e",
    b"a" * 300,
    b"[" * 60,
    b"1" * 5000,
)


def spoilt(sample: bytes, seed: int) -> bytes:
    """A sample after some cuts, repetitions, flips and insertions; the same for the same seed."""
    rng = random.Random(seed)
    data = bytearray(sample)
    for _ in range(rng.choice((0, 1, 1, 1, 2, 3, 6))):
        at = rng.randrange(len(data) + 1)
        to = min(len(data), at + rng.choice((1, 1, 2, 4, 16, 64)))
        match rng.randrange(6):
            case 0:
                data[at:to] = b""
            case 1:
                data[at:at] = rng.choice(BITS)
            case 2:
                data[at:to] = rng.choice(BITS)
            case 3:
                data[at:at] = data[at:to] * rng.choice((1, 2, 50))
            case 4 if at < len(data):
                data[at] ^= 1 << rng.randrange(8)
            case _:
                del data[at:]
    return bytes(data)


def spoilt_of(samples: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """Samples, more or less spoilt; now and then bytes of nothing that was ever right."""
    return st.one_of(
        st.builds(spoilt, st.sampled_from(list(samples)), st.integers(0, 2**48)),
        st.builds(spoilt, st.sampled_from(list(samples)), st.integers(0, 2**48)),
        st.builds(spoilt, st.sampled_from(list(samples)), st.integers(0, 2**48)),
        st.binary(max_size=200),
    )


def as_json(document: Any) -> bytes:
    """UTF-8 without escapes."""
    return json.dumps(document, ensure_ascii=False).encode()


#: What may stand in a cell, a field, a message.
values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**70), 2**70),
        st.floats(),
        st.text(max_size=20),
        st.sampled_from([bit.decode("utf-8", "replace") for bit in BITS]),
        st.datetimes().map(str),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=6,
)
