"""What a city's duty list (责任清单) is made of beside its lines: conditions, centres, staff.

A condition is data: it holds when one of its words, roads, special grids, channels or priorities is there,
none of its ``unless`` words is, and its season runs. Nothing else can be said with it.
"""

import re
from collections.abc import Mapping, Set
from dataclasses import dataclass
from datetime import time
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Word = Annotated[str, Field(min_length=2)]
#: MM-DD.
_DAY = re.compile(r"\A(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])\Z")
_SHIFT = re.compile(r"\A([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)\Z")

Level = Literal["city", "district", "street"]


class Condition(BaseModel):
    """One condition of the duty list (Condition of case_standard tables in the style of GB/T 30428.8)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    meaning: str = Field(min_length=1, description="When it holds, for a person.")
    rank: int = Field(ge=1, description="Among the rules of a class the higher one wins.")
    words: list[Word] = Field(default_factory=list, description="In the title or address.")
    roads: list[Word] = Field(default_factory=list, description="Named in the title or address.")
    not_before: list[str] = Field(
        default_factory=list, description="A road's name followed by this names something else."
    )
    special: list[Word] = Field(
        default_factory=list, description="In the name of the special grid (专属网格)."
    )
    channels: list[str] = Field(default_factory=list, description="The first report's channel.")
    priority: int | None = Field(default=None, ge=1, description="The event's, at least.")
    unless: list[Word] = Field(default_factory=list, description="In the title or address: no.")
    season: tuple[str, str] | None = Field(
        default=None, description="First and last day of each year, MM-DD, that it may hold."
    )

    @field_validator("season")
    @classmethod
    def _days(cls, season: tuple[str, str] | None) -> tuple[str, str] | None:
        if season and not all(_DAY.match(day) for day in season):
            raise ValueError('write two days such as ["05-15", "09-30"]')
        return season

    @model_validator(mode="after")
    def _says_something(self) -> "Condition":
        if not (self._any or self.season):
            raise ValueError("it never holds; name words, roads, special, channels or a season")
        return self

    @cached_property
    def words_asked(self) -> frozenset[str]:
        """All words that it looks for."""
        return frozenset((*self.words, *self.roads, *self.unless))

    @cached_property
    def only_words(self) -> bool:
        """Whether it never holds where none of its words and roads is said."""
        rest = self.special or self.channels or self.priority is not None
        return bool(self.words or self.roads) and not rest

    def holds(
        self,
        event: Mapping[str, Any],
        text: str,
        said: Set[str],
        special_name: str,
        day: str,
    ) -> bool:
        """Whether it holds for an event.

        ``text``: title and address; ``said``: which of :attr:`words_asked` are in it; ``special_name``: of
        the event's special grid, else empty; ``day``: of its opening in the city, MM-DD.
        """
        if self.only_words and said.isdisjoint(self.words_asked):
            return False
        if self.season and not _within(day, *self.season):
            return False
        if not said.isdisjoint(self.unless):
            return False
        return (
            not self._any
            or not said.isdisjoint(self.words)
            or (not said.isdisjoint(self.roads) and self._roads.search(text) is not None)
            or (special_name != "" and any(word in special_name for word in self.special))
            or (bool(self.channels) and event.get("first_channel") in self.channels)
            or (self.priority is not None and event.get("priority", 0) >= self.priority)
        )

    @cached_property
    def _any(self) -> bool:
        named = self.words or self.roads or self.special or self.channels
        return bool(named) or self.priority is not None

    @cached_property
    def _roads(self) -> re.Pattern[str]:
        other = "|".join(map(re.escape, self.not_before))
        names = "|".join(map(re.escape, sorted(self.roads, key=len, reverse=True)))
        return re.compile(f"(?:{names})" + (f"(?!{other})" if other else ""))


def _within(day: str, first: str, last: str) -> bool:
    return first <= day <= last if first <= last else day >= first or day <= last


@dataclass(frozen=True, slots=True)
class Centre:
    """A centre of the 1 + 16 + 214: the city's, a unit's or a street's; ``parent``: code of the next above.

    ``code`` is that of the city, unit or street; the city's centre has no parent.
    """

    code: str
    name: str
    level: Level
    parent: str


@dataclass(frozen=True, slots=True)
class Worker:
    """A grid worker (网格员): the grid by a code of any level, shifts by the city's clock, and most orders.

    No shift: always on duty. A shift that ends before it begins goes on after midnight.
    """

    staff_id: str
    grid_code: str
    shifts: tuple[tuple[time, time], ...]
    max_load: int

    def on_duty(self, at: time) -> bool:
        """Whether a shift runs at a time of day; its end does not belong to it."""
        return not self.shifts or any(
            first <= at < last if first < last else at >= first or at < last
            for first, last in self.shifts
        )


def read_shifts(cell: str) -> tuple[tuple[time, time], ...]:
    """Shifts as tables have them, such as ``08:00-12:00|22:00-06:00``; ValueError says which is none."""
    shifts = []
    for part in filter(None, cell.split("|")):
        found = _SHIFT.match(part.strip())
        if not found:
            raise ValueError(f"{part!r}; write e.g. 08:00-18:00, or 22:00-06:00 over midnight")
        first, second, third, fourth = map(int, found.groups())
        begins, ends = time(first, second), time(third, fourth)
        if begins == ends:
            raise ValueError(f"{part!r} has no length; leave the cell empty for always")
        shifts.append((begins, ends))
    return tuple(shifts)
