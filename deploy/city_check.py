"""`quanyu city check`: whether a city pack holds, with everything that needs all of its grids.

What is wrong in one line of one file is refused when the pack is loaded (:mod:`schemas.city`),
which stops at the first fault; here that is a finding too. The rest compares: tables with each
other, counts with what is declared, every level with the next coarser one, and random points with
the grids, by a search of its own and not by the one that dispatch uses.

Sources: codes and their nesting as in :mod:`schemas.grids`; closed polygons without gap and overlap
and the validity of a grid after GB/T 30428.1.
"""

import csv
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import shapely
import yaml
from shapely.errors import ShapelyError

from deploy import city_build
from schemas.channels import channel_names
from schemas.city import CITIES_DIR, CityPack, DutyRule, Synthesis, city_folder, load_city
from schemas.documents import yaml_line
from schemas.errors import QuanyuError
from schemas.grids import LEVELS, SPECIAL, GridLayer, is_code
from schemas.kpi import kpi_rules, light_rules
from schemas.merge_policy import city_policy
from streams.intake.classify import Classifier

#: Share of a grid's area that may be amiss: the rounding of decimals, far below any border.
SLIVER = 1e-6
#: Findings of one kind that are listed; one more says how many there are.
SHOWN = 10
POINTS = 2_000
SEED = 1

