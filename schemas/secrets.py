"""The installation's key, under which personal data is hashed: from the environment, else a private file of
the home; and what is derived from it."""

import base64
import contextlib
import hashlib
import hmac
import os
import secrets
import tempfile

from schemas.errors import QuanyuError
from schemas.settings import Settings

HASH_KEY_FILE = "hash.key"
MIN_KEY_BYTES = 16
#: Characters of a trail's secret: 80 bits.
SECRET_CHARACTERS = 16


def load_hash_key(settings: Settings) -> bytes:
    """Key for hashing reporters: ``QUANYU_HASH_KEY`` (or its file), else ``<home>/hash.key``, made once (0600).

    The same key must be kept for as long as hashes are compared. Never log it.
    """
    secret = settings.hash_key
    given = secret.get_secret_value().encode() if secret else b""
    if given:
        if len(given) < MIN_KEY_BYTES:
            raise QuanyuError(
                f"QUANYU_HASH_KEY: shorter than {MIN_KEY_BYTES} bytes; use a random one"
            )
        return given[:64]
    path = settings.home / HASH_KEY_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        # Written aside and linked whole: whoever starts at the same moment, or after a crash in between,
        # never reads half a key.
        handle, draft = tempfile.mkstemp(prefix=f"{HASH_KEY_FILE}.", dir=path.parent)  # mode 0600
        try:
            with os.fdopen(handle, "wb") as out:
                out.write(secrets.token_hex(32).encode())
                out.flush()
                os.fsync(out.fileno())
            with contextlib.suppress(FileExistsError):
                os.link(draft, path)
        finally:
            os.unlink(draft)
    key = path.read_bytes()
    if len(key) < MIN_KEY_BYTES:
        raise QuanyuError(
            f"{path}: {len(key)} bytes are no key; bring back the right file, or remove it if nothing "
            "has been hashed yet"
        )
    return key[:64]


def trail_secret(hash_key: bytes, report: str) -> str:
    """With which a citizen follows a report: derived from its id, stored nowhere; its channel passes it on."""
    digest = hmac.new(hash_key, b"trail:" + report.encode(), hashlib.sha256).digest()
    return base64.b32encode(digest).decode()[:SECRET_CHARACTERS].lower()


def is_trail_secret(hash_key: bytes, report: str, given: str) -> bool:
    """Whether ``given`` is the report's secret; compared in constant time."""
    known = trail_secret(hash_key, report)
    return hmac.compare_digest(known.encode(), given.strip().lower().encode())
