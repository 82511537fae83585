"""The watchman 监测 (``python -m deploy.monitor``): lag, readiness of the parts, a periodic audit.

Only reads. When Kafka or ClickHouse is down it says so in its metrics and keeps trying: the lag of
a broker that does not answer is unknown, so its gauges vanish rather than stand still.
"""

import signal
import threading
import time
from collections.abc import Callable

import httpx
import structlog
from prometheus_client import start_http_server

from deploy.audit import AuditReport, audit
from deploy.flows import Topology, topology
from deploy.positions import Positions
from schemas.errors import QuanyuError
from schemas.metrics import (
    AUDIT_AT,
    AUDIT_OFFENDERS,
    AUDIT_SECONDS,
    COLLECTORS,
    LAG_RECORDS,
    LAG_SECONDS,
    PART_UP,
    TOPIC_END,
)
from schemas.settings import Settings, load_settings

log = structlog.get_logger("monitor")

#: Seconds between two readings; a scrape every 15 s sees each change.
INTERVAL = 5.0
#: Seconds between two audits at least, ...
AUDIT_INTERVAL = 60.0
#: ... and so many times as long as an audit takes: watching stays a small share of the work.
AUDIT_SHARE = 20
#: Seconds that an audit waits for the records it saw to travel through.
AUDIT_TIMEOUT = 60.0
#: Seconds for one answer; a part that needs longer is not well.
ANSWER_SECONDS = 3.0


def probes(settings: Settings) -> dict[str, str]:
    """Where each part that speaks HTTP says that it is ready."""
    return {
        "screen": f"http://{settings.bind}:{settings.screen_port}/healthz",
        "clickhouse": f"{settings.clickhouse_url.rstrip('/')}/ping",
        "worker": f"http://{settings.bind}:{settings.metrics_port('worker')}/metrics",
        "sink": f"http://{settings.bind}:{settings.metrics_port('sink')}/metrics",
    }


def read_parts(client: httpx.Client, settings: Settings) -> dict[str, bool]:
    """Which parts answer."""
    up = {}
    for part, url in probes(settings).items():
        try:
            up[part] = client.get(url).status_code == httpx.codes.OK
        except httpx.HTTPError:
            up[part] = False
    return up


def read_lag(positions: Positions, flows: Topology, now: Callable[[], float] = time.time) -> None:
    """Set the gauges of each group's lag and each topic's end; clear them when this raises."""
    try:
        extents = positions.extents([*flows.partitions, *flows.dead_letters])
        lags = {
            group: positions.lag(group, partitions, extents)
            for group, partitions in flows.reads.items()
        }
    except QuanyuError:
        for gauge in (LAG_RECORDS, LAG_SECONDS, TOPIC_END):
            gauge.clear()
        raise
    for (topic, partition), extent in extents.items():
        TOPIC_END.labels(topic, str(partition)).set(extent.end)
    for group, found in lags.items():
        for (topic, partition), lag in found.items():
            labels = (group, topic, str(partition))
            LAG_RECORDS.labels(*labels).set(lag.records)
            age = 0.0 if lag.oldest_ms is None else max(0.0, now() - lag.oldest_ms / 1000)
            LAG_SECONDS.labels(*labels).set(age)


def publish(report: AuditReport) -> None:
    """Set the gauges of an audit. One that could not catch up proves lag, nothing else."""
    for check in report.checks:
        if check.name == "lag" or report.caught_up:
            AUDIT_OFFENDERS.labels(check.name).set(check.offenders)
    if report.caught_up:
        AUDIT_AT.set_to_current_time()
    AUDIT_SECONDS.observe(report.seconds)


def watch_audits(settings: Settings, stop: threading.Event) -> None:
    """Audit again and again until told to stop; what goes wrong is logged, and tried again."""
    pause = AUDIT_INTERVAL / 6  # the first one soon, when the parts had time to start
    while not stop.wait(pause):
        pause = AUDIT_INTERVAL
        try:
            report = audit(settings, timeout=AUDIT_TIMEOUT, until_quiet=False)
        except QuanyuError as error:
            log.warning("audit could not run", error=str(error))
            continue
        publish(report)
        pause = max(AUDIT_INTERVAL, report.seconds * AUDIT_SHARE)
        wrong = {check.name: check.offenders for check in report.checks if not check.ok}
        level = log.info if report.clean else log.error
        level("audit", clean=report.clean, quiet=report.quiet, seconds=report.seconds, wrong=wrong)


def watch(settings: Settings, stop: threading.Event) -> None:
    """Read lag and parts every :data:`INTERVAL` until told to stop."""
    positions: Positions | None = None
    kafka_up = True
    with httpx.Client(timeout=ANSWER_SECONDS) as client:
        while not stop.is_set():
            for part, up in read_parts(client, settings).items():
                PART_UP.labels(part).set(up)
            try:
                positions = positions or Positions(settings, timeout=ANSWER_SECONDS)
                read_lag(positions, topology(settings, positions))
                kafka_up = True
            except QuanyuError as error:
                if kafka_up:
                    log.warning("lag unknown", error=str(error))
                kafka_up = False
            PART_UP.labels("kafka").set(kafka_up)
            stop.wait(INTERVAL)
    if positions is not None:
        positions.close()


def main() -> None:
    """Run until SIGTERM or SIGINT."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(ensure_ascii=False),
        ]
    )
    settings = load_settings()
    stop = threading.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda *_: stop.set())
    server, thread = start_http_server(
        settings.metrics_port("monitor"), addr=settings.bind, registry=COLLECTORS
    )
    auditor = threading.Thread(target=watch_audits, args=(settings, stop), daemon=True)
    auditor.start()
    log.info("watching", kafka=settings.bootstrap, clickhouse=settings.clickhouse_url)
    watch(settings, stop)
    server.shutdown()
    thread.join()
    # An audit under way only reads: it may be dropped where it stands.
    log.info("stopped")


if __name__ == "__main__":
    main()
