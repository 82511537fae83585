"""`quanyu erase` without servers: who is meant, and what is said of what ages out."""

import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from deploy.cli import create_app
from deploy.erase import ageing, hash_of
from schemas.errors import QuanyuError
from schemas.secrets import load_hash_key
from schemas.settings import Settings
from schemas.topics import DAY_MS
from streams.intake.privacy import reporter_hash


@pytest.fixture
def place(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path)


def test_a_number_is_found_however_it_is_written_and_by_its_hash(place: Settings) -> None:
    hashed = reporter_hash(load_hash_key(place), "13700030004")
    for written in ("13700030004", "+86 137-0003-0004", "137 0003 0004\n", hashed):
        assert hash_of(place, written) == hashed
    assert hash_of(place, "u4711") == reporter_hash(load_hash_key(place), "u4711")


def test_nobody_is_not_everybody(place: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    # The hash of an anonymous reporter is empty: erasing "" would erase all of them.
    for nothing in ("", "  ", "\n"):
        with pytest.raises(QuanyuError, match="--reporter is empty"):
            hash_of(place, nothing)
    monkeypatch.setenv("QUANYU_HOME", str(place.home))
    for argv in ([], ["--reporter", "1", "--again"], ["--again", "--expired"]):
        with pytest.raises(QuanyuError, match="--reporter NUMBER, --again or --expired"):
            CliRunner().invoke(create_app(), ["erase", *argv], catch_exceptions=False)
    with pytest.raises(QuanyuError, match="--reporter is empty"):
        CliRunner().invoke(
            create_app(), ["erase", "--reporter", "-"], input="\n", catch_exceptions=False
        )


def test_what_ages_out_is_said_with_the_day_by_which_the_last_of_it_is_gone() -> None:
    now = int(time.time() * 1000)
    left = {one.topic: one for one in ageing(now)}
    assert left["reports.raw.photo_app"].gone_by == now + 31 * DAY_MS
    assert left["reports.raw.photo_app.dlq"].gone_by == now + 91 * DAY_MS
    assert "orders" not in left
