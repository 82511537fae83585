"""The end of a process that was told to stop: one budget, whatever a server keeps it waiting for."""

import logging
import os
import threading
from collections.abc import Callable

#: After SIGTERM: drained and gone. What is not confirmed by then is read again, as after a crash.
STOP_LIMIT_S = 9.0


def leave_in_time(stop: Callable[[], object]) -> None:
    """At SIGTERM: ``stop``, and end the process if it has not ended by itself within :data:`STOP_LIMIT_S`."""
    timer = threading.Timer(STOP_LIMIT_S, os._exit, args=(0,))
    timer.daemon = True
    timer.start()
    stop()


def leave(code: int = 0) -> None:
    """End at once: a call that hangs in a thread of a pool would hold up the interpreter's own exit."""
    logging.shutdown()
    os._exit(code)
