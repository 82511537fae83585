"""``quanyu bench peers``: the same steps, topics, input and check of the answer in other engines.

Each engine has a fresh broker with the same reports in the same partitions. The first of them warm it up, then
it is held still while the others are handed over. Measured from then until a reader of committed records sees
the last record of any output; the CPU is the engine's own process.
"""

import argparse
import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console

from connectors.mapping import to_raw_report
from connectors.publish import Publisher
from connectors.simulator import Simulation, load_numbers
from deploy import city_build
from schemas.channels import load_channel
from schemas.city import load_city
from schemas.settings import Settings
from tests.bench import record, transport
from tests.bench.machine import machine
from tests.bench.peers import answer
from tests.bench.peers.environment import NotInstalled, python_of
from tests.bench.rig import Process, look, process, storage, watch

SEED = 4101
#: Share of the reports that are done before the measured ones are handed over.
WARM = 0.05
OURS = "quanyu worker"


@dataclass(frozen=True)
class Engine:
    """How an engine is started: ``environment`` names the lock of its packages, if it has any."""

    name: str
    module: str
    note: str
    arguments: tuple[str, ...] = ()
    environment: str | None = None
    #: How it is started with an empty agent; {topic} and {count} stand for themselves.
    empty: tuple[str, ...] = field(default=("--empty", "{topic}", "{count}"))
    #: Records of the run with an empty agent: slow ones get fewer, or it would take minutes.
    records: int = 1_000_000
    #: Which part of the reports it gets, the first ones: as much as it does in the time of the others.
    share: float = 1.0


ENGINES = (
    Engine(
        "bare loop", "tests.bench.peers.bare", "state in memory, at least once", records=4_000_000
    ),
    Engine("bare loop, exact", "tests.bench.peers.bare", "state and outputs in one transaction",
           ("--exact",), empty=()),
    Engine(OURS, "streams.worker", "state and outputs in one transaction per round and part",
           empty=(), records=1_500_000),
    Engine("Bytewax", "tests.bench.peers.bytewax_flow", "portions; state in memory, at least once",
           environment="bytewax", records=1_500_000),
    Engine("Quix Streams", "tests.bench.peers.quix", "state in memory, at least once",
           environment="quixstreams", records=300_000, share=0.3),
    Engine("Faust, per event", "tests.bench.per_event_worker", "state in memory, at least once",
           records=60_000, share=0.2),
)  # fmt: skip


def main() -> None:
    """Progress on stderr, one table or one JSON object on stdout."""
    parser = record.parser("peers", __doc__ or "")
    parser.add_argument("--reports", type=int, default=30_000)
    parser.add_argument("--only", action="append", choices=[engine.name for engine in ENGINES])
    arguments = parser.parse_args()
    where = machine()
    say = Console(stderr=True, highlight=False).print
    city_build.build(load_city(Settings().city), say=say)
    raws = simulated(arguments.reports)
    pythons: dict[str, str] = {}
    skipped: dict[str, str] = {}
    engines = [e for e in ENGINES if not arguments.only or e.name in arguments.only]
    for engine in engines:
        try:
            pythons[engine.name] = (
                python_of(engine.environment) if engine.environment else sys.executable
            )
        except NotInstalled as error:
            skipped[engine.name] = f"does not install here: {error}"
    say("transport with an empty agent …")
    moved = _transport(engines, pythons, skipped)
    say(f"{moved}\nthe full work, {arguments.reports} reports …")
    results = []
    for engine in engines:
        if engine.name in pythons:
            try:
                done = _full(engine, pythons[engine.name], raws[: int(engine.share * len(raws))])
            except RuntimeError as error:
                skipped[engine.name] = f"the full work: {error}"
                done = {}
            about = {"name": engine.name, "promise": engine.note}
            results.append({**about, "transport_per_s": moved.get(engine.name), **done})
            say(results[-1])
    result = {"machine": where, "reports": arguments.reports, "engines": results}
    _finish(arguments, result | {"skipped": skipped})