PAGE = "see deploy/cities/README.md"
_MESSAGE = re.compile(
    r"\A(?P<file>.+?\.(?:yaml|csv|geojson|parquet))(?::(?P<line>\d+))?(?::| is )\s*"
    r"(?:(?P<field>feature \d+|[a-z_]\w*(?:\.[^\s:]+)*): )?(?P<what>.*)\Z",
    re.DOTALL,
)
_FEATURE = re.compile(r'"type"\s*:\s*"Feature"')

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault: where it stands, what it is and what to do; ``line`` is 0 when it has none."""

    file: str
    line: int
    field: str
    what: str
    remedy: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else self.file
        field = f"{self.field}: " if self.field else ""
        return f"{where}: {field}{self.what}; {self.remedy}"


@dataclass(frozen=True)
class Checked:
    """The findings of a pack, none when it holds; ``counts``: level → grids in force."""

    city: str
    findings: list[Finding]
    counts: dict[str, int]
    points: int
    seed: int

    def as_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self) | {"ok": not self.findings}


def check_pack(
    name: str, points: int = POINTS, seed: int = SEED, say: city_build.Say = lambda line: None
) -> Checked:
    """Load the pack, build the layers that it generates where they are not there yet, and check it.

    Whatever is wrong in the pack is a finding; :class:`QuanyuError` when there is no such folder.
    """
    folder = CITIES_DIR / name if (CITIES_DIR / name).is_dir() else Path(name)
    if folder.is_dir() and not (folder / "city.yaml").exists():
        missing = Finding(str(folder / "city.yaml"), 0, "", "is missing", PAGE)
        return Checked("", [missing], {}, points, seed)
    city_folder(name)
    city: CityPack | None = None
    counts: dict[str, int] = {}
    findings: list[Finding] = []
    try:
        city = load_city(name)
        findings += check_tables(city)
        if city.synthesis is not None:
            broken = list(_synthesis(city, city.synthesis))
            # Nothing can be generated below borders that do not hold.
            shipped = {level: city.own_layer(level) for level in city.shipped}
            broken += check_layers(replace(city, counts={}), shipped, points, seed)
            findings += broken
            if broken:
                return Checked(city.code, findings, counts, points, seed)
            city_build.build(city, None, say)
        layers = {level: city.grids.layer(level) for level in city.grids.levels}
        if city.grids.has_special:
            layers[SPECIAL] = city.grids.layer(SPECIAL)
        counts = {level: len(in_force(layer)) for level, layer in layers.items()}
        findings += check_layers(city, layers, points, seed)
    except QuanyuError as error:
        findings.append(_of_message(str(error), name))
    except ShapelyError as error:
        what = f"the grids cannot be generated or read ({error})"
        findings.append(Finding(name, 0, "", what, "repair the borders that the pack ships"))
    except (OSError, csv.Error, RecursionError) as error:
        file = str(getattr(error, "filename", None) or name)
        findings.append(Finding(file, 0, "", f"not readable ({error})", PAGE))
    return Checked(city.code if city else "", findings, counts, points, seed)


def _of_message(message: str, name: str) -> Finding:
    """The finding that a refusal of the loader tells: ``file:line: field: what; remedy``."""
    found = _MESSAGE.match(message)
    if not found:
        return Finding(name, 0, "", *_what_remedy(message))
    file, line, field = found["file"], int(found["line"] or 0), found["field"] or ""
    if field.startswith("feature ") and Path(file).is_file():
        line = _feature_line(Path(file), int(field.split()[1]))
    return Finding(file, line, field, *_what_remedy(found["what"]))


def _what_remedy(text: str) -> tuple[str, str]:
    what, _, remedy = text.rpartition("; ")
    return (what, remedy) if what else (text, PAGE)


# --- tables ----------------------------------------------------------------------------------


def check_tables(city: CityPack) -> list[Finding]:
    """What the loader leaves open in city.yaml and the tables: names, codes and times."""
    return [
        *_document(city),
        *_merge(city),
        *_scores(city),
        *_classifier(city),
        *_classes(city),
        *_duties(city),
        *_units(city),
    ]


def _document(city: CityPack) -> Iterator[Finding]:
    path = city.folder / "city.yaml"
    root = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)

    def fault(what: str, remedy: str, *field: str) -> Finding:
        return Finding(str(path), yaml_line(root, field), ".".join(field), what, remedy)

    # GB/T 2260: the code of a province ends in 0000, that of a city in 00.
    stem = re.sub(r"\A(\d\d|\d{4})0+\Z", r"\1", city.code)
    codes = [*city.districts.codes.tolist(), *city.areas]
    strangers = sorted({code for code in codes if not code.startswith(stem)})
    if strangers:
        what = f"{city.code}; of its districts {', '.join(strangers)} do not begin with {stem}"
        yield fault(what, "correct the one or the others", "code")
    if not len(city.districts):
        yield Finding(
            str(city.folder / "districts.geojson"), 1, "features", "none", "add districts"
        )
    for code in city.areas:
        if not is_code(code, "district"):
            what = f"{code!r} is not {LEVELS['district']} digits"
            yield fault(what, "write the district's code", "areas", code)
    members: dict[str, str] = {}
    for zone, listed in (
        yaml.safe_load(path.read_text(encoding="utf-8")).get("zones") or {}
    ).items():
        for code in listed:
            if code in members:
                what = f"district {code} is in {members[code]} already"
                yield fault(what, "keep it in one zone", "zones", str(zone))
            members[code] = str(zone)
    taken = {city.fallback.code: city.fallback.name}
    for name, department in city.departments.items():
        if department.code in taken:
            what = f"code {department.code} is that of {taken[department.code]}"
            yield fault(what, "give each its own", "departments", name)
        taken[department.code] = name
    calendar = city.calendar
    if not set(calendar.weekend) <= set(range(1, 8)) or len(set(calendar.weekend)) > 6:
        what = f"{calendar.weekend}"
        yield fault(what, "name at most six ISO days, 1 to 7", "calendar", "weekend")
    for day in sorted(calendar.workdays):
        if day in calendar.holidays:
            what = f"{day} is a holiday too"
            yield fault(what, "keep it in one list", "calendar", "workdays")
        elif day.isoweekday() not in calendar.weekend:
            what = f"{day} is no day of the weekend"
            yield fault(what, "name only days that are worked instead", "calendar", "workdays")
    years = sorted(calendar.years)
    missing = sorted(set(range(years[0], years[-1])) - set(years)) if years else []
    if missing or not years:
        what = f"none of {', '.join(map(str, missing))}" if years else "none"
        remedy = "add them: without holidays a year's work time is not known, and has no deadlines"
        yield fault(what, remedy, "calendar", "holidays")
    for code in city.merge.classes:
        if not any(known.startswith(code) for known in city.classes):
            what = f"no class of taxonomy.csv begins with {code!r}"
            yield fault(what, "correct the prefix", "merge", "classes", code)


def _merge(city: CityPack) -> Iterator[Finding]:
    """merge.yaml: classes that are codes are in the taxonomy; other labels are anybody's."""
    policy = city_policy(city)
    path = city.folder / "merge.yaml"
    if not path.exists():
        return
    root = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    named = [("classes", code) for code in policy.classes]
    named += [("alike", code) for group in policy.alike for code in group]
    for field, code in named:
        if code.isdigit() and not any(known.startswith(code) for known in city.classes):
            line = yaml_line(root, (field, code))
            what = f"no class of taxonomy.csv begins with {code!r}"
            yield Finding(str(path), line, f"{field}.{code}", what, "correct the code")


