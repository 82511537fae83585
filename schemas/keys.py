"""Keys: who may come in, as two small files say; read again when they change, without a restart.

``keys.json`` has the channels' keys, ``people.json`` (deploy/people.py) the people's. Of a key its SHA-256 is
kept, of 192 random bits; only a channel that signs its requests needs the secret itself at both ends. A key may
end at an instant, and two hold side by side while a sender moves from the old one to the new.
"""

import contextlib
import hashlib
import hmac
import json
import os
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from schemas.documents import read_json
from schemas.errors import QuanyuError

T = TypeVar("T")
#: Seconds between two writings of when keys were used last.
USED_S = 30.0


class Watched(Generic[T]):
    """What a file says, read again when it changes; ``read`` takes the path and raises :class:`QuanyuError`."""

    def __init__(self, path: Path, read: Callable[[Path], T]) -> None:
        self.path = path
        self._read = read
        self._stamp: tuple[int, ...] | None = None
        self._looked = False
        #: Of the last state that could be read; None until there was one.
        self.value: T | None = None
        #: Whether the file as it is now could be read.
        self.good = False

    def refresh(self) -> bool:
        """Whether it was read anew; a :class:`QuanyuError` once for every broken state of the file."""
        try:
            stat = self.path.stat()
            stamp = (stat.st_mtime_ns, stat.st_ctime_ns, stat.st_size, stat.st_ino)
        except OSError:
            stamp = None
        if self._looked and stamp == self._stamp:
            return False
        self._looked, self._stamp, self.good = True, stamp, False
        self.value = self._read(self.path)
        self.good = True
        return True

    def now(self, otherwise: T) -> T:
        """What the file says at this moment; ``otherwise`` while it is not there or cannot be read."""
        with contextlib.suppress(QuanyuError):
            self.refresh()
        return self.value if self.good and self.value is not None else otherwise


class Key(BaseModel):
    """One key: its ``sha256``, or for a signer its ``secret``; instants in ms since 1970."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str = Field(pattern=r"^[0-9a-f]{8}$", description="Names it in lists; no secret.")
    sha256: str = Field(default="", pattern=r"^([0-9a-f]{64})?$")
    secret: str = Field(default="", max_length=200, repr=False)
    created_at: int = 0
    expires_at: int | None = None
    revoked_at: int | None = None

    def holds(self, now_ms: int) -> bool:
        """Whether it opens anything now."""
        ended = self.expires_at is not None and self.expires_at <= now_ms
        return not ended and self.revoked_at is None

    def matches(self, digest: str) -> bool:
        """Whether it is the key of that SHA-256; in constant time."""
        return hmac.compare_digest(self.sha256 or digest_of(self.secret), digest)

    def state(self, now_ms: int) -> str:
        """In one word: valid, ending (it has an end), expired or revoked."""
        if self.revoked_at is not None:
            return "revoked"
        if not self.holds(now_ms):
            return "expired"
        return "ending" if self.expires_at is not None else "valid"


def digest_of(key: str) -> str:
    """Under which a key is kept."""
    return hashlib.sha256(key.encode()).hexdigest()


def new_key(*, signs: bool = False, expires_at: int | None = None) -> tuple[Key, str]:
    """A key and what its owner is told once; ``signs``: both ends keep the secret."""
    text = secrets.token_urlsafe(24)
    digest = digest_of(text)
    kept = {"secret": text} if signs else {"sha256": digest}
    return Key(id=digest[:8], created_at=_now(), expires_at=expires_at, **kept), text  # type: ignore[arg-type] # texts


def plain_key(text: str) -> Key:
    """A key that a file holds as it is, as those that ``quanyu up`` makes for this machine's own senders."""
    return Key(id=digest_of(text)[:8], secret=text)


def of_digest(sha256: str) -> Key:
    """A key of which only the digest is known."""
    return Key(id=sha256[:8], sha256=sha256)


def find(keys: Iterable[Key], given: str) -> Key | None:
    """Which of the keys it is and holds now; every one is compared, whichever it is."""
    digest, now = digest_of(given), _now()
    found = [key for key in keys if key.matches(digest)]
    return next((key for key in found if given and key.holds(now)), None)


# ---- the channels' file

_CHANNELS = TypeAdapter(dict[str, str | list[str | Key]])


def read_channel_keys(path: Path) -> dict[str, list[Key]]:
    """Channel → its keys, none when there is no file; a :class:`QuanyuError` names the field at fault."""
    found = read_json(path, _CHANNELS, "see quanyu keys --help") or {}
    return {
        channel: [
            plain_key(key) if isinstance(key, str) else key
            for key in ([keys] if isinstance(keys, str) else keys)
            if key
        ]
        for channel, keys in found.items()
    }


def write_channel_keys(path: Path, channel: str, keys: list[Key]) -> None:
    """Replace one channel's keys; what the file says of the others stays as it is."""
    read_channel_keys(path)  # a file that is not understood is not written over
    document = json.loads(path.read_bytes()) if path.exists() else {}
    document[channel] = [key.model_dump(exclude_defaults=True) for key in keys]
    write_private(path, document)


def write_private(path: Path, document: Any) -> None:
    """Write a file of secrets whole, readable by its owner alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.new")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as out:
        json.dump(document, out, ensure_ascii=False, indent=1)
        out.write("\n")
        out.flush()
        os.fsync(out.fileno())
    draft.replace(path)


class Keys:
    """Channels' keys as their file says at this moment; without a readable file nobody gets in."""

    def __init__(self, path: Path) -> None:
        self._file = Watched(path, read_channel_keys)
        self._used = Used(path)

    def of(self, channel: str) -> list[str]:
        """The channel's secrets that hold now and are known as such; senders of ours use the first."""
        now = _now()
        keys = self._file.now({}).get(channel, [])
        return [key.secret for key in keys if key.secret and key.holds(now)]

    def accepts(self, channel: str, key: str) -> bool:
        """Whether ``key`` is one of the channel's, in constant time."""
        found = find(self._file.now({}).get(channel, []), key)
        if found is not None:
            self._used.note(found.id)
        return found is not None

    def used(self, channel: str, secret: str) -> None:
        """Take note that a request was signed with one of the channel's secrets."""
        self._used.note(digest_of(secret)[:8])


# ---- when keys were used last


class Used:
    """Key id → when it opened last, beside the keys' file; lost are the last seconds of a killed process."""

    def __init__(self, keys: Path) -> None:
        self._path = used_path(keys)
        self._seen: dict[str, int] = {}
        self._written_at = 0.0

    def note(self, key: str) -> None:
        """It opened now."""
        first, self._seen[key] = key not in self._seen, _now()
        if first or time.monotonic() - self._written_at > USED_S:
            self._written_at = time.monotonic()
            known = last_used(self._path)
            newest = {k: max(v, known.get(k, 0)) for k, v in self._seen.items()}
            # A home that cannot be written to knows no last use, and lets in all the same.
            with contextlib.suppress(OSError):
                write_private(self._path, {**known, **newest})


def used_path(keys: Path) -> Path:
    """Where the last uses of a keys' file stand."""
    return keys.with_suffix(".used.json")


def last_used(path: Path) -> Mapping[str, int]:
    """Key id → ms since 1970; empty when nothing is known."""
    with contextlib.suppress(OSError, ValidationError):
        return TypeAdapter(dict[str, int]).validate_json(path.read_bytes())
    return {}


def _now() -> int:
    return int(time.time() * 1000)
