"""A changed policy, model or duty list in service without a restart: a process takes up its pack again.

Every :data:`LOOK_S` seconds the pack's files are looked at. Once they have changed, and then not for one look,
the whole pack is read and what goes by it is made anew, beside that in service, which is then replaced: the
worker's steps between two batches, the screen's names and suggestions between two requests. What cannot be read
or decided by is refused with its reason, and everything stays as it was until the files change again. So is a
pack of other grids or zones: what lies in Kafka is keyed by them, so that it takes a restart of all workers at
once.

Which pack is in service, since when, and what was refused, is logged and measured (``quanyu_pack_info``,
``quanyu_pack_refused``); the worker's stands in ``<home>/pack.json``, too.
"""

import asyncio
import contextlib
import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import structlog

from schemas import metrics
from schemas.city import CityPack, city_folder, load_city
from schemas.errors import QuanyuError
from schemas.settings import Settings

#: Seconds between two looks.
LOOK_S = 5.0
#: Beside the home's other files.
PACK_FILE = "pack.json"
#: Files of a pack that say where something is.
LAND = ("streets.csv", "communities.csv", "districts.geojson")

Stamp = tuple[tuple[str, int, int], ...]


def pack_files(city: CityPack) -> list[Path]:
    """Every file that decisions depend on: the pack's, and a model that lies elsewhere."""
    found = [path for path in city.folder.rglob("*") if path.is_file()]
    if city.classifier is not None:
        found.append(city.folder / city.classifier.model)
    return sorted(set(found))


def stamp(files: list[Path]) -> Stamp:
    """What differs when a file was written; a file that is gone has none."""
    found = []
    for path in files:
        with contextlib.suppress(OSError):
            status = path.stat()
            found.append((str(path), status.st_mtime_ns, status.st_size))
    return tuple(found)


def version(city: CityPack) -> str:
    """Twelve digits that differ where the pack's contents do."""
    digest = hashlib.sha256()
    for path in pack_files(city):
        if not path.name.startswith("."):
            name = path.relative_to(city.folder) if path.is_relative_to(city.folder) else path
            digest.update(f"{name}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:12]


def land(city: CityPack) -> tuple[Any, ...]:
    """What a report's place and zone depend on."""
    files = [city.folder / name for name in LAND] + list(city.shipped.values())
    contents = {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files if path.exists()
    }
    said = city.synthesis.model_dump(mode="json") if city.synthesis else None
    return city.code, city.time_zone, dict(city.zone_of), dict(city.counts), said, contents


class Renewal:
    """The pack in service. ``build`` makes of another what goes by it, and returns what puts that into service.

    ``record``: whether the home's file is ours to write.
    """

    def __init__(
        self,
        settings: Settings,
        city: CityPack,
        build: Callable[[CityPack], Callable[[], None]],
        *,
        record: bool = True,
    ) -> None:
        self._settings, self._record = settings, record
        self._city = city
        self._build = build
        self._land = land(city)
        self.version = version(city)
        self._judged = self._seen = self._look()
        self._tell(since_ms=int(time.time() * 1000))

    async def look(self) -> None:
        """Look once; to be called again and again."""
        now = self._look()
        if now == self._judged:
            return
        if now != self._seen:
            self._seen = now  # maybe it is still being written
            return
        self._judged = now
        loop = asyncio.get_running_loop()
        try:
            city, put = await loop.run_in_executor(None, self._load)
        except Exception as error:
            # Whatever is wrong with what somebody wrote, this process decides on as it did.
            reason = str(error) if isinstance(error, QuanyuError) else repr(error)
            structlog.get_logger().error(
                "pack_refused", version=self.version, reason=reason, city=self._city.name
            )
            self._tell(refused=reason)
            return
        former, self._city = self.version, city
        self.version = version(city)
        self._judged = self._seen = self._look()
        if self.version != former:
            put()
            structlog.get_logger().info("pack_renewed", version=self.version, former=former)
        self._tell(since_ms=int(time.time() * 1000))

    def _look(self) -> Stamp:
        return stamp(pack_files(self._city))

    def _load(self) -> tuple[CityPack, Callable[[], None]]:
        # Past the cache: what is refused here must reach nobody who asks for the pack by its name.
        city = load_city.__wrapped__(self._settings.city)
        if land(city) != self._land:
            raise QuanyuError(
                f"{city_folder(self._settings.city)}: grids, zones or the time zone changed, by which records "
                "are keyed: stop all workers, then start them"
            )
        return city, self._build(city)

    def _tell(self, since_ms: int | None = None, refused: str = "") -> None:
        """For `quanyu status` and metrics; a home that cannot be written to has the latter only."""
        metrics.PACK_INFO.clear()
        metrics.PACK_INFO.labels(self._city.code, self.version).set(1)
        metrics.PACK_REFUSED.set(bool(refused))
        if not self._record:
            return
        path = self._settings.home / PACK_FILE
        with contextlib.suppress(OSError, ValueError):
            former = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
            since = since_ms if since_ms is not None else former.get("since_ms", 0)
            said = {"version": self.version, "since_ms": since, "refused": refused}
            draft = path.with_name(f"{PACK_FILE}.new")
            draft.write_text(json.dumps(said, ensure_ascii=False), encoding="utf-8")
            draft.replace(path)
