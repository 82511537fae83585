"""The demonstration: a whole stack, a simulated city, and at the end an account of what happened.

It does what a person would do by hand: ``quanyu up``, ``quanyu simulate``, ``quanyu audit``,
``quanyu down``, each by its own command, so that what it shows is what a user gets. One thing is its own: so
that orders come to an end while one watches, its departments are :data:`PACE` times as quick as real ones, and
so are the limits of its duty list shorter, so that some are late all the same.
"""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from deploy.audit import AuditReport, audit
from schemas.city import DEADLINE, city_folder
from schemas.errors import QuanyuError
from schemas.settings import Settings
from schemas.tables import connect

#: Seconds to wait at the end until every report is in its table.
SETTLE_SECONDS = 120.0
#: Seconds to wait before that until the connectors have read what lies in databases, folders and the MQTT
#: broker: the audit knows only what is in Kafka. So long after the last outcome nothing more will come.
DRAIN_SECONDS, STILL_SECONDS = 300.0, 45.0
POLL_SECONDS = 0.5
#: Seconds of the departments' time in a real one: their day of eight hours passes in two minutes.
PACE = 240.0
#: What orders went through, by the verb of the life cycle.
STEPS = {
    "opened": "dispatch",
    "signed": "sign",
    "returned": "return",
    "extended": "grant_extension",
    "overdue": "overdue",
    "finished": "handle",
    "closed": "close",
    "rated": "visit",
    "reopened": "reopen",
    "closed falsely": "false_closure",
}


@dataclass(frozen=True, slots=True)
class ChannelSummary:
    """One channel: messages its transport accepted, those sent again among them, and what became of them.

    ``reports``: outcomes that are no duplicate; a sender that was in doubt makes further duplicates.
    """

    sent: int
    resent: int
    outcomes: int
    reports: int

    @property
    def missing(self) -> int:
        """Distinct reports without an outcome."""
        return max(0, self.sent - self.resent - self.reports)

    @property
    def alive(self) -> bool:
        """Whether it spoke and was heard."""
        return self.outcomes > 0


@dataclass(frozen=True, slots=True)
class DemoSummary:
    """What a demonstration did. Latencies: from a report's receipt to its outcome's insert, ms.

    ``steps``: orders by what they went through (:data:`STEPS`).
    """

    sent: int
    channels: dict[str, ChannelSummary]
    outcomes: dict[str, int]
    events: int
    orders: int
    latency_p50_ms: float | None
    latency_p99_ms: float | None
    audit: AuditReport
    steps: dict[str, int] = field(default_factory=dict)

    @property
    def clean(self) -> bool:
        """True when the audit is and no report that was sent is missing."""
        return self.audit.clean and not any(found.missing for found in self.channels.values())

    def as_dict(self) -> dict[str, Any]:
        """The summary for JSON, with the audit's own form inside."""
        channels = {
            name: {**asdict(found), "missing": found.missing, "alive": found.alive}
            for name, found in self.channels.items()
        }
        return {
            **asdict(self),
            "clean": self.clean,
            "channels": channels,
            "audit": self.audit.as_dict(),
        }


@dataclass(frozen=True, slots=True)
class Tally:
    """A channel's outcomes in the tables, and those that are no duplicate."""

    outcomes: int = 0
    reports: int = 0


def demo(
    settings: Settings,
    *,
    rate: float,
    duration: float | None,
    say: Callable[[str], None],
) -> DemoSummary:
    """Run until ``duration`` seconds are over or somebody interrupts, then wait, audit and stop.

    Raises QuanyuError when a part does not start; whatever was started is stopped again.
    """
    settings = settings.model_copy(update={"city": str(quick_city(settings))})
    environment = {
        **os.environ,
        "QUANYU_CITY": settings.city,
        "QUANYU_HOME": str(settings.home.resolve()),
        "QUANYU_PORT": str(settings.port),
    }
    say("starting Kafka, ClickHouse and the parts of quanyu (the first time fetches Kafka)")
    with _stack(environment):
        say(f"{settings.screen_url} shows the city; Ctrl-C ends it")
        before, began = (_tallies(settings), _totals(settings)), time.time()
        sent = _simulate(environment, rate, duration)
        say("waiting until every report is read, decided and stored")
        _drain(settings, sent, before[0])
        report = audit(settings, timeout=SETTLE_SECONDS, progress=say)
        summary = _summary(settings, sent, report, before, began)
        say("stopping")
    return summary


