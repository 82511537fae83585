"""Where what is fetched or generated once is kept, for every home of this machine."""

import os
from pathlib import Path


def cache_dir() -> Path:
    """``QUANYU_CACHE``, else ``~/.cache/quanyu``; may not exist yet."""
    return Path(os.environ.get("QUANYU_CACHE") or Path.home() / ".cache" / "quanyu")
