"""A file through its channel: every entry is published, the position follows only what is confirmed."""

import hashlib
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from connectors.files import read_entries
from connectors.mapping import RawReport, entry_report, size_of
from connectors.position import Position
from connectors.publish import BrokerBehind, Publisher, Unpublishable
from schemas.channels import load_channel
from schemas.errors import QuanyuError
from schemas.instants import parse_instant
from schemas.settings import Settings

#: Entries published before the position is kept; a killed replay repeats at most these.
CHUNK = 2_000
#: Long entries are published earlier: what waits for the broker stays in memory.
CHUNK_BYTES = 32 * 1024 * 1024
#: A broker that was restarted is back by then.
PATIENCE_S = 120.0


@dataclass(slots=True)
class ReplayResult:
    """What a replay did. ``resumed_at`` is the entry after which an interrupted one went on."""

    file: str
    channel: str
    rows: int = 0
    published: int = 0
    defects: int = 0
    resumed_at: int = 0
    seconds: float = 0.0
    offsets: dict[int, int] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return asdict(self)


class Pace:
    """Keeps the rhythm of the entries' own times; an entry without one, or out of order, waits for none."""

    def __init__(self, speed: float) -> None:
        self._speed = speed
        self._first_ms: int | None = None
        self._started = 0.0

    def wait_s(self, raw: RawReport) -> float:
        """Seconds until the entry is due; what is less than a tenth is left for the next."""
        instant = (
            parse_instant(raw["occurred_at"], raw["time_zone"]) if raw["occurred_at"] else None
        )
        if instant is None:
            return 0.0
        if self._first_ms is None:
            self._first_ms, self._started = instant.ms, time.monotonic()
        due = self._started + (instant.ms - self._first_ms) / 1000.0 / self._speed
        wait = due - time.monotonic()
        return wait if wait > 0.1 else 0.0


def replay(
    settings: Settings,
    file: Path,
    channel: str,
    *,
    speed: float | None = None,
    limit: int | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> ReplayResult:
    """Publish every entry of ``file`` to the channel's raw topic, in order.

    ``speed`` 1 keeps the gaps between the entries' own times, 60 shortens them to a sixtieth; None is as
    fast as the broker confirms. Raises :class:`QuanyuError` when the file or
    the channel cannot be read, or the broker stays away for two minutes; started again, it goes on
    where it was.
    """
    spec = load_channel(channel)
    entries = read_entries(file)
    stat = file.stat()
    identity = f"{file.resolve()}\0{stat.st_size}\0{stat.st_mtime_ns}\0{channel}"
    name = hashlib.sha256(identity.encode()).hexdigest()[:24]
    # Removed at the end, so that the next replay of the file sends all anew.
    position = Position(settings.home / "replay" / f"{name}.json")
    result = ReplayResult(str(file), channel, resumed_at=int(position.read().get("confirmed", 0)))
    publisher = Publisher(settings)
    started = time.monotonic()
    pace = Pace(speed) if speed is not None else None
    chunk: list[RawReport] = []
    weight = 0
    try:
        for entry in entries:
            if limit is not None and entry.number > limit:
                break
            result.rows = entry.number
            if entry.number <= result.resumed_at:
                continue
            raw = entry_report(
                spec,
                entry,
                received_at=int(time.time() * 1000),
                connector=f"replay:{file.name}:{entry.number}",
            )
            if pace is not None and (wait := pace.wait_s(raw)) > 0:
                _publish(publisher, chunk, result, position, progress)
                chunk, weight = [], 0
                time.sleep(wait)
                raw["received_at"] = int(time.time() * 1000)
            result.defects += bool(raw["defects"])
            chunk.append(raw)
            weight += size_of(raw)
            if len(chunk) >= CHUNK or weight >= CHUNK_BYTES:
                _publish(publisher, chunk, result, position, progress)
                chunk, weight = [], 0
        _publish(publisher, chunk, result, position, progress)
    finally:
        publisher.close()
    position.clear()
    result.seconds = round(time.monotonic() - started, 3)
    return result


def _publish(
    publisher: Publisher,
    chunk: list[RawReport],
    result: ReplayResult,
    position: Position,
    progress: Callable[[int], None],
) -> None:
    """Publish a chunk, patiently; the position follows."""
    if not chunk:
        return
    end = time.monotonic() + PATIENCE_S
    while True:
        try:
            offsets = publisher.publish(chunk, "replay")
            break
        except Unpublishable as error:
            raise QuanyuError(f"{result.file}: the broker refuses a record: {error}") from None
        except BrokerBehind as error:
            if time.monotonic() > end:
                raise QuanyuError(
                    f"Kafka does not confirm ({error}); see quanyu status, then run the same replay "
                    "again: it goes on where it was"
                ) from None
            time.sleep(min(1.0, error.retry_after_s))
    for partition, offset in offsets.items():
        result.offsets[partition] = max(offset, result.offsets.get(partition, -1))
    result.published += len(chunk)
    position.write({"confirmed": result.resumed_at + result.published})
    progress(len(chunk))
