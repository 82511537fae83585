"""`quanyu keys`: a key opens its own channel alone, until it ends; two open while a sender moves."""

import json
import stat
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from deploy import key_store
from deploy.cli import create_app
from deploy.people import People, add_person
from schemas import keys as keys_module
from schemas.errors import QuanyuError
from schemas.keys import Keys, read_channel_keys
from schemas.settings import Settings


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("QUANYU_HOME", str(tmp_path))
    monkeypatch.setattr("deploy.commands.keys._log", lambda *_: None)
    return Settings(home=tmp_path)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The time of day in ms, as the keys see it."""
    now = [1_800_000_000_000]
    monkeypatch.setattr(keys_module, "_now", lambda: now[0])
    monkeypatch.setattr(key_store, "_now", lambda: now[0])
    return now


def quanyu(*argv: str) -> dict[str, Any]:
    done = CliRunner().invoke(create_app(), [*argv, "--json"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def test_a_key_is_kept_as_its_hash_opens_its_own_channel_alone_and_is_told_once(
    place: Settings,
) -> None:
    made = quanyu("keys", "add", "--channel", "photo_app")
    assert made["key"] not in place.keys_path.read_text()
    assert stat.S_IMODE(place.keys_path.stat().st_mode) == 0o600
    keys = Keys(place.keys_path)
    assert keys.accepts("photo_app", made["key"])
    assert not keys.accepts("open311", made["key"])
    assert made["key"] not in json.dumps(quanyu("keys", "list"))


def test_two_keys_open_while_a_sender_moves_and_then_the_new_one_alone(
    place: Settings, clock: list[int]
) -> None:
    place.keys_path.write_text(json.dumps({"photo_app": "as before", "open311": ["a", "b"]}))
    keys = Keys(place.keys_path)
    made = quanyu("keys", "rotate", "--channel", "photo_app", "--overlap", "48")
    assert [keys.accepts("photo_app", key) for key in ("as before", made["key"])] == [True, True]
    clock[0] += 48 * 3600 * 1000 - 1
    assert keys.accepts("photo_app", "as before")
    clock[0] += 1
    assert [keys.accepts("photo_app", key) for key in ("as before", made["key"])] == [False, True]
    # What the file said of another channel is as it was.
    assert json.loads(place.keys_path.read_text())["open311"] == ["a", "b"]


def test_a_second_rotation_gives_an_ending_key_no_longer_life(
    place: Settings, clock: list[int]
) -> None:
    place.keys_path.write_text(json.dumps({"photo_app": "old"}))
    quanyu("keys", "rotate", "--channel", "photo_app", "--overlap", "1")
    quanyu("keys", "rotate", "--channel", "photo_app", "--overlap", "24")
    clock[0] += 3600 * 1000
    assert not Keys(place.keys_path).accepts("photo_app", "old")


def test_a_revoked_key_opens_nothing_from_then_on_and_stays_on_the_list(place: Settings) -> None:
    made = quanyu("keys", "add", "--channel", "photo_app")
    keys = Keys(place.keys_path)
    assert keys.accepts("photo_app", made["key"])
    done = CliRunner().invoke(create_app(), ["keys", "revoke", made["id"]], catch_exceptions=False)
    assert done.exit_code == 0
    assert not keys.accepts("photo_app", made["key"])
    assert [k["state"] for k in quanyu("keys", "list")["keys"]] == ["revoked"]
    with pytest.raises(QuanyuError, match="no key 'ffffffff'"):
        key_store.revoke(place, "ffffffff")


def test_a_person_rotates_a_key_of_before_there_were_ends(
    place: Settings, clock: list[int]
) -> None:
    digest = keys_module.digest_of("of before")
    old = [{"code": "desk-1", "role": "centre", "unit_code": "", "key_sha256": digest}]
    place.people_path.write_text(json.dumps(old))
    people = People(place.people_path)
    assert people.find("of before") is not None
    made = quanyu("keys", "rotate", "--person", "desk-1", "--overlap", "1")
    found = [people.find(key) for key in ("of before", made["key"])]
    assert [p and (p.code, p.role) for p in found] == [("desk-1", "centre")] * 2
    clock[0] += 3600 * 1000
    assert people.find("of before") is None
    assert people.find(made["key"]) is not None


def test_a_signed_channel_keeps_its_secret_since_both_ends_sign_with_it(
    place: Settings, clock: list[int]
) -> None:
    signed = [o for o in key_store.owners(place) if o.signs]
    assert signed, "no channel signs"
    channel = signed[0].name.partition(":")[2]
    first = quanyu("keys", "add", "--channel", channel)
    second = quanyu("keys", "rotate", "--channel", channel, "--overlap", "1")
    keys = Keys(place.keys_path)
    assert keys.of(channel) == [second["key"], first["key"]]
    clock[0] += 3600 * 1000
    assert keys.of(channel) == [second["key"]]


def test_the_list_says_when_a_key_opened_last(place: Settings, clock: list[int]) -> None:
    made = quanyu("keys", "add", "--channel", "photo_app")
    person = add_person(place.people_path, "desk-1", "centre")
    assert {k["last_used_at"] for k in quanyu("keys", "list")["keys"]} == {None}
    Keys(place.keys_path).accepts("photo_app", made["key"])
    Keys(place.keys_path).accepts("photo_app", "wrong")
    People(place.people_path).find(person)
    assert {k["last_used_at"] for k in quanyu("keys", "list")["keys"]} == {clock[0]}


@pytest.mark.parametrize(
    ("argv", "named"),
    [
        (["--channel", "nobody"], "no channel 'nobody' has keys; known: "),
        (["--person", "desk-1"], "no person 'desk-1'"),
        ([], "--channel NAME or --person CODE"),
        (["--channel", "photo_app", "--person", "desk-1"], "--channel NAME or --person CODE"),
    ],
)
def test_whose_key_it_is_must_be_named(place: Settings, argv: list[str], named: str) -> None:
    with pytest.raises(QuanyuError, match=named):
        CliRunner().invoke(create_app(), ["keys", "add", *argv], catch_exceptions=False)


@pytest.mark.parametrize(
    ("document", "named"),
    [
        ("{", "document"),
        ({"photo_app": 5}, "photo_app"),
        ({"photo_app": [{"id": "x"}]}, "photo_app"),
        ({"photo_app": [{"id": "0" * 8, "sha256": "plain"}]}, "photo_app"),
    ],
)
def test_a_broken_file_is_named_and_never_written_over(
    place: Settings, document: object, named: str
) -> None:
    text = document if isinstance(document, str) else json.dumps(document)
    place.keys_path.write_text(text)
    with pytest.raises(QuanyuError, match=f"keys.json: {named}"):
        read_channel_keys(place.keys_path)
    with pytest.raises(QuanyuError, match=f"keys.json: {named}"):
        CliRunner().invoke(
            create_app(), ["keys", "add", "--channel", "photo_app"], catch_exceptions=False
        )
    assert place.keys_path.read_text() == text
