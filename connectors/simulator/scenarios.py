"""The simulated city's numbers and words, as read from their files, and the shape of its days."""

from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Literal
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field, model_validator

from schemas.documents import read_document
from schemas.errors import QuanyuError

FOLDER = Path(__file__).parent
PEOPLE = (
    *("hotline12345", "photo_app", "grid_patrol", "city_management"),
    *("online_window", "mailbox", "police110"),
)
SENSING = ("iot", "video_ai", "uav")
CHANNELS = (*PEOPLE, *SENSING)
#: Without a duration: a mean day; a storm as long as on 2021-07-20, which held for some six hours.
HORIZON_S, STORM_S = 24 * 3600.0, 6 * 3600.0

Share = Field(ge=0, le=1)
#: What can be wrong with one report of a person.
Defect = Literal[
    "no_point",
    "colloquial",
    "typing_error",
    "speech_error",
    "two_matters",
    "at_home",
    "wrong_crs",
    "null_point",
    "rounded",
    "outside",
    "clock_drift",
    "months_old",
]
#: How a matter that is known comes again; beside co_report each is a defect of its own.
Repeat = Literal[
    "co_report",
    "urge",
    "forwarded",
    "burst",
    "resent_photo",
    "resent",
    "revised",
    "shift_double",
    "pasted",
    "copied",
]
Behaviour = Literal["flapping", "stuck", "clock_drift", "no_clock", "late_batch"]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Standing(_Model):
    """Matters that many see: at most ``places``, and their share of the near-duplicates."""

    places: int = Field(ge=0)
    share: float = Share


class Surge(_Model):
    """Before (``lead``, share of the time), the storm (``hold``, ``factor`` as much), after it."""

    lead: float = Share
    hold: float = Share
    factor: float = Field(gt=1)
    after: float = Field(gt=0)


class Scenario(_Model):
    """What kind of day it is."""

    rates: dict[str, float]
    hourly: bool = False
    surge: Surge | None = None
    near_duplicates: float = Share
    standing: Standing
    classes: dict[str, float]
    only: list[str] = Field(
        default_factory=list, description="Channels that tell of these classes and of no own."
    )

    @model_validator(mode="after")
    def _every_channel(self) -> "Scenario":
        if set(self.rates) != set(CHANNELS):
            raise ValueError("rates: name each of " + ", ".join(CHANNELS))
        return self


class Category(_Model):
    """The class that a reporter chooses: how often there is one, and how often it is wrong."""

    given: float = Share
    wrong: float = Share


class Offline(_Model):
    """Reports that come together after work without a network."""

    share: float = Share
    size: int = Field(ge=2)


class Person(_Model):
    """How people report through a channel."""

    classes: dict[str, float] = Field(default_factory=dict)
    repeats: dict[Repeat, float]
    defects: dict[Defect, float]
    category: Category
    scatter_m: float
    exif: float = 0.0
    bd09: float = 0.0
    offline: Offline | None = None
    self_handled: float = 0.0


class Metric(_Model):
    """What a kind of sensor measures; below ``threshold`` it is normal."""

    weight: float
    unit: str
    low: float
    high: float
    threshold: float


class Iot(_Model):
    """Sensors."""

    devices: int = Field(ge=10)
    interval_s: float
    behaviours: dict[Behaviour, float]
    clears: float = Share
    standing: float = Share
    messages: dict[Literal["plain", "flapping", "stuck", "late_batch"], tuple[int, int]]
    metrics: dict[str, Metric]


class Kind(_Model):
    """What a camera's model finds: a state that lasts, or an event."""

    weight: float
    state: bool


class Video(_Model):
    """Cameras."""

    devices: int = Field(ge=10)
    interval_s: float
    firings: float
    clears: float = Share
    standing: float = Share
    gcj02: float = Share
    moved: float = Share
    kinds: dict[str, Kind]


class Uav(_Model):
    """Flights."""

    sortie_s: float
    frames: tuple[int, int]
    offset_m: tuple[float, float]
    kinds: dict[str, float]


class Numbers(_Model):
    """``scenarios.yaml``."""

    hours: list[float] = Field(min_length=24, max_length=24)
    weekdays: list[float] = Field(min_length=7, max_length=7)
    scenarios: dict[str, Scenario]
    people: dict[str, Person]
    outside_degrees: float
    clock_drift_s: tuple[float, float]
    delay_s: float
    iot: Iot
    video: Video
    uav: Uav

    def scenario(self, name: str) -> Scenario:
        """A scenario by its name; :class:`QuanyuError` lists the known ones."""
        if name not in self.scenarios:
            raise QuanyuError(f"no scenario {name!r}; known: {', '.join(self.scenarios)}")
        return self.scenarios[name]


class VideoWords(_Model):
    """What a camera's model calls what it finds."""

    major: str
    name: str


class Words(_Model):
    """``words.yaml``."""

    call: list[str]
    post: list[str]
    patrol: list[str]
    handled: list[str]
    case: list[str]
    form: list[str]
    letter: list[str]
    police: list[str]
    urge: list[str]
    second: list[str]
    boxes: list[str]
    alarm_kinds: list[str]
    reasons: list[str]
    near: list[str]
    called: list[str]
    kinds: list[str]
    homophones: dict[str, str]
    speech: dict[str, str]
    stations: dict[str, str]
    alarms: dict[str, str]
    over: str
    video: dict[str, VideoWords]
    uav: dict[str, str]


@cache
def load_numbers() -> Numbers:
    """The numbers; :class:`QuanyuError` names file, line and field."""
    return read_document(FOLDER / "scenarios.yaml", Numbers)


@cache
def load_words() -> Words:
    """The words; :class:`QuanyuError` names file, line and field."""
    return read_document(FOLDER / "words.yaml", Words)


def intensity(
    numbers: Numbers,
    scenario: Scenario,
    *,
    people: bool,
    zone: str,
    start_ms: int,
    duration: float | None,
    speed: float,
) -> Iterator[tuple[float, float]]:
    """Spans of real time as (end in s after the start, weight), the mean weight of the run being 1.

    Without ``duration`` the mean is that of a day or of a whole storm, and it goes on for ever. Devices
    know no time of day, but they know a storm.
    """
    if scenario.surge:
        return _surge(scenario.surge, duration or STORM_S / speed)
    if not (scenario.hourly and people):
        return iter([(float("inf"), 1.0)])
    horizon = duration or HORIZON_S / speed
    total, before = 0.0, 0.0
    for end, weight in _hours(numbers, zone, start_ms, speed):
        total += weight * (min(end, horizon) - before)
        before = end
        if end >= horizon:
            break
    mean = total / horizon
    return ((end, weight / mean) for end, weight in _hours(numbers, zone, start_ms, speed))


def _hours(
    numbers: Numbers, zone: str, start_ms: int, speed: float
) -> Iterator[tuple[float, float]]:
    local = ZoneInfo(zone)
    begin = start_ms / 1000.0
    at = begin
    while True:
        moment = datetime.fromtimestamp(at, UTC).astimezone(local)
        weight = numbers.hours[moment.hour] * numbers.weekdays[moment.weekday()]
        at += 3600.0 - moment.minute * 60 - moment.second - moment.microsecond / 1e6
        yield (at - begin) / speed, weight


def _surge(surge: Surge, horizon: float) -> Iterator[tuple[float, float]]:
    after = 1.0 - surge.lead - surge.hold
    mean = surge.lead + surge.hold * surge.factor + after * surge.after
    yield surge.lead * horizon, 1.0 / mean
    yield (surge.lead + surge.hold) * horizon, surge.factor / mean
    yield float("inf"), surge.after / mean
