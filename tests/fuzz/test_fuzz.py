"""Whatever a stranger sends: an answer or an outcome, never a crash, never silence, never a second meaning.

``make test`` runs a few inputs of each target, the same each time; ``make fuzz EXAMPLES=100000`` more of
them, by chance. A test fails on any exception that its reader does not declare.
"""

import csv
import functools
import io
import os
import shutil
import sqlite3
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import openpyxl
import pytest
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from connectors import files, forms, http_push, mqtt, signature
from connectors.mapping import RECORD_LIMIT, Entry, entry_report, size_of
from connectors.open311 import documents, submission
from connectors.open311.model import Refused as Refused311
from connectors.refusal import Refused
from connectors.sql_poll import open_source
from deploy.people import read_people
from schemas.channels import ChannelSpec, channel_names, load_channel, read_channel
from schemas.city import CityPack, city_folder, load_city
from schemas.codec import Codec, DecodeError, default_codec
from schemas.errors import QuanyuError
from schemas.keys import Keys
from schemas.queries import QUERIES_DIR, read_query
from schemas.settings import Settings, load_settings
from schemas.sources import load_sources
from schemas.topics import raw_topic
from schemas.webhooks import read_webhooks
from streams.batch import Batch
from streams.intake.decide import IntakeStep
from tests.fuzz.inputs import as_json, spoilt_of, values
from tests.unit.tiny_city import tiny_city

ROOT = Path(__file__).parents[2]
EXAMPLES = int(os.environ.get("EXAMPLES", "0"))
#: A reader that takes longer for a few kilobytes hangs.
HANG_S = 20
NOW = 1_772_700_000_000
T = TypeVar("T", bound=Callable[..., None])


def why_refused(read: Callable[[], Any]) -> str:
    """The sentence with which it was refused; empty when it was read."""
    try:
        read()
    except QuanyuError as error:
        return str(error) or pytest.fail("refused without a word")
    return ""


def refused(read: Callable[[], Any]) -> bool:
    """Whether it was refused as a client's fault; what else goes wrong is for the test to fail of."""
    try:
        read()
    except (Refused, Refused311) as why:
        if not 400 <= why.status < 500:
            raise
        return True
    return False


