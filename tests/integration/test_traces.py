"""A report's whole way is one trace in a collector's own protocol; a collector that is away costs no report."""

import json
import random
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from schemas.ids import report_id
from tests.conftest import eventually
from tests.faults.harness import Stack, free_base_port
from tests.faults.loads import row

pytestmark = [pytest.mark.integration, pytest.mark.long, pytest.mark.timeout(600)]

CHANNEL = "hotline12345"
#: Tables whose rows a new matter's first report causes.
TABLES = {"report_outcomes", "reports", "event_links", "events", "orders", "order_transitions"}
#: All that a span says: ids, places in Kafka, numbers. Nothing that somebody wrote.
SAID = {
    *("quanyu.report_id", "quanyu.event_id", "quanyu.transport", "messaging.system"),
    *("messaging.destination.name", "messaging.destination.partition.id"),
    *("messaging.kafka.offset", "messaging.batch.message_count", "db.collection.name"),
}


class Collector(ThreadingHTTPServer):
    """Takes spans as OTLP over HTTP; keeps each by its id: of which service, parent, name and what it says."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Take)
        self.spans: dict[str, tuple[str, str, str, dict[str, str]]] = {}
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def of(self, trace: str) -> dict[str, tuple[str, str, str, dict[str, str]]]:
        """A trace's spans."""
        spans = list(self.spans.items())
        return {k.partition("/")[2]: v for k, v in spans if k.startswith(trace)}


class Take(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            about = {a.key: a.value.string_value for a in resource.resource.attributes}
            for span in (span for scope in resource.scope_spans for span in scope.spans):
                assert span.end_time_unix_nano >= span.start_time_unix_nano > 0
                said = {
                    a.key: a.value.string_value or str(a.value.int_value) for a in span.attributes
                }
                key = f"{span.trace_id.hex()}/{span.span_id.hex()}"
                parent = span.parent_span_id.hex()
                self.server.spans[key] = about["service.name"], parent, span.name, said
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with Collector() as collector:
        yield collector
        collector.shutdown()


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory, collector: Collector) -> Iterator[Stack]:
    stack = Stack(tmp_path_factory.mktemp("traced"), free_base_port(random.Random()))
    stack.env |= {
        "QUANYU_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.server_port}",
        "QUANYU_TRACE_SHARE": "1",
    }
    with stack.running():
        yield stack


def push(city: Stack, names: list[str]) -> None:
    """Reports of as many matters, confirmed."""
    key = json.loads((city.home / "keys.json").read_text(encoding="utf-8"))[CHANNEL]
    rng = random.Random(5)
    answer = httpx.post(
        f"{city.url}/channels/{CHANNEL}/reports",
        json=[row(name, rng) for name in names],
        headers={"X-API-Key": key},
        timeout=30,
        trust_env=False,
    )
    assert answer.status_code == httpx.codes.ACCEPTED, answer.text


def outcomes(city: Stack) -> set[str]:
    """Ids of reports that have an outcome in the table."""
    return {str(name) for (name,) in city.rows("SELECT native_id FROM quanyu.report_outcomes")}


def test_a_reports_way_is_one_trace_from_its_channel_to_every_table(
    city: Stack, collector: Collector
) -> None:
    trace = report_id(CHANNEL, "T1", 0).replace("-", "")
    push(city, ["T1"])

    def whole() -> bool:
        """Each part sends its spans in its own time: a table's may come before those it springs from."""
        spans = collector.of(trace).items()
        inserted = {said.get("db.collection.name", "") for _, (*_, said) in spans}
        known = {span for span, _ in spans} | {""}
        return inserted >= TABLES and all(parent in known for _, (_, parent, *_) in spans)

    eventually(whole, 120)
    spans = collector.of(trace)
    [root] = [span for span, (_, parent, *_) in spans.items() if not parent]
    assert spans[root][2] == "publish"
    above = dict[str, list[str]]()
    for span, (service, parent, name, said) in spans.items():
        assert parent in spans or span == root, "a span's parent is in the trace"
        above.setdefault(said.get("db.collection.name", name), []).append(
            spans[parent][2] if parent else ""
        )
        assert service == {
            "publish": "quanyu-connectors", "sink insert": "quanyu-sink"
        }.get(name, "quanyu-worker")  # fmt: skip
        assert said.keys() <= SAID
        assert said["quanyu.report_id"].replace("-", "") == trace
    assert above["intake decide"] == ["publish"]
    assert above["merge decide"] == ["intake decide"]
    assert above["dispatch decide"] == ["merge decide"]
    assert above["report_outcomes"] == above["reports"] == ["intake decide"]
    assert set(above["events"]) == set(above["event_links"]) == {"merge decide"}
    assert set(above["orders"]) == {"dispatch decide"}
    events = {said["quanyu.event_id"] for *_, said in spans.values() if "quanyu.event_id" in said}
    assert len(events) == 1


def test_a_collector_that_is_away_costs_no_report(city: Stack, collector: Collector) -> None:
    collector.shutdown()
    collector.server_close()
    names = [f"N{n}" for n in range(300)]
    for start in range(0, len(names), 100):
        push(city, names[start : start + 100])
    eventually(lambda: outcomes(city) >= set(names), 120)
    assert city.json("audit", "--timeout", "120")["clean"]
    assert not any(part["restarts"] for part in city.recorded().values())
