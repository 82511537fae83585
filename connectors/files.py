"""Tables and lines from files: every entry comes out, as fields or as bytes with what is wrong with it."""

import codecs
import contextlib
import csv
import json
import sys
import zipfile
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

import openpyxl
import shapely.geometry

from connectors.mapping import Entry
from schemas.errors import QuanyuError

#: Cells above this are cut by no one: the raw topic takes 8 MB, intake refuses the text with a reason.
CELL_LIMIT = 7 * 1024 * 1024
#: JSON nested deeper is marked: what writes it again further down would run out of stack.
DEPTH_LIMIT = 100
#: An .xlsx that unpacks to more is a bomb, not a day's reports.
XLSX_LIMIT = 512 * 1024 * 1024
#: So is one that grows by more when it is unpacked; sheets of equal rows grow some 100 times. Small ones may.
XLSX_RATIO, XLSX_SMALL = 250, 16 * 1024 * 1024
XLSX_MEMBERS = 10_000
#: A table of more columns is a mistake, and rows that reach to the last column take hours.
COLUMN_LIMIT = 2_000
#: One JSON document is held in memory; more features than that belong one to a line.
DOCUMENT_LIMIT = 256 * 1024 * 1024
SUFFIXES = (".csv", ".jsonl", ".ndjson", ".xlsx", ".geojson", ".xml", ".json")
#: Before each text of a GeoJSON sequence (RFC 8142).
RECORD_MARK = b"\x1e"
#: Endings of the names of systems in which GeoJSON's points may stand, besides none at all (RFC 7946).
DEGREES = ("CRS84", ":4326", ":4490")


def read_entries(path: Path) -> Iterator[Entry]:
    """Every entry of a file, in order: CSV, JSON lines, XLSX, GeoJSON, Open311's XML and JSON.

    Raises :class:`QuanyuError` for a file that cannot be read at all, or not to its end.
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
    if suffix == ".geojson":
        return _geojson(path)
    if suffix in (".xml", ".json"):
        from connectors.open311 import documents

        return documents.read_entries(path)
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


def json_document(data: bytes) -> Any:
    """The value of JSON bytes.

    ValueError (a UnicodeDecodeError is one) or RecursionError for bytes that are none, for a number of
    more digits than Python reads, and for what is nested so deep that it can hardly be written again.
    """
    value = json.loads(data.decode("utf-8"))
    if data.count(b"[") + data.count(b"{") > DEPTH_LIMIT:
        level = [value]
        for _ in range(DEPTH_LIMIT):
            level = [
                child
                for item in level
                if isinstance(item, dict | list)
                for child in (item.values() if isinstance(item, dict) else item)
            ]
        if level:
            raise RecursionError(f"nested deeper than {DEPTH_LIMIT}")
    return value


def json_entry(number: int, data: bytes) -> Entry:
    """The entry of a JSON object's bytes; marked when they are none."""
    try:
        fields = json_document(data)
    except UnicodeDecodeError:
        return Entry(number, data=data[:CELL_LIMIT], defect="encoding:not UTF-8")
    except (ValueError, RecursionError) as error:
        return Entry(number, data=data[:CELL_LIMIT], defect=f"malformed:{type(error).__name__}")
    if not isinstance(fields, dict):
        return Entry(number, data=data[:CELL_LIMIT], defect="malformed:not an object")
    if len(data) > CELL_LIMIT:
        defect = f"malformed:{len(data)} bytes, limit {CELL_LIMIT}"
        return Entry(number, data=data[:CELL_LIMIT], defect=defect)
    return Entry(number, fields)


def _json_lines(path: Path, mark: bytes = b"") -> Iterator[Entry]:
    """Each line's object; ``mark`` is what a line may begin with."""
    number = 0
    with path.open("rb") as handle:
        for line in handle:
            line = line.strip().removeprefix(codecs.BOM_UTF8).removeprefix(mark)
            if line:
                number += 1
                yield json_entry(number, line)


