"""A sink of a test's own topics as a process: ``python sink_process.py JSON``."""

import json
import logging
import os
import signal
import sys

from connectors.sink.machine import DeadLetterLimit, Limits
from connectors.sink.runner import Route, Sink
from schemas.settings import Settings


def main() -> int:
    given = json.loads(sys.argv[1])
    logging.basicConfig(level="INFO")
    sink = Sink(
        Settings(**given["settings"]),
        [Route(*route) for route in given["routes"]],
        group=given["group"],
        instance=given["instance"],
        limits=Limits(**given["limits"]),
        dead_letter_limit=DeadLetterLimit(run=given["run_limit"]),
    )
    signal.signal(signal.SIGTERM, lambda *_: sink.stop())
    print(f"listens {os.getpid()}", flush=True)
    return sink.run()


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)
