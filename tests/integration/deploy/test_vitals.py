"""What the monitor reads of the parts' ground: of a real broker and engine, and of those that are gone."""

import math
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from connectors import signature
from deploy import dashboards
from deploy.vitals import HEARTBEAT, Vitals, is_heartbeat
from schemas import tables, topics
from schemas.channels import channel_names
from schemas.metrics import COLLECTORS
from schemas.queries import load_queries, run
from schemas.settings import Settings

pytestmark = pytest.mark.integration


def value(name: str, **labels: str) -> float | None:
    """A gauge as a scrape would see it."""
    return COLLECTORS.get_sample_value(name, labels)


@pytest.fixture
def vitals(settings: Settings) -> Iterator[Vitals]:
    """Readings of this run's broker and engine, with topics and tables."""
    topics.apply(settings)
    tables.apply(settings)
    vitals = Vitals(settings)
    yield vitals
    vitals.close()


def test_a_sound_broker_has_all_leaders_and_copies_and_every_raw_topic_takes_records(
    vitals: Vitals,
) -> None:
    before = time.time()
    vitals.brokers()
    assert value("quanyu_broker_nodes") == 1
    assert value("quanyu_broker_under_replicated_partitions") == 0
    assert value("quanyu_broker_offline_partitions") == 0
    for channel in channel_names():
        seen = value("quanyu_heartbeat_timestamp_seconds", channel=channel, step="topic")
        assert seen is not None
        assert seen >= before


def test_parts_disks_and_reviews_of_a_real_engine(vitals: Vitals) -> None:
    vitals.clickhouse()
    vitals.home()
    assert value("quanyu_table_parts", table="schema_migrations")
    assert value("quanyu_table_parts_limit")
    reviews = value("quanyu_reviews_open")
    assert reviews is not None
    assert reviews >= 0
    for disk in ("home", "clickhouse:default"):
        free, size = (value(f"quanyu_disk_{what}_bytes", disk=disk) for what in ("free", "size"))
        assert free
        assert size
        assert 0 < free < size


def test_a_clock_that_is_a_minute_off_is_a_minute_off_for_broker_and_engine(
    vitals: Vitals, monkeypatch: pytest.MonkeyPatch
) -> None:
    def skew(server: str) -> float:
        found = value("quanyu_clock_skew_seconds", server=server)
        assert found is not None
        return found

    def read() -> None:
        vitals.broker_clock()
        vitals.clickhouse()

    read()
    # In step but for what the asking took: an answer never comes from outside of it.
    assert abs(skew("kafka")) < 1
    assert abs(skew("clickhouse")) < 1
    now = time.time
    monkeypatch.setattr("deploy.vitals.time.time", lambda: now() + 60)
    read()
    assert -61 < skew("clickhouse") < -55
    assert -61 < skew("kafka") < -55


def test_servers_that_are_gone_leave_no_number_behind(settings: Settings, tmp_path: Path) -> None:
    gone = {"kafka": "127.0.0.1:1", "clickhouse": "http://127.0.0.1:1"}
    alone = Vitals(Settings(home=tmp_path, port=settings.port, **gone))  # type: ignore[arg-type] # addresses only
    alone.round()
    alone.close()
    nodes = value("quanyu_broker_nodes")
    assert nodes is not None
    assert math.isnan(nodes)
    assert value("quanyu_clock_skew_seconds", server="clickhouse") is None
    assert value("quanyu_clock_skew_seconds", server="kafka") is None
    assert value("quanyu_table_parts", table="reports") is None


def test_a_certificate_says_when_it_ends(tmp_path: Path, settings: Settings) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "screen")])
    ends = datetime.now(UTC).replace(microsecond=0) + timedelta(days=10)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(ends - timedelta(days=20))
        .not_valid_after(ends)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / "screen.pem"
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    vitals = Vitals(settings.model_copy(update={"http_certificate_file": path}))
    vitals.certificates()
    vitals.close()
    found = value(
        "quanyu_certificate_end_timestamp_seconds", setting="QUANYU_HTTP_CERTIFICATE_FILE"
    )
    assert found == ends.timestamp()


def test_a_registry_that_answers_is_up_and_one_that_is_gone_is_not(
    settings: Settings,
) -> None:
    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(404)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(b'{"error_code": 40403, "message": "Schema not found"}')

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for url, up in ((f"http://127.0.0.1:{server.server_port}", 1), ("http://127.0.0.1:1", 0)):
        vitals = Vitals(settings.model_copy(update={"schema_registry_url": url}))
        vitals.registry()
        vitals.close()
        assert value("quanyu_registry_up", server="registry") == up
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("status", "body", "proof", "good"),
    [
        (400, {"reason": "empty"}, {"X-API-Key": "k"}, True),
        (400, {"reason": "not_json"}, {"X-API-Key": "k"}, False),
        (401, {"reason": "key"}, {}, True),
        (401, {"reason": "key"}, {"X-API-Key": "k"}, False),
        (401, {"reason": "signature"}, signature.sign("k", 1, HEARTBEAT), False),
        (202, {}, {"X-API-Key": "k"}, False),
        (503, {}, {}, False),
    ],
)
def test_only_the_right_answer_is_a_heartbeat(
    status: int, body: dict[str, str], proof: dict[str, str], good: bool
) -> None:
    request = httpx.Request("POST", "http://127.0.0.1/channels/x/reports", headers=proof)
    assert is_heartbeat(httpx.Response(status, json=body, request=request)) is good


@pytest.mark.parametrize(
    ("dashboard", "name"),
    [("city", name) for name in dashboards.CITY_QUERIES]
    + [("kpi", name) for name in dashboards.KPI_QUERIES],
)
def test_a_query_of_the_citys_dashboards_runs_as_grafana_would_send_it(
    vitals: Vitals, settings: Settings, dashboard: str, name: str
) -> None:
    query = load_queries()[name]
    now_ms = int(time.time() * 1000)
    since = now_ms - 30 * 24 * 3600 * 1000
    made = {"city": dashboards.city, "kpi": dashboards.kpi}[dashboard]()
    (target,) = (t for p in made["panels"] for t in p["targets"] if t["refId"] == name)
    sql = target["rawSql"].replace("${__to}", str(now_ms)).replace("${__from}", str(since))
    today = datetime.fromtimestamp(now_ms / 1000, ZoneInfo("Asia/Shanghai")).date().isoformat()
    given = {
        "at": now_ms,
        "since": since,
        "until": now_ms,
        "time_zone": "Asia/Shanghai",
        "day": today,
    }
    for variable in made["templating"]["list"]:
        value = variable["current"]["value"]
        if f"${{{variable['name']}" in sql:
            given[variable["name"]] = value
        sql = sql.replace(f"${{{variable['name']}:singlequote}}", f"'{value}'")
        sql = sql.replace(f"${{{variable['name']}}}", value)
    assert "${" not in sql
    with tables.connect(settings) as client:
        client.database = settings.clickhouse_database
        known = {p.name: given[p.name] for p in query.parameters if p.name in given}
        assert len(client.query(sql).result_rows) == len(run(client, name, **known))
