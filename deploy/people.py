"""Who may act: people and systems by their keys, each with a code, a role and, where it has one, a unit.

One JSON file (``QUANYU_PEOPLE_FILE``, else ``<home>/people.json``), readable by its owner only; of each key it
holds the SHA-256 alone, so that who reads the file cannot act. Read again when it changes: people come and go
without a restart.
"""

import hashlib
import hmac
import json
import secrets
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from schemas.errors import QuanyuError

Role = Literal["unit", "grid_worker", "centre", "supervisor"]


class Person(BaseModel):
    """One who acts; ``code`` is written with every action, a name is nowhere."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    code: str = Field(pattern=r"^[A-Za-z0-9_.:-]{1,60}$")
    role: Role
    unit_code: str = Field(default="", max_length=60, description="Of a unit or a grid worker.")
    key_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


_PEOPLE = TypeAdapter(list[Person])


class People:
    """The file's people, read again when it changes; a file that cannot be read knows nobody."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read_at: tuple[int, int] | None = None
        self._people: list[Person] = []

    def find(self, key: str) -> Person | None:
        """Whose key it is; compared in constant time."""
        self._refresh()
        digest = hashlib.sha256(key.encode()).hexdigest()
        found = [p for p in self._people if hmac.compare_digest(p.key_sha256, digest)]
        return found[0] if found else None

    def _refresh(self) -> None:
        try:
            stat = self._path.stat()
            stamp = (stat.st_mtime_ns, stat.st_size)
            if stamp != self._read_at:
                self._people, self._read_at = read_people(self._path), stamp
        except (OSError, QuanyuError):
            self._people, self._read_at = [], None


def read_people(path: Path) -> list[Person]:
    """Everybody of the file, nobody when there is none; a :class:`QuanyuError` names the field at fault."""
    try:
        return _PEOPLE.validate_json(path.read_bytes(), strict=True)
    except FileNotFoundError:
        return []
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "document"
        raise QuanyuError(f"{path}: {where}: {first['msg']}; see quanyu people --help") from None


def add_person(path: Path, code: str, role: Role, unit_code: str = "") -> str:
    """Let somebody act; returns the key, which is kept nowhere. A code that is known gets a new key."""
    if role in ("unit", "grid_worker") and not unit_code:
        raise QuanyuError(f"a {role} belongs to a unit; name it with --unit, e.g. --unit 990105-CG")
    key = secrets.token_urlsafe(24)
    try:
        person = Person(
            code=code,
            role=role,
            unit_code=unit_code,
            key_sha256=hashlib.sha256(key.encode()).hexdigest(),
        )
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        raise QuanyuError(f"{first['loc'][0]}: {first['msg']}") from None
    _write(path, [*(p for p in read_people(path) if p.code != code), person])
    return key


def remove_person(path: Path, code: str) -> None:
    """Let somebody act no more; a :class:`QuanyuError` when nobody has that code."""
    people = read_people(path)
    left = [p for p in people if p.code != code]
    if len(left) == len(people):
        raise QuanyuError(f"{path}: nobody has the code {code!r}")
    _write(path, left)


def _write(path: Path, people: list[Person]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.new")
    draft.touch(0o600)
    draft.write_text(
        json.dumps([p.model_dump() for p in people], indent=1) + "\n", encoding="utf-8"
    )
    draft.replace(path)