def fuzz(share: float = 1.0, few: int = 60) -> Callable[[T], T]:
    """``few`` inputs, the same each time; or a share of what ``EXAMPLES`` asks for, by chance.

    A fiftieth, because these are searched and shrunk: ``test_bulk.py`` has the many.
    """
    count = max(few, int(EXAMPLES / 50 * share)) if EXAMPLES else few
    return hypothesis_settings(
        max_examples=count,
        derandomize=not EXAMPLES,
        database=None,
        deadline=HANG_S * 1000,
        phases=[Phase.explicit, Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )


# Records --------------------------------------------------------------------------------------------------


@functools.cache
def codec() -> Codec:
    return default_codec(Settings(home=Path("/nonexistent")))


GOLDEN = sorted((ROOT / "schemas/avro/golden").rglob("*"))
FRAMES = [path.read_bytes() for path in GOLDEN if path.is_file()]


@fuzz()
@given(st.lists(st.one_of(st.none(), spoilt_of(FRAMES)), max_size=6))
def test_codec_each_value_is_a_record_or_a_reason(batch: list[bytes | None]) -> None:
    records, errors = codec().decode_batch("RawReport", batch)
    assert len(records) == len(batch)
    assert {i for i, record in enumerate(records) if record is None} == errors.keys()
    for index, value in enumerate(batch):
        try:
            name, record = codec().decode(value)
        except DecodeError:
            assert index in errors
        else:
            assert (records[index] == record) if name == "RawReport" else index in errors


@functools.cache
def tiny() -> CityPack:
    return tiny_city(Path(tempfile.mkdtemp(prefix="quanyu-fuzz-")))


def natives(spec: ChannelSpec) -> st.SearchStrategy[dict[str, Any]]:
    """Messages whose names are the channel's own, and others."""
    sources: list[str] = []
    for source in (spec.native_id, spec.revision, *spec.fields.values()):
        sources += [source] if isinstance(source, str) else source or []
    names = sorted({name.strip("{}").partition(".")[0] for name in sources})
    return st.dictionaries(
        st.one_of(st.sampled_from(names), st.text(max_size=6)), values, max_size=8
    )


CHANNELS = channel_names()
anything = st.sampled_from(CHANNELS).flatmap(
    lambda name: st.tuples(st.just(name), natives(load_channel(name)))
)


@fuzz(0.5)
@given(anything)
def test_mapping_every_message_becomes_a_raw_report_that_the_broker_takes(
    given_: tuple[str, dict[str, Any]],
) -> None:
    name, native = given_
    raw = entry_report(load_channel(name), Entry(1, native), received_at=NOW, connector="fuzz")
    assert size_of(raw) <= RECORD_LIMIT
    found, record = codec().decode(codec().encode("RawReport", raw))
    assert (found, record["payload"]) == ("RawReport", raw["payload"])


@functools.cache
def intake() -> IntakeStep:
    return IntakeStep(tiny(), codec(), b"0" * 32)


@fuzz(0.5, few=30)
@given(
    st.lists(st.one_of(st.none(), spoilt_of(FRAMES)), max_size=3),
    st.lists(anything, max_size=4),
)
def test_intake_whatever_stands_in_a_raw_topic_has_exactly_one_outcome(
    garbage: list[bytes | None], messages: list[tuple[str, dict[str, Any]]]
) -> None:
    good = [
        codec().encode(
            "RawReport",
            entry_report(load_channel(name), Entry(1, native), received_at=NOW, connector="fuzz"),
        )
        for name, native in messages
    ]
    batch_values: list[bytes | None] = [*garbage, *good]
    if not batch_values:
        return
    size = len(batch_values)
    topic = raw_topic("hotline12345")
    batch = Batch(
        topic, 0, [b"k"] * size, batch_values, list(range(size)), [NOW] * size, [None] * size
    )
    step = intake()
    decision = step.decide(step.restore(topic, 0, {}), batch, NOW)
    outcomes = [
        codec().decode(o.value)[1] for o in decision.outputs if o.topic == "report.outcomes"
    ]
    assert sorted(o["source_offset"] for o in outcomes) == list(range(size))


# HTTP -----------------------------------------------------------------------------------------------------

BODIES = [
    as_json({"order_num": "A1", "title": "路灯不亮", "call_time": "2026-03-01 08:15:00", "lng": 113.6}),
    as_json([{"order_num": "A1"}, {"order_num": 2, "main_content": "积水", "revision": 1}]),
    as_json({"id": "p", "photos": [{"url": "http://a/b.jpg", "exif": {"lng": 113.6, "lat": 34.7}}]}),
    as_json({"device_id": "C1", "alarm_id": 7, "ts": "2026-03-01T08:15:00+08:00", "state": "alarm"}),
]  # fmt: skip
PUSHING = [name for name in CHANNELS if load_channel(name).transports.http]


@fuzz()
@given(st.sampled_from(PUSHING), spoilt_of(BODIES))
def test_push_a_body_is_taken_whole_or_refused_with_a_reason(name: str, body: bytes) -> None:
    spec = load_channel(name)
    taken: list[tuple[int, int]] = []

    def read() -> None:
        found, payloads = http_push._read(spec, body)
        raws = http_push._raw_reports(spec, found, payloads)
        taken.append((len(found), len(raws)))
        for raw in raws:
            assert codec().decode(codec().encode("RawReport", raw))[0] == "RawReport"

    if not refused(read):
        ((found, published),) = taken
        assert found == published > 0


FORMS = [
    b"accept_no=A1&subject=%E8%B7%AF%E7%81%AF&content=x&lng=113.6&lat=34.7",
    b'--b\r\nContent-Disposition: form-data; name="accept_no"\r\n\r\nA1\r\n'
    b'--b\r\nContent-Disposition: form-data; name="attachments"; filename="a.jpg"\r\n'
    b"Content-Type: image/jpeg\r\n\r\n\xff\xd8\xff\xe0\r\n--b--\r\n",
]
FORM_TYPES = (
    "application/x-www-form-urlencoded", "multipart/form-data; boundary=b", "multipart/form-data",
    'multipart/form-data; boundary="',
)  # fmt: skip


@fuzz(0.5)
@given(spoilt_of(FORMS), st.sampled_from(FORM_TYPES))
def test_forms_are_read_or_refused(body: bytes, content_type: str) -> None:
    spec = load_channel("online_window")
    refused(
        lambda: http_push._raw_reports(
            spec, [forms.read_form(spec, body, content_type).native], [None]
        )
    )


@fuzz(0.25)
@given(st.text(max_size=40), st.text(max_size=90), st.binary(max_size=60))
def test_signatures_hold_or_are_refused(timestamp: str, given_: str, body: bytes) -> None:
    try:
        signature.timely(timestamp, given_, NOW / 1000)
        signature.verified(["s" * 32], timestamp, given_, body)
    except signature.BadSignature:
        return
    pytest.fail("a signature that nobody made holds")


# Open311 --------------------------------------------------------------------------------------------------

REQUESTS = [
    as_json([{"service_request_id": "1", "service_code": "0101", "lat": 34.7, "description": "积水"}]),
    as_json({"service_requests": [{"service_request_id": 1, "requested_datetime": "2026-03-01T08:15Z"}]}),
    as_json({"code": 404, "description": "nothing"}),
    "<?xml version='1.0' encoding='utf-8'?><service_requests><request><service_request_id>1"
    "</service_request_id><description>积水</description><lat>34.7</lat></request><request>"
    "<service_request_id>2</service_request_id></request></service_requests>".encode(),
]  # fmt: skip


@fuzz()
@given(spoilt_of(REQUESTS))
def test_open311_documents_are_read_or_refused_as_a_whole(data: bytes) -> None:
    try:
        found = documents.parse(data, "x")
    except QuanyuError:
        return
    _numbered(found)


POSTS = [
    b"service_code=0101&description=x&lat=34.7&long=113.6&attribute[WHERE]=a&attribute[WHERE][]=b",
    as_json({"service_code": "0101", "description": "积水", "attribute": {"a": ["b"]}}),
]


@fuzz(0.5)
@given(
    spoilt_of(POSTS),
    st.sampled_from(["application/json", "application/x-www-form-urlencoded", "", "a/b"]),
)
def test_open311_posts_are_read_or_refused(body: bytes, content_type: str) -> None:
    refused(lambda: submission.problems(submission.read(body, content_type), [], "Asia/Shanghai"))


# Files ----------------------------------------------------------------------------------------------------

HERE = Path(tempfile.gettempdir())


def _numbered(found: list[Entry]) -> None:
    """Each entry has a number of its own, in order, and fields or the bytes and what is wrong."""
    assert [e.number for e in found] == sorted({e.number for e in found})
    for entry in found:
        assert (entry.fields is None) == bool(entry.defect), entry


def _read(suffix: str, data: bytes) -> list[Entry] | None:
    path = HERE / f"quanyu-fuzz-{os.getpid()}{suffix}"
    path.write_bytes(data)
    try:
        found = list(files.read_entries(path))
    except QuanyuError:
        return None
    finally:
        path.unlink()
    _numbered(found)
    return found


TABLES = [
    "留言编号,留言主题,留言时间\n1,路灯不亮,2026/3/1 8:15:00\n2,\"a\nb\",\n".encode(),
    "留言编号,留言主题\n1,积水\n".encode("gb18030"),
]  # fmt: skip
LINES = [
    as_json({"id": 1, "t": "积水"}) + b"\n" + as_json({"id": 2}) + b"\n\n" + as_json([1]) + b"\n"
]
SHAPES = [
    as_json({"type": "FeatureCollection", "features": [
        {"type": "Feature", "properties": {"flight_id": "a", "frame": 1},
         "geometry": {"type": "Polygon",
                      "coordinates": [[[113.6, 34.7], [113.7, 34.7], [113.7, 34.8], [113.6, 34.7]]]}},
        {"type": "Feature", "properties": None, "geometry": None}]}),
]  # fmt: skip


KINDS = {".csv": TABLES, ".jsonl": LINES, ".geojson": SHAPES, ".xml": REQUESTS, ".json": REQUESTS}
kinds = st.one_of(*(st.tuples(st.just(name), spoilt_of(of)) for name, of in KINDS.items()))


@fuzz()
@given(kinds)
def test_files_each_entry_comes_out_or_the_file_is_refused(given_: tuple[str, bytes]) -> None:
    _read(*given_)


cells = st.text(
    st.characters(blacklist_categories=["Cs"], blacklist_characters="\x00"), max_size=12
)


@fuzz(0.5)
@given(st.lists(st.lists(cells, min_size=3, max_size=3).filter(any), max_size=6))
def test_csv_no_row_of_a_well_formed_table_is_lost(rows: list[list[str]]) -> None:
    out = io.StringIO(newline="")
    csv.writer(out).writerows([["编号", "主题", "时间"], *rows])
    found = _read(".csv", out.getvalue().encode())
    assert found is not None
    assert len(found) == len(rows)


@fuzz(0.5)
@given(
    st.lists(
        spoilt_of([as_json({"id": 1, "t": "积水"})]).map(
            lambda b: b.replace(b"\n", b" ").replace(b"\r", b" ")
        ),
        max_size=5,
    )
)
def test_json_lines_no_line_is_lost(lines: list[bytes]) -> None:
    found = _read(".jsonl", b"\n".join(lines))
    written = [line for line in lines if line.strip(b" \t\v\f")]
    assert found is None or len(found) >= len([line for line in written if line.strip()])


def _sheet(rows: list[list[Any]]) -> bytes:
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)  # type: ignore[union-attr] # a new book has a sheet
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