def _scores(city: CityPack) -> Iterator[Finding]:
    """kpi.yaml and lights.yaml, which are read when somebody asks for scores or lights."""
    for read in (kpi_rules, light_rules):
        try:
            read(city)
        except QuanyuError as error:
            yield _of_message(str(error), str(city.folder))


def _classifier(city: CityPack) -> Iterator[Finding]:
    """The trained model that intake would read."""
    try:
        Classifier(city)
    except QuanyuError as error:
        file, _, what = str(error).partition(": ")
        yield Finding(file, 0, "", *_what_remedy(what))


def _classes(city: CityPack) -> Iterator[Finding]:
    path = city.folder / "taxonomy.csv"
    lines = _table_lines(path, "code")
    takers = {*city.departments, city.fallback.name}
    given = {rule.class_code for rule in city.duties if not rule.condition and not rule.area}
    names: dict[str, str] = {}
    for code, entry in city.classes.items():

        def fault(field: str, what: str, remedy: str, code: str = code) -> Finding:
            return Finding(str(path), lines.get(code, 0), field, what, remedy)

        for field in ("name", "class_name"):
            if not getattr(entry, field).strip():
                yield fault(field, "is empty", "write it")
        first = names.setdefault(code[:2], entry.class_name)
        if entry.class_name != first:
            what = f"{entry.class_name!r}; the classes {code[:2]} before it are {first!r}"
            yield fault("class_name", what, "one name for one two-digit class")
        if entry.deadline <= 0:
            yield fault("deadline", "is none", "write more than 0")
        if entry.departments and code not in given and not takers & set(entry.departments):
            what = f"{'|'.join(entry.departments)}: none is in city.yaml or takes it by duty.csv"
            yield fault("departments", what, "add the department or a line of duty.csv")


