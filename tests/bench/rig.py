"""A broker and an engine of the bench's own, and processes of ours beside them."""

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families

from schemas import tables, topics
from schemas.settings import Settings
from tests.conftest import Stack, free_base_port

ROOT = Path(__file__).parent.parent.parent


@contextlib.contextmanager
def storage(clickhouse: bool = True) -> Iterator[Stack]:
    """A fresh broker and engine with topics and tables applied."""
    with tempfile.TemporaryDirectory(prefix="quanyu-bench-") as folder:
        stack = Stack(Settings(home=Path(folder), port=free_base_port()), {})
        try:
            stack.start_kafka()
            topics.apply(stack.settings)
            if clickhouse:
                stack.start_clickhouse()
                tables.apply(stack.settings)
            yield stack
        finally:
            stack.stop()


@contextlib.contextmanager
def process(stack: Stack, module: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """One of our modules as a process of the stack; its stdout is a pipe."""
    settings = stack.settings
    env = {
        **os.environ,
        "QUANYU_HOME": str(settings.home),
        "QUANYU_PORT": str(settings.port),
        "PYTHONUNBUFFERED": "1",
    }
    log = (settings.home / f"{module}.log").open("wb")
    started = subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        env=env,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
    )
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


def wait_answers(port: int, limit_s: float = 30.0) -> None:
    """Until a part is ready."""
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == httpx.codes.OK:
                return
        time.sleep(0.1)
    raise RuntimeError(f"nothing answers on port {port}")


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
