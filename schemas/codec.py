"""Confluent framing: one magic byte, four bytes of schema id, the Avro body.

The newest version of a record goes through the generated functions of :mod:`schemas.compiled`; whatever
they do not take, and every older version, goes through fastavro.

Instants (``timestamp-millis``) decode to plain ``int`` milliseconds: the logical type is dropped from
the parsed schema, which leaves the bytes identical and saves a datetime per field. Whatever the bytes
are, decoding ends in a record or a :class:`DecodeError` that names what is wrong.
"""

import io
import struct
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import fastavro
from fastavro.types import Schema

from schemas.compiled import Reader, Writer, inlined, reader, writer
from schemas.errors import QuanyuError
from schemas.registry import SchemaIds, schema_ids
from schemas.settings import Settings

MAGIC = 0
HEADER = struct.Struct(">bI")
Record = dict[str, Any]

#: Seconds for which an id that the registry does not know is not asked again, and how many such are kept:
#: somebody who writes nonsense must not have the registry asked for every record.
UNKNOWN_S, UNKNOWN_LIMIT = 60.0, 1000


class DecodeError(Exception):
    """Why a value is not a record of ours.

    ``code`` is one of null_value, bad_magic, unknown_schema, wrong_record, truncated, trailing_bytes,
    malformed; ``detail`` says it in words, without the data itself.
    """

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


