"""Who may act: people and systems by their keys, each with a code, a role and, where it has one, a unit.

One JSON file (``QUANYU_PEOPLE_FILE``, else ``<home>/people.json``), readable by its owner only; of each key it
holds the SHA-256 alone, so that who reads the file cannot act. Read again when it changes: people come and go
without a restart.
"""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from schemas.documents import read_json
from schemas.errors import QuanyuError
from schemas.keys import Key, Used, Watched, find, new_key, of_digest, write_private

Role = Literal["unit", "grid_worker", "centre", "supervisor"]


class Person(BaseModel):
    """One who acts; ``code`` is written with every action, a name is nowhere."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    code: str = Field(pattern=r"^[A-Za-z0-9_.:-]{1,60}$")
    role: Role
    unit_code: str = Field(default="", max_length=60, description="Of a unit or a grid worker.")
    key_sha256: str = Field(
        default="", pattern=r"^([0-9a-f]{64})?$", description="A key of before keys had an end."
    )
    keys: list[Key] = Field(default=[], max_length=100)

    @property
    def all_keys(self) -> list[Key]:
        """Every key, those that end among them."""
        return [*([of_digest(self.key_sha256)] if self.key_sha256 else []), *self.keys]


_PEOPLE = TypeAdapter(list[Person])


class People:
    """The file's people as it says at this moment; a file that cannot be read knows nobody."""

    def __init__(self, path: Path) -> None:
        self._file = Watched(path, read_people)
        self._used = Used(path)

    def find(self, key: str) -> Person | None:
        """Whose key it is and holds now; compared in constant time."""
        people = self._file.now([])
        found = find([k for person in people for k in person.all_keys], key)
        if found is None:
            return None
        self._used.note(found.id)
        return next(person for person in people if found in person.all_keys)


def read_people(path: Path) -> list[Person]:
    """Everybody of the file, nobody when there is none; a :class:`QuanyuError` names the field at fault."""
    return read_json(path, _PEOPLE, "see quanyu people --help") or []


def add_person(path: Path, code: str, role: Role, unit_code: str = "") -> str:
    """Let somebody act; returns the key, which is kept nowhere. A code that is known gets a new key."""
    if role in ("unit", "grid_worker") and not unit_code:
        raise QuanyuError(f"a {role} belongs to a unit; name it with --unit, e.g. --unit 990105-CG")
    key, text = new_key()
    try:
        person = Person(code=code, role=role, unit_code=unit_code, keys=[key])
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        raise QuanyuError(f"{first['loc'][0]}: {first['msg']}") from None
    _write(path, [*(p for p in read_people(path) if p.code != code), person])
    return text


def remove_person(path: Path, code: str) -> None:
    """Let somebody act no more; a :class:`QuanyuError` when nobody has that code."""
    people = read_people(path)
    left = [p for p in people if p.code != code]
    if len(left) == len(people):
        raise QuanyuError(f"{path}: nobody has the code {code!r}")
    _write(path, left)


def write_person_keys(path: Path, code: str, keys: list[Key]) -> None:
    """Replace somebody's keys; a :class:`QuanyuError` when nobody has that code."""
    people = read_people(path)
    if code not in {p.code for p in people}:
        raise QuanyuError(f"{path}: nobody has the code {code!r}; see quanyu people add --help")
    changed = {"keys": keys, "key_sha256": ""}
    _write(path, [p.model_copy(update=changed) if p.code == code else p for p in people])


def _write(path: Path, people: list[Person]) -> None:
    write_private(path, [p.model_dump(exclude_defaults=True) for p in people])
