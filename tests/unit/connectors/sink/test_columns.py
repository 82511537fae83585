"""Read as columns, records are what they are one by one, or are left to be read so."""

from typing import Any

import polars
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.sink.columns import ColumnReader
from connectors.sink.runner import routes
from schemas.codec import Codec
from tests.unit.schemas.test_compiled import SCHEMAS, values

NOTHING = ("", 0)
RECORDS = sorted({route.record for route in routes()})


@pytest.fixture(scope="module")
def columns(codec: Codec) -> ColumnReader:
    return ColumnReader(codec)


def rows(found: polars.DataFrame) -> list[dict[str, Any]]:
    """Record by record, instants in ms."""
    return found.with_columns(
        polars.col(name).cast(polars.Int64)
        for name, kind in found.schema.items()
        if kind == polars.Datetime
    ).to_dicts()


@pytest.mark.parametrize("name", RECORDS)
def test_columns_hold_what_is_read_record_by_record(
    name: str, codec: Codec, columns: ColumnReader
) -> None:
    optional = {f["name"] for f in SCHEMAS[name]["fields"] if isinstance(f["type"], list)}

    @settings(max_examples=40)
    @given(records=st.lists(values(SCHEMAS[name], {}), min_size=1, max_size=5))
    def holds(records: list[dict[str, Any]]) -> None:
        written = [codec.encode(name, record) for record in records]
        expected, errors = codec.decode_batch(name, written)
        found = columns.read(name, written)
        assert errors == {}
        if any(
            value in NOTHING for row in expected if row for n, value in row.items() if n in optional
        ):
            return  # in doubt
        assert found is not None
        assert rows(found) == expected
        assert found.columns == [field["name"] for field in SCHEMAS[name]["fields"]]

    holds()


#: Numbers of every length, and none that ends.
NUMBERS = [b"\xff" * more + b"\x01" for more in range(10)] + [b"\xff" * 12, b"\x01", b"\x80\x00"]


@pytest.mark.parametrize("name", RECORDS)
def test_a_block_with_a_damaged_record_is_left_alone_or_read_as_it_is_one_by_one(
    name: str, codec: Codec, columns: ColumnReader
) -> None:
    truths = [f["name"] for f in SCHEMAS[name]["fields"] if f["type"] == "boolean"]

    @settings(max_examples=80)
    @given(
        records=st.lists(values(SCHEMAS[name], {}), min_size=2, max_size=4),
        which=st.integers(0),
        place=st.integers(0),
        gone=st.integers(0, 3),
        put=st.binary(max_size=3) | st.sampled_from(NUMBERS),
        end=st.just(b"") | st.binary(max_size=9),
    )
    def holds(
        records: list[dict[str, Any]], which: int, place: int, gone: int, put: bytes, end: bytes
    ) -> None:
        written = [codec.encode(name, record) for record in records]
        data = written[which % len(written)]
        at = 5 + place % (len(data) - 5)
        written[which % len(written)] = data[:at] + put + data[at + gone :] + end
        found = columns.read(name, written)
        if found is None:
            return
        expected, errors = codec.decode_batch(name, written)
        assert errors == {}
        read = rows(found)
        # A byte that is no boolean is true to one and false to the other. NaN is equal to nothing.
        for row in [*expected, *read]:
            for truth in truths:
                assert row is not None
                del row[truth]
        assert repr(read) == repr(expected)

    holds()


def test_what_is_no_value_of_the_newest_version_is_left_to_be_read_one_by_one(
    codec: Codec, columns: ColumnReader
) -> None:
    fine = codec.encode("ActionOutcome", dict.fromkeys(
        [f["name"] for f in SCHEMAS["ActionOutcome"]["fields"]], ""
    ) | {f["name"]: 0 for f in SCHEMAS["ActionOutcome"]["fields"] if f["type"] != "string"})  # fmt: skip
    assert columns.read("ActionOutcome", [fine, fine]) is not None
    for other in (None, b"", fine[:4], b"\x01" + fine[1:], fine[:1] + b"\0\0\0\0" + fine[5:]):
        assert columns.read("ActionOutcome", [fine, other, fine]) is None
    assert columns.read("ActionOutcome", []) is None