def _duties(city: CityPack) -> Iterator[Finding]:
    path = str(city.folder / "duty.csv")
    for rule in city.duties:
        if rule.deadline <= 0:
            yield Finding(path, rule.line, "deadline", "is none", "write more than 0")
        department = city.departments.get(rule.department)
        # A department of the city has no instance in a district or street.
        if department and department.level == "city" and rule.level != "city":
            what = f"{rule.level!r}; {rule.department} is a department of the city"
            yield Finding(path, rule.line, "level", what, "write city, or change city.yaml")
    yield from _ties(city, path)
    channels = set(channel_names())
    for name, condition in city.conditions.items():
        for channel in condition.channels:
            if channel not in channels:
                where = city.folder / "city.yaml"
                root = yaml.compose(where.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
                field = ("conditions", name, "channels")
                what = f"no channel {channel!r}"
                remedy = f"write some of {', '.join(sorted(channels))}"
                yield Finding(str(where), yaml_line(root, field), ".".join(field), what, remedy)


def _ties(city: CityPack, path: str) -> Iterator[Finding]:
    """Two rules of which neither is more specific, and classes that have rules for some events only."""
    seen: dict[tuple[str, str, int], DutyRule] = {}
    for rule in city.duties:
        rank = city.conditions[rule.condition].rank if rule.condition else 0
        first = seen.setdefault((rule.class_code, rule.area, rank), rule)
        if first is not rule:
            what = (
                f"{rule.condition} has the rank {rank} of {first.condition} in line {first.line}: "
                "where both hold neither goes before"
            )
            remedy = "give one of the conditions another rank in city.yaml"
            yield Finding(path, rule.line, "condition", what, remedy)
    general = {r.class_code for r in city.duties if not r.condition and not r.area}
    told: set[str] = set()
    for rule in city.duties:
        code = rule.class_code
        if code in general | told or code[:2] in general or code not in city.classes:
            continue
        if set(city.classes[code].departments) & {*city.departments}:
            continue
        told.add(code)
        what = f"{code} has rules for some of its events only"
        yield Finding(path, rule.line, "class_code", what, "add a line without condition and area")


def _units(city: CityPack) -> Iterator[Finding]:
    path = city.folder / "units.csv"
    lines = _table_lines(path, "code")
    owner: dict[str, str] = {}
    for code, unit in city.units.items():
        for field, names in (("name", (unit.name,)), ("aliases", unit.aliases)):
            for name in names:
                if owner.setdefault(name, code) != code or not name.strip():
                    what = f"{name!r} is empty or names {owner[name]} too"
                    yield Finding(str(path), lines.get(code, 0), field, what, "write another")
    if city.units:
        for street in city.streets:
            if city.unit_of(street.code) is None:
                what = f"street {street.code} {street.name} is in no unit"
                yield Finding(str(path), 0, "members", what, "add it or its district to one")


# --- what is generated -----------------------------------------------------------------------


def _synthesis(city: CityPack, synthesis: Synthesis) -> Iterator[Finding]:
    """What would break the generation, or give it a strange city."""
    path = city.folder / "city.yaml"
    root = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)

    def fault(what: str, remedy: str, *field: str) -> Finding:
        field = ("synthesis", *field)
        return Finding(str(path), yaml_line(root, field), ".".join(field), what, remedy)

    if city.base == "micro":
        yield fault("the pack ships every level", "remove it")
    for field, sample in (("again", {"name": "", "n": 2}), ("micro", {"n": 2})):
        try:
            getattr(synthesis.names, field).format(**sample)
        except (KeyError, IndexError, ValueError, AttributeError) as error:
            what = f"no name comes of it ({type(error).__name__} {error})"
            holes = " and ".join(f"{{{hole}}}" for hole in sample)
            yield fault(what, f"write {holes} only", "names", field)
    districts = set(city.districts.codes.tolist())
    for code, (lon, lat) in synthesis.centres.items():
        if code not in districts:
            yield fault(f"no district {code}", "correct the code", "centres", code)
        # The middle of a town may lie across the border of the district that it is the middle for.
        elif not shapely.intersects_xy(city.districts.polygons, lon, lat).any():
            what = f"{lon} {lat} lies outside the city"
            yield fault(what, "write longitude, latitude in CGCS2000", "centres", code)


# --- grids -----------------------------------------------------------------------------------


def in_force(layer: GridLayer) -> GridLayer:
    """The grids that have not ended."""
    kept = np.isnat(layer.valid_to)
    return layer if kept.all() else layer.where(kept)


def check_layers(
    city: CityPack, layers: dict[str, GridLayer], points: int = POINTS, seed: int = SEED
) -> list[Finding]:
    """Counts, codes, validity, polygons, nesting and ``points`` random points of all levels.

    Areas and borders are judged of the grids in force; polygons in CGCS2000 degrees.
    """
    findings = list(_counts(city, layers))
    for level, layer in layers.items():
        findings += _some(_codes(city, level, layer))
        findings += _some(_validity(city, level, layer))
        findings += _some(_shapes(city, level, layer))
    findings += _listed(city, layers)
    for fine, coarse in _steps(layers):
        findings += _some(_periods(city, layers[fine], layers[coarse]))
    now = {level: in_force(layer) for level, layer in layers.items()}
    if not all(shapely.is_valid(layer.polygons).all() and len(layer) for layer in now.values()):
        return findings
    for fine, coarse in _steps(now):
        findings += _some(_within(city, now[fine], now[coarse]))
        if fine != SPECIAL:
            findings += _some(_whole(city, now[fine], now[coarse]))
    findings += _some(_overlaps(city, now["district"]))
    findings += _some(_holes(city, now["district"]))
    findings += _points(city, now, points, seed)
    return findings


def _steps(layers: dict[str, GridLayer]) -> Iterator[tuple[str, str]]:
    """Each level and the next coarser one that the city has; a special grid lies in a community."""
    geographic = [level for level in LEVELS if level in layers]
    yield from zip(geographic[1:], geographic, strict=False)
    if SPECIAL in layers:
        upper = [level for level in geographic if LEVELS[level] <= LEVELS["community"]]
        yield SPECIAL, upper[-1]


