"""Named points in the product's code at which a process dies, freezes or must end; and a clock that jumps.

Python runs this file at its start when this folder is in ``PYTHONPATH``, as the fault suite's processes
have it. It wraps the product's functions after their modules are loaded: the product itself has no code
for this, and an installation has no such folder (a test holds both).

``QUANYU_FAILPOINT=<point>[@<agent>]:<n>:<kill|stop|term>`` acts at this process's n-th pass of the point.
``QUANYU_FAULTS=<folder>``: a file ``failpoint`` in it, ``<point>[@<agent>]:<action>``, acts at the next pass
by any process, which takes the file away first, so that it acts once; a file ``clock`` holds the seconds by
which ``time.time`` of every process is wrong.
"""

import importlib.machinery
import itertools
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

SIGNALS = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP, "term": signal.SIGTERM}
FOLDER = os.environ.get("QUANYU_FAULTS", "")
WANTED = os.environ.get("QUANYU_FAILPOINT", "")
#: How long a jump of the clock may go unnoticed.
CLOCK_READ_S = 0.1

_passes = itertools.count(1)
_here = threading.local()


def reach(point: str, agent: str = "") -> None:
    """A process has come to a point: act when somebody asked for it."""
    names = (point, f"{point}@{agent}")
    if WANTED:
        name, nth, action = WANTED.rsplit(":", 2)
        if name in names and next(_passes) == int(nth):
            os.kill(os.getpid(), SIGNALS[action])
    if FOLDER:
        asked = os.path.join(FOLDER, "failpoint")
        try:
            with open(asked, encoding="utf-8") as file:
                name, action = file.read().strip().rsplit(":", 1)
            if name not in names:
                return
            os.rename(asked, f"{asked}.{os.getpid()}")  # one process gets it
        except (OSError, ValueError):
            return
        os.kill(os.getpid(), SIGNALS[action])


def before_and_after(owner: Any, name: str, before: str, after: str) -> None:
    """Wrap a method between two points."""
    run = getattr(owner, name)

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        if before:
            reach(before)
        result = run(*args, **kwargs)
        if after:
            reach(after)
        return result

    setattr(owner, name, wrapped)


def ledger(module: ModuleType) -> None:
    """acquired (no state read yet), decided, changelog (outputs sent, state not), produced, committed."""
    commit = module.Ledger._commit
    agent_of = module.Ledger._acquire

    def acquire(self: Any, *args: Any) -> Any:
        _here.agent = self._step.name
        return agent_of(self, *args)

    def committing(self: Any, *args: Any) -> None:
        _here.agent, _here.changelog = self._step.name, False
        reach("ledger.decided", _here.agent)
        commit(self, *args)

    class Producer(module.Producer):  # type: ignore[misc, name-defined] # the client's own class
        def init_transactions(self, *args: Any) -> None:
            super().init_transactions(*args)
            reach("ledger.acquired", _here.agent)

        def produce(self, topic: str, *args: Any, **kwargs: Any) -> None:
            if topic.endswith(".state") and not _here.changelog:
                _here.changelog = True
                reach("ledger.changelog", _here.agent)
            super().produce(topic, *args, **kwargs)

        def commit_transaction(self, *args: Any) -> None:
            reach("ledger.produced", _here.agent)
            super().commit_transaction(*args)
            reach("ledger.committed", _here.agent)

    module.Producer = Producer  # type: ignore[attr-defined]
    module.Ledger._commit, module.Ledger._acquire = committing, acquire


def sink(module: ModuleType) -> None:
    """pending_committed and done_committed: the broker has said so, the machine has not heard it yet."""
    answered = module.Sink._commit_answered

    def commit_answered(self: Any, error: Any, done: Any) -> None:
        commits = [commit for _, commit in self._committing.values()]
        answered(self, error, done)
        if error is None and not any(place.error for place in done):
            for commit in commits:
                reach("sink.pending_committed" if commit.metadata else "sink.done_committed")

    module.Sink._commit_answered = commit_answered


def table(module: ModuleType) -> None:
    """sending: the block is decoded, nothing is sent; inserted: the server has said so, nobody has heard it."""
    before_and_after(module.Tables, "insert", "sink.sending", "sink.inserted")


def publish(module: ModuleType) -> None:
    """produced: handed to the client, not confirmed; confirmed: by the broker, the sender has not heard it."""

    class Confirmed(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            reach("publish.produced")
            return super().wait(timeout)

    made = module._Batch.__init__

    def init(self: Any, size: int) -> None:
        made(self, size)
        self.done = Confirmed()

    module._Batch.__init__ = init
    before_and_after(module.Publisher, "publish", "", "publish.confirmed")


def position(module: ModuleType) -> None:
    """saving, saved: around the position file of what is fetched."""
    before_and_after(module.Position, "write", "position.saving", "position.saved")


PATCHES: dict[str, Callable[[ModuleType], None]] = {
    "streams.ledger": ledger,
    "connectors.sink.runner": sink,
    "connectors.sink.table": table,
    "connectors.publish": publish,
    "connectors.position": position,
}


class Patching:
    """Finds the modules above and patches them once they are executed."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None, target: Any = None) -> Any:
        """As ``importlib.abc.MetaPathFinder``; None for every other module."""
        patch = PATCHES.get(name)
        spec = importlib.machinery.PathFinder.find_spec(name, path, target) if patch else None
        if patch is None or spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            patch(module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def jump_with(folder: str) -> None:
    """Let ``time.time`` be wrong by what the file says."""
    right, passed = time.time, time.monotonic
    offset, checked = 0.0, 0.0

    def wrong() -> float:
        nonlocal offset, checked
        if passed() - checked > CLOCK_READ_S:
            checked = passed()
            try:
                with open(os.path.join(folder, "clock"), encoding="utf-8") as file:
                    offset = float(file.read() or 0)
            except (OSError, ValueError):
                offset = 0.0
        return right() + offset

    time.time = wrong


if WANTED or FOLDER:
    sys.meta_path.insert(0, Patching)
if FOLDER:
    jump_with(FOLDER)
