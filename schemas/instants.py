"""Instants as cities write them: read to UTC, or said to be none."""

import re
import unicodedata
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

_CLOCK = r"(?:[T ](?P<hour>\d{1,2}):(?P<minute>\d{2})(?::(?P<second>\d{2})(?:[.,](?P<fraction>\d{1,9}))?)?)?"
_DATE = re.compile(
    r"\A(?P<year>\d{4})(?P<mark>[-/.年])(?P<month>\d{1,2})[-/.月](?P<day>\d{1,2})日?\s?"
    + _CLOCK
    + r"\s?(?P<zone>Z|[+-]\d{2}:?\d{2})?\Z"
)
_COMPACT = re.compile(
    r"\A(?P<year>20\d{2})(?P<month>\d{2})(?P<day>\d{2})(?P<hour>\d{2})(?P<minute>\d{2})(?P<second>\d{2})\Z"
)
_EPOCH = re.compile(r"\A\d{10}(?:\d{3})?\Z")


class Instant(NamedTuple):
    """Milliseconds since the epoch and the offset of the clock that was read, in minutes."""

    ms: int
    offset_min: int


@lru_cache(maxsize=64)
def zone(name: str) -> ZoneInfo | None:
    """A time zone by its IANA name; None when there is none of that name."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None


def known_zone(name: str) -> str:
    """The name itself; ValueError when there is no time zone of that name."""
    if zone(name) is None:
        raise ValueError(f"no time zone {name!r}; write an IANA name such as Asia/Shanghai")
    return name


@lru_cache(maxsize=65536)
def parse_instant(text: str, zone_name: str) -> Instant | None:
    """An instant as cities write it; None when it is none, such as 30 February.

    ``2019/2/28 11:25:05``, ``2019-02-28 11:25``, ISO 8601 with or without offset and fraction,
    ``2019年2月28日``, ``20190228112505``, epoch seconds or milliseconds. Without an offset the zone holds.
    """
    text = unicodedata.normalize("NFKC", text).strip()
    if _EPOCH.match(text):
        ms = int(text) if len(text) == 13 else int(text) * 1000
        return Instant(ms, 0)
    match = _DATE.match(text) or _COMPACT.match(text)
    local = zone(zone_name)
    if match is None or local is None:
        return None
    part = match.groupdict()
    try:
        moment = datetime(
            int(part["year"]), int(part["month"]), int(part["day"]),
            int(part["hour"] or 0), int(part["minute"] or 0), int(part["second"] or 0),
            int((part.get("fraction") or "0").ljust(6, "0")[:6]),
            tzinfo=local,
        )  # fmt: skip
        named = part.get("zone")
        if named and named != "Z":
            sign = -1 if named[0] == "-" else 1
            digits = named[1:].replace(":", "")
            offset = timedelta(minutes=sign * (int(digits[:2]) * 60 + int(digits[2:])))
            moment = moment.replace(tzinfo=UTC) - offset
            return Instant(round(moment.timestamp() * 1000), int(offset.total_seconds() // 60))
        if named == "Z":
            return Instant(round(moment.replace(tzinfo=UTC).timestamp() * 1000), 0)
        offset = moment.utcoffset() or timedelta()
        return Instant(round(moment.timestamp() * 1000), int(offset.total_seconds() // 60))
    except (ValueError, OverflowError):
        return None