def _counts(city: CityPack, layers: dict[str, GridLayer]) -> Iterator[Finding]:
    path = city.folder / "city.yaml"
    root = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    for level, wanted in city.counts.items():
        found = len(in_force(layers[level])) if level in layers else 0
        if found != wanted:
            what = f"{wanted:,} declared, {found:,} in force"
            line = yaml_line(root, ("counts", level))
            yield Finding(str(path), line, f"counts.{level}", what, "correct it or the grids")
    for level, layer in layers.items():
        if not len(in_force(layer)):
            yield _grid_fault(city, level, "", "features", "no grid is in force", "add them")


def _codes(city: CityPack, level: str, layer: GridLayer) -> Iterator[Finding]:
    for code, name in zip(layer.codes.tolist(), layer.names, strict=True):
        if not is_code(code, level):
            yield _grid_fault(city, level, code, "code", f"{code!r} is no code of a {level}", PAGE)
        if not name.strip():
            yield _grid_fault(city, level, code, "name", f"{code} has none", "write it")


def _validity(city: CityPack, level: str, layer: GridLayer) -> Iterator[Finding]:
    start, end, codes = layer.valid_from, layer.valid_to, layer.codes
    for i in np.flatnonzero(~np.isnat(end) & (end <= start)).tolist():
        what = f"{codes[i]} ends on {end[i]}, not after {start[i]}"
        yield _grid_fault(city, level, codes[i], "valid_to", what, "correct one of the days")
    # Sorted by code and first day: an open end or a later one than the next first day overlaps.
    twice = (codes[1:] == codes[:-1]) & (np.isnat(end[:-1]) | (start[1:] < end[:-1]))
    for i in np.flatnonzero(twice).tolist():
        what = f"{codes[i]} stands twice on {start[i + 1]}"
        yield _grid_fault(city, level, codes[i], "valid_from", what, "end the earlier one before")


def _periods(city: CityPack, fine: GridLayer, coarse: GridLayer) -> Iterator[Finding]:
    """A grid belongs to a coarser one that is there and is valid when it begins."""
    if not len(coarse):
        return
    versions: dict[str, list[int]] = {}
    for i, code in enumerate(coarse.codes.tolist()):
        versions.setdefault(code, []).append(i)
    cut = LEVELS[coarse.level]
    first = coarse.valid_from.min()
    for i, code in enumerate(fine.codes.tolist()):
        above = versions.get(code[:cut])
        if above is None:
            what = f"{code} belongs to no {coarse.level}; there is no {code[:cut]}"
            yield _grid_fault(city, fine.level, code, "code", what, "add that grid or correct it")
            continue
        # Before the layer's first day counts what holds on it.
        day = max(fine.valid_from[i], first)
        if not any(
            coarse.valid_from[j] <= day
            and (np.isnat(coarse.valid_to[j]) or day < coarse.valid_to[j])
            for j in above
        ):
            what = f"{code} begins on {fine.valid_from[i]}, when {code[:cut]} is not valid"
            remedy = "give both the same periods"
            yield _grid_fault(city, fine.level, code, "valid_from", what, remedy)


def _shapes(city: CityPack, level: str, layer: GridLayer) -> Iterator[Finding]:
    shapes = layer.polygons
    areal = np.isin(shapely.get_type_id(shapes), (3, 6)) & ~shapely.is_empty(shapes)
    for i in np.flatnonzero(~shapely.is_valid(shapes) | ~areal).tolist():
        what = f"{layer.codes[i]} is no valid polygon ({shapely.is_valid_reason(shapes[i])})"
        yield _grid_fault(city, level, layer.codes[i], "geometry", what, "repair it")
    bounds = np.abs(shapely.bounds(shapes).reshape(-1, 4))
    # NaN, of an empty polygon, is told above.
    for i in np.flatnonzero((bounds > [180.0, 90.0, 180.0, 90.0]).any(axis=1)).tolist():
        what = f"{layer.codes[i]} has coordinates that are no degrees"
        remedy = "convert it to CGCS2000, longitude first"
        yield _grid_fault(city, level, layer.codes[i], "geometry", what, remedy)


