"""``quanyu bench growth``: what a report costs amid many open events, and how soon everything is there again.

How long a restarted worker takes to have its state, and a stack to stand. Parts are chosen by ``--only``.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from confluent_kafka import Producer
from rich.console import Console

from deploy import city_build
from schemas.city import load_city
from schemas.codec import default_codec
from schemas.kafka import producer_config
from schemas.settings import Settings
from schemas.topics import state_topic
from streams.dispatch.decide import DispatchStep
from streams.intake.decide import IntakeStep
from streams.merge.decide import MergeStep
from tests.bench import decisions, record
from tests.bench.machine import machine
from tests.bench.rig import metric_sums, process, storage, wait_answers
from tests.conftest import Stack, free_base_port

OPEN = (1_000, 10_000, 100_000, 300_000)
#: Reports that one partition has seen; the last is a city's whole year in one.
SEEN = (0, 1_000_000, 36_000_000)
REBUILD = 100_000
LIMIT_S = 240.0
PARTS = ("open", "seen", "rebuild", "start")


def main() -> None:
    """Progress on stderr, one table or one JSON object on stdout."""
    parser = record.parser("growth", __doc__ or "")
    parser.add_argument("--reports", type=int, default=20_000)
    parser.add_argument("--only", action="append", choices=PARTS)
    arguments = parser.parse_args()
    where = machine()
    say = Console(stderr=True, highlight=False).print
    city_build.build(load_city(Settings().city), say=say)
    chosen = arguments.only or PARTS
    result: dict[str, Any] = {"machine": where, "reports": arguments.reports}
    measures = {
        "open": lambda: open_events(arguments.reports),
        "seen": lambda: seen_reports(arguments.reports),
        "rebuild": lambda: rebuild(REBUILD),
        "start": start,
    }
    for name in chosen:
        result[name] = measures[name]()
        say(f"{name}: {result[name]}")
    record.finish(arguments, "growth", result, ("", "value", "÷ the first"), _rows(result))


def _rows(result: dict[str, Any]) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = []
    found = result.get("open", [])
    for one in found:
        cost, first = one["merge_us_per_report"], found[0]["merge_us_per_report"]
        name = f"merge amid {one['open_events']:,} open events, CPU µs/report"
        rows.append((name, cost, round(cost / first, 2)))
        steps, base = one["steps_us_per_report"], found[0]["steps_us_per_report"]
        rows.append(("– with intake and dispatch", steps, round(steps / base, 2)))
    for one in (seen := result.get("seen", [])):
        cost, first = one["intake_us_per_report"], seen[0]["intake_us_per_report"]
        name = f"intake after {one['reports']:,} reports, CPU µs/report"
        rows.append((name, cost, round(cost / first, 2)))
        rows.append(("– its state read, s", one["restore_s"], None))
    if "rebuild" in result:
        one = result["rebuild"]
        rows += [
            (f"worker ready with {one['open_events']:,} open events, s", one["ready_s"], None),
            ("– without any, s", one["ready_without_s"], None),
            ("– merge's state read and indexed, s of a partition (mean)", one["restore_s"], None),
        ]
    if "start" in result:
        rows += [(f"stack up, {name}, s", value, None) for name, value in result["start"].items()]
    return rows


def open_events(reports: int) -> list[dict[str, Any]]:
    """CPU µs a report of merge with ever more open events of other matters in its state."""
    city, codec = load_city(Settings().city), default_codec(Settings())
    raws = decisions.raw_reports(city, codec, reports)
    decisions.settle_garbage()
    intake, decided, _ = decisions.seconds_of(
        IntakeStep(city, codec, bytes(32)), "reports.raw.bench", raws
    )
    accepted = decisions.values_to(decided, "reports")
    _, merged, stored = decisions.seconds_of(MergeStep(city, codec), "reports", accepted)
    events = decisions.values_to(merged, "events")
    dispatch, _, _ = decisions.seconds_of(DispatchStep(city, codec), "events", events)
    found = []
    for count in OPEN:
        known = decisions.elsewhere(stored, count)
        merge, _, _ = decisions.seconds_of(
            MergeStep(city, codec), "reports", accepted, known, skip=decisions.BATCH
        )
        # Of the accepted reports, after the first batch.
        merge *= len(accepted) / (len(accepted) - decisions.BATCH)
        found.append(
            {
                "open_events": count,
                "merge_us_per_report": round(merge / reports * 1e6, 1),
                "steps_us_per_report": round((intake + merge + dispatch) / reports * 1e6, 1),
            }
        )
    return found


def seen_reports(reports: int) -> list[dict[str, Any]]:
    """CPU µs a report of intake in a partition that has seen ever more, and s to read what it has seen."""
    city, codec = load_city(Settings().city), default_codec(Settings())
    raws = decisions.raw_reports(city, codec, reports)
    # Warm up: what is read and built at the first batch is no part of any.
    decisions.seconds_of(IntakeStep(city, codec, bytes(32)), "reports.raw.bench", raws)
    decisions.settle_garbage()
    found = []
    for count in SEEN:
        step = IntakeStep(city, codec, bytes(32))
        known = {b"seen:known": os.urandom(16 * count)}
        started = time.process_time()
        step.restore("reports.raw.bench", 0, known)
        read = time.process_time() - started
        intake, _, _ = decisions.seconds_of(step, "reports.raw.bench", raws, known)
        found.append(
            {
                "reports": count,
                "intake_us_per_report": round(intake / reports * 1e6, 1),
                "restore_s": round(read, 1),
            }
        )
    return found


def rebuild(count: int) -> dict[str, Any]:
    """Seconds from the start of a worker until it is ready, with and without open events in its state."""
    city, codec = load_city(Settings().city), default_codec(Settings())
    raws = decisions.raw_reports(city, codec, 10_000)
    _, decided, _ = decisions.seconds_of(
        IntakeStep(city, codec, bytes(32)), "reports.raw.bench", raws
    )
    accepted = decisions.values_to(decided, "reports")
    _, _, stored = decisions.seconds_of(MergeStep(city, codec), "reports", accepted)
    known = decisions.elsewhere(stored, count)
    with storage(clickhouse=False) as stack:
        without, _ = _ready(stack)
        topic = state_topic("reports", "merge")
        producer = Producer(
            {**producer_config(stack.settings), "queue.buffering.max.messages": 1_000_000}
        )
        for number, (key, value) in enumerate(known.items()):
            producer.produce(topic, value, key, partition=number % 2)
        producer.flush(60)
        seconds, restored = _ready(stack)
    return {
        "open_events": count,
        "state_mb": round(sum(len(k) + len(v) for k, v in known.items()) / 1e6, 1),
        "ready_s": seconds,
        "ready_without_s": without,
        "restore_s": restored,
    }


def _ready(stack: Stack) -> tuple[float, float]:
    """Seconds until a worker is ready, and those that reading a partition of merge's state took (mean)."""
    port = stack.settings.metrics_port("worker")
    began = time.monotonic()
    with process(stack, "streams.worker", env={"QUANYU_INSTANCE": "worker-0"}) as worker:
        wait_answers(port, worker, limit_s=LIMIT_S)
        seconds = time.monotonic() - began
        return round(seconds, 1), round(_restore(port), 1)


def _restore(port: int) -> float:
    sums = metric_sums(port, "quanyu_stream_step_seconds_sum", "agent", "step")
    counts = metric_sums(port, "quanyu_stream_step_seconds_count", "agent", "step")
    merge = ("merge", "restore")
    return sums[merge] / counts[merge]


def start() -> dict[str, float]:
    """Seconds until every part answers: a new home, then the same home again."""
    found = {}
    with tempfile.TemporaryDirectory(prefix="quanyu-start-") as home:
        env = {**os.environ, "QUANYU_HOME": home, "QUANYU_PORT": str(free_base_port())}
        quanyu = str(Path(sys.executable).parent / "quanyu")
        for name in ("a new home", "the same home again"):
            try:
                began = time.monotonic()
                done = subprocess.run(
                    [quanyu, "up", "--detach", "--json"], env=env, capture_output=True, text=True, check=False
                )  # fmt: skip
                if done.returncode:
                    raise RuntimeError(f"quanyu up: {done.stderr.strip().splitlines()[-1:]}")
                found[name] = round(time.monotonic() - began, 1)
            finally:
                subprocess.run([quanyu, "down"], env=env, capture_output=True, check=False)
    return found


if __name__ == "__main__":
    main()
