"""A trace goes through the stages with what a record causes, and changes nothing of what is decided."""

from collections.abc import Sequence
from typing import Any

import pytest

from schemas.city import CityPack
from schemas.codec import Codec
from schemas.ids import report_id
from schemas.tracing import Context, Headers, Span, Spans, begin, carried
from streams.batch import Batch, Decision, Output, Step
from streams.dispatch.decide import DispatchStep
from streams.intake.decide import IntakeStep
from streams.merge.decide import MergeStep
from streams.spans import traced
from tests.unit.streams.batches import NOW, batch, raw_report


class Told(Spans):
    """Keeps spans instead of sending them."""

    def __init__(self) -> None:
        self.spans: list[Span] = []

    def tell(self, spans: Any) -> None:
        self.spans += spans


def with_headers(given: Batch, headers: Sequence[Headers | None]) -> Batch:
    given.headers = list(headers)
    return given


def decide(step: Step[Any], given: Batch) -> Decision:
    return step.decide(step.restore(given.topic, given.partition, {}), given, NOW)


def of(outputs: Sequence[Output], topic: str) -> list[Output]:
    return [output for output in outputs if output.topic == topic]


def bare(decision: Decision) -> tuple[list[Output], list[tuple[bytes, bytes | None]]]:
    return [output._replace(headers=None) for output in decision.outputs], decision.changes


def trace_of(native_id: str) -> Context:
    context = begin(report_id("test", native_id, 0), 1.0)
    assert context is not None
    return context


@pytest.fixture
def steps(city: CityPack, codec: Codec) -> list[Step[Any]]:
    return [IntakeStep(city, codec, b"k" * 32), MergeStep(city, codec), DispatchStep(city, codec)]


def test_one_report_of_three_is_traced_from_intake_to_its_order(
    steps: list[Step[Any]], codec: Codec
) -> None:
    encode = codec.encoder("RawReport")
    raws = [encode(raw_report(name, title=f"{name} 路面积水")) for name in ("A1", "A2", "A3")]
    spans, context = Told(), trace_of("A2")
    given = with_headers(batch(raws), [None, context.headers, None])
    parent = context
    for step, takes in zip(steps, ("reports", "events", "orders"), strict=True):
        plain = decide(step, with_headers(batch(given.values, given.topic), [None] * len(given)))
        decision = decide(traced(step, spans), given)
        assert bare(decision) == bare(plain), "a trace changes nothing that is decided"
        handed = {o.headers[0][1] for o in decision.outputs if o.headers}
        assert len(handed) == 1, "only what the traced record caused is of its trace"
        [span] = spans.spans[-1:]
        assert (span.context.trace, span.parent) == (context.trace, parent)
        parent = span.context
        outputs = of(decision.outputs, takes)
        assert any(output.headers for output in outputs)
        assert {carried(o.headers) for o in outputs if o.headers} == {parent}
        given = with_headers(batch([o.value for o in outputs], takes), [o.headers for o in outputs])
    assert [span.name for span in spans.spans] == [
        "intake decide",
        "merge decide",
        "dispatch decide",
    ]
    told = spans.spans[-1].attributes
    assert told["messaging.destination.name"] == "events"
    assert told["quanyu.event_id"] == spans.spans[1].attributes["quanyu.event_id"]


def test_a_batch_decided_again_tells_the_same_spans(steps: list[Step[Any]], codec: Codec) -> None:
    spans = Told()
    raws = [codec.encoder("RawReport")(raw_report("A1"))]
    for _ in range(2):
        decide(traced(steps[0], spans), with_headers(batch(raws), [trace_of("A1").headers]))
    one, again = spans.spans
    assert one.context == again.context


def test_a_header_of_somebody_else_stops_nothing(steps: list[Step[Any]], codec: Codec) -> None:
    spans = Told()
    raws = [codec.encoder("RawReport")(raw_report("A1"))]
    decision = decide(
        traced(steps[0], spans),
        with_headers(batch(raws), [[("traceparent", b"\xff"), ("x", None)]]),
    )
    assert of(decision.outputs, "reports")
    assert not spans.spans
    assert not any(output.headers for output in decision.outputs)


def test_nothing_stands_between_where_nothing_is_traced(steps: list[Step[Any]]) -> None:
    assert all(traced(step, None) is step for step in steps)