SHEET = _sheet(
    [["message_id", "title", "sent_at"], ["1", "积水", "2026-03-01"], [2, None, 45000.5]]
)
printable = st.one_of(
    st.text(st.characters(min_codepoint=32, max_codepoint=0xD7FF), max_size=12),
    st.integers(-(2**40), 2**40), st.floats(allow_nan=False, allow_infinity=False), st.booleans(),
    st.datetimes(min_value=datetime(1901, 1, 1)),
)  # fmt: skip


@fuzz(0.1, few=20)
@given(
    st.lists(
        st.lists(printable, min_size=3, max_size=3).filter(
            lambda row: any(str(c).strip() for c in row)
        ),
        max_size=5,
    )
)
def test_xlsx_no_row_of_a_sheet_is_lost(rows: list[list[Any]]) -> None:
    found = _read(".xlsx", _sheet([["a", "b", "c"], *rows]))
    assert found is not None
    assert len(found) == len(rows)


@functools.cache
def _members() -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(SHEET)) as book:
        return {name: book.read(name) for name in book.namelist()}


@st.composite
def spoilt_sheets(draw: st.DrawFn) -> bytes:
    """A book with one of its parts spoilt, or spoilt as a whole."""
    if draw(st.booleans()):
        return draw(spoilt_of([SHEET]))
    members = dict(_members())
    name = draw(st.sampled_from(sorted(members)))
    members[name] = draw(spoilt_of([members[name]]))
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as book:
        for part, data in members.items():
            book.writestr(part, data)
    return out.getvalue()


