"""How a city scores its orders and when its lights go on: ``kpi.yaml`` and ``lights.yaml`` of its pack.

The formulas are no data of a city: they are the named queries ``kpi_items``, ``kpi``, ``kpi_time``,
``scorecard`` and ``lights``.
"""

from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from schemas.city import CityPack
from schemas.documents import read_document

#: Every rate of the query ``kpi``, and whether a high or a low one is good.
RATES: Mapping[str, Literal["high", "low"]] = {
    "register_rate": "high", "in_time_register_rate": "high", "accurate_dispatch_rate": "high",
    "return_rate": "low", "response_rate": "high", "dispose_rate": "high",
    "in_time_dispose_rate": "high", "archive_rate": "high", "in_time_archive_rate": "high",
    "overdue_rate": "low", "closed_rate": "high", "on_time_rate": "high", "rework_rate": "low",
    "check_pass_rate": "high", "reopen_rate": "low", "false_closure_rate": "low",
    "extension_rate": "low", "supervision_rate": "low", "solve_rate": "high",
    "first_satisfaction_rate": "high", "satisfaction_rate": "high", "repeat_rate": "low",
}  # fmt: skip
#: Those that the table order_scores has, hence a day's score; a period's may have all.
OF_A_DAY = frozenset(
    {
        "accurate_dispatch_rate", "response_rate", "in_time_archive_rate", "rework_rate",
        "false_closure_rate", "solve_rate", "satisfaction_rate",
    }
)  # fmt: skip
#: Rules of the lights.
RULES = ("dangerous", "due_soon", "recurrence", "burst")


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Line(_Model):
    """What a KPI is worth in a score: full points at ``target``, less the farther from it."""

    weight: float = Field(gt=0, le=1)
    target: float = Field(ge=0, le=1)


class Repeat(_Model):
    """重复案件: so many matters of one class in one grid within so many days are a group."""

    days: int = Field(default=30, ge=1, le=100)
    times: int = Field(default=3, ge=2, le=100)


def _line(weight: float, target: float) -> Line:
    return Line(weight=weight, target=target)


class KpiRules(_Model):
    """``kpi.yaml``; without the file, these. Weights and targets are ours: no city's are public.

    ``least``: who has fewer rows in every KPI of the score has no rank. ``lookback_days``: orders whose
    last step is older than that before a period are not looked for in it.
    """

    scorecard: dict[str, Line] = Field(
        default_factory=lambda: {
            "accurate_dispatch_rate": _line(0.1, 0.95),
            "response_rate": _line(0.2, 0.95),
            "in_time_archive_rate": _line(0.25, 0.95),
            "rework_rate": _line(0.1, 0.05),
            "false_closure_rate": _line(0.05, 0.02),
            "solve_rate": _line(0.15, 0.9),
            "satisfaction_rate": _line(0.15, 0.9),
        }
    )
    least: int = Field(default=10, ge=1)
    repeat: Repeat = Repeat()
    lookback_days: int = Field(default=100, ge=1, le=1000)

    @field_validator("scorecard")
    @classmethod
    def _whole(cls, lines: dict[str, Line]) -> dict[str, Line]:
        for kpi in lines:
            if kpi not in RATES:
                raise ValueError(f"no KPI {kpi!r}; KPIs are {', '.join(RATES)}")
        total = sum(line.weight for line in lines.values())
        if abs(total - 1.0) > 1e-9:
            raise ValueError(f"the weights sum to {total:g}; they must sum to 1")
        return lines

    @property
    def beyond_a_day(self) -> list[str]:
        """KPIs of the score without which a day's score is reckoned, by the weights of the others."""
        return [kpi for kpi in self.scorecard if kpi not in OF_A_DAY]

    @property
    def card(self) -> str:
        """As the queries take it."""
        return "|".join(
            f"{kpi}:{line.weight!r}:{line.target!r}:{RATES[kpi]}"
            for kpi, line in self.scorecard.items()
        )


class Dangerous(_Model):
    """Classes of this level and above: 1 red, 2 urgent, 3 normal."""

    priority: int = Field(default=1, ge=1, le=3)


class DueSoon(_Model):
    """Open orders whose deadline is so near."""

    hours: int = Field(default=72, ge=1, le=24 * 60)


class Burst(_Model):
    """So many matters in one street within so many hours whose classes agree in the first ``digits``."""

    events: int = Field(default=5, ge=2)
    hours: int = Field(default=2, ge=1, le=24 * 7)
    digits: int = Field(default=2, ge=1, le=4)


class LightRules(_Model):
    """``lights.yaml``: red and yellow lights; without the file, these."""

    red: list[str] = Field(
        default=["dangerous", "burst"], description="Rules whose lights are red; others are yellow."
    )
    dangerous: Dangerous = Dangerous()
    due_soon: DueSoon = DueSoon()
    recurrence: Repeat = Repeat()
    burst: Burst = Burst()

    @field_validator("red")
    @classmethod
    def _known(cls, rules: list[str]) -> list[str]:
        for rule in rules:
            if rule not in RULES:
                raise ValueError(f"no rule {rule!r}; rules are {', '.join(RULES)}")
        return rules

    @property
    def parameters(self) -> dict[str, str | int]:
        """As the query ``lights`` takes them."""
        return {
            "red": ",".join(self.red),
            "dangerous_priority": self.dangerous.priority,
            "due_hours": self.due_soon.hours,
            "recurrence_times": self.recurrence.times,
            "recurrence_days": self.recurrence.days,
            "burst_events": self.burst.events,
            "burst_hours": self.burst.hours,
            "burst_digits": self.burst.digits,
        }


def kpi_rules(city: CityPack) -> KpiRules:
    """A city's ``kpi.yaml``; :class:`QuanyuError` as ``file:line: field: what is wrong``."""
    path = city.folder / "kpi.yaml"
    return read_document(path, KpiRules) if path.exists() else KpiRules()


def light_rules(city: CityPack) -> LightRules:
    """A city's ``lights.yaml``; :class:`QuanyuError` as ``file:line: field: what is wrong``."""
    path = city.folder / "lights.yaml"
    return read_document(path, LightRules) if path.exists() else LightRules()
