"""The chart: valid objects for every example, no value that is none, and parts that agree with the code.

Needs ``helm`` and ``kubeconform`` (``.ci/tools``). ``GOLDEN=write`` renders the golden files anew.
"""

import importlib.util
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from connectors.sink.runner import DRAIN_S
from deploy.configuration import OTHERS
from deploy.gateway import GRACEFUL_S
from schemas.acls import PARTS, user
from schemas.cache import cache_dir
from schemas.roles import load_access
from schemas.settings import Settings
from schemas.topics import load_topics
from streams.app import STOP_LIMIT_S

HELM_DIR = Path(__file__).parents[3] / "deploy" / "helm"
CHART = HELM_DIR / "quanyu"
EXAMPLES = {path.stem: path for path in (HELM_DIR / "examples").glob("*.yaml")}
GOLDEN = Path(__file__).parents[2] / "fixtures" / "helm"
TOOLS = cache_dir() / "tools"
KUBERNETES = "1.33.0"
Object = dict[str, Any]


def tool(name: str) -> str:
    """Path of a tool, or the test is skipped."""
    found = shutil.which(name) or shutil.which(name, path=TOOLS / "bin")
    if found is None:
        pytest.skip(f"{name} is not installed (.ci/tools)")
    return found


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([tool("helm"), *arguments], capture_output=True, text=True, timeout=60)


