"""`quanyu evaluate kpi`: a city's own orders by the formulas in use; what is wrong is told with its line."""

import csv
import json
import re
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from deploy.cli import create_app
from deploy.evaluate_kpi import RATES, STATES, TIMES, measure_kpis
from schemas.city import load_city
from schemas.errors import QuanyuError
from schemas.registry import load_schemas

CITY = load_city("zhengzhou")
SHARED = Path(__file__).parents[4] / "shared" / "data"
BALTIMORE = SHARED / "baltimore311" / "baltimore_311_sample.csv"
HEADER = "order_id,status,opened_at,due_at,closed_at,note\n"
#: A Wednesday; 调休 and holidays are far.
ORDERS = (
    HEADER
    + """\
a,Closed,2026-03-18T09:00:00,2026-03-18T17:00:00,2026-03-18T17:00:00,at the last moment
b,CLOSED,2026-03-18T09:00:00,2026-03-18T17:00:00,2026-03-19T10:00:00,late
c,已结案,2026-03-18 09:00,,2026-03-18 16:00,no deadline
d,Closed (Duplicate),2026-03-18T09:00:00,2026-03-18T17:00:00,2026-03-18T09:05:00,looks closed
e,HANDLING,2026-03-18T09:00:00,2026-03-18T17:00:00,,overdue
f,handling,2026-03-18T09:00:00,2026-03-25T17:00:00,,not due yet
g,closed,2026-03-18T09:00:00,2026-03-18T17:00:00,2026-03-17T09:00:00,closed before it was opened
h,closed,2026-03-18T09:00:00,2026-03-17T17:00:00,2026-03-18T10:00:00,due before it was opened
i,withdrawn,2026-03-18T09:00:00,2026-03-18T17:00:00,,merged
j,returned,2026-03-18T09:00:00,2026-03-18T17:00:00,,returned
k,suspended,2026-03-18T09:00:00,2026-03-18T17:00:00,,since when is not known
l,closed,2026-03-18T09:00:00+08:00,2026-03-18T09:00:00Z,2026-03-18T08:59:59Z,offsets
"""
)


def written(folder: Path, text: str) -> Path:
    path = folder / "orders.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_kpis_count_by_deadline_and_say_whom_they_leave_out(tmp_path: Path) -> None:
    found = measure_kpis(written(tmp_path, ORDERS), CITY)
    kpis = found["kpis"]
    assert set(kpis) == {*RATES, *TIMES}
    assert found["as_of"] == "2026-03-19T02:00:00+00:00"
    counted = {name: (kpis[name]["numerator"], kpis[name]["denominator"]) for name in RATES}
    # due: a, b, e, k, l
    assert counted == {
        "archive_rate": (3, 5), "in_time_archive_rate": (2, 5), "overdue_rate": (3, 5),
        "closed_rate": (6, 9), "on_time_rate": (3, 4),
    }  # fmt: skip
    assert kpis["archive_rate"]["excluded"] == {
        "no_deadline": 1, "status_unknown": 1, "not_due": 1, "closed_before_opened": 1,
        "due_before_opened": 1, "withdrawn": 1, "returned": 1,
    }  # fmt: skip
    assert kpis["on_time_rate"]["excluded"] == {
        "no_deadline": 1, "closed_before_opened": 1, "due_before_opened": 1,
    }  # fmt: skip
    hour = 3_600_000
    wall, work = kpis["close_time_wall"], kpis["close_time_work"]
    assert (wall["denominator"], wall["numerator"]) == (5, (8 + 25 + 7 + 1 + 8) * hour - 1000)
    assert wall["excluded"] == {"times_disordered": 1, "status_unknown": 1}
    # Work is from 9 to 12 and from 13:30 to 17:30.
    assert work["numerator"] == round((6.5 + 8 + 5.5 + 1 + 6.5) * hour) - 1000
    assert work["median"] == 6.5 * hour - 1000
    assert found["closed"] == 6
    assert found["unknown_statuses"] == {"Closed (Duplicate)": 1}
    assert found["flags"]["closed_before_opened"] == {"rows": 1, "lines": [8]}
    assert found["flags"]["due_before_opened"] == {"rows": 1, "lines": [9]}


