"""Deterministic identities: the same inputs give the same id, so a reprocessed record is recognised.

report 报件 ≠ event 事件 ≠ order 工单: a raw message, a real-world matter, one dispatch of it. Each id is a
UUIDv5 (RFC 9562 §5.5) over length-prefixed parts, so that no two different inputs join to one text.
"""

import hashlib
import uuid

NAMESPACE = uuid.UUID("4a1cc5b1-7d0e-5d43-9c1f-e4410100a5e1")
_SEED = hashlib.sha1(NAMESPACE.bytes, usedforsecurity=False)


def _uuid5(*parts: str | int) -> str:
    joined = "".join([f"{len(text)}:{text}" for text in map(str, parts)])
    digest = _SEED.copy()
    digest.update(joined.encode("utf-8", "surrogatepass"))
    text = digest.hexdigest()
    # Version 5 and the RFC's variant take the place of six bits.
    variant = "89ab"[int(text[16], 16) & 3]
    return f"{text[:8]}-{text[8:12]}-5{text[13:16]}-{variant}{text[17:20]}-{text[20:32]}"


def report_id(channel: str, native_id: str, revision: int) -> str:
    """Id of a raw message: unique within its channel only, so the channel is part of it."""
    return _uuid5("report", channel, native_id, revision)


def undecodable_report_id(topic: str, partition: int, offset: int) -> str:
    """Id of a raw record that names no id of its own: where it lies."""
    return _uuid5("undecodable", topic, partition, offset)


def event_id(first_report_id: str) -> str:
    """Id of the matter that a report opened."""
    return _uuid5("event", first_report_id)


def incident_id(first_event_id: str) -> str:
    """Id of a group of events of one cause, after the first of them."""
    return _uuid5("incident", first_event_id)


def link_id(report: str, sequence: int = 0) -> str:
    """Id of a report's link to an event; later links of the same report count up."""
    return _uuid5("link", report, sequence)


def order_id(event: str, unit_code: str, sequence: int = 0) -> str:
    """Id of one dispatch of an event to a unit; a second dispatch to the same unit counts up."""
    return _uuid5("order", event, unit_code, sequence)


def transition_id(order: str, version: int) -> str:
    """Id of the step that gave an order its version."""
    return _uuid5("transition", order, version)


def action_id(action: str, cause: str, target: str) -> str:
    """Id of an action that the pipeline itself asks for: what, caused by what, on what."""
    return _uuid5("action", action, cause, target)
