"""Alerts, runbooks, dashboards and metrics agree in both directions; promtool says that alerts fire."""

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from deploy import dashboards
from deploy.cli import create_app
from schemas.city import load_city
from schemas.metrics import REGISTRY, page
from schemas.queries import load_queries
from schemas.settings import Settings

FOLDER = Path(__file__).parents[3] / "deploy" / "prometheus"
RULES = sorted((FOLDER / "rules").glob("*.yml"))
CASES = sorted((FOLDER / "rules" / "tests").glob("*.yml"))
PAGES = sorted((FOLDER / "runbooks").glob("*.md"))
ROOT = FOLDER.parents[1]

SECTIONS = ["Meaning", "Impact", "Diagnosis", "Mitigation", "How it was tested"]
SUFFIX = re.compile(r"_(bucket|count|sum)$")
QUOTED = re.compile(r'"[^"]*"')
SELECTOR = re.compile(r"([a-zA-Z_][\w:]*)\s*\{([^}]*)\}")
MATCHER = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)")
GROUPING = re.compile(r"\b(?:by|on|without|ignoring)\s*\(([^)]*)\)")
WORD = re.compile(r"(?<![\w.])[a-zA-Z_][\w:]*")
#: What our rules use of the language; a new word here is a decision, not an accident.
LANGUAGE = {
    *("sum", "max", "min", "rate", "increase", "delta", "max_over_time", "absent", "time"),
    *("label_replace", "and", "or", "unless", "by", "on", "group_right", "group_left", "offset"),
    *("abs", "changes", "predict_linear", "deriv", "count", "histogram_quantile"),
}
COMMAND = re.compile(r"^(quanyu .*)$", re.MULTILINE)
INLINE_COMMAND = re.compile(r"`(quanyu [^`]+)`")


def rules() -> list[dict[str, Any]]:
    """Every rule of every group."""
    documents = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in RULES]
    return [rule for doc in documents for group in doc["groups"] for rule in group["rules"]]


ALERTS = [rule for rule in rules() if "alert" in rule]
RECORDED = {rule["record"]: rule["expr"] for rule in rules() if "record" in rule}
DASHBOARDS = {
    path.stem: json.loads(path.read_text(encoding="utf-8"))
    for path in sorted(dashboards.FOLDER.glob("*.json"))
}
EXPRESSIONS = [
    target["expr"]
    for dashboard in DASHBOARDS.values()
    for panel in dashboard["panels"]
    for target in panel.get("targets", ())
    if "expr" in target
]


def scrape_labels() -> set[str]:
    """Labels that Prometheus itself puts on every series of ours."""
    config = yaml.safe_load((FOLDER / "prometheus.yml").read_text(encoding="utf-8"))
    targets = [t for job in config["scrape_configs"] for t in job["static_configs"]]
    return {"job", "instance"} | {label for target in targets for label in target["labels"]}


def labels_of(name: str) -> set[str]:
    """Labels of a series named in a rule; fails when there can be no such series."""
    if name == "up":
        return scrape_labels()
    if name in RECORDED:
        return set().union(*(labels_of(used) for used in series_of(RECORDED[name])))
    metric = REGISTRY.get(name)
    if metric is not None:
        assert metric.kind != "histogram", f"{name}: a histogram has _bucket, _count and _sum only"
        return {*metric.labels, *scrape_labels()}
    base = REGISTRY.get(SUFFIX.sub("", name))
    assert base is not None, f"{name} is not in schemas/metrics.py"
    assert base.kind == "histogram", f"{name}: {base.name} is no histogram"
    return {*base.labels, *scrape_labels(), *(["le"] if name.endswith("_bucket") else [])}


def series_of(expression: str) -> set[str]:
    """Names of the series that an expression reads."""
    bare = QUOTED.sub("", GROUPING.sub(" ", expression))
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]", " ", bare)
    return {word for word in WORD.findall(bare) if word not in LANGUAGE}


def check_expression(expression: str) -> None:
    """Every series exists, with the labels that are matched and grouped by."""
    known = set().union(*(labels_of(name) for name in series_of(expression)))
    known |= set(re.findall(r'label_replace\(.*?\),\s*"(\w+)"', expression, re.DOTALL))
    known |= set(re.findall(r'label_replace\([^"]*?\{[^}]*\},\s*"(\w+)"', expression))
    for name, matchers in SELECTOR.findall(expression):
        used = set(MATCHER.findall(QUOTED.sub("", matchers)))
        assert used <= labels_of(name), f"{name} has no label {used - labels_of(name)}"
        for bound in re.findall(r'\ble="([^"]*)"', matchers):
            buckets = REGISTRY[SUFFIX.sub("", name)].buckets
            assert bound in {str(b) for b in buckets}, f"{name} has no bucket {bound}"
    for group in GROUPING.findall(expression):
        used = set(re.findall(r"\w+", group))
        assert used <= known, f"no series of the rule has the label {used - known}"


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule.get("alert") or rule["record"])
def test_a_rule_uses_only_series_and_labels_that_exist(rule: dict[str, Any]) -> None:
    check_expression(rule["expr"])


