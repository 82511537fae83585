"""What the readme tells people to type works, in the order in which it stands there."""

import os
import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.conftest import free_base_port

pytestmark = pytest.mark.integration

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
READMES = ("README.md", "README.zh-CN.md")
FENCE = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def commands(readme: str) -> list[str]:
    """Every line of every shell block, without its comment."""
    text = (ROOT / readme).read_text(encoding="utf-8")
    lines = "".join(FENCE.findall(text)).splitlines()
    return [line.split("#")[0].strip() for line in lines if line.strip()]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A shell of its own: another home, other ports, this environment's programs."""
    return os.environ | {
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "QUANYU_HOME": str(tmp_path / "home"),
        "QUANYU_PORT": str(free_base_port()),
    }


def run(command: list[str], environment: dict[str, str]) -> str:
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, f"{command}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_both_languages_name_the_same_commands() -> None:
    english, chinese = (commands(readme) for readme in READMES)
    assert english == chinese
    assert english[:2] == ["make demo", "make test"]


@pytest.mark.parametrize(
    "target", ["demo", "test", "long", "lint", "bench", "faults", "clean", "lock"]
)
def test_every_make_target_is_there_and_in_the_help(
    target: str, environment: dict[str, str]
) -> None:
    run(["make", "--dry-run", target], environment)
    assert f"make {target} " in run(["make", "help"], environment)


@pytest.mark.long
def test_demo_ends_by_itself_with_a_clean_account(environment: dict[str, str]) -> None:
    port = environment["QUANYU_PORT"]
    parameters = ["DURATION=8", "RATE=20", f"PORT={port}", f"BIN={BIN}"]
    printed = run(["make", "-o", ".venv/complete", "demo", *parameters], environment)
    assert "audit: clean" in printed
    assert re.search(r"reports sent\D+1\d\d\b", printed), printed
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://127.0.0.1:{port}/")


@pytest.mark.long
def test_commands_of_daily_work_run_in_their_order(environment: dict[str, str]) -> None:
    daily = [line.split() for line in commands("README.md") if line.startswith("quanyu ")]
    assert daily[0][1] == "up"
    assert daily[-1][1] == "down"
    try:
        for command in daily:
            run(command, environment)
    finally:
        subprocess.run(["quanyu", "down"], cwd=ROOT, env=environment, capture_output=True)
