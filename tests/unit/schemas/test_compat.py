"""A schema may change only so that every older byte and every older reader still works."""

import json
from pathlib import Path
from typing import Any

import pytest

from schemas.compat import check, write_golden
from schemas.errors import QuanyuError
from schemas.registry import LOCK_NAME, load_lock, load_schemas, write_lock

ID: dict[str, Any] = {"name": "id", "type": "string"}
COUNT: dict[str, Any] = {"name": "count", "type": "int", "default": 0}
STATE: dict[str, Any] = {
    "name": "state",
    "type": {"type": "enum", "name": "State", "symbols": ["unknown", "open"], "default": "unknown"},
}


def write(folder: Path, version: int, *fields: dict[str, Any], name: str = "Thing") -> None:
    schema = {"type": "record", "name": name, "fields": fields}
    (folder / f"Thing.v{version}.avsc").write_text(json.dumps(schema))


def seal(folder: Path) -> None:
    write_lock(folder)
    write_golden({version: number for version, (number, _) in load_lock(folder).items()}, folder)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A sealed tree with the first version of one record."""
    write(tmp_path, 1, ID, COUNT, STATE)
    seal(tmp_path)
    return tmp_path


def test_the_repositorys_own_schemas_keep_the_promise() -> None:
    assert check() == []


def test_what_was_sealed_is_in_order(tree: Path) -> None:
    assert check(tree) == []


def test_a_field_with_a_default_may_come(tree: Path) -> None:
    write(tree, 2, ID, COUNT, STATE, {"name": "note", "type": ["null", "string"], "default": None})
    seal(tree)
    assert check(tree) == []


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ((ID, COUNT, STATE, {"name": "note", "type": "string"}), "note"),
        ((COUNT, STATE), "id"),
        (({"name": "id", "type": "int"}, COUNT, STATE), "type changed: id"),
        ((ID, {"name": "count", "type": "long", "default": 0}, STATE), "type changed: count"),
    ],
    ids=["new field without default", "field lost", "type changed", "wider only one way"],
)
def test_a_change_that_older_bytes_or_readers_do_not_survive_names_file_and_field(
    tree: Path, fields: tuple[dict[str, Any], ...], words: str
) -> None:
    write(tree, 2, *fields)
    seal(tree)
    found = "\n".join(check(tree))
    assert "Thing.v2.avsc" in found
    assert words in found


def test_a_renamed_field_is_refused_although_the_new_reader_knows_its_old_name(tree: Path) -> None:
    write(tree, 2, {"name": "key", "type": "string", "aliases": ["id"]}, COUNT, STATE)
    seal(tree)
    assert any("Thing.v1.avsc cannot read Thing.v2.avsc" in problem for problem in check(tree))


def test_a_symbol_may_come_to_an_enum_with_a_default_and_to_no_other(tree: Path) -> None:
    enum = STATE["type"]
    more = {**enum, "symbols": [*enum["symbols"], "closed"]}
    write(tree, 2, ID, COUNT, {"name": "state", "type": more})
    seal(tree)
    assert check(tree) == []
    write(
        tree,
        3,
        ID,
        COUNT,
        {"name": "state", "type": {"type": "enum", "name": "State", "symbols": ["unknown"]}},
    )
    seal(tree)
    assert any("Thing.v3.avsc cannot read" in problem for problem in check(tree))


def test_every_older_version_is_compared_not_only_the_last(tree: Path) -> None:
    write(tree, 2, ID, STATE)
    write(tree, 3, ID, STATE, {"name": "count", "type": "string", "default": ""})
    seal(tree)
    assert any("Thing.v1" in problem and "Thing.v3" in problem for problem in check(tree))


def test_a_version_changed_in_place_is_found(tree: Path) -> None:
    write(tree, 1, ID, STATE)
    found = "\n".join(check(tree))
    assert "changed in place" in found
    assert "Thing.v2.avsc" in found


def test_a_default_changed_in_place_is_found(tree: Path) -> None:
    write(tree, 1, ID, {**COUNT, "default": 1}, STATE)
    assert "changed in place" in "\n".join(check(tree))


def test_words_about_a_field_may_change_in_place(tree: Path) -> None:
    write(tree, 1, {**ID, "doc": "whose it is"}, COUNT, STATE)
    assert check(tree) == []


def test_a_version_that_vanished_is_found(tree: Path) -> None:
    write(tree, 2, ID, COUNT, STATE)
    seal(tree)
    (tree / "Thing.v1.avsc").unlink()
    assert any("locked but missing" in problem for problem in check(tree))


def test_a_gap_in_the_versions_is_found(tree: Path) -> None:
    write(tree, 3, ID, COUNT, STATE)
    seal(tree)
    assert any("gap" in problem for problem in check(tree))


def test_a_new_version_without_an_id_or_golden_bytes_is_found(tree: Path) -> None:
    write(tree, 2, ID, COUNT, STATE)
    found = "\n".join(check(tree))
    assert "Thing.v2.avsc: has no id" in found
    assert "Thing.v2.bin: no golden bytes" in found


def test_golden_bytes_that_no_longer_fit_are_found(tree: Path) -> None:
    path = tree / "golden" / "Thing.v1.bin"
    path.write_bytes(path.read_bytes()[:-1])
    assert any("cannot read it" in problem for problem in check(tree))
    path.write_bytes(path.read_bytes() + b"\x00\x00\x00")
    assert any("left over" in problem for problem in check(tree))


def test_golden_bytes_under_another_id_are_found(tree: Path) -> None:
    path = tree / "golden" / "Thing.v1.bin"
    path.write_bytes(b"\x00\x00\x00\x00\x09" + path.read_bytes()[5:])
    assert any("does not start with schema id 1" in problem for problem in check(tree))


def test_bytes_of_the_newest_version_are_read_by_every_older_one(tree: Path) -> None:
    write(tree, 2, COUNT, STATE)
    seal(tree)
    assert any("Thing.v2.bin: version 1 cannot read it" in problem for problem in check(tree))


def test_sealing_again_never_alters_an_id_or_bytes_that_exist(tree: Path) -> None:
    before = (tree / LOCK_NAME).read_bytes(), (tree / "golden/Thing.v1.bin").read_bytes()
    write(tree, 1, ID)
    seal(tree)
    assert ((tree / LOCK_NAME).read_bytes(), (tree / "golden/Thing.v1.bin").read_bytes()) == before


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("thing.avsc", "{}", r"thing\.avsc: name it"),
        ("Thing.v2.avsc", "{", r"Thing\.v2\.avsc:1: not JSON"),
        ("Thing.v2.avsc", '{"type": "record", "name": "Other"}', r"Thing\.v2\.avsc: field name"),
        ("Thing.v2.avsc", '{"type": "record", "name": "Thing"}', r"Thing\.v2\.avsc: field fields"),
        (
            "Thing.v2.avsc",
            '{"type": "record", "name": "Thing", "fields": [{"name": "id", "type": "strng"}]}',
            r"Thing\.v2\.avsc: not an Avro schema .*strng",
        ),
    ],
)
def test_a_file_that_is_no_schema_is_refused_by_name(
    tree: Path, name: str, content: str, message: str
) -> None:
    (tree / name).write_text(content)
    with pytest.raises(QuanyuError, match=message):
        load_schemas(tree)


@pytest.mark.parametrize("content", [None, "{", "[]", '{"schemas": [{}]}'])
def test_a_lock_that_is_none_is_refused_with_a_remedy(tree: Path, content: str | None) -> None:
    (tree / LOCK_NAME).unlink()
    if content is not None:
        (tree / LOCK_NAME).write_text(content)
    with pytest.raises(QuanyuError, match=r"schemas lock|restore it from git"):
        load_lock(tree)
