"""The compose file: valid by its specification, on loopback alone, in agreement with the code and the chart."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.configuration import OTHERS
from schemas.cache import cache_dir
from schemas.settings import Settings
from streams.app import STOP_LIMIT_S
from tests import conftest

FOLDER = Path(__file__).parents[3] / "deploy" / "compose"
SCHEMA = cache_dir() / "tools" / "compose-spec.json"
COMPOSE: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yaml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {n: s for n, s in SERVICES.items() if s["image"].startswith("quanyu:")}
RUNNING = {n: s for n, s in OURS.items() if s["restart"] != "no"}


def test_it_is_valid_by_the_specification() -> None:
    validators = pytest.importorskip("jsonschema_rs")
    if not SCHEMA.exists():
        pytest.skip("the compose specification's schema is not there (.ci/tools)")
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    # Fields that begin with x- are the file's own; anchors are resolved by now.
    found = [e.message for e in validators.validator_for(schema).iter_errors(COMPOSE)]
    assert found == []
    wrong = {**COMPOSE, "services": {"a": {**SERVICES["worker"], "helthcheck": {}}}}
    assert list(validators.validator_for(schema).iter_errors(wrong))


def test_docker_compose_understands_it(tmp_path: Path) -> None:
    docker = shutil.which("docker")
    if (
        docker is None
        or subprocess.run([docker, "compose", "version"], capture_output=True).returncode
    ):
        pytest.skip("docker has no compose here")
    done = subprocess.run(
        [docker, "compose", "-f", str(FOLDER / "compose.yaml"), "config", "--quiet"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_every_port_is_on_loopback_and_free_of_others() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)
    published = [port.split(":")[1] for port in ports]
    assert len(set(published)) == len(published)


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_a_service_has_its_limits_its_version_and_its_way_to_restart(name: str) -> None:
    service = SERVICES[name]
    limits = service["deploy"]["resources"]["limits"]
    assert {"cpus", "memory", "pids"} <= limits.keys()
    assert service["restart"] == ("no" if name in ("topics", "tables") else "unless-stopped")
    if name not in OURS:
        _, _, tag = service["image"].partition(":")
        assert re.fullmatch(r"v?\d+(\.\d+)+", tag), "a tag that says a version"
    if service["restart"] != "no" and name != "registry":
        assert service["healthcheck"]["test"]
    assert service["logging"]["options"]["max-size"]


@pytest.mark.parametrize("name", sorted(OURS))
def test_a_part_may_write_its_home_alone_and_reads_secrets_from_files(name: str) -> None:
    service = OURS[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["volumes"] == ["home:/var/lib/quanyu"]
    environment = service["environment"]
    known = {f"QUANYU_{field.upper()}" for field in Settings.model_fields} | OTHERS.keys()
    for variable, value in environment.items():
        assert variable in known or variable.removesuffix("_FILE") in known
        if variable.endswith("_FILE"):
            assert value.rpartition("/")[2] in service["secrets"]
    secrets = {
        n.upper() for n, f in Settings.model_fields.items() if "SecretStr" in str(f.annotation)
    }
    assert not {v.removeprefix("QUANYU_") for v in environment} & secrets
    assert float(str(service["stop_grace_period"]).rstrip("s")) >= STOP_LIMIT_S + 10


@pytest.mark.parametrize("name", sorted(OURS))
def test_its_command_exists(name: str) -> None:
    first, second, *rest = OURS[name]["command"]
    if first == "python":
        assert second == "-m"
        assert importlib.util.find_spec(rest[0]) is not None
    else:
        assert [first, second, *rest] == ["quanyu", name, "apply"]


def test_parts_start_after_topics_and_tables_and_answer_where_they_are_sought() -> None:
    parts = json.loads(RUNNING["monitor"]["environment"]["QUANYU_PARTS"])
    for part, (url,) in parts.items():
        service = "gateway" if part == "screen" else part
        port = Settings().screen_port if part == "screen" else Settings().metrics_port(part)
        assert url == f"http://{service}:{port}"
        assert RUNNING[service]["healthcheck"]["test"][-1] == f"http://127.0.0.1:{port}/readyz"
    assert {"gateway" if part == "screen" else part for part in parts} == RUNNING.keys()
    for service in RUNNING.values():
        assert service["depends_on"] == {
            name: {"condition": "service_completed_successfully"} for name in ("topics", "tables")
        }
        assert (
            service["environment"]["QUANYU_PARTS"]
            == RUNNING["monitor"]["environment"]["QUANYU_PARTS"]
        )


def test_settings_take_what_the_parts_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for service in OURS.values():
        with monkeypatch.context() as patch:
            for variable, value in service["environment"].items():
                if not variable.endswith("_FILE"):
                    patch.setenv(variable, re.sub(r"\$\{\w+:-(.*)\}", r"\1", value))
            assert Settings().environment == "local"


def test_the_servers_are_those_that_the_tests_run_against() -> None:
    source = Path(conftest.__file__).read_text(encoding="utf-8")
    for name in ("kafka", "clickhouse"):
        assert f'"{SERVICES[name]["image"]}"' in source


def test_what_is_mounted_exists() -> None:
    for service in SERVICES.values():
        for volume in service.get("volumes", []):
            source = volume.partition(":")[0]
            if source == "../grafana/dashboards":
                continue  # made by ./prepare where there are none
            if source.startswith("."):
                assert (FOLDER / source).exists(), source
            else:
                assert source in COMPOSE["volumes"]


def test_prometheus_scrapes_every_part_under_the_labels_of_the_rules() -> None:
    ours = yaml.safe_load((FOLDER / "prometheus.yml").read_text(encoding="utf-8"))
    theirs = yaml.safe_load(
        (FOLDER.parent / "prometheus" / "prometheus.yml").read_text(encoding="utf-8")
    )

    def targets(config: dict[str, Any]) -> dict[str, str]:
        (job,) = config["scrape_configs"]
        assert job["job_name"] == "quanyu"
        return {t["labels"]["process"]: t["targets"][0] for t in job["static_configs"]}

    assert targets(ours).keys() == targets(theirs).keys()
    for process, target in targets(ours).items():
        parts = json.loads(RUNNING["monitor"]["environment"]["QUANYU_PARTS"])
        assert parts[process] == [f"http://{target}"]


def test_promtool_and_amtool_take_the_configurations() -> None:
    found = False
    for tool, arguments in (
        ("promtool", ["check", "config", "--syntax-only", "prometheus.yml"]),
        ("amtool", ["check-config", "alertmanager.yml"]),
    ):
        if path := shutil.which(tool):
            found = True
            done = subprocess.run([path, *arguments], cwd=FOLDER, capture_output=True, text=True)
            assert done.returncode == 0, done.stdout + done.stderr
    if not found:
        pytest.skip("neither promtool nor amtool is installed")


def test_prepare_makes_secrets_once_for_their_owner_alone(tmp_path: Path) -> None:
    folder = tmp_path / "deploy" / "compose"
    folder.mkdir(parents=True)
    shutil.copy(FOLDER / "prepare", folder)
    subprocess.run([str(folder / "prepare")], check=True)
    made = {p.name: p.read_text(encoding="utf-8") for p in (folder / "secrets").iterdir()}
    assert made.keys() == COMPOSE["secrets"].keys()
    assert all(re.fullmatch("[0-9a-f]{64}", text) for text in made.values())
    assert os.stat(folder / "secrets").st_mode & 0o777 == 0o700
    subprocess.run([str(folder / "prepare")], check=True)
    assert made == {p.name: p.read_text(encoding="utf-8") for p in (folder / "secrets").iterdir()}
    assert "secrets/" in (FOLDER / ".gitignore").read_text(encoding="utf-8")
