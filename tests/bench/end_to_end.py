"""Raw topic to visible in ClickHouse, everything on this machine, against Faust one event at a time."""

import time
from typing import Any

import clickhouse_connect
import psutil
from clickhouse_connect.driver.client import Client

from connectors.mapping import to_raw_report
from connectors.publish import Publisher
from connectors.simulator import Simulation, load_numbers
from schemas.channels import load_channel
from schemas.city import load_city
from tests.bench.rig import Process, alive, metric_sums, process, storage, wait_answers
from tests.conftest import Stack

SEED = 4101
LIMIT_S = 600.0


def run(reports: int = 150_000, peer_reports: int = 15_000) -> dict[str, Any]:
    """Reports a second of the pipeline and of the peer, the ratio, and the cost of each stage."""
    ours = _measure("streams.worker", reports)
    peer = _measure("tests.bench.per_event_worker", peer_reports)
    ratio = ours["reports_per_s"] / peer["reports_per_s"]
    return {"pipeline": ours, "per_event_faust": peer, "ratio": round(ratio, 2)}


def publish(stack: Stack, reports: int) -> None:
    """Fill the raw topics with a simulated day."""
    publisher = Publisher(stack.settings)
    city, day = load_city(stack.settings.city), load_numbers().scenario("day")
    # So fast that the whole of it occurred within minutes before it was received.
    start_ms = int(time.time() * 1000) - 600_000
    simulated = Simulation(city, day, seed=SEED, rate=reports / 300.0, start_ms=start_ms).reports()
    by_channel: dict[str, list[dict[str, Any]]] = {}
    for number in range(reports):
        report = next(simulated)
        raw = to_raw_report(
            load_channel(report.channel),
            report.native,
            received_at=int(time.time() * 1000),
            connector="bench",
        )
        pending = by_channel.setdefault(report.channel, [])
        pending.append(raw)
        if len(pending) >= 5000 or number == reports - 1:
            publisher.publish(pending, "bench")
            pending.clear()
    for pending in by_channel.values():
        publisher.publish(pending, "bench")
    publisher.close()


def _measure(worker_module: str, reports: int) -> dict[str, Any]:
    with storage() as stack:
        publish(stack, reports)
        settings = stack.settings
        client = clickhouse_connect.get_client(
            dsn=settings.clickhouse_url,
            database=settings.clickhouse_database,
            autogenerate_session_id=False,
        )
        with process(stack, "connectors.sink") as sink, process(stack, worker_module) as worker:
            wait_answers(settings.metrics_port("sink"), sink)
            first, last = _until_visible(client, reports, worker, sink)
            processes = {
                "worker": worker.pid,
                "sink": sink.pid,
                "kafka": stack.processes["kafka"].pid,
                "clickhouse": stack.processes["clickhouse"].pid,
            }
            cpu = {
                name: sum(psutil.Process(pid).cpu_times()[:2]) for name, pid in processes.items()
            }
            result: dict[str, Any] = {
                "reports": reports,
                "reports_per_s": round((last[0] - first[0]) / (last[1] - first[1])),
                "events": int(
                    client.query("SELECT uniqExact(event_id) FROM events").result_rows[0][0]
                ),
                "cpu_us_per_report": {name: round(t / reports * 1e6) for name, t in cpu.items()},
            }
            if worker_module == "streams.worker":
                port = settings.metrics_port("worker")
                result["stage_us_per_report"] = {
                    f"{agent} {step}": round(seconds / reports * 1e6, 1)
                    for (agent, step), seconds in sorted(
                        metric_sums(port, "quanyu_stream_step_seconds_sum", "agent", "step").items()
                    )
                    if step != "restore"
                }
            inserted = metric_sums(
                settings.metrics_port("sink"), "quanyu_sink_insert_seconds_sum", "table"
            )
            result["insert_us_per_report"] = {
                table: round(seconds / reports * 1e6, 1)
                for (table,), seconds in sorted(inserted.items())
            }
    return result


def _until_visible(
    client: Client, reports: int, *parts: Process
) -> tuple[tuple[int, float], tuple[int, float]]:
    """(outcomes, time) at the first sight of any, and when every order of every event is visible too."""
    first: tuple[int, float] | None = None
    end = time.monotonic() + LIMIT_S
    while time.monotonic() < end:
        outcomes = int(client.query("SELECT count() FROM report_outcomes").result_rows[0][0])
        now = time.monotonic()
        if outcomes and first is None:
            first = outcomes, now
        if outcomes >= reports and first is not None and _settled(client):
            return first, (outcomes, now)
        alive(*parts)
        time.sleep(0.1)
    raise RuntimeError(f"not all of {reports} reports became visible within {LIMIT_S:.0f} s")


def _settled(client: Client) -> bool:
    # A report that goes to another event has a second link, an event that closed at once has no order.
    row = client.query(
        "SELECT (SELECT sum(parts) FROM report_outcomes WHERE outcome = 'accepted'), "
        "(SELECT uniqExact(report_id) FROM event_links), "
        "(SELECT count() FROM events FINAL WHERE status = 'open' "
        "AND event_id NOT IN (SELECT event_id FROM orders))"
    ).result_rows[0]
    return bool(row[0] == row[1] and row[2] == 0)
