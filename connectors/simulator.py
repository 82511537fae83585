"""A simulated city: real-world matters first, then who reports them, through which channel, how badly.

Seeded: the same seed gives the same matters and reports. Names and points are the city pack's own.
"""

import random
import string
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np

from schemas.city import UNCLASSIFIED, CityPack, Street, TaxonomyClass
from schemas.coordinates import FROM_CGCS2000
from schemas.grids import METRES_PER_DEGREE

#: Share of the channels among reports: the hotline is the loudest, then the app and the patrols.
CHANNELS = {"hotline12345": 0.5, "photo_app": 0.3, "grid_patrol": 0.2}
#: How many reports a matter gets: most get one; a few the whole street sees.
REPORTS_PER_MATTER = (1, 1, 1, 1, 1, 1, 2, 2, 3, 6)
#: 30–60 % of hotline calls carry no point.
HOTLINE_WITHOUT_POINT = 0.45
RESENT = 0.02
NULL_ISLAND = 0.005
OUTSIDE = 0.005
#: Metres by which reporters of one matter stand apart.
SCATTER_M = 12.0

TEXTS = (
    "市民反映：{place}{what}，影响出行，请尽快处理。",
    "{place}附近{what}已经好几天了，没人管。",
    "您好，{place}这里{what}，希望有关部门来看看。",
    "{what}！就在{place}，请派人处理，谢谢。",
)


@dataclass(frozen=True, slots=True)
class Matter:
    """One real-world matter: the truth that no part of the pipeline reads."""

    number: int
    entry: TaxonomyClass
    keyword: str
    street: Street
    lon: float
    lat: float


@dataclass(frozen=True, slots=True)
class SimulatedReport:
    """One report of a matter as its channel would send it."""

    channel: str
    native_id: str
    native: dict[str, Any]
    matter: Matter
    resent: bool = False


