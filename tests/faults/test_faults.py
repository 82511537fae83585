"""Parts killed, frozen and cut off under load: nothing that was promised is lost or counted twice."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.faults import INJECT, python_path
from tests.faults.kinds import POINTS, TEN
from tests.faults.story import ROUND, named, run

ROOT = Path(__file__).parents[2]
PRODUCT = ("schemas", "connectors", "streams", "deploy")
REGRESSIONS = yaml.safe_load((Path(__file__).parent / "regressions.yaml").read_text("utf-8"))


@pytest.mark.integration
@pytest.mark.timeout(600)
def test_ten_faults_that_touch_every_step_lose_and_double_nothing(tmp_path: Path) -> None:
    report = run(tmp_path, seed=10, faults=named(TEN), replay_rows=5_000, patient=False, say=print)
    assert report.ok, json.dumps(report.to_json(), ensure_ascii=False)
    assert len(report.faults) == len(TEN), report.skipped


@pytest.mark.faults
@pytest.mark.integration
@pytest.mark.timeout(7200)
def test_faults_of_every_kind_lose_and_double_nothing(tmp_path: Path) -> None:
    rounds, seed = int(os.environ.get("ROUNDS", "3")), int(os.environ.get("SEED", "1"))
    report = run(tmp_path, seed=seed, rounds=rounds, small_disks=True, say=print)
    assert report.ok, json.dumps(report.to_json(), ensure_ascii=False)
    assert len(report.faults) + len(report.skipped) >= rounds * ROUND


@pytest.mark.faults
@pytest.mark.integration
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("found", REGRESSIONS, ids=lambda found: str(found["seed"]))
def test_what_was_found_once_is_not_found_again(tmp_path: Path, found: dict[str, object]) -> None:
    faults = [tuple(fault) for fault in found["faults"]]  # type: ignore[attr-defined]
    report = run(tmp_path, seed=int(str(found["seed"])), faults=named(faults), small_disks=True)
    assert report.ok, json.dumps(report.to_json(), ensure_ascii=False)


def test_the_product_has_no_failpoint_and_no_clock_but_its_own() -> None:
    for package in PRODUCT:
        for path in (ROOT / package).rglob("*.py"):
            text = path.read_text(encoding="utf-8").lower()
            assert "failpoint" not in text, path
            assert "sitecustomize" not in text, path
            assert "quanyu_faults" not in text, path


def test_what_is_installed_contains_no_failpoints() -> None:
    # The project's own list of packages, and a process without the folder in its path.
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert 'include = ["schemas*", "connectors*", "streams*", "deploy*"]' in text
    program = "import sys, streams.ledger as l; print('sitecustomize' in sys.modules, l.Producer.__module__)"
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**environment, "QUANYU_FAILPOINT": "ledger.produced:1:kill"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "streams" not in done.stdout


def test_every_named_point_is_one_that_the_code_comes_to() -> None:
    program = (INJECT / "sitecustomize.py").read_text(encoding="utf-8")
    for point in POINTS:
        assert f'"{point.partition("@")[0]}"' in program, point


def test_a_process_dies_at_the_named_point_and_not_before(tmp_path: Path) -> None:
    assert importlib.util.find_spec("connectors.position") is not None
    program = (
        "from pathlib import Path; from connectors.position import Position; "
        f"p = Position(Path({str(tmp_path / 'p')!r})); p.write({{'n': 1}}); p.write({{'n': 2}})"
    )
    environment = {
        **os.environ,
        "PYTHONPATH": python_path(ROOT),
        "QUANYU_FAILPOINT": "position.saving:2:kill",
    }
    done = subprocess.run([sys.executable, "-c", program], env=environment, cwd=tmp_path)
    assert done.returncode == -9
    assert json.loads((tmp_path / "p").read_text("utf-8")) == {"n": 1}
