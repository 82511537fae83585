"""The city pack: everything about one city that is data and not code.

A pack is a folder below ``deploy/cities`` (or any path); ``deploy/cities/README.md`` says what it holds.
It is validated on load; errors name file, line, field and remedy. What needs all grids (containment,
gaps) is ``quanyu city check``.
"""

import csv
import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, time
from functools import cache, cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

from schemas.cache import cache_dir
from schemas.coordinates import TO_CGCS2000, Floats, Pair, Plane
from schemas.documents import read_document
from schemas.duty import Centre, Condition, Level, Word, Worker, read_shifts
from schemas.errors import QuanyuError
from schemas.grids import LEVELS, SPECIAL, GridLayer, Grids, is_code, level_of, read_layer
from schemas.instants import known_zone

T = TypeVar("T")

CITIES_DIR = Path(__file__).parent.parent / "deploy" / "cities"

#: urgent_hour runs round the clock, work_hour and work_day in the calendar's work time, natural_day by
#: the calendar (codes after the state tables of a real city-management system, GB/T 30428.8 style).
DeadlineUnit = Literal["urgent_hour", "work_hour", "work_day", "natural_day"]
UNITS: dict[str, DeadlineUnit] = {
    "uh": "urgent_hour",
    "wh": "work_hour",
    "wd": "work_day",
    "nd": "natural_day",
}
DEADLINE = re.compile(r"\A(?P<value>\d+(?:\.\d+)?)(?P<unit>min|uh|wh|wd|nd)\Z")
#: The class of what nobody could classify: it goes to review.
UNCLASSIFIED = "2999"

#: Part of the generated layers' identity: the same inputs give the same bytes within one version.
GENERATOR = 1
#: Written last into a folder of generated layers: what lies beside it is complete.
MANIFEST = "manifest.json"


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class MergeRule(_Model):
    """How near in place and time two reports of a class are one matter."""

    radius_m: float = Field(gt=0, le=2000)
    hours: float = Field(gt=0, le=24 * 90, description="Since the event's last report.")


class MergePolicy(_Model):
    """Merge rules; the longest class prefix that is named counts."""

    default: MergeRule
    classes: dict[str, MergeRule] = Field(default_factory=dict)

    def rule(self, class_code: str) -> MergeRule:
        """The rule of a class."""
        for length in range(len(class_code), 0, -1):
            found = self.classes.get(class_code[:length])
            if found:
                return found
        return self.default


class TrainedClassifier(_Model):
    """A model of ``quanyu train classify`` in service, and from which probability on it decides alone.

    The default threshold is measured: of citizens' letters in seven classes that a model of 2,000 has not
    seen, 88 in 100 pass, 95 in 100 of them rightly; of those between 0.6 and 0.7 only three in four are right.
    """

    model: Path = Field(description="Beside city.yaml, or absolute; its labels are taxonomy codes.")
    threshold: float = Field(
        default=0.7, ge=0, le=1, description="Below it a person chooses among the best three."
    )


class TagRules(_Model):
    """``tags.yaml``: the words by which a report is tagged beside its class; without the file, no tags."""

    intents: dict[str, list[Word]] = Field(
        default_factory=dict, description="What the reporter wants → its words."
    )
    default_intent: str = Field(default="", description="When no word of any intent occurs.")
    urgent: list[Word] = Field(default_factory=list)
    sensitive: dict[str, list[Word]] = Field(
        default_factory=dict, description="Subject that few should read, or at once → its words."
    )


class Department(_Model):
    """A department: one for the city, or one in each district."""

    code: str = Field(pattern=r"^[A-Z]{2}$")
    level: Literal["city", "district"]


class Fallback(_Model):
    """属地兜底: who takes what no rule gives to anybody."""

    name: str
    code: str = Field(pattern=r"^[A-Z]{2}$")


class Area(_Model):
    """A functional zone with a statistical code of its own."""

    name: str
    aliases: list[str] = Field(default_factory=list)


