"""A posted service request, as the specification's form or as JSON, into the channel's native fields. Pure."""

import hashlib
import json
import math
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from connectors.open311.model import Attribute, Refused
from schemas.instants import parse_instant

FORM = "application/x-www-form-urlencoded"
FIELDS_LIMIT = 200
DESCRIPTION_LIMIT = 4_000
#: Whatever else a sender says of itself or of the place.
TEXT_LIMITS = {
    "address_string": 1_000, "address_id": 200, "address": 1_000, "email": 320, "device_id": 200,
    "account_id": 200, "first_name": 200, "last_name": 200, "phone": 100, "media_url": 2_000,
}  # fmt: skip
ATTRIBUTE_LIMIT = 2_000
#: Fields that are ours to fill, or no part of the report.
OURS = frozenset({"api_key", "service_request_id", "requested_datetime", "service_name"})
_ATTRIBUTE = re.compile(r"\Aattribute\[([^\[\]]{1,60})\](?:\[\d*\])?\Z")


@dataclass(slots=True)
class Sent:
    """What was sent: texts by name, answers to attributes by code. What is empty was not sent."""

    fields: dict[str, str] = field(default_factory=dict)
    attributes: dict[str, list[str]] = field(default_factory=dict)


def read(body: bytes, content_type: str) -> Sent:
    """Read a body; raises :class:`Refused` when it is neither a form nor a JSON object of texts."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind not in (FORM, "application/json", ""):
        raise Refused(400, f"Content-Type {kind[:60]!r}; send {FORM} or application/json")
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Refused(400, f"the body is not UTF-8 at byte {error.start}") from None
    sent = Sent()
    pairs = _json_pairs(text) if kind == "application/json" else _form_pairs(text)
    if len(pairs) > FIELDS_LIMIT:
        raise Refused(400, f"more than {FIELDS_LIMIT} fields")
    for name, value in pairs:
        if not value.strip():
            continue
        attribute = _ATTRIBUTE.match(name)
        if attribute:
            sent.attributes.setdefault(attribute[1], []).append(value)
        elif len(name) > 60:
            raise Refused(400, f"{name[:60]!r}…: no field has so long a name")
        elif name in sent.fields:
            raise Refused(400, f"{name} stands twice")
        else:
            sent.fields[name] = value
    return sent


def _form_pairs(text: str) -> list[tuple[str, str]]:
    try:
        return parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=FIELDS_LIMIT)
    except UnicodeDecodeError:
        raise Refused(400, "the form is not UTF-8") from None
    except ValueError:
        raise Refused(400, f"more than {FIELDS_LIMIT} fields") from None


def _json_pairs(text: str) -> list[tuple[str, str]]:
    try:
        # Numbers stay the text that was sent.
        document = json.loads(
            text, parse_float=str, parse_int=str, parse_constant=_no_constant,
            object_pairs_hook=_once,
        )  # fmt: skip
    except RecursionError:
        raise Refused(400, "the body is nested too deep") from None
    except ValueError as error:
        raise Refused(400, f"the body is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise Refused(400, "the body is not a JSON object")
    attributes = document.pop("attribute", None) or {}
    if not isinstance(attributes, dict):
        raise Refused(400, "attribute is not an object of codes and values")
    pairs = []
    for name, value in document.items():
        pairs.append((name, _text(name, value)))
    for code, value in attributes.items():
        for item in value if isinstance(value, list) else [value]:
            pairs.append((f"attribute[{code}][]", _text(f"attribute[{code[:60]}]", item)))
    return [(name, value.encode("utf-8", "replace").decode()) for name, value in pairs]


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice in one object")
    return found


def _text(name: str, value: Any) -> str:
    if isinstance(value, dict | list):
        raise Refused(400, f"{name[:60]} is neither text nor number")
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def problems(sent: Sent, attributes: list[Attribute], time_zone: str) -> list[str]:
    """What a request lacks or has wrong, a sentence each; none when it can be taken."""
    fields = sent.fields
    found = [
        f"{name} is longer than {limit} characters"
        for name, limit in {"description": DESCRIPTION_LIMIT, **TEXT_LIMITS}.items()
        if len(fields.get(name, "")) > limit
    ]
    found += _location(fields)
    media = fields.get("media_url")
    if media and not _is_url(media):
        found.append("media_url is no http or https address")
    for attribute in attributes:
        found += _attribute(attribute, sent.attributes.get(attribute.code, []), time_zone)
    found += [
        f"attribute[{code}] is longer than {ATTRIBUTE_LIMIT} characters"
        for code, values in sent.attributes.items()
        if sum(map(len, values)) > ATTRIBUTE_LIMIT
    ]
    return found


def _location(fields: Mapping[str, str]) -> list[str]:
    found = []
    for name, limit in (("lat", 90.0), ("long", 180.0)):
        if name in fields and not _within(fields[name], limit):
            found.append(f"{name} is no number between -{limit:g} and {limit:g}")
    if ("lat" in fields) != ("long" in fields):
        found.append("lat and long come together")
    elif not {"lat", "address_string", "address_id"} & fields.keys():
        found.append("no location: send lat and long, or address_string, or address_id")
    return found


def _within(text: str, limit: float) -> bool:
    try:
        value = float(text)
    except ValueError:
        return False
    return math.isfinite(value) and abs(value) <= limit and "_" not in text


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text.strip())
        return parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        return False


def _attribute(attribute: Attribute, values: list[str], time_zone: str) -> list[str]:
    name = f"attribute[{attribute.code}]"
    if not values:
        return [f"{name} is required"] if attribute.required else []
    if len(values) > 1 and attribute.datatype != "multivaluelist":
        return [f"{name} takes one value"]
    if attribute.values is not None:
        keys = [value.key for value in attribute.values]
        if not set(values) <= set(keys):
            return [f"{name} is none of {', '.join(keys)}"]
    elif attribute.datatype == "number" and not _within(values[0], math.inf):
        return [f"{name} is no number"]
    elif attribute.datatype == "datetime" and parse_instant(values[0], time_zone) is None:
        return [f"{name} is no time; write e.g. 2026-03-17T08:30:00+08:00"]
    return []


def token_of(sent: Sent, idempotency_key: str | None) -> str:
    """The report's native id: random, or the same for each repetition of the same under one key.

    What was sent is part of it: two senders that use one key by chance lose nothing.
    """
    if not idempotency_key:
        return uuid.uuid4().hex
    fields = {name: value for name, value in sent.fields.items() if name not in OURS}
    content = json.dumps([idempotency_key, fields, sent.attributes], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:32]


def native_of(sent: Sent, token: str, service_name: str, requested: str) -> dict[str, Any]:
    """The channel's native message: what was sent but the key, and what is ours to say."""
    native: dict[str, Any] = {n: value for n, value in sent.fields.items() if n not in OURS}
    if sent.attributes:
        native["attribute"] = {
            code: values[0] if len(values) == 1 else values
            for code, values in sent.attributes.items()
        }
    return native | {
        "service_request_id": token,
        "service_name": service_name,
        "requested_datetime": requested,
    }
