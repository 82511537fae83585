"""Whose duty an event is: the duty list (责任清单) as a pure function of the pack, and who is on duty there.

The candidates of an event form a chain, each unit once:

1. the rules of ``duty.csv`` that fit it, the most specific first: a condition before none and of two
   conditions the one of the higher rank, then the longer class code, then the longer area;
2. the lead departments that ``taxonomy.csv`` names for the class;
3. the partners of the first rule that are units themselves;
4. the centres round the place, street → unit → city (属地兜底, and the way of escalation).

The first has the duty; who returns an order (退单) sends it to the next; the city's centre ends the chain.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property, lru_cache
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from schemas.city import CityPack, DutyRule
from schemas.duty import Centre, Condition, Worker
from schemas.errors import QuanyuError
from schemas.grids import LEVELS, SPECIAL_CODE
from streams.dispatch.lifecycle import Duty

#: The rule that orders name when none of the list fits.
FALLBACK = "fallback:属地兜底"
#: What an event says of itself where the duty list reads it; only these four must be there.
ASKED = ("class_code", "district_code", "grid_code", "opened_at")

_QUARTER_MS = 900 * 1000


def rule_name(rule: DutyRule) -> str:
    """What orders call a rule: class, condition and area, which stay when lines move."""
    return " ".join(filter(None, (rule.class_code, rule.condition, rule.area)))


@dataclass(frozen=True, slots=True)
class Considered:
    """One rule of the class, whether it fits the event, and why (not)."""

    rule: DutyRule
    fits: bool
    why: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why an event is whose duty: what holds, every rule of its class by precedence, and the chain."""

    duty: Duty
    conditions: tuple[str, ...]
    considered: tuple[Considered, ...]
    chain: tuple[Duty, ...]
    centres: tuple[Centre, ...]


class _Asked(NamedTuple):
    """Conditions by name, those of them that may hold without a word, and words by first character."""

    conditions: tuple[tuple[str, Condition], ...]
    silent: tuple[tuple[str, Condition], ...]
    words: Mapping[str, tuple[str, ...]]
    firsts: frozenset[str]


def _asked(conditions: Mapping[str, Condition]) -> _Asked:
    words: dict[str, tuple[str, ...]] = {}
    for word in {word for condition in conditions.values() for word in condition.words_asked}:
        words[word[0]] = (*words.get(word[0], ()), word)
    silent = tuple((name, each) for name, each in conditions.items() if not each.only_words)
    return _Asked(tuple(conditions.items()), silent, words, frozenset(words))


_NOTHING = _asked({})


