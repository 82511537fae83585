"""The demonstration: a whole stack, a simulated city, and at the end an account of what happened.

It does what a person would do by hand: ``quanyu up``, ``quanyu simulate``, ``quanyu audit``,
``quanyu down``, each by its own command, so that what it shows is what a user gets.
"""

import json
import os
import signal
import subprocess
import sys
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
        sent = _simulate(environment, rate, duration)
        say("waiting until every report is decided and stored")
        report = audit(settings, timeout=SETTLE_SECONDS, progress=say)
        summary = _summary(settings, sent, report)
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


def _summary(settings: Settings, sent: int, report: AuditReport) -> DemoSummary:
    outcomes: dict[str, int] = {}
    for channel in report.channels:
        for kind, number in channel.outcomes.items():
            outcomes[kind] = outcomes.get(kind, 0) + number
    with connect(settings) as client:
        client.database = settings.clickhouse_database
        ((p50, p99, rows),) = client.query(
            "SELECT quantile(0.5)(ms), quantile(0.99)(ms), count() FROM ("
            "SELECT dateDiff('millisecond', received_at, _inserted_at) AS ms FROM report_outcomes)"
        ).result_rows
    return DemoSummary(
        sent=sent,
        outcomes=outcomes,
        events=report.totals["events"],
        orders=report.totals["orders"],
        latency_p50_ms=round(float(p50), 1) if rows else None,
        latency_p99_ms=round(float(p99), 1) if rows else None,
        audit=report,
    )
