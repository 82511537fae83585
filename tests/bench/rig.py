"""A broker and an engine of the bench's own, and processes of ours beside them."""

import contextlib
import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
from confluent_kafka import Consumer, TopicPartition
from prometheus_client.parser import text_string_to_metric_families

from deploy.local.parts import http_ok
from deploy.local.supervisor import die_with_parent
from schemas import tables, topics
from schemas.kafka import consumer_config
from schemas.settings import Settings
from tests.conftest import Stack, free_base_port

#: What the three agents write of a report.
OUTPUTS = ("report.outcomes", "event.links", "events", "orders")
QUIET_S, WATCH_LIMIT_S = 6.0, 300.0
ROOT = Path(__file__).parent.parent.parent


@contextlib.contextmanager
def storage(clickhouse: bool = True, with_topics: bool = True) -> Iterator[Stack]:
    """A fresh broker and engine with topics and tables applied."""
    with tempfile.TemporaryDirectory(prefix="quanyu-bench-") as folder:
        stack = Stack(Settings(home=Path(folder), port=free_base_port()), {})
        try:
            stack.start_kafka()
            if with_topics:
                topics.apply(stack.settings)
            if clickhouse:
                stack.start_clickhouse()
                tables.apply(stack.settings)
            yield stack
        finally:
            stack.stop()


class Process(subprocess.Popen[str]):
    """A process of the bench; its stdout is a pipe, its stderr a file."""

    module: str
    log: Path

    def last_words(self) -> str:
        """The last line that it wrote to stderr."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"


@contextlib.contextmanager
def process(
    stack: Stack,
    module: str,
    *arguments: str,
    python: str = sys.executable,
    env: Mapping[str, str] | None = None,
) -> Iterator[Process]:
    """One of our modules as a process of the stack.

    ``python``: another interpreter; ``env``: what it is told beside the stack's home and port.
    """
    settings = stack.settings
    log = settings.home / f"{module}.{uuid.uuid4().hex[:6]}.log"
    with log.open("wb") as out:
        started = Process(
            [python, "-m", module, *arguments],
            env={
                **os.environ,
                "QUANYU_HOME": str(settings.home),
                "QUANYU_PORT": str(settings.port),
                "PYTHONUNBUFFERED": "1",
                **(env or {}),
            },
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=out,
            text=True,
            preexec_fn=die_with_parent(),
        )
    started.module, started.log = module, log
    try:
        yield started
    finally:
        started.terminate()
        try:
            started.communicate(timeout=15)
        except subprocess.TimeoutExpired:
            started.kill()
            started.communicate()


def cpu_seconds(work: Callable[[], object]) -> float:
    """Seconds of this process's CPU that a piece of work takes: others on the machine count less."""
    started = time.process_time()
    work()
    return time.process_time() - started


def wait_answers(port: int, *parts: Process, limit_s: float = 30.0) -> None:
    """Until a part is ready; RuntimeError with its last line when one of ``parts`` ended instead."""
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        if http_ok(port, "/readyz"):
            return
        alive(*parts)
        time.sleep(0.1)
    said = "".join(f"; {part.module}: {part.last_words()}" for part in parts)
    raise RuntimeError(f"nothing answers on port {port}{said}")


def alive(*parts: Process) -> None:
    """RuntimeError with its last line when one of ``parts`` has ended."""
    for part in parts:
        if part.poll() is not None:
            raise RuntimeError(
                f"{part.module} ended with exit code {part.returncode}: {part.last_words()}"
            )


@dataclass(frozen=True, slots=True)
class Seen:
    """How far the engines were at a moment: outcomes written, monotonic seconds, CPU seconds of all."""

    outcomes: int
    at: float
    cpu_s: float


def look(running: Sequence[Process], outcomes: int = 0) -> Seen:
    """Where they are now."""
    times = [psutil.Process(one.pid).cpu_times() for one in running]
    return Seen(outcomes, time.monotonic(), sum(sum(one[:2]) for one in times))


def watch(stack: Stack, running: Sequence[Process], reports: int) -> tuple[Seen, Seen]:
    """At the first outcomes that a reader of committed records sees, and at the last record of any output.

    Everything is done when each report has an outcome and nothing new has come for :data:`QUIET_S`.
    RuntimeError when an engine ends or that is not so within :data:`WATCH_LIMIT_S`.
    """
    consumer = Consumer(consumer_config(stack.settings, "bench-watch"))
    consumer.assign(
        [
            TopicPartition(topic, number, 0)
            for topic in OUTPUTS
            for number in consumer.list_topics(topic, 20).topics[topic].partitions
        ]
    )
    outcomes, first, last = 0, None, Seen(0, 0.0, 0.0)
    end = time.monotonic() + WATCH_LIMIT_S
    while time.monotonic() < end:
        messages = consumer.consume(2_000, 0.02)
        if messages:
            outcomes += sum(message.topic() == OUTPUTS[0] for message in messages)
            last = look(running, outcomes)
            first = first or (last if outcomes else None)
        elif first is not None and outcomes >= reports and time.monotonic() - last.at > QUIET_S:
            consumer.close()
            return first, last
        alive(*running)
    words = "; ".join(one.last_words() for one in running)
    raise RuntimeError(
        f"{outcomes} outcomes of {reports} reports within {WATCH_LIMIT_S:.0f} s; {words}"
    )


def metric_sums(port: int, name: str, *labels: str) -> dict[tuple[str, ...], float]:
    """Sums of a metric's samples by the values of some labels."""
    text = httpx.get(f"http://127.0.0.1:{port}/metrics").text
    sums: dict[tuple[str, ...], float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == name:
                key = tuple(sample.labels[label] for label in labels)
                sums[key] = sums.get(key, 0.0) + sample.value
    return sums
