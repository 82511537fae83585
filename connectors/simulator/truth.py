"""The truth file: which matter each report that was sent is about. No connector reads it.

JSON lines, one for each message that its transport accepted; a message sent twice stands twice.
``grid`` is the matter's finest grid, whose prefixes are its coarser ones (``schemas/grids.py``); ``special``
the special grid over it, if any; ``class`` and ``grid`` are those of the first of the ``matters``.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from connectors.simulator.report import Report
from schemas.errors import QuanyuError


@dataclass(frozen=True, slots=True)
class Truth:
    """A line of the file. ``sent_ms``: when it was accepted; ``point``: the scene, CGCS2000."""

    channel: str
    native_id: str
    revision: int
    sent_ms: int
    matters: tuple[str, ...]
    classes: tuple[str, ...]
    grid: str
    special: str
    point: tuple[float, float]
    pointed: bool
    defects: tuple[str, ...]


def line(report: Report, sent_ms: int) -> str:
    """The line of a report."""
    place = report.matters[0].place
    document = {
        "channel": report.channel,
        "native_id": report.native_id,
        "revision": report.revision,
        "sent_ms": sent_ms,
        "matters": [matter.id for matter in report.matters],
        "class": report.matters[0].code,
        "classes": [matter.code for matter in report.matters],
        "grid": place.grid,
        "special": place.special,
        "point": [round(place.cgcs2000[0], 7), round(place.cgcs2000[1], 7)],
        "pointed": report.pointed,
        "defects": list(report.defects),
    }
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")) + "\n"


def read_truth(path: Path) -> Iterator[Truth]:
    """The file's lines; :class:`QuanyuError` names the line that is none.

    A last line without its end was being written when the simulator died, and is left out.
    """
    try:
        with path.open(encoding="utf-8") as handle:
            for number, text in enumerate(handle, 1):
                if not text.endswith("\n"):
                    return
                try:
                    found = json.loads(text)
                    yield Truth(
                        found["channel"],
                        found["native_id"],
                        int(found["revision"]),
                        int(found["sent_ms"]),
                        tuple(found["matters"]),
                        tuple(found["classes"]),
                        found["grid"],
                        found["special"],
                        (float(found["point"][0]), float(found["point"][1])),
                        bool(found["pointed"]),
                        tuple(found["defects"]),
                    )
                except (ValueError, KeyError, TypeError, IndexError) as error:
                    raise QuanyuError(
                        f"{path}:{number}: no line of a truth file ({type(error).__name__} {error})"
                    ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise QuanyuError(f"{path}: not readable ({error}); name another: --truth FILE") from None
