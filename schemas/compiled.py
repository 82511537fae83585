"""Straight-line readers and writers generated from a schema: about twice as fast as fastavro's.

They know the shapes of our records and only the plain case of each: whole bytes, a value of the very
type. In any other case they raise whatever comes, and the codec asks fastavro, which decides and names
what is wrong. So what they return is what fastavro would have returned; property tests hold them to it.
"""

import struct
from collections.abc import Callable, Mapping
from typing import Any

Reader = Callable[[bytes], dict[str, Any]]
Writer = Callable[[Mapping[str, Any]], bytes]

#: First byte of a length below 64 → that length; every other byte → 255, which means: look closer.
LENGTHS = bytes(byte >> 1 if byte < 128 and byte % 2 == 0 else 255 for byte in range(256))
#: A length below 64 → its one byte.
SHORT = tuple(bytes([number << 1]) for number in range(64))
#: Fourteen bits of a number → their two bytes when more follow, and when none do.
MORE = tuple(bytes([number & 127 | 128, number >> 7 | 128]) for number in range(16384))
LAST = tuple(more[:1] + bytes([more[1] & 127]) for more in MORE)
LAST = tuple(bytes([number]) if number < 128 else LAST[number] for number in range(16384))


class NotPlainError(ValueError):
    """Legal or not, fastavro has to say."""


def reader(schema: Any, skip: int) -> Reader | None:
    """A function from values, whose first ``skip`` bytes are a header, to records.

    ``schema`` is a record's, not parsed. None when it has a shape that is not known here. The function
    raises any exception on bytes that are not plainly one record.
    """
    fields = inlined(schema, {})["fields"]
    lines = [f"p = {skip}"]
    try:
        for number, field in enumerate(fields):
            lines += _read(field["type"], f"v{number}")
    except NotPlainError:
        return None
    pairs = ", ".join(f"{field['name']!r}: v{number}" for number, field in enumerate(fields))
    lines += ["if p != len(d): raise NotPlainError", f"return {{{pairs}}}"]
    read: Reader = _function("d", lines)
    return read


def writer(schema: Any, header: bytes) -> Writer | None:
    """A function from records to ``header`` and their bytes, on the terms of :func:`reader`."""
    lines = [f"out = bytearray({header!r})"]
    try:
        for field in inlined(schema, {})["fields"]:
            lines += [f"v = r[{field['name']!r}]", *_write(field["type"], "v")]
    except NotPlainError:
        return None
    write: Writer = _function("r", [*lines, "return bytes(out)"])
    return write


def _function(argument: str, lines: list[str]) -> Any:
    names: dict[str, Any] = {
        "LENGTHS": LENGTHS,
        "SHORT": SHORT,
        "MORE": MORE,
        "LAST": LAST,
        "NotPlainError": NotPlainError,
        "length": _length,
        "number": _number,
        "varint": _varint,
    }
    for letter in "fd":
        packing = struct.Struct(f"<{letter}")
        names |= {f"pack_{letter}": packing.pack, f"unpack_{letter}": packing.unpack_from}
    source = "\n".join([f"def generated({argument}):", *_indented(lines)])
    exec(source, names)  # noqa: S102 - made above from a schema of this repository, nothing else
    return names["generated"]


def _indented(lines: list[str]) -> list[str]:
    return [f"    {line}" for line in lines]


def inlined(schema: Any, named: dict[str, Any]) -> Any:
    """The schema with each later use of a named type replaced by its definition."""
    if isinstance(schema, str):
        return named.get(schema, schema)
    if isinstance(schema, list):
        return [inlined(branch, named) for branch in schema]
    if schema["type"] == "record":
        fields = [{**f, "type": inlined(f["type"], named)} for f in schema["fields"]]
        return {**schema, "fields": fields}
    if schema["type"] == "enum":
        named[schema["name"]] = schema
    elif schema["type"] == "array":
        return {**schema, "items": inlined(schema["items"], named)}
    return schema


def _shape(schema: Any) -> tuple[str, Any]:
    """Name of a shape and what it is made of: the branch beside null, the items, the symbols."""
    match schema:
        case ["null", branch]:
            return "optional", branch
        case {"logicalType": _} | {"items": {"type": "array"}}:
            raise NotPlainError
        case {"type": "array", "items": items}:
            return "array", items
        case {"type": "enum", "symbols": symbols}:
            return "enum", tuple(symbols)
        case {"type": str(name)} | str(name):
            return name, None
    raise NotPlainError