@fuzz(0.2, few=40)
@given(spoilt_sheets())
def test_xlsx_a_spoilt_book_is_read_or_refused(data: bytes) -> None:
    _read(".xlsx", data)


# MQTT -----------------------------------------------------------------------------------------------------

ALARMS = [
    as_json({"device_id": "T1", "seq": 1, "state": "alarm"}),
    as_json([{"seq": 1}, 2, {"seq": 3}]),
]
topics = st.one_of(
    st.none(), st.text(max_size=30), st.sampled_from(["city/iot/1/alarm", "$SYS/a", "//"])
)


@fuzz()
@given(topics, spoilt_of(ALARMS))
def test_mqtt_every_message_has_entries(topic: str | None, payload: bytes) -> None:
    found = mqtt.entries(topic, payload)
    assert found
    _numbered(found)
    for entry in found:
        raw = entry_report(load_channel("iot"), entry, received_at=NOW, connector="fuzz")
        assert codec().decode(codec().encode("RawReport", raw))[0] == "RawReport"


filters = st.tuples(
    st.lists(st.sampled_from(["a", "b", "+", ""]), min_size=1, max_size=4),
    st.sampled_from([[], ["#"]]),
).map(lambda parts: "/".join(parts[0] + parts[1]))
levels = st.lists(st.sampled_from(["a", "b", ""]), min_size=1, max_size=5)


