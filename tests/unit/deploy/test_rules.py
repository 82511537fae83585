"""Alerts, runbooks, commands and metrics agree in both directions; promtool says that alerts fire."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from deploy.cli import create_app
from schemas.metrics import REGISTRY

FOLDER = Path(__file__).parents[3] / "deploy" / "prometheus"
RULES = FOLDER / "rules" / "quanyu.yml"
ROOT = FOLDER.parents[1]
METRIC = re.compile(r"\bquanyu_[a-z0-9_]+")
COMMAND = re.compile(r"^(quanyu .*)$", re.MULTILINE)


def rules() -> list[dict[str, Any]]:
    """Every rule of every group."""
    document = yaml.safe_load(RULES.read_text(encoding="utf-8"))
    return [rule for group in document["groups"] for rule in group["rules"]]


ALERTS = [rule for rule in rules() if "alert" in rule]


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule.get("alert") or rule["record"])
def test_a_rule_uses_only_registered_metrics(rule: dict[str, Any]) -> None:
    for name in METRIC.findall(rule["expr"]):
        base = re.sub(r"_(bucket|count|sum)$", "", name)
        metric = REGISTRY.get(name) or REGISTRY.get(base)
        assert metric is not None, f"{name} is not in schemas/metrics.py"
        if name not in REGISTRY:
            assert metric.kind == "histogram", f"{name}: {base} is no histogram"


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_an_alert_says_what_it_means_and_what_to_run_first(rule: dict[str, Any]) -> None:
    assert rule["alert"].startswith("Quanyu")
    assert rule["labels"]["severity"] in ("critical", "warning")
    notes = rule["annotations"]
    assert notes["summary"].endswith(".")
    assert "{{" not in notes["summary"]
    assert "Run first: quanyu " in " ".join(notes["description"].split())
    assert (ROOT / notes["runbook_url"]).is_file()
    assert Path(notes["runbook_url"]).stem == rule["alert"]


def test_every_runbook_belongs_to_an_alert() -> None:
    assert {page.stem for page in (FOLDER / "runbooks").glob("*.md")} == {
        r["alert"] for r in ALERTS
    }


def test_every_command_of_a_runbook_exists() -> None:
    cli = typer.main.get_command(create_app())
    for page in (FOLDER / "runbooks").glob("*.md"):
        for line in COMMAND.findall(page.read_text(encoding="utf-8")):
            command: Any = cli
            for word in line.split()[1:]:
                if word.startswith("-") or not hasattr(command, "commands"):
                    break
                assert word in command.commands, f"{page.name}: {line}"
                command = command.commands[word]
            known = {option for parameter in command.params for option in parameter.opts}
            used = {word for word in line.split() if word.startswith("--")}
            assert used <= known, f"{page.name}: {line}"


def test_every_alert_has_a_case_that_fires_and_one_that_stays_silent() -> None:
    cases = (FOLDER / "rules" / "tests" / "quanyu_test.yml").read_text(encoding="utf-8")
    for rule in ALERTS:
        stem = rule["alert"].removesuffix("Fast").removesuffix("Slow")
        assert stem in cases, f"{rule['alert']} has no promtool case"


@pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed (Debian: prometheus)"
)
def test_promtool_accepts_the_rules_and_their_cases() -> None:
    for arguments in (
        ["check", "rules", str(RULES)],
        ["test", "rules", *map(str, sorted((FOLDER / "rules" / "tests").glob("*.yml")))],
    ):
        done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
