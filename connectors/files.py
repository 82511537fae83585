"""Tables and lines from files: every entry comes out, as fields or as bytes with what is wrong with it."""

import codecs
import csv
import io
import json
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openpyxl
from openpyxl.utils.exceptions import InvalidFileException

from schemas.errors import QuanyuError

#: Cells above this are cut by no one: the raw topic takes 8 MB, intake refuses the text with a reason.
CELL_LIMIT = 7 * 1024 * 1024
#: An .xlsx that unpacks to more is a bomb, not a day's reports.
XLSX_LIMIT = 512 * 1024 * 1024
SUFFIXES = (".csv", ".jsonl", ".ndjson", ".xlsx")


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a file by its number (1 is the first): its fields, or its bytes and the defect."""

    number: int
    fields: dict[str, Any] | None = None
    data: bytes = b""
    defect: str = ""


def read_entries(path: Path) -> Iterator[Entry]:
    """Every entry of a CSV, JSON-lines or XLSX file, in order.

    Raises :class:`QuanyuError` for a file that cannot be read at all.
    """
    if not path.is_file():
        raise QuanyuError(f"{path}: no such file")
    suffix = path.suffix.lower()
    if suffix == ".csv":
        return _csv(path)
    if suffix in (".jsonl", ".ndjson"):
        return _json_lines(path)
    if suffix == ".xlsx":
        return _xlsx(path)
    raise QuanyuError(f"{path}: {suffix or 'no suffix'} is not one of {', '.join(SUFFIXES)}")


def detect_encoding(path: Path) -> str:
    """UTF-8 (with or without mark) when the file is that, else GB 18030, which call centres still write.

    A file that is neither is read as UTF-8, and the rows at fault are marked.
    """
    decoders = {name: codecs.getincrementaldecoder(name)() for name in ("utf-8-sig", "gb18030")}
    with path.open("rb") as handle:
        while block := handle.read(1 << 20):
            for name, decoder in list(decoders.items()):
                try:
                    decoder.decode(block)
                except UnicodeDecodeError:
                    del decoders[name]
    for name, decoder in list(decoders.items()):
        try:
            decoder.decode(b"", True)
        except UnicodeDecodeError:
            del decoders[name]
    return next(iter(decoders), "utf-8-sig")


def _csv(path: Path) -> Iterator[Entry]:
    csv.field_size_limit(sys.maxsize)
    encoding = detect_encoding(path)
    with path.open(encoding=encoding, errors="surrogateescape", newline="") as handle:
        reader = csv.reader(handle)
        try:
            header = next(reader, None)
        except csv.Error as error:
            raise QuanyuError(f"{path}:1: not CSV: {error}") from None
        if not header or not any(header):
            raise QuanyuError(f"{path}:1: no header; the first line names the columns")
        number = 0
        while True:
            number += 1
            try:
                row = next(reader, None)
            except csv.Error as error:
                yield Entry(number, data=b"", defect=f"malformed:{error}")
                continue
            if row is None:
                return
            if not row:
                number -= 1
                continue
            yield _row(number, header, row)


def _row(number: int, header: list[str], row: list[str]) -> Entry:
    joined = ",".join(row).encode("utf-8", "surrogateescape")
    if len(row) != len(header):
        return Entry(
            number,
            data=joined[:CELL_LIMIT],
            defect=f"malformed:{len(row)} cells, {len(header)} columns",
        )
    try:
        joined.decode("utf-8")
    except UnicodeDecodeError:
        return Entry(number, data=joined[:CELL_LIMIT], defect="encoding:neither UTF-8 nor GB 18030")
    return _bounded(number, dict(zip(header, row, strict=True)), joined)


def _bounded(number: int, fields: dict[str, Any], data: bytes) -> Entry:
    if len(data) > CELL_LIMIT:
        return Entry(
            number,
            data=data[:CELL_LIMIT],
            defect=f"malformed:{len(data)} bytes, limit {CELL_LIMIT}",
        )
    return Entry(number, fields)


def _json_lines(path: Path) -> Iterator[Entry]:
    number = 0
    with path.open("rb") as handle:
        for line in handle:
            line = line.strip().removeprefix(codecs.BOM_UTF8)
            if not line:
                continue
            number += 1
            try:
                # ValueError also says that a number has more digits than Python reads.
                fields = json.loads(line.decode("utf-8"))
            except UnicodeDecodeError:
                yield Entry(number, data=line[:CELL_LIMIT], defect="encoding:not UTF-8")
                continue
            except (ValueError, RecursionError) as error:
                yield Entry(
                    number, data=line[:CELL_LIMIT], defect=f"malformed:{type(error).__name__}"
                )
                continue
            if not isinstance(fields, dict):
                yield Entry(number, data=line[:CELL_LIMIT], defect="malformed:not an object")
                continue
            yield _bounded(number, fields, line)


def _xlsx(path: Path) -> Iterator[Entry]:
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(item.file_size for item in archive.infolist())
        if unpacked > XLSX_LIMIT:
            raise QuanyuError(
                f"{path}: unpacks to {unpacked >> 20} MB, limit {XLSX_LIMIT >> 20} MB"
            )
        book = openpyxl.load_workbook(io.BytesIO(path.read_bytes()), read_only=True, data_only=True)
    except (
        zipfile.BadZipFile,
        InvalidFileException,
        KeyError,
        ValueError,
        EOFError,
        OSError,
    ) as error:
        raise QuanyuError(
            f"{path}: not a readable .xlsx ({error}); save it again from the spreadsheet"
        ) from None
    try:
        rows = book.worksheets[0].iter_rows(values_only=True)
        header = [str(cell) if cell is not None else "" for cell in next(rows, ())]
        if not any(header):
            raise QuanyuError(f"{path}: no header in the first row of the first sheet")
        number = 0
        for row in rows:
            if all(cell is None for cell in row):
                continue
            number += 1
            yield Entry(
                number, {name: cell for name, cell in zip(header, row, strict=False) if name}
            )
    finally:
        book.close()