def _listed(city: CityPack, layers: dict[str, GridLayer]) -> Iterator[Finding]:
    """Tables and layers name the same streets and communities; the gazetteer names grids."""
    codes = {level: set(in_force(layer).codes.tolist()) for level, layer in layers.items()}
    tables = (
        ("street", "streets.csv", {place.code: place.name for place in city.streets}),
        ("community", "communities.csv", {place.code: place.name for place in city.communities}),
    )
    for level, file, places in tables:
        if level not in codes or not places:
            continue
        path = city.folder / file
        lines = _table_lines(path, "code")
        # A functional zone may have a statistical code and no polygon of its own.
        drawn = {code for code in places if code[: LEVELS["district"]] in codes["district"]}
        for code in sorted(drawn - codes[level])[:SHOWN]:
            what = f"{code} {places[code]} has no polygon in force"
            yield Finding(str(path), lines.get(code, 0), "code", what, "draw it or remove the line")
        for code in sorted(codes[level] - places.keys())[:SHOWN]:
            what = f"{code} is not in {file}"
            yield _grid_fault(city, level, code, "code", what, "add the line")
    path = city.folder / "gazetteer.csv"
    lines = _table_lines(path, "name")
    for entry in city.gazetteer:
        if entry.level in codes and entry.code not in codes[entry.level]:
            what = f"{entry.name}: {entry.code} has no polygon in force"
            yield Finding(str(path), lines.get(entry.name, 0), "code", what, "name a drawn grid")


def _parents(fine: GridLayer, coarse: GridLayer) -> Ints:
    """Index of the coarser grid that each code names, -1 when there is none."""
    index = {code: i for i, code in enumerate(coarse.codes.tolist())}
    cut = LEVELS[coarse.level]
    return np.array([index.get(code[:cut], -1) for code in fine.codes.tolist()], dtype=np.int64)


def _within(city: CityPack, fine: GridLayer, coarse: GridLayer) -> Iterator[Finding]:
    parent = _parents(fine, coarse)
    mine = np.flatnonzero(parent >= 0)
    shapely.prepare(coarse.polygons)
    out = mine[~shapely.covers(coarse.polygons[parent[mine]], fine.polygons[mine])]
    # Borders that are only written with other vertices leave a sliver.
    outside = shapely.area(shapely.difference(fine.polygons[out], coarse.polygons[parent[out]]))
    share = outside / shapely.area(fine.polygons[out])
    for i, part in zip(out.tolist(), share.tolist(), strict=True):
        if part > SLIVER:
            what = f"{part:.3g} of {fine.codes[i]} lies outside {coarse.codes[parent[i]]}"
            remedy = "cut it at that border or correct its code"
            yield _grid_fault(city, fine.level, fine.codes[i], "geometry", what, remedy)


def _whole(city: CityPack, fine: GridLayer, coarse: GridLayer) -> Iterator[Finding]:
    """The parts of each coarser grid have its area: less is a gap, more an overlap."""
    parent = _parents(fine, coarse)
    mine = parent >= 0
    areas = np.bincount(parent[mine], shapely.area(fine.polygons[mine]), len(coarse))
    share = areas / shapely.area(coarse.polygons) - 1.0
    for i in np.flatnonzero(np.abs(share) > SLIVER).tolist():
        kind = "overlap" if share[i] > 0 else "leave a gap"
        code = coarse.codes[i]
        what = f"the {fine.level} grids of {code} {kind} ({abs(share[i]):.3g} of its area)"
        inside = fine.codes[np.flatnonzero(parent == i)]
        first = str(inside[0]) if len(inside) else ""
        yield _grid_fault(city, fine.level, first, "geometry", what, "let neighbours share borders")


def _overlaps(city: CityPack, districts: GridLayer) -> Iterator[Finding]:
    shapes = districts.polygons
    one, other = shapely.STRtree(shapes).query(shapes, predicate="intersects")
    one, other = one[one < other], other[one < other]
    common = shapely.area(shapely.intersection(shapes[one], shapes[other]))
    smaller = np.minimum(shapely.area(shapes[one]), shapely.area(shapes[other]))
    for i in np.flatnonzero(common > SLIVER * smaller).tolist():
        first, second = districts.codes[one[i]], districts.codes[other[i]]
        what = f"{second} overlaps {first} ({common[i] / smaller[i]:.3g} of the smaller)"
        yield _grid_fault(city, "district", second, "geometry", what, "draw one border for both")


