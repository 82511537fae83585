"""``kpi.yaml`` and ``lights.yaml``: what a pack says of scores and lights, what is refused with its line."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from schemas import tables
from schemas.city import CityPack, load_city
from schemas.errors import QuanyuError
from schemas.kpi import OF_A_DAY, KpiRules, LightRules, kpi_rules, light_rules
from schemas.queries import find

CITY = load_city("zhengzhou")


def pack(folder: Path, **files: str) -> CityPack:
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    return replace(CITY, folder=folder)


def test_a_pack_without_the_files_has_the_defaults_and_the_shipped_one_says_the_same(
    tmp_path: Path,
) -> None:
    bare = pack(tmp_path)
    assert kpi_rules(bare) == kpi_rules(CITY) == KpiRules()
    assert light_rules(bare) == light_rules(CITY) == LightRules()
    # Who asks without a pack gets the same lights.
    defaults = {p.name: p.default for p in find("lights").parameters}
    assert {name: defaults[name] for name in LightRules().parameters} == LightRules().parameters


def test_a_card_is_written_as_the_query_reads_it(tmp_path: Path) -> None:
    text = (
        "scorecard:\n"
        "  archive_rate: {weight: 0.7, target: 0.9}\n"
        "  overdue_rate: {weight: 0.3, target: 0.1}\n"
    )
    rules = kpi_rules(pack(tmp_path, kpi=text))
    assert rules.card == "archive_rate:0.7:0.9:high|overdue_rate:0.3:0.1:low"
    assert rules.beyond_a_day == ["archive_rate", "overdue_rate"]


def test_a_days_score_has_the_kpis_that_steps_are_scored_by() -> None:
    scored = re.findall(r"\('(\w+_rate)', ", tables.view_query("order_scores_view"))
    assert set(scored) == OF_A_DAY
    assert kpi_rules(CITY).beyond_a_day == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("scorecard: {best_rate: {weight: 1, target: 1}}", r"kpi.yaml:1: scorecard: .*'best_rate'"),
        ("least: 5\nscorecard: {archive_rate: {weight: 0.5, target: 1}}", r":2: .* sum to 0.5"),
        ("scorecard:\n  archive_rate: {weight: 1, target: 95}", r":2: scorecard.archive_rate.target"),
        ("repeat: {days: 365}", r":1: repeat.days"),
        ("weights: 1", r":1: weights: Extra"),
        ("- 1", r":1: must be a mapping"),
    ],
)  # fmt: skip
def test_a_bad_kpi_file_is_refused_with_line_and_field(
    tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(QuanyuError, match=message):
        kpi_rules(pack(tmp_path, kpi=text))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("red: [fire]", r"lights.yaml:1: red: .*no rule 'fire'; rules are dangerous"),
        ("burst:\n  events: 1", r":2: burst.events"),
        ("dangerous: {priority: 4}", r":1: dangerous.priority"),
    ],
)
def test_a_bad_lights_file_is_refused_with_line_and_field(
    tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(QuanyuError, match=message):
        light_rules(pack(tmp_path, lights=text))