class Simulator:
    """An endless, seeded stream of reports of one city."""

    def __init__(self, city: CityPack, seed: int) -> None:
        self._city = city
        self._seed = seed
        self._rng = random.Random(seed)  # noqa: S311 - a simulation, not a secret
        self._zone = ZoneInfo(city.time_zone)
        self._classes = [c for c in city.classes.values() if c.code != UNCLASSIFIED and c.keywords]
        codes = {grid.code for grid in city.districts.grids}
        self._streets = [street for street in city.streets if street.district in codes]
        self._points = self._points_of_streets()
        self._matters = 0
        self._reports = 0
        self._reporting: Matter | None = None
        self._to_report = 0
        self._sent: list[SimulatedReport] = []

    def reports(self, now_ms: int) -> Iterator[SimulatedReport]:
        """Reports of the moment ``now_ms``; ask again with a later one and the city goes on from there.

        What is reported, and by how many, does not depend on when the clock is advanced.
        """
        while True:
            if not self._to_report and self._sent and self._rng.random() < RESENT:
                again = self._rng.choice(self._sent)
                yield SimulatedReport(
                    again.channel, again.native_id, again.native, again.matter, resent=True
                )
                continue
            if self._reporting is None or not self._to_report:
                self._reporting = self._matter()
                self._to_report = self._rng.choice(REPORTS_PER_MATTER)
            self._to_report -= 1
            report = self._report(self._reporting, now_ms)
            if len(self._sent) < 1000:
                self._sent.append(report)
            else:
                self._sent[self._rng.randrange(1000)] = report
            yield report

    def _points_of_streets(self) -> dict[str, list[tuple[float, float]]]:
        """For each street a few points of its district, near each other, to stand for its ground."""
        rng = np.random.default_rng(self._seed)
        points: dict[str, list[tuple[float, float]]] = {}
        layer = self._city.districts
        for index, grid in enumerate(layer.grids):
            west, south, east, north = layer.polygons[index].bounds
            streets = [street for street in self._streets if street.district == grid.code]
            for street in streets:
                for _ in range(200):
                    lon, lat = rng.uniform([west, south], [east, north])
                    xs = lon + rng.uniform(-0.008, 0.008, 12)
                    ys = lat + rng.uniform(-0.006, 0.006, 12)
                    if (layer.locate(xs, ys) == index).all():
                        points[street.code] = list(zip(xs.tolist(), ys.tolist(), strict=True))
                        break
        return points

    def _matter(self) -> Matter:
        self._matters += 1
        entry = self._rng.choice(self._classes)
        street = self._rng.choice(self._streets)
        near = self._points.get(street.code) or next(iter(self._points.values()))
        lon, lat = self._rng.choice(near)
        lon += self._rng.uniform(-0.002, 0.002)
        lat += self._rng.uniform(-0.002, 0.002)
        return Matter(self._matters, entry, self._rng.choice(entry.keywords), street, lon, lat)

    def _report(self, matter: Matter, now_ms: int) -> SimulatedReport:
        self._reports += 1
        rng = self._rng
        (channel,) = rng.choices(list(CHANNELS), weights=list(CHANNELS.values()))
        district = self._city.district_name(matter.street.district)
        place = f"{district}{matter.street.name}{rng.randrange(1, 300)}号"
        title = f"{matter.street.name}{matter.keyword}"
        text = rng.choice(TEXTS).format(place=place, what=matter.keyword)
        crs = {"hotline12345": "GCJ02", "photo_app": "GCJ02", "grid_patrol": "WGS84"}[channel]
        point: tuple[str, str] | None = self._point(matter, crs)
        if channel == "hotline12345" and rng.random() < HOTLINE_WITHOUT_POINT:
            point = None
        when = datetime.fromtimestamp((now_ms - rng.randrange(0, 1_800_000)) / 1000, self._zone)
        native_id = self._native_id(channel)
        native = getattr(self, f"_{channel}")(
            native_id, matter, title, text, place, district, point, when
        )
        return SimulatedReport(channel, native_id, native, matter)

    def _native_id(self, channel: str) -> str:
        return f"{channel[:2].upper()}{self._seed:04d}{self._reports:08d}"

    def _point(self, matter: Matter, crs: str) -> tuple[str, str]:
        rng = self._rng
        chance = rng.random()
        if chance < NULL_ISLAND:
            return "0", "0"
        lon, lat = matter.lon, matter.lat
        if chance < NULL_ISLAND + OUTSIDE:
            lon += 5.0
        lon += rng.gauss(0.0, SCATTER_M / METRES_PER_DEGREE)
        lat += rng.gauss(0.0, SCATTER_M / METRES_PER_DEGREE)
        x, y = FROM_CGCS2000[crs](np.array([lon]), np.array([lat]))
        return f"{x[0]:.6f}", f"{y[0]:.6f}"

    def _hotline12345(
        self, native_id: str, matter: Matter, title: str, text: str, place: str, district: str,
        point: tuple[str, str] | None, when: datetime,
    ) -> dict[str, Any]:  # fmt: skip
        # Two operators, two habits of writing a time.
        stamp = f"{when.year}/{when.month}/{when.day} {when.hour}:{when:%M:%S}"
        if self._rng.random() < 0.5:
            stamp = f"{when:%Y-%m-%d %H:%M:%S}"
        native = {
            "留言编号": native_id,
            "留言用户": "".join(self._rng.choices(string.digits, k=8)),
            "留言主题": title,
            "留言时间": stamp,
            "留言详情": f"\n\t\t{text}",
            "地址": place,
            "区县": district,
        }
        if point:
            native |= {"经度": point[0], "纬度": point[1], "坐标系": "GCJ02"}
        return native

    def _photo_app(
        self, native_id: str, matter: Matter, title: str, text: str, place: str, district: str,
        point: tuple[str, str] | None, when: datetime,
    ) -> dict[str, Any]:  # fmt: skip
        lng, lat = point or ("", "")
        return {
            "id": native_id,
            "user_id": f"u{self._rng.randrange(10**6)}",
            "title": title,
            "description": text,
            "shot_at": when.isoformat(timespec="seconds"),
            "location": {"lng": lng, "lat": lat, "crs": "GCJ02"},
            "address": place,
            "district": district,
            "photos": [f"sha256:{self._rng.getrandbits(64):016x}"],
        }

    def _grid_patrol(
        self, native_id: str, matter: Matter, title: str, text: str, place: str, district: str,
        point: tuple[str, str] | None, when: datetime,
    ) -> dict[str, Any]:  # fmt: skip
        lng, lat = point or ("", "")
        return {
            "task_id": native_id,
            "worker_id": f"w{self._rng.randrange(221_000)}",
            "class_code": matter.entry.code,
            "title": title,
            "description": text,
            "found_at": when.isoformat(timespec="seconds"),
            "lng": lng,
            "lat": lat,
            "crs": "WGS84",
            "address": place,
            "district": district,
        }