class Calendar(_Model):
    """Work time: windows of a work day, weekend days (ISO, 7 = Sunday), holidays, 调休 work days."""

    hours: list[tuple[time, time]] = Field(min_length=1)
    weekend: list[int] = Field(default_factory=lambda: [6, 7])
    holidays: frozenset[date] = frozenset()
    workdays: frozenset[date] = frozenset()

    @field_validator("hours")
    @classmethod
    def _in_order(cls, hours: list[tuple[time, time]]) -> list[tuple[time, time]]:
        flat = [instant for window in hours for instant in window]
        if flat != sorted(flat) or len(set(flat)) != len(flat):
            raise ValueError("windows must not overlap and must come in order")
        return hours

    def is_workday(self, day: date) -> bool:
        """Whether work is done on a day of the city."""
        return day in self.workdays or (
            day.isoweekday() not in self.weekend and day not in self.holidays
        )

    @cached_property
    def years(self) -> frozenset[int]:
        """The years that are known: those with at least one holiday. Of others work time is a guess."""
        return frozenset(day.year for day in self.holidays)


class TimeLimit(NamedTuple):
    """How long something may take (时限)."""

    value: float
    unit: DeadlineUnit

    @classmethod
    def read(cls, text: str) -> "TimeLimit":
        """As packs write it: ``5min`` (round the clock), ``2uh``, ``4wh``, ``7wd``, ``15nd``; ValueError."""
        found = DEADLINE.match(text)
        if not found:
            raise ValueError(f"{text!r}; write e.g. 5min, 2uh, 4wh, 7wd, 15nd")
        if found["unit"] == "min":
            return cls(float(found["value"]) / 60, "urgent_hour")
        return cls(float(found["value"]), UNITS[found["unit"]])


def _limit(value: Any) -> Any:
    return TimeLimit.read(value) if isinstance(value, str) else value


_Limit = Annotated[TimeLimit, BeforeValidator(_limit)]
_Limits = Mapping[int, _Limit]


def _limits(red: str, urgent: str, normal: str) -> _Limits:
    return {1: TimeLimit.read(red), 2: TimeLimit.read(urgent), 3: TimeLimit.read(normal)}


class StageTimes(_Model):
    """Times of the stages (受理, 派遣, 签收, 核查) by level of the class: 1 red, 2 urgent, 3 normal.

    Handling (处置) takes what the duty rule says. Sources of the defaults: review in 5 minutes as in
    Zhoukou's rule for direct dispatch; dispatch within 1 h, 2 h or 24 h by Beijing's local standard of 2023
    for its hotline; first response within 30 minutes to 2 h where a fault or danger is reported, by the rule
    of 2017 for a provincial capital's telephone of its mayor. Signing in 4 work hours and all times of the
    check are ours.
    """

    accept: _Limits = _limits("5min", "5min", "5min")
    dispatch: _Limits = _limits("1uh", "2uh", "24uh")
    sign: _Limits = _limits("0.5uh", "2uh", "4wh")
    check: _Limits = _limits("4uh", "1wd", "2wd")

    @field_validator("*")
    @classmethod
    def _whole(cls, limits: _Limits) -> _Limits:
        if set(limits) != {1, 2, 3} or not all(limit.value > 0 for limit in limits.values()):
            raise ValueError("write a time above 0 for each level: {1: 5min, 2: 2uh, 3: 4wh}")
        return limits


class KpiWeights(_Model):
    """三率: the weights of the composite score; they sum to 1."""

    response: float = Field(default=0.3, ge=0, le=1, description="响应率: first contact in time.")
    resolution: float = Field(default=0.35, ge=0, le=1, description="解决率.")
    satisfaction: float = Field(default=0.35, ge=0, le=1, description="满意率.")

    @model_validator(mode="after")
    def _whole(self) -> "KpiWeights":
        total = self.response + self.resolution + self.satisfaction
        if abs(total - 1.0) > 1e-9:
            raise ValueError(f"the weights sum to {total:g}; they must sum to 1")
        return self


class SyntheticNames(_Model):
    """Parts of which the names of generated grids are put together."""

    compound_urban: list[str] = Field(min_length=1)
    compound_rural: list[str] = Field(min_length=1)
    again: str = Field(description="A name that stands a second time: {name} and {n}.")
    micro: str = Field(description="{n} counts within the compound.")
    special: list[str] = Field(min_length=1, description="What follows the community's short name.")
    short: list[str] = Field(
        default_factory=list, description="Endings that a community's short name lacks."
    )


