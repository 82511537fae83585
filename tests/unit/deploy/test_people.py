"""Who may act: by a key that is kept nowhere, until it is taken away; a broken file lets nobody in."""

import json
import stat
from pathlib import Path

import pytest

from deploy.people import People, add_person, read_people, remove_person
from schemas.errors import QuanyuError


def test_a_key_opens_until_it_is_replaced_or_removed_without_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "people.json"
    people = People(path)
    assert people.find("anything") is None
    key = add_person(path, "desk-1", "centre")
    found = people.find(key)
    assert found is not None
    assert (found.code, found.role) == ("desk-1", "centre")
    assert people.find(key + "x") is None
    assert people.find("") is None
    newer = add_person(path, "desk-1", "supervisor")
    assert people.find(key) is None
    assert people.find(newer) is not None
    add_person(path, "u-1", "unit", "410105-CG")
    remove_person(path, "desk-1")
    assert people.find(newer) is None
    assert [p.code for p in read_people(path)] == ["u-1"]


def test_the_file_holds_no_key_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "people.json"
    key = add_person(path, "desk-1", "centre")
    assert key not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("{}", "document: Input should be a valid array"),
        ("[{]", "document: Invalid JSON"),
        (
            [{"code": "a b", "role": "centre", "key_sha256": "0" * 64}],
            "0.code: String should match",
        ),
        ([{"code": "a", "role": "king", "key_sha256": "0" * 64}], "0.role: Input should be"),
        (
            [{"code": "a", "role": "unit", "key_sha256": "plain"}],
            "0.key_sha256: String should match",
        ),
    ],
)
def test_a_broken_file_names_the_field_and_lets_nobody_in(
    tmp_path: Path, document: object, message: str
) -> None:
    path = tmp_path / "people.json"
    key = add_person(path, "desk-1", "centre")
    people = People(path)
    assert people.find(key) is not None
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    with pytest.raises(QuanyuError, match=f"people.json: {message}"):
        read_people(path)
    assert people.find(key) is None


def test_who_belongs_to_a_unit_names_it_and_who_is_not_there_cannot_be_removed(
    tmp_path: Path,
) -> None:
    path = tmp_path / "people.json"
    with pytest.raises(QuanyuError, match="--unit 990105-CG"):
        add_person(path, "u-1", "unit")
    with pytest.raises(QuanyuError, match="code: String should match"):
        add_person(path, "张三", "centre")
    with pytest.raises(QuanyuError, match="nobody has the code 'u-1'"):
        remove_person(path, "u-1")
