"""Every entry of a file comes out, as fields or as its bytes with what is wrong; none stops the rest."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openpyxl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connectors import files
from connectors.files import detect_encoding, read_entries
from connectors.mapping import Entry
from schemas.errors import QuanyuError


def entries(path: Path, data: bytes) -> list[Entry]:
    path.write_bytes(data)
    return list(read_entries(path))


def test_a_table_in_utf8_with_a_mark_has_clean_column_names(tmp_path: Path) -> None:
    (entry,) = entries(tmp_path / "a.csv", "编号,内容\n1,积水\n".encode("utf-8-sig"))
    assert entry == Entry(1, {"编号": "1", "内容": "积水"})


def test_a_table_of_a_call_centre_in_gb18030_is_read_as_such(tmp_path: Path) -> None:
    (entry,) = entries(tmp_path / "a.csv", "编号,内容\n1,郑州㐂积水\n".encode("gb18030"))
    assert entry.fields == {"编号": "1", "内容": "郑州㐂积水"}


def test_a_character_cut_by_the_block_does_not_change_the_encoding(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"a" * ((1 << 20) - 1) + "水".encode())
    assert detect_encoding(path) == "utf-8-sig"


def test_one_spoilt_row_does_not_change_the_encoding_of_the_others(tmp_path: Path) -> None:
    rows = [f"{n},路灯不亮\n".encode("gb18030") for n in range(4)]
    found = entries(
        tmp_path / "a.csv", b"id,text\n" + rows[0] + b"x,\xff\xff\n" + b"".join(rows[1:])
    )
    assert [entry.fields and entry.fields["text"] for entry in found] == [
        "路灯不亮", None, "路灯不亮", "路灯不亮", "路灯不亮",
    ]  # fmt: skip
    assert found[1].data == b"x,\xff\xff"
    # A cut character is no GB 18030 text, though its bytes could be read as such.
    utf8 = "id,text\n1,积水\n2,路灯\n".encode() + b"3," + "积水".encode()[:-1] + b"x\n"
    found = entries(tmp_path / "b.csv", utf8)
    assert [entry.defect.partition(":")[0] for entry in found] == ["", "", "encoding"]


def test_a_table_that_is_neither_utf8_nor_gb18030_is_refused(tmp_path: Path) -> None:
    with pytest.raises(QuanyuError, match="save the file as UTF-8"):
        entries(tmp_path / "a.csv", "编号,内容\n1,积水\n".encode("utf-16"))


def test_no_cell_takes_the_place_of_another_column_of_the_same_name(tmp_path: Path) -> None:
    (entry,) = entries(tmp_path / "a.csv", b" id ,text,text,\n1,a,b,c\n")
    assert entry.fields == {"id": "1", "text": "a", "text (column 3)": "b", "column 4": "c"}


def test_a_stray_quote_spoils_its_own_row_only(tmp_path: Path) -> None:
    data = b'id,text\n1,a\n2,"open\n3,"quoted"\n4,c\n5,"never closed\n6,d'
    found = entries(tmp_path / "a.csv", data)
    assert [entry.number for entry in found] == [1, 2, 3, 4, 5, 6]
    assert [entry.fields and entry.fields["text"] for entry in found] == [
        "a", None, "quoted", "c", None, "d",
    ]  # fmt: skip
    assert [found[1].data, found[4].data] == [b'2,"open', b'5,"never closed']
    assert all(found[n].defect.startswith("malformed:") for n in (1, 4))


def test_a_marked_row_keeps_its_bytes_as_they_stand_in_the_file(tmp_path: Path) -> None:
    row = b'1,"a ""b"",\nc\xff"'
    (entry,) = entries(tmp_path / "a.csv", b"id,text\n" + row + b"\r\n")
    assert (entry.data, entry.defect) == (row, "encoding:neither UTF-8 nor GB 18030")


def test_a_row_in_no_encoding_is_marked_and_its_neighbours_are_read(tmp_path: Path) -> None:
    data = "编号,内容\n1,积水\n".encode() + b"2,\xff\xfe\xff\n" + "3,路灯\n".encode()
    first, bad, last = entries(tmp_path / "a.csv", data)
    assert (first.fields, last.fields) == (
        {"编号": "1", "内容": "积水"},
        {"编号": "3", "内容": "路灯"},
    )
    assert bad == Entry(2, None, b"2,\xff\xfe\xff", "encoding:neither UTF-8 nor GB 18030")


@pytest.mark.parametrize("row", ["2", "2,x,y"])
def test_a_row_with_other_cells_than_columns_is_marked(tmp_path: Path, row: str) -> None:
    found = entries(tmp_path / "a.csv", f"id,text\n1,a\n{row}\n".encode())
    assert found[0].fields == {"id": "1", "text": "a"}
    assert found[1].defect.startswith("malformed:")
    assert found[1].number == 2


def test_line_breaks_commas_nul_and_five_megabytes_in_a_cell_are_content(tmp_path: Path) -> None:
    cell = "a,b\r\nc\x00" + "水" * 1_700_000
    first, second = entries(tmp_path / "a.csv", f'id,text\n1,"{cell}"\n2,x\n'.encode())
    assert first.fields == {"id": "1", "text": cell}
    assert second.fields == {"id": "2", "text": "x"}


def test_an_entry_above_the_brokers_limit_is_cut_and_marked(tmp_path: Path) -> None:
    data = b"id,text\n1," + b"x" * (files.CELL_LIMIT + 1) + b"\n2,y\n"
    big, small = entries(tmp_path / "a.csv", data)
    assert big.fields is None
    assert len(big.data) == files.CELL_LIMIT
    assert big.defect.startswith("malformed:")
    assert small.fields == {"id": "2", "text": "y"}


def test_blank_lines_are_no_entries(tmp_path: Path) -> None:
    found = entries(tmp_path / "a.csv", b"id,text\n\n1,a\n\n\n2,b\n")
    assert [entry.number for entry in found] == [1, 2]


@pytest.mark.parametrize(
    ("line", "defect"),
    [
        (b"{not json", "malformed:JSONDecodeError"),
        (b"[1]", "malformed:not an object"),
        (b"null", "malformed:not an object"),
        (b'{"a": "\xff"}', "encoding:not UTF-8"),
        (b'{"a":' * 100_000, "malformed:RecursionError"),
        (b'{"a":' + b"9" * 5000 + b"}", "malformed:ValueError"),
        (b'{"a": "' + b"x" * files.CELL_LIMIT + b'"}', "malformed:"),
    ],
    ids=["not json", "array", "null", "encoding", "nested", "digits", "large"],
)
def test_a_line_that_is_no_object_is_marked_and_its_neighbours_are_read(
    tmp_path: Path, line: bytes, defect: str
) -> None:
    found = entries(tmp_path / "a.jsonl", b'\xef\xbb\xbf{"a": 1}\n' + line + b'\n\n{"a": 2}\n')
    assert [found[0].fields, found[2].fields] == [{"a": 1}, {"a": 2}]
    assert found[1].defect.startswith(defect)
    assert found[1].data == line[: files.CELL_LIMIT]


def test_a_spreadsheet_gives_its_cells_as_they_are(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    sheet = book.worksheets[0]
    for row in (["id", "text", None], [1, "积水", "x"], [None, None, None], [2.5, None, None]):
        sheet.append(row)
    book.save(tmp_path / "a.xlsx")
    found = list(read_entries(tmp_path / "a.xlsx"))
    assert found == [
        Entry(1, {"id": 1, "text": "积水", "column 3": "x"}),
        Entry(2, {"id": 2.5, "text": None}),
    ]


def damaged(path: Path, member: str, spoil: Callable[[bytes], bytes]) -> Path:
    """A workbook of two entries, one member of which is spoilt."""
    book = openpyxl.Workbook()
    for row in (["id", "text"], [1, "积水"], [2, "路灯"]):
        book.worksheets[0].append(row)
    book.save(path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members[member] = spoil(members[member])
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


@pytest.mark.parametrize(
    ("member", "spoil", "place"),
    [
        ("xl/workbook.xml", lambda data: data[:40], "not a readable .xlsx "),
        ("xl/workbook.xml", lambda data: b"<a/>", "not a readable .xlsx "),
        ("xl/worksheets/sheet1.xml", lambda data: b"", "not a readable .xlsx "),
        ("xl/worksheets/sheet1.xml", lambda data: data[:-80], "not a readable .xlsx after entry "),
    ],
    ids=["workbook truncated", "workbook of nothing", "sheet empty", "sheet truncated"],
)
def test_a_damaged_spreadsheet_is_refused_saying_how_far_it_was_read(
    tmp_path: Path, member: str, spoil: Callable[[bytes], bytes], place: str
) -> None:
    path = damaged(tmp_path / "a.xlsx", member, spoil)
    with pytest.raises(QuanyuError, match=place) as caught:
        list(read_entries(path))
    assert str(path) in str(caught.value)


def test_a_flipped_byte_in_a_compressed_sheet_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.xlsx"
    book = openpyxl.Workbook()
    for number in range(500):
        book.worksheets[0].append([number, f"text {number}"])
    book.save(path)
    with zipfile.ZipFile(path) as archive:
        sheet = archive.getinfo("xl/worksheets/sheet1.xml")
    data = bytearray(path.read_bytes())
    data[sheet.header_offset + sheet.compress_size // 2] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(QuanyuError, match=r"not a readable \.xlsx"):
        list(read_entries(path))


def test_a_spreadsheet_that_unpacks_to_a_bomb_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "XLSX_LIMIT", 1 << 20)
    with zipfile.ZipFile(tmp_path / "a.xlsx", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/worksheets/sheet1.xml", b"0" * (2 << 20))
    with pytest.raises(QuanyuError, match="unpacks to 2 MB, limit 1 MB"):
        list(read_entries(tmp_path / "a.xlsx"))


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.csv", b"", "no header"),
        ("a.csv", b",,\n1,2,3\n", "no header"),
        ("a.xlsx", b"PK\x03\x04 not a workbook", "not a readable .xlsx"),
        ("a.pdf", b"x", ".pdf is not one of"),
    ],
)
def test_a_file_that_cannot_be_read_at_all_is_refused_by_name(
    tmp_path: Path, name: str, data: bytes, message: str
) -> None:
    with pytest.raises(QuanyuError, match=message) as caught:
        entries(tmp_path / name, data)
    assert name in str(caught.value)


def test_a_file_that_is_not_there_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(QuanyuError, match="no such file"):
        read_entries(tmp_path / "none.csv")


HARMLESS = settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@HARMLESS
@given(lines=st.lists(st.binary(max_size=30) | st.just(b'{"a": 1}'), max_size=8))
def test_every_line_that_is_not_blank_is_exactly_one_entry(
    tmp_path: Path, lines: list[bytes]
) -> None:
    plain = [line.replace(b"\n", b"") for line in lines]
    found = entries(tmp_path / "a.jsonl", b"\n".join(plain))
    filled = [line for line in plain if line.strip().removeprefix(b"\xef\xbb\xbf")]
    assert [entry.number for entry in found] == list(range(1, len(filled) + 1))
    assert all((entry.fields is None) == bool(entry.defect) for entry in found)


@HARMLESS
@given(data=st.binary(max_size=200))
def test_no_bytes_after_a_header_end_a_table_with_a_traceback(tmp_path: Path, data: bytes) -> None:
    found = entries(tmp_path / "a.csv", b"id,text\n1,a\n" + data)
    assert found[0].number == 1
    assert all((entry.fields is None) == bool(entry.defect) for entry in found)


@HARMLESS
@given(rows=st.lists(st.lists(st.text('a,"\r\n 水\x00', min_size=1), min_size=2, max_size=2)))
def test_a_table_that_was_written_as_csv_comes_back(tmp_path: Path, rows: list[list[str]]) -> None:
    import csv
    import io

    out = io.StringIO(newline="")
    csv.writer(out, quoting=csv.QUOTE_ALL).writerows([["id", "text"], *rows])
    found: list[Any] = [
        entry.fields for entry in entries(tmp_path / "a.csv", out.getvalue().encode())
    ]
    assert found == [{"id": one, "text": other} for one, other in rows]
    assert json.dumps(found)


def workbook(path: Path, *rows: list[Any]) -> Path:
    book = openpyxl.Workbook()
    for row in rows:
        book.worksheets[0].append(row)
    book.save(path)
    return path


def repacked(path: Path, change: dict[str, bytes | Callable[[bytes], bytes]]) -> Path:
    """The workbook with members replaced, altered or added."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    for name, new in change.items():
        members[name] = new if isinstance(new, bytes) else new(members[name])
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


