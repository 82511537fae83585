"""Whatever the bytes are, decoding ends in a record or in one named error."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.codec import HEADER, Codec, DecodeError, plain_instants
from schemas.registry import SchemaIds, load_schemas

CODES = {
    "null_value", "bad_magic", "unknown_schema", "wrong_record", "truncated", "trailing_bytes",
    "malformed",
}  # fmt: skip

V1 = {
    "type": "record",
    "name": "Thing",
    "fields": [
        {"name": "id", "type": "string"},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
    ],
}
V2 = {**V1, "fields": [*V1["fields"], {"name": "note", "type": "string", "default": "none"}]}
OTHER = {"type": "record", "name": "Other", "fields": [{"name": "id", "type": "string"}]}


@pytest.fixture(scope="module")
def things() -> Codec:
    """Two versions of one record beside another record."""
    schemas: dict[tuple[str, int], Any] = {("Thing", 1): V1, ("Thing", 2): V2, ("Other", 1): OTHER}
    return Codec(SchemaIds(schemas, {("Thing", 1): 1, ("Thing", 2): 2, ("Other", 1): 300}))


def old(at: int = 5) -> bytes:
    """A Thing as its first version was written."""
    first = Codec(SchemaIds({("Thing", 1): V1}, {("Thing", 1): 1}))
    return first.encode("Thing", {"id": "a", "at": at})


def code_of(codec: Codec, value: bytes | None) -> str:
    with pytest.raises(DecodeError) as caught:
        codec.decode(value)
    return caught.value.code


def test_a_frame_is_a_zero_byte_four_of_the_schema_id_and_the_body(things: Codec) -> None:
    assert things.encode("Other", {"id": "ab"}) == b"\x00\x00\x00\x01\x2c" + b"\x04ab"


def test_an_instant_comes_back_as_the_milliseconds_that_it_was(things: Codec) -> None:
    frame = things.encode("Thing", {"id": "a", "at": 1_772_700_000_123})
    assert things.decode(frame) == ("Thing", {"id": "a", "at": 1_772_700_000_123, "note": "none"})


def test_bytes_of_an_older_version_are_read_with_the_newer_ones_defaults(things: Codec) -> None:
    assert things.decode(old()) == ("Thing", {"id": "a", "at": 5, "note": "none"})


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (None, "null_value"),
        (b"", "bad_magic"),
        (b"\x00\x00\x00\x00", "bad_magic"),
        (b'{"id": "a"}', "bad_magic"),
        (b"\x01" + old()[1:], "bad_magic"),
        (b"\x00\x00\x00\x00\x09abc", "unknown_schema"),
        (b"\x00\xff\xff\xff\xff", "unknown_schema"),
        (old()[:5], "truncated"),
        (old()[:-1], "truncated"),
        (old() + b"\x00", "trailing_bytes"),
        (HEADER.pack(0, 300) + b"\x02\xff", "malformed"),
    ],
)
def test_each_kind_of_damage_has_its_name(things: Codec, value: bytes | None, code: str) -> None:
    assert code_of(things, value) == code


@pytest.mark.parametrize(
    "length",
    [b"\x01", b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01"],
    ids=["minus one", "most negative", "largest"],
)  # fmt: skip
def test_a_length_that_cannot_be_takes_no_memory(things: Codec, length: bytes) -> None:
    assert code_of(things, HEADER.pack(0, 300) + length + b"abc") in ("truncated", "malformed")


def test_an_error_says_nothing_of_the_data(things: Codec) -> None:
    secret = HEADER.pack(0, 300) + b"\x18\xff13800000000"
    with pytest.raises(DecodeError) as caught:
        things.decode(secret)
    assert "138" not in str(caught.value)


def test_a_batch_names_every_index_once_and_reads_the_good(things: Codec) -> None:
    good = things.encode("Thing", {"id": "b", "at": 6})
    values = [good, None, old(), things.encode("Other", {"id": "x"}), good[:-1], good + b"!", b"x"]
    records, errors = things.decode_batch("Thing", values)
    assert [index for index, record in enumerate(records) if record is not None] == [0, 2]
    assert {index: error.code for index, error in errors.items()} == {
        1: "null_value",
        3: "wrong_record",
        4: "truncated",
        5: "trailing_bytes",
        6: "bad_magic",
    }


FRAMES = st.builds(
    lambda header, body: header + body,
    st.sampled_from([HEADER.pack(0, 1), HEADER.pack(0, 2), HEADER.pack(0, 300), b"", b"\x00"]),
    st.binary(max_size=30),
)


@given(values=st.lists(FRAMES | st.none(), max_size=8))
def test_any_bytes_end_in_a_record_or_a_named_error_alone_as_in_a_batch(
    things: Codec, values: list[bytes | None]
) -> None:
    records, errors = things.decode_batch("Thing", values)
    assert len(records) == len(values)
    for index, value in enumerate(values):
        assert (records[index] is None) == (index in errors)
        if index in errors and errors[index].code != "wrong_record":
            assert errors[index].code in CODES
            assert code_of(things, value) == errors[index].code
        else:
            name, record = things.decode(value)
            assert records[index] == (record if name == "Thing" else None)


@given(data=st.data())
def test_a_raw_report_cut_or_changed_anywhere_raises_nothing_else(
    codec: Codec, data: st.DataObject
) -> None:
    record = {"channel": "test", "native_id": "a", "received_at": 1, "payload": b"{}"}
    frame = bytearray(codec.encode("RawReport", record))
    for _ in range(data.draw(st.integers(1, 3))):
        frame[data.draw(st.integers(0, len(frame) - 1))] = data.draw(st.integers(0, 255))
    del frame[data.draw(st.integers(0, len(frame))) :]
    _, errors = codec.decode_batch("RawReport", [bytes(frame)])
    assert {error.code for error in errors.values()} <= CODES


def test_a_record_that_does_not_fit_is_refused_and_the_encoder_goes_on(things: Codec) -> None:
    encode = things.encoder("Thing")
    with pytest.raises((ValueError, TypeError)):
        encode({"id": 7, "at": "x"})
    assert things.decode(encode({"id": "a", "at": 5}))[1]["id"] == "a"


def test_dropping_the_logical_type_of_instants_touches_nothing_else() -> None:
    for schema in load_schemas().values():
        text = json.dumps(plain_instants(schema))
        assert "timestamp-millis" not in text
        expected = json.dumps(schema).replace(', "logicalType": "timestamp-millis"', "")
        assert text == expected


@pytest.mark.parametrize(
    "path", sorted((Path(__file__).parents[3] / "schemas/avro/golden").iterdir())
)
def test_golden_bytes_of_every_version_are_still_read(codec: Codec, path: Path) -> None:
    assert codec.decode(path.read_bytes())[0] == path.name.partition(".")[0]
