"""From a channel's own message to a raw report: what stands where, nothing interpreted. Pure."""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any, get_args

from schemas.channels import ChannelSpec, MappedField

RawReport = dict[str, Any]

JSON = "application/json"
BYTES = "application/octet-stream"
_SURROGATE = re.compile("[\ud800-\udfff]")
_BRACES = re.compile(r"\{([^{}]+)\}")
#: Longer cells stay in the payload only: twice in one record they would pass the broker's limit.
CELL_LIMIT = 100_000
#: The raw topics take 8 MiB; the rest is for the framing and the small fields.
RECORD_LIMIT = 8 * 1024 * 1024 - 65_536
#: Of an entry that no record holds so many bytes are kept.
EXCERPT = 7 * 1024 * 1024
TEXT_FIELDS = tuple(name for name in get_args(MappedField) if name != "media")
_NO_TEXTS = dict.fromkeys(TEXT_FIELDS)


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a source by its number (1 is the first): its fields, or its bytes and the defect."""

    number: int
    fields: dict[str, Any] | None = None
    data: bytes = b""
    defect: str = ""


def entry_report(spec: ChannelSpec, entry: Entry, *, received_at: int, connector: str) -> RawReport:
    """The raw report of any entry, never larger than the broker takes."""
    if entry.fields is None:
        return undecodable(
            spec, entry.data, entry.defect, received_at=received_at, connector=connector
        )
    raw = to_raw_report(spec, entry.fields, received_at=received_at, connector=connector)
    if (size := size_of(raw)) > RECORD_LIMIT:
        # JSON may double what a cell holds; the broker would refuse it, and with it what comes after.
        return undecodable(
            spec, raw["payload"][:EXCERPT], f"malformed:{size} bytes, limit {RECORD_LIMIT}",
            received_at=received_at, connector=connector,
        )  # fmt: skip
    return raw


def size_of(raw: RawReport) -> int:
    """Bytes of a raw report in Kafka, roughly."""
    payload = len(raw["payload"])
    # Every mapped text is part of the payload too, so a small payload has small fields.
    if payload < RECORD_LIMIT // 8:
        return payload
    texts = [raw["native_id"], *(raw[name] for name in TEXT_FIELDS), *raw["media"]]
    return payload + sum(len(text.encode()) for text in texts if text)


def to_raw_report(
    spec: ChannelSpec,
    native: Mapping[str, Any],
    *,
    received_at: int,
    connector: str,
    payload: bytes | None = None,
) -> RawReport:
    """Map one native message; ``payload`` are its bytes, else they are its JSON.

    Nothing is lost: what the spec does not map stays in the payload. A message without its id keeps
    ``native_id`` None, and intake says so.
    """
    defects: list[str] = []
    if payload is None:
        payload = _ENCODER.encode(native).encode("utf-8", "surrogatepass")
    raw: RawReport = {
        "channel": spec.name,
        "native_id": _native_id(native, spec.native_id),
        "revision": 0,
        "received_at": received_at,
        "connector": connector,
        "content_type": JSON,
        "payload": payload,
        "time_zone": spec.time_zone,
        **_NO_TEXTS,
        "media": [],
        "defects": defects,
    }
    revision = _at(native, spec.revision) if spec.revision else None
    if revision not in (None, ""):
        try:
            raw["revision"] = int(_text(revision))
            if not 0 <= raw["revision"] < 2**31:
                raise ValueError
        except ValueError:
            raw["revision"] = 0
            defects.append("revision:not_a_number")
    for field, source in spec.fields.items():
        if field != "media":
            raw[field] = _first(native, source)
    for point in spec.points:
        lon, lat = _first(native, point.lon), _first(native, point.lat)
        if lon and lat:
            raw["lon"], raw["lat"], raw["crs"] = lon, lat, point.crs
            break
    # Every text is part of the payload, so a short payload has none that is too long.
    for name in ("native_id", *TEXT_FIELDS) if len(payload) > CELL_LIMIT // 8 else ():
        if raw[name] and len(raw[name]) > CELL_LIMIT:
            defects.append(f"{name}:too_long:{len(raw[name])} characters, limit {CELL_LIMIT}")
            raw[name] = None
    raw["crs"] = raw["crs"] or (spec.crs if raw["lon"] else None)
    if raw["category"] in spec.categories:
        raw["category"] = spec.categories[raw["category"]]
    if raw["alarm_state"] in spec.alarm_states:
        raw["alarm_state"] = spec.alarm_states[raw["alarm_state"]]
    if spec.time_format and raw["occurred_at"]:
        raw["occurred_at"] = _iso(raw["occurred_at"], spec.time_format)
    media = spec.fields.get("media")
    if media:
        raw["media"] = [
            text for item in media_items(native, media) if item and (text := _medium(item))
        ]
        size = sum(map(len, raw["media"]))
        if size > CELL_LIMIT:
            defects.append(f"media:too_long:{size} characters, limit {CELL_LIMIT}")
            raw["media"] = []
    return raw


def media_items(native: Mapping[str, Any], source: str | list[str]) -> list[Any]:
    """The photos and files of a message, as they stand in it."""
    for path in [source] if isinstance(source, str) else source:
        found = _at(native, path)
        if found:
            return found if isinstance(found, list) else [found]
    return []


def _medium(item: Any) -> str:
    """One photo or file: ``sha256:… phash:… url``, whatever of the three is known."""
    if not isinstance(item, Mapping):
        return _text(item)
    parts = [f"{name}:{text}" for name in ("sha256", "phash") if (text := _text(item.get(name)))]
    parts.append(_text(item.get("url")))
    return " ".join(filter(None, parts))


def undecodable(
    spec: ChannelSpec, data: bytes, defect: str, *, received_at: int, connector: str
) -> RawReport:
    """A raw report for an entry that cannot be read: its bytes, and why."""
    return {
        "channel": spec.name,
        "native_id": None,
        "revision": 0,
        "received_at": received_at,
        "connector": connector,
        "content_type": BYTES,
        "payload": data,
        "time_zone": spec.time_zone,
        **_NO_TEXTS,
        "media": [],
        "defects": [defect],
    }


def _at(native: Mapping[str, Any], path: str) -> Any:
    """The value at a field or a dotted path, whose numbers count in lists; None when there is none."""
    if path in native:
        return native[path]
    value: Any = native
    for part in path.split("."):
        if isinstance(value, Mapping) and part in value:
            value = value[part]
        elif isinstance(value, list) and part.isdecimal() and int(part) < len(value):
            value = value[int(part)]
        else:
            return None
    return value


def _native_id(native: Mapping[str, Any], source: str | list[str]) -> str | None:
    """The id as text; a value that cannot tell one message from another, such as true or {}, is none."""
    for path in [source] if isinstance(source, str) else source:
        parts = {p: _identity(_at(native, p)) for p in _BRACES.findall(path) or [path]}
        if all(parts.values()):
            return _filled(path, parts)
    return None


def _filled(path: str, parts: Mapping[str, str | None]) -> str:
    if "{" in path:
        return _BRACES.sub(lambda found: parts[found[1]] or "", path)
    return parts[path] or ""


def _identity(value: Any) -> str | None:
    if isinstance(value, bool | dict | list) or (
        isinstance(value, float) and not math.isfinite(value)
    ):
        return None
    return _text(value) or None


def _first(native: Mapping[str, Any], source: str | list[str]) -> str | None:
    for path in (source,) if type(source) is str else source:
        if "{" not in path:
            value = native[path] if path in native else _at(native, path)
            if value is None:
                continue
            text = _text(value)
        else:
            parts = {part: _text(_at(native, part)) for part in _BRACES.findall(path)}
            text = _filled(path, parts) if all(parts.values()) else ""
        if text:
            return text
    return None


def _text(value: Any) -> str:
    """A cell as text: dates in ISO 8601, whole floats without their point."""
    if type(value) is str:
        try:
            value.encode()
            return value
        except UnicodeEncodeError:  # half a surrogate pair is no character
            return _SURROGATE.sub("\ufffd", value)
    if value is None or isinstance(value, dict | list | bool):
        return "" if value is None else str(value)
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat() if value.tzinfo else value.isoformat(sep=" ")
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return _SURROGATE.sub("\ufffd", str(value))


#: Made once: json.dumps makes one for every message.
_ENCODER = json.JSONEncoder(ensure_ascii=False, default=_text, separators=(",", ":"))


def _iso(text: str, pattern: str) -> str:
    """The time in ISO form when it fits the channel's pattern, else as received."""
    try:
        return datetime.strptime(text.strip(), pattern).isoformat()
    except ValueError:
        return text
