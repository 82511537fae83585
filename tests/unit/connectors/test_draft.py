"""A draft guesses what it can, says how sure it is, and leaves open what a wrong guess would hide."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connectors.draft import draft
from connectors.files import read_entries
from connectors.mapping import Entry
from schemas.channels import ChannelSpec, read_channel
from schemas.errors import QuanyuError

FIXTURES = Path(__file__).parents[2] / "fixtures" / "channels"


def drafted(
    folder: Path, rows: list[dict[str, Any]], file: str = "sample.csv"
) -> tuple[ChannelSpec, str]:
    """The spec of a draft over rows, and the draft itself."""
    entries = [Entry(number, row) for number, row in enumerate(rows, 1)]
    text = draft("a_test", "试验", file, entries, "Asia/Shanghai")
    (folder / "a_test.yaml").write_text(text, encoding="utf-8")
    return read_channel(folder / "a_test.yaml"), text


def test_a_table_with_chinese_names_is_read_by_them(tmp_path: Path) -> None:
    rows = [
        {
            "工单编号": f"GD{n}", "来电时间": "2026-03-01 08:00:00", "办结时间": "2026-03-02 08:00:00",
            "诉求标题": "路灯不亮", "诉求内容": f"路灯不亮 {n}", "事件地址": "金水路 1 号",
            "所属区县": "金水区", "来电人电话": "13800000000", "事项编码": "2103", "满意度": "5",
        }
        for n in range(5)
    ]  # fmt: skip
    spec, text = drafted(tmp_path, rows)
    assert spec.native_id == "工单编号"
    assert spec.fields == {
        "occurred_at": "来电时间",
        "title": "诉求标题",
        "text": "诉求内容",
        "category": "事项编码",
        "address": "事件地址",
        "district": "所属区县",
        "reporter": "来电人电话",
    }
    assert "# Only in the payload: 办结时间, 满意度" in text


@pytest.mark.parametrize(
    ("file", "native_id", "fields"),
    [
        (
            "hotline12345.csv",
            "order_num",
            {"occurred_at": "call_time", "text": "main_content", "lon": "lng", "crs": "crs"},
        ),
        (
            "city_management.csv",
            "task_num",
            {"occurred_at": "create_time", "category": "sub_type_code", "lon": "x", "lat": "y"},
        ),
        ("mailbox.csv", "message_id", {"title": "title", "text": "content"}),
        (
            "uav.geojson",
            "{properties.frame}/{properties.target_no}",
            {"occurred_at": "properties.frame_time", "lon": "centroid.0", "lat": "centroid.1"},
        ),
        ("photo_app.json", "id", {"text": "description"}),
    ],
)
def test_the_real_channels_are_guessed_as_people_wrote_them(
    tmp_path: Path, file: str, native_id: str, fields: dict[str, str]
) -> None:
    rows = [entry.fields for entry in read_entries(FIXTURES / file) if entry.fields]
    spec, _ = drafted(tmp_path, rows, file)
    assert spec.native_id == native_id
    assert {name: spec.fields.get(name) for name in fields} == fields  # type: ignore[call-overload]  # plain names
    assert spec.transports.file is not None
    assert spec.transports.file.patterns == [f"*{Path(file).suffix}"]


@pytest.mark.parametrize(
    ("lon", "lat", "values", "crs", "words"),
    [
        ("lng", "lat", ("113.66", "34.76"), None, "# TODO crs: WGS84, GCJ02, BD09 or CGCS2000"),
        ("x", "y", ("507331.17", "850854.96"), None, "# TODO crs: CITY? The numbers are metres"),
        ("gcj_lng", "gcj_lat", ("113.66", "34.76"), "GCJ02", "the columns' names say so"),
        ("wgs84_lon", "wgs84_lat", ("113.66", "34.76"), "WGS84", "the columns' names say so"),
        ("bd09_lng", "bd09_lat", ("113.66", "34.76"), "BD09", "the columns' names say so"),
        ("经度", "纬度", ("113.66", "34.76"), None, "a wrong guess is 570 m"),
    ],
)
def test_a_coordinate_system_is_never_guessed(
    tmp_path: Path, lon: str, lat: str, values: tuple[str, str], crs: str | None, words: str
) -> None:
    rows = [{"id": f"n{n}", "title": "积水", lon: values[0], lat: values[1]} for n in range(3)]
    spec, text = drafted(tmp_path, rows)
    assert (spec.fields["lon"], spec.fields["lat"], spec.crs) == (lon, lat, crs)
    assert words in text


def test_of_two_points_the_one_that_names_its_system_is_taken(tmp_path: Path) -> None:
    rows = [{"id": "1", "title": "a", "lng": "1", "lat": "2", "wgs_lng": "3", "wgs_lat": "4"}]
    spec, _ = drafted(tmp_path, rows)
    assert (spec.fields["lon"], spec.fields["lat"], spec.crs) == ("wgs_lng", "wgs_lat", "WGS84")


@pytest.mark.parametrize(
    ("times", "pattern", "words"),
    [
        (["03/25/2026 08:00", "03/04/2026 09:00"], "%m/%d/%Y %H:%M", "fits some value not"),
        (["25/03/2026", "04/03/2026"], "%d/%m/%Y", "fits some value not"),
        (["03/04/2026", "05/06/2026"], None, '# TODO time_format: "%m/%d/%Y" or "%d/%m/%Y"'),
    ],
)
def test_day_and_month_are_told_apart_or_left_open(
    tmp_path: Path, times: list[str], pattern: str | None, words: str
) -> None:
    rows = [{"id": n, "title": "积水", "create_time": text} for n, text in enumerate(times)]
    spec, text = drafted(tmp_path, rows)
    assert (spec.fields["occurred_at"], spec.time_format) == ("create_time", pattern)
    assert words in text


def test_an_id_of_several_columns_is_found_and_none_is_said(tmp_path: Path) -> None:
    rows = [{"device_id": f"d{n % 2}", "seq": n // 2, "metric": "水位"} for n in range(6)]
    spec, text = drafted(tmp_path, rows)
    assert spec.native_id == "{device_id}/{seq}"
    assert "only together different" in text
    spec, text = drafted(tmp_path, [{"id": "1", "title": "a"}, {"id": "1", "title": "a"}])
    assert spec.native_id == "id"
    assert "TODO: no column is unique" in text


def test_what_is_no_row_or_has_no_words_is_refused(tmp_path: Path) -> None:
    with pytest.raises(QuanyuError, match=r"sample\.csv: no row that can be read"):
        drafted(tmp_path, [])
    with pytest.raises(QuanyuError, match=r"sample\.csv: no column of words"):
        drafted(tmp_path, [{"a": 1, "b": 2.5}])


CELLS = st.none() | st.booleans() | st.integers() | st.text(max_size=12)
NAMES = st.sampled_from(
    ["id", "no", "时间", "x", "y", "a.b", "{a}", "内容", "y\n", "- [", "phone", "#"]
)


@settings(
    deadline=None, max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    rows=st.lists(
        st.dictionaries(
            NAMES | st.text(min_size=1, max_size=6), CELLS | st.lists(CELLS, max_size=2)
        ),
        max_size=6,
    )
)
def test_whatever_the_rows_are_the_draft_is_a_valid_spec_or_a_refusal(
    tmp_path: Path, rows: list[dict[str, Any]]
) -> None:
    try:
        spec, _ = drafted(tmp_path, rows)
    except QuanyuError as error:
        if not str(error).startswith("sample.csv: no "):
            raise
    else:
        assert spec.title == "试验"
