"""Sensors, cameras and flights: alarms that repeat themselves, drift, stick and come late."""

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import count
from math import gcd
from typing import Any

import numpy as np

from connectors.simulator.natives import Clock, Native
from connectors.simulator.report import Report
from connectors.simulator.scenarios import SENSING, Numbers, load_words
from connectors.simulator.world import Ground, Matter, Place, Point, Weighted, World
from schemas.channels import load_channel
from schemas.city import CityPack
from schemas.grids import METRES_PER_DEGREE

#: Metres beside the middle of a footprint where its corners are.
FOOTPRINT_M = 3.0
#: Places of a park's devices that are drawn together.
PARK_BLOCK = 512
#: Targets of one sortie's file, whatever the rate.
SORTIE = (4, 2000)


@dataclass(slots=True)
class _Sensor:
    """A sensor in alarm, for ``left`` more messages."""

    id: str
    metric: str
    matter: Matter
    behaviour: str
    left: int
    drift_ms: int
    value: float
    sent: int = 0
    defects: tuple[str, ...] = ()


@dataclass(slots=True)
class _Camera:
    """A camera that believes to see something, for ``left`` more alarms."""

    id: str
    kind: str
    matter: Matter
    left: int
    point: Point
    crs: str
    defects: tuple[str, ...]
    fired: int = 0
    score: float = field(default=0.0)


