"""``python -m deploy.helm.strimzi``: the operator's example written anew from ``topics.yaml``.

A Kafka of three brokers, a ``KafkaTopic`` for each topic of the column ``production``, and a ``KafkaUser`` with
least rights for each part (``quanyu topics acls --format strimzi`` prints these alone).
"""

import re
from pathlib import Path

import yaml

from schemas.acls import as_strimzi, load_acls
from schemas.settings import Settings
from schemas.topics import TopicSpec, load_topics

FILE = Path(__file__).parent / "operators" / "strimzi.yaml"
CLUSTER = "kafka"
HEAD = """\
# Made by `python -m deploy.helm.strimzi` from schemas/topics.yaml; a test holds it equal.
# Strimzi keeps the topics then: jobs.topics is false in the chart's values.
apiVersion: kafka.strimzi.io/v1beta2
kind: KafkaNodePool
metadata:
  name: brokers
  labels: {strimzi.io/cluster: kafka}
spec:
  replicas: 3
  roles: [controller, broker]
  resources: {requests: {cpu: "1", memory: 4Gi}, limits: {memory: 4Gi}}
  jvmOptions: {-Xms: 2g, -Xmx: 2g}
  storage: {type: persistent-claim, size: 500Gi, deleteClaim: false} # see Sizing in deploy/helm/README.md
---
apiVersion: kafka.strimzi.io/v1beta2
kind: Kafka
metadata:
  name: kafka
  annotations: {strimzi.io/node-pools: enabled, strimzi.io/kraft: enabled}
spec:
  kafka:
    listeners:
      - {name: tls, port: 9093, type: internal, tls: true, authentication: {type: scram-sha-512}}
    authorization: {type: simple}
    config:
      auto.create.topics.enable: false
      default.replication.factor: 3
      min.insync.replicas: 2
      offsets.topic.replication.factor: 3
      transaction.state.log.replication.factor: 3
      transaction.state.log.min.isr: 2
      message.max.bytes: 9437184 # a dead letter of eight MiB with its headers
      replica.fetch.max.bytes: 9437184
  entityOperator: {topicOperator: {}, userOperator: {}}
"""


def document() -> str:
    """The file's text."""
    topics = load_topics(Settings(environment="production"))
    users = yaml.safe_load_all(as_strimzi(load_acls(), CLUSTER))
    made = [*map(_topic, topics), *users]
    text = yaml.safe_dump_all(made, sort_keys=False, default_flow_style=None, width=200)
    return f"{HEAD}---\n{text}"


def _topic(spec: TopicSpec) -> dict[str, object]:
    # A resource's name has no underscore; the topic keeps its own.
    name = re.sub(r"[^a-z0-9.-]", "-", spec.name.lower())
    return {
        "apiVersion": "kafka.strimzi.io/v1beta2",
        "kind": "KafkaTopic",
        "metadata": {"name": name, "labels": {"strimzi.io/cluster": CLUSTER}},
        "spec": {
            "topicName": spec.name,
            "partitions": spec.partitions,
            "replicas": spec.replication,
            "config": dict(spec.config),
        },
    }


if __name__ == "__main__":
    FILE.write_text(document(), encoding="utf-8")
