"""A month's report: the same facts give the same bytes, its numbers are the queries', what is wrong is told."""

import csv
import io
import json
import re
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import clickhouse_connect
import openpyxl
import pytest
from clickhouse_connect.driver.client import Client
from typer.testing import CliRunner

from deploy.cli import create_app
from deploy.kpi import asker, months, parameters
from deploy.report import NOTES, SCORED, gather, html, xlsx
from schemas import tables
from schemas.errors import QuanyuError
from schemas.settings import Settings
from tests.order_book import CITY, DAY, UNTIL, ZONE, order_book

pytestmark = pytest.mark.integration

AS_OF = UNTIL + 3 * DAY


@pytest.fixture(scope="module")
def own(settings: Settings) -> Iterator[tuple[Settings, Client]]:
    own = settings.model_copy(update={"clickhouse_database": "test_report"})
    tables.apply(own)
    client = clickhouse_connect.get_client(
        dsn=own.clickhouse_url, database="test_report", autogenerate_session_id=False
    )
    order_book(seed=7, events=300).insert(client)
    yield own, client
    client.command("DROP DATABASE test_report")
    client.close()


@pytest.fixture
def quanyu(own: tuple[Settings, Client], monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    monkeypatch.setenv("QUANYU_CLICKHOUSE", own[0].clickhouse_url)
    monkeypatch.setenv("QUANYU_CLICKHOUSE_DATABASE", "test_report")
    return CliRunner()


def test_the_same_facts_and_instant_give_the_same_bytes(own: tuple[Settings, Client]) -> None:
    ask, periods = asker(own[1]), months("2026-10", ZONE, AS_OF)
    first = gather(ask, CITY, "2026-10", periods)
    page, book = html(first), xlsx(first)
    # What becomes known later changes nothing of what was known then.
    late = order_book(seed=8, events=1).steps[:1]
    late[0] |= {"order_id": "late", "at": AS_OF + 1000}
    names = ["order_id", "version", "to_state", "opened_at", "due_at", "at"]
    values = [late[0][n] for n in names[:3]] + [
        time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime((late[0][n] or UNTIL) / 1000))
        for n in names[3:]
    ]
    literals = ", ".join(repr(v) for v in values)
    own[1].command(f"INSERT INTO order_transitions ({', '.join(names)}) VALUES ({literals})")
    again = gather(ask, CITY, "2026-10", periods)
    assert html(again) == page
    assert xlsx(again) == book
    # Nor is the moment of writing in it, which two runs of one second share.
    with zipfile.ZipFile(io.BytesIO(book)) as archive:
        assert {entry.date_time[0] for entry in archive.infolist()} == {1980}
        stamps = re.findall(rb"\d{4}-\d\d-\d\dT[\d:]+Z", archive.read("docProps/core.xml"))
    assert set(stamps) == {b"2026-11-03T16:00:00Z"}


def test_page_and_workbook_tell_every_number_with_its_formula(
    own: tuple[Settings, Client],
) -> None:
    ask, periods = asker(own[1]), months("2026-10", ZONE, AS_OF)
    report = gather(ask, CITY, "2026-10", periods)
    page = html(report)
    book = openpyxl.load_workbook(io.BytesIO(xlsx(report)))
    rates = ask("kpi", parameters(CITY, periods[0]))
    lines = list(book["考核指标"].iter_rows(min_row=2, values_only=True))
    assert [(r[0], r[2], r[3]) for r in lines] == [
        (r["term"], r["numerator"], r["denominator"]) for r in rates
    ]
    for row in rates:
        assert row["formula"] in page
    for title, _ in SCORED.values():
        assert title in page
        assert book[title].max_row > 2
    assert all(note in page for note in NOTES)
    assert "2026-10-01 00:00:00 至 2026-11-01 00:00:00" in page
    # Nothing is fetched from elsewhere, and nothing runs.
    assert not any(word in page for word in ("http:", "https:", "<script", "src="))
    ranked = [r[0] for r in book["区县与开发区得分"].iter_rows(min_row=2, values_only=True)]
    assert ranked[0] == 1


def test_the_command_writes_page_workbook_and_the_orders_behind_a_number(
    quanyu: CliRunner, tmp_path: Path
) -> None:
    arguments = ["report", "--month", "2026-10", "--out", str(tmp_path / "out"), "--json"]
    arguments += ["--as-of", "2026-11-04", "--orders", "in_time_archive_rate"]
    result = quanyu.invoke(create_app(), arguments)
    assert result.exit_code == 0, result.output
    told = json.loads(result.output.splitlines()[-1])
    assert told["as_of"] == AS_OF
    assert [Path(path).stat().st_size > 0 for path in told["files"]] == [True] * 3
    kpi = told["kpis"]["in_time_archive_rate"]
    with Path(told["files"][2]).open(encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    assert sum(row["hit"] in ("1", "True") for row in rows) == kpi["numerator"]
    assert sum(row["reason"] == "" for row in rows) == kpi["denominator"]
    # Without --as-of a month that is over is told as of its end.
    result = quanyu.invoke(create_app(), arguments[:6])
    assert json.loads(result.output.splitlines()[-1])["as_of"] == UNTIL


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--month", "October"], "'October' is no month; write e.g. 2026-10"),
        (["--month", "2026-13"], "is no month"),
        (["--month", "2026-10", "--as-of", "soon"], "--as-of 'soon' is no instant; write ISO 8601"),
        (["--month", "2026-10", "--as-of", "2026-09-30"], "before 2026-10 begins"),
        (["--month", "2199-01"], "before 2199-01 begins"),
        (["--month", "2026-10", "--orders", "best"], "'best' is no KPI; KPIs are register_rate"),
    ],
)
def test_a_bad_argument_is_told_with_its_remedy(
    quanyu: CliRunner, tmp_path: Path, more: list[str], message: str
) -> None:
    result = quanyu.invoke(create_app(), ["report", *more, "--out", str(tmp_path)])
    assert isinstance(result.exception, QuanyuError)
    assert message in str(result.exception)


def test_a_folder_that_cannot_be_written_and_an_empty_month_are_told(
    quanyu: CliRunner, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    result = quanyu.invoke(
        create_app(), ["report", "--month", "2026-10", "--out", str(tmp_path / "file")]
    )
    assert "not writable" in str(result.exception)
    result = quanyu.invoke(create_app(), ["report", "--month", "2020-10", "--out", str(tmp_path)])
    assert result.exit_code == 1
    assert "nothing falls into 2020-10" in result.output
    assert (tmp_path / "report-2020-10.html").exists()