@pytest.mark.parametrize(
    "wrong",
    [
        "quanyu_no_such_total > 0",
        "no_prefix_total > 0",
        "quanyu_report_visible_seconds > 1",
        "rate(quanyu_dlq_records_total_count[5m]) > 0",
        'quanyu_report_visible_seconds_bucket{le="61.0"} > 0',
        'quanyu_lag_seconds{consumer="quanyu-sink"} > 0',
        "sum by (consumer) (quanyu_lag_seconds) > 0",
        "quanyu:no_such_record > 0",
    ],
)
def test_a_rule_that_could_never_fire_is_refused(wrong: str) -> None:
    with pytest.raises(AssertionError):
        check_expression(wrong)


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_a_panel_shows_only_series_and_labels_that_exist(expression: str) -> None:
    check_expression(expression)


def test_a_panel_names_labels_that_its_series_have() -> None:
    panels = [p for d in DASHBOARDS.values() for p in d["panels"] if p.get("type") == "timeseries"]
    for target in (target for panel in panels for target in panel["targets"]):
        named = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
        known = set().union(*(labels_of(name) for name in series_of(target["expr"])))
        kept = {w for g in GROUPING.findall(target["expr"]) for w in re.findall(r"\w+", g)}
        assert named <= (kept or known), target["expr"]


def test_every_metric_is_looked_at_by_a_rule_or_a_panel() -> None:
    used = [*EXPRESSIONS, *(rule["expr"] for rule in rules())]
    names = {SUFFIX.sub("", name) for expression in used for name in series_of(expression)}
    assert REGISTRY.keys() - names == set()


def test_every_recorded_series_is_looked_at() -> None:
    used = [*EXPRESSIONS, *(rule["expr"] for rule in rules())]
    assert RECORDED.keys() <= {name for expression in used for name in series_of(expression)}


def test_each_number_that_the_pack_gives_rules_is_in_grafana_and_no_rule_is_there_for_nothing() -> (
    None
):
    """A list of rows (offset) and what another query opens are no numbers of their own."""
    pack = set(dashboards.pack_values(load_city(Settings().city)))
    queries = [query for query in load_queries().values() if not query.private]
    opened = {drill.query for query in queries for drill in query.drill_down}
    taken = {query.name: {p.name for p in query.parameters} for query in queries}
    numbers = {
        name
        for name, has in taken.items()
        if has & pack and "offset" not in has and name not in opened
    }
    assert numbers == set(dashboards.KPI_QUERIES)
    made = dashboards.kpi()
    named = {variable["name"] for variable in made["templating"]["list"]}
    used = {
        found
        for panel in made["panels"]
        for found in re.findall(r"\$\{(\w+)", panel["targets"][0]["rawSql"])
    }
    assert used - {"__from", "__to"} == named
    assert named - {"time_zone", "by"} <= pack


def test_page_and_dashboards_are_as_the_registry_and_their_sources_have_it() -> None:
    remedy = "run: quanyu metrics --write"
    assert (FOLDER / "METRICS.md").read_text(encoding="utf-8") == page(), remedy
    assert {
        path: path.read_text(encoding="utf-8") for path in dashboards.FOLDER.glob("*.json")
    } == (dashboards.written()), remedy


def test_every_metric_says_what_it_means_and_is_named_by_its_unit() -> None:
    for metric in REGISTRY.values():
        assert metric.help.endswith("."), metric.name
        assert (metric.kind == "counter") == metric.name.endswith("_total"), metric.name
        if metric.kind == "histogram":
            assert metric.unit in ("s", "records"), metric.name


def test_templates_name_labels_that_the_alert_has() -> None:
    for rule in ALERTS:
        named = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["description"]))
        kept = {w for g in GROUPING.findall(rule["expr"]) for w in re.findall(r"\w+", g)}
        assert named <= kept, f"{rule['alert']}: {named - kept}"


def test_no_label_of_a_target_hides_a_label_of_a_metric() -> None:
    """Prometheus would rename ours to exported_…, and an alert would name the wrong part."""
    for metric in REGISTRY.values():
        assert not scrape_labels() & set(metric.labels), metric.name


