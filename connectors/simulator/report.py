"""One report as its channel sends it, and its truth."""

from dataclasses import dataclass
from typing import Any

from connectors.simulator.world import Matter


@dataclass(slots=True)
class Report:
    """What is sent, when, and what it is really about.

    ``due_s``: real seconds after the start. Reports of one ``group`` go in one message or file.
    """

    due_s: float
    channel: str
    native_id: str
    revision: int
    native: dict[str, Any]
    matters: tuple[Matter, ...]
    #: Whether it says a point, be it right or wrong.
    pointed: bool
    defects: tuple[str, ...] = ()
    group: str = ""
    #: Bytes of its attachments, where the channel takes them as files.
    files: tuple[bytes, ...] = ()

    @property
    def resent(self) -> bool:
        """Whether the very same message was sent before."""
        return "resent" in self.defects
