"""A file through its channel: every entry is published, the position follows only what is confirmed."""

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from connectors.files import CELL_LIMIT, Entry, read_entries
from connectors.mapping import TEXT_FIELDS, RawReport, to_raw_report, undecodable
from connectors.publish import BrokerBehind, Publisher, Unpublishable
from schemas.channels import ChannelSpec, load_channel
from schemas.errors import QuanyuError
from schemas.instants import parse_instant
from schemas.settings import Settings

#: Entries published before the position is kept; a killed replay repeats at most these.
CHUNK = 2_000
#: Long entries are published earlier: what waits for the broker stays in memory.
CHUNK_BYTES = 32 * 1024 * 1024
#: The raw topics take 8 MiB; the rest is for the framing and the small fields.
RECORD_LIMIT = 8 * 1024 * 1024 - 65_536
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


class Position:
    """How far a file was replayed; removed at its end, so that the next replay sends all anew."""

    def __init__(self, home: Path, file: Path, channel: str) -> None:
        stat = file.stat()
        identity = f"{file.resolve()}\0{stat.st_size}\0{stat.st_mtime_ns}\0{channel}"
        name = hashlib.sha256(identity.encode()).hexdigest()[:24]
        self._path = home / "replay" / f"{name}.json"

    def read(self) -> int:
        """Entries already confirmed; 0 for a new replay."""
        try:
            return int(json.loads(self._path.read_text(encoding="utf-8"))["confirmed"])
        except (FileNotFoundError, ValueError, KeyError):
            return 0

    def write(self, confirmed: int) -> None:
        """Keep the position: whole or not at all."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        draft = self._path.with_suffix(".new")
        draft.write_text(json.dumps({"confirmed": confirmed}), encoding="utf-8")
        draft.replace(self._path)

    def clear(self) -> None:
        """The file is replayed."""
        self._path.unlink(missing_ok=True)


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
    position = Position(settings.home, file, channel)
    result = ReplayResult(str(file), channel, resumed_at=position.read())
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
            raw = _raw(spec, entry, file)
            if pace is not None and (wait := pace.wait_s(raw)) > 0:
                _publish(publisher, chunk, result, position, progress)
                chunk, weight = [], 0
                time.sleep(wait)
                raw["received_at"] = int(time.time() * 1000)
            result.defects += bool(raw["defects"])
            chunk.append(raw)
            weight += _size(raw)
            if len(chunk) >= CHUNK or weight >= CHUNK_BYTES:
                _publish(publisher, chunk, result, position, progress)
                chunk, weight = [], 0
        _publish(publisher, chunk, result, position, progress)
    finally:
        publisher.close()
    position.clear()
    result.seconds = round(time.monotonic() - started, 3)
    return result


def _raw(spec: ChannelSpec, entry: Entry, file: Path) -> RawReport:
    received_at = int(time.time() * 1000)
    connector = f"replay:{file.name}:{entry.number}"
    if entry.fields is None:
        return undecodable(
            spec, entry.data, entry.defect, received_at=received_at, connector=connector
        )
    raw = to_raw_report(spec, entry.fields, received_at=received_at, connector=connector)
    if (size := _size(raw)) > RECORD_LIMIT:
        # JSON may double what a cell holds; the broker would refuse it, and with it the whole replay.
        return undecodable(
            spec, raw["payload"][:CELL_LIMIT], f"malformed:{size} bytes, limit {RECORD_LIMIT}",
            received_at=received_at, connector=connector,
        )  # fmt: skip
    return raw


def _size(raw: RawReport) -> int:
    """Bytes of a raw report in Kafka, roughly."""
    payload = len(raw["payload"])
    # Every mapped text is part of the payload too, so a small payload has small fields.
    if payload < RECORD_LIMIT // 8:
        return payload
    texts = [raw["native_id"], *(raw[name] for name in TEXT_FIELDS), *raw["media"]]
    return payload + sum(len(text.encode()) for text in texts if text)


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
    position.write(result.resumed_at + result.published)
    progress(len(chunk))