def test_the_scrape_example_asks_the_ports_of_the_embedded_parts() -> None:
    config = yaml.safe_load((FOLDER / "prometheus.yml").read_text(encoding="utf-8"))
    [job] = config["scrape_configs"]
    found = {t["labels"]["process"]: t["targets"] for t in job["static_configs"]}
    settings = Settings(port=8000)
    ports = {
        part: settings.metrics_port(part) for part in ("worker", "sink", "monitor", "connectors")
    }
    ports["screen"] = settings.screen_port
    assert found == {part: [f"127.0.0.1:{port}"] for part, port in ports.items()}
    [pattern] = config["rule_files"]
    assert sorted(FOLDER.glob(pattern)) == RULES


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_an_alert_says_what_it_means_and_what_to_run_first(rule: dict[str, Any]) -> None:
    assert rule["alert"].startswith("Quanyu")
    assert rule["labels"]["severity"] in ("critical", "warning")
    notes = rule["annotations"]
    assert notes["summary"].endswith(".")
    assert "{{" not in notes["summary"]
    first = re.search(r"Run first: (quanyu .+)$", notes["description"].strip())
    assert first, f"{rule['alert']} does not end with the first command"
    check_command(first.group(1))
    assert notes["runbook_url"] == f"deploy/prometheus/runbooks/{rule['alert']}.md"
    assert (ROOT / notes["runbook_url"]).is_file()
    assert notes["dashboard_url"].removeprefix("/d/") in {d["uid"] for d in DASHBOARDS.values()}


def test_every_runbook_belongs_to_an_alert() -> None:
    assert {page.stem for page in PAGES} == {rule["alert"] for rule in ALERTS}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_runbook_has_its_sections_and_only_commands_metrics_and_tests_that_exist(
    page: Path,
) -> None:
    text = page.read_text(encoding="utf-8")
    assert text.startswith(f"# {page.stem}\n")
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == SECTIONS
    tested = text.split("## How it was tested")[1]
    assert "`tests/" in tested or "Not provoked" in tested, "no test, and no reason why not"
    commands = COMMAND.findall(text)
    assert commands, "a runbook without a command to run"
    for line in commands + INLINE_COMMAND.findall(text):
        check_command(line)
    for name in re.findall(r"\bquanyu_\w+", text):
        assert name in REGISTRY or SUFFIX.sub("", name) in REGISTRY, name
    for alert in re.findall(r"\bQuanyu[A-Z]\w+", text):
        assert alert in {rule["alert"] for rule in ALERTS}, alert
    for path in re.findall(r"`(tests/[^`]+)`", text):
        assert (ROOT / path).exists(), path


def check_command(line: str) -> None:
    """The command line parses: every word is a command, every option one of its own."""
    command: Any = typer.main.get_command(create_app())
    words = [word for word in shlex.split(line)[1:] if word != "--help"]
    while words and hasattr(command, "commands"):
        assert words[0] in command.commands, f"no such command: {line}"
        command = command.commands[words.pop(0)]
    assert not hasattr(command, "commands"), f"a command is missing: {line}"
    command.make_context("quanyu", words)


@pytest.mark.parametrize(
    "line", ["quanyu fly", "quanyu dlq", "quanyu up --wings", "quanyu status x"]
)
def test_a_command_that_does_not_exist_is_refused(line: str) -> None:
    with pytest.raises(Exception, match=r"no such|No such|missing|unexpected"):
        check_command(line)


def test_every_alert_has_a_case_that_fires_one_that_is_silent_and_one_with_a_restart() -> None:
    found: dict[str, set[str]] = {rule["alert"]: set() for rule in ALERTS}
    for path in CASES:
        for case in yaml.safe_load(path.read_text(encoding="utf-8"))["tests"]:
            alert, kind = case["name"].split(":")[0].split(" ")
            expected = [e["exp_alerts"] for e in case["alert_rule_test"]]
            assert {e["alertname"] for e in case["alert_rule_test"]} == {alert}, case["name"]
            assert any(expected) == (kind == "fires"), case["name"]
            found[alert].add(kind)
    assert found == {rule["alert"]: {"fires", "silent", "restart"} for rule in ALERTS}


@pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed (Debian: prometheus)"
)
@pytest.mark.parametrize(
    "arguments",
    [
        ["check", "rules", *map(str, RULES)],
        ["check", "config", str(FOLDER / "prometheus.yml")],
        pytest.param(["test", "rules", *map(str, CASES)], marks=pytest.mark.long),
    ],
    ids=lambda arguments: " ".join(arguments[:2]),
)
def test_promtool_accepts(arguments: list[str]) -> None:
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
