"""Several demands in one text: what an explicit enumeration, or a sentence that begins anew, takes apart. Pure.

Only where the writer counts (1、2、, (1)(2), 一、二、, 一是…二是, 第一,…第二,, 首先…其次) or begins a
sentence with 另外, 此外 or 还有 does a text fall into parts; whether these are several matters, their
classes decide (:mod:`streams.intake.decide`). Dates, house numbers, prices, times and telephone numbers
stand where no number of an enumeration does: in a word, before a digit, or not counted from 1.
"""

import re
import uuid
from collections.abc import Iterator
from typing import NamedTuple

#: An enumeration goes no further; more is a list.
MOST = 9
#: A part with fewer letters tells of no matter.
LETTERS = 5
#: Demands are short, and so is what they have in common; longer parts are arguments of one matter.
PART_LIMIT, COMMON_LIMIT = 200, 100

_CHINESE = "一二三四五六七八九"
#: What stands before a number: nothing, or the end of a sentence or clause.
_START = r"(?:(?<=[。;:,!?、 ])|\A)"
#: Ways of counting; each finds its numbers only.
_STYLES = tuple(
    re.compile(pattern)
    for pattern in (
        r"(?<![\d.\-/(A-Za-z#])(?<!\d:)(?P<n>[1-9])[、.)](?![\d.])",
        r"\((?P<n>[1-9])\)",
        rf"\((?P<n>[{_CHINESE}])\)",
        _START + rf"(?P<n>[{_CHINESE}])、",
        _START + rf"(?P<n>[{_CHINESE}])是",
        _START + rf"第(?P<n>[{_CHINESE}])(?:个问题|个诉求|件事|点|项)?[,、:.是]",
        _START + r"(?P<n>首先|其次|再次|最后)[,、:]?",
    )
)
_NUMBERS = {digit: n for n, digit in enumerate("123456789", 1)}
_NUMBERS |= {digit: n for n, digit in enumerate(_CHINESE, 1)}
_NUMBERS |= {"首先": 1, "其次": 2, "再次": 3, "最后": 3}
#: A sentence that begins anew.
_BESIDE = re.compile(
    r"(?<=[。;!?]) *(?:另外|此外|还有)(?:,|:|一件事|一个问题|个问题|(?=反映|还要反映))[,: ]*"
)
#: A house's number; those of buildings, doors and lines lie within what all have in common.
_HOUSE = re.compile(r"\d号(?![楼栋门线机])")
_NO_LETTER = re.compile(r"[\W\d_]+")
#: Circled and dotted numbers, which NFKC would make digits of, and one with those that follow.
_CIRCLED = {0x2460 + n: f"({n + 1})" for n in range(20)}


class Demands(NamedTuple):
    """What all demands have in common, and what each of them says of itself, two at least."""

    common: str
    parts: tuple[str, ...]


def part_id(origin: str, number: int) -> str:
    """Report id of one demand, numbered from 1, of the message whose own id is ``origin``.

    A UUIDv5 in the message's own namespace (RFC 9562 §5.5), so that no message, whatever its id, has the same.
    """
    return str(uuid.uuid5(uuid.UUID(origin), suffix(number)))


def suffix(number: int) -> str:
    """What stands behind the ids of a message's demands."""
    return f"-{number:02}"


def names_house(text: str) -> bool:
    """Whether a demand says a house of its own."""
    return _HOUSE.search(text) is not None


def plain_numbers(text: str) -> str:
    """① as (1): NFKC makes 1 of it, and 12号楼 of ①2号楼."""
    return text.translate(_CIRCLED)


def may_list(text: str) -> bool:
    """Whether :func:`demands` may find any in a cleaned text; of most texts this is soon said."""
    return (
        ("2" in text and ("2、" in text or "2)" in text or "2." in text))
        or "二" in text
        or "另外" in text
        or "还有" in text
        or "其次" in text
        or "此外" in text
    )


def demands(text: str) -> Iterator[Demands]:
    """The ways in which a cleaned text may fall into several demands, the likeliest first."""
    if len(text) > COMMON_LIMIT + MOST * (PART_LIMIT + LETTERS):
        return
    for style in _STYLES:
        cuts = _counted(style, text)
        if cuts:
            ends = [*(start for start, _ in cuts[1:]), len(text)]
            parts = [text[start:end] for (_, start), end in zip(cuts, ends, strict=True)]
            yield from _whole(text[: cuts[0][0]], parts)
    yield from _whole("", _BESIDE.split(text))


def _counted(style: re.Pattern[str], text: str) -> list[tuple[int, int]]:
    """Where the numbers 1, 2, … stand; none when they begin again, as in lists within a list."""
    cuts: list[tuple[int, int]] = []
    for found in style.finditer(text):
        number = _NUMBERS[found["n"]]
        if number == len(cuts) + 1:
            cuts.append(found.span())
        elif cuts and number == 1:
            return []
    return cuts if len(cuts) <= MOST else []


def _whole(common: str, parts: list[str]) -> Iterator[Demands]:
    stripped = tuple(part.strip(" ,;、") for part in parts)
    if (
        2 <= len(stripped) <= MOST
        and len(common) <= COMMON_LIMIT
        and all(len(part) <= PART_LIMIT for part in stripped)
        and all(len(_NO_LETTER.sub("", part)) >= LETTERS for part in stripped)
    ):
        yield Demands(common.strip(), stripped)
