"""Open311 GeoReport v2 documents, XML or JSON: every entry comes out, readable or marked.

Service requests, a service list, one definition or a discovery document, as a server answers them or as a
file. Element names are the fields' names; an empty element is None; plural elements (``attributes`` of
``attribute``) are lists, so XML and JSON of one document read alike. An error answer, a document type, an
entity, bytes before the document and a truncated end are refused with file and line, before any entry.
"""

import codecs
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import ParseError

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import DefusedXMLParser

from connectors.mapping import Entry
from schemas.errors import QuanyuError

SUFFIXES = (".xml", ".json")
#: A server answers with 1,000 requests at most, about a megabyte; a file of a month has some more.
SIZE_LIMIT = 64 * 1024 * 1024
#: Requests nest three deep: an entry that is deeper is marked, …
DEPTH_LIMIT = 20
#: … and a document as deep as this is none.
DOCUMENT_DEPTH_LIMIT = 500
#: Of an entry that is none so many bytes are kept.
EXCERPT = 65_536
#: A list and what its entries are called; any other document is an entry itself.
LISTS = {"service_requests": "request", "requests": "request", "services": "service"}
SINGLES = frozenset({"request", "service", "service_definition", "discovery"})
ERRORS = frozenset({"errors", "error"})
#: A document has one of these, whichever it is.
TELLING = frozenset({"service_request_id", "token", "service_code", "endpoints"})
#: Encodings that expat does not read itself → the codec that reads them all.
MULTIBYTE = {
    "gb2312": "gb18030", "gbk": "gb18030", "gb18030": "gb18030", "big5": "big5hkscs",
    "shift_jis": "cp932", "euc_jp": "euc_jp", "euc_kr": "cp949",
}  # fmt: skip
_DECLARED = re.compile(
    rb"""\A(?:\xef\xbb\xbf)?<\?xml[^>]{1,100}?encoding\s*=\s*["']([\w.:-]{1,40})["']"""
)


def read_entries(path: Path) -> Iterator[Entry]:
    """Every entry of an ``.xml`` or ``.json`` file, in order.

    The whole document is read before the first entry comes out. Raises :class:`QuanyuError` as
    ``file:line: what is wrong`` for one that cannot be read.
    """
    try:
        with path.open("rb") as handle:
            data = handle.read(SIZE_LIMIT + 1)
    except OSError as error:
        raise QuanyuError(f"{path}: {error.strerror or error}") from None
    return iter(parse(data, str(path)))


def parse(data: bytes, where: str) -> list[Entry]:
    """The entries of one document; ``where`` names it in the :class:`QuanyuError` that refuses it."""
    if len(data) > SIZE_LIMIT:
        raise QuanyuError(f"{where}: larger than {SIZE_LIMIT >> 20} MB; split it by time")
    if not data.strip():
        raise QuanyuError(f"{where}:1: empty; an Open311 document is XML or JSON")
    start = data.removeprefix(codecs.BOM_UTF8).lstrip()[:1]
    return _json(data, where) if start in (b"[", b"{") else _xml(data, where)


def _refused(where: str, answer: Any) -> QuanyuError:
    """An error answer in place of a document, with the words of its server."""
    found = answer if isinstance(answer, list) else [answer]
    words = [
        ": ".join(str(item[key]) for key in ("code", "description") if item.get(key))
        if isinstance(item, dict)
        else str(item)
        for item in found
    ]
    text = " ".join("; ".join(words).split())[:300]
    return QuanyuError(f"{where}: an error answer, no requests: {text or 'without a reason'}")


class _Unreadable(Exception):
    """What is wrong with the document at the place where the parser stands."""