def _matches(pattern: str, topic: list[str]) -> bool:
    parts = pattern.split("/")
    for index, part in enumerate(parts):
        if part == "#":
            return True
        if index >= len(topic) or part not in ("+", topic[index]):
            return False
    return len(parts) == len(topic)


@fuzz(0.5)
@given(filters, filters, levels)
def test_mqtt_filters_that_both_match_a_topic_are_said_to_overlap(
    one: str, other: str, topic: list[str]
) -> None:
    if _matches(one, topic) and _matches(other, topic):
        assert mqtt.overlap(one, other)
    assert mqtt.overlap(one, other) == mqtt.overlap(other, one)


@fuzz(0.25)
@given(
    spoilt_of([b"mqtt://user:p%40ss@host:1883?client_id=a", b"mqtts://host?cafile=/nonexistent"])
)
def test_mqtt_addresses_are_read_or_refused(address: bytes) -> None:
    said = why_refused(lambda: mqtt.read_address("iot", address.decode("utf-8", "replace")))
    assert "p@ss" not in said


# SQL ------------------------------------------------------------------------------------------------------

cell = st.one_of(
    st.none(), st.integers(-(2**62), 2**62), st.floats(), st.text(max_size=10), st.binary(max_size=10),
    st.datetimes().map(str),
)  # fmt: skip
POLLED = ChannelSpec.model_validate(
    {
        "name": "a_test",
        "title": "a test",
        "transports": {"sql": {"table": "calls", "watermark": "w", "overlap": 10.0, "interval_s": 0.001}},
        "native_id": "id",
        "fields": {"title": "title"},
    }
)  # fmt: skip


@fuzz(0.02, few=15)
@given(st.lists(st.tuples(cell, cell), max_size=8))
def test_sql_every_row_of_a_table_comes_out(rows: list[tuple[Any, Any]]) -> None:
    with tempfile.TemporaryDirectory(prefix="quanyu-fuzz-") as folder:
        home = Path(folder)
        with sqlite3.connect(home / "calls.db", isolation_level=None) as connection:
            connection.execute("CREATE TABLE calls (id, w, title)")
            # Rows that are equal in every cell are one row read again.
            connection.executemany(
                "INSERT INTO calls VALUES (?, ?, ?)", [(n, *row) for n, row in enumerate(rows)]
            )
        connection.close()
        source = open_source(Settings(home=home / "home"), POLLED, f"sqlite:///{home}/calls.db")
        found: list[Entry] = []
        try:
            for _ in range(20):
                portion = source.read(0.01)
                if portion is None and len(found) >= len(rows):
                    break
                if portion is not None:
                    found += portion.entries
                    source.confirm(portion)
        finally:
            source.close()
        assert len(found) >= len(rows), (rows, found)
        for entry in found:
            raw = entry_report(POLLED, entry, received_at=NOW, connector="fuzz")
            assert codec().decode(codec().encode("RawReport", raw))[0] == "RawReport"