def _known_levels(by_level: dict[str, T]) -> dict[str, T]:
    for level in by_level:
        if level not in (*LEVELS, SPECIAL):
            raise ValueError(f"no level {level!r}; levels are {', '.join((*LEVELS, SPECIAL))}")
    return by_level


class SyntheticStaff(_Model):
    """A demonstration roster: one person for each grid of ``roles``, the rest helps in compounds."""

    total: int = Field(ge=0, le=10_000_000)
    roles: dict[str, str] = Field(description="Level → what its one person is called.")
    helper: str = Field(description="What everybody else is called.")
    person: str = Field(description="Every name begins so: nobody may take them for real.")

    @field_validator("roles")
    @classmethod
    def _levels(cls, roles: dict[str, str]) -> dict[str, str]:
        return _known_levels(roles)


class Synthesis(_Model):
    """What ``quanyu city build`` generates below the finest level that the pack ships."""

    seed: int
    valid_from: date
    centres: dict[str, tuple[float, float]] = Field(
        default_factory=dict,
        description="District → where its grids are smallest (CGCS2000 degrees); else its middle.",
    )
    urban: list[str] = Field(
        default_factory=list, description="Words in the names of built-up communities."
    )
    urban_weight: float = Field(
        default=3.0,
        ge=1,
        le=20,
        description="Micro-grids of a built-up community for one of another.",
    )
    names: SyntheticNames
    staff: SyntheticStaff | None = None


class _CityFile(_Model):
    code: str = Field(pattern=r"^\d{6}$")
    name: str
    time_zone: str
    plane: Plane | None = None
    counts: dict[str, int] = Field(
        default_factory=dict,
        description="Level → how many grids: so many are generated, `quanyu city check` compares.",
    )
    synthesis: Synthesis | None = None
    zones: dict[str, list[str]] = Field(default_factory=dict)
    areas: dict[str, Area] = Field(default_factory=dict)
    merge: MergePolicy
    classifier: TrainedClassifier | None = None
    departments: dict[str, Department]
    fallback: Fallback
    partners: list[str] = Field(
        default_factory=list, description="Who helps or is called but has no unit of its own."
    )
    conditions: dict[str, Condition] = Field(
        default_factory=dict, description="Conditions of the duty list, by their names."
    )
    stages: StageTimes = StageTimes()
    kpi: KpiWeights = KpiWeights()
    calendar: Calendar

    @field_validator("counts")
    @classmethod
    def _levels(cls, counts: dict[str, int]) -> dict[str, int]:
        return _known_levels(counts)

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, name: str) -> str:
        return known_zone(name)


@dataclass(frozen=True, slots=True)
class TaxonomyClass:
    """One subclass of the event taxonomy (事件小类)."""

    code: str
    name: str
    class_name: str
    departments: tuple[str, ...]
    deadline: float
    unit: DeadlineUnit
    level: int
    keywords: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Street:
    """A street (街道, 镇, 乡) by its nine-digit code."""

    code: str
    name: str
    district: str
    synthetic: bool = False


