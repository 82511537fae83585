"""A process that was told to stop ends within its budget, whatever hangs in it."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from connectors.leave import STOP_LIMIT_S

HANGS = """
import signal, time
from concurrent.futures import ThreadPoolExecutor
from connectors.leave import leave, leave_in_time
ThreadPoolExecutor(1).submit(time.sleep, 300)
signal.signal(signal.SIGTERM, lambda *_: leave_in_time(lambda: None))
print("ready", flush=True)
"""


@pytest.mark.parametrize(
    ("end", "within_s"), [("leave()", 5.0), ("time.sleep(300)", STOP_LIMIT_S + 8)]
)
def test_a_call_that_hangs_in_a_thread_or_in_the_main_one_holds_nobody_up(
    end: str, within_s: float
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", HANGS + end],
        cwd=Path(__file__).parents[3],
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        begun = time.monotonic()
        process.terminate()
        assert process.wait(60) in (0, -15)
        assert time.monotonic() - begun < within_s
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
