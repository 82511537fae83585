"""The demonstration: a whole stack, a simulated city, and at the end an account of what happened.

It does what a person would do by hand: ``quanyu up``, ``quanyu simulate``, ``quanyu audit``,
``quanyu down``, each by its own command, so that what it shows is what a user gets.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from deploy.audit import AuditReport, audit
from schemas.errors import QuanyuError
from schemas.settings import Settings
from schemas.tables import connect

#: Seconds to wait at the end until every report is in its table.
SETTLE_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class DemoSummary:
    """What a demonstration did. Latencies: from a report's receipt to its outcome's insert, ms."""

    sent: int
    outcomes: dict[str, int]
    events: int
    orders: int
    latency_p50_ms: float | None
    latency_p99_ms: float | None
    audit: AuditReport

    def as_dict(self) -> dict[str, Any]:
        """The summary for JSON, with the audit's own form inside."""
        return {**asdict(self), "clean": self.audit.clean, "audit": self.audit.as_dict()}


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
    environment = {
        **os.environ,
        "QUANYU_HOME": str(settings.home.resolve()),
        "QUANYU_PORT": str(settings.port),
    }
    say("starting Kafka, ClickHouse and the parts of quanyu (the first time fetches Kafka)")
    with _stack(environment):
        say(f"http://127.0.0.1:{settings.screen_port} shows the city; Ctrl-C ends it")
        before, began = _tallies(settings), time.time()
        sent = _simulate(environment, rate, duration)
        say("waiting until every report is decided and stored")
        report = audit(settings, timeout=SETTLE_SECONDS, progress=say)
        summary = _summary(settings, sent, report, before, began)
        say("stopping")
    return summary


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


def _simulate(environment: Mapping[str, str], rate: float, duration: float | None) -> int:
    """Simulate until the end or an interrupt; returns how many reports the broker confirmed."""
    arguments = ["simulate", "--scenario", "day", "--rate", str(rate), "--json"]
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
        return int(json.loads(lines[-1])["sent"])
    except (IndexError, KeyError, ValueError):
        if duration is None:
            return 0
        raise QuanyuError("the simulator failed: see its message above") from None


def _command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "deploy.cli", *arguments]


def _tallies(settings: Settings) -> dict[str, int]:
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
    settings: Settings, sent: int, report: AuditReport, before: Mapping[str, int], began: float
) -> DemoSummary:
    """What this run added to the tables; the audit is of everything that the home holds."""
    added = {kind: n - before.get(kind, 0) for kind, n in _tallies(settings).items()}
    with connect(settings) as client:
        client.database = settings.clickhouse_database
        ((p50, p99, rows),) = client.query(
            "SELECT quantileExact(0.5)(ms), quantileExact(0.99)(ms), count() FROM ("
            "SELECT dateDiff('millisecond', received_at, _inserted_at) AS ms FROM report_outcomes "
            "WHERE received_at >= fromUnixTimestamp64Milli({began:Int64}))",
            parameters={"began": int(began * 1000)},
        ).result_rows
    return DemoSummary(
        sent=sent,
        events=added.pop("events", 0),
        orders=added.pop("orders", 0),
        outcomes=dict(sorted(added.items())),
        latency_p50_ms=float(p50) if rows else None,
        latency_p99_ms=float(p99) if rows else None,
        audit=report,
    )
