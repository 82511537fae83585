"""Least privilege in Kafka: what each part's user may do, from ``topics.yaml``.

One user for each part that a deployment runs, named ``quanyu-<part>``. What is not granted is refused: a sink
that is taken over writes no report, a gateway reads no order. Who works with ``quanyu topics``, ``audit`` or
``dlq`` is the operator ``quanyu-admin``, whose rights end at the installation's own topics and groups.
``python -m connectors`` runs the webhooks too, so that its user has their rights; where these run alone, they
have a user of their own.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import yaml

from schemas.errors import QuanyuError
from schemas.topics import dlq_topic, load_entries, state_topic

Kind = Literal["topic", "group", "transactionalId", "cluster"]

PARTS = ("worker", "sink", "gateway", "connectors", "webhooks", "monitor", "admin")
#: Consumer groups of each part: names, or beginnings that end in ``*``.
GROUPS: dict[str, tuple[str, ...]] = {
    # The application's own group, those of its ledgers' logs, and of who reads a state back.
    "worker": ("quanyu-streams*", "state-*"),
    "sink": ("quanyu-sink",),
    "gateway": ("quanyu-audit",),
    "connectors": ("quanyu-webhooks",),
    "webhooks": ("quanyu-webhooks",),
    "monitor": ("quanyu-audit", "quanyu-monitor"),
    "admin": ("quanyu-*",),
}
#: The worker's transactions: agent, topic and partition of the application.
TRANSACTIONS = "quanyu-streams.*"


def user(part: str) -> str:
    """Name of a part's user."""
    return f"quanyu-{part}"


@dataclass(frozen=True, slots=True, order=True)
class Acl:
    """What one part may do with one resource; ``prefixed``: with all whose name begins so."""

    part: str
    kind: Kind
    name: str
    prefixed: bool
    operations: tuple[str, ...]


def load_acls() -> list[Acl]:
    """Every right of every part, sorted; :class:`QuanyuError` when ``topics.yaml`` names no part of ours."""
    topics = defaultdict[tuple[str, str], set[str]](set)
    entries = load_entries()
    letters = []
    for name, entry in entries.items():
        for verb, operation in (("written_by", "Write"), ("read_by", "Read")):
            for part in entry.get(verb, ()):
                if part not in PARTS:
                    raise QuanyuError(
                        f"topics.yaml: {name}: {verb}: no part {part!r}; use {', '.join(PARTS)}"
                    )
                topics[part, name].add(operation)
                if part == "webhooks":
                    topics["connectors", name].add(operation)
        if entry.get("agents") or "beside" in entry:
            topics["worker", name].add("Read")
        for agent in entry.get("agents", ()):
            topics["worker", state_topic(name, agent)] |= {"Read", "Write"}
        if "table" in entry:
            topics["sink", name].add("Read")
        if entry.get("dlq"):
            letters.append(dlq_topic(name))
            if entry.get("agents") or "beside" in entry:
                topics["worker", dlq_topic(name)].add("Write")
            if "table" in entry:
                topics["sink", dlq_topic(name)].add("Write")
        topics["monitor", name].add("Read")  # lag: the oldest record that waits
    for name in letters:
        topics["monitor", name].add("Read")
    found = [
        Acl(part, "topic", name, False, tuple(sorted(operations)))
        for (part, name), operations in topics.items()
    ]
    for part, groups in GROUPS.items():
        found += [_named(part, "group", group, ("Read",)) for group in groups]
    found.append(_named("monitor", "group", "quanyu-*", ("Describe",)))
    # The timestamps of commits are the broker's own clock.
    found.append(_named("monitor", "topic", "__consumer_offsets", ("Describe",)))
    found.append(_named("worker", "transactionalId", TRANSACTIONS, ("Describe", "Write")))
    found += _operator(entries)
    return sorted(found)


def _operator(entries: Iterable[str]) -> list[Acl]:
    """Topics as code needs to make and alter them, replaying dead letters to write them; none deletes one."""
    rights = ("AlterConfigs", "Alter", "Create", "DescribeConfigs", "Read", "Write")
    # The shortest beginnings: state and dead letters hang below their topic.
    names = sorted(entries)
    firsts = [n for n in names if not any(n != o and n.startswith(f"{o}.") for o in names)]
    return [
        *(Acl("admin", "topic", name, True, tuple(sorted(rights))) for name in firsts),
        _named("admin", "transactionalId", "quanyu-*", ("Describe", "Write")),
        Acl("admin", "cluster", "kafka-cluster", False, ("Describe",)),
    ]


def _named(part: str, kind: Kind, name: str, operations: tuple[str, ...]) -> Acl:
    return Acl(part, kind, name.removesuffix("*"), name.endswith("*"), operations)


_OPTION = {"topic": "topic", "group": "group", "transactionalId": "transactional-id"}


def as_commands(acls: Iterable[Acl]) -> str:
    """One ``kafka-acls.sh`` call for each right; the address is the caller's ``$BOOTSTRAP``."""
    lines = []
    for acl in acls:
        resource = "--cluster" if acl.kind == "cluster" else f"--{_OPTION[acl.kind]} '{acl.name}'"
        pattern = " --resource-pattern-type prefixed" if acl.prefixed else ""
        operations = " ".join(f"--operation {operation}" for operation in acl.operations)
        lines.append(
            'kafka-acls.sh --bootstrap-server "$BOOTSTRAP" --command-config "$ADMIN_PROPERTIES" --add '
            f"--allow-principal User:{user(acl.part)} {operations} {resource}{pattern}"
        )
    return "\n".join(lines) + "\n"


def as_strimzi(acls: Iterable[Acl], cluster: str) -> str:
    """A Strimzi ``KafkaUser`` for each part, SCRAM-SHA-512."""
    by_part = defaultdict[str, list[Acl]](list)
    for acl in acls:
        by_part[acl.part].append(acl)
    documents = [
        {
            "apiVersion": "kafka.strimzi.io/v1beta2",
            "kind": "KafkaUser",
            "metadata": {"name": user(part), "labels": {"strimzi.io/cluster": cluster}},
            "spec": {
                "authentication": {"type": "scram-sha-512"},
                "authorization": {"type": "simple", "acls": [_strimzi(acl) for acl in of_part]},
            },
        }
        for part, of_part in by_part.items()
    ]
    return yaml.safe_dump_all(documents, sort_keys=False, allow_unicode=True)


def _strimzi(acl: Acl) -> dict[str, Any]:
    resource: dict[str, str] = {"type": acl.kind}
    if acl.kind != "cluster":
        resource |= {"name": acl.name, "patternType": "prefix" if acl.prefixed else "literal"}
    return {"resource": resource, "operations": list(acl.operations)}
