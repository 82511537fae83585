"""A whole stack that loses its tables after a backup: restored by the commands, every audit holds again."""

import random
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import eventually
from tests.faults.harness import Stack, free_base_port

pytestmark = [pytest.mark.integration, pytest.mark.long, pytest.mark.timeout(600)]


@pytest.fixture
def city(tmp_path: Path) -> Iterator[Stack]:
    stack = Stack(tmp_path / "home", free_base_port(random.Random()))
    yield stack
    stack.run("down")


def rows(city: Stack) -> int:
    return int(city.rows("SELECT count() FROM quanyu.report_outcomes")[0][0])


def test_backed_up_under_traffic_its_tables_wiped_and_restored_the_audit_is_clean(
    city: Stack,
) -> None:
    with city.running():
        reporting = subprocess.Popen(
            city.command("simulate", "--rate", "40", "--seed", "7"),
            env=city.env,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        eventually(lambda: rows(city) > 200, 120)
        made = city.json("backup")
        then = rows(city)
        eventually(lambda: rows(city) > then + 100, 120)
        reporting.send_signal(signal.SIGINT)
        assert reporting.wait(60) == 0
        before = city.json("audit", "--timeout", "120", timeout=300)
        assert before["clean"], before
        running = city.run("restore", made["folder"])
        assert running.returncode == 2
        assert "has a running stack" in running.stderr
    shutil.rmtree(city.home / "clickhouse")
    done = city.json("restore", made["folder"])
    assert done["rows"] == made["rows"]
    assert done["waiting"] > 0
    assert not done["lost"]
    with city.running():
        after = city.json("audit", "--timeout", "120", timeout=300)
        assert after["clean"], after
        assert after["caught_up"]
        for number in ("outcomes", "reports"):
            assert after["totals"][number] >= before["totals"][number]
        assert rows(city) == after["totals"]["outcomes"]
        print(
            f"held inserts for {made['held_s']} s, backup {made['seconds']} s, restore {done['seconds']} s"
        )