class _Frame:
    """An element that is being read."""

    __slots__ = ("children", "name", "text", "words")

    def __init__(self, name: str) -> None:
        self.name = name
        self.children: list[tuple[str, Any]] = []
        #: All text inside; whether some of it stands beside the children.
        self.text: list[str] = []
        self.words = False

    def value(self) -> Any:
        """None, a text, a list for a plural, or a mapping of the children."""
        if not self.children or self.words:
            # Mark-up in a text, as <br/> in a description, leaves the text.
            return "".join(self.text).strip() or None
        if {name for name, _ in self.children} == {self.name.removesuffix("s")}:
            return [value for _, value in self.children]
        return self.fields()

    def fields(self) -> dict[str, Any]:
        """The children by name; what stands several times, or could, is a list."""
        found: dict[str, list[Any]] = {}
        for name, value in self.children:
            found.setdefault(name, []).append(value)
        return {
            name: values if len(values) > 1 or name == "attribute" else values[0]
            for name, values in found.items()
        }


class _Builder:
    """Parser target: makes each entry as its element ends; no tree of the document is kept."""

    def __init__(self, document: bytes) -> None:
        self.entries: list[Entry] = []
        self.answer: Any = None
        #: The expat parser, which knows where in the document it is.
        self.expat: Any = None
        self.root = ""
        self._document = document
        self._depth = 0
        #: The depth of an entry's element.
        self._level = 1
        self._frames: list[_Frame] = []
        self._begin = 0
        self._deep = False

    def start(self, tag: str, _: dict[str, str]) -> None:
        """An element begins."""
        self._depth += 1
        if self._depth > DOCUMENT_DEPTH_LIMIT:
            raise _Unreadable(f"nested deeper than {DOCUMENT_DEPTH_LIMIT}")
        name = tag.rpartition("}")[2]
        if self._depth == 1:
            self.root = name
            self._level = 2 if name in LISTS else 1
            if name not in LISTS.keys() | SINGLES | ERRORS:
                raise _Unreadable(
                    f"<{name[:60]}> is no Open311 document; it begins with <service_requests> or <services>"
                )
        inside = self._depth - self._level
        if inside == 0:
            self._begin, self._deep = self.expat.CurrentByteIndex, False
        if 0 <= inside < DEPTH_LIMIT:
            self._frames.append(_Frame(name))
        elif inside >= DEPTH_LIMIT:
            self._deep = True

    def data(self, text: str) -> None:
        """Text of the innermost element."""
        if self._frames:
            self._frames[-1].text.append(text)
            self._frames[-1].words |= not text.isspace()

    def end(self, _: str) -> None:
        """An element ends."""
        inside = self._depth - self._level
        self._depth -= 1
        if not 0 <= inside < DEPTH_LIMIT:
            return
        frame = self._frames.pop()
        if inside == 0:
            self._finish(frame)
        else:
            self._frames[-1].children.append((frame.name, frame.value()))
            self._frames[-1].text += frame.text

    def close(self) -> None:
        """The document ends."""

    def _finish(self, frame: _Frame) -> None:
        expected = LISTS.get(self.root, frame.name)
        defect = ""
        if frame.name in ERRORS:
            self.answer = frame.value()
        if frame.name != expected:
            defect = f"malformed:<{frame.name[:60]}> where a <{expected}> belongs"
        elif self._deep:
            defect = f"malformed:nested deeper than {DEPTH_LIMIT}"
        elif not frame.children:
            defect = f"malformed:<{frame.name}> without a field"
        number = len(self.entries) + 1
        if not defect:
            self.entries.append(Entry(number, frame.fields()))
            return
        end = self.expat.CurrentByteIndex
        if self._document.startswith(b"</", end):  # of <request/> it is the end already
            end = self._document.find(b">", end) + 1
        data = self._document[self._begin : end][:EXCERPT]
        self.entries.append(Entry(number, data=data, defect=defect))


