"""The reconciliation 对账: nothing is lost, nothing is counted twice, and every total adds up.

:func:`audit` reads the position of every committed record in Kafka and the rows in ClickHouse, and
holds them against each other in :mod:`deploy.checks`. It takes part in no consumer group and
changes nothing.

A pipeline at rest is a snapshot, and one pass over it is exact. Under traffic the parts are read at
slightly different instants; then the audit repeats its pass and counts only what every pass found,
each pass after everything that the one before it saw had time to travel through the whole pipeline.
"""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from deploy.checks import CHECKS, ChannelCount, Facts, Found, Offender, one_pass
from deploy.flows import Settled, settle, topology
from deploy.positions import Positions
from schemas.settings import Settings

#: Passes under traffic; what every one of them finds in the same way is wrong.
PASSES = 3
#: Offenders of a check that the report names.
SHOWN = 20


@dataclass(frozen=True, slots=True)
class Check:
    """One promise and everything that breaks it; ``first`` shows some of the offenders."""

    name: str
    meaning: str
    offenders: int
    first: tuple[Offender, ...] = ()

    @property
    def ok(self) -> bool:
        """True when nothing breaks the promise."""
        return self.offenders == 0


@dataclass(frozen=True, slots=True)
class AuditReport:
    """What an audit found.

    ``quiet``: nothing moved, one pass was exact. ``caught_up``: both groups had processed what was
    there; else only the lag is certain. ``note`` says so in words.
    ``seconds`` includes the wait for quiet.
    """

    quiet: bool
    caught_up: bool
    note: str
    seconds: float
    channels: tuple[ChannelCount, ...]
    totals: dict[str, int]
    dead_letters: dict[str, int]
    checks: tuple[Check, ...]

    @property
    def clean(self) -> bool:
        """True when every check holds."""
        return all(check.ok for check in self.checks)

    def as_dict(self) -> dict[str, Any]:
        """The report for JSON, with ``clean`` first."""
        plain = asdict(self)
        for check, named in zip(self.checks, plain["checks"], strict=True):
            named["ok"] = check.ok
        return {"clean": self.clean, **plain}


def audit(
    settings: Settings,
    *,
    timeout: float = 120.0,
    until_quiet: bool = True,
    progress: Callable[[str], None] = lambda _: None,
) -> AuditReport:
    """Hold everything against everything; see :data:`deploy.checks.CHECKS` for what.

    Waits at most ``timeout`` seconds for the pipeline to be at rest; with ``until_quiet`` false
    only until what was there at the beginning has travelled through. Raises QuanyuError when Kafka
    or ClickHouse does not answer or their topics or tables are missing.
    """
    begun = time.monotonic()
    facts = Facts(settings)
    try:
        with Positions(settings) as positions:
            flows = topology(settings, positions)
            progress("waiting until the pipeline is at rest")
            settled = settle(positions, flows, begun + timeout, until_quiet=until_quiet)
            progress("reading Kafka and ClickHouse")
            last = one_pass(settings, positions, facts, flows, settled)
            found = last.found
            quiet = settled.quiet and positions.extents(flows.partitions) == settled.caught_up
            for _ in range(PASSES - 1):
                if quiet or any(settled.lag.values()) or not any(f.count for f in found.values()):
                    break
                progress("reading again, because records arrive meanwhile")
                settled = settle(positions, flows, time.monotonic() + timeout, until_quiet=False)
                last = one_pass(settings, positions, facts, flows, settled)
                found = {name: found[name].confirmed_by(last.found[name]) for name in found}
    finally:
        facts.close()
    found["lag"] = _lag_found(settled)
    return AuditReport(
        quiet=quiet,
        caught_up=not any(settled.lag.values()),
        note=_note(quiet, settled, timeout),
        seconds=round(time.monotonic() - begun, 3),
        channels=last.channels,
        totals=last.totals,
        dead_letters=last.dead_letters,
        checks=tuple(
            Check(name, meaning, found[name].count, tuple(found[name].kept[:SHOWN]))
            for name, meaning in CHECKS.items()
        ),
    )


def _note(quiet: bool, settled: Settled, timeout: float) -> str:
    if quiet:
        return ""
    if any(settled.lag.values()):
        return f"not caught up within {timeout:.0f} s: counts below are of an unfinished pipeline"
    return "records arrived meanwhile: only what was wrong in every pass is counted"


def _lag_found(settled: Settled) -> Found:
    found = Found()
    for group, lags in settled.lag.items():
        for (topic, partition), lag in lags.items():
            found.add(
                1,
                [Offender(f"{group} is behind", topic, partition, None, "", "0", str(lag.records))],
            )
    return found