def _holes(city: CityPack, districts: GridLayer) -> Iterator[Finding]:
    """Between districts nothing is left over."""
    smallest = float(shapely.area(districts.polygons).min())
    parts = shapely.get_parts(shapely.union_all(districts.polygons))
    for ring in (ring for part in parts for ring in part.interiors):
        hole = shapely.polygons(ring)
        if shapely.area(hole) > SLIVER * smallest:
            spot = shapely.point_on_surface(hole)
            what = f"a gap between districts round {spot.x:.5f} {spot.y:.5f}"
            yield _grid_fault(city, "district", "", "geometry", what, "draw one border for both")


def draw_points(outline: shapely.Geometry, number: int, seed: int) -> Floats:
    """So many points (degrees), even over the area of ``outline``; the same for the same seed."""
    chance = np.random.default_rng(seed)
    west, south, east, north = shapely.bounds(outline)
    shapely.prepare(outline)
    found = np.empty((0, 2))
    while len(found) < number:
        draws = chance.random((2 * number, 2)) * [east - west, north - south] + [west, south]
        inside = shapely.contains_xy(outline, draws[:, 0], draws[:, 1])
        found = np.concatenate((found, draws[inside]))
    return found[:number]


def grids_at(layer: GridLayer, points: Floats) -> tuple[Ints, Ints]:
    """The pairs (point, grid) of a layer that meet, by a search of its own."""
    tree = shapely.STRtree(layer.polygons)
    which, grid = tree.query(shapely.points(points), predicate="intersects")
    return which, grid


def _points(
    city: CityPack, layers: dict[str, GridLayer], number: int, seed: int
) -> Iterator[Finding]:
    if number < 1:
        return
    outline = shapely.union_all(layers["district"].polygons)
    points = draw_points(outline, number, seed)
    for level in (level for level in LEVELS if level in layers):
        which, grid = grids_at(layers[level], points)
        times = np.bincount(which, minlength=number)
        for kind, wrong in (("no", times == 0), ("more than one", times > 1)):
            if not wrong.any():
                continue
            first = int(np.flatnonzero(wrong)[0])
            codes = layers[level].codes[np.sort(grid[which == first])].tolist()
            lon, lat = points[first]
            named = f" ({', '.join(codes)})" if codes else ""
            what = (
                f"{int(wrong.sum()):,} of {number:,} random points are in {kind} {level}, "
                f"the first at {lon:.6f} {lat:.6f}{named}"
            )
            code = codes[-1] if codes else ""
            yield _grid_fault(city, level, code, "geometry", what, "let neighbours share borders")


# --- where it stands -------------------------------------------------------------------------


def _some(findings: Iterable[Finding]) -> list[Finding]:
    """The first findings of a kind, and how many more there are."""
    found = list(findings)
    if len(found) <= SHOWN:
        return found
    last, more = found[SHOWN], len(found) - SHOWN
    what = f"{more:,} more like the ones above"
    return [*found[:SHOWN], Finding(last.file, 0, last.field, what, last.remedy)]


def _grid_fault(
    city: CityPack, level: str, code: str, field: str, what: str, remedy: str
) -> Finding:
    """A finding of a grid: in the file that the pack ships, else in the one that was generated."""
    path = city.shipped.get(level)
    if path is None:
        path = city.generated / f"{level}.parquet" if city.synthesis else city.folder
        return Finding(str(path), 0, field, what, remedy)
    return Finding(str(path), _code_line(path, code), field, what, remedy)


def _code_line(path: Path, code: str) -> int:
    """Line of the feature with a code; 1 when it is not to be found."""
    text = path.read_text(encoding="utf-8")
    found = re.search(rf'"code"\s*:\s*"{re.escape(code)}"', text)
    return text.count("\n", 0, found.start()) + 1 if found else 1


def _feature_line(path: Path, number: int) -> int:
    """Line of a feature by its number, counted from 1."""
    text = path.read_text(encoding="utf-8", errors="replace")
    starts = [found.start() for found in _FEATURE.finditer(text)]
    return text.count("\n", 0, starts[number - 1]) + 1 if number <= len(starts) else 1


def _table_lines(path: Path, column: str) -> dict[str, int]:
    """Value of a column → the first line that has it."""
    lines: dict[str, int] = {}
    if path.exists():
        with path.open(encoding="utf-8-sig", newline="") as handle:
            reader = csv.DictReader(handle)
            for row in reader:
                lines.setdefault(row[column], reader.line_num)
    return lines
