"""The merge policy: which reports are about one matter. Data that a city writes or learns from its links.

``merge.yaml`` of a city pack, or a file of ``quanyu train dedupe``. A class is a code of the taxonomy, for
which the longest prefix that is named counts, or any other label.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator

from schemas.city import CityPack
from schemas.documents import read_document

MAX_HOURS = 24.0 * 90
T = TypeVar("T")


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Weights(_Model):
    """What nearness in place, nearness in time and likeness of words are worth; together at most 1."""

    place: float = Field(default=0.6, ge=0, le=1)
    delay: float = Field(default=0.15, ge=0, le=1)
    text: float = Field(default=0.25, ge=0, le=1)

    @model_validator(mode="after")
    def _a_share(self) -> "Weights":
        if not 0 < self.place + self.delay + self.text <= 1.000001:
            raise ValueError("place, delay and text must add up to more than 0 and at most 1")
        return self


class Alarm(_Model):
    """How alarms of one device follow each other.

    ``state`` lasts (ponding, blocked fire lane): an alarm at most ``minutes`` after the one before says
    that it is still open. ``event`` happens (an e-bike in a lift): only within ``minutes`` of the first
    is it the same. ``lasting`` happens and goes on (a fire): the device's own alarms follow each other as those
    of a state do, another device's as those of an event. Devices stand still and know where: alarms of two are
    one matter only within ``radius_m``, which counts where it is less than the class's.
    """

    kind: Literal["state", "event", "lasting"] = "state"
    minutes: float = Field(default=30.0, gt=0, le=24 * 60)
    radius_m: float = Field(default=50.0, gt=0, le=2000)


class Rule(_Model):
    """When two reports of a class are one matter.

    ``radius_m`` metres and ``hours`` are counted from the report that opened the event, so that events do not
    grow along a street or through a season. ``mode`` *point*: the radius between two points, or the same house
    or name of a place within what a tapped spot is off; *address*: the same building by its normalised
    address, the radius only where one of the two names none; *never*: only what is certain joins (a hand-over,
    the same photo, the same long text, the same alarm).
    """

    mode: Literal["point", "address", "never"] = "point"
    radius_m: float = Field(default=100.0, gt=0, le=2000)
    hours: float = Field(default=72.0, gt=0, le=MAX_HOURS)
    join: float = Field(default=0.3, ge=0, le=1, description="Score from which a report joins.")
    review: float = Field(
        default=0.2, ge=0, le=1, description="Score from which a person is asked."
    )
    weights: Weights = Weights()
    alarm: Alarm = Alarm()

    @model_validator(mode="after")
    def _in_order(self) -> "Rule":
        if self.review > self.join:
            raise ValueError("review must not be above join")
        return self


class Burst(_Model):
    """When near events are one incident (群体聚集): many matters of one cause, as an outage or a flood has.

    ``events`` or more of the ``classes`` (code prefixes, or other labels) that opened within ``hours`` and
    ``radius_m`` metres of one of them. An incident takes in what opens within both of its first event; each
    event is still handled by itself.
    """

    classes: list[str] = Field(min_length=1)
    events: int = Field(default=3, ge=2, le=1000)
    radius_m: float = Field(default=1000.0, gt=0, le=10_000)
    hours: float = Field(default=6.0, gt=0, le=48)


class Park(_Model):
    """Which orders wait for a person, because their event may be one that is known (待人工派遣).

    Only those of classes of these ``levels`` (taxonomy: 1 特急, 2 紧急, 3 一般), none whose deadline runs in
    urgent hours (紧急工作时), and none of which a report's words tell of danger: they are dispatched at once.
    What nobody answered is dispatched ``minutes`` after the event opened, or when its time for dispatch
    (派遣时限) is over, if that is earlier. 0: none waits.
    """

    minutes: float = Field(default=30.0, ge=0, le=24 * 60)
    levels: list[int] = Field(default=[2, 3])

    @model_validator(mode="after")
    def _levels(self) -> "Park":
        unknown = next((level for level in self.levels if level not in (1, 2, 3)), None)
        if unknown is not None:
            raise ValueError(f"levels: {unknown} is none of 1, 2, 3")
        return self


class MergePolicy(_Model):
    """Rules by class prefix, and what holds for all classes."""

    version: str = Field(default="merge-6", max_length=60, description="Kept with every link.")
    default: Rule = Rule()
    classes: dict[str, Rule] = Field(default_factory=dict)
    alike: list[list[str]] = Field(
        default_factory=list, description="Classes under which one matter is reported."
    )
    body_characters: int = Field(
        default=25,
        ge=10,
        description="The same text of at least so many characters is the same matter.",
    )
    body_days: float = Field(default=365.0, gt=0, le=3660)
    part: list[str] = Field(
        default_factory=list,
        description="Words that say that only one dwelling of a building is concerned.",
    )
    bursts: list[Burst] = Field(
        default_factory=list, description="Which events together are an incident."
    )
    park: Park = Park()

    @model_validator(mode="after")
    def _named_once(self) -> "MergePolicy":
        bursts = [burst.classes for burst in self.bursts]
        for name, groups in (("alike", self.alike), ("bursts", bursts)):
            codes = [code for group in groups for code in group]
            twice = next((code for code in codes if codes.count(code) > 1), None)
            if twice:
                raise ValueError(f"{name} names {twice} twice")
        return self

    def rule(self, class_code: str) -> Rule:
        """The rule of a class; of a label that is no code, only its own."""
        return _longest(self.classes, class_code) or self.default

    def burst(self, class_code: str) -> int | None:
        """Which of ``bursts`` a class belongs to, None for none; of a label that is no code, only its own."""
        named = {code: n for n, burst in enumerate(self.bursts) for code in burst.classes}
        return _longest(named, class_code)


def _longest(named: Mapping[str, T], class_code: str) -> T | None:
    """What is said of the longest prefix that is named; of a label that is no code, of it alone."""
    if not class_code.isdigit():
        return named.get(class_code)
    for length in range(len(class_code), 0, -1):
        found = named.get(class_code[:length])
        if found is not None:
            return found
    return None


def read_policy(path: Path) -> MergePolicy:
    """Read a policy file; :class:`schemas.errors.QuanyuError` names file, line and field at fault."""
    return read_document(path, MergePolicy)


def city_policy(city: CityPack) -> MergePolicy:
    """The city's ``merge.yaml``; without one, radius and hours of its ``city.yaml``."""
    path = city.folder / "merge.yaml"
    if path.exists():
        return read_policy(path)
    default, classes = city.merge.default, city.merge.classes
    return MergePolicy(
        default=Rule(radius_m=default.radius_m, hours=default.hours),
        classes={
            code: Rule(radius_m=rule.radius_m, hours=rule.hours) for code, rule in classes.items()
        },
    )


def write_policy(path: Path, policy: MergePolicy, comment: str) -> None:
    """Write a policy file, ``comment`` above it; what equals the defaults is left out."""
    document = policy.model_dump(mode="json", exclude_defaults=True)
    document = {"version": policy.version} | document
    head = "".join(f"# {line}\n" for line in comment.splitlines())
    body = yaml.safe_dump(document, allow_unicode=True, sort_keys=False, default_flow_style=None)
    path.write_text(head + body, encoding="utf-8")
