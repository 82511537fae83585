"""Starts the parts in order, restarts what dies, stops all; leaves no orphan, however it ends."""

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from deploy.local import home as homes
from deploy.local.parts import (
    Part,
    child_environment,
    module,
    pipeline_parts,
    port_in_use,
    storage_parts,
)
from schemas.errors import QuanyuError
from schemas.settings import Settings, load_settings

#: A JVM and the engine on a busy two-core machine.
READY_LIMIT_S = 120.0
#: Restart delays double up to the cap and start anew after the part was well for a while.
BACKOFF_FIRST_S, BACKOFF_CAP_S, WELL_AFTER_S = 0.2, 10.0, 30.0
#: Together below 15 s: the pipeline finishes its batch, then the storage closes its files.
STOP_PIPELINE_S, STOP_STORAGE_S = 9.0, 4.0
LOG_LIMIT = 50 * 1024 * 1024
POLL_S = 0.1
#: A part that died so often before it answered has a reason of its own.
START_ATTEMPTS = 3
#: Our processes exit so when they cannot run at all: another attempt would say the same.
EXIT_UNABLE = 2
PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


@dataclass(slots=True)
class Running:
    """A part's process and its history."""

    part: Part
    process: subprocess.Popen[bytes] | None = None
    created: float = 0.0
    since: float = 0.0
    restarts: int = 0
    failures: int = 0
    start_at: float = 0.0
    hopeless: bool = False


