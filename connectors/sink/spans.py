"""The end of the traces: a block's insert, told once for each traced report in it."""

from collections.abc import Iterator

from connectors.sink.machine import Block
from schemas.tracing import BY_EVENT, Span, carried, place


def told(block: Block, table: str, start: int, end: int) -> Iterator[Span]:
    """The spans of a block that is in its table; ``start`` and ``end`` of the insert, ns since 1970."""
    for record in block.records:
        message = record.body
        parent = carried(message.headers())
        if parent is None:
            continue
        said = place(block.topic, block.partition, record.offset, len(block.records))
        said["db.collection.name"] = table
        if block.topic in BY_EVENT:
            said["quanyu.event_id"] = message.key().decode()
        span = parent.child("sink", block.topic, block.partition, record.offset)
        yield Span("sink insert", "CONSUMER", span, parent, start, end, said)