def _xml(data: bytes, where: str) -> list[Entry]:
    declared = _DECLARED.match(data)
    encoding = None
    if declared:
        name = declared[1].decode("ascii", "replace")
        try:
            codec = MULTIBYTE.get(codecs.lookup(name).name)
            if codec:
                data, encoding = data.decode(codec).encode(), "utf-8"
        except LookupError:
            raise QuanyuError(
                f"{where}:1: encoding {name!r} is unknown; save it as UTF-8"
            ) from None
        except UnicodeDecodeError as error:
            line = data.count(b"\n", 0, error.start) + 1
            raise QuanyuError(
                f"{where}:{line}: not {name} at byte {error.start}, as it says; save it as UTF-8"
            ) from None
    builder = _Builder(data)
    parser = DefusedXMLParser(target=builder, encoding=encoding, forbid_dtd=True)
    builder.expat = parser.parser
    try:
        parser.feed(data)
        parser.close()
    except DefusedXmlException:
        # A request needs neither, and with them a small file unpacks to gigabytes or reads other files.
        reason = "a document type or an entity is not allowed in an Open311 document; remove it"
        raise QuanyuError(f"{where}:{builder.expat.CurrentLineNumber}: {reason}") from None
    except _Unreadable as error:
        raise QuanyuError(f"{where}:{builder.expat.CurrentLineNumber}: {error}") from None
    except ParseError as error:
        line, column = error.position
        what = str(error).partition(":")[0]
        before = data[:60].decode("ascii", "replace").splitlines()[0]
        hint = "" if before.lstrip("\ufffd").startswith("<") else f"; it begins with {before!r}"
        raise QuanyuError(f"{where}:{line}: not XML: {what}, column {column + 1}{hint}") from None
    except (LookupError, ValueError) as error:
        raise QuanyuError(f"{where}:1: not XML: {error}; save it as UTF-8") from None
    if builder.root in ERRORS:
        raise _refused(where, builder.answer)
    return builder.entries


def _json(data: bytes, where: str) -> list[Entry]:
    try:
        document = json.loads(data.decode("utf-8-sig"), parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise QuanyuError(f"{where}:{line}: not UTF-8 at byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise QuanyuError(
            f"{where}:{error.lineno}: not JSON: {error.msg}, column {error.colno}"
        ) from None
    except RecursionError:
        raise QuanyuError(f"{where}: not JSON: nested deeper than Python reads") from None
    except ValueError as error:
        raise QuanyuError(f"{where}: not JSON: {error}") from None
    return [_json_entry(number, item) for number, item in enumerate(_items(document, where), 1)]


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def _items(document: Any, where: str) -> list[Any]:
    """The entries of a JSON document: an array, an array under its name, or one object."""
    if isinstance(document, dict):
        for name, single in LISTS.items():
            if name in document:
                inner = document[name]
                # Some write every XML element as a key: {"service_requests": {"request": […]}}.
                if isinstance(inner, dict) and single in inner:
                    inner = inner[single]
                return inner if isinstance(inner, list) else [] if inner is None else [inner]
        for name in ERRORS & document.keys():
            raise _refused(where, document[name])
        if TELLING & document.keys():
            return [document]
        if {"code", "description"} <= document.keys():
            raise _refused(where, document)
        raise QuanyuError(
            f"{where}:1: no Open311 document: an object without service_request_id or service_code"
        )
    if document and all(
        isinstance(item, dict) and "code" in item and not TELLING & item.keys() for item in document
    ):
        raise _refused(where, document)
    found: list[Any] = document
    return found


def _json_entry(number: int, item: Any) -> Entry:
    if not isinstance(item, dict):
        defect = "malformed:not an object"
    elif not item:
        defect = "malformed:an object without a field"
    elif _deeper(item, DEPTH_LIMIT):
        defect = f"malformed:nested deeper than {DEPTH_LIMIT}"
    else:
        return Entry(number, {key: None if value == "" else value for key, value in item.items()})
    data = json.dumps(item, ensure_ascii=False).encode("utf-8", "surrogatepass")
    return Entry(number, data=data[:EXCERPT], defect=defect)


def _deeper(value: Any, limit: int) -> bool:
    """Whether a document is nested deeper, found without recursion."""
    level = [value]
    for _ in range(limit + 1):
        level = [
            child
            for item in level
            if isinstance(item, dict | list)
            for child in (item.values() if isinstance(item, dict) else item)
        ]
        if not level:
            return False
    return True
