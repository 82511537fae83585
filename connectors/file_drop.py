"""File drop: a folder in which another system leaves whole files.

A file is claimed by moving it to a folder of its own below ``.claimed/`` and locked while it is read, so
any number of connectors may share a folder; one that was killed leaves files without a lock, which the
next finishes, where the position says how far they were read. At its end a file goes to ``done/``; one
that cannot be read, or not to its end, goes to ``failed/`` with the reason beside it. Nothing is deleted.
"""

import contextlib
import errno
import fcntl
import os
import stat
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from itertools import count
from pathlib import Path
from typing import Any

import structlog

from connectors.files import read_entries
from connectors.mapping import Entry
from connectors.position import Position
from connectors.source import HEARTBEAT_FILE, Portion, SourceError
from schemas.channels import ChannelSpec, FileTransport
from schemas.errors import QuanyuError
from schemas.settings import Settings

log = structlog.get_logger("connectors")

#: Entries of a portion, and characters of their texts.
CHUNK, CHUNK_SIZE = 2_000, 32 * 1024 * 1024
CLAIMED, DONE, FAILED = ".claimed", "done", "failed"
#: Half-written files of programs that know better than to write in place.
UNFINISHED = (".part", ".tmp")
NO_FILE = "no plain file: links, folders and pipes are not read"
#: Bytes of a file's name on every common system.
NAME_LIMIT = 255


def open_source(settings: Settings, spec: ChannelSpec, address: str) -> "FileDrop":
    """The channel's folder, made when it is missing; SourceError when it cannot be written to."""
    if spec.transports.file is None:
        raise QuanyuError(f"channel {spec.name} has no transport file")
    return FileDrop(settings, spec, spec.transports.file, Path(address))


@dataclass(slots=True)
class _Claim:
    """A file in its own folder below ``.claimed/``, locked by the open descriptor."""

    path: Path
    lock: int
    #: Bytes when it was claimed.
    size: int
    position: Position
    confirmed: int
    entries: Iterator[Entry] = field(default_factory=lambda: iter(()))
    #: Why the rest cannot be read.
    failure: str = ""
    ended: bool = False