SHEET = "xl/worksheets/sheet1.xml"


def test_a_wrong_extent_in_a_spreadsheet_hides_no_cell(tmp_path: Path) -> None:
    path = workbook(tmp_path / "a.xlsx", ["id", "text"], [1, "积水"], [2, "路灯"], [3, None])
    repacked(path, {SHEET: lambda data: data.replace(b'ref="A1:B4"', b'ref="A1"')})
    assert b'ref="A1"' in zipfile.ZipFile(path).read(SHEET)
    assert [entry.fields for entry in read_entries(path)] == [
        {"id": 1, "text": "积水"},
        {"id": 2, "text": "路灯"},
        {"id": 3, "text": None},
    ]


def test_an_extent_of_the_whole_sheet_costs_no_time(tmp_path: Path) -> None:
    path = workbook(tmp_path / "a.xlsx", ["id", "text"], [1, "积水"])
    repacked(path, {SHEET: lambda data: data.replace(b'ref="A1:B2"', b'ref="A1:XFD1048576"')})
    assert [entry.fields for entry in read_entries(path)] == [{"id": 1, "text": "积水"}]


def test_a_formula_in_a_spreadsheet_is_the_value_that_was_computed(tmp_path: Path) -> None:
    path = workbook(tmp_path / "a.xlsx", ["id", "text"], ["=1+1", "积水"])
    repacked(path, {SHEET: lambda data: data.replace(b"<v />", b"<v>2</v>")})
    assert [entry.fields for entry in read_entries(path)] == [{"id": 2, "text": "积水"}]


