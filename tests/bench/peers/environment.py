"""A peer's packages: hash-locked beside this file, installed once into an environment of the cache folder.

None of them is a dependency of the project. The peer's environment sees the project's own packages behind its
own, so that the same steps run in it; where both have a package (confluent-kafka), the peer's version counts.
"""

import fcntl
import hashlib
import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

from schemas.cache import cache_dir

HERE = Path(__file__).parent
LIMIT_S = 300


class NotInstalled(Exception):
    """Why a peer cannot run here, in one line."""


def python_of(peer: str) -> str:
    """The interpreter of a peer's environment; installs it when it is not there.

    Raises :class:`NotInstalled` when its packages cannot be had for this Python or this platform.
    """
    lock = HERE / f"{peer}.lock"
    # Another lock, another Python or another checkout of the project is another environment.
    key = hashlib.sha256(
        "\0".join([lock.read_text(encoding="utf-8"), sys.version, sys.prefix]).encode()
    ).hexdigest()[:12]
    folder = cache_dir() / f"bench-{peer}-{key}"
    python, complete = folder / "bin" / "python", folder / "complete"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f"bench-{peer}.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        if complete.exists():
            return str(python)
        venv.EnvBuilder(with_pip=True, clear=True).create(folder)
        argv = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        argv += ["--require-hashes", "--no-deps", "--only-binary", ":all:", "-r", str(lock)]
        try:
            done = subprocess.run(
                argv, capture_output=True, text=True, timeout=LIMIT_S, check=False
            )
        except subprocess.TimeoutExpired:
            raise NotInstalled(f"pip did not end within {LIMIT_S} s") from None
        if done.returncode:
            lines = done.stderr.strip().splitlines()
            raise NotInstalled(lines[-1] if lines else f"pip ended with {done.returncode}")
        site = Path(sysconfig.get_path("purelib", vars={"base": str(folder)}))
        (site / "zz-quanyu.pth").write_text(
            os.linesep.join([sysconfig.get_path("purelib"), ""]), encoding="utf-8"
        )
        complete.touch()
    return str(python)
