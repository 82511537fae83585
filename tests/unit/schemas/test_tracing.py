"""Trace context: named after the report, the same each time, carried only as the standard says."""

import contextlib
import socket
import subprocess
import sys
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.ids import report_id
from schemas.settings import Settings
from schemas.tracing import HEADER, QUEUE, Context, Span, Spans, begin, carried, spans_of

ID = report_id("test", "A1", 0)
CONTEXT = Context(ID.replace("-", ""), "00f067aa0ba902b7")


def test_a_trace_is_named_after_its_report_and_always_the_same() -> None:
    first, again = begin(ID, 1.0), begin(ID, 1.0)
    assert first is not None
    assert first == again
    assert first.report == ID
    assert int(first.trace, 16)
    assert int(first.span, 16)


def test_a_record_carries_what_was_written_on_another() -> None:
    assert carried(CONTEXT.headers) == CONTEXT
    assert carried([("other", b"x"), *CONTEXT.headers]) == CONTEXT


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"00-0-0-01",
        None,
        b"00-" + b"A" * 32 + b"-00f067aa0ba902b7-01",
        CONTEXT.headers[0][1][:-2] + b"00",  # type: ignore[index]
    ],
)
def test_what_is_not_sampled_or_not_understood_is_nothing(value: bytes | None) -> None:
    assert carried([(HEADER, value)]) is None


@given(st.text(min_size=1), st.text(min_size=1))
def test_pieces_of_work_of_different_names_are_different_spans(one: str, other: str) -> None:
    assert (CONTEXT.child(one) == CONTEXT.child(other)) == (one == other)


def test_the_share_is_kept_and_a_larger_share_has_the_smaller_in_it() -> None:
    ids = [report_id("test", f"A{n}", 0) for n in range(4000)]
    traced = {share: {i for i in ids if begin(i, share)} for share in (0.0, 0.1, 0.5, 1.0)}
    assert not traced[0.0]
    assert 300 < len(traced[0.1]) < 500
    assert 1800 < len(traced[0.5]) < 2200
    assert traced[0.1] < traced[0.5] < traced[1.0] == set(ids)


def test_without_an_endpoint_nothing_of_the_library_is_loaded() -> None:
    assert spans_of(Settings(), "worker") is None
    assert spans_of(Settings(otlp_endpoint="http://127.0.0.1:1", trace_share=0), "worker") is None
    code = "import sys, streams.worker, connectors.sink.runner; sys.exit('opentelemetry.sdk' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_collector_that_never_answers_holds_nobody_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, contextlib.ExitStack() as held:

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    held.enter_context(silent.accept()[0])

        threading.Thread(target=accept, daemon=True).start()
        spans = Spans(f"http://127.0.0.1:{silent.getsockname()[1]}", "test")
        at = time.time_ns()
        told = Span("publish", "PRODUCER", CONTEXT, None, at, at, {})
        telling = threading.Thread(target=spans.tell, args=([told] * (QUEUE + 1000),), daemon=True)
        telling.start()
        telling.join(60)
        assert not telling.is_alive()
        closing = threading.Thread(target=spans.close, args=(0.1,), daemon=True)
        closing.start()
        closing.join(60)
        assert not closing.is_alive()


def test_what_goes_wrong_in_a_span_reaches_nobody() -> None:
    spans = Spans("http://127.0.0.1:9", "test")
    spans.tell(1 // 0 for _ in "x")  # type: ignore[misc]
    spans.tell([Span("x", "NO_SUCH_KIND", CONTEXT, CONTEXT, 1, 2, {})])
    spans.close(0.1)