@pytest.mark.parametrize("member", [SHEET, "xl/workbook.xml", "[Content_Types].xml"])
def test_an_entity_bomb_in_a_spreadsheet_is_refused(tmp_path: Path, member: str) -> None:
    path = workbook(tmp_path / "a.xlsx", ["id", "text"], [1, "积水"])
    lines = [b'<!ENTITY a0 "ha">']
    lines += [b'<!ENTITY a%d "%s">' % (n, b"&a%d;" % (n - 1) * 10) for n in range(1, 10)]
    bomb = b"<!DOCTYPE x [" + b"".join(lines) + b"]>"

    def spoil(data: bytes) -> bytes:
        head, _, rest = data.rpartition(b"?>")
        return head + (b"?>" if head else b"") + bomb + rest

    with pytest.raises(QuanyuError, match=r"not a readable \.xlsx \(EntitiesForbidden"):
        list(read_entries(repacked(path, {member: spoil})))


def test_a_spreadsheet_that_grows_out_of_all_proportion_is_refused(tmp_path: Path) -> None:
    path = workbook(tmp_path / "a.xlsx", ["id", "text"], [1, "积水"])
    repacked(path, {"xl/media/image1.xml": b"0" * (files.XLSX_SMALL + 1)})
    with pytest.raises(QuanyuError, match="times its size, limit 250; if it is a table"):
        list(read_entries(path))


