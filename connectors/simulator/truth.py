"""The truth file: which matter each report that was sent is about. No connector reads it.

JSON lines, one for each message that its transport accepted; a message sent twice stands twice.
``grid`` is the matter's finest grid, whose prefixes are its coarser ones (``schemas/grids.py``); ``special``
the special grid over it, if any; both are of the first of the ``matters``, ``classes`` are those of each.
"""

import json
from collections.abc import Iterable, Iterator
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
    lon, lat = place.cgcs2000
    # By hand, because a burst writes thousands a second: only the ids are not ours to know as plain text.
    return (
        f'{{"channel":"{report.channel}","native_id":{json.dumps(report.native_id)}'
        f',"revision":{report.revision},"sent_ms":{sent_ms}'
        f',"matters":{_texts(m.id for m in report.matters)}'
        f',"classes":{_texts(m.code for m in report.matters)}'
        f',"grid":"{place.grid}","special":"{place.special}","point":[{lon:.7f},{lat:.7f}]'
        f',"pointed":{"true" if report.pointed else "false"},"defects":{_texts(report.defects)}}}\n'
    )


def _texts(words: Iterable[str]) -> str:
    joined = '","'.join(words)
    return f'["{joined}"]' if joined else "[]"


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