def _finish(arguments: argparse.Namespace, result: dict[str, Any]) -> None:
    ours: dict[str, Any] = next((e for e in result["engines"] if e["name"] == OURS), {})
    rows = [
        (
            e["name"],
            e["promise"],
            e["transport_per_s"],
            e.get("reports"),
            e.get("reports_per_s"),
            _ratio(ours.get("reports_per_s"), e.get("reports_per_s")),
            e.get("cpu_us_per_report"),
            _ratio(e.get("cpu_us_per_report"), ours.get("cpu_us_per_report")),
            "; ".join(e["problems"]) or "right" if "problems" in e else None,
        )
        for e in result["engines"]
    ]
    columns = (
        *("engine", "promise", "transport, records/s", "reports", "full work, reports/s"),
        *("worker's speed ÷ its", "CPU µs/report", "its CPU ÷ worker's", "answer"),
    )
    notes = [f"{name}: {why}" for name, why in result["skipped"].items()]
    notes += [
        f"Full work: {result['reports']:,} reports, intake → merge → dispatch, each engine one process "
        "beside the broker on the same cores; slow engines get the first of them."
    ]
    record.finish(arguments, "peers", result, columns, rows, notes)


def _ratio(a: float | None, b: float | None) -> float | None:
    return round(a / b, 2) if a and b else None


def simulated(reports: int) -> list[tuple[str, dict[str, Any]]]:
    """(channel, report) of a simulated day, as connectors hand it over."""
    city, day = load_city(Settings().city), load_numbers().scenario("day")
    now = int(time.time() * 1000)
    stream = Simulation(
        city, day, seed=SEED, rate=reports / 300.0, start_ms=now - 600_000
    ).reports()
    raws = []
    for _ in range(reports):
        report = next(stream)
        spec = load_channel(report.channel)
        raw = to_raw_report(spec, report.native, received_at=now, connector="bench")
        raws.append((report.channel, raw))
    return raws


def _transport(
    engines: list[Engine], pythons: dict[str, str], skipped: dict[str, str]
) -> dict[str, int]:
    """Records a second with an agent that does nothing."""
    chosen = [e for e in engines if e.name in pythons and (e.empty or e.name == OURS)]
    moved: dict[str, int] = {}
    topic = "bench.empty"
    with storage(clickhouse=False) as stack:
        transport.fill(stack, max((e.records for e in chosen), default=0), topic)
        for engine in chosen:
            ours = ("tests.bench.empty_worker", topic, str(engine.records), "ledger")
            theirs = (
                engine.module,
                *(part.format(topic=topic, count=engine.records) for part in engine.empty),
            )
            module, *given = ours if engine.name == OURS else theirs
            try:
                moved[engine.name] = round(
                    transport.rate(
                        stack, module, engine.records, *given, python=pythons[engine.name]
                    )
                )
            except RuntimeError as error:
                skipped[engine.name] = f"transport: {error}"
    return moved


def _full(engine: Engine, python: str, raws: list[tuple[str, dict[str, Any]]]) -> dict[str, Any]:
    warm = int(WARM * len(raws))
    with storage(clickhouse=False) as stack:
        publisher = Publisher(stack.settings)
        _publish(publisher, raws[:warm])
        with process(stack, engine.module, *engine.arguments, python=python) as running:
            watch(stack, [running], warm)
            with _held(running):
                _publish(publisher, raws[warm:])
                began = look([running])
            _, last = watch(stack, [running], len(raws))
        publisher.close()
        measured = len(raws) - warm
        return {
            "reports": measured,
            "reports_per_s": round(measured / (last.at - began.at)),
            "cpu_us_per_report": round((last.cpu_s - began.cpu_s) / measured * 1e6),
            "problems": answer.problems(stack.settings, len(raws)),
        }


def _publish(publisher: Publisher, raws: list[tuple[str, dict[str, Any]]]) -> None:
    by_channel: dict[str, list[dict[str, Any]]] = {}
    for channel, raw in raws:
        by_channel.setdefault(channel, []).append(raw)
    for pending in by_channel.values():
        for start in range(0, len(pending), 5000):
            publisher.publish(pending[start : start + 5000], "bench")


@contextlib.contextmanager
def _held(running: Process) -> Iterator[None]:
    """An engine that takes what is there at once has no head start over one that takes it in portions.

    A few seconds: shorter than any engine's session.
    """
    os.kill(running.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(running.pid, signal.SIGCONT)


if __name__ == "__main__":
    main()