class FileDrop:
    """One folder, read as the module says. Not thread-safe."""

    def __init__(
        self, settings: Settings, spec: ChannelSpec, transport: FileTransport, folder: Path
    ) -> None:
        self._name, self._file, self._folder = spec.name, transport, folder
        self._positions = settings.home / "positions" / f"{spec.name}.file"
        self._claim: _Claim | None = None
        self._open: Portion | None = None
        #: Name → what a file looked like, and since when it does.
        self._looks: dict[str, tuple[tuple[int, int, int], float]] = {}
        self._due = 0.0
        with self._reasons("cannot be made"):
            for path in (folder, folder / CLAIMED, folder / DONE, folder / FAILED):
                path.mkdir(parents=True, exist_ok=True)

    # --- The contract

    def read(self, timeout_s: float) -> Portion | None:
        """See :class:`connectors.source.Source`."""
        end = time.monotonic() + timeout_s
        while self._open is None:
            if self._claim is None:
                now = time.monotonic()
                if now >= self._due:
                    self._claim = self._next()
                    self._due = time.monotonic() + self._file.interval_s
                if self._claim is None:
                    if now >= end:
                        return None
                    time.sleep(max(0.0, min(self._due, end) - now))
                    continue
            self._open = self._portion(self._claim)
            if self._open is None and time.monotonic() >= end:
                return None
        return self._open

    def confirm(self, portion: Portion) -> None:
        """See :class:`connectors.source.Source`."""
        claim: _Claim = portion.position
        try:
            claim.position.write({"confirmed": portion.entries[-1].number})
        except OSError as error:
            raise SourceError(
                "disk_full",
                f"the position cannot be kept ({error}); free space: until then rows are read again",
            ) from None
        claim.confirmed = portion.entries[-1].number
        self._open = None

    def close(self) -> None:
        """See :class:`connectors.source.Source`."""
        if self._claim is not None:
            os.close(self._claim.lock)
            self._claim = None

    # --- One file

    def _portion(self, claim: _Claim) -> Portion | None:
        """The next entries; None when there are none, and the file was put away."""
        chunk: list[Entry] = []
        size = 0
        try:
            while not claim.ended and len(chunk) < CHUNK and size < CHUNK_SIZE:
                entry = next(claim.entries, None)
                if entry is None:
                    claim.ended = True
                elif entry.number > claim.confirmed:
                    chunk.append(entry)
                    size += len(entry.data) if entry.fields is None else _size(entry.fields)
        except QuanyuError as error:
            claim.failure, claim.ended = str(error).replace(f"{claim.path}", claim.path.name), True
        except OSError as error:
            # The claim stays where it is: its lock goes with the source, and it is read again.
            raise SourceError("unreadable", f"{claim.path.name}: {error.strerror}") from None
        if chunk:
            return Portion(chunk, _shown(claim.path.name), claim)
        if claim.ended:
            size = os.fstat(claim.lock).st_size
            if size != claim.size and not claim.failure:
                claim.failure = (
                    f"{claim.path.name}: went on being written while it was read ({claim.size} → {size} "
                    f"bytes); give the channel a longer settle_s than {self._file.settle_s:g}, and drop "
                    "the file again"
                )
            if claim.failure and claim.confirmed:
                claim.failure += f"; the {claim.confirmed} entries before it were published"
            self._put_away(claim.path, claim.failure)
            claim.position.clear()
            os.close(claim.lock)
            self._claim = None
            self._due = 0.0
        return None

    def _put_away(self, path: Path, failure: str) -> None:
        """To ``done/`` or, with its reason, to ``failed/``, under a name that nothing has there."""
        folder = self._folder / (FAILED if failure else DONE)
        with self._reasons(f"takes no {_shown(path.name)}"), contextlib.ExitStack() as undo:
            target = _reserve(folder, path.name)
            undo.callback(target.unlink, missing_ok=True)
            if failure:
                reason = _reserve(folder, f"{target.name}.reason.txt")
                undo.callback(reason.unlink, missing_ok=True)
                reason.write_text(f"{failure}\n", encoding="utf-8", errors="replace")
            if path.is_dir() and not path.is_symlink():
                target.unlink()  # a folder cannot take the place of a file
            path.rename(target)
            undo.pop_all()
        with contextlib.suppress(OSError):  # only tidiness
            path.parent.rmdir()
        if failure:
            log.warning("file failed", channel=self._name, file=_shown(path.name), reason=failure)
        elif path.name != HEARTBEAT_FILE:
            log.info("file done", channel=self._name, file=_shown(path.name))

    # --- The folder

    def _next(self) -> _Claim | None:
        """The file to read next: first those that a connector left, then the oldest that is whole."""
        with self._reasons("cannot be read"):
            for own in sorted((self._folder / CLAIMED).iterdir()):
                try:
                    left = sorted(own.iterdir())
                except (FileNotFoundError, NotADirectoryError):
                    continue  # another connector finished it, or it is none of ours
                for path in left:
                    if claim := self._lock(path):
                        return claim
            for name in self._whole():
                own = self._folder / CLAIMED / uuid.uuid4().hex[:12]
                own.mkdir()
                try:
                    (self._folder / name).rename(own / name)
                except FileNotFoundError:  # another connector was faster
                    own.rmdir()
                    continue
                if claim := self._lock(own / name):
                    return claim
        return None

    def _whole(self) -> list[str]:
        """Names of files that did not change for a while, by our own clock; the oldest first."""
        now = time.monotonic()
        found: dict[str, tuple[tuple[int, int, int], float]] = {}
        with os.scandir(self._folder) as listing:
            for entry in listing:
                name = entry.name
                if name.startswith(".") or name.lower().endswith(UNFINISHED):
                    continue
                if name in (DONE, FAILED):
                    continue
                if not any(fnmatchcase(name.lower(), p.lower()) for p in self._file.patterns):
                    continue
                try:
                    status = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                look = (status.st_size, status.st_mtime_ns, status.st_ino)
                before, since = self._looks.get(name, (look, now))
                found[name] = (look, since if before == look else now)
        self._looks = found
        whole = [(look[1], n) for n, (look, t) in found.items() if now - t >= self._file.settle_s]
        return [name for _, name in sorted(whole)]

    def _lock(self, path: Path) -> _Claim | None:
        """Take the claimed file over; None when another reads it, or it is no file to be read."""
        try:
            lock = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.EMLINK, errno.ENXIO):
                self._put_away(path, NO_FILE)
            elif error.errno in (errno.EACCES, errno.EPERM):  # this one only; the others are read
                self._put_away(path, f"{path.name} cannot be opened: {error.strerror}")
            else:
                raise
            return None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # It may have been finished between our look and our lock.
            if not os.path.samestat(os.fstat(lock), path.lstat()):
                raise FileNotFoundError
        except (BlockingIOError, FileNotFoundError):
            os.close(lock)
            return None
        if not stat.S_ISREG(os.fstat(lock).st_mode):
            os.close(lock)
            self._put_away(path, NO_FILE)
            return None
        position = Position(self._positions / f"{path.parent.name}.json")
        confirmed = int(position.read().get("confirmed", 0))
        claim = _Claim(path, lock, os.fstat(lock).st_size, position, confirmed)
        try:
            claim.entries = read_entries(path)
        except QuanyuError as error:
            claim.failure, claim.ended = str(error).replace(f"{path}", path.name), True
        return claim

    @contextlib.contextmanager
    def _reasons(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            reason = {
                errno.ENOSPC: "disk_full",
                errno.EDQUOT: "disk_full",
                errno.ENOENT: "unreachable",
            }.get(error.errno or 0, "drop_folder")
            raise SourceError(
                reason,
                f"{self._folder} {what}: {error.strerror or error}; the connector needs a folder that it "
                "may write to, with space: nothing is lost, it tries again",
            ) from None


def _reserve(folder: Path, name: str) -> Path:
    """A new, empty file of this name, or of the name with a number; whoever has it may replace it."""
    stem, suffix = os.path.splitext(name)
    for number in count(1):
        mark = f" ({number})" if number > 1 else ""
        room = NAME_LIMIT - len(os.fsencode(mark + suffix))
        cut = os.fsencode(stem)[:room].decode("utf-8", "ignore") if len(stem) * 4 > room else stem
        path = folder / f"{cut}{mark}{suffix}"
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
        except FileExistsError:
            continue
        return path
    raise AssertionError  # counting never ends


def _shown(name: str) -> str:
    """A name as text, also one in another encoding."""
    return os.fsencode(name).decode("utf-8", "replace")


def _size(value: Any) -> int:
    """Characters of all texts in a value."""
    if type(value) is str:
        return len(value)
    if isinstance(value, dict):
        try:
            return len("".join(value.values()))  # a row of a table
        except TypeError:
            return sum(map(_size, value.values()))
    return sum(map(_size, value)) if isinstance(value, list) else 8
