"""Many records of one kind at once, as columns: a fraction of what reading and sending them one by one costs.

polars reads Avro's container files natively, so the bodies of a block are made one, each followed by a mark:
numbers that count on from a random one. Bytes that are no such record end the reading, shift what comes after
them, so that a mark is not where it belongs, or come to another length than what was read of them would take.
A block with anything of that kind, or in doubt, is not read here at all: what is wrong with which record is
said by :meth:`schemas.codec.Codec.decode_batch`.
"""

import io
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars

from schemas.codec import Codec

_MARK = "_mark"
#: Floats count exactly up to 2**53.
_MARK_BITS = 52
_SYNC = bytes(16)
_FIXED = {"boolean": 1, "float": 4, "double": 8}
#: From these on a number takes a byte more.
_STEPS = [64 << 7 * more for more in range(9)]
_Ints = np.ndarray[tuple[int, ...], np.dtype[np.int64]]


class ColumnReader:
    """Reads values of the newest version of any record; safe to use from several threads."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self._known: dict[str, _Layout] = {}

    def read(self, name: str, values: Sequence[bytes | None]) -> polars.DataFrame | None:
        """The fields of ``name`` in their order, or None when not every value is surely one.

        Each column is what :meth:`Codec.decode_batch` finds in that field, record by record; instants are
        of type Datetime. (A boolean's byte that is neither 0 nor 1 is false here.)
        """
        layout = self._layout(name)
        start = len(layout.header)
        bodies = [v[start:] for v in values if v is not None and v.startswith(layout.header)]
        if len(bodies) != len(values) or not bodies:
            return None
        marks = random.getrandbits(_MARK_BITS) + np.arange(len(bodies), dtype=np.float64)
        packed = marks.astype("<f8").tobytes()
        pieces = [b""] * (2 * len(bodies))
        pieces[::2] = bodies
        pieces[1::2] = [packed[at : at + 8] for at in range(0, len(packed), 8)]
        block = b"".join(pieces)
        head = [layout.beginning, _varint(len(bodies)), _varint(len(block))]
        lengths = np.fromiter(map(len, bodies), np.int64, len(bodies))
        try:
            found = polars.read_avro(io.BytesIO(b"".join([*head, block, _SYNC])))
            if not np.array_equal(found[_MARK].to_numpy(), marks):
                return None
            if not np.array_equal(_sizes(found, layout.fields), lengths):
                return None
            if found.select(layout.doubtful).item():
                return None
            return found.select(layout.columns)
        except (polars.exceptions.PolarsError, polars.exceptions.PanicException, OSError):
            return None

    def _layout(self, name: str) -> "_Layout":
        known = self._known.get(name)
        if known is None:
            header, fields = self._codec.layout(name)
            plain = {n: _plain(t) for n, t in fields.items()}
            marked = [{"name": n, "type": t} for n, t in (plain | {_MARK: "double"}).items()]
            schema = json.dumps({"type": "record", "name": name, "fields": marked})
            about = [b"avro.schema", schema.encode(), b"avro.codec", b"null"]
            entries = [_varint(len(part)) + part for part in about]
            known = self._known[name] = _Layout(
                header,
                plain,
                b"".join([b"Obj\x01", _varint(len(about) // 2), *entries, _varint(0), _SYNC]),
                polars.any_horizontal(
                    polars.lit(value=False),
                    *(
                        polars.col(n) == ("" if t[1] == "string" else 0)
                        for n, t in plain.items()
                        if isinstance(t, list)
                    ),
                ).any(),
                [_typed(polars.col(n), t) for n, t in fields.items()],
            )
        return known


@dataclass(frozen=True, slots=True)
class _Layout:
    """How a value begins, the plain types of its fields, how a container of such values begins, its columns.

    ``doubtful``: whether a value that may be missing is there and nothing. polars also reads that where it is
    neither said to be there nor to be missing.
    """

    header: bytes
    fields: Mapping[str, Any]
    beginning: bytes
    doubtful: polars.Expr
    columns: list[polars.Expr]


def _plain(schema: Any) -> Any:
    """The type without what does not change its bytes, which polars would not always take.

    An ``int`` is read as a ``long``: what is out of its range is then seen, not cut off.
    """
    match schema:
        case list():
            return [_plain(branch) for branch in schema]
        case {"type": "enum"}:
            return {key: schema[key] for key in ("type", "name", "symbols")}
        case {"type": "array", "items": items}:
            return {"type": "array", "items": _plain(items)}
        case {"type": str(name)} | str(name):
            return "long" if name == "int" else name
    raise TypeError(schema)


def _present(schema: Any) -> Any:
    """The type of a value that is there."""
    return schema[1] if isinstance(schema, list) else schema


def _typed(column: polars.Expr, schema: Any) -> polars.Expr:
    match _present(schema):
        case {"logicalType": "timestamp-millis"}:
            return column.cast(polars.Datetime("ms", "UTC"))
        case {"type": "enum"}:
            return column.cast(polars.String)
        case "int":
            return column.cast(polars.Int32)
    return column


def _sizes(found: polars.DataFrame, fields: Mapping[str, Any]) -> _Ints:
    """How many bytes each record takes as our writers write it: the shortest way, an enum in one.

    ``fields``: their plain types.
    """
    total = np.zeros(found.height, dtype=np.int64)
    numbers: list[_Ints] = []
    for name, schema in fields.items():
        column = found[name]
        there = column.is_not_null().to_numpy()
        total += isinstance(schema, list)
        match _present(schema):
            case "long":
                numbers.append(column.fill_null(0).to_numpy())
            case "string":
                length = column.str.len_bytes().fill_null(0).to_numpy().astype(np.int64)
                total += length
                numbers.append(length)
            case {"type": "array"}:
                count = column.list.len().to_numpy().astype(np.int64)
                items = (
                    column.filter(count > 0).explode().str.len_bytes().to_numpy().astype(np.int64)
                )
                owner = np.repeat(np.arange(len(count)), count)
                inside = np.bincount(owner, weights=items + _widths(items), minlength=len(count))
                # A block of items is followed by one of none.
                total += inside.astype(np.int64) + (count > 0)
                numbers.append(count)
            case {"type": "enum"}:
                total += there
                continue
            case str(fixed):
                total += _FIXED[fixed] * there
                continue
        total -= ~there  # the number that stands for what is not there takes a byte below
    sizes: _Ints = total + _widths(np.stack(numbers)).sum(axis=0)
    return sizes


def _widths(numbers: _Ints) -> _Ints:
    """Bytes of Avro's numbers: seven bits a byte, one of all for the sign."""
    magnitude = np.where(numbers < 0, ~numbers, numbers)
    width = np.ones(numbers.shape, dtype=np.int64)
    for step in _STEPS:
        more = magnitude >= step
        if not more.any():
            break
        width += more
    return width


def _varint(number: int) -> bytes:
    """A length as Avro writes it: zigzag, seven bits a byte; ``number`` is none below 0."""
    number <<= 1
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)
