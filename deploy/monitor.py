"""The watchman 监测 (``python -m deploy.monitor``): lag, silent channels, parts, a periodic audit.

Only reads, but for its heartbeats (:mod:`deploy.heartbeats`). When Kafka or ClickHouse is down it says
so in its metrics and keeps trying: the lag of a broker that does not answer is unknown, and so is who is
silent: these gauges vanish rather than stand still. A channel's last sign of life is the newest record of
its raw topic, so neither a stopped worker nor a stopped ClickHouse makes it look silent.
"""

import contextlib
import ctypes
import signal
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping

import httpx
import structlog
from clickhouse_connect.driver.exceptions import ClickHouseError

from connectors.leave import leave_in_time
from deploy.audit import AuditReport, audit
from deploy.dead_letters import OpenLetters
from deploy.flows import Topology, topology
from deploy.heartbeats import watch_heartbeats
from deploy.positions import Positions
from deploy.silence import ChannelState, judge, learned_gap
from deploy.vitals import watch_vitals
from schemas import probes, tables
from schemas.access import hold_kafka, own_http_tls, tls_context
from schemas.channels import load_channels
from schemas.city import load_city
from schemas.errors import QuanyuError
from schemas.metrics import (
    AUDIT_AT,
    AUDIT_OFFENDERS,
    AUDIT_SECONDS,
    CHANNEL_LAST_REPORT_AT,
    CHANNEL_LEARNING,
    CHANNEL_SILENT,
    CHANNEL_USUAL_GAP,
    DLQ_OLDEST,
    DLQ_OPEN,
    LAG_RECORDS,
    LAG_SECONDS,
    PART_UP,
    TOPIC_END,
    describe_process,
)
from schemas.queries import run
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
#: Seconds between two looks at what is usual: it is told for half an hour to each side of now.
LEARN_INTERVAL = 300.0
#: Seconds to the next look when ClickHouse did not answer; what was learned holds until then.
LEARN_RETRY = 30.0
#: Seconds between two looks at the dead letters; what waits there waits for people.
LETTERS_INTERVAL = 15.0
#: What is known from Kafka alone.
FROM_KAFKA = (
    *(LAG_RECORDS, LAG_SECONDS, TOPIC_END),
    *(CHANNEL_LAST_REPORT_AT, CHANNEL_USUAL_GAP, CHANNEL_LEARNING, CHANNEL_SILENT),
)
#: Seconds for one answer; a part that needs longer is not well.
ANSWER_SECONDS = 3.0
#: A round asks a handful of servers, each for a few seconds at most.
STUCK_S = 180.0


def addresses(settings: Settings) -> dict[str, list[str]]:
    """Where each part that speaks HTTP says that it is ready."""
    return {
        "screen": [f"{settings.screen_url}/healthz"],
        "clickhouse": [f"{settings.clickhouse_url.rstrip('/')}/ping"],
        "worker": [f"{url}/readyz" for url in settings.part_urls("worker")],
        "sink": [f"{url}/readyz" for url in settings.part_urls("sink")],
    }


def asking(settings: Settings) -> httpx.Client:
    """A client that trusts each part's own certificate, where it has one."""
    transports: dict[str, httpx.BaseTransport | None] = {
        settings.screen_url: httpx.HTTPTransport(verify=own_http_tls(settings))
    }
    if settings.clickhouse_url.startswith("https://"):
        transport = httpx.HTTPTransport(verify=tls_context(settings, "clickhouse"))
        transports[settings.clickhouse_url.rstrip("/")] = transport
    return httpx.Client(timeout=ANSWER_SECONDS, mounts=transports)


def read_parts(client: httpx.Client, settings: Settings) -> dict[str, bool]:
    """Which parts answer, at each of their addresses."""
    up = {}
    for part, urls in addresses(settings).items():
        try:
            up[part] = all(client.get(url).status_code == httpx.codes.OK for url in urls)
        except httpx.HTTPError:
            up[part] = False
    return up


def read_lag(positions: Positions, flows: Topology, now: Callable[[], float] = time.time) -> None:
    """Set the gauges of each group's lag and each topic's end."""
    extents = positions.extents([*flows.partitions, *flows.dead_letters])
    lags = {
        group: positions.lag(group, partitions, extents)
        for group, partitions in flows.reads.items()
    }
    for (topic, partition), extent in extents.items():
        TOPIC_END.labels(topic, str(partition)).set(extent.end)
    for group, found in lags.items():
        for (topic, partition), lag in found.items():
            labels = (group, topic, str(partition))
            LAG_RECORDS.labels(*labels).set(lag.records)
            age = 0.0 if lag.oldest_ms is None else max(0.0, now() - lag.oldest_ms / 1000)
            LAG_SECONDS.labels(*labels).set(age)


def read_channels(
    positions: Positions,
    flows: Topology,
    learned: Mapping[str, float | None],
    before: Mapping[str, ChannelState],
    now_ms: int,
) -> dict[str, ChannelState]:
    """Judge every channel and set its gauges."""
    topics = {topic: name for name, topic in flows.channels.items()}
    found = positions.newest([p for p in flows.partitions if p[0] in topics])
    newest: dict[str, int] = {}
    for (topic, _), at in found.items():
        # A clock that runs ahead of ours has heard from the channel just now, not tomorrow.
        newest[topics[topic]] = max(newest.get(topics[topic], 0), min(at, now_ms))
    states = {
        name: judge(spec, newest.get(name), learned.get(name), now_ms, before.get(name))
        for name, spec in load_channels().items()
    }
    for name, state in states.items():
        if state.last_ms is not None:  # a channel never heard has no such instant
            CHANNEL_LAST_REPORT_AT.labels(name).set(state.last_ms / 1000)
        CHANNEL_USUAL_GAP.labels(name).set(state.usual_gap_s)
        CHANNEL_LEARNING.labels(name).set(state.basis == "default")
        CHANNEL_SILENT.labels(name).set(state.silent)
        was = before.get(name)
        if state.silent and not (was and was.silent):
            log.warning("channel silent", channel=name, usual_gap_s=state.usual_gap_s)
    return states