class _Park:
    """The devices that the city has: each at its place whatever the seed, in one alarm at a time."""

    def __init__(self, mark: str, size: int, ground: Ground, rng: random.Random) -> None:
        self._mark, self._size, self._ground = mark, max(size, 4), ground
        self._number = int(rng.random() * self._size)
        # Each device once before any of them again: what it sees then is another matter. The golden ratio
        # goes through all of them without an order that shows.
        self._step = int(self._size * 0.618)
        while gcd(self._step, self._size) != 1:
            self._step += 1
        self._blocks: dict[int, list[Place]] = {}
        self._busy: set[str] = set()

    def take(self) -> tuple[str, Place]:
        """A device that is in no alarm, and its place."""
        while True:
            self._number = (self._number + self._step) % self._size
            device = f"{self._mark}{self._number:06d}"
            if self.claim(device):
                return device, self._place(self._number)

    def claim(self, device: str) -> bool:
        """Whether the device was in no alarm; now it is."""
        if device in self._busy:
            return False
        self._busy.add(device)
        return True

    def release(self, device: str) -> None:
        """Its alarm is over."""
        self._busy.remove(device)

    def most(self, wanted: float) -> int:
        """How many may be in alarm at once, so that a free one is found soon."""
        return min(max(2, round(wanted)), self._size // 2)

    def _place(self, number: int) -> Place:
        block, offset = divmod(number, PARK_BLOCK)
        if block not in self._blocks:
            rng = np.random.default_rng([block, *self._mark.encode()])
            self._blocks[block] = self._ground.some(rng, PARK_BLOCK)
        return self._blocks[block][offset]


class Devices:
    """The three sensing channels. ``rates`` are messages a second of simulated time."""

    def __init__(
        self,
        world: World,
        ground: Ground,
        numbers: Numbers,
        seed: int,
        tag: str,
        standing: list[Matter],
        city: CityPack,
        rates: Mapping[str, float],
    ) -> None:
        self._world, self._numbers, self._tag = world, numbers, tag
        self._words = load_words()
        self._clock = Clock(city.time_zone)
        self._rng = random.Random(f"{seed}/devices")  # noqa: S311 - a simulation, not a secret
        self._number = count(1)
        self._channels = Weighted(dict(rates))
        self._standing: dict[str, list[Matter]] = {}
        for matter in standing:
            self._standing.setdefault(matter.code, []).append(matter)
        self._codes = {name: load_channel(name).categories for name in SENSING}
        iot, video, uav = numbers.iot, numbers.video, numbers.uav
        self._metrics = Weighted({name: metric.weight for name, metric in iot.metrics.items()})
        self._kinds = Weighted({name: kind.weight for name, kind in video.kinds.items()})
        self._targets = Weighted(uav.kinds)
        weights = sum(metric.weight for metric in iot.metrics.values())
        self._parks = {
            name: _Park(f"{name}-", round(iot.devices * m.weight / weights), ground, self._rng)
            for name, m in iot.metrics.items()
        }
        self._views = _Park("M", video.devices, ground, self._rng)
        # So many devices in turn that each of them speaks at its interval.
        sensors = rates["iot"] * iot.interval_s
        most = sum(
            park.most(sensors * iot.metrics[name].weight / weights)
            for name, park in self._parks.items()
        )
        cameras = self._views.most(rates["video_ai"] * video.interval_s)
        self._sensors = [self._sensor() for _ in range(min(most, max(2, round(sensors))))]
        self._cameras = [self._camera() for _ in range(cameras)]
        self._turn = dict.fromkeys(SENSING, 0)
        self._owed = dict.fromkeys(SENSING, 0)
        self._sortie = min(max(round(rates["uav"] * uav.sortie_s), SORTIE[0]), SORTIE[1])

    def slot(self, due_s: float, now_ms: int) -> list[Report]:
        """What a device sends now; none where a batch came before its time."""
        channel = self._channels.draw(self._rng)
        if self._owed[channel]:
            self._owed[channel] -= 1
            return []
        if channel == "iot":
            return self._iot(due_s, now_ms)
        if channel == "video_ai":
            return [self._video(due_s, now_ms)]
        return self._flight(due_s, now_ms)

    def _alarm(self, park: _Park, mark: str, code: str, standing: float) -> tuple[str, Matter]:
        """A device and what it sees: something new at its place, or what people tell of too."""
        known = self._standing.get(code)
        if known and self._rng.random() < standing:
            matter = known[int(self._rng.random() ** 2 * len(known))]
            device = f"{mark}{self._tag}{matter.id}"
            if park.claim(device):
                return device, matter
        device, place = park.take()
        return device, self._world.matter(code, place)

    def _id(self) -> str:
        return f"{self._tag}{next(self._number):07d}"

    def _sensor(self) -> _Sensor:
        rng, iot = self._rng, self._numbers.iot
        metric = self._metrics.draw(rng)
        luck, behaviour = rng.random(), "plain"
        for name, share in iot.behaviours.items():
            if luck < share:
                behaviour = name
                break
            luck -= share
        drift_ms = 0
        if behaviour == "clock_drift":
            drift = rng.uniform(*self._numbers.clock_drift_s) * 1000
            drift_ms = int(drift if rng.random() < 0.5 else -drift)
        kind = behaviour if behaviour in ("flapping", "stuck", "late_batch") else "plain"
        few, many = iot.messages[kind]  # type: ignore[index] # one of its four names
        spec = iot.metrics[metric]
        code = self._codes["iot"].get(metric, "")
        device, matter = self._alarm(self._parks[metric], f"{metric}-", code, iot.standing)
        return _Sensor(
            id=device,
            metric=metric,
            matter=matter,
            behaviour=behaviour,
            left=rng.randrange(few, many + 1),
            drift_ms=drift_ms,
            value=rng.uniform(spec.threshold, (spec.threshold + spec.high) / 2),
            defects=() if behaviour == "plain" else (behaviour,),
        )

    def _iot(self, due_s: float, now_ms: int) -> list[Report]:
        index = self._turn["iot"] = (self._turn["iot"] + 1) % len(self._sensors)
        sensor = self._sensors[index]
        if sensor.behaviour == "late_batch":
            # After an outage all of it comes at once, in one message.
            self._replace(index)
            interval_ms = int(self._numbers.iot.interval_s * 1000)
            self._owed["iot"] += sensor.left - 1
            many, group = sensor.left, f"{sensor.id}-{self._id()}"
            return [
                self._reading(sensor, due_s, now_ms - (many - place) * interval_ms, group)
                for place in range(many)
            ]
        report = self._reading(sensor, due_s, now_ms)
        if sensor.left <= 0:
            self._replace(index)
        return [report]

    def _replace(self, index: int) -> None:
        """Another sensor is in alarm; the one before may be again."""
        before = self._sensors[index]
        self._sensors[index] = self._sensor()
        self._parks[before.metric].release(before.id)

    def _reading(self, sensor: _Sensor, due_s: float, at_ms: int, group: str = "") -> Report:
        rng, iot = self._rng, self._numbers.iot
        spec = iot.metrics[sensor.metric]
        sensor.left -= 1
        last = sensor.left == 0 and sensor.sent > 0
        over = (
            sensor.sent % 2 == 1
            if sensor.behaviour == "flapping"
            else last and sensor.behaviour != "stuck" and rng.random() < iot.clears
        )
        if sensor.behaviour != "stuck":
            sensor.value = min(spec.high, sensor.value * rng.uniform(0.98, 1.1))
        value = round(spec.threshold * 0.8 if over else sensor.value, 1)
        sensor.sent += 1
        place = sensor.matter.place
        lon, lat = place.cgcs2000
        seen_ms = at_ms + sensor.drift_ms
        if sensor.behaviour == "no_clock":
            seen_ms = sensor.sent * 60_000
        message = self._words.over if over else self._words.alarms[sensor.metric]
        number = self._id()
        native: Native = {
            "device_id": sensor.id,
            "seq": number,
            "ts": self._clock.iso(seen_ms),
            "station": self._words.stations[sensor.metric].format(place=place.spot),
            "metric": sensor.metric,
            "value": value,
            "unit": spec.unit,
            "threshold": spec.threshold,
            "message": message.format(value=value),
            "state": "normal" if over else "alarm",
            "lng": round(lon, 6),
            "lat": round(lat, 6),
            "address": place.address,
            "battery": rng.randrange(20, 100),
        }
        return Report(
            due_s,
            "iot",
            f"{sensor.id}/{number}",
            0,
            native,
            (sensor.matter,),
            True,
            sensor.defects,
            group,
        )

    def _camera(self) -> _Camera:
        rng, video = self._rng, self._numbers.video
        kind = self._kinds.draw(rng)
        lasts = (
            rng.expovariate(1.0 / video.firings) if video.kinds[kind].state else rng.random() * 3
        )
        code = self._codes["video_ai"].get(kind, "")
        device, matter = self._alarm(self._views, "M", code, video.standing)
        place, defects = matter.place, list[str]()
        if rng.random() < video.moved:
            place, defects = next(self._world.places), ["camera_moved"]
        crs = "GCJ02" if rng.random() < video.gcj02 else "WGS84"
        point = place.gcj02 if crs == "GCJ02" else place.cgcs2000
        return _Camera(device, kind, matter, 1 + int(lasts), point, crs, tuple(defects))

    def _video(self, due_s: float, now_ms: int) -> Report:
        rng = self._rng
        index = self._turn["video_ai"] = (self._turn["video_ai"] + 1) % len(self._cameras)
        camera = self._cameras[index]
        camera.left -= 1
        camera.fired += 1
        over = camera.left <= 0 and camera.fired > 1 and rng.random() < self._numbers.video.clears
        if camera.left <= 0:
            self._cameras[index] = self._camera()
            self._views.release(camera.id)
        words = self._words.video[camera.kind]
        alarm = self._id()
        native: Native = {
            "device_id": camera.id,
            "channel_device_id": f"{camera.id}-1",
            "alarm_id": alarm,
            "ts": self._clock.iso(now_ms),
            "major_type": words.major,
            "minor_type": camera.kind,
            "minor_type_name": words.name,
            "description": self._words.over if over else words.name,
            "score": round(rng.uniform(0.3, 0.98), 2),
            "threshold": 0.3,
            "bbox": [rng.randrange(0, 960), rng.randrange(0, 540), 960, 540],
            "lng": round(camera.point[0], 6),
            "lat": round(camera.point[1], 6),
            "crs": camera.crs,
            "address": camera.matter.place.address,
            "state": "normal" if over else "alarm",
            "snapshot": {
                "url": f"https://video.invalid/{alarm}.jpg",
                "sha256": f"{rng.getrandbits(256):064x}",
            },
        }
        defects = (*camera.defects, "refire") if camera.fired > 1 else camera.defects
        return Report(
            due_s, "video_ai", f"{camera.id}/{alarm}", 0, native, (camera.matter,), True, defects
        )

    def _flight(self, due_s: float, now_ms: int) -> list[Report]:
        """A sortie's targets: each object in several frames, each time some metres elsewhere."""
        rng, uav = self._rng, self._numbers.uav
        flight = f"F{self._id()}"
        reports: list[Report] = []
        targets = count(1)
        # It flies over one neighbourhood.
        places = iter(self._world.near(next(self._world.places), self._sortie))
        while len(reports) < self._sortie:
            kind = self._targets.draw(rng)
            matter = self._world.matter(self._codes["uav"].get(kind, ""), next(places))
            first = rng.randrange(1, 500)
            for frame in range(rng.randrange(uav.frames[0], uav.frames[1] + 1)):
                if len(reports) >= self._sortie:
                    break
                native = self._target(flight, first + frame, next(targets), kind, matter, now_ms)
                named = native["properties"]
                identity = f"{flight}/{named['frame']}/{named['target_no']}"
                defects = ("same_object",) if frame else ()
                reports.append(
                    Report(due_s, "uav", identity, 0, native, (matter,), True, defects, flight)
                )
        self._owed["uav"] += len(reports) - 1
        return reports

    def _target(
        self, flight: str, frame: int, number: int, kind: str, matter: Matter, now_ms: int
    ) -> Native:
        rng = self._rng
        away, turn = rng.uniform(*self._numbers.uav.offset_m), rng.uniform(0.0, 2 * math.pi)
        lon = matter.place.cgcs2000[0] + away * math.cos(turn) / METRES_PER_DEGREE
        lat = matter.place.cgcs2000[1] + away * math.sin(turn) / METRES_PER_DEGREE
        half = FOOTPRINT_M / METRES_PER_DEGREE
        west, east = round(lon - half, 7), round(lon + half, 7)
        south, north = round(lat - half, 7), round(lat + half, 7)
        ring: list[Any] = [[west, south], [east, south], [east, north], [west, north]]
        word = self._words.uav[kind]
        return {
            "type": "Feature",
            "geometry": {"type": "Polygon", "coordinates": [[*ring, ring[0]]]},
            "properties": {
                "flight_id": flight,
                "frame": frame,
                "target_no": number,
                # Frames are two seconds apart, and the flight is over.
                "frame_time": self._clock.iso(now_ms - (600 - frame) * 2000),
                "ai_class": kind,
                "class_name": word,
                "description": word,
                "score": round(rng.uniform(0.4, 0.98), 2),
                "height_m": rng.randrange(80, 130),
                "image": {
                    "url": f"https://uav.invalid/{flight}/{frame}.jpg",
                    "sha256": f"{rng.getrandbits(256):064x}",
                },
            },
        }
