"""Documents that a person or another program writes: read, and refused with file, line, field and remedy."""

import csv
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, TypeAdapter, ValidationError

from schemas.errors import QuanyuError

M = TypeVar("M", bound=BaseModel)
T = TypeVar("T")

#: A letter may be long; more than this in a cell is a mistake of the file.
CELL_LIMIT = 2_000_000


def read_document(path: Path, model: type[M], **fixed: Any) -> M:
    """Read ``path`` into ``model``; ``fixed`` are fields that do not come from the file.

    Raises :class:`QuanyuError` as ``file:line: field: what is wrong``.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise QuanyuError(f"{path} is missing") from None
    except UnicodeDecodeError as error:
        raise QuanyuError(f"{path}: not UTF-8 at byte {error.start}") from None
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        line = getattr(getattr(error, "problem_mark", None), "line", 0) + 1
        raise QuanyuError(f"{path}:{line}: not YAML: {getattr(error, 'problem', error)}") from None
    except (ValueError, RecursionError) as error:
        # 2026-02-30, or a number of thousands of digits: YAML takes it for what it is not.
        raise QuanyuError(f"{path}: {error}; put a value that is a text in quotes") from None
    if not isinstance(document, dict):
        raise QuanyuError(f"{path}:1: must be a mapping of fields")
    twice = sorted(document.keys() & fixed.keys())
    if twice:
        raise QuanyuError(
            f"{path}:{yaml_line(root, (twice[0],))}: {twice[0]}: is not set here; remove it"
        )
    try:
        return model(**fixed, **{str(key): value for key, value in document.items()})
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise QuanyuError(
            f"{path}:{yaml_line(root, first['loc'])}: {place or 'document'}: {first['msg']}"
        ) from None


def read_json(path: Path, shape: TypeAdapter[T], remedy: str) -> T | None:
    """Read a JSON file of people; None when there is no file. It may hold secrets: no value of it is repeated.

    Raises :class:`QuanyuError` as ``file: field: what is wrong; remedy``.
    """
    try:
        return shape.validate_json(path.read_bytes(), strict=True)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise QuanyuError(f"{path}: {error.strerror}") from None
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "document"
        raise QuanyuError(f"{path}: {where}: {first['msg']}; {remedy}") from None


def yaml_line(node: Any, loc: Sequence[int | str]) -> int:
    """Line of the deepest YAML node on the path ``loc``."""
    line: int = node.start_mark.line + 1 if node is not None else 1
    for part in loc:
        if not isinstance(node, yaml.MappingNode):
            break
        found = [(key, value) for key, value in node.value if key.value == str(part)]
        if not found:
            break
        line, node = found[0][0].start_mark.line + 1, found[0][1]
    return line


def read_rows(path: Path, columns: Collection[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Line number and stripped cells of a CSV file's ``columns``; other columns are ignored.

    A cell that is not there is empty. :class:`QuanyuError` names the file, and the line where there is one.
    """
    csv.field_size_limit(CELL_LIMIT)
    try:
        with path.open(encoding="utf-8-sig", newline="") as handle:
            reader = csv.DictReader(handle)
            missing = [name for name in columns if name not in (reader.fieldnames or [])]
            if missing:
                raise QuanyuError(f"{path}:1: column {missing[0]} is missing; see --help")
            for row in reader:
                yield (
                    reader.line_num,
                    {k: (v or "").strip() for k, v in row.items() if k in columns},
                )
    except FileNotFoundError:
        raise QuanyuError(f"{path} is missing") from None
    except IsADirectoryError:
        raise QuanyuError(f"{path} is a folder; name a CSV file") from None
    except UnicodeDecodeError as error:
        raise QuanyuError(f"{path}: not UTF-8 at byte {error.start}") from None
    except csv.Error as error:
        raise QuanyuError(f"{path}:{reader.line_num}: not CSV: {error}") from None
