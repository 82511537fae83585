"""What was measured, where."""

import os
import platform
import subprocess
from typing import Any


def machine() -> dict[str, Any]:
    """Cores, Python and commit."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    return {
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "commit": commit.stdout.strip() or "unknown",
    }
