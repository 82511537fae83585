"""Every part killed under load, three rounds: all come back by themselves, nothing lost, nothing doubled."""

import os
from pathlib import Path

import pytest

from tests.faults.harness import VICTIMS, run


@pytest.mark.faults
@pytest.mark.integration
@pytest.mark.timeout(1500)
def test_kill_9_of_every_part_under_load_loses_and_doubles_nothing(tmp_path: Path) -> None:
    rounds = int(os.environ.get("ROUNDS", "3"))
    report = run(tmp_path, seed=int(os.environ.get("SEED", "1")), rounds=rounds)
    assert report.ok, report.to_json()
    assert len(report.faults) == rounds * len(VICTIMS)
