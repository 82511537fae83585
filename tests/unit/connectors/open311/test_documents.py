"""Documents of other cities: every entry accounted for, and whatever is no document refused with its line."""

import json
from pathlib import Path
from typing import Any

import pytest

from connectors.mapping import entry_report
from connectors.open311.documents import DEPTH_LIMIT, parse, read_entries
from schemas.channels import load_channel
from schemas.errors import QuanyuError

FIXTURES = Path(__file__).resolve().parents[3] / "fixtures" / "open311"
HEAD = '<?xml version="1.0" encoding="utf-8"?>\n'


def entries_of(text: str | bytes) -> list[Any]:
    """What comes of each entry: its fields, or its defect."""
    data = text.encode() if isinstance(text, str) else text
    found = parse(data, "there.xml")
    assert [entry.number for entry in found] == list(range(1, len(found) + 1))
    return [entry.defect if entry.fields is None else entry.fields for entry in found]


@pytest.mark.parametrize(
    ("file", "count"),
    [
        ("sferik_open311/services.xml", 36),
        ("sferik_open311/service_requests.xml", 2),
        ("sferik_open311/get_service_request.xml", 1),
        ("sferik_open311/post_service_request.xml", 1),
        ("sferik_open311/request_id_from_token.xml", 1),
        ("sferik_open311/service_definition.xml", 1),
        ("npm_open311/dc-services.xml", 86),
        ("npm_open311/dc-services-S0301.xml", 1),
        ("npm_open311/service-requests.xml", 2),
        ("npm_open311/service-request.xml", 1),
        ("npm_open311/token.xml", 1),
        ("npm_open311/boston-submitrequest-token.xml", 1),
        ("npm_open311/discovery-dc.xml", 1),
        ("npm_open311/discovery-boston.json", 1),
    ],
)
def test_every_entry_of_another_citys_document_comes_out(file: str, count: int) -> None:
    path = FIXTURES / file
    found = list(read_entries(path))
    tags = path.read_text(encoding="utf-8").count("<service>") or path.read_text(
        encoding="utf-8"
    ).count("<request>")
    assert len(found) == count == (tags or 1)
    assert not [entry.defect for entry in found if entry.defect]


def test_a_request_becomes_a_raw_report_with_its_point_time_and_words() -> None:
    (closed, opened) = read_entries(FIXTURES / "sferik_open311" / "service_requests.xml")
    assert closed.fields is not None
    assert closed.fields["status_notes"] == "Duplicate request."
    assert closed.fields["description"] is None
    raw = entry_report(load_channel("open311"), opened, received_at=0, connector="test")
    assert (raw["native_id"], raw["lon"], raw["lat"], raw["crs"]) == (
        "638349", "-122.4651145", "37.762221815", "WGS84",
    )  # fmt: skip
    assert raw["occurred_at"] == "2010-04-19T06:37:38-08:00"
    assert raw["media"] == ["http://open311.city.gov.s3.amazonaws.com/requests/media/638349.rss"]
    assert json.loads(raw["payload"])["expected_datetime"] == "2010-04-19T06:37:38-08:00"


@pytest.mark.parametrize(
    "file", ["sferik_open311/service_definition.xml", "npm_open311/dc-services-S0301.xml"]
)
def test_attributes_are_a_list_with_and_without_the_plural_around_them(file: str) -> None:
    (entry,) = read_entries(FIXTURES / file)
    assert entry.fields is not None
    attributes = entry.fields.get("attributes") or entry.fields["attribute"]
    assert {"code", "datatype", "values"} <= attributes[0].keys()
    assert [
        v["key"] for a in attributes for v in a["values"] or [] if v["name"] in ("Ford", "Alley")
    ]


def test_xml_and_json_of_one_document_read_alike() -> None:
    xml = (
        "<services><service><service_code>1</service_code><keywords/><attributes><attribute>"
        "<code>A</code></attribute></attributes></service></services>"
    )
    fields = {"service_code": "1", "keywords": None, "attributes": [{"code": "A"}]}
    for form in (
        xml,
        json.dumps([fields | {"keywords": ""}]),
        json.dumps({"services": [fields]}),
        json.dumps({"services": {"service": fields}}),
        json.dumps(fields),
        xml.replace("<services>", '<s:services xmlns:s="http://wiki.open311.org/GeoReport_v2">')
        .replace("</services>", "</s:services>"),
    ):  # fmt: skip
        assert entries_of(form) == [fields], form


def test_a_status_that_the_specification_does_not_know_is_kept() -> None:
    (fields,) = entries_of("<requests><request><status>on hold</status></request></requests>")
    assert fields == {"status": "on hold"}


def test_a_malformed_entry_does_not_hide_its_neighbours() -> None:
    deep = "<a>" * DEPTH_LIMIT + "</a>" * DEPTH_LIMIT
    found = parse(
        f"{HEAD}<service_requests><request><service_request_id>1</service_request_id></request>"
        f"<note>n</note><request/><request>{deep}</request><request>words</request>"
        "<request><service_request_id>2</service_request_id></request></service_requests>".encode(),
        "there",
    )
    assert [entry.fields and entry.fields["service_request_id"] for entry in found] == [
        "1", None, None, None, None, "2",
    ]  # fmt: skip
    assert found[1].data == b"<note>n</note>"
    assert found[2].data == b"<request/>"
    assert found[3].data == f"<request>{deep}</request>".encode()
    assert all(entry.defect.startswith("malformed:") for entry in found[1:5])
    nested: Any = "x"
    for _ in range(DEPTH_LIMIT + 1):
        nested = [nested]
    one, *defects, two = entries_of(
        json.dumps([{"token": "1"}, 7, {}, {"token": nested}, {"token": "2"}])
    )
    assert (one, two) == ({"token": "1"}, {"token": "2"})
    assert all(defect.startswith("malformed:") for defect in defects)


