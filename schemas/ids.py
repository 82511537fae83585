"""Deterministic identities: the same inputs give the same id, so a reprocessed record is recognised.

report 报件 ≠ event 事件 ≠ order 工单: a raw message, a real-world matter, one dispatch of it. Each id is a
UUIDv5 (RFC 9562 §5.5) over length-prefixed parts, so that no two different inputs join to one text.
"""

import hashlib
import uuid

NAMESPACE = uuid.UUID("4a1cc5b1-7d0e-5d43-9c1f-e4410100a5e1")
_SEED = hashlib.sha1(NAMESPACE.bytes, usedforsecurity=False)


def _uuid5(*parts: str | int) -> str:
    digest = _SEED.copy()
    for part in parts:
        data = str(part).encode("utf-8", "surrogatepass")
        digest.update(b"%d:" % len(data))
        digest.update(data)
    raw = bytearray(digest.digest()[:16])
    raw[6] = raw[6] & 0x0F | 0x50
    raw[8] = raw[8] & 0x3F | 0x80
    text = raw.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def report_id(channel: str, native_id: str, revision: int) -> str:
    """Id of a raw message: unique within its channel only, so the channel is part of it."""
    return _uuid5("report", channel, native_id, revision)


def undecodable_report_id(topic: str, partition: int, offset: int) -> str:
    """Id of a raw record that names no id of its own: where it lies."""
    return _uuid5("undecodable", topic, partition, offset)


def event_id(first_report_id: str) -> str:
    """Id of the matter that a report opened."""
    return _uuid5("event", first_report_id)


def link_id(report: str, sequence: int = 0) -> str:
    """Id of a report's link to an event; later links of the same report count up."""
    return _uuid5("link", report, sequence)


def order_id(event: str, unit_code: str, sequence: int = 0) -> str:
    """Id of one dispatch of an event to a unit; a second dispatch to the same unit counts up."""
    return _uuid5("order", event, unit_code, sequence)


def transition_id(order: str, version: int) -> str:
    """Id of the step that gave an order its version."""
    return _uuid5("transition", order, version)
