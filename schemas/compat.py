"""Whether a schema may change so: the newest version against every older one, in both directions.

FULL_TRANSITIVE: a reader of the newest version reads what any older writer wrote, and every older reader
reads what the newest writes. Checked twice: by the rules of the ``avro`` package, and by decoding golden
bytes of each version with fastavro.
"""

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import fastavro
from avro.compatibility import ReaderWriterCompatibilityChecker, SchemaCompatibilityType
from avro.schema import parse as parse_avro

from schemas.codec import HEADER, MAGIC
from schemas.registry import AVRO_DIR, Version, digest, load_lock, load_schemas

GOLDEN_DIR = "golden"


def check(folder: Path = AVRO_DIR) -> list[str]:
    """Every violation as one sentence naming file, field and remedy; empty when all is well."""
    schemas = load_schemas(folder)
    problems = _locked(folder, schemas)
    for name in sorted({name for name, _ in schemas}):
        versions = sorted(version for found, version in schemas if found == name)
        if versions != list(range(1, len(versions) + 1)):
            problems.append(f"{name}: versions {versions} have a gap; number them from 1")
        newest = versions[-1]
        for older in versions[:-1]:
            problems += _compatible(name, older, newest, schemas)
        for version in versions:
            readers = versions if version == newest else [newest]
            problems += _golden(folder, name, version, readers, schemas)
    return problems


def _locked(folder: Path, schemas: Mapping[Version, Any]) -> list[str]:
    locked = load_lock(folder)
    problems = []
    for (name, version), schema in schemas.items():
        file = f"{name}.v{version}.avsc"
        if (name, version) not in locked:
            problems.append(f"{file}: has no id; run: quanyu schemas lock")
        elif locked[name, version][1] != digest(schema):
            problems.append(
                f"{file}: was changed in place although bytes of it exist; restore it and write "
                f"{name}.v{version + 1}.avsc"
            )
    problems += [
        f"{name}.v{version}.avsc: is locked but missing; restore it, older bytes need it"
        for name, version in locked
        if (name, version) not in schemas
    ]
    return problems


def _compatible(name: str, older: int, newest: int, schemas: Mapping[Version, Any]) -> list[str]:
    problems = []
    for reader, writer in ((newest, older), (older, newest)):
        checker = ReaderWriterCompatibilityChecker()  # type: ignore[no-untyped-call]  # avro has no types here
        result = checker.get_compatibility(
            parse_avro(json.dumps(schemas[name, reader])),
            parse_avro(json.dumps(schemas[name, writer])),
        )
        if result.compatibility is not SchemaCompatibilityType.compatible:
            where = "; ".join(
                f"{place or '/'}: {message}"
                for place, message in zip(
                    sorted(result.locations) or [""], sorted(result.messages) or [""], strict=False
                )
            )
            problems.append(
                f"{name}.v{reader}.avsc cannot read {name}.v{writer}.avsc: {where}"
                f"{_changed(schemas[name, reader], schemas[name, writer])}; add fields with a "
                "default, keep the others"
            )
    return problems


def _changed(one: Any, other: Any) -> str:
    """The fields whose type differs, which the checker itself does not name."""
    types = {field["name"]: field["type"] for field in other["fields"]}
    names = [f["name"] for f in one["fields"] if types.get(f["name"], f["type"]) != f["type"]]
    return f" (type changed: {', '.join(names)})" if names else ""


def _golden(
    folder: Path, name: str, version: int, readers: list[int], schemas: Mapping[Version, Any]
) -> list[str]:
    path = folder / GOLDEN_DIR / f"{name}.v{version}.bin"
    if not path.exists():
        return [f"{path.name}: no golden bytes; run: quanyu schemas lock"]
    data = path.read_bytes()
    locked = load_lock(folder).get((name, version))
    if locked and data[: HEADER.size] != HEADER.pack(MAGIC, locked[0]):
        return [f"{path.name}: does not start with schema id {locked[0]}; restore it from git"]
    for reader in readers:
        stream = io.BytesIO(data[HEADER.size :])
        try:
            fastavro.schemaless_reader(
                stream, _parsed(schemas[name, version]), _parsed(schemas[name, reader])
            )
        except Exception as error:
            # Whatever fastavro raises, the promise is broken in the same way.
            return [f"{path.name}: version {reader} cannot read it ({error}); keep fields readable"]
        if stream.read(1):
            return [
                f"{path.name}: bytes are left over after the record; was the schema changed in place?"
            ]
    return []


def write_golden(ids: Mapping[Version, int], folder: Path = AVRO_DIR) -> list[str]:
    """Write golden bytes of every version that has none; bytes that exist are never altered."""
    schemas = load_schemas(folder)
    (folder / GOLDEN_DIR).mkdir(exist_ok=True)
    written = []
    for (name, version), schema in sorted(schemas.items()):
        path = folder / GOLDEN_DIR / f"{name}.v{version}.bin"
        if path.exists():
            continue
        out = io.BytesIO()
        out.write(HEADER.pack(MAGIC, ids[name, version]))
        parsed = _parsed(schema)
        fastavro.schemaless_writer(out, parsed, _example(schema, {}))
        path.write_bytes(out.getvalue())
        written.append(path.name)
    return written


def _parsed(schema: Any) -> Any:
    return fastavro.parse_schema(json.loads(json.dumps(schema)), named_schemas={})


def _example(schema: Any, named: dict[str, Any]) -> Any:
    """A value of a schema that exercises every branch it can without chance."""
    if isinstance(schema, list):
        return _example(schema[-1], named)
    if isinstance(schema, str):
        plain = {
            "string": "城市 A1",
            "int": 7,
            "long": 1_790_000_000_000,
            "float": 0.5,
            "double": 113.65,
        }
        plain |= {"boolean": True, "bytes": b"\x00\xff", "null": None}
        return plain[schema] if schema in plain else _example(named[schema], named)
    kind = schema["type"]
    if kind == "record":
        named[schema["name"]] = schema
        return {field["name"]: _example(field["type"], named) for field in schema["fields"]}
    if kind == "enum":
        named[schema["name"]] = schema
        return schema["symbols"][-1]
    if kind == "array":
        return [_example(schema["items"], named)]
    if kind == "map":
        return {"k": _example(schema["values"], named)}
    return _example(kind, named)
