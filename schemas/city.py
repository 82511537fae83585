"""The city pack: everything about one city that is data and not code.

A pack is a folder below ``deploy/cities`` (or any path): ``city.yaml``, ``taxonomy.csv``, ``streets.csv``,
``districts.geojson``. It is validated on load; errors name file, line, field and remedy.
"""

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, time
from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from schemas.documents import read_document
from schemas.errors import QuanyuError
from schemas.grids import GridLayer, read_layer
from schemas.instants import known_zone

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
DEADLINE = re.compile(r"\A(?P<value>\d+(?:\.\d+)?)(?P<unit>uh|wh|wd|nd)\Z")
#: The class of what nobody could classify: it goes to review.
UNCLASSIFIED = "2999"


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


class _CityFile(_Model):
    code: str = Field(pattern=r"^\d{6}$")
    name: str
    time_zone: str
    zones: dict[str, list[str]] = Field(default_factory=dict)
    areas: dict[str, Area] = Field(default_factory=dict)
    merge: MergePolicy
    departments: dict[str, Department]
    fallback: Fallback
    calendar: Calendar

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


@dataclass(frozen=True, slots=True)
class CityPack:
    """One city, loaded and validated."""

    code: str
    name: str
    time_zone: str
    districts: GridLayer
    streets: tuple[Street, ...]
    areas: Mapping[str, Area]
    classes: Mapping[str, TaxonomyClass]
    zone_of: Mapping[str, str]
    merge: MergePolicy
    departments: Mapping[str, Department]
    fallback: Fallback
    calendar: Calendar
    folder: Path

    def district_name(self, code: str) -> str:
        """Name of a district or functional zone; the code itself when it is unknown."""
        for grid in self.districts.grids:
            if grid.code == code:
                return grid.name
        area = self.areas.get(code)
        return area.name if area else code


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
    classes = _taxonomy(folder / "taxonomy.csv")
    return CityPack(
        file.code,
        file.name,
        file.time_zone,
        districts,
        streets,
        file.areas,
        classes,
        zone_of,
        file.merge,
        file.departments,
        file.fallback,
        file.calendar,
        folder,
    )


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
        raise QuanyuError(f"{path} is missing; see deploy/README.md") from None
    except UnicodeDecodeError as error:
        raise QuanyuError(f"{path}: not UTF-8 at byte {error.start}") from None


def _streets(path: Path, districts: set[str]) -> tuple[Street, ...]:
    streets = []
    for line, row in _rows(path, ("code", "name", "district")):
        if not re.fullmatch(r"\d{9}", row["code"]):
            raise QuanyuError(f"{path}:{line}: code: {row['code']!r} is not nine digits")
        if row["district"] not in districts:
            raise QuanyuError(f"{path}:{line}: district: no district {row['district']}")
        if not row["code"].startswith(row["district"]):
            raise QuanyuError(
                f"{path}:{line}: code: {row['code']} does not begin with its district {row['district']}"
            )
        streets.append(Street(row["code"], row["name"], row["district"]))
    return tuple(streets)


def _taxonomy(path: Path) -> dict[str, TaxonomyClass]:
    columns = ("code", "name", "class_name", "departments", "deadline", "level", "keywords")
    classes: dict[str, TaxonomyClass] = {}
    for line, row in _rows(path, columns):
        where = f"{path}:{line}"
        deadline = DEADLINE.match(row["deadline"])
        if not re.fullmatch(r"\d{4}", row["code"]) or row["code"] in classes:
            raise QuanyuError(f"{where}: code: {row['code']!r} must be four digits and stand once")
        if not deadline:
            raise QuanyuError(
                f"{where}: deadline: {row['deadline']!r}; write e.g. 2uh, 4wh, 7wd, 15nd"
            )
        if row["level"] not in ("1", "2", "3"):
            raise QuanyuError(f"{where}: level: {row['level']!r} must be 1, 2 or 3")
        classes[row["code"]] = TaxonomyClass(
            row["code"],
            row["name"],
            row["class_name"],
            tuple(filter(None, row["departments"].split("|"))),
            float(deadline["value"]),
            UNITS[deadline["unit"]],
            int(row["level"]),
            tuple(filter(None, row["keywords"].split("|"))),
        )
    if UNCLASSIFIED not in classes:
        raise QuanyuError(f"{path}: class {UNCLASSIFIED} (unclassified, to review) is missing")
    return classes
