"""Settings as a person sees them: value, source, nothing secret; and misspelt names do not pass in silence."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from deploy.configuration import OTHERS, entries, problems, unknown
from deploy.local.home import prepare
from schemas.errors import QuanyuError
from schemas.settings import SETTINGS_FILE, Settings, is_secret, load_settings

ROOT = Path(__file__).parents[3]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home, and no setting in the environment but it."""
    for name in [name for name in os.environ if name.startswith("QUANYU_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("QUANYU_HOME", str(tmp_path))
    return tmp_path


def write(home: Path, text: str) -> None:
    (home / SETTINGS_FILE).write_text(text, encoding="utf-8")


def sources(settings: Settings) -> dict[str, tuple[Any, str]]:
    """Setting → value and source."""
    return {e.name: (e.value, e.source) for e in entries(settings, os.environ)}


def test_each_value_names_its_source_and_the_environment_goes_before_the_file(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(home, 'log_level = "DEBUG"\nport = 8200\nbind = "127.0.0.2"\n')
    (home / "stack.json").write_text(json.dumps({"port": 8300, "city": "x"}), encoding="utf-8")
    monkeypatch.setenv("QUANYU_BIND", "127.0.0.3")
    settings = load_settings()
    found = sources(settings)
    assert (settings.port, settings.bind, settings.city) == (8200, "127.0.0.3", "x")
    assert found["log_level"] == ("DEBUG", f"{home}/quanyu.toml")
    assert found["port"] == (8200, f"{home}/quanyu.toml")
    assert found["bind"] == ("127.0.0.3", "QUANYU_BIND")
    assert found["city"] == ("x", f"{home}/stack.json")
    assert found["environment"] == ("local", "default")
    assert load_settings(port=8400).port == 8400


def test_what_is_taken_back_in_the_file_is_not_remembered_from_a_former_start(home: Path) -> None:
    write(home, 'clickhouse = "http://db:8123"\n')
    prepare(load_settings())
    write(home, "")
    assert load_settings().clickhouse is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("log_level = 'INFO'\nclikhouse = 'http://c'\n", "quanyu.toml:2: clikhouse: no setting"),
        ("clikhouse = 1", "is clickhouse meant?"),
        ('home = "/x"', "set QUANYU_HOME"),
        ("port = 'many'", "quanyu.toml of the home: port: "),
        ("port = ", "quanyu.toml: Invalid value"),
    ],
)
def test_a_wrong_line_of_the_file_is_named(home: Path, text: str, said: str) -> None:
    write(home, text)
    with pytest.raises(QuanyuError, match=re.escape(said)):
        load_settings()


def test_no_secret_is_shown_whatever_holds_it(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [n for n, spec in Settings.model_fields.items() if is_secret(spec)]
    assert {"vision_key", "kafka_password", "clickhouse_password", "hash_key"} <= set(names)
    for name in names:
        monkeypatch.setenv(f"QUANYU_{name.upper()}", "tell-nobody-at-all")
    monkeypatch.setenv("QUANYU_SCHEMA_REGISTRY_URL", "http://me:tell-nobody-at-all@registry:8081")
    for command in (["show", "--all"], ["show", "--all", "--json"], ["check", "--json"]):
        done = subprocess.run(
            [sys.executable, "-m", "deploy.cli", "config", *command], capture_output=True, text=True
        )
        assert done.stdout
        assert "tell-nobody" not in done.stdout + done.stderr


def test_a_misspelt_variable_is_named_with_the_one_that_was_meant() -> None:
    found = unknown(
        ["QUANYU_KAFAK", "QUANYU_HASH_KEY_FILE", "QUANYU_INSTANCE", "PATH", "QUANYU_ZZ"]
    )
    assert [line.partition(":")[0] for line in found] == ["QUANYU_KAFAK", "QUANYU_ZZ"]
    assert "is QUANYU_KAFKA meant?" in found[0]


def test_every_variable_that_the_code_reads_is_known() -> None:
    read = set()
    for folder in ("schemas", "connectors", "streams", "deploy"):
        for path in (ROOT / folder).rglob("*.py"):
            read |= set(re.findall(r'environ(?:\.get\(|\[)"(QUANYU_\w+)"', path.read_text("utf-8")))
    assert read
    assert unknown(read) == []
    assert not any(name.removeprefix("QUANYU_").lower() in Settings.model_fields for name in OTHERS)


def test_files_that_settings_name_are_read_and_settings_without_effect_are_named(
    home: Path,
) -> None:
    assert problems(load_settings(), {}) == []
    (home / "people.json").write_text("[1]", encoding="utf-8")
    (home / "keys.json").write_text("[]", encoding="utf-8")
    settings = load_settings(environment="moon", kafka_user="quanyu", vision_key="x")
    said = "\n".join(problems(settings, {}))
    for word in ("people.json", "keys.json", "QUANYU_ENVIRONMENT=moon", "KAFKA_USER", "VISION_KEY"):
        assert word in said