class Codec:
    """Encodes records of the newest version and decodes those of every version in the tree."""

    def __init__(self, ids: SchemaIds) -> None:
        self._newest: dict[str, tuple[bytes, Schema]] = {}
        self._readers: dict[int, tuple[str, Schema, Schema | None]] = {}
        self._find = ids.find
        self._unknown: dict[int, float] = {}
        parsed = {
            (name, version): fastavro.parse_schema(plain_instants(schema), named_schemas={})
            for (name, version), schema in ids.schemas.items()
        }
        self._plain_readers: dict[str, Reader] = {}
        self._plain_writers: dict[str, Writer] = {}
        self._fields: dict[str, list[Any]] = {}
        self._types: dict[str, dict[str, Any]] = {}
        newest: dict[str, int] = {}
        for name, version in parsed:
            newest[name] = max(version, newest.get(name, 0))
        for (name, version), schema in parsed.items():
            schema_id = ids.ids[name, version]
            if version == newest[name]:
                self._newest[name] = HEADER.pack(MAGIC, schema_id), schema
                self._readers[schema_id] = name, schema, None
                plain = plain_instants(ids.schemas[name, version])
                self._fields[name] = inlined(plain, {})["fields"]
                fields = inlined(ids.schemas[name, version], {})["fields"]
                self._types[name] = {field["name"]: field["type"] for field in fields}
                if read := reader(plain, HEADER.size):
                    self._plain_readers[name] = read
                if write := writer(plain, self._newest[name][0]):
                    self._plain_writers[name] = write
            else:
                self._readers[schema_id] = name, schema, parsed[name, newest[name]]

    def encoder(self, name: str) -> Callable[[Mapping[str, Any]], bytes]:
        """A function that frames one record, from any thread; ValueError or TypeError: it does not fit."""
        header, schema = self._newest[name]
        plain = self._plain_writers.get(name)

        def encode(record: Mapping[str, Any]) -> bytes:
            if plain is not None:
                try:
                    return plain(record)
                except Exception:  # noqa: S110 - fastavro knows defaults, and says what does not fit
                    pass
            out = io.BytesIO()
            out.write(header)
            fastavro.schemaless_writer(out, schema, record)
            return out.getvalue()

        return encode

    def pair_encoder(
        self, one: str, other: str
    ) -> Callable[[Mapping[str, Any], Mapping[str, Any]], tuple[bytes, bytes]]:
        """A function that frames a record of each kind; fields that end both kinds are written once.

        The second argument lacks those: they are taken from the first.
        """
        apart = self.encoder(one), self.encoder(other)
        fields = [self._fields[name] for name in (one, other)]
        shared = 0
        for mine, theirs in zip(*map(reversed, fields), strict=False):
            if (mine["name"], mine["type"]) != (theirs["name"], theirs["type"]):
                break
            shared += 1
        heads = [
            writer({"type": "record", "fields": own[: len(own) - shared]}, self._newest[name][0])
            for own, name in zip(fields, (one, other), strict=True)
        ]
        end = writer({"type": "record", "fields": fields[0][len(fields[0]) - shared :]}, b"")

        def encode(mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> tuple[bytes, bytes]:
            head, tail = heads
            if head is not None and tail is not None and end is not None:
                try:
                    both = end(mine)
                    return head(mine) + both, tail(theirs) + both
                except Exception:  # noqa: S110 - fastavro knows defaults, and says what does not fit
                    pass
            return apart[0](mine), apart[1]({**mine, **theirs})

        return encode

    def layout(self, name: str) -> tuple[bytes, Mapping[str, Any]]:
        """How values of the newest version begin, and each field's type in order, named types written out."""
        return self._newest[name][0], self._types[name]

    def encode(self, name: str, record: Mapping[str, Any]) -> bytes:
        """Frame one record."""
        return self.encoder(name)(record)

    def decode(self, value: bytes | None) -> tuple[str, Record]:
        """The record's name and fields; raises :class:`DecodeError`.

        :class:`QuanyuError` when only the registry could say what it is, and does not answer.
        """
        if value is None:
            raise DecodeError("null_value", "the record has no value")
        if len(value) < HEADER.size or value[0] != MAGIC:
            raise DecodeError("bad_magic", "the value does not start with a 0 byte and a schema id")
        schema_id = int.from_bytes(value[1:5], "big")
        known = self._readers.get(schema_id) or self._found(schema_id)
        if known is None:
            raise DecodeError("unknown_schema", f"schema id {schema_id} is not known here")
        name, writer, reader = known
        return name, _read(value, writer, reader)

    def _found(self, schema_id: int) -> tuple[str, Schema, Schema | None] | None:
        """A writer's schema that the tree does not have, from the registry; None when there is none."""
        if self._find is None or time.monotonic() < self._unknown.get(schema_id, 0.0):
            return None
        try:
            schema = fastavro.parse_schema(plain_instants(self._find(schema_id)), named_schemas={})
            name = schema["name"].rpartition(".")[2]  # type: ignore[call-overload,index]  # anything may stand in a registry
            reader = self._newest[name][1]
            if schema["name"] == reader["name"]:  # type: ignore[call-overload,index]
                self._readers[schema_id] = name, schema, reader
                return self._readers[schema_id]
        except QuanyuError:
            raise
        except Exception:  # noqa: S110 - not a record of ours, however it is not
            pass
        if len(self._unknown) >= UNKNOWN_LIMIT:
            self._unknown.clear()
        self._unknown[schema_id] = time.monotonic() + UNKNOWN_S
        return None

    def decode_batch(
        self, name: str, values: Sequence[bytes | None]
    ) -> tuple[list[Record | None], dict[int, DecodeError]]:
        """Decode values that should all be ``name``; index → error for those that are not.

        Returned records and errors cover every index exactly once.
        """
        header, _ = self._newest[name]
        plain = self._plain_readers.get(name)
        records: list[Record | None] = []
        errors: dict[int, DecodeError] = {}
        for index, value in enumerate(values):
            if plain is not None and value is not None and value[:5] == header:
                try:
                    records.append(plain(value))
                    continue
                except Exception:  # noqa: S110 - read again below, where the error gets its name
                    pass
            try:
                found, record = self.decode(value)
                if found != name:
                    raise DecodeError("wrong_record", f"a {found} where a {name} belongs")
                records.append(record)
            except DecodeError as error:
                records.append(None)
                errors[index] = error
        return records, errors


def _read(value: bytes, writer: Schema, reader: Schema | None) -> Record:
    stream = io.BytesIO(value)
    stream.seek(HEADER.size)
    try:
        record = fastavro.schemaless_reader(stream, writer, reader)
    except (EOFError, struct.error, IndexError):
        raise DecodeError("truncated", "the value ends inside a field") from None
    except MemoryError:
        raise DecodeError("malformed", "a length larger than memory") from None
    except Exception as error:
        # fastavro's own errors have no common base; whatever it was, the bytes are not this record.
        raise DecodeError("malformed", f"{type(error).__name__} in field data") from None
    if stream.tell() != len(value):
        raise DecodeError("trailing_bytes", f"{len(value) - stream.tell()} bytes after the record")
    if not isinstance(record, dict):
        raise DecodeError("malformed", "not a record")
    return record


def plain_instants(schema: Any) -> Any:
    """The schema without ``timestamp-millis``: the same bytes, instants as int milliseconds."""
    if isinstance(schema, dict):
        if schema.get("logicalType") == "timestamp-millis":
            return {key: plain_instants(v) for key, v in schema.items() if key != "logicalType"}
        return {key: plain_instants(value) for key, value in schema.items()}
    if isinstance(schema, list):
        return [plain_instants(item) for item in schema]
    return schema


def default_codec(settings: Settings) -> Codec:
    """The codec of this installation: ids of the lock file or of the configured registry."""
    return Codec(schema_ids(settings))
