"""``quanyu bench scale``: what a report costs with more partitions, and what more workers bring.

Worker and broker only. CPU seconds hold on a busy machine, reports a second do not.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from rich.console import Console

from deploy import city_build
from schemas.city import load_city
from schemas.kafka import admin_config
from schemas.settings import Settings
from schemas.topics import load_topics
from tests.bench import record
from tests.bench.end_to_end import publish
from tests.bench.machine import machine
from tests.bench.rig import process, storage, watch
from tests.conftest import Stack, free_base_port

PARTITIONS = (1, 8, 32)
WORKERS = (1, 2, 4)
#: Partitions of every topic while workers are added.
SHARED = 4


def main() -> None:
    """Progress on stderr, one table or one JSON object on stdout."""
    parser = record.parser("scale", __doc__ or "")
    parser.add_argument("--reports", type=int, default=20_000)
    arguments = parser.parse_args()
    where = machine()
    say = Console(stderr=True, highlight=False).print
    city_build.build(load_city(Settings().city), say=say)
    runs: list[dict[str, Any]] = []
    failed: list[str] = []
    for partitions, workers in [(SHARED, n) for n in WORKERS] + [(n, 1) for n in PARTITIONS]:
        named = {"partitions": partitions, "workers": workers}
        try:
            runs.append({**named, **whole(partitions, workers, arguments.reports)})
            say(runs[-1])
        except RuntimeError as error:
            failed.append(f"{partitions} partitions, {workers} workers: {error}")
            say(failed[-1])
    rows = [
        (
            one["partitions"], one["workers"], one["reports_per_s"], one["cpu_us_per_report"],
            *_held_against(one, runs),
        )
        for one in runs
    ]  # fmt: skip
    columns = ("partitions", "workers", "reports/s", "CPU µs/report", "CPU ÷", "speed ÷ workers ÷")
    notes = [
        "÷: against one partition; with several workers, against one (1.0 is perfect efficiency). Broker and "
        f"workers share {where['cores']} cores, so a second worker takes the broker's.",
        *failed,
    ]
    result = {"machine": where, "reports": arguments.reports, "runs": runs, "failed": failed}
    record.finish(arguments, "scale", result, columns, rows, notes)


def _held_against(one: dict[str, Any], runs: list[dict[str, Any]]) -> tuple[float | None, ...]:
    """CPU against the first of its kind; efficiency of several workers."""
    kind = [r for r in runs if (r["partitions"] == SHARED) == (one["partitions"] == SHARED)]
    cost = round(one["cpu_us_per_report"] / kind[0]["cpu_us_per_report"], 2)
    if one["partitions"] != SHARED:
        return cost, None
    gained = one["reports_per_s"] / kind[0]["reports_per_s"] / one["workers"]
    return cost, round(gained, 2)


@contextlib.contextmanager
def _broker(partitions: int) -> Iterator[Stack]:
    """A broker whose topics all have so many partitions; none of dead letters is missing."""
    with storage(clickhouse=False, with_topics=False) as stack:
        admin = AdminClient(admin_config(stack.settings))
        specs = [replace(spec, partitions=partitions) for spec in load_topics(stack.settings)]
        created = admin.create_topics(
            [NewTopic(s.name, s.partitions, 1, config=s.config) for s in specs]
        )
        for future in created.values():
            future.result(60)
        yield stack


def whole(partitions: int, workers: int, reports: int) -> dict[str, Any]:
    """Reports a second and CPU of all workers, all topics of one partition count, steps and broker only."""
    with _broker(partitions) as stack, contextlib.ExitStack() as held:
        publish(stack, reports)
        running = [
            held.enter_context(
                process(
                    stack, "streams.worker",
                    env={"QUANYU_KAFKA": stack.settings.bootstrap, "QUANYU_PORT": str(port)},
                )
            )
            for port in _ports(stack, workers)
        ]  # fmt: skip
        first, last = watch(stack, running, reports)
        left = reports - first.outcomes
        return {
            "reports_per_s": round(left / (last.at - first.at)),
            "cpu_us_per_report": round((last.cpu_s - first.cpu_s) / left * 1e6),
        }


def _ports(stack: Stack, workers: int) -> list[int]:
    """Each worker answers on ports of its own."""
    return [stack.settings.port, *(free_base_port() for _ in range(workers - 1))]


if __name__ == "__main__":
    main()