def test_a_member_that_is_larger_than_it_says_is_not_unpacked_further(tmp_path: Path) -> None:
    path = workbook(tmp_path / "a.xlsx", ["id", "text"], *([n, "积水"] for n in range(5000)))
    with zipfile.ZipFile(path) as archive:
        size = archive.getinfo(SHEET).file_size
    data = path.read_bytes()
    assert size.to_bytes(4, "little") in data
    path.write_bytes(data.replace(size.to_bytes(4, "little"), (1000).to_bytes(4, "little")))
    with pytest.raises(QuanyuError, match=r"not a readable \.xlsx"):
        list(read_entries(path))


def test_a_spreadsheet_with_macros_a_password_or_endless_columns_is_refused(tmp_path: Path) -> None:
    path = workbook(tmp_path / "a.xlsx", ["id", "text"], [1, "积水"])
    repacked(path, {"xl/vbaProject.bin": b"\xd0\xcf\x11\xe0"})
    with pytest.raises(QuanyuError, match="holds macros; save it as"):
        list(read_entries(path))
    with pytest.raises(QuanyuError, match="has a password or is an old"):
        entries(tmp_path / "b.xlsx", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600)
    wide = workbook(tmp_path / "c.xlsx", ["id"], [1, *[None] * 3000, "x"])
    with pytest.raises(QuanyuError, match="a row of 3002 columns, limit 2000"):
        list(read_entries(wide))


SQUARE = {
    "type": "Polygon",
    "coordinates": [[[113.6, 34.7], [113.8, 34.7], [113.8, 34.9], [113.6, 34.9], [113.6, 34.7]]],
}


def feature(number: int, geometry: Any, **more: Any) -> dict[str, Any]:
    properties = {"n": number, "地点": "金水路"}
    return {"type": "Feature", "properties": properties, "geometry": geometry} | more


@pytest.mark.parametrize("shape", ["collection", "lines", "sequence", "indented"])
def test_every_feature_of_a_geojson_file_is_an_entry_with_its_middle(
    tmp_path: Path, shape: str
) -> None:
    features = [
        feature(1, SQUARE, id="a"),
        feature(2, {"type": "Point", "coordinates": [113.5, 34.5, 90.0]}),
    ]
    collection = {"type": "FeatureCollection", "features": features}
    text = {
        "collection": json.dumps(collection),
        "indented": "\ufeff" + json.dumps(collection, indent=2, ensure_ascii=False),
        "lines": "\n".join(map(json.dumps, features)),
        "sequence": "".join(f"\x1e{json.dumps(f)}\n" for f in features),
    }[shape]
    first, second = entries(tmp_path / "a.geojson", text.encode())
    assert (first.number, second.number) == (1, 2)
    assert first.fields is not None
    assert second.fields is not None
    assert (first.fields["id"], first.fields["centroid"]) == ("a", [113.7, 34.8])
    assert (second.fields["id"], second.fields["centroid"]) == (None, [113.5, 34.5])
    assert first.fields["properties"] == {"n": 1, "地点": "金水路"}
    assert first.fields["geometry"] == SQUARE