# Configuration --------------------------------------------------------------------------------------------

SPECS = [path.read_bytes() for path in sorted((ROOT / "connectors/channels").glob("*.yaml"))]
SOURCES = [
    as_json({"hotline12345": {"sql": "sqlite:///a.db", "file": "/a"}, "iot": {"mqtt": "mqtt://a"}})
]
PEOPLE = [as_json([{"code": "a", "role": "unit", "unit_code": "b", "key_sha256": "0" * 64}])]
HOOKS = [as_json({"410100": {"url": "https://a/b", "secret": "s" * 20}})]
SETTINGS = [
    b'port = 8000\ncity = "zhengzhou"\nbind = "127.0.0.1"\nvision_timeout_s = 2.5\n# a note\n'
]


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="quanyu-fuzz-"))
    yield folder
    shutil.rmtree(folder)


def _refused_or_read(path: Path, data: bytes, read: Callable[[], Any]) -> None:
    path.write_bytes(data)
    why_refused(read)


@fuzz(0.2)
@given(data=spoilt_of(SPECS))
def test_channel_specs_are_read_or_refused(home: Path, data: bytes) -> None:
    path = home / "a_test.yaml"
    _refused_or_read(path, data, lambda: read_channel(path))


@fuzz(0.2)
@given(data=spoilt_of(SOURCES))
def test_sources_are_read_or_refused(home: Path, data: bytes) -> None:
    _refused_or_read(home / "sources.json", data, lambda: load_sources(Settings(home=home)))


@fuzz(0.2)
@given(data=spoilt_of(PEOPLE))
def test_people_are_read_or_refused(home: Path, data: bytes) -> None:
    path = home / "people.json"
    _refused_or_read(path, data, lambda: read_people(path))


@fuzz(0.2)
@given(data=spoilt_of(HOOKS))
def test_webhooks_are_read_or_refused(home: Path, data: bytes) -> None:
    path = home / "webhooks.json"
    _refused_or_read(path, data, lambda: read_webhooks(path))


@fuzz(0.2)
@given(data=spoilt_of(SOURCES))
def test_keys_are_read_or_nobody_has_one(home: Path, data: bytes) -> None:
    path = home / "keys.json"
    path.write_bytes(data)
    assert not Keys(path).accepts("hotline12345", "")


@fuzz(0.1)
@given(data=spoilt_of(SETTINGS))
def test_settings_files_are_read_or_refused(home: Path, data: bytes) -> None:
    _refused_or_read(home / "quanyu.toml", data, lambda: load_settings(home=home))


@fuzz(0.1)
@given(data=spoilt_of([path.read_bytes() for path in sorted(QUERIES_DIR.glob("*.sql"))]))
def test_queries_are_read_or_refused(home: Path, data: bytes) -> None:
    path = home / "a_test.sql"
    _refused_or_read(path, data, lambda: read_query(path))


PACK = city_folder("zhengzhou")
SMALL = [
    p.name
    for p in sorted(PACK.iterdir())
    if p.suffix in (".csv", ".yaml") and p.stat().st_size < 200_000
]


@fuzz(0.005, few=8)
@given(given_=st.sampled_from(SMALL).flatmap(
    lambda name: st.tuples(st.just(name), spoilt_of([(PACK / name).read_bytes()]))))  # fmt: skip
def test_city_packs_are_read_or_refused_with_the_file_at_fault(
    home: Path, given_: tuple[str, bytes]
) -> None:
    name, data = given_
    pack = home / "pack"
    if not pack.exists():
        shutil.copytree(PACK, pack)
    (pack / name).write_bytes(data)
    try:
        said = why_refused(lambda: load_city.__wrapped__(str(pack)))
    finally:
        shutil.copy(PACK / name, pack / name)
    assert not said or str(pack) in said
