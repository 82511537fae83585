"""A home belongs to one stack at a time and tells later commands where it is."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from deploy.commands.stack import left_to_do
from deploy.local import home as homes
from deploy.local.supervisor import BACKOFF_CAP_S, backoff_s, rotate, tail
from schemas.channels import channel_names
from schemas.errors import QuanyuError
from schemas.settings import Settings, load_settings


def test_a_second_owner_is_told_who_is_the_first(tmp_path: Path) -> None:
    with homes.owned(tmp_path):
        assert homes.owner(tmp_path) == os.getpid()
        with pytest.raises(QuanyuError, match=rf"process {os.getpid()}.*quanyu down"):  # noqa: SIM117
            with homes.owned(tmp_path):
                pass
    assert homes.owner(tmp_path) is None


def test_a_later_command_finds_the_ports_that_up_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("QUANYU_PORT", "QUANYU_KAFKA"):
        monkeypatch.delenv(name, raising=False)
    homes.prepare(Settings(home=tmp_path, port=12340, kafka="broker:9092"))
    found = load_settings(home=tmp_path)
    assert (found.port, found.kafka) == (12340, "broker:9092")
    assert load_settings(home=tmp_path, port=12360).port == 12360


def test_keys_are_private_random_and_kept(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    homes.prepare(settings)
    first = json.loads(settings.keys_path.read_text(encoding="utf-8"))
    assert set(first) == set(channel_names())
    assert len(set(first.values())) == len(first)
    assert stat.S_IMODE(settings.keys_path.stat().st_mode) == 0o600
    homes.prepare(settings)
    assert json.loads(settings.keys_path.read_text(encoding="utf-8")) == first


def test_only_the_recorded_process_is_killed_not_one_that_got_its_pid(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        created = psutil.Process(process.pid).create_time()
        for wrong in (created + 5, created):
            record = {"name": "sink", "pid": process.pid, "created": wrong}
            homes.write_json(tmp_path / homes.PARTS_FILE, {"parts": [record]})
            killed = homes.kill_leftovers(tmp_path)
            assert killed == (["sink"] if wrong == created else [])
        assert process.wait(10) == -9


def test_back_off_grows_to_its_cap() -> None:
    delays = [backoff_s(n) for n in range(1, 40)]
    assert delays == sorted(delays)
    assert delays[0] < 1.0
    assert delays[-1] == BACKOFF_CAP_S


def test_a_log_that_grows_is_cut_while_its_writer_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deploy.local.supervisor.LOG_LIMIT", 100)
    log = tmp_path / "sink.log"
    with log.open("ab", buffering=0) as writer:
        writer.write(b"x" * 200 + b"\n")
        rotate(log)
        writer.write(b"after\n")
    assert tail(log) == "after"
    assert (tmp_path / "sink.log.1").stat().st_size == 201


def test_what_an_upgrade_leaves_to_a_person_is_told_at_that_start_alone(tmp_path: Path) -> None:
    log = tmp_path / "setup.log"
    assert left_to_do(log, 0) == []
    left = "order_scores counts what comes from now on; for what is there: quanyu tables rebuild order_scores"
    log.write_text(f"applied migration 0012_order_scores_by_arrays\n{left}\n", encoding="utf-8")
    assert left_to_do(log, 0) == [left]
    assert left_to_do(log, log.stat().st_size) == []
