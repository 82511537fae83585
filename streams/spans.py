"""A stage's part in the traces: which batch a traced report was decided in, and for how long."""

import time
from collections.abc import Iterator
from typing import Generic, TypeVar

from schemas.tracing import BY_EVENT, Span, Spans, carried, place
from streams.batch import Batch, Decision, Step
from streams.records import stage_span

S = TypeVar("S")


class Traced(Generic[S]):
    """A step whose decisions are told: it decides as the step within it does, of which it knows nothing."""

    def __init__(self, step: Step[S], spans: Spans) -> None:
        self._step, self._spans = step, spans
        self.name = step.name

    def restore(self, topic: str, partition: int, entries: dict[bytes, bytes]) -> S:
        """As the step's."""
        return self._step.restore(topic, partition, entries)

    def entries(self, state: S) -> int:
        """As the step's."""
        return self._step.entries(state)

    def decide(self, state: S, batch: Batch, now_ms: int) -> Decision:
        """As the step's; afterwards a span for each traced record."""
        start = time.time_ns()
        decision = self._step.decide(state, batch, now_ms)
        if any(batch.headers):
            self._spans.tell(told(self.name, batch, decision, start, time.time_ns()))
        return decision


def told(agent: str, batch: Batch, decision: Decision, start: int, end: int) -> Iterator[Span]:
    """The spans of a batch's traced records; each names the event that its record went into, if it did."""
    events = {
        context.span: output.key.decode()
        for output in decision.outputs
        if output.topic in BY_EVENT and output.key and (context := carried(output.headers))
    }
    for index, headers in enumerate(batch.headers):
        if (span := stage_span(agent, batch, index)) is None:
            continue
        said = place(batch.topic, batch.partition, batch.offsets[index], len(batch))
        if span.span in events:
            said["quanyu.event_id"] = events[span.span]
        yield Span(f"{agent} decide", "CONSUMER", span, carried(headers), start, end, said)


def traced(step: Step[S], spans: Spans | None) -> Step[S]:
    """The step itself where nothing is traced."""
    return step if spans is None else Traced(step, spans)
