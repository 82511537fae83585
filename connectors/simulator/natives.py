"""What is told, in each channel's own fields: the form in which its system holds or sends it."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from hashlib import sha256
from typing import Any
from zoneinfo import ZoneInfo

from connectors.simulator.scenarios import Words
from connectors.simulator.world import Matter, Point, pick

Native = dict[str, Any]


@dataclass(slots=True)
class Telling:
    """One report of a person, before its channel's form. Points as sent; instants in ms since the epoch."""

    channel: str
    native_id: str
    matters: tuple[Matter, ...]
    defects: list[str]
    seen_ms: int
    told_ms: int
    reporter: int
    title: str
    text: str
    address: str
    district: str
    street: str
    point: Point | None
    crs: str
    exif: Point | None
    category: str
    #: Hexadecimal digits for each photo; 64, so that they may pass as its SHA-256.
    media: list[str] = field(default_factory=list)
    handled: bool = False
    forwarded: str = ""
    revision: int = 0
    #: Its message, once it was sent: what is sent again is the very same.
    native: Native | None = None


class Clock:
    """Instants in the city's zone, as systems there write them."""

    def __init__(self, zone: str) -> None:
        self._zone = ZoneInfo(zone)
        self._minute = lru_cache(4096)(self._minute_of)

    def plain(self, ms: int) -> str:
        """``2026-03-01 08:15:07``."""
        day, clock, _ = self._minute(ms // 60_000)
        return f"{day} {clock}:{ms // 1000 % 60:02d}"

    def iso(self, ms: int) -> str:
        """``2026-03-01T08:15:07.250+08:00``."""
        day, clock, offset = self._minute(ms // 60_000)
        return f"{day}T{clock}:{ms // 1000 % 60:02d}.{ms % 1000:03d}{offset}"

    def slashed(self, ms: int) -> str:
        """``2026/3/1 8:15:07``: the habit of another operator."""
        day, clock, _ = self._minute(ms // 60_000)
        year, month, of_month = day.split("-")
        return (
            f"{year}/{int(month)}/{int(of_month)} {clock.removeprefix('0')}:{ms // 1000 % 60:02d}"
        )

    def _minute_of(self, minute: int) -> tuple[str, str, str]:
        text = datetime.fromtimestamp(minute * 60, self._zone).isoformat(timespec="minutes")
        return text[:10], text[11:16], text[16:]


def base36(number: int) -> str:
    """A short text of a number."""
    digits = ""
    while number or not digits:
        number, digit = divmod(number, 36)
        digits = "0123456789abcdefghijklmnopqrstuvwxyz"[digit] + digits
    return digits


def telephone(reporter: int) -> str:
    """A number that nobody has: no telephone's begins so."""
    return f"100{reporter:08d}"


class Natives:
    """Puts what is told into the form of its channel."""

    def __init__(self, zone: str, words: Words, rng: random.Random) -> None:
        self._clock, self._words, self._rng = Clock(zone), words, rng
        self._forms: dict[str, Callable[[Telling], Native]] = {
            "hotline12345": self._hotline12345,
            "photo_app": self._photo_app,
            "grid_patrol": self._grid_patrol,
            "city_management": self._city_management,
            "online_window": self._online_window,
            "mailbox": self._mailbox,
            "police110": self._police110,
        }

    def of(self, telling: Telling) -> Native:
        """The native message."""
        if telling.native is None:
            telling.native = self._forms[telling.channel](telling)
        return telling.native

    def _hotline12345(self, told: Telling) -> Native:
        # Two operators, two habits of writing a time.
        write = self._clock.plain if told.reporter % 2 else self._clock.slashed
        lon, lat = told.point or (None, None)
        return {
            "order_num": told.native_id,
            "call_time": write(told.told_ms),
            "caller_phone": telephone(told.reporter),
            "title": told.title,
            "main_content": told.text,
            "question_code": told.category,
            "address": told.address,
            "district": told.district,
            "street": told.street,
            "lng": lon,
            "lat": lat,
            "crs": told.crs or None,
            "is_old_caller": "urge" in told.defects,
            "forwarded_from": told.forwarded or None,
        }

    def _photo_app(self, told: Telling) -> Native:
        taken = self._clock.iso(told.seen_ms)
        photos: list[Native] = [
            {"url": f"https://img.invalid/{digest[:16]}.jpg", "sha256": digest}
            for digest in told.media
        ]
        if photos and told.exif:
            lon, lat = told.exif
            photos[0]["exif"] = {"lng": lon, "lat": lat, "shot_at": taken}
        native: Native = {
            "id": told.native_id,
            "revision": told.revision,
            "user_id": f"u{told.reporter}",
            "shot_at": taken,
            "submitted_at": self._clock.iso(told.told_ms),
            "title": told.title,
            "description": told.text,
            "category": told.category,
            "photos": photos,
            "address": told.address,
            "district": told.district,
            "street": told.street,
        }
        if told.point:
            native["location"] = {"lng": told.point[0], "lat": told.point[1], "crs": told.crs}
        return native

    def _grid_patrol(self, told: Telling) -> Native:
        lon, lat = told.point or ("", "")
        return {
            "task_id": told.native_id,
            "revision": told.revision,
            "worker_id": f"w{told.reporter % 221_000}",
            "found_at": self._clock.iso(told.seen_ms),
            "uploaded_at": self._clock.iso(told.told_ms),
            "title": told.title,
            "description": told.text,
            "class_code": told.category,
            "lng": lon,
            "lat": lat,
            "crs": told.crs,
            "address": told.address,
            "district": told.district,
            "street": told.street,
            "self_handled": told.handled,
            "photos": [
                {"kind": kind, "url": f"https://patrol.invalid/{digest[:16]}.jpg", "sha256": digest}
                for kind, digest in zip(("near", "far", "reference"), told.media, strict=False)
            ],
        }

    def _city_management(self, told: Telling) -> Native:
        x, y = told.point or (None, None)
        matter = told.matters[0]
        return {
            "task_num": told.native_id,
            "create_time": self._clock.plain(told.told_ms),
            "sub_type_code": told.category,
            "sub_type_name": matter.word,
            "event_desc": told.text,
            "address": told.address,
            "district_name": told.district,
            "street_name": told.street,
            "x": x,
            "y": y,
            "collector_id": f"c{told.reporter % 5000}",
            "hotline_order_num": told.forwarded.removeprefix("hotline12345/") or None,
        }

    def _online_window(self, told: Telling) -> Native:
        lon, lat = told.point or ("", "")
        return {
            "accept_no": told.native_id,
            "revision": str(told.revision),
            "occurred_at": self._clock.plain(told.seen_ms),
            "submitted_at": self._clock.plain(told.told_ms),
            "subject": told.title,
            "content": told.text,
            "category": told.category,
            "phone": telephone(told.reporter),
            "lng": str(lon),
            "lat": str(lat),
            "address": told.address,
            "district": told.district,
            "street": told.street,
            "attachments": [
                {
                    "sha256": sha256(bytes.fromhex(photo)).hexdigest(),
                    "url": "",
                    "name": f"{place}.jpg",
                }
                for place, photo in enumerate(told.media)
            ],
        }

    def _mailbox(self, told: Telling) -> Native:
        return {
            "message_id": told.native_id,
            "sent_at": self._clock.plain(told.seen_ms),
            "sender": telephone(told.reporter),
            "box": pick(self._rng, self._words.boxes),
            "title": told.title,
            "content": told.text,
            "category": told.category,
            "address": told.address,
            "district": told.district,
        }

    def _police110(self, told: Telling) -> Native:
        lon, lat = told.point or ("", "")
        return {
            "alarm_no": told.native_id,
            "revision": told.revision,
            "alarm_time": self._clock.plain(told.seen_ms),
            "handed_over_at": self._clock.plain(told.told_ms),
            "alarm_kind": pick(self._rng, self._words.alarm_kinds),
            "reason": pick(self._rng, self._words.reasons),
            "class_code": told.category,
            "content": told.text,
            "place": told.address,
            "district": told.district,
            "lng": lon,
            "lat": lat,
            "caller_phone": telephone(told.reporter),
            "hotline_order_num": told.forwarded.removeprefix("hotline12345/"),
        }
