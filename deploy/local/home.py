"""A home: the folder that holds one embedded stack's data, logs, keys and addresses; one owner at a time."""

import fcntl
import json
import os
import secrets
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from schemas.channels import channel_names
from schemas.errors import QuanyuError
from schemas.settings import STACK_FILE, Settings

PARTS_FILE = "parts.json"
LOCK_FILE = "lock"


def write_json(path: Path, document: Any, mode: int = 0o644) -> None:
    """Write a file whole or not at all."""
    draft = path.with_name(f"{path.name}.{os.getpid()}.new")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(handle, "w", encoding="utf-8") as out:
        json.dump(document, out, ensure_ascii=False, indent=1)
    draft.replace(path)


def read_json(path: Path) -> Any:
    """The document, or None when there is none or it is not whole."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError):
        return None


def prepare(settings: Settings) -> None:
    """Make the home: folders, the stack file with its ports, a key for each channel (0600)."""
    home = settings.home
    (home / "logs").mkdir(parents=True, exist_ok=True)
    write_json(
        home / STACK_FILE,
        {
            "port": settings.port,
            "bind": settings.bind,
            "city": settings.city,
            "kafka": settings.kafka,
            "clickhouse": settings.clickhouse,
        },
    )
    keys = read_json(settings.keys_path) or {}
    missing = [name for name in channel_names() if name not in keys]
    if missing:
        write_json(settings.keys_path, keys | {name: secrets.token_urlsafe(24) for name in missing}, 0o600)


@contextmanager
def owned(home: Path) -> Iterator[None]:
    """Hold the home's lock; :class:`QuanyuError` when another stack runs in it."""
    home.mkdir(parents=True, exist_ok=True)
    with (home / LOCK_FILE).open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise QuanyuError(
                f"{home} already has a running stack; see quanyu status, or use another QUANYU_HOME"
            ) from None
        yield


def is_owned(home: Path) -> bool:
    """Whether a stack runs in the home."""
    try:
        with (home / LOCK_FILE).open("r") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                return True
    except FileNotFoundError:
        pass
    return False


def kill_leftovers(home: Path) -> list[str]:
    """Kill processes that a dead owner of the home left behind; their names.

    A pid counts only with the start time that was recorded with it.
    """
    killed = []
    for part in (read_json(home / PARTS_FILE) or {}).get("parts", []):
        try:
            process = psutil.Process(part["pid"])
            if abs(process.create_time() - part["created"]) < 1.0:
                process.send_signal(signal.SIGKILL)
                process.wait(10)
                killed.append(str(part["name"]))
        except (psutil.Error, KeyError, TypeError):
            continue
    return killed


def supervisor_pid(home: Path) -> int | None:
    """Pid of the home's supervisor, if it lives."""
    pid = (read_json(home / PARTS_FILE) or {}).get("supervisor")
    return pid if isinstance(pid, int) and is_owned(home) and psutil.pid_exists(pid) else None


def wait_released(home: Path, limit_s: float) -> bool:
    """Whether the home became free within the limit."""
    end = time.monotonic() + limit_s
    while is_owned(home):
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True