def _read(schema: Any, to: str) -> list[str]:
    """Statements that read the value at ``p`` of ``d`` into ``to`` and move ``p`` behind it."""
    size = ["n = LENGTHS[d[p]]; p += 1", "if n == 255: n, p = length(d, p - 1)"]
    match _shape(schema):
        case "optional", branch:
            value = _indented(_read(branch, to))
            wrong = "elif b: raise NotPlainError"
            return ["b = d[p]; p += 1", "if b == 2:", *value, wrong, f"else: {to} = None"]
        case "string", _:
            return [*size, f"{to} = d[p:p + n].decode(); p += n"]
        case "bytes", _:
            return [*size, f"{to} = d[p:p + n]; p += n"]
        case "long", _:
            return [f"{to} = LENGTHS[d[p]]; p += 1", f"if {to} == 255: {to}, p = number(d, p - 1)"]
        case "int", _:
            limit = f"if not -0x80000000 <= {to} < 0x80000000: raise NotPlainError"
            return [
                *_read("long", to)[:1],
                f"if {to} == 255:",
                *_indented([f"{to}, p = number(d, p - 1)", limit]),
            ]
        case "double" | "float" as kind, _:
            return [f"{to}, = unpack_{kind[0]}(d, p); p += {8 if kind == 'double' else 4}"]
        case "boolean", _:
            return ["b = d[p]; p += 1", "if b > 1: raise NotPlainError", f"{to} = b == 1"]
        case "enum", symbols:
            return [*size, f"{to} = {symbols!r}[n]"]
        case "array", items:
            item = [*_read(items, "item"), f"{to}.append(item)"]
            block = ["for _ in range(n):", *_indented(item), *size]
            return [f"{to} = []", *size, "while n:", *_indented(block)]
    raise NotPlainError


def _write(schema: Any, value: str) -> list[str]:
    """Statements that append ``value`` to ``out``."""
    size = "out += SHORT[n] if n < 64 else varint(n << 1)"

    def only(*types: str) -> str:
        return f"if {value}.__class__ not in ({', '.join(types)},): raise NotPlainError"

    match _shape(schema):
        case "optional", branch:
            some = _indented(["out.append(2)", *_write(branch, value)])
            return [f"if {value} is None: out.append(0)", "else:", *some]
        case "string", _:
            return [f"b = {value}.encode(); n = len(b)", f"{size}; out += b"]
        case "bytes", _:
            return [only("bytes"), f"n = len({value}); {size}; out += {value}"]
        case "int" | "long" as kind, _:
            top = "0x80000000" if kind == "int" else "0x8000000000000000"
            return [
                only("int"),
                f"if 0 <= {value} < 64: out.append({value} << 1)",
                *(
                    # Instants of our time have six bytes.
                    [
                        f"elif 0x400000000 <= {value} < 0x20000000000:",
                        f"    out += MORE[{value} << 1 & 16383]; out += MORE[{value} >> 13 & 16383]",
                        f"    out += LAST[{value} >> 27]",
                    ]
                    if kind == "long"
                    else []
                ),
                f"elif 0 <= {value} < {top}: out += varint({value} << 1)",
                f"elif -{top} <= {value} < 0: out += varint(~({value} << 1))",
                "else: raise NotPlainError",
            ]
        case "double" | "float" as kind, _:
            return [only("float", "int"), f"out += pack_{kind[0]}({value})"]
        case "boolean", _:
            return [only("bool"), f"out.append({value})"]
        case "enum", symbols:
            return [f"n = {symbols!r}.index({value}); {size}"]
        case "array", items:
            item = _indented(_write(items, "item"))
            some = [f"n = len({value}); {size}", f"for item in {value}:", *item]
            return [only("list", "tuple"), f"if {value}:", *_indented(some), "out.append(0)"]
    raise NotPlainError


def _varint(number: int) -> bytes:
    """Bytes of a number that is zigzag already."""
    out = b""
    while number > 16383:
        out += MORE[number & 16383]
        number >>= 14
    return out + LAST[number]


def _number(data: bytes, place: int) -> tuple[int, int]:
    """The number at a place, and the place behind it."""
    byte = data[place]
    number, shift = byte & 127, 7
    while byte > 127:
        if shift > 63:  # a longer one is no number, and would cost the square of its length
            raise NotPlainError
        place += 1
        byte = data[place]
        number |= (byte & 127) << shift
        shift += 7
    if number >> 64:
        raise NotPlainError
    return number >> 1 ^ -(number & 1), place + 1


def _length(data: bytes, place: int) -> tuple[int, int]:
    """The length at a place, if one value can be so long, and the place behind it."""
    number, place = _number(data, place)
    if not 0 <= number <= len(data):
        raise NotPlainError
    return number, place
