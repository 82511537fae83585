"""Who is told of a unit's orders: the file's entries, what is refused, what holds while it is broken."""

import json
from pathlib import Path

import pytest

from schemas.errors import QuanyuError
from schemas.webhooks import Endpoint, Webhooks, read_webhooks, readable_by_others, unit_entry

GOOD = {"url": "https://unit.example/hook?x=1", "secret": "0123456789abcdef"}


def write(path: Path, document: object) -> None:
    path.write_text(document if isinstance(document, str) else json.dumps(document))


def test_the_exact_code_goes_before_the_longest_beginning_and_a_stranger_is_told_nothing(
    tmp_path: Path,
) -> None:
    path = tmp_path / "webhooks.json"
    write(path, {"410105-CG": GOOD, "410105-*": GOOD, "4101*": {**GOOD, "actions": ["sign"]}})
    found = read_webhooks(path)
    assert unit_entry(found, "410105-CG") == "410105-CG"
    assert unit_entry(found, "410105-SW") == "410105-*"
    assert unit_entry(found, "410102-CG") == "4101*"
    assert unit_entry(found, "990105-CG") is None
    assert found["4101*"].actions == frozenset({"sign"})
    assert unit_entry({"*": found["4101*"]}, "990105-CG") == "*"


def test_without_a_file_nobody_is_told(tmp_path: Path) -> None:
    assert read_webhooks(tmp_path / "webhooks.json") == {}


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("[]", "document: "),
        ("{", "document: Invalid JSON"),
        ({"a b": GOOD}, r"a b\.\[key\]: String should match"),
        ({"*a": GOOD}, r"\*a\.\[key\]: String should match"),
        ({"a": {"url": GOOD["url"]}}, "a.secret: Field required"),
        ({"a": {**GOOD, "secret": "short"}}, "a.secret: .*at least 16"),
        ({"a": {**GOOD, "actions": []}}, "a.actions: .*at least 1"),
        ({"a": {**GOOD, "action": ["sign"]}}, "a.action: Extra inputs"),
        ({"a": {**GOOD, "url": "ftp://unit.example"}}, "a.url: .*https://host/path"),
        ({"a": {**GOOD, "url": "https:///hook"}}, "a.url: .*https://host/path"),
        ({"a": {**GOOD, "url": "https://u:p@unit.example"}}, "a.url: .*no user"),
        ({"a": {**GOOD, "url": "https://unit.example:99999/"}}, "a.url: .*[Pp]ort"),
        ({"a": {**GOOD, "url": "https://unit.example/a b\n"}}, "a.url: .*no user"),
    ],
)
def test_a_broken_file_names_the_field_and_not_the_secret(
    tmp_path: Path, document: object, message: str
) -> None:
    path = tmp_path / "webhooks.json"
    write(path, document)
    with pytest.raises(QuanyuError, match=f"webhooks.json: {message}") as refused:
        read_webhooks(path)
    assert "short" not in str(refused.value)
    assert GOOD["secret"] not in str(refused.value)


def test_a_change_is_seen_and_a_broken_one_leaves_the_last_endpoints_in_force(
    tmp_path: Path,
) -> None:
    path = tmp_path / "webhooks.json"
    write(path, "{")
    webhooks = Webhooks(path)
    with pytest.raises(QuanyuError):
        webhooks.refresh()
    assert webhooks.endpoints is None  # nobody is known to be absent
    write(path, {"a": GOOD})
    assert webhooks.refresh()
    assert not webhooks.refresh()
    assert list(webhooks.endpoints or {}) == ["a"]
    write(path, '{"a": ')
    with pytest.raises(QuanyuError):
        webhooks.refresh()
    assert not webhooks.refresh()
    assert list(webhooks.endpoints or {}) == ["a"]
    path.unlink()
    assert webhooks.refresh()
    assert webhooks.endpoints == {}


def test_no_text_of_an_endpoint_shows_its_secret(tmp_path: Path) -> None:
    endpoint = Endpoint.model_validate(GOOD)
    assert GOOD["secret"] not in f"{endpoint!r} {endpoint} {endpoint.model_dump()}"
    assert endpoint.host == "unit.example"


def test_a_file_that_others_can_read_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "webhooks.json"
    assert not readable_by_others(path)
    path.touch(0o600)
    assert not readable_by_others(path)
    path.chmod(0o640)
    assert readable_by_others(path)
