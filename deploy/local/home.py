"""A home: the folder of one embedded stack, its data, logs, keys and ports; one owner at a time."""

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
from schemas.settings import STACK_FILE, Settings, read_settings_file
from schemas.sources import embedded_sources, load_sources

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


#: What ``up`` was told and a command typed later in another shell must know too.
REMEMBERED = frozenset(
    {
        *("port", "bind", "city", "environment", "kafka", "clickhouse", "clickhouse_database"),
        *("clickhouse_cluster", "schema_registry_url", "keys_file", "sources_file", "people_file"),
        # Of users and certificates only what is no secret.
        *("kafka_security_protocol", "kafka_sasl_mechanism", "kafka_user"),
        *("kafka_ca_file", "kafka_certificate_file", "kafka_key_file", "clickhouse_user"),
        *("clickhouse_ca_file", "clickhouse_certificate_file", "clickhouse_key_file"),
        *("http_certificate_file", "http_key_file"),
    }
)


def prepare(settings: Settings) -> None:
    """Make the home: folders, the stack file, a key for each channel, their sources (all 0600)."""
    home = settings.home
    (home / "logs").mkdir(parents=True, exist_ok=True)
    former = read_json(home / STACK_FILE) or {}
    # What quanyu.toml says is not remembered, or it could not be taken back there.
    kept = REMEMBERED - (read_settings_file(home).keys() - {"port"})
    remembered = settings.model_dump(mode="json", include=set(kept), exclude_none=True)
    write_json(home / STACK_FILE, remembered, 0o600)
    keys = read_json(settings.keys_path) or {}
    missing = {name: secrets.token_urlsafe(24) for name in channel_names() if name not in keys}
    if missing:
        write_json(settings.keys_path, keys | missing, 0o600)
    _prepare_sources(settings, int(former.get("port", settings.port)))


def _prepare_sources(settings: Settings, former_port: int) -> None:
    """Give each channel that the sources' file does not name its place in the embedded stack.

    What somebody wrote there stays: another address, a channel with ``{}`` that is out of service. Only
    what a former start with another port wrote follows the port. A file of one's own
    (``QUANYU_SOURCES_FILE``) is not touched.
    """
    ours = embedded_sources(settings)
    for addresses in ours.values():
        if "sql" in addresses:
            Path(addresses["sql"].removeprefix("sqlite:///")).parent.mkdir(exist_ok=True)
        if "file" in addresses:
            Path(addresses["file"]).mkdir(parents=True, exist_ok=True)
    if settings.sources_file is not None:
        return
    former = embedded_sources(settings.model_copy(update={"port": former_port}))
    found = load_sources(settings)
    wanted = ours | {
        name: {
            transport: ours[name][transport]
            if address == former.get(name, {}).get(transport)
            else address
            for transport, address in addresses.items()
        }
        for name, addresses in found.items()
    }
    if wanted != found:
        write_json(settings.sources_path, wanted, 0o600)


@contextmanager
def owned(home: Path) -> Iterator[None]:
    """Hold the home's lock; :class:`QuanyuError` when another stack runs in it."""
    home.mkdir(parents=True, exist_ok=True)
    with (home / LOCK_FILE).open("a+", encoding="utf-8") as lock:
        # Whoever only asks for the owner holds the lock too, for a moment.
        end = time.monotonic() + 1.0
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if time.monotonic() > end:
                    raise busy(home) from None
                time.sleep(0.05)
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def busy(home: Path) -> QuanyuError:
    """What to say when another stack runs in the home."""
    return QuanyuError(
        f"{home} already has a running stack (process {owner(home) or 'unknown'}): stop it with "
        f"quanyu down --home {home}, or use another home: quanyu up --home …"
    )


def owner(home: Path) -> int | None:
    """Pid of the process that runs a stack in the home, if one does."""
    try:
        with (home / LOCK_FILE).open("r", encoding="utf-8") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                return int(lock.read() or 0) or None
    except FileNotFoundError:
        pass
    return None


def kill_leftovers(home: Path) -> list[str]:
    """Kill processes that a dead owner of the home left behind; their names.

    The kernel has killed them already where it can (Linux). A pid counts only with the start time
    that was recorded with it. Not to be called while an owner lives.
    """
    killed = []
    for part in (read_json(home / PARTS_FILE) or {}).get("parts", []):
        try:
            process = psutil.Process(part["pid"])
            if abs(process.create_time() - part["created"]) > 1.0 or not alive(process):
                continue
            process.send_signal(signal.SIGKILL)
            killed.append(str(part["name"]))
            end = time.monotonic() + 10.0
            while alive(process) and time.monotonic() < end:
                time.sleep(0.05)
        except (psutil.Error, KeyError, TypeError):
            continue
    return killed


def alive(process: psutil.Process) -> bool:
    """Whether the process still runs; a zombie holds neither port nor file."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_released(home: Path, limit_s: float) -> bool:
    """Whether the home became free within the limit."""
    end = time.monotonic() + limit_s
    while owner(home) is not None:
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True