def test_markup_in_a_description_leaves_its_text_and_the_fields_beside_it() -> None:
    (fields,) = entries_of(
        "<requests><request>stray<description>big <b>hole</b>,<br/> deep</description>"
        "<status>open</status></request></requests>"
    )
    assert fields == {"description": "big hole, deep", "status": "open"}


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "iso-8859-1", "windows-1250", "gb2312", "GBK", "big5"]
)  # fmt: skip
def test_a_document_is_read_in_the_encoding_that_it_declares(encoding: str) -> None:
    text = "井" if encoding.lower()[:2] in ("gb", "bi", "ut") else "Straße"
    declared = "utf-8" if encoding == "utf-8-sig" else encoding
    document = f'<?xml version="1.0" encoding="{declared}"?><requests><request><description>{text}'
    document += "</description></request></requests>"
    assert entries_of(document.encode(encoding)) == [{"description": text}]


BOMB = (
    '<!DOCTYPE r [<!ENTITY a "aaaaaaaaaa">'
    + "".join(
        f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip("abcdefgh", "bcdefghi", strict=True)
    )
    + "]>"
)
REQUEST = "<requests><request><status>{}</status></request></requests>"


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (HEAD + BOMB + REQUEST.format("&i;"), r":2: a document type or an entity is not allowed"),
        (HEAD + '<!DOCTYPE r [<!ENTITY e SYSTEM "file:///etc/passwd">]>' + REQUEST.format("&e;"),
         r":2: a document type"),
        (HEAD + '<!DOCTYPE r SYSTEM "http://127.0.0.1:1/r.dtd">' + REQUEST.format(""),
         r":2: a document type"),
        (HEAD + REQUEST.format("&e;"), r":2: not XML: undefined entity"),
        (HEAD + "<requests>\n<request>\n<status>open", r":4: not XML: no element found"),
        (HEAD + "<requests>\n<request></requests>", r":3: not XML: mismatched tag"),
        (HEAD + REQUEST.format("\x01"), r":2: not XML: not well-formed"),
        ("junk" + HEAD + REQUEST.format(""), r":1: not XML: .*it begins with 'junk"),
        (HEAD + REQUEST.format("") + "junk", r":2: not XML: junk after document element"),
        ("<html><body/></html>", r":1: <html> is no Open311 document"),
        ("<requests>" + "<a>" * 600 + "</a>" * 600 + "</requests>", r":1: nested deeper"),
        ('<?xml version="1.0" encoding="klingon"?>' + REQUEST.format(""), r":1: encoding 'klingon'"),
        ("<errors><error><code>403</code><description>No key</description></error></errors>",
         r": an error answer, no requests: 403: No key"),
        ("<error>No key</error>", r": an error answer, no requests: No key"),
        ('[{"code": 403, "description": "No key"}]', r": an error answer, no requests: 403: No key"),
        ('{"errors": [{"code": 403}]}', r": an error answer, no requests: 403"),
        ('[{"service_code":001}]', r":1: not JSON"),
        ('[{"status": "open"},\n{"status"', r":2: not JSON"),
        ('[{"lat": NaN}]', r": not JSON: NaN"),
        ("[" * 100_000, r": not JSON: nested deeper"),
        ('{"type": "FeatureCollection"}', r":1: no Open311 document"),
        (" \n", r":1: empty"),
    ],
)  # fmt: skip
def test_what_is_no_document_is_refused_whole_with_its_line(document: str, reason: str) -> None:
    with pytest.raises(QuanyuError, match=r"there\.xml" + reason):
        entries_of(document)


def test_bytes_in_no_encoding_are_refused_with_their_line() -> None:
    for declared in ("utf-8", "gb18030"):
        document = (
            f'<?xml version="1.0" encoding="{declared}"?>\n<requests>\n'.encode() + b"\xff\xff"
        )
        with pytest.raises(QuanyuError, match=r"there\.xml:3"):
            entries_of(document)
    with pytest.raises(QuanyuError, match=r"there\.xml:2: not UTF-8"):
        entries_of(b'[{"token":\n"\xff"}]')


def test_a_header_before_the_document_is_refused_by_name_and_line() -> None:
    path = FIXTURES / "sferik_open311" / "403.xml"
    with pytest.raises(QuanyuError, match=r"403\.xml:1: not XML.*HTTP/1\.1 403 Forbidden"):
        read_entries(path)


def test_an_error_answer_is_no_request() -> None:
    path = FIXTURES / "npm_open311" / "boston-err-submitrequest-base_is_duplicate.xml"
    with pytest.raises(QuanyuError, match="400: Invalid service request: base is a duplicate"):
        read_entries(path)


def test_a_file_that_is_not_there_or_too_large_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(QuanyuError, match=r"none\.xml: No such file"):
        read_entries(tmp_path / "none.xml")
    (tmp_path / "large.xml").write_text(REQUEST.format("open"))
    monkeypatch.setattr("connectors.open311.documents.SIZE_LIMIT", 20)
    with pytest.raises(QuanyuError, match=r"large\.xml: larger than"):
        read_entries(tmp_path / "large.xml")


def test_a_document_of_nothing_has_no_entries() -> None:
    for document in ("<service_requests/>", "[]", '{"service_requests": []}'):
        assert entries_of(document) == []