@dataclass(frozen=True, slots=True)
class Community:
    """A community or village (社区, 村) by its twelve-digit code."""

    code: str
    name: str
    street: str
    synthetic: bool = False


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit of the city's steering (一级 below the city's centre): whole districts and single streets.

    The second view beside the statistical codes: a zone without a code of its own is a unit whose
    streets carry the codes of others. ``parent``: the unit above it; empty: the city.
    """

    code: str
    name: str
    aliases: tuple[str, ...]
    members: tuple[str, ...]
    parent: str = ""


@dataclass(frozen=True, slots=True)
class Named:
    """An entry of the gazetteer: a place, road, park … and the finest grid that surely holds it."""

    name: str
    kind: str
    code: str

    @property
    def level(self) -> str:
        """Level of the grid."""
        return level_of(self.code)


@dataclass(frozen=True, slots=True)
class DutyRule:
    """A line of the duty list (责任清单): who takes a class, where and under which condition.

    ``class_code``: of a class, or its first two digits for all that begin so. ``condition`` empty: always;
    ``area`` empty: the whole city, else the prefix of its grids' codes. ``level`` says whose instance of
    the department it is. ``partners`` help (协办).
    """

    line: int
    class_code: str
    condition: str
    area: str
    department: str
    level: Level
    deadline: float
    unit: DeadlineUnit
    closed_when: str
    partners: tuple[str, ...]


@dataclass(frozen=True)
class CityPack:
    """One city, loaded and validated; its grids are read when they are asked for."""

    code: str
    name: str
    time_zone: str
    districts: GridLayer
    streets: tuple[Street, ...]
    communities: tuple[Community, ...]
    areas: Mapping[str, Area]
    units: Mapping[str, Unit]
    gazetteer: tuple[Named, ...]
    aliases: Mapping[str, str]
    classes: Mapping[str, TaxonomyClass]
    duties: tuple[DutyRule, ...]
    conditions: Mapping[str, Condition]
    stages: StageTimes
    staff: tuple[Worker, ...] | None
    zone_of: Mapping[str, str]
    merge: MergePolicy
    classifier: TrainedClassifier | None
    tags: TagRules
    departments: Mapping[str, Department]
    fallback: Fallback
    kpi: KpiWeights
    calendar: Calendar
    plane: Plane | None
    synthesis: Synthesis | None
    counts: Mapping[str, int]
    folder: Path

    @property
    def district_names(self) -> frozenset[str]:
        """Names of the districts and functional zones."""
        return frozenset(self._district_names.values())

    def district_name(self, code: str) -> str:
        """Name of a district or functional zone; the code itself when it is unknown."""
        return self._district_names.get(code, code)

    @cached_property
    def _district_names(self) -> dict[str, str]:
        names = {code: area.name for code, area in self.areas.items()}
        return names | dict(zip(self.districts.codes.tolist(), self.districts.names, strict=True))

    def unit_of(self, code: str) -> Unit | None:
        """The unit of a grid by its code; a street that is named by itself goes before its district."""
        by_member = self._unit_by_member
        return by_member.get(code[: LEVELS["street"]]) or by_member.get(code[: LEVELS["district"]])

    @cached_property
    def _unit_by_member(self) -> dict[str, Unit]:
        return {member: unit for unit in self.units.values() for member in unit.members}

    @cached_property
    def centres(self) -> Mapping[str, Centre]:
        """The tree of centres by code: the city's, below it the units', below those the streets'."""
        units = dict(self.units)
        members = self._unit_by_member
        for code in (*self.districts.codes.tolist(), *self.areas):
            if code not in members:
                units.setdefault(code, Unit(code, self.district_name(code), (), (code,)))
        found = {self.code: Centre(self.code, self.name, "city", "")}
        for unit in units.values():
            found[unit.code] = Centre(unit.code, unit.name, "district", unit.parent or self.code)
        for street in self.streets:
            above = self.unit_of(street.code)
            parent = found[above.code if above else street.district]
            name = street.name if street.name.startswith(parent.name) else parent.name + street.name
            found[street.code] = Centre(street.code, name, "street", parent.code)
        return found

    def centre_of(self, code: str) -> Centre:
        """The finest centre round a grid or district by its code; the city's when the code is unknown."""
        centres = self.centres
        street = centres.get(code[: LEVELS["street"]])
        if street is not None:
            return street
        unit = self.unit_of(code)
        return centres.get(unit.code if unit else code[: LEVELS["district"]], centres[self.code])

    def above(self, code: str) -> Iterator[Centre]:
        """A centre and those above it, up to the city's."""
        centre: Centre | None = self.centres[code]
        while centre is not None:
            yield centre
            centre = self.centres.get(centre.parent)

    @cached_property
    def below(self) -> Mapping[str, tuple[Centre, ...]]:
        """The centres directly below each one, by code: for roll-ups."""
        found: dict[str, tuple[Centre, ...]] = dict.fromkeys(self.centres, ())
        for centre in self.centres.values():
            if centre.parent:
                found[centre.parent] += (centre,)
        return found

    @cached_property
    def special_names(self) -> Mapping[str, str]:
        """Names of the special grids in force; :class:`QuanyuError` when the grids are not built."""
        return {code: name for code, name, _ in self.grids.names(SPECIAL)}

    @cached_property
    def systems(self) -> Mapping[str, Callable[[Floats, Floats], Pair]]:
        """CRS → its coordinates to CGCS2000 degrees; with the city's own plane when it has one."""
        return TO_CGCS2000 | ({"CITY": self.plane.to_cgcs2000} if self.plane else {})

    @property
    def shipped(self) -> dict[str, Path]:
        """Level → the pack's own layer."""
        layers = {level: self.folder / "grids" / f"{level}.geojson" for level in (*LEVELS, SPECIAL)}
        layers["district"] = self.folder / "districts.geojson"
        return {level: path for level, path in layers.items() if path.exists()}

    @property
    def base(self) -> str:
        """Finest geographic level that the pack ships without a gap in the order of levels."""
        shipped, base = self.shipped, "district"
        for level in LEVELS:
            if level not in shipped:
                break
            base = level
        return base

    def own_layer(self, level: str) -> GridLayer:
        """A layer that the pack ships."""
        return self.districts if level == "district" else read_layer(self.shipped[level], level)

    @property
    def generated(self) -> Path:
        """Where the layers generated from the pack as it is now lie, or will lie."""
        assert self.synthesis is not None, "only asked for when something is generated"
        digest = hashlib.sha256()
        shipped = self.shipped
        inputs = [self.folder / "streets.csv", self.folder / "communities.csv", *shipped.values()]
        for path in inputs:
            content = path.read_bytes() if path.exists() else b""
            digest.update(f"{path.name}:{len(content)}:".encode() + content)
        rest = [GENERATOR, sorted(shipped), self.counts, self.synthesis.model_dump(mode="json")]
        digest.update(json.dumps(rest, sort_keys=True, ensure_ascii=False).encode())
        return cache_dir() / "cities" / f"{self.code}-{digest.hexdigest()[:16]}"

    @cached_property
    def grids(self) -> Grids:
        """All levels; :class:`QuanyuError` says which command generates those that are not there yet."""
        files = dict(self.shipped)
        if self.synthesis is None:
            return Grids(files)
        folder = self.generated
        if not (folder / MANIFEST).exists():
            raise QuanyuError(
                f"the grids of {self.name} are not built; run: quanyu city build {self.argument}"
            )
        base = self.base
        for level in LEVELS:
            if LEVELS[level] >= LEVELS[base]:
                files[level] = folder / f"{level}.parquet"
        if SPECIAL not in files:
            files[SPECIAL] = folder / f"{SPECIAL}.parquet"
        return Grids(files, whole_from=base)

    @property
    def argument(self) -> str:
        """What names this pack on the command line."""
        return self.folder.name if self.folder.parent == CITIES_DIR else str(self.folder)


