"""From a channel's own message to a raw report: what stands where, nothing interpreted. Pure."""

import json
import math
import re
from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any, get_args

from schemas.channels import ChannelSpec, MappedField

RawReport = dict[str, Any]

JSON = "application/json"
BYTES = "application/octet-stream"
_SURROGATE = re.compile("[\ud800-\udfff]")
#: Longer cells stay in the payload only: twice in one record they would pass the broker's limit.
CELL_LIMIT = 100_000
TEXT_FIELDS = tuple(name for name in get_args(MappedField) if name != "media")


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
        payload = json.dumps(
            native, ensure_ascii=False, default=_json_default, separators=(",", ":")
        ).encode("utf-8", "surrogatepass")
    raw: RawReport = {
        "channel": spec.name,
        "native_id": _identity(_at(native, spec.native_id)),
        "revision": 0,
        "received_at": received_at,
        "connector": connector,
        "content_type": JSON,
        "payload": payload,
        "time_zone": spec.time_zone,
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
    for name in TEXT_FIELDS:
        source = spec.fields.get(name)
        raw[name] = _first(native, source) if source else None
    for name in ("native_id", *TEXT_FIELDS):
        if raw[name] and len(raw[name]) > CELL_LIMIT:
            defects.append(f"{name}:too_long:{len(raw[name])} characters, limit {CELL_LIMIT}")
            raw[name] = None
    raw["crs"] = raw["crs"] or (spec.crs if raw["lon"] else None)
    if raw["category"] in spec.categories:
        raw["category"] = spec.categories[raw["category"]]
    if spec.time_format and raw["occurred_at"]:
        raw["occurred_at"] = _iso(raw["occurred_at"], spec.time_format)
    media = spec.fields.get("media")
    if media:
        found = _at(native, media if isinstance(media, str) else media[0])
        raw["media"] = [
            _text(item) for item in (found if isinstance(found, list) else [found]) if item
        ]
        size = sum(map(len, raw["media"]))
        if size > CELL_LIMIT:
            defects.append(f"media:too_long:{size} characters, limit {CELL_LIMIT}")
            raw["media"] = []
    return raw


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
        **dict.fromkeys(TEXT_FIELDS),
        "media": [],
        "defects": [defect],
    }


def _at(native: Mapping[str, Any], path: str) -> Any:
    """The value at a field or a dotted path; None when there is none."""
    if path in native:
        return native[path]
    value: Any = native
    for part in path.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return None
        value = value[part]
    return value


def _identity(value: Any) -> str | None:
    """An id as text; None for what cannot tell one message from another, such as true, {} or infinity."""
    if isinstance(value, bool | dict | list) or (
        isinstance(value, float) and not math.isfinite(value)
    ):
        return None
    return _text(value) or None


def _first(native: Mapping[str, Any], source: str | list[str]) -> str | None:
    for path in [source] if isinstance(source, str) else source:
        text = _text(_at(native, path))
        if text:
            return text
    return None


def _text(value: Any) -> str:
    """A cell as text: dates of a spreadsheet in ISO 8601, whole floats without their point."""
    if value is None or isinstance(value, dict | list | bool):
        return "" if value is None else str(value)
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat() if value.tzinfo else value.isoformat(sep=" ")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    # Half a surrogate pair is no character and cannot be written as UTF-8.
    return _SURROGATE.sub("\ufffd", str(value))


def _json_default(value: Any) -> str:
    return _text(value)


def _iso(text: str, pattern: str) -> str:
    """The time in ISO form when it fits the channel's pattern, else as received."""
    try:
        return datetime.strptime(text.strip(), pattern).isoformat()
    except ValueError:
        return text
