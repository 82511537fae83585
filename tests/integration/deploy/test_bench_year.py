"""``quanyu bench year`` on a small year: it measures every named query, and its rows are a city's."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from schemas.queries import load_queries
from tests.bench import year_data

pytestmark = [pytest.mark.integration, pytest.mark.long]

REPORTS = 20_000


@pytest.mark.timeout(900)
def test_every_query_is_measured_and_every_report_is_there(tmp_path: Path) -> None:
    command = [
        *(sys.executable, "-m", "tests.bench.year", "--json", "--reports", str(REPORTS)),
        *("--directory", str(tmp_path), "--load-s", "3", "--repeat-s", "0"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads(done.stdout.splitlines()[-1])
    measured = {row["name"]: row for row in result["queries"]}
    assert measured.keys() >= load_queries().keys()
    opened = {
        f"{name}.{drill.column} → {drill.query}"
        for name, query in load_queries().items()
        for drill in query.drill_down
    }
    assert measured.keys() - load_queries().keys() | set(result["unopened"]) == opened
    assert all(
        0 < row["best_ms"] <= row["p99_ms"] and row["cold_ms"] > 0 for row in measured.values()
    )
    rows = {row["table"]: row["rows"] for row in result["tables"]}
    assert rows["report_outcomes"] == REPORTS
    assert rows["reports"] == REPORTS * 22 // 25
    assert rows["order_transitions"] > rows["orders"] > rows["action_outcomes"] > 0
    assert result["load"]["reports_per_s"] > 0 < result["bytes_per_report"]


def test_a_years_reports_come_by_season_weekday_and_hour() -> None:
    spans = list(year_data.hours(365_000, "Asia/Shanghai"))
    assert sum(n for _, _, n in spans) == 365_000
    assert [first for _, first, _ in spans][1:] == [first + n for _, first, n in spans][:-1]
    by_hour = [sum(n for _, _, n in spans[hour::24]) for hour in range(24)]
    assert by_hour[9] > 5 * by_hour[3]
    days = [sum(n for _, _, n in spans[day * 24 : day * 24 + 24]) for day in range(364)]
    assert max(days) > 2.5 * sorted(days)[182]