def city_folder(city: str) -> Path:
    """Folder of a pack named below deploy/cities, or given as a path."""
    named = CITIES_DIR / city
    folder = named if named.is_dir() else Path(city)
    if not (folder / "city.yaml").exists():
        known = ", ".join(sorted(path.parent.name for path in CITIES_DIR.glob("*/city.yaml")))
        raise QuanyuError(f"QUANYU_CITY={city}: no pack of that name or path; known: {known}")
    return folder


@cache
def load_city(city: str) -> CityPack:
    """Load a pack by name or path; :class:`QuanyuError` names what is wrong in it."""
    folder = city_folder(city)
    file = read_document(folder / "city.yaml", _CityFile)
    districts = read_layer(folder / "districts.geojson", "district")
    codes = {grid.code for grid in districts.grids} | file.areas.keys()
    zone_of = {code: code for code in codes}
    for zone, members in file.zones.items():
        for member in members:
            if member not in codes:
                raise QuanyuError(f"{folder}/city.yaml: zones.{zone}: no district {member}")
            zone_of[member] = zone
    streets = _streets(folder / "streets.csv", codes)
    communities = _communities(folder / "communities.csv", {street.code for street in streets})
    known = {*codes, *(street.code for street in streets), *(place.code for place in communities)}
    units = _units(folder / "units.csv", known, file.code)
    gazetteer = _gazetteer(folder / "gazetteer.csv", known)
    names = {*districts.names, *(area.name for area in file.areas.values())}
    names.update(street.name for street in streets)
    names.update(place.name for place in communities)
    names.update(unit.name for unit in units.values())
    names.update(entry.name for entry in gazetteer)
    classes = _taxonomy(folder / "taxonomy.csv")
    return CityPack(
        code=file.code,
        name=file.name,
        time_zone=file.time_zone,
        districts=districts,
        streets=streets,
        communities=communities,
        areas=file.areas,
        units=units,
        gazetteer=gazetteer,
        aliases=_aliases(folder / "aliases.csv", names),
        classes=classes,
        duties=_duties(folder / "duty.csv", file, classes, known),
        conditions=file.conditions,
        stages=file.stages,
        staff=_staff(folder / "staff.csv", known),
        zone_of=zone_of,
        merge=file.merge,
        classifier=file.classifier,
        tags=_tags(folder / "tags.yaml"),
        departments=file.departments,
        fallback=file.fallback,
        kpi=file.kpi,
        calendar=file.calendar,
        plane=file.plane,
        synthesis=file.synthesis,
        counts=file.counts,
        folder=folder,
    )


