"""The key under which personal data is hashed: from the environment, else a private file of the home."""

import contextlib
import os
import secrets
import tempfile

from schemas.errors import QuanyuError
from schemas.settings import Settings

HASH_KEY_FILE = "hash.key"
MIN_KEY_BYTES = 16


def load_hash_key(settings: Settings) -> bytes:
    """Key for hashing reporters: ``QUANYU_HASH_KEY``, else ``<home>/hash.key``, made once (0600).

    The same key must be kept for as long as hashes are compared. Never log it.
    """
    given = os.environ.get("QUANYU_HASH_KEY", "").encode()
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
