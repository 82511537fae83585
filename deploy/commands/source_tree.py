"""Commands that need the source tree's tests beside the package."""

import subprocess
import sys
from pathlib import Path

import typer

from schemas.errors import QuanyuError

ROOT = Path(__file__).parent.parent.parent


def run_module(name: str, arguments: list[str]) -> None:
    """Run a module of the source tree and take over its exit code."""
    path = ROOT / name.replace(".", "/")
    if not path.is_dir() and not path.with_suffix(".py").is_file():
        raise QuanyuError(f"{name} is not installed; run this in a checkout of the source")
    done = subprocess.run([sys.executable, "-m", name, *arguments], cwd=ROOT, check=False)  # noqa: S603 - our own
    raise typer.Exit(done.returncode)
