"""The generated readers and writers say what fastavro says, or nothing at all."""

import io
import json
from typing import Any

import fastavro
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.codec import Codec, plain_instants
from schemas.compiled import NotPlainError, reader, writer
from schemas.registry import load_schemas

SCHEMAS = {name: plain_instants(schema) for (name, _), schema in load_schemas().items()}
PARSED = {
    name: fastavro.parse_schema(json.loads(json.dumps(schema)), named_schemas={})
    for name, schema in SCHEMAS.items()
}
HEADER = b"\x00head"
PRIMITIVES: dict[str, st.SearchStrategy[Any]] = {
    "null": st.none(),
    "boolean": st.booleans(),
    "string": st.text(max_size=90),
    "bytes": st.binary(max_size=90),
    "int": st.integers(-(2**31), 2**31 - 1) | st.integers(-70, 70),
    # Instants, and the borders round those of six bytes, have a way of their own.
    "long": st.integers(-(2**63), 2**63 - 1)
    | st.integers(-70, 70)
    | st.integers(2**34 - 2, 2**41 + 2)
    | st.sampled_from([2**34 - 1, 2**34, 2**41 - 1, 2**41]),
    "float": st.floats(width=32, allow_nan=False),
    "double": st.floats(allow_nan=False),
}


def values(schema: Any, named: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Any value that fits."""
    match schema:
        case list():
            return st.one_of([values(branch, named) for branch in schema])
        case str():
            return PRIMITIVES[schema] if schema in PRIMITIVES else values(named[schema], named)
        case {"type": "record", "fields": fields}:
            return st.fixed_dictionaries({f["name"]: values(f["type"], named) for f in fields})
        case {"type": "enum", "name": name, "symbols": symbols}:
            named[name] = schema
            return st.sampled_from(symbols)
        case {"type": "array", "items": items}:
            return st.lists(values(items, named), max_size=70)
        case {"type": inner}:
            return values(inner, named)
    raise AssertionError(schema)


ANY = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
ANYTHING = ANY | st.binary(max_size=5) | st.lists(ANY, max_size=3) | st.just("x" * 70)


def written(name: str, record: Any) -> bytes:
    out = io.BytesIO()
    out.write(HEADER)
    fastavro.schemaless_writer(out, PARSED[name], record)
    return out.getvalue()


def read(name: str, data: bytes) -> Any:
    stream = io.BytesIO(data)
    stream.seek(len(HEADER))
    record = fastavro.schemaless_reader(stream, PARSED[name], None)
    assert stream.tell() == len(data)
    return record


def test_every_record_of_the_tree_has_a_fast_path() -> None:
    for name, schema in SCHEMAS.items():
        assert reader(schema, 5) is not None, name
        assert writer(schema, HEADER) is not None, name


@pytest.mark.parametrize("name", sorted(SCHEMAS))
def test_a_record_that_fits_gives_fastavros_bytes_and_comes_back(name: str) -> None:
    write, decode = writer(SCHEMAS[name], HEADER), reader(SCHEMAS[name], len(HEADER))
    assert write is not None
    assert decode is not None

    @settings(max_examples=40)
    @given(record=values(SCHEMAS[name], {}))
    def holds(record: dict[str, Any]) -> None:
        data = written(name, record)
        assert write(record) == data
        found, expected = decode(data), read(name, data)
        assert found == expected
        assert list(found) == list(expected)

    holds()


@pytest.mark.parametrize("name", sorted(SCHEMAS))
def test_a_record_that_may_not_fit_is_written_as_fastavro_does_or_not_at_all(name: str) -> None:
    write = writer(SCHEMAS[name], HEADER)
    assert write is not None
    fields = [field["name"] for field in SCHEMAS[name]["fields"]]

    @settings(max_examples=40)
    @given(record=values(SCHEMAS[name], {}), field=st.sampled_from(fields), wrong=ANYTHING)
    def holds(record: dict[str, Any], field: str, wrong: Any) -> None:
        record[field] = wrong
        try:
            data = write(record)
        except Exception:
            return  # the codec asks fastavro
        assert data == written(name, record)

    holds()


@settings(max_examples=60)
@given(
    order=values(SCHEMAS["Order"], {}),
    step=values(SCHEMAS["OrderTransition"], {}),
    spoilt=st.booleans(),
)
def test_two_records_written_at_once_are_what_each_is_alone(
    codec: Codec, order: dict[str, Any], step: dict[str, Any], spoilt: bool
) -> None:
    last = [field["name"] for field in SCHEMAS["Order"]["fields"]][10:]
    own = {name: value for name, value in step.items() if name not in last}
    own |= {name: order[name] for name in own.keys() & order.keys()}
    if spoilt:
        # Not plain, so that fastavro writes both.
        order["deadline_value"] = True
    both = codec.pair_encoder("Order", "OrderTransition")(order, own)
    assert both == (codec.encode("Order", order), codec.encode("OrderTransition", order | own))


@pytest.mark.parametrize("name", sorted(SCHEMAS))
def test_damaged_bytes_are_read_as_fastavro_does_or_not_at_all(name: str) -> None:
    decode = reader(SCHEMAS[name], len(HEADER))
    assert decode is not None
    spots = st.lists(st.tuples(st.integers(0), st.integers(0, 255)), max_size=3)

    @settings(max_examples=40)
    @given(
        record=values(SCHEMAS[name], {}),
        spots=spots,
        cut=st.integers(0, 3),
        end=st.binary(max_size=2),
    )
    def holds(record: Any, spots: list[tuple[int, int]], cut: int, end: bytes) -> None:
        frame = bytearray(written(name, record))
        for place, byte in spots:
            frame[len(HEADER) + place % (len(frame) - len(HEADER))] = byte
        data = bytes(frame[: len(frame) - cut]) + end
        try:
            found = decode(data)
        except Exception:
            return  # the codec asks fastavro
        # repr: a NaN is equal to nothing, not even to itself.
        assert repr(found) == repr(read(name, data))

    holds()


@pytest.mark.parametrize(
    "kind",
    [
        {"type": "map", "values": "string"},
        ["string", "null"],
        ["null", "string", "int"],
        {"type": "bytes", "logicalType": "decimal", "precision": 4},
        {"type": "array", "items": {"type": "array", "items": "string"}},
        {"type": "fixed", "name": "F", "size": 2},
        "null",
    ],
    ids=str,
)
def test_a_shape_that_is_not_known_is_left_to_fastavro(kind: Any) -> None:
    schema = {"type": "record", "name": "Thing", "fields": [{"name": "x", "type": kind}]}
    assert reader(schema, 5) is None
    assert writer(schema, b"") is None


def test_an_endless_number_is_given_up_at_once() -> None:
    read = reader({"fields": [{"name": "x", "type": "long"}], "type": "record"}, 0)
    assert read is not None
    with pytest.raises(NotPlainError):
        read(b"\xff" * 1_000_000 + b"\x01")


def test_a_field_that_is_missing_gets_its_default(codec: Codec) -> None:
    value = codec.encode("RawReport", {"channel": "c", "received_at": 5, "payload": b""})
    assert codec.decode(value)[1]["content_type"] == "application/json"