def test_as_of_an_earlier_moment_less_is_due(tmp_path: Path) -> None:
    early = round(datetime.fromisoformat("2026-03-18T10:00:00+08:00").timestamp() * 1000)
    kpis = measure_kpis(written(tmp_path, ORDERS), CITY, early)["kpis"]
    assert kpis["archive_rate"]["denominator"] == 0
    assert kpis["archive_rate"]["value"] is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("order_id,status,opened_at,due_at\n1,Closed,,\n", r":1: column closed_at is missing"),
        (HEADER, r"has no row"),
        (HEADER + ",closed,,,\n", r":2: order_id: is empty"),
        (HEADER + "1,open,2026-01-01,,\n1,open,2026-01-01,,\n", r":3: order_id: '1' stands in line 2"),
        (HEADER + "1,open,2026-02-30,,\n", r":2: opened_at: '2026-02-30' is no instant; write ISO"),
        (HEADER + "1,open,2026-01-01,soon,\n", r":2: due_at: 'soon'"),
        (HEADER + "1,open,1026-01-01,,\n", r":2: opened_at: '1026-01-01' is not between"),
        (HEADER + "1,open,,2026-01-01,\n", r"no row has opened_at or closed_at; give --as-of"),
    ],
)  # fmt: skip
def test_a_bad_file_is_refused_with_line_field_and_remedy(
    tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(QuanyuError, match=message):
        measure_kpis(written(tmp_path, text), CITY)


def test_odd_ids_and_statuses_are_data(tmp_path: Path) -> None:
    rows = [['q"uo,te', "Closed"], ["line\nbreak", "\\N"], ["\\N", ""], ["'; DROP", "Closed%"]]
    path = tmp_path / "orders.csv"
    with path.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(HEADER.strip().split(","))
        writer.writerows([*row, "2026-03-18T09:00:00", "", "2026-03-18T10:00:00"] for row in rows)
    found = measure_kpis(path, CITY)
    assert found["kpis"]["closed_rate"]["numerator"] == found["closed"] == 1
    assert found["kpis"]["closed_rate"]["excluded"] == {"status_unknown": 3}


def test_the_command_prints_one_object_as_its_last_line(tmp_path: Path) -> None:
    arguments = ["evaluate", "kpi", "--orders", str(written(tmp_path, ORDERS))]
    result = CliRunner().invoke(create_app(), [*arguments, "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.output.splitlines()[-1])["orders"] == 12
    assert "Closed (Duplicate)" in CliRunner().invoke(create_app(), arguments).output


def test_every_state_of_an_order_is_known() -> None:
    order: Any = load_schemas()["Order", 2]
    field = next(f for f in order["fields"] if f["name"] == "state")
    assert set(STATES) == set(field["type"]["symbols"]) - {"UNKNOWN"}


@pytest.mark.skipif(not BALTIMORE.exists(), reason="needs ../shared/data/baltimore311")
def test_baltimores_sample_is_on_time_as_its_own_columns_say(tmp_path: Path) -> None:
    def iso(text: str) -> str:
        return datetime.strptime(text, "%m/%d/%Y %I:%M:%S %p").isoformat() if text else ""

    path, statuses = tmp_path / "orders.csv", Counter[str]()
    with BALTIMORE.open(encoding="utf-8") as source, path.open("w", encoding="utf-8") as handle:
        writer = csv.writer(handle)
        writer.writerow(HEADER.strip().split(","))
        for row in csv.DictReader(source):
            statuses[row["SRStatus"]] += 1
            times = [iso(row[name]) for name in ("CreatedDate", "DueDate", "CloseDate")]
            writer.writerow([row["SRRecordID"], row["SRStatus"], *times])
    found = measure_kpis(path, CITY)
    on_time = found["kpis"]["on_time_rate"]
    assert (round(on_time["value"], 3), on_time["denominator"]) == (0.836, 9555)
    looks_closed = sum(n for status, n in statuses.items() if re.match("Closed.", status))
    assert found["closed"] == statuses["Closed"] == 9567
    assert found["kpis"]["closed_rate"]["numerator"] == 9567
    assert looks_closed == 225
    assert found["unknown_statuses"].keys() == {s for s in statuses if "(" in s}