def quick_city(settings: Settings) -> Path:
    """The city's pack below the home, its limits as short as the departments are quick."""
    source, copy = city_folder(settings.city), settings.home.resolve() / "demo-city"
    if source.resolve() == copy:
        return copy
    shutil.copytree(source, copy, dirs_exist_ok=True)
    # The times of the stages (accept: {1: 5min, …}).
    text = (source / "city.yaml").read_text(encoding="utf-8")
    text = re.sub(r"(?<=: )[\d.]+(?:min|[uw]h|[wn]d)(?=[,}])", lambda m: _quicker(m[0]), text)
    (copy / "city.yaml").write_text(text, encoding="utf-8")
    for name in ("taxonomy.csv", "duty.csv"):
        path = copy / name
        if not path.exists():
            continue
        with path.open(encoding="utf-8-sig", newline="") as handle:
            reader = csv.DictReader(handle)
            columns, rows = reader.fieldnames or [], list(reader)
        with path.open("w", encoding="utf-8", newline="") as handle:
            writer = csv.DictWriter(handle, columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows(row | {"deadline": _quicker(row["deadline"])} for row in rows)
    return copy


def _quicker(limit: str) -> str:
    """``4wh`` → ``0.016667wh``; what is no limit stays, for the pack's own reader to refuse."""
    found = DEADLINE.match(limit)
    return f"{float(found['value']) / PACE:.6f}{found['unit']}" if found else limit


@contextmanager
def _stack(environment: Mapping[str, str]) -> Iterator[None]:
    """Run the stack of a home; one that runs already is refused, and left alone."""
    up, down = _command("up", "--detach"), _command("down")
    started = subprocess.run(up, env=environment, stdout=subprocess.DEVNULL, check=False)  # noqa: S603 # own command
    if started.returncode:
        raise QuanyuError("the stack did not start: see the message above")
    try:
        yield
    finally:
        subprocess.run(down, env=environment, stdout=subprocess.DEVNULL, check=False)  # noqa: S603 # own command


def _simulate(
    environment: Mapping[str, str], rate: float, duration: float | None
) -> dict[str, tuple[int, int]]:
    """Simulate until the end or an interrupt; channel → messages accepted, and those sent again."""
    arguments = ["simulate", "--scenario", "day", "--rate", str(rate), "--json"]
    arguments += ["--departments", "--pace", str(PACE)]
    if duration is not None:
        arguments += ["--duration", str(duration)]
    with subprocess.Popen(  # noqa: S603 # own command
        _command(*arguments), env=environment, stdout=subprocess.PIPE, text=True
    ) as simulator:
        try:
            output, _ = simulator.communicate()
        except KeyboardInterrupt:
            simulator.send_signal(signal.SIGINT)
            output, _ = simulator.communicate()
    lines = output.strip().splitlines()
    try:
        result = json.loads(lines[-1])
        again = result["resent_by_channel"]
        return {name: (int(n), int(again[name])) for name, n in result["by_channel"].items()}
    except (IndexError, KeyError, TypeError, ValueError):
        if duration is None:
            return {}
        raise QuanyuError("the simulator failed: see its message above") from None


def _drain(
    settings: Settings, sent: Mapping[str, tuple[int, int]], before: Mapping[str, Tally]
) -> None:
    """Wait until each channel has an outcome for every message, or nothing has come for long."""
    end = time.monotonic() + DRAIN_SECONDS
    known, moved = -1, time.monotonic()
    while time.monotonic() < end and time.monotonic() - moved < STILL_SECONDS:
        now = _tallies(settings)
        if all(_added(now, before, name).outcomes >= n for name, (n, _) in sent.items()):
            return
        total = sum(tally.outcomes for tally in now.values())
        if total != known:
            known, moved = total, time.monotonic()
        time.sleep(POLL_SECONDS)


def _command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "deploy.cli", *arguments]


def _tallies(settings: Settings) -> dict[str, Tally]:
    """What each channel has in the tables now."""
    with connect(settings) as client:
        client.database = settings.clickhouse_database
        rows = client.query(
            "SELECT channel, count(), countIf(outcome != 'duplicate') FROM report_outcomes GROUP BY channel"
        ).result_rows
    return {str(name): Tally(int(outcomes), int(reports)) for name, outcomes, reports in rows}


def _added(now: Mapping[str, Tally], before: Mapping[str, Tally], name: str) -> Tally:
    here, then = now.get(name, Tally()), before.get(name, Tally())
    return Tally(here.outcomes - then.outcomes, here.reports - then.reports)


def _totals(settings: Settings) -> dict[str, int]:
    """Outcomes by kind, events and orders that are in the tables now."""
    with connect(settings) as client:
        client.database = settings.clickhouse_database
        rows = client.query(
            "SELECT toString(outcome), count() FROM report_outcomes GROUP BY outcome UNION ALL "
            "SELECT 'events', uniqExact(event_id) FROM events UNION ALL "
            "SELECT 'orders', uniqExact(order_id) FROM orders"
        ).result_rows
    return {str(kind): int(number) for kind, number in rows}


def _summary(
    settings: Settings,
    sent: Mapping[str, tuple[int, int]],
    report: AuditReport,
    before: tuple[Mapping[str, Tally], Mapping[str, int]],
    began: float,
) -> DemoSummary:
    """What this run added to the tables; the audit is of everything that the home holds."""
    tallies, totals = before
    added = {kind: n - totals.get(kind, 0) for kind, n in _totals(settings).items()}
    now = _tallies(settings)
    channels = {}
    for name, (messages, again) in sent.items():
        tally = _added(now, tallies, name)
        channels[name] = ChannelSummary(messages, again, tally.outcomes, tally.reports)
    with connect(settings) as client:
        client.database = settings.clickhouse_database
        ((p50, p99, rows),) = client.query(
            "SELECT quantileExact(0.5)(ms), quantileExact(0.99)(ms), count() FROM ("
            "SELECT dateDiff('millisecond', received_at, _inserted_at) AS ms FROM report_outcomes "
            "WHERE received_at >= fromUnixTimestamp64Milli({began:Int64}))",
            parameters={"began": int(began * 1000)},
        ).result_rows
        steps = client.query(
            "SELECT action, uniqExact(order_id) FROM order_transitions "
            "WHERE at >= fromUnixTimestamp64Milli({began:Int64}) GROUP BY action",
            parameters={"began": int(began * 1000)},
        ).result_rows
    number = {str(verb): int(orders) for verb, orders in steps}
    return DemoSummary(
        sent=sum(messages for messages, _ in sent.values()),
        channels=channels,
        events=added.pop("events", 0),
        orders=added.pop("orders", 0),
        outcomes=dict(sorted(added.items())),
        latency_p50_ms=float(p50) if rows else None,
        latency_p99_ms=float(p99) if rows else None,
        audit=report,
        steps={name: number.get(verb, 0) for name, verb in STEPS.items()},
    )
