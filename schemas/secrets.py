"""The key under which personal data is hashed: from the environment, else a private file of the home."""

import os
import secrets

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
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path.read_bytes()
    with os.fdopen(handle, "wb") as out:
        out.write(secrets.token_hex(32).encode())
    return path.read_bytes()
