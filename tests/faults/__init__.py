"""Faults: whole stacks of their own, hurt on purpose and audited afterwards."""

import os
from pathlib import Path

#: In ``PYTHONPATH``, the product's processes have named points at which they can be made to die.
INJECT = Path(__file__).parent / "inject"


def python_path(*folders: Path) -> str:
    """``PYTHONPATH`` with the failpoints before the given folders."""
    return os.pathsep.join(map(str, (INJECT, *folders)))
