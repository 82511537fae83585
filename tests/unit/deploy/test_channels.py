"""Channels at a desk: what rows become without any server, and a page that is never out of date."""

import json
from pathlib import Path
from typing import Any

import openpyxl
import pytest
from typer.testing import CliRunner, Result

from connectors.files import read_entries
from deploy import channels
from deploy.channels import Row, counts, judge, page
from deploy.cli import create_app
from schemas.channels import channel_names, load_channel, read_channel
from schemas.city import CityPack, load_city
from schemas.errors import QuanyuError

FIXTURES = Path(__file__).parents[2] / "fixtures" / "channels"
FETCHED = ("hotline12345.csv", "city_management.csv", "mailbox.csv", "uav.geojson")


def quanyu(*arguments: str) -> Result:
    return CliRunner().invoke(create_app(), ["channel", *arguments])


def rows_of(channel: str, path: Path, city: CityPack) -> list[Row]:
    return list(judge(load_channel(channel), read_entries(path), city))


def test_every_row_has_one_outcome_with_its_reason_and_its_defects(
    city: CityPack, tmp_path: Path
) -> None:
    path = tmp_path / "a.csv"
    path.write_text(
        "留言编号,留言主题,经度,纬度,坐标系,地址\n"
        "1,路面积水,20.0512,50.0512,WGS84,磨坊边\n"
        "1,路面积水,20.0512,50.0512,WGS84,磨坊边\n"
        ",路面积水,20.0512,50.0512,WGS84,\n"
        "2,路面积水,20.0512,50.0512,LOCAL,\n"
        "3,缺一格\n"
        "4,路面积水,,,,山口镇\n",
        encoding="utf-8",
    )
    rows = rows_of("hotline12345", path, city)
    assert [(row.number, row.outcome, row.reason) for row in rows] == [
        (1, "accepted", ""),
        (2, "duplicate", "exact_duplicate"),
        (3, "rejected", "missing_native_id"),
        (4, "review", "unknown_crs"),
        (5, "rejected", "malformed"),
        (6, "accepted", ""),
    ]
    assert (rows[0].class_code, rows[0].class_name, rows[0].district) == ("0101", "积水", "990103")
    assert rows[0].raw["lon"] == "20.0512"
    assert "payload" not in rows[0].raw
    assert rows[4].defects == ["malformed:2 cells, 6 columns"]
    assert counts(rows) == {
        "accepted": {"": 2},
        "duplicate": {"exact_duplicate": 1},
        "rejected": {"missing_native_id": 1, "malformed": 1},
        "review": {"unknown_crs": 1},
    }


