"""What was measured, where."""

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

from deploy.local.kafka import VERSION

PACKAGES = ("faust-streaming", "confluent-kafka", "clickhouse-connect", "chdb")


def machine() -> dict[str, Any]:
    """Cores, Python, versions, commit, and how busy the machine is with other work."""
    commit, changed = (
        subprocess.run(["git", *argv], capture_output=True, text=True, check=False).stdout.strip()
        for argv in (
            ["rev-parse", "--short", "HEAD"],
            ["status", "--porcelain", "--", "schemas", "connectors", "streams"],
        )
    )
    return {
        "cores": len(os.sched_getaffinity(0)),
        "processor": _processor(),
        "python": platform.python_version(),
        "kafka": VERSION,
        **{name: version(name) for name in PACKAGES},
        "commit": (commit or "unknown") + (" with changes" if changed else ""),
        "load before": round(os.getloadavg()[0], 1),
    }


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