@cache
def rendered(example: str, *sets: str) -> str:
    values = [item for each in sets for item in ("--set", each)]
    done = helm(
        *("template", "quanyu", str(CHART), "--kube-version", KUBERNETES),
        *("-f", str(EXAMPLES[example]), *values),
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@cache
def objects(example: str, *sets: str) -> list[Object]:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return [found for found in yaml.load_all(rendered(example, *sets), loader) if found]


def pods(example: str) -> Iterator[tuple[str, Object, Object]]:
    """Component, pod spec and container of everything that runs."""
    for found in objects(example):
        template = found.get("spec", {}).get("template")
        if template is not None:
            (container,) = template["spec"]["containers"]
            labels = template["metadata"]["labels"]
            yield labels["app.kubernetes.io/component"], template["spec"], container


def environment(container: Object) -> dict[str, str]:
    return {entry["name"]: entry.get("value", "") for entry in container["env"]}


@pytest.fixture(params=sorted(EXAMPLES))
def example(request: pytest.FixtureRequest) -> str:
    tool("helm")
    return str(request.param)


# ---- Valid


def test_helm_has_nothing_to_say_against_it(example: str) -> None:
    done = helm(
        *("lint", str(CHART), "--strict", "--kube-version", KUBERNETES),
        *("-f", str(EXAMPLES[example])),
    )
    assert done.returncode == 0, done.stdout


@pytest.fixture(scope="module")
def kube_schemas(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A schema of each kind that we use, whole in its file; what the server would drop is refused."""
    if not (TOOLS / "kubernetes" / "_definitions.json").exists():
        pytest.skip("the schemas of Kubernetes are not there (.ci/tools)")
    folder = tmp_path_factory.mktemp("schemas")
    kept = TOOLS / "kubernetes"
    definitions = json.loads(_own(kept / "_definitions.json"))["$defs"]
    for kind in {found["kind"].lower() for name in EXAMPLES for found in objects(name)}:
        for path in kept.glob(f"{kind}-*.json"):
            schema, needed = json.loads(_own(path)), dict[str, Any]()
            reach(schema, definitions, needed)
            (folder / path.name).write_text(json.dumps({**schema, "$defs": needed}))
    for path in (TOOLS / "crds").glob("*.yaml"):
        for document in yaml.safe_load_all(path.read_text(encoding="utf-8")):
            spec = document["spec"]
            for version in spec["versions"]:
                schema = version["schema"]["openAPIV3Schema"]
                closed(schema)
                group = spec["group"].partition(".")[0]
                name = f"{spec['names']['kind'].lower()}-{group}-{version['name']}.json"
                (folder / name).write_text(json.dumps(schema))
    return folder


def _own(path: Path) -> str:
    """A schema whose references stay within its own file."""
    return path.read_text(encoding="utf-8").replace("/api/_definitions.json#", "#")


def reach(schema: Any, definitions: dict[str, Any], found: dict[str, Any]) -> None:
    """Collect the definitions that a schema refers to, also through others."""
    for name in set(re.findall(r'"#/\$defs/([^"]+)"', json.dumps(schema))) - found.keys():
        found[name] = definitions[name]
        reach(definitions[name], definitions, found)


def closed(schema: Any) -> None:
    """Let an object of a custom resource have no field that its schema does not name."""
    if isinstance(schema, list):
        for item in schema:
            closed(item)
    elif isinstance(schema, dict):
        named = isinstance(schema.get("properties"), dict) and schema.get("type") == "object"
        if (
            named
            and "apiVersion" not in schema["properties"]
            and not schema.get("x-kubernetes-preserve-unknown-fields")
        ):
            schema.setdefault("additionalProperties", False)
        for value in schema.values():
            closed(value)


def conform(text: str, schemas: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """What kubeconform says of objects."""
    file = folder / "rendered.yaml"
    file.write_text(text, encoding="utf-8")
    where = f"{schemas}/{{{{.ResourceKind}}}}{{{{.KindSuffix}}}}.json"
    return subprocess.run(
        [
            *(tool("kubeconform"), "-strict", "-summary", "-kubernetes-version", KUBERNETES),
            *("-schema-location", where, str(file)),
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_every_object_is_one_that_kubernetes_takes(
    example: str, kube_schemas: Path, tmp_path: Path
) -> None:
    done = conform(rendered(example), kube_schemas, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Skipped: 0" in done.stdout


@pytest.mark.parametrize(
    "field", ["failureThreshold", "consumerGroup", "secretStoreRef", "relabelings"]
)
def test_a_misspelt_field_would_be_found(field: str, kube_schemas: Path, tmp_path: Path) -> None:
    text = rendered("full")
    assert f"{field}:" in text
    done = conform(text.replace(f"{field}:", f"{field[:-1]}:"), kube_schemas, tmp_path)
    # What a trigger of KEDA takes is its own affair: there any name is good.
    assert (done.returncode == 0) == (field == "consumerGroup"), done.stdout


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("worker.replicas=3", "replicas"),
        ("kafka.bootstrap=nowhere", "kafka.bootstrap"),
        ("clickhouse.url=http://me:secret@host:8123", "clickhouse.url"),
        ("gateway.replicas=0", "gateway.replicas"),
        ("logLevel=info", "logLevel"),
        ("image.digest=latest", "image.digest"),
        ("worker.sets[0].name=a,worker.sets[0].agents[0]=intaek", "worker.sets.0.agents.0"),
        (
            "worker.sets[0].name=a,worker.sets[0].agents[0]=merge,worker.sets[0].replicas=9",
            "for 8 partitions",
        ),
        ("sink.replicas=9", "for 8 partitions"),
        ("sink.autoscaling.enabled=true,sink.autoscaling.maxReplicas=9", "would have no work"),
        ("gateway.media.accessMode=ReadWriteOnce", "more than one gateway needs ReadWriteMany"),
        ("secrets.existingSecret=", "secrets.existingSecret: name of the Secret"),
        ("kafka.bootstrap=", "kafka.bootstrap: the bootstrap servers"),
    ],
)
def test_a_wrong_value_is_refused_by_its_name(value: str, said: str) -> None:
    done = helm(
        *("template", "quanyu", str(CHART), "--kube-version", KUBERNETES),
        *("-f", str(EXAMPLES["default"]), "--set", value),
    )
    assert done.returncode != 0
    assert said in done.stderr


def test_the_renders_are_those_that_were_looked_at() -> None:
    """All of the smallest one; of the others what there is."""
    tool("helm")
    whole = yaml.safe_dump_all(
        objects("minimal"), sort_keys=True, default_flow_style=None, width=160
    )
    names = {
        name: [
            f"{found['kind']}/{found['metadata']['name']} {found.get('spec', {}).get('replicas', '')}".strip()
            for found in objects(name)
            if found["kind"] != "PrometheusRule"
        ]
        for name in sorted(EXAMPLES)
    }
    for file, text in {
        "minimal.yaml": whole,
        "objects.yaml": yaml.safe_dump(names),
    }.items():
        if os.environ.get("GOLDEN") == "write":
            (GOLDEN / file).write_text(text, encoding="utf-8")
        assert (GOLDEN / file).read_text(encoding="utf-8") == text, (
            "GOLDEN=write, then look at the diff"
        )


# ---- In agreement with the code


def test_every_part_runs_as_nobody_on_a_read_only_root(example: str) -> None:
    for name, pod, container in pods(example):
        security = {**pod["securityContext"], **container["securityContext"]}
        assert security["runAsNonRoot"] is True, name
        assert security["runAsUser"] > 0
        assert security["readOnlyRootFilesystem"] is True
        assert security["allowPrivilegeEscalation"] is False
        assert security["capabilities"] == {"drop": ["ALL"]}
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        assert pod["enableServiceLinks"] is False
        assert container["resources"]["limits"]["memory"]
        assert container["resources"]["requests"]


def test_every_command_exists(example: str) -> None:
    for name, _, container in pods(example):
        first, second, *rest = container["args"]
        if first == "python":
            assert second == "-m"
            assert importlib.util.find_spec(rest[0]) is not None, name
        else:
            assert (first, second, rest) in (
                ("quanyu", "topics", ["apply"]),
                ("quanyu", "tables", ["apply"]),
                ("quanyu", "tables", ["grant"]),
            )


def test_every_variable_is_a_setting_and_every_file_is_mounted(example: str) -> None:
    known = {f"QUANYU_{name.upper()}" for name in Settings.model_fields} | OTHERS.keys()
    known |= {f"QUANYU_{role.upper()}_PASSWORD" for role in load_access().roles}
    for name, pod, container in pods(example):
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
        claimed = {"home"} if name == "connectors" else set()
        assert set(mounts.values()) <= volumes.keys() | claimed
        for variable, value in environment(container).items():
            assert variable in known or variable.removesuffix("_FILE") in known, (name, variable)
            if variable.endswith("_FILE"):
                folder, _, file = value.rpartition("/")
                volume = volumes[mounts[folder]]
                if "projected" in volume:
                    items = [
                        item
                        for source in volume["projected"]["sources"]
                        for item in source["secret"]["items"]
                    ]
                    assert file in {item["path"] for item in items}, (name, variable)


def test_settings_take_what_each_part_is_told(
    example: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for _, _, container in pods(example):
        with monkeypatch.context() as patch:
            for variable, value in environment(container).items():
                if variable.startswith("QUANYU_") and not variable.endswith("_FILE"):
                    patch.setenv(variable, value)
            settings = Settings()
            assert settings.environment in ("local", "production")
            assert settings.bind == "0.0.0.0"
            load_topics(settings)


def test_no_secret_stands_in_the_environment(example: str) -> None:
    secrets = {
        n.upper() for n, f in Settings.model_fields.items() if "SecretStr" in str(f.annotation)
    }
    for _, _, container in pods(example):
        given = {v.removeprefix("QUANYU_") for v in environment(container)}
        assert not given & secrets


def test_a_part_sees_only_the_secrets_it_needs() -> None:
    tool("helm")
    seen = {
        name: sorted(
            item["path"]
            for volume in pod["volumes"]
            if volume["name"] == "secrets"
            for source in volume["projected"]["sources"]
            for item in source["secret"]["items"]
        )
        for name, pod, _ in pods("full")
    }
    assert seen == {
        "worker": ["hash-key"],
        "sink": ["clickhouse-password"],
        "gateway": [
            *("clickhouse-password", "hash-key", "keys.json"),
            *("people.json", "vision-key", "webhooks.json"),
        ],
        "monitor": ["clickhouse-password", "keys.json"],
        "connectors": ["sources.json", "webhooks.json"],
        "webhooks": ["webhooks.json"],
        "tables": ["clickhouse-password"],
        "grants": ["clickhouse-password"],
    }


def test_each_part_proves_its_own_user() -> None:
    tool("helm")
    users = {environment(c)["QUANYU_KAFKA_USER"] for _, _, c in pods("full")}
    assert users == {user(part) for part in PARTS}


def test_a_part_has_time_to_drain_before_it_is_killed(example: str) -> None:
    # Beside its own budget: leaving the group, closing clients, and for the gateway the pause before it.
    budgets = {"worker": STOP_LIMIT_S, "sink": 2 * DRAIN_S, "gateway": 5 + GRACEFUL_S}
    for name, pod, container in pods(example):
        if "startupProbe" in container:
            assert pod["terminationGracePeriodSeconds"] >= budgets.get(name, 9.0) + 10


def test_probes_tell_starting_from_stuck(example: str) -> None:
    for name, _, container in pods(example):
        if name in ("topics", "tables", "grants"):
            continue
        paths = {
            p: container[f"{p}Probe"]["httpGet"]["path"]
            for p in ("startup", "liveness", "readiness")
        }
        assert paths == {"startup": "/readyz", "liveness": "/healthz", "readiness": "/readyz"}
        startup = container["startupProbe"]
        assert startup["periodSeconds"] * startup["failureThreshold"] >= 300


def test_parts_find_each_other(example: str) -> None:
    services = {
        (found["metadata"]["name"], found["spec"]["ports"][0]["port"])
        for found in objects(example)
        if found["kind"] == "Service"
    }
    ports = {
        part: Settings().metrics_port(part)
        for part in ("worker", "sink", "monitor", "connectors", "webhooks")
    }
    told = set()
    for _, _, container in pods(example):
        for part, urls in json.loads(environment(container)["QUANYU_PARTS"]).items():
            for url in urls:
                host, _, port = url.rpartition("//")[2].partition(":")
                assert int(port) == ports.get(part, Settings().screen_port)
                told.add((host, int(port)))
    assert told == services


def test_no_more_members_than_partitions(example: str) -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    production = {
        spec.partitions
        for spec in load_topics(Settings(environment="production"))
        if (spec.stateful or spec.table) and not spec.name.endswith(".state")
    }
    assert {values["kafka"]["partitions"]} == production
    for found in objects(example):
        if found["kind"] == "ScaledObject":
            assert found["spec"]["maxReplicaCount"] <= values["kafka"]["partitions"]
            assert found["spec"]["minReplicaCount"] >= 1
            target = found["spec"]["scaleTargetRef"]["name"]
            (scaled,) = [
                o for o in objects(example)
                if o["kind"] == "StatefulSet" and o["metadata"]["name"] == target
            ]  # fmt: skip
            assert "replicas" not in scaled["spec"], "two would set it"


def test_the_rules_are_the_repositorys() -> None:
    tool("helm")
    folder = HELM_DIR.parent / "prometheus" / "rules"
    expected = {
        f"quanyu-{path.stem}": yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]
        for path in folder.glob("*.yml")
    }
    found = {
        o["metadata"]["name"]: o["spec"]["groups"]
        for o in objects("full", "monitoring.prometheusRule.runbookBase=")
        if o["kind"] == "PrometheusRule"
    }
    assert found == expected
    linked = [
        rule["annotations"]["runbook_url"]
        for o in objects("full")
        if o["kind"] == "PrometheusRule"
        for group in o["spec"]["groups"]
        for rule in group["rules"]
        if "alert" in rule
    ]
    assert linked
    assert all(url.startswith("https://git.example/quanyu/blob/main/deploy/") for url in linked)


def test_the_labels_of_a_scrape_are_those_of_the_rules() -> None:
    tool("helm")
    config = yaml.safe_load(
        (HELM_DIR.parent / "prometheus" / "prometheus.yml").read_text(encoding="utf-8")
    )
    processes = {
        t["labels"]["process"] for j in config["scrape_configs"] for t in j["static_configs"]
    }
    ours = {
        o["spec"]["template"]["metadata"]["labels"]["quanyu/process"]
        for o in objects("full")
        if o["kind"] in ("Deployment", "StatefulSet")
    }
    assert processes <= ours
    (monitor,) = [o for o in objects("full") if o["kind"] == "ServiceMonitor"]
    for endpoint in monitor["spec"]["endpoints"]:
        targets = {r["targetLabel"]: r.get("replacement") for r in endpoint["relabelings"]}
        assert targets == {"job": "quanyu", "process": None}


def test_the_examples_for_the_operators_are_those_of_the_repository() -> None:
    """Topics, users and rights for Strimzi come from topics.yaml: ``python -m deploy.helm.strimzi``."""
    from deploy.helm.strimzi import FILE, document

    assert FILE.read_text(encoding="utf-8") == document(), (
        "python -m deploy.helm.strimzi, then look at the diff"
    )