def _geojson(path: Path) -> Iterator[Entry]:
    """Features of a collection, of a file that is one feature, or of one feature a line."""
    if _feature_lines(path):
        for entry in _json_lines(path, RECORD_MARK):
            yield _feature(entry, True)
        return
    if path.stat().st_size > DOCUMENT_LIMIT:
        raise QuanyuError(
            f"{path}: {path.stat().st_size >> 20} MB in one document, limit {DOCUMENT_LIMIT >> 20} MB; "
            "write one feature a line"
        )
    try:
        document = json.loads(path.read_bytes().decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise QuanyuError(f"{path}: not UTF-8 at byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise QuanyuError(
            f"{path}:{error.lineno}: not JSON: {error.msg} (column {error.colno}); is it whole?"
        ) from None
    except (ValueError, RecursionError) as error:
        raise QuanyuError(f"{path}: not readable as JSON ({type(error).__name__})") from None
    kind = document.get("type") if isinstance(document, dict) else None
    features = [document] if kind == "Feature" else None
    if kind == "FeatureCollection" and isinstance(document.get("features"), list):
        features = document["features"]
    if features is None:
        raise QuanyuError(
            f"{path}: no GeoJSON; write a FeatureCollection, or one Feature a line (RFC 7946)"
        )
    degrees = _in_degrees(document)
    for number, feature in enumerate(features, 1):
        if isinstance(feature, dict):
            yield _feature(Entry(number, feature), degrees)
        else:
            data = json.dumps(feature, ensure_ascii=False).encode("utf-8", "surrogatepass")
            yield Entry(number, data=data[:CELL_LIMIT], defect="malformed:not a feature")


def _feature_lines(path: Path) -> bool:
    """Whether each line is a feature: the first is a whole one, and not the last."""
    with path.open("rb") as handle:
        lines = filter(None, (line.strip() for line in handle))
        first = next(lines, b"").removeprefix(codecs.BOM_UTF8).removeprefix(RECORD_MARK)
        fields = json_entry(1, first).fields
        return fields is not None and fields.get("type") == "Feature" and bool(next(lines, b""))


def _in_degrees(document: Mapping[str, Any]) -> bool:
    """Whether the points are degrees as RFC 7946 wants them; the ``crs`` of 2008 may say otherwise."""
    try:
        return str(document["crs"]["properties"]["name"]).endswith(DEGREES)
    except (KeyError, TypeError):
        return not document.get("crs")


def _feature(entry: Entry, degrees: bool) -> Entry:
    """The feature's own members and, where its geometry has one, its ``centroid`` (longitude, latitude).

    A broken geometry is no reason to lose what is said about it: then there is no centroid, only that.
    """
    if entry.fields is None:
        return entry
    feature = entry.fields
    properties = feature.get("properties")
    fields: dict[str, Any] = {
        **feature,
        "id": feature.get("id"),
        "properties": properties if isinstance(properties, dict) else {},
        "geometry": feature.get("geometry"),
    }
    if "centroid" in feature:
        fields["centroid (as given)"] = fields.pop("centroid")
    if degrees:
        try:
            shape = shapely.geometry.shape(fields["geometry"])
            if shape.is_valid and not shape.is_empty:
                fields["centroid"] = [round(shape.centroid.x, 8), round(shape.centroid.y, 8)]
        except Exception:  # noqa: S110 - whatever stands there, it is no geometry
            pass
    return Entry(entry.number, fields)


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
        # openpyxl's own words say less than what it met.
        why = " ".join(str(error.__cause__ or error).split())[:200]
        raise QuanyuError(
            f"{path}: not a readable .xlsx{place} ({why}); save it again from the spreadsheet"
        ) from None


def _sheet(path: Path) -> Iterator[Entry]:
    _refuse_bombs(path)
    book = openpyxl.load_workbook(path, read_only=True, data_only=True)
    try:
        sheet = book.worksheets[0]
        # Some programs write a wrong extent; openpyxl would believe it and drop what lies outside.
        sheet.reset_dimensions()
        rows = sheet.iter_rows(values_only=True)
        header = next(rows, ())
        if all(cell is None for cell in header):
            raise QuanyuError(f"{path}: no header in the first row of the first sheet")
        names = _names(_filled(path, header))
        wide = len(names)
        number = 0
        for row in rows:
            if all(cell is None for cell in row):
                continue
            number += 1
            if len(row) > wide:
                row = _filled(path, row)
            # Cells beside the header are kept under their column; empty ones there are no cells.
            for column in range(len(names) + 1, len(row) + 1):
                names.append(f"column {column}")
            cells = (*row, *[None] * (wide - len(row)))
            yield Entry(
                number,
                {
                    names[i]: cell
                    for i, cell in enumerate(cells)
                    if cell is not None or (i < wide and header[i] is not None)
                },
            )
    finally:
        book.close()


def _filled(path: Path, row: tuple[Any, ...]) -> tuple[Any, ...]:
    """The row without the empty cells at its end, which are only formatted."""
    length = len(row)
    while length and row[length - 1] is None:
        length -= 1
    if length > COLUMN_LIMIT:
        raise QuanyuError(f"{path}: a row of {length} columns, limit {COLUMN_LIMIT}")
    return row[:length]


def _refuse_bombs(path: Path) -> None:
    """Look into the archive before anything in it is unpacked."""
    with path.open("rb") as handle:
        if handle.read(4) == b"\xd0\xcf\x11\xe0":
            raise QuanyuError(
                f"{path}: has a password or is an old .xls; save it as .xlsx without password"
            )
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    unpacked = sum(member.file_size for member in members)
    packed = max(1, path.stat().st_size)
    if unpacked > XLSX_LIMIT:
        raise QuanyuError(f"{path}: unpacks to {unpacked >> 20} MB, limit {XLSX_LIMIT >> 20} MB")
    if unpacked > max(XLSX_SMALL, XLSX_RATIO * packed):
        raise QuanyuError(
            f"{path}: unpacks to {unpacked // packed} times its size, limit {XLSX_RATIO}; "
            "if it is a table, save it as .csv"
        )
    if len(members) > XLSX_MEMBERS:
        raise QuanyuError(f"{path}: an archive of {len(members)} files is no spreadsheet")
    if any(member.filename.lower().endswith("vbaproject.bin") for member in members):
        raise QuanyuError(f"{path}: holds macros; save it as .xlsx without them")