class DutyList:
    """The duty list of a city; answers are cached by class, place and conditions that hold.

    An ``event`` is a mapping with the fields :data:`ASKED`; ``title``, ``address``, ``first_channel`` and
    ``priority`` are read when they are there. One that has ``conditions``, as :meth:`holding` gave them,
    is not read again: so an order's way does not change when its event does.
    """

    def __init__(self, city: CityPack) -> None:
        self._city = city
        self._zone = ZoneInfo(city.time_zone)
        self._streets = {street.code for street in city.streets}
        self._rules: dict[str, tuple[DutyRule, ...]] = {}
        groups: dict[str, list[DutyRule]] = {}
        for rule in city.duties:
            groups.setdefault(rule.class_code, []).append(rule)
        for code in (*city.classes, *groups):
            rules = [*groups.get(code, ()), *(groups.get(code[:2], ()) if len(code) > 2 else ())]
            self._rules[code] = tuple(sorted(rules, key=self._precedence))
        #: Class → the conditions that decide in it, and their words by first character.
        self._asked: dict[str, _Asked] = {
            code: _asked(
                {
                    rule.condition: city.conditions[rule.condition]
                    for rule in rules
                    if rule.condition
                }
            )
            for code, rules in self._rules.items()
        }
        #: Class → how much of a grid's code matters.
        self._cut = {
            code: max([LEVELS["street"], *(len(rule.area) for rule in rules)])
            for code, rules in self._rules.items()
        }
        self._day = lru_cache(maxsize=4096)(self._day_of)
        self._chain = lru_cache(maxsize=100_000)(self._find)

    def duty(self, event: Mapping[str, Any]) -> Duty:
        """The unit whose duty an event is; somebody's it is always."""
        return self.chain(event)[0]

    def next(self, event: Mapping[str, Any], tried: Sequence[str]) -> Duty | None:
        """Who comes after the units (codes) that had it; None when the city's centre had it, too."""
        return next((duty for duty in self.chain(event) if duty.unit_code not in tried), None)

    def named(self, event: Mapping[str, Any], unit_code: str) -> Duty | None:
        """The unit of a code, as the duty list has it for the event, else with the first one's deadline.

        None when there is no such unit in the city.
        """
        chain = self.chain(event)
        found = next((duty for duty in chain if duty.unit_code == unit_code), None)
        name = None if found else self.unit_name(unit_code)
        if name is None:
            return found
        first = chain[0]
        level = self._city.centres[unit_code.rpartition("-")[0]].level
        return Duty(unit_code, name, level, "named", first.deadline, first.unit, first.closed_when)

    def unit_name(self, unit_code: str) -> str | None:
        """Name of a unit by its code, ``<centre>-<department>``; None when there is no such unit."""
        area, _, code = unit_code.rpartition("-")
        centre = self._city.centres.get(area)
        if centre is None:
            return None
        if code == self._city.fallback.code:
            return centre.name + self._city.fallback.name
        department = self._department_codes.get(code)
        if department is None:
            return None
        one_for_all = self._city.departments[department].level == "city"
        return centre.name + department if one_for_all == (centre.level == "city") else None

    def chain(self, event: Mapping[str, Any]) -> tuple[Duty, ...]:
        """Everybody who may take an event, in the order in which they are asked; never empty."""
        code = event["class_code"]
        held = event.get("conditions")
        place = event["grid_code"] or event["district_code"]
        return self._chain(
            code,
            event["district_code"],
            place[: self._cut.get(code, LEVELS["street"])],
            tuple(held) if held is not None else self.holding(event),
        )

    def holding(self, event: Mapping[str, Any]) -> tuple[str, ...]:
        """Names of the conditions that hold for an event, of those that decide in its class."""
        conditions, silent, words, firsts = self._asked.get(event["class_code"], _NOTHING)
        if not conditions:
            return ()
        text = f"{event.get('title') or ''}\n{event.get('address') or ''}"
        said = {word for first in firsts & set(text) for word in words[first] if word in text}
        # Most texts say none of the words.
        asked = conditions if said else silent
        if not asked:
            return ()
        grid = event["grid_code"]
        special = self._city.special_names.get(grid, "") if SPECIAL_CODE.match(grid) else ""
        opened_at = event["opened_at"]
        day = self._day(opened_at // _QUARTER_MS)
        return tuple(
            name for name, condition in asked if condition.holds(event, text, said, special, day)
        )

    def explain(self, event: Mapping[str, Any]) -> Explanation:
        """Why an event is whose duty."""
        held = self.holding(event)
        place = event["grid_code"] or event["district_code"]
        chain = self.chain(event)
        considered = []
        for rule in self._rules.get(event["class_code"], ()):
            why = ["every event of the class"] if len(rule.class_code) > 2 else ["its group"]
            fits = True
            if rule.condition:
                fits = rule.condition in held
                why.append(
                    f"{rule.condition} {'holds' if fits else 'does not hold'} "
                    f"({self._city.conditions[rule.condition].meaning})"
                )
            if rule.area:
                inside = place.startswith(rule.area)
                fits = fits and inside
                why.append(f"{place or 'nowhere'} is {'in' if inside else 'not in'} {rule.area}")
            if (
                fits
                and self._unit(rule.department, rule.level, event["district_code"], place) is None
            ):
                fits = False
                why.append(f"no {rule.department} of level {rule.level} is known there")
            considered.append(Considered(rule, fits, ", ".join(why[1:] or why)))
        city = self._city
        centre = city.centre_of(self._place(event["district_code"], place))
        return Explanation(chain[0], held, tuple(considered), chain, tuple(city.above(centre.code)))

    def _precedence(self, rule: DutyRule) -> tuple[int, int, int, str, str]:
        """Smaller is more specific; the names only settle what ``quanyu city check`` refuses."""
        rank = self._city.conditions[rule.condition].rank if rule.condition else 0
        return -rank, -len(rule.class_code), -len(rule.area), rule.condition, rule.area

    def _find(
        self, class_code: str, district: str, place: str, held: tuple[str, ...]
    ) -> tuple[Duty, ...]:
        found: dict[str, Duty] = {}
        for duty in self._all(class_code, district, place, held):
            found.setdefault(duty.unit_code, duty)
        return tuple(found.values())

    def _all(
        self, class_code: str, district: str, place: str, held: tuple[str, ...]
    ) -> Iterator[Duty]:
        """Everybody by precedence; a unit may come more than once."""
        city = self._city
        entry = city.classes.get(class_code)
        first: DutyRule | None = None
        for rule in self._rules.get(class_code, ()):
            if rule.condition and rule.condition not in held:
                continue
            if not place.startswith(rule.area):
                continue
            unit = self._unit(rule.department, rule.level, district, place)
            if unit is None:
                continue
            first = first or rule
            yield Duty(
                *unit, rule_name(rule), rule.deadline, rule.unit, rule.closed_when, rule.partners
            )
        if first:
            terms: tuple[Any, ...] = (first.deadline, first.unit, first.closed_when)
        else:
            terms = (entry.deadline, entry.unit) if entry else ()
        for name in entry.departments if entry else ():
            if own := self._own(name, district, place):
                yield Duty(*own, f"{class_code}:{name}", *terms)
        for name in first.partners if first else ():
            if first and (own := self._own(name, district, place)):
                yield Duty(*own, f"{rule_name(first)} 协办", *terms)
        for centre in city.above(city.centre_of(self._place(district, place)).code):
            yield Duty(*self._centre(centre), FALLBACK, *terms)

    def _unit(
        self, name: str, level: str, district: str, place: str
    ) -> tuple[str, str, str] | None:
        """Code, name and level of a department's instance at a place; None where it has none."""
        city = self._city
        centre = city.centre_of(self._place(district, place))
        for above in city.above(centre.code):
            # Where the street is not known, the next above acts for it.
            if level == "city" and above.level != "city":
                continue
            if level == "district" and above.level == "street":
                continue
            if name == city.fallback.name:
                return self._centre(above)
            if level != "city" and above.level == "city":
                return None
            return f"{above.code}-{city.departments[name].code}", above.name + name, above.level
        return None

    def _own(self, name: str, district: str, place: str) -> tuple[str, str, str] | None:
        """As :meth:`_unit`, of the level that the department has itself; None when it is none."""
        department = self._city.departments.get(name)
        return self._unit(name, department.level, district, place) if department else None

    def _centre(self, centre: Centre) -> tuple[str, str, str]:
        fallback = self._city.fallback
        return f"{centre.code}-{fallback.code}", centre.name + fallback.name, centre.level

    def _place(self, district: str, place: str) -> str:
        """The grid, or the district where the grid does not tell it."""
        return place if place[: LEVELS["district"]] in self._known else district

    @cached_property
    def _known(self) -> set[str]:
        return {*self._city.zone_of, *(code[: LEVELS["district"]] for code in self._streets)}

    @cached_property
    def _department_codes(self) -> Mapping[str, str]:
        return {department.code: name for name, department in self._city.departments.items()}

    def _day_of(self, quarter: int) -> str:
        """MM-DD in the city of a quarter of an hour, counted from the epoch; no zone is finer."""
        instant = datetime.fromtimestamp(quarter * 900, UTC)
        return instant.astimezone(self._zone).strftime("%m-%d")


class Roster:
    """Who of the grid workers (网格员) takes an order: of the finest grid, on shift, least loaded.

    A pack without ``staff.csv`` has one worker in each finest geographic grid, always on duty, whose code is
    ``W`` and the grid's.
    """

    def __init__(self, city: CityPack, max_load: int = 20) -> None:
        self._zone = ZoneInfo(city.time_zone)
        self._max_load = max_load
        self._by_grid: dict[str, list[Worker]] | None = None
        if city.staff is not None:
            self._by_grid = {}
            for worker in city.staff:
                self._by_grid.setdefault(worker.grid_code, []).append(worker)

    def choose(
        self, grid_code: str, at_ms: int, loads: Mapping[str, int]
    ) -> tuple[str | None, str]:
        """The worker's code for an order in a grid at an instant, or None; and why.

        ``loads``: open orders of each worker by code. Of equally loaded ones (by share of their most) the
        lowest code.
        """
        if not grid_code:
            return None, "the grid is not known"
        if self._by_grid is None:
            # A special grid's worker is that of its community.
            code = grid_code[: LEVELS["community"]] if "Z" in grid_code else grid_code
            worker = f"W{code}"
            if loads.get(worker, 0) >= self._max_load:
                return None, f"{worker} has {self._max_load} open orders, the most"
            return worker, f"the worker of grid {code}"
        time = datetime.fromtimestamp(at_ms / 1000, self._zone).time()
        off, full = 0, 0
        for length in sorted({len(grid_code), *LEVELS.values()}, reverse=True):
            if length > len(grid_code):
                continue
            there = self._by_grid.get(grid_code[:length], ())
            on = [worker for worker in there if worker.on_duty(time)]
            free = [w for w in on if loads.get(w.staff_id, 0) < w.max_load]
            off, full = off + len(there) - len(on), full + len(on) - len(free)
            if free:
                best = min(free, key=lambda w: (loads.get(w.staff_id, 0) / w.max_load, w.staff_id))
                return best.staff_id, f"on shift in {best.grid_code} with the least load"
        if not off and not full:
            return None, f"staff.csv has nobody for grid {grid_code}"
        return None, f"of the workers for grid {grid_code} {off} are off shift and {full} are full"


def as_event(
    city: CityPack, class_code: str, grid_code: str, text: str, opened_at: int, channel: str = ""
) -> dict[str, Any]:
    """What the duty list is asked of an event that is none yet; :class:`QuanyuError` names what is unknown."""
    if class_code not in city.classes:
        raise QuanyuError(f"class {class_code}: not in taxonomy.csv of {city.name}")
    district = grid_code[: LEVELS["district"]]
    if district not in city.zone_of:
        raise QuanyuError(f"grid {grid_code}: no district {district} in {city.name}")
    return {
        "class_code": class_code,
        "district_code": district,
        "grid_code": grid_code,
        "title": text,
        "address": "",
        "first_channel": channel,
        "priority": 0,
        "opened_at": opened_at,
    }
