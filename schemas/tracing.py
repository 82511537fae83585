"""A report's way through the city as one trace: W3C Trace Context in Kafka's headers, spans by OTLP over HTTP.

A trace is named after its report: the trace id *is* the report's id, without dashes, so that nothing is kept
anywhere and a report's trace is found by what everybody knows of it. Which reports are traced hangs on
the same id (``QUANYU_TRACE_SHARE`` of them): a repetition is traced as the first was. The publisher writes
``traceparent`` on their raw records, each stage hands it on to what they cause, the sink ends it. Span ids
are derived, too: a batch that is decided again tells the same spans again, not others.

Without ``QUANYU_OTLP_ENDPOINT`` nothing of OpenTelemetry is even imported, and no record has the header.
Exporting is a thread's own business: a full queue drops spans, and whatever goes wrong costs spans alone.
"""

import hashlib
import logging
import re
import threading
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from schemas import metrics
from schemas.settings import Settings

#: https://www.w3.org/TR/trace-context-1/
HEADER = "traceparent"
_PARENT = re.compile(rb"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
_SAMPLED = 1
#: Topics whose records are keyed by the id of the event that they are about.
BY_EVENT = frozenset({"event.links", "events", "orders", "order.transitions"})
#: Spans that wait, and that go at once; seconds between two sendings, and for one answer.
QUEUE, BATCH, EVERY_S, ANSWER_S = 8192, 512, 1.0, 5.0

Headers = list[tuple[str, bytes | None]]


class Context(NamedTuple):
    """The trace that a record belongs to, and the span that it comes from; hexadecimal."""

    trace: str
    span: str

    @property
    def headers(self) -> Headers:
        """As a record carries it."""
        return [(HEADER, f"00-{self.trace}-{self.span}-01".encode())]

    @property
    def report(self) -> str:
        """Id of the report that the trace is of."""
        t = self.trace
        return f"{t[:8]}-{t[8:12]}-{t[12:16]}-{t[16:20]}-{t[20:]}"

    def child(self, *names: str | int) -> "Context":
        """The span of a piece of work in this trace, by what names it there: always the same."""
        return _span(self.trace, *names)


def _span(trace: str, *names: str | int) -> Context:
    named = " ".join([trace, *map(str, names)]).encode()
    return Context(trace, hashlib.blake2b(named, digest_size=8).hexdigest())


def begin(report_id: str, share: float) -> Context | None:
    """The context of a report's publication; None for one that is not traced."""
    # A UUID's last six bytes are as good as random; those before hold its version and variant.
    if int(report_id[-12:], 16) >= share * 2**48:
        return None
    return _span(report_id.replace("-", ""), "publish")


def carried(headers: Iterable[tuple[str, Any]] | None) -> Context | None:
    """What a record carries; None when that is nothing, not sampled or not understood."""
    for name, value in headers or ():
        if name == HEADER and isinstance(value, bytes) and (found := _PARENT.fullmatch(value)):
            trace, span, flags = (part.decode() for part in found.groups())
            return Context(trace, span) if int(flags, 16) & _SAMPLED else None
    return None


class Span(NamedTuple):
    """A piece of work that is done; ``start`` and ``end`` in ns since 1970."""

    name: str
    kind: str
    context: Context
    parent: Context | None
    start: int
    end: int
    attributes: Mapping[str, str | int]


def place(topic: str, partition: int | None, offset: int | None, size: int) -> dict[str, str | int]:
    """Attributes of work on a record of a batch of ``size``, by OpenTelemetry's names."""
    said = {
        "messaging.system": "kafka",
        "messaging.destination.name": topic,
        "messaging.destination.partition.id": None if partition is None else str(partition),
        "messaging.kafka.offset": offset,
        "messaging.batch.message_count": size,
    }
    return {name: value for name, value in said.items() if value is not None}


class Spans:
    """Exports one part's spans; from any thread, never waiting, never raising."""

    def __init__(self, endpoint: str, service: str) -> None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import (
            BatchSpanProcessor,
            SpanExporter,
            SpanExportResult,
        )
        from opentelemetry.sdk.trace.id_generator import IdGenerator
        from opentelemetry.sdk.trace.sampling import ALWAYS_ON

        class Counted(SpanExporter):
            """Counts what was taken and what was not; says nothing, the metric does."""

            def __init__(self, exporter: SpanExporter) -> None:
                self._exporter = exporter

            def export(self, spans: Any) -> SpanExportResult:
                result = self._exporter.export(spans)
                taken = result is SpanExportResult.SUCCESS
                metrics.TRACE_SPANS.labels("exported" if taken else "failed").inc(len(spans))
                return result

            def shutdown(self) -> None:
                self._exporter.shutdown()

        class Derived(IdGenerator):
            """The ids that the span at hand has by its name."""

            def generate_span_id(self) -> int:
                return int(here.context.span, 16)

            def generate_trace_id(self) -> int:
                return int(here.context.trace, 16)

        here = self._here = threading.local()
        # One line for each attempt would fill a log for as long as the collector is away.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        self._provider = TracerProvider(
            sampler=ALWAYS_ON,
            resource=Resource.create({"service.name": service, "service.version": metrics.VERSION}),
            shutdown_on_exit=False,
            id_generator=Derived(),
        )
        self._provider.add_span_processor(
            BatchSpanProcessor(
                Counted(
                    OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces", timeout=ANSWER_S)
                ),
                max_queue_size=QUEUE,
                max_export_batch_size=BATCH,
                schedule_delay_millis=EVERY_S * 1000,
            )
        )
        self._tracer = self._provider.get_tracer("quanyu")

    def tell(self, spans: Iterable[Span]) -> None:
        """Hand spans over; what goes wrong here, or in making them, is counted and no more."""
        try:
            for span in spans:
                self._tell(span)
        except Exception:
            metrics.TRACE_SPANS.labels("failed").inc()

    def _tell(self, span: Span) -> None:
        from opentelemetry import trace
        from opentelemetry.context import Context as Ambient

        above = Ambient()
        if (parent := span.parent) is not None:
            above = trace.set_span_in_context(
                trace.NonRecordingSpan(
                    trace.SpanContext(
                        int(parent.trace, 16),
                        int(parent.span, 16),
                        is_remote=True,
                        trace_flags=trace.TraceFlags(trace.TraceFlags.SAMPLED),
                    )
                ),
                above,
            )
        self._here.context = span.context
        self._tracer.start_span(
            span.name,
            above,
            trace.SpanKind[span.kind],
            {"quanyu.report_id": span.context.report, **span.attributes},
            start_time=span.start,
        ).end(span.end)

    def close(self, limit_s: float = 1.0) -> None:
        """Send what waits, no longer than ``limit_s``; the rest is given up."""
        ending = threading.Thread(target=self._provider.shutdown, daemon=True)
        ending.start()
        ending.join(limit_s)


def spans_of(settings: Settings, part: str) -> Spans | None:
    """Where a part tells its spans; None when none are wanted."""
    if not settings.otlp_endpoint or not settings.trace_share:
        return None
    return Spans(settings.otlp_endpoint, f"quanyu-{part}")