class Supervisor:
    """Owns the children of one home; to be run in the main thread of its process."""

    def __init__(
        self,
        settings: Settings,
        storage: list[Part],
        pipeline: list[Part],
        setup: list[str] | None = None,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._settings = settings
        self._storage = [Running(part) for part in storage]
        self._pipeline = [Running(part) for part in pipeline]
        self._setup = setup
        self._say = say
        self._stopping = False
        self._ready = False

    def run(self, on_ready: Callable[[], None] = lambda: None) -> None:
        """Start everything, supervise until SIGTERM or SIGINT, stop everything.

        Raises :class:`QuanyuError` when a part does not get ready; nothing is left running then.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop_requested)
        try:
            homes.kill_leftovers(self._settings.home)
            self._refuse_used_ports()
            self._start_group(self._storage)
            if not self._stopping:
                self._run_setup()
            if not self._stopping:
                self._start_group(self._pipeline)
            if not self._stopping:
                self._ready = True
                self._record()
                on_ready()
            while not self._stopping:
                self._tend()
                time.sleep(POLL_S)
        finally:
            self._stop_all()

    def _stop_requested(self, *_: Any) -> None:
        self._stopping = True

    @property
    def _all(self) -> list[Running]:
        return self._storage + self._pipeline

    def _refuse_used_ports(self) -> None:
        for running in self._all:
            for port in running.part.ports:
                if port_in_use(self._settings.bind, port):
                    raise QuanyuError(
                        f"port {port} ({running.part.name}) is in use by another program: choose "
                        f"another first port, quanyu up --port {self._settings.port + 100}"
                    )

    def _start_group(self, group: list[Running]) -> None:
        """Start parts side by side and wait until each answers."""
        for running in group:
            self._start(running)
        end = time.monotonic() + READY_LIMIT_S
        waiting = list(group)
        while waiting and not self._stopping:
            self._tend()
            for running in list(waiting):
                if running.process is not None and running.part.answers():
                    waiting.remove(running)
                    self._say(f"{running.part.name} answers on {running.part.ports[0]}")
            failed = [r for r in waiting if r.hopeless or r.failures >= START_ATTEMPTS]
            if waiting and (failed or time.monotonic() > end):
                name = (failed or waiting)[0].part.name
                raise QuanyuError(
                    f"{name} does not start; the end of {self._log(name)}:\n{tail(self._log(name))}"
                )
            time.sleep(POLL_S)

    def _run_setup(self) -> None:
        """Topics and tables, in a process of its own: we fork, so we keep free of threads."""
        if self._setup is None:
            return
        process = self._spawn("setup", self._setup, {})
        while (code := process.poll()) is None:
            if self._stopping:
                process.kill()
            self._tend()
            time.sleep(POLL_S)
        if code and not self._stopping:
            log = self._log("setup")
            raise QuanyuError(f"topics and tables are not ready; the end of {log}:\n{tail(log)}")
        self._say("topics and tables are ready")

    def _spawn(self, name: str, argv: list[str], env: Mapping[str, str]) -> subprocess.Popen[bytes]:
        log = self._log(name)
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as out:
            return subprocess.Popen(  # noqa: S603 # our own argv
                argv,
                env=child_environment(self._settings, env),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                # Ctrl-C is for us; we stop the children in order.
                start_new_session=True,
                # Runs between fork and exec: safe, because we have no threads.
                preexec_fn=die_with_parent(),
            )

    def _start(self, running: Running) -> None:
        running.process = self._spawn(running.part.name, running.part.argv, running.part.env)
        running.since = time.time()
        with contextlib.suppress(psutil.Error):
            running.created = psutil.Process(running.process.pid).create_time()
        self._record()

    def _tend(self) -> None:
        """Notice dead children, start them again when their time has come, keep logs bounded."""
        now = time.monotonic()
        for running in self._all:
            process = running.process
            if process is not None and process.poll() is not None:
                well = time.time() - running.since > WELL_AFTER_S
                running.failures = 1 if well else running.failures + 1
                running.start_at = now + backoff_s(running.failures)
                running.hopeless = process.returncode == EXIT_UNABLE
                running.process = None
                running.restarts += 1
                self._record()
            elif process is None and running.start_at and now >= running.start_at:
                self._start(running)
            rotate(self._log(running.part.name))

    def _stop_all(self) -> None:
        for group, limit in ((self._pipeline, STOP_PIPELINE_S), (self._storage, STOP_STORAGE_S)):
            alive = [r.process for r in group if r.process is not None and r.process.poll() is None]
            for process in alive:
                process.terminate()
            end = time.monotonic() + limit
            for process in alive:
                try:
                    process.wait(max(0.05, end - time.monotonic()))
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
            for running in group:
                running.process = None
        self._ready = False
        self._record()

    def _record(self) -> None:
        """What ``quanyu status`` and the next owner read."""
        homes.write_json(
            self._settings.home / homes.PARTS_FILE,
            {
                "supervisor": os.getpid(),
                "ready": self._ready,
                "parts": [
                    {
                        "name": running.part.name,
                        "pid": running.process.pid if running.process else None,
                        "created": running.created,
                        "since": int(running.since * 1000),
                        "restarts": running.restarts,
                        "port": running.part.ports[0],
                    }
                    for running in self._all
                ],
            },
        )

    def _log(self, name: str) -> Path:
        return self._settings.home / "logs" / f"{name}.log"


def die_with_parent() -> Callable[[], None] | None:
    """What a child does before exec so that the kernel kills it when we die, even by ``kill -9``.

    None where that cannot be: not on Linux, where the next ``up`` or ``down`` kills what was left;
    and not in another thread than the main one, as the kernel watches the thread that forked.
    """
    if LIBC is None or threading.current_thread() is not threading.main_thread():
        return None
    parent = os.getpid()

    def bind() -> None:
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)  # it died before we asked

    return bind


def backoff_s(failures: int) -> float:
    """Seconds until the next attempt after so many failures in a row (from 1)."""
    return min(BACKOFF_CAP_S, BACKOFF_FIRST_S * 2.0 ** min(failures - 1, 10))


def rotate(log: Path) -> None:
    """Keep one older piece of a log that grew too large; its writer appends and notices nothing."""
    with contextlib.suppress(FileNotFoundError):
        if log.stat().st_size > LOG_LIMIT:
            shutil.copyfile(log, log.with_suffix(".log.1"))
            os.truncate(log, 0)


def tail(log: Path, lines: int = 15) -> str:
    """The last lines of a log."""
    with contextlib.suppress(OSError):
        return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])
    return "(no log)"


def create(settings: Settings, say: Callable[[str], None] = lambda _: None) -> Supervisor:
    """The supervisor of a whole embedded stack."""
    setup = module("deploy.local.setup")
    return Supervisor(settings, storage_parts(settings), pipeline_parts(settings), setup, say)


def main() -> None:
    """Supervise the configured home in this process (what ``quanyu up --detach`` starts)."""
    settings = load_settings()
    try:
        with homes.owned(settings.home):
            homes.prepare(settings)
            create(settings).run()
    except QuanyuError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