def _tags(path: Path) -> TagRules:
    return read_document(path, TagRules) if path.exists() else TagRules()


def _rows(path: Path, columns: tuple[str, ...]) -> list[tuple[int, dict[str, str]]]:
    """Line number and cells of a table that must have ``columns``."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as handle:
            reader = csv.DictReader(handle)
            missing = [name for name in columns if name not in (reader.fieldnames or [])]
            if missing:
                raise QuanyuError(f"{path}:1: column {missing[0]} is missing")
            rows = []
            for row in reader:
                short = next((name for name in columns if row[name] is None), None)
                if short:
                    raise QuanyuError(f"{path}:{reader.line_num}: {short}: the line ends before it")
                rows.append((reader.line_num, row))
            return rows
    except FileNotFoundError:
        raise QuanyuError(f"{path} is missing; see deploy/cities/README.md") from None
    except UnicodeDecodeError as error:
        raise QuanyuError(f"{path}: not UTF-8 at byte {error.start}") from None


def _optional(path: Path, columns: tuple[str, ...]) -> list[tuple[int, dict[str, str]]]:
    return _rows(path, columns) if path.exists() else []


def _streets(path: Path, districts: set[str]) -> tuple[Street, ...]:
    rows = _rows(path, ("code", "name", "district"))
    return tuple(Street(*place) for place in _places(path, rows, "street", "district", districts))


def _communities(path: Path, streets: set[str]) -> tuple[Community, ...]:
    rows = _optional(path, ("code", "name", "street"))
    return tuple(Community(*place) for place in _places(path, rows, "community", "street", streets))


def _places(
    path: Path, rows: list[tuple[int, dict[str, str]]], level: str, parent: str, parents: set[str]
) -> Iterator[tuple[str, str, str, bool]]:
    """Code, name, code of the parent, whether it is synthetic; the column ``parent`` names the parent."""
    seen: set[str] = set()
    for line, row in rows:
        code, where = row["code"], f"{path}:{line}"
        if not is_code(code, level):
            raise QuanyuError(f"{where}: code: {code!r} is not {LEVELS[level]} digits")
        if code in seen:
            raise QuanyuError(f"{where}: code: {code} stands twice")
        if row[parent] not in parents:
            raise QuanyuError(f"{where}: {parent}: no {parent} {row[parent]}")
        if not code.startswith(row[parent]):
            raise QuanyuError(
                f"{where}: code: {code} does not begin with its {parent} {row[parent]}"
            )
        if not row["name"].strip():
            raise QuanyuError(f"{where}: name: is empty")
        synthetic = row.get("synthetic") or ""
        if synthetic not in ("", "0", "1"):
            raise QuanyuError(f"{where}: synthetic: {synthetic!r}; write 1 or nothing")
        seen.add(code)
        yield code, row["name"], row[parent], synthetic == "1"


def _units(path: Path, known: set[str], city: str) -> dict[str, Unit]:
    units: dict[str, Unit] = {}
    taken: dict[str, str] = {}
    lines: dict[str, int] = {}
    for line, row in _optional(path, ("code", "name", "aliases", "members")):
        where = f"{path}:{line}"
        if not re.fullmatch(r"[0-9A-Z]{2,12}", row["code"]) or row["code"] in units:
            raise QuanyuError(
                f"{where}: code: {row['code']!r} must be 2 to 12 capitals or digits and stand once"
            )
        if row["code"] == city or (row["code"] in known and level_of(row["code"]) != "district"):
            raise QuanyuError(f"{where}: code: {row['code']} is that of another place; choose one")
        parent = row.get("parent") or ""
        unit = Unit(
            row["code"], row["name"], _split(row["aliases"]), _split(row["members"]), parent
        )
        lines[unit.code] = line
        if not unit.members:
            raise QuanyuError(f"{where}: members: is empty; name districts or streets by code")
        for member in unit.members:
            if level_of(member) not in ("district", "street") or member not in known:
                raise QuanyuError(f"{where}: members: no district or street {member}")
            if member in taken:
                raise QuanyuError(f"{where}: members: {member} is in {taken[member]} already")
            taken[member] = unit.code
        units[unit.code] = unit
    for code, unit in units.items():
        where, way = f"{path}:{lines[code]}", [code]
        while unit.parent:
            if unit.parent not in units:
                raise QuanyuError(
                    f"{where}: parent: no unit {unit.parent}; name one of this table, or none for the city"
                )
            way.append(unit.parent)
            if way.count(unit.parent) > 1:
                raise QuanyuError(
                    f"{where}: parent: a cycle, {' → '.join(way)}; let one of them have none"
                )
            unit = units[unit.parent]
    return units


def _staff(path: Path, known: set[str]) -> tuple[Worker, ...] | None:
    """The grid workers; None without a table."""
    if not path.exists():
        return None
    staff: dict[str, Worker] = {}
    for line, row in _rows(path, ("staff_id", "grid_code", "shifts", "max_load")):
        where, staff_id, code = f"{path}:{line}", row["staff_id"], row["grid_code"]
        if not re.fullmatch(r"[0-9A-Za-z_-]{1,40}", staff_id) or staff_id in staff:
            raise QuanyuError(
                f"{where}: staff_id: {staff_id!r} must be 1 to 40 letters, digits, - or _ and stand once"
            )
        if not level_of(code) or code[: LEVELS["street"]] not in known:
            raise QuanyuError(
                f"{where}: grid_code: no grid {code!r}; write the code of a district or finer"
            )
        try:
            shifts = read_shifts(row["shifts"])
        except ValueError as error:
            raise QuanyuError(f"{where}: shifts: {error}") from None
        if not re.fullmatch(r"[1-9]\d{0,5}", row["max_load"]):
            raise QuanyuError(
                f"{where}: max_load: {row['max_load']!r}; write how many open orders at most, 1 or more"
            )
        staff[staff_id] = Worker(staff_id, code, shifts, int(row["max_load"]))
    return tuple(staff.values())


def _gazetteer(path: Path, known: set[str]) -> tuple[Named, ...]:
    entries = []
    seen: set[tuple[str, str]] = set()
    for line, row in _optional(path, ("name", "kind", "level", "code")):
        where = f"{path}:{line}"
        if row["code"] not in known:
            raise QuanyuError(f"{where}: code: no district, street or community {row['code']}")
        if row["level"] != level_of(row["code"]):
            raise QuanyuError(
                f"{where}: level: {row['level']!r}; the code is one of a {level_of(row['code'])}"
            )
        if not row["name"].strip() or (row["name"], row["code"]) in seen:
            raise QuanyuError(f"{where}: name: {row['name']!r} is empty or stands twice there")
        seen.add((row["name"], row["code"]))
        entries.append(Named(row["name"], row["kind"], row["code"]))
    return tuple(entries)


def _aliases(path: Path, names: set[str]) -> dict[str, str]:
    """俗名 → 法定名."""
    aliases: dict[str, str] = {}
    for line, row in _optional(path, ("alias", "name")):
        where = f"{path}:{line}"
        if row["name"] not in names:
            raise QuanyuError(
                f"{where}: name: {row['name']!r} is in no list of names; add it to gazetteer.csv"
            )
        if not row["alias"].strip() or row["alias"] in aliases or row["alias"] in names:
            raise QuanyuError(
                f"{where}: alias: {row['alias']!r} is empty, stands twice or is a name itself"
            )
        aliases[row["alias"]] = row["name"]
    return aliases


def _duties(
    path: Path, file: _CityFile, classes: Mapping[str, TaxonomyClass], known: set[str]
) -> tuple[DutyRule, ...]:
    columns = ("class_code", "condition", "area", "department", "level", "deadline")
    leads = {*file.departments, file.fallback.name}
    helpers = {*leads, *file.partners}
    groups = {code[:2] for code in classes}
    rules = []
    seen: dict[tuple[str, str, str], int] = {}
    for line, row in _optional(path, (*columns, "closed_when", "partners")):
        where = f"{path}:{line}"
        value, unit = read_deadline(row["deadline"], where)
        partners = _split(row["partners"])
        stranger = next((name for name in partners if name not in helpers), None)
        if row["class_code"] not in classes and row["class_code"] not in groups:
            raise QuanyuError(
                f"{where}: class_code: no class {row['class_code']} in taxonomy.csv; "
                "write four digits, or two for all classes that begin so"
            )
        if row["condition"] and row["condition"] not in file.conditions:
            raise QuanyuError(
                f"{where}: condition: {row['condition']!r} is not among conditions of city.yaml"
            )
        if row["area"] and row["area"] not in known:
            raise QuanyuError(f"{where}: area: no district, street or community {row['area']}")
        if row["department"] not in leads:
            raise QuanyuError(
                f"{where}: department: {row['department']!r} is not among departments of city.yaml"
            )
        if row["level"] not in ("city", "district", "street"):
            raise QuanyuError(f"{where}: level: {row['level']!r} must be city, district or street")
        if not row["closed_when"].strip():
            raise QuanyuError(f"{where}: closed_when: is empty; say what must be seen to be done")
        if stranger:
            raise QuanyuError(
                f"{where}: partners: {stranger!r} is neither a department nor a partner of city.yaml"
            )
        key = row["class_code"], row["condition"], row["area"]
        if key in seen:
            raise QuanyuError(
                f"{where}: class_code: the same class, condition and area as line {seen[key]}"
            )
        seen[key] = line
        level: Level = row["level"]  # type: ignore[assignment]  # above
        rules.append(
            DutyRule(
                line, *key, row["department"], level, value, unit, row["closed_when"], partners
            )
        )
    return tuple(rules)


def read_deadline(text: str, where: str) -> TimeLimit:
    """A deadline as it is written in tables; ``where`` begins the :class:`QuanyuError`."""
    try:
        return TimeLimit.read(text)
    except ValueError as error:
        raise QuanyuError(f"{where}: deadline: {error}") from None


def _split(cell: str) -> tuple[str, ...]:
    return tuple(filter(None, cell.split("|")))


def _taxonomy(path: Path) -> dict[str, TaxonomyClass]:
    columns = ("code", "name", "class_name", "departments", "deadline", "level", "keywords")
    classes: dict[str, TaxonomyClass] = {}
    for line, row in _rows(path, columns):
        where = f"{path}:{line}"
        if not re.fullmatch(r"\d{4}", row["code"]) or row["code"] in classes:
            raise QuanyuError(f"{where}: code: {row['code']!r} must be four digits and stand once")
        deadline, unit = read_deadline(row["deadline"], where)
        if row["level"] not in ("1", "2", "3"):
            raise QuanyuError(f"{where}: level: {row['level']!r} must be 1, 2 or 3")
        classes[row["code"]] = TaxonomyClass(
            row["code"],
            row["name"],
            row["class_name"],
            _split(row["departments"]),
            deadline,
            unit,
            int(row["level"]),
            _split(row["keywords"]),
        )
    if UNCLASSIFIED not in classes:
        raise QuanyuError(f"{path}: class {UNCLASSIFIED} (unclassified, to review) is missing")
    return classes
