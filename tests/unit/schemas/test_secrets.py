"""The key under which reporters are hashed: private, one for all processes, never empty."""

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from schemas.errors import QuanyuError
from schemas.secrets import HASH_KEY_FILE, load_hash_key
from schemas.settings import Settings


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.delenv("QUANYU_HASH_KEY", raising=False)
    return Settings(home=tmp_path / "home")


def test_a_home_has_one_key_that_only_its_owner_reads(home: Settings) -> None:
    key = load_hash_key(home)
    assert len(key) == 64
    assert load_hash_key(home) == key
    assert [path.name for path in home.home.iterdir()] == [HASH_KEY_FILE]
    assert stat.S_IMODE((home.home / HASH_KEY_FILE).stat().st_mode) == 0o600


def test_processes_that_start_at_once_share_one_whole_key(home: Settings) -> None:
    with ThreadPoolExecutor(16) as pool:
        keys = set(pool.map(lambda _: load_hash_key(home), range(64)))
    assert len(keys) == 1
    assert len(keys.pop()) == 64


@pytest.mark.parametrize("content", [b"", b"short"])
def test_a_damaged_key_file_is_refused_not_used(home: Settings, content: bytes) -> None:
    # An empty key would hash without any: phone numbers could be found by trying them all.
    home.home.mkdir(parents=True)
    (home.home / HASH_KEY_FILE).write_bytes(content)
    with pytest.raises(QuanyuError, match=r"hash\.key: \d bytes are no key"):
        load_hash_key(Settings(home=home.home))


def test_the_environment_wins_and_a_short_key_is_refused(
    home: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUANYU_HASH_KEY", "k" * 32)
    assert load_hash_key(Settings(home=home.home)) == b"k" * 32
    assert not home.home.exists()
    monkeypatch.setenv("QUANYU_HASH_KEY", "k" * 15)
    with pytest.raises(QuanyuError, match="QUANYU_HASH_KEY: shorter than 16 bytes"):
        load_hash_key(Settings(home=home.home))