def test_a_file_that_is_one_feature_is_one_entry(tmp_path: Path) -> None:
    (entry,) = entries(tmp_path / "a.geojson", json.dumps(feature(1, SQUARE)).encode())
    assert entry.fields is not None
    assert entry.fields["centroid"] == [113.7, 34.8]


@pytest.mark.parametrize(
    "geometry",
    [
        None,
        "POINT (1 2)",
        {},
        {"type": "Polygon"},
        {"type": "Polygon", "coordinates": []},
        {"type": "Polygon", "coordinates": [[[113, 34], [114, 34]]]},
        {"type": "Polygon", "coordinates": [[[0, 0], [2, 2], [2, 0], [0, 2], [0, 0]]]},
        {"type": "Point", "coordinates": ["x", None]},
        {"type": "Point", "coordinates": [1]},
        {"type": "Hexagon", "coordinates": [1, 2]},
        {"type": "GeometryCollection", "geometries": []},
        [1, 2],
    ],
)
def test_a_broken_geometry_loses_nothing_but_the_point(tmp_path: Path, geometry: Any) -> None:
    document = {"type": "FeatureCollection", "features": [feature(1, geometry), feature(2, SQUARE)]}
    bad, good = entries(tmp_path / "a.geojson", json.dumps(document).encode())
    assert bad.fields is not None
    assert bad.fields["properties"]["n"] == 1
    assert "centroid" not in bad.fields
    assert good.fields is not None
    assert good.fields["centroid"] == [113.7, 34.8]


@pytest.mark.parametrize(
    ("name", "there"),
    [
        ("urn:ogc:def:crs:OGC:1.3:CRS84", True),
        ("EPSG:4490", True),
        ("urn:ogc:def:crs:EPSG::4547", False),
        ("EPSG:3857", False),
    ],
)
def test_points_in_another_system_are_no_degrees(tmp_path: Path, name: str, there: bool) -> None:
    document = {
        "type": "FeatureCollection",
        "crs": {"type": "name", "properties": {"name": name}},
        "features": [feature(1, SQUARE)],
    }
    (entry,) = entries(tmp_path / "a.geojson", json.dumps(document).encode())
    assert entry.fields is not None
    assert ("centroid" in entry.fields) == there


def test_what_is_no_feature_is_marked_and_its_neighbours_are_read(tmp_path: Path) -> None:
    document = {"type": "FeatureCollection", "features": [7, feature(2, SQUARE)]}
    bad, good = entries(tmp_path / "a.geojson", json.dumps(document).encode())
    assert bad == Entry(1, data=b"7", defect="malformed:not a feature")
    assert good.fields is not None
    lines = json.dumps(feature(1, SQUARE)).encode() + b"\n{broken\n" + json.dumps({}).encode()
    found = entries(tmp_path / "b.geojson", lines)
    assert [entry.defect for entry in found] == ["", "malformed:JSONDecodeError", ""]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", r"a\.geojson:1: not JSON"),
        (b'{"type": "FeatureCollection",\n "features": [{"type"', r"a\.geojson:2: not JSON.*whole"),
        (b'{"type": "Topology"}', "no GeoJSON; write a FeatureCollection"),
        (b'{"type": "FeatureCollection", "features": {}}', "no GeoJSON"),
        (b"[" * 100_000, "not readable as JSON"),
        ('{"type": "积"}'.encode("gb18030"), "not UTF-8 at byte 10"),
    ],
)
def test_a_file_that_is_no_geojson_is_refused_with_the_place(
    tmp_path: Path, data: bytes, message: str
) -> None:
    with pytest.raises(QuanyuError, match=message):
        entries(tmp_path / "a.geojson", data)


def test_an_open311_file_is_read_as_such(tmp_path: Path) -> None:
    data = b"<service_requests><request><service_request_id>7</service_request_id></request></service_requests>"
    (entry,) = entries(tmp_path / "a.xml", data)
    assert entry.fields is not None
    assert entry.fields["service_request_id"] == "7"
