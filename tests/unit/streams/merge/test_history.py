"""A history is read line by line, refused with line and remedy; what is learnt is held against unseen time."""

from pathlib import Path

import pytest

from schemas.errors import QuanyuError
from schemas.merge_policy import MergePolicy, Rule, read_policy, write_policy
from streams.merge.history import (
    History,
    PastReport,
    _choose,
    decide,
    learn,
    read_flags,
    read_pairs,
    read_reports,
    score,
)

HEADER = "report_id,occurred_at,category,lon,lat,crs,address,text\n"
BUILDING = MergePolicy(default=Rule(mode="address", radius_m=5, hours=96), part=["apartment only"])
HOUR = 3_600_000


def history(folder: Path, rows: str) -> History:
    path = folder / "reports.csv"
    path.write_text(HEADER + rows, encoding="utf-8")
    return read_reports(path, {"0406"}, "Asia/Shanghai")


def past(name: str, hours: float, category: str = "lamp", north: float = 0.0) -> PastReport:
    return PastReport(name, round(hours * HOUR), category, 20.0, 50.0 + north, "", "")


def test_cells_that_cannot_be_read_are_named_by_line_and_count_as_empty(tmp_path: Path) -> None:
    found = history(
        tmp_path,
        "1,2020-01-01 08:00,A,nan,90,WGS84,,\n2,soon,A,1,2,MARS,,\n3,,,0,0,WGS84,,\n4,,,,,,,\n",
    )
    assert [defect.split("reports.csv:")[1].split(":")[0] for defect in found.defects] == [
        *("2", "3", "3", "4")
    ]
    assert all(report.lon is None for report in found.reports)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("", "no reports"),
        (",,,,,,,\n", "reports.csv:2: report_id: is empty"),
        ("1,,,,,,,\n1,,,,,,,\n", "reports.csv:3: report_id: 1 stands in line 2 too"),
    ],
)
def test_reports_that_cannot_be_told_apart_are_refused(
    tmp_path: Path, rows: str, message: str
) -> None:
    with pytest.raises(QuanyuError, match=message):
        history(tmp_path, rows)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("a,b\n1,9\n", "truth.csv:2: b: no report '9'"),
        ("a,b\n1,1\n", "truth.csv:2: b: 1 is paired with itself"),
        ("a,b\n", "no pairs"),
        ("x,y\n1,2\n", "column a is missing"),
    ],
)
def test_pairs_that_mean_nothing_are_refused(tmp_path: Path, rows: str, message: str) -> None:
    path = tmp_path / "truth.csv"
    path.write_text(rows)
    with pytest.raises(QuanyuError, match=message):
        read_pairs(path, [past("1", 0), past("2", 1)])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("report_id,is_duplicate\n1,0\n1,1\n", "truth.csv:3: report_id: 1 is flagged 0 and 1"),
        ("report_id,is_duplicate\n1,maybe\n", "truth.csv:2: is_duplicate: 'maybe' must be 0 or 1"),
        ("report_id,is_duplicate\n1,0\n2,0\n", "no report is flagged 1"),
        ("report_id,is_duplicate\n9,1\n", "no report '9'"),
    ],
)
def test_flags_that_contradict_or_say_nothing_are_refused(
    tmp_path: Path, rows: str, message: str
) -> None:
    path = tmp_path / "truth.csv"
    path.write_text(rows)
    with pytest.raises(QuanyuError, match=message):
        read_flags(path, [past("1", 0), past("2", 1)])


def test_pairs_are_closed_and_a_foreign_label_is_one_however_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "truth.csv"
    path.write_text("a,b\n1,2\n3,2\n")
    pairs = read_pairs(path, [past("1", 0), past("2", 1), past("3", 2)])
    assert pairs == {("1", "2"), ("1", "3"), ("2", "3")}
    found = history(tmp_path, "1,,Street  Light,,,,,\n2,,ＳＴＲＥＥＴ light,,,,,\n3,,0406,,,,,\n")
    assert [report.category for report in found.reports] == ["street light", "street light", "0406"]