def learn(settings: Settings, now_ms: int) -> dict[str, float | None]:
    """Each channel's usual gap around this time of day, seconds, None where too few days are known.

    Raises :class:`QuanyuError` when ClickHouse does not answer.
    """
    with tables.connect(settings) as client:
        client.database = settings.clickhouse_database
        try:
            zone = load_city(settings.city).time_zone
            rows = run(client, "channel_gap_days", at=now_ms, time_zone=zone)
        except (ClickHouseError, OSError) as error:
            raise QuanyuError(str(error).partition("\n")[0][:300]) from None
    days = defaultdict[str, list[float]](list)
    for row in rows:
        days[row["channel"]].append(row["gap_s"])
    return {channel: learned_gap(gaps) for channel, gaps in days.items()}


def watch_habits(
    settings: Settings, learned: dict[str, float | None], stop: threading.Event
) -> None:
    """Keep ``learned`` up to date until told to stop; without ClickHouse it stays as it is."""
    pause = 0.0
    while not stop.wait(pause):
        try:
            # A channel that has no such days today, as on the first weekend, is learning again.
            learned |= dict.fromkeys(load_channels()) | learn(settings, int(time.time() * 1000))
            pause = LEARN_INTERVAL
        except QuanyuError as error:
            log.info("usual gaps not read", error=str(error))
            pause = LEARN_RETRY


def publish(report: AuditReport) -> None:
    """Set the gauges of an audit. One that could not catch up proves lag, nothing else."""
    for check in report.checks:
        if check.name == "lag" or report.caught_up:
            AUDIT_OFFENDERS.labels(check.name).set(check.offenders)
    if report.caught_up:
        AUDIT_AT.set_to_current_time()
    AUDIT_SECONDS.observe(report.seconds)


def give_back() -> None:
    """Return what is free to the system: glibc would keep the memory of the largest audit there was.

    Elsewhere than on glibc nothing is done.
    """
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)


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
        give_back()
        pause = max(AUDIT_INTERVAL, report.seconds * AUDIT_SHARE)
        wrong = {check.name: check.offenders for check in report.checks if not check.ok}
        level = log.info if report.clean else log.error
        level("audit", clean=report.clean, quiet=report.quiet, seconds=report.seconds, wrong=wrong)


def read_letters(letters: OpenLetters, now: Callable[[], float] = time.time) -> None:
    """Set the gauges of the open dead letters."""
    for topic, (number, oldest_ms) in letters.look().items():
        DLQ_OPEN.labels(topic).set(number)
        age = 0.0 if oldest_ms is None else max(0.0, now() - oldest_ms / 1000)
        DLQ_OLDEST.labels(topic).set(age)


def watch_letters(settings: Settings, stop: threading.Event) -> None:
    """Count the open dead letters until told to stop; without a broker their gauges vanish."""
    letters: OpenLetters | None = None
    while not stop.is_set():
        try:
            letters = letters or OpenLetters(settings)
            read_letters(letters)
        except QuanyuError as error:
            log.info("dead letters not read", error=str(error))
            DLQ_OPEN.clear()
            DLQ_OLDEST.clear()
        stop.wait(LETTERS_INTERVAL)
    if letters is not None:
        letters.close()


def watch(
    settings: Settings,
    learned: Mapping[str, float | None],
    stop: threading.Event,
    pulse: probes.Pulse,
) -> None:
    """Read lag, channels and parts every :data:`INTERVAL` until told to stop."""
    positions: Positions | None = None
    states: dict[str, ChannelState] = {}
    kafka_up = True
    with asking(settings) as client:
        while not stop.is_set():
            pulse.beat()
            for part, up in read_parts(client, settings).items():
                PART_UP.labels(part).set(up)
            try:
                positions = positions or Positions(settings, timeout=ANSWER_SECONDS)
                flows = topology(settings, positions)
                now_ms = int(time.time() * 1000)
                states = read_channels(positions, flows, learned, states, now_ms)
                read_lag(positions, flows)
                kafka_up = True
            except QuanyuError as error:
                if kafka_up:
                    log.warning("lag unknown", error=str(error))
                kafka_up = False
                for gauge in FROM_KAFKA:
                    gauge.clear()
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
    try:
        hold_kafka(settings)
    except QuanyuError as error:
        raise SystemExit(f"deploy.monitor: {error}") from None
    stop = threading.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda *_: leave_in_time(stop.set))
    pulse = probes.Pulse(STUCK_S)
    close = probes.serve(settings, "monitor", stuck=pulse.stuck, starting=lambda: "")
    describe_process(settings)
    learned: dict[str, float | None] = {}
    for target, args in (
        (watch_audits, (settings, stop)),
        (watch_habits, (settings, learned, stop)),
        (watch_vitals, (settings, stop)),
        (watch_letters, (settings, stop)),
        (watch_heartbeats, (settings, stop)),
    ):
        threading.Thread(target=target, args=args, daemon=True).start()
    log.info("watching", kafka=settings.bootstrap, clickhouse=settings.clickhouse_url)
    watch(settings, learned, stop, pulse)
    close()
    # An audit under way only reads: it may be dropped where it stands.
    log.info("stopped")


if __name__ == "__main__":
    main()
