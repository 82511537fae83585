"""Tables and lines from files: every entry comes out, as fields or as bytes with what is wrong with it."""

import codecs
import contextlib
import csv
import json
import sys
import zipfile
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

import openpyxl

from connectors.mapping import Entry
from schemas.errors import QuanyuError

#: Cells above this are cut by no one: the raw topic takes 8 MB, intake refuses the text with a reason.
CELL_LIMIT = 7 * 1024 * 1024
#: An .xlsx that unpacks to more is a bomb, not a day's reports.
XLSX_LIMIT = 512 * 1024 * 1024
SUFFIXES = (".csv", ".jsonl", ".ndjson", ".xlsx")


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
    """UTF-8 (with or without mark) or GB 18030, which call centres still write: what most lines are.

    Lines with Chinese that are UTF-8 are hardly so by chance, while nearly any bytes are GB 18030; so one
    spoilt row changes nothing for the others, and is marked when it is read.
    """
    utf8 = other = 0
    with path.open("rb") as handle:
        for line in handle:
            if line.isascii():
                continue
            try:
                line.decode("utf-8")
                utf8 += 1
            except UnicodeDecodeError:
                with contextlib.suppress(UnicodeDecodeError):
                    line.decode("gb18030")
                    other += 1
    return "utf-8-sig" if utf8 >= other else "gb18030"


class _Lines:
    """A file's lines, remembering those of the row being read."""

    def __init__(self, handle: TextIO, encoding: str) -> None:
        self._handle, self._encoding = handle, encoding.removesuffix("-sig")
        self._row: list[str] = []
        self._again: deque[str] = deque()

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        line = self._again.popleft() if self._again else next(self._handle)
        self._row.append(line)
        return line

    def next_row(self) -> None:
        """What follows is another row."""
        self._row.clear()

    def keep_first(self) -> None:
        """The row was its first line only; the others come again."""
        self._again.extendleft(reversed(self._row[1:]))
        del self._row[1:]

    def row_bytes(self) -> bytes:
        """The row's bytes as they stand in the file, without the line's end, within the limit."""
        data = "".join(self._row).encode(self._encoding, "surrogateescape")
        return data.rstrip(b"\r\n")[:CELL_LIMIT]


def _csv(path: Path) -> Iterator[Entry]:
    csv.field_size_limit(sys.maxsize)
    encoding = detect_encoding(path)
    with path.open(encoding=encoding, errors="surrogateescape", newline="") as handle:
        lines = _Lines(handle, encoding)
        # Strict: a stray quote would quietly make one cell of all rows up to the next quote.
        reader = csv.reader(lines, strict=True)
        try:
            header = next(reader, None)
        except csv.Error as error:
            raise QuanyuError(f"{path}:1: not CSV: {error}") from None
        if not header or not any(header):
            raise QuanyuError(f"{path}:1: no header; the first line names the columns")
        if not _is_text("".join(header)):
            raise QuanyuError(
                f"{path}:1: the header is neither UTF-8 nor GB 18030; save the file as UTF-8"
            )
        names = _names(header)
        number = 0
        while True:
            lines.next_row()
            try:
                row = next(reader, None)
            except csv.Error as error:
                lines.keep_first()
                reader = csv.reader(lines, strict=True)
                number += 1
                yield Entry(number, data=lines.row_bytes(), defect=f"malformed:{error}")
                continue
            if row is None:
                return
            if row:
                number += 1
                yield _row(number, names, row, lines)


def _names(header: Sequence[object]) -> list[str]:
    """Column names, each once, so that no cell takes another's place."""
    names: list[str] = []
    for column, cell in enumerate(header, 1):
        name = str("" if cell is None else cell).strip(" \t\ufeff") or f"column {column}"
        names.append(f"{name} (column {column})" if name in names else name)
    return names


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _row(number: int, names: list[str], row: list[str], lines: _Lines) -> Entry:
    if len(row) != len(names):
        defect = f"malformed:{len(row)} cells, {len(names)} columns"
    elif not _is_text("".join(row)):
        defect = "encoding:neither UTF-8 nor GB 18030"
    else:
        size = sum(map(len, row))
        # A character takes at most four bytes: only a long row is measured.
        if 4 * size <= CELL_LIMIT or (size := len("".join(row).encode())) <= CELL_LIMIT:
            return Entry(number, dict(zip(names, row, strict=True)))
        defect = f"malformed:{size} bytes, limit {CELL_LIMIT}"
    return Entry(number, data=lines.row_bytes(), defect=defect)


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
            elif len(line) > CELL_LIMIT:
                defect = f"malformed:{len(line)} bytes, limit {CELL_LIMIT}"
                yield Entry(number, data=line[:CELL_LIMIT], defect=defect)
            else:
                yield Entry(number, fields)


def _xlsx(path: Path) -> Iterator[Entry]:
    number = 0
    try:
        for entry in _sheet(path):
            number = entry.number
            yield entry
    except QuanyuError:
        raise
    except Exception as error:
        # Broken archives and XML end in whatever zipfile, zlib, the XML parser or openpyxl stumble over.
        place = f" after entry {number}" if number else ""
        raise QuanyuError(
            f"{path}: not a readable .xlsx{place} ({error}); save it again from the spreadsheet"
        ) from None


def _sheet(path: Path) -> Iterator[Entry]:
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(item.file_size for item in archive.infolist())
    if unpacked > XLSX_LIMIT:
        raise QuanyuError(f"{path}: unpacks to {unpacked >> 20} MB, limit {XLSX_LIMIT >> 20} MB")
    book = openpyxl.load_workbook(path, read_only=True, data_only=True)
    try:
        rows = book.worksheets[0].iter_rows(values_only=True)
        header = next(rows, ())
        if all(cell is None for cell in header):
            raise QuanyuError(f"{path}: no header in the first row of the first sheet")
        names = _names(header)
        number = 0
        for row in rows:
            if all(cell is None for cell in row):
                continue
            number += 1
            # Cells beside the header are kept under their column; empty ones there are no cells.
            for column in range(len(names) + 1, len(row) + 1):
                names.append(f"column {column}")
            yield Entry(
                number,
                {
                    names[i]: cell
                    for i, cell in enumerate(row)
                    if cell is not None or (i < len(header) and header[i] is not None)
                },
            )
    finally:
        book.close()