def test_the_result_does_not_depend_on_how_the_rows_are_cut(
    city: CityPack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.csv"
    path.write_text(
        "留言编号,留言主题\n" + "".join(f"{n % 7},积水 {n}\n" for n in range(20)), encoding="utf-8"
    )
    whole = [(row.number, row.outcome) for row in rows_of("hotline12345", path, city)]
    monkeypatch.setattr(channels, "BATCH", 3)
    assert [(row.number, row.outcome) for row in rows_of("hotline12345", path, city)] == whole
    assert sum(outcome == "duplicate" for _, outcome in whole) == 13


@pytest.mark.parametrize("name", FETCHED)
def test_the_fetched_channels_fixtures_become_reports_and_none_is_rejected(name: str) -> None:
    path = FIXTURES / name
    rows = rows_of(path.stem, path, load_city("zhengzhou"))
    assert {row.outcome for row in rows} == {"accepted"} | (
        set() if path.stem == "hotline12345" else {"review"}
    )
    assert all(row.defects == [] for row in rows)


def test_one_object_in_two_frames_of_a_flight_is_two_reports_at_nearly_one_place() -> None:
    first, second, *_ = rows_of("uav", FIXTURES / "uav.geojson", load_city("zhengzhou"))
    assert first.raw["native_id"] != second.raw["native_id"]
    assert first.raw["device"] == second.raw["device"] == "ZZ-UAV-20260317-07"
    assert first.grid == second.grid
    assert abs(float(first.raw["lon"]) - float(second.raw["lon"])) < 1e-4


def test_every_channel_has_a_fixture_that_it_reads() -> None:
    without = {
        name
        for name in channel_names()
        if not any(FIXTURES.glob(f"{name}.*")) and load_channel(name).kind != "foreign"
    }
    assert without <= {"iot"}  # its messages come one by one, over MQTT


def test_the_channels_page_is_current() -> None:
    assert channels.PAGE.read_text(encoding="utf-8") == page(), "run: quanyu channel doc"


def test_the_page_says_every_field_that_a_spec_may_have() -> None:
    text = page()
    for words in ("`watermark`", "`settle_s`", "`usual_gap_s`", "`jurisdiction_id`", "120.0"):
        assert words in text
    for name in channel_names():
        assert f"## {name}\n" in text


# --- The commands


def sample(path: Path) -> Path:
    rows = [
        ["编号", "发生时间", "标题", "内容", "地址"],
        *(
            [f"N{n}", "2026-03-01 08:00:00", "路灯不亮", f"路灯不亮 {n}", "金水路"]
            for n in range(3)
        ),
    ]
    if path.suffix == ".csv":
        path.write_text("\n".join(map(",".join, rows)) + "\n", encoding="utf-8")
    elif path.suffix == ".xlsx":
        book = openpyxl.Workbook()
        for row in rows:
            book.worksheets[0].append(row)
        book.save(path)
    else:
        entries: list[dict[str, Any]] = [dict(zip(rows[0], row, strict=True)) for row in rows[1:]]
        point = {"type": "Point", "coordinates": [113.66, 34.76]}
        if path.suffix == ".geojson":
            entries = [{"type": "Feature", "properties": e, "geometry": point} for e in entries]
        path.write_text("\n".join(json.dumps(e) for e in entries), encoding="utf-8")
    return path


@pytest.mark.parametrize("suffix", [".csv", ".xlsx", ".jsonl", ".geojson"])
def test_a_new_channel_is_a_spec_and_a_fixture_that_pass_their_own_test(
    tmp_path: Path, suffix: str
) -> None:
    path, out = sample(tmp_path / f"Sample{suffix}"), tmp_path / "out"
    made = quanyu(
        "new", "a_test", "--from", str(path), "--out", str(out), "--title", "试验", "--json"
    )
    assert made.exit_code == 0, made.output
    assert {p.name for p in out.iterdir()} == {"a_test.yaml", f"a_test{suffix}"}
    assert (out / f"a_test{suffix}").read_bytes() == path.read_bytes()
    spec = read_channel(out / "a_test.yaml")
    assert spec.title == "试验"
    assert {"occurred_at", "title", "text", "address"} <= spec.fields.keys()
    tested = quanyu("test", str(out / "a_test.yaml"), str(out / f"a_test{suffix}"), "--json")
    assert tested.exit_code == 0, tested.output
    result = json.loads(tested.output.splitlines()[-1])
    assert (result["channel"], len(result["rows"])) == ("a_test", 3)
    assert "rejected" not in result["outcomes"]


def test_a_new_channel_overwrites_nothing_and_leaves_nothing_behind(tmp_path: Path) -> None:
    path, out = sample(tmp_path / "sample.csv"), tmp_path / "out"
    assert quanyu("new", "a_test", "--from", str(path), "--out", str(out)).exit_code == 0
    before = (out / "a_test.yaml").read_text()
    again = quanyu("new", "a_test", "--from", str(path), "--out", str(out))
    assert isinstance(again.exception, QuanyuError)
    assert "exists and is not overwritten" in str(again.exception)
    (out / "a_test.yaml").unlink()
    assert isinstance(
        quanyu("new", "a_test", "--from", str(path), "--out", str(out)).exception, QuanyuError
    )
    assert before
    wrong = quanyu("new", "A-Test", "--from", str(path), "--out", str(tmp_path / "other"))
    assert isinstance(wrong.exception, QuanyuError)
    assert not any((tmp_path / "other").iterdir())
    for arguments, words in (
        (("--from", str(tmp_path / "none.csv")), "no such file"),
        (("--from", str(path), "--zone", "Europe/Nowhere"), "--zone: no time zone"),
    ):
        failed = quanyu("new", "b_test", "--out", str(out), *arguments)
        assert words in str(failed.exception)


def test_a_sample_too_large_for_a_fixture_is_refused(tmp_path: Path) -> None:
    path = sample(tmp_path / "sample.csv")
    with path.open("a") as more:
        more.write("x" * 1024 * 1024)
    failed = quanyu("new", "a_test", "--from", str(path), "--out", str(tmp_path / "out"))
    assert "cut it to some rows" in str(failed.exception)


def test_a_row_that_would_be_rejected_is_exit_1(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("留言编号,留言主题\n1,积水\n2\n", encoding="utf-8")
    done = quanyu("test", "hotline12345", str(path))
    assert done.exit_code == 1
    assert "     2  rejected (malformed: malformed:1 cells, 2 columns)" in done.output
    assert "1 rejected: malformed 1" in done.output
    assert quanyu("test", "hotline12345", str(path), "--limit", "1").exit_code == 0


def test_the_list_says_what_is_in_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = tmp_path / "sources.json"
    sources.write_text('{"hotline12345": {"sql": "sqlite:////secret-place/a.db"}}')
    monkeypatch.setenv("QUANYU_SOURCES_FILE", str(sources))
    done = quanyu("list", "--json")
    assert done.exit_code == 0
    assert "secret-place" not in done.output
    found = json.loads(done.output)["channels"]
    assert sorted(found) == channel_names()
    assert found["hotline12345"]["transports"] == {"http": True, "sql": True, "file": False}
    assert "hotline12345" in quanyu("list").output