def test_tenants_of_one_building_are_one_matter_but_not_one_dwellings_trouble(
    tmp_path: Path,
) -> None:
    found = history(
        tmp_path,
        "1,2020-01-01 08:00,Heat,,,,5 Main Street APT 2,ENTIRE BUILDING\n"
        "2,2020-01-01 09:00,HEAT,,,,5 MAIN ST #4,ENTIRE BUILDING\n"
        "3,2020-01-01 10:00,Heat,,,,5 Main St.,APARTMENT ONLY\n"
        "4,2020-01-01 10:00,Heat,,,,6 Main St,ENTIRE BUILDING\n"
        "5,2020-01-09 10:00,Heat,,,,5 Main St,ENTIRE BUILDING\n",
    )
    events = decide(BUILDING, found.reports)
    assert events["1"] == events["2"]
    assert len(set(events.values())) == 4
    result = score(events, found.reports, frozenset({"2"}))
    assert (result.precision, result.recall, result.f1) == (1.0, 1.0, 1.0)


def test_what_is_learnt_differs_by_class_and_survives_its_file(tmp_path: Path) -> None:
    reports: list[PastReport] = []
    pairs: set[tuple[str, str]] = set()
    for number in range(60):
        at = number * 30.0
        # Lamps are linked within 40 m, cars never, though as near.
        reports += [past(f"l{number}", at), past(f"m{number}", at + 1, north=40 / 111_320)]
        pairs.add((f"l{number}", f"m{number}"))
        reports += [past(f"c{number}", at, "car"), past(f"d{number}", at + 1, "car")]
    reports.sort(key=lambda report: (report.at, report.id))
    learnt = learn(History(reports), frozenset(pairs), MergePolicy())
    assert learnt.cross_validated.f1 > 0.95
    assert learnt.policy.rule("car").mode == "never"
    assert learnt.policy.rule("lamp").radius_m == 60.0
    path = tmp_path / "merge.yaml"
    write_policy(path, learnt.policy, "a comment")
    assert read_policy(path) == learnt.policy


def test_a_policy_names_file_line_and_field_at_fault(tmp_path: Path) -> None:
    path = tmp_path / "merge.yaml"
    path.write_text("version: a\ndefault: {radius_m: -3}\n")
    with pytest.raises(QuanyuError, match=r"merge.yaml:2: default.radius_m"):
        read_policy(path)


DATA = Path(__file__).parents[5] / "shared" / "data" / "zh_complaints"


@pytest.mark.skipif(not DATA.exists(), reason="needs ../shared/data/zh_complaints")
def test_every_pair_of_the_same_letter_is_found(tmp_path: Path) -> None:
    import csv

    with (DATA / "fujian3_hot_4326.csv").open(encoding="utf-8-sig", newline="") as handle:
        letters = [
            PastReport(row["留言编号"], number, "", None, None, "", row["留言详情"])
            for number, row in enumerate(csv.DictReader(handle))
        ]
    path = tmp_path / "pairs.csv"
    path.write_text((DATA / "exact_text_dup_pairs.csv").read_text().replace("msg_a,msg_b", "a,b"))
    found = score(decide(MergePolicy(), letters), letters, read_pairs(path, letters))
    assert (found.true, found.recall) == (121, 1.0)


def test_a_window_that_chance_favours_is_not_learnt_before_a_plateau() -> None:
    counts = {1.0: (1, 8), 2.0: (5, 8), 4.0: (1, 8), 12.0: (5, 9), 24.0: (5, 9), 36.0: (5, 9)}
    options = {Rule(hours=hours): {0: found} for hours, found in counts.items()}
    _, default = _choose({"potholes": options}, {0: 10}, [0])
    assert default.hours == 24.0
