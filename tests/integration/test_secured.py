"""A whole pipeline behind locks: Kafka with TLS, SCRAM, mTLS and an authorizer, ClickHouse and HTTP with TLS.

Every part runs as its own user with the rights that ``quanyu topics acls`` prints, and no more.
"""

import contextlib
import json
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import clickhouse_connect
import httpx
import pytest
from clickhouse_connect.driver.client import Client
from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialAlteration,
    UserScramCredentialUpsertion,
)

from deploy.local import home as homes
from deploy.local import kafka
from deploy.local.parts import ROOT, http_ok, module, pipeline_parts
from deploy.local.supervisor import die_with_parent
from deploy.people import add_person
from schemas.access import clickhouse_options, own_http_tls
from schemas.acls import PARTS, Acl, load_acls, user
from schemas.city import CityPack
from schemas.kafka import admin_config, producer_config
from schemas.settings import Settings
from tests.certificates import Authority
from tests.conftest import START_LIMIT_S, eventually, free_base_port

pytestmark = [pytest.mark.integration, pytest.mark.long, pytest.mark.timeout(600)]

#: Name of the supervised process → the part whose rights it has.
USERS = {"screen": "gateway"}


def password(name: str) -> str:
    return f"the secret of {name}"


def secured(text: str, settings: Settings, authority: Authority) -> str:
    """A broker's configuration with two listeners: users by SCRAM, and certificates."""
    users = f"SASL_SSL://127.0.0.1:{settings.kafka_port}"
    certificates = f"SSL://127.0.0.1:{settings.port + 10}"
    controller = f"CONTROLLER://127.0.0.1:{settings.kafka_controller_port}"
    changed = {
        "listeners": f"{users},{certificates},{controller}",
        "advertised.listeners": f"{users},{certificates}",
        "listener.security.protocol.map": "SASL_SSL:SASL_SSL,SSL:SSL,CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name": "SSL",
        "sasl.enabled.mechanisms": "SCRAM-SHA-512,SCRAM-SHA-256",
        **{
            f"listener.name.sasl_ssl.scram-sha-{n}.sasl.jaas.config": (
                "org.apache.kafka.common.security.scram.ScramLoginModule required;"
            )
            for n in (256, 512)
        },
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": authority.issue("broker").both,
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": authority.ca,
        "listener.name.ssl.ssl.client.auth": "required",
        "ssl.principal.mapping.rules": "RULE:^CN=(.*)$/$1/",
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        # ANONYMOUS is the node's own controller port, which this test's machine alone reaches.
        "super.users": "User:broker;User:root;User:ANONYMOUS",
    }
    kept = [line for line in text.splitlines() if line.partition("=")[0] not in changed]
    return "\n".join([*kept, *(f"{key}={value}" for key, value in changed.items())]) + "\n"


def tls_before(port: int, listen: int, authority: Authority) -> socket.socket:
    """Terminate TLS on ``listen`` before a plain server, for as long as the socket is open."""
    server = authority.issue("clickhouse")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(server.certificate, server.key)
    listener = socket.create_server(("127.0.0.1", listen), backlog=64)

    def pipe(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_RDWR)

    def serve(raw: socket.socket) -> None:
        with contextlib.suppress(OSError):
            secure = context.wrap_socket(raw, server_side=True)
            plain = socket.create_connection(("127.0.0.1", port))
            back = threading.Thread(target=pipe, args=(plain, secure), daemon=True)
            back.start()
            pipe(secure, plain)
            back.join()
            secure.close()
            plain.close()

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                raw, _ = listener.accept()
                threading.Thread(target=serve, args=(raw,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return listener


class Fort:
    """The installation: settings of each user, processes, and how to look in."""

    def __init__(self, home: Path) -> None:
        self.home, self.port = home, free_base_port()
        self.authority = Authority(home / "certificates")
        self.screen = self.authority.issue("screen")
        self.processes: list[subprocess.Popen[bytes]] = []
        for part in PARTS:
            (home / f"{part}.password").write_text(password(user(part)) + "\n")

    def env(self, part: str, **more: str) -> dict[str, str]:
        ours = {
            "HOME": str(self.home),
            "PORT": str(self.port),
            "KAFKA": f"127.0.0.1:{self.port + 2}",
            "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
            "KAFKA_USER": user(part),
            "KAFKA_PASSWORD_FILE": str(self.home / f"{part}.password"),
            "KAFKA_CA_FILE": str(self.authority.ca),
            "CLICKHOUSE": f"https://127.0.0.1:{self.port + 11}",
            "CLICKHOUSE_CA_FILE": str(self.authority.ca),
            "HTTP_CERTIFICATE_FILE": str(self.screen.certificate),
            "HTTP_KEY_FILE": str(self.screen.key),
            **more,
        }
        clean = {k: v for k, v in os.environ.items() if not k.startswith("QUANYU_")}
        cache = {k: v for k, v in os.environ.items() if k == "QUANYU_CACHE"}
        return (
            clean | cache | {f"QUANYU_{k}": v for k, v in ours.items()} | {"PYTHONPATH": str(ROOT)}
        )

    def settings(self, part: str, **changed: Any) -> Settings:
        given: dict[str, Any] = {
            "home": self.home,
            "port": self.port,
            "kafka": f"127.0.0.1:{self.port + 2}",
            "kafka_security_protocol": "SASL_SSL",
            "kafka_user": user(part),
            "kafka_password": password(user(part)),
            "kafka_ca_file": self.authority.ca,
            "clickhouse": f"https://127.0.0.1:{self.port + 11}",
            "clickhouse_ca_file": self.authority.ca,
            "http_certificate_file": self.screen.certificate,
            "http_key_file": self.screen.key,
        }
        return Settings(**(given | changed))

    def by_certificate(self, name: str) -> Settings:
        """A client that proves itself with a certificate."""
        own = self.authority.issue(name)
        return self.settings(
            "admin",
            kafka=f"127.0.0.1:{self.port + 10}",
            kafka_security_protocol="SSL",
            kafka_certificate_file=own.certificate,
            kafka_key_file=own.key,
        )

    def start(self, name: str, argv: list[str], env: dict[str, str]) -> None:
        with (self.home / f"{name}.log").open("wb") as log:
            self.processes.append(
                subprocess.Popen(
                    argv, env=env, stdout=log, stderr=log, preexec_fn=die_with_parent()
                )
            )

    def quanyu(
        self, *argv: str, part: str = "admin", **more: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "deploy.cli", *argv],
            env=self.env(part, **more), capture_output=True, text=True, timeout=120,
        )  # fmt: skip

    def client(self) -> Client:
        return clickhouse_connect.get_client(
            **clickhouse_options(self.settings("admin")), database="quanyu",
            autogenerate_session_id=False,
        )  # fmt: skip

    def stop(self) -> None:
        for process in reversed(self.processes):
            process.terminate()
        for process in self.processes:
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def binding(acl: Acl) -> list[AclBinding]:
    kinds = {
        "topic": ResourceType.TOPIC,
        "group": ResourceType.GROUP,
        "transactionalId": ResourceType.TRANSACTIONAL_ID,
        "cluster": ResourceType.BROKER,
    }
    pattern = ResourcePatternType.PREFIXED if acl.prefixed else ResourcePatternType.LITERAL
    operations = {
        "AlterConfigs": AclOperation.ALTER_CONFIGS,
        "DescribeConfigs": AclOperation.DESCRIBE_CONFIGS,
        **{name: AclOperation[name.upper()] for name in ("Read", "Write", "Create", "Alter", "Describe")},
    }  # fmt: skip
    return [
        AclBinding(
            kinds[acl.kind], acl.name, pattern, f"User:{user(acl.part)}", "*",
            operations[operation], AclPermissionType.ALLOW,
        )
        for operation in acl.operations
    ]  # fmt: skip


def let_in(admin: AdminClient) -> None:
    """Make each part's user with its rights."""
    info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
    users: list[UserScramCredentialAlteration] = [
        UserScramCredentialUpsertion(user(part), info, password(user(part)).encode())
        for part in PARTS
    ]
    for future in admin.alter_user_scram_credentials(users).values():
        future.result(30)
    rights = [one for acl in load_acls() for one in binding(acl)]
    for future in admin.create_acls(rights).values():
        future.result(30)


@pytest.fixture(scope="module")
def fort(zhengzhou: CityPack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fort]:
    fort = Fort(tmp_path_factory.mktemp("fort"))
    plain = Settings(home=fort.home, port=fort.port)
    try:
        argv = kafka.command(plain)
        config = fort.home / "kafka" / "server.properties"
        config.write_text(secured(config.read_text(), plain, fort.authority))
        fort.start("kafka", argv, dict(os.environ))
        fort.start("clickhouse", module("deploy.local.clickhouse"), fort.env("admin"))
        proxy = tls_before(fort.port + 1, fort.port + 11, fort.authority)
        root = fort.by_certificate("root")
        admin = AdminClient(admin_config(root))

        def answers() -> bool:
            with contextlib.suppress(KafkaException):
                return bool(admin.list_topics(timeout=2).brokers)
            return False

        eventually(answers, START_LIMIT_S)
        eventually(lambda: http_ok(fort.port + 1, "/ping"), START_LIMIT_S)
        let_in(admin)
        homes.prepare(fort.settings("admin"))
        for command in ("topics", "tables"):
            applied = fort.quanyu(command, "apply")
            assert applied.returncode == 0, applied.stderr
        for part in pipeline_parts(fort.settings("admin")):
            fort.start(
                part.name, part.argv, fort.env(USERS.get(part.name, part.name)) | dict(part.env)
            )
        parts = pipeline_parts(fort.settings("admin"))
        eventually(lambda: all(part.answers() for part in parts), 120, 0.5)
        yield fort
        proxy.close()
    finally:
        fort.stop()


def test_a_report_goes_from_https_over_sasl_ssl_to_a_tls_table_each_part_with_its_own_rights_alone(
    fort: Fort,
) -> None:
    settings = fort.settings("gateway")
    key = json.loads(settings.keys_path.read_text())["photo_app"]
    with httpx.Client(
        base_url=settings.screen_url, verify=own_http_tls(settings), trust_env=False
    ) as client:
        answer = client.post(
            "/channels/photo_app/reports",
            headers={"X-API-Key": key},
            json={
                "id": "S-1", "title": "路灯不亮", "description": "文化路与农业路交叉口路灯不亮",
                "submitted_at": time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime()),
                "location": {"lng": 113.66123, "lat": 34.78123, "crs": "WGS84"},
                "user_id": "13812345678",
            },
        )  # fmt: skip
        assert answer.status_code == 202, answer.text
        (report,) = answer.json()["reports"]
        with fort.client() as tables:

            def outcome() -> Any:
                return tables.query(
                    "SELECT outcome, reason FROM report_outcomes WHERE report_id = {r:String}",
                    parameters={"r": report},
                ).result_rows

            # Some hundred connections of the worker prove themselves first, each with its own handshake.
            assert eventually(outcome, 200) == [("accepted", "")]

            def order() -> Any:
                return tables.query(
                    "SELECT order_id FROM orders WHERE event_id IN "
                    "(SELECT event_id FROM event_links WHERE report_id = {r:String}) LIMIT 1",
                    parameters={"r": report},
                ).result_rows

            ((order_id,),) = eventually(order, 100)
        # A person's action goes the other way: from the gateway to the worker.
        person = add_person(settings.people_path, "desk-1", "centre")
        noted = client.post(
            f"/orders/{order_id}/actions",
            headers={"X-API-Key": person},
            json={"action": "supervise", "reason": "test"},
            timeout=30,
        )
        assert noted.status_code in (200, 202, 409), noted.text
    audited = fort.quanyu("audit", "--timeout", "60", "--json")
    report_ = json.loads(audited.stdout.splitlines()[-1])
    assert report_["clean"], report_
    for name in ("worker", "sink", "connectors", "monitor", "screen"):
        log = (fort.home / f"{name}.log").read_text(encoding="utf-8", errors="replace")
        assert "AUTHORIZATION" not in log.upper(), log[-3000:]


def test_plain_http_and_a_foreign_authority_get_nothing_from_the_screen_port(fort: Fort) -> None:
    with pytest.raises(httpx.HTTPError):
        httpx.get(f"http://127.0.0.1:{fort.port}/healthz", trust_env=False)
    foreign = Authority(fort.home / "foreign", "foreign")
    context = ssl.create_default_context(cafile=foreign.ca)
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        httpx.get(f"https://127.0.0.1:{fort.port}/healthz", verify=context, trust_env=False)


@pytest.mark.parametrize(
    ("part", "topic"),
    [
        ("sink", "reports"), ("sink", "orders"), ("monitor", "reports"), ("gateway", "reports"),
        ("gateway", "orders"), ("connectors", "order.actions"), ("worker", "reports.raw.photo_app"),
    ],
)  # fmt: skip
def test_a_part_that_is_taken_over_writes_no_topic_of_another(
    fort: Fort, part: str, topic: str
) -> None:
    told: list[KafkaError | None] = []
    # An idempotent one of who writes no topic is refused before: it gets no producer id.
    config = producer_config(fort.settings(part)) | {"enable.idempotence": False}
    producer = Producer({**config, "log_level": 0})
    producer.produce(topic, b"x", on_delivery=lambda error, _: told.append(error))
    producer.flush(30)
    assert [e.code() for e in told if e] == [KafkaError.TOPIC_AUTHORIZATION_FAILED]


@pytest.mark.parametrize(
    ("part", "topic"),
    [("sink", "reports.raw.photo_app"), ("connectors", "reports"), ("gateway", "orders")],
)
def test_a_part_reads_no_topic_that_is_not_its_own(fort: Fort, part: str, topic: str) -> None:
    admin = AdminClient(admin_config(fort.settings(part)))
    error = admin.list_topics(topic, timeout=20).topics[topic].error
    assert error is not None
    assert error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"KAFKA_PASSWORD": "hunter2", "KAFKA_PASSWORD_FILE": ""}, "QUANYU_KAFKA_PASSWORD"),
        ({"KAFKA_PASSWORD_FILE": ""}, "QUANYU_KAFKA_PASSWORD is missing"),
        ({"KAFKA_PASSWORD_FILE": "/nowhere"}, "QUANYU_KAFKA_PASSWORD_FILE: /nowhere"),
        ({"KAFKA_CA_FILE": "foreign"}, "QUANYU_KAFKA_CA_FILE"),
        ({"KAFKA_CA_FILE": "/nowhere"}, "QUANYU_KAFKA_CA_FILE"),
        ({"KAFKA_KEY_FILE": "screen"}, "QUANYU_KAFKA_CERTIFICATE_FILE is missing"),
        ({"KAFKA_SECURITY_PROTOCOL": "SSLL"}, "QUANYU_KAFKA_SECURITY_PROTOCOL"),
    ],
)
def test_what_is_wrong_with_kafkas_locks_is_said_by_its_setting_and_never_shown(
    fort: Fort, change: dict[str, str], named: str
) -> None:
    foreign = Authority(fort.home / "foreign", "foreign")
    files = {"foreign": str(foreign.ca), "screen": str(fort.screen.key)}
    more = {key: files.get(value, value) for key, value in change.items()}
    done = fort.quanyu("topics", "diff", **more)
    assert done.returncode == 2, done.stderr
    assert named in done.stderr
    assert "Traceback" not in done.stderr
    assert "hunter2" not in done.stderr


def test_a_part_with_a_wrong_password_ends_with_the_setting_and_does_not_wait_for_ever(
    fort: Fort,
) -> None:
    more = {"KAFKA_PASSWORD": "hunter2", "KAFKA_PASSWORD_FILE": ""}
    worker = subprocess.run(
        module("streams.worker"), env=fort.env("worker", **more), capture_output=True, text=True,
        timeout=60,
    )  # fmt: skip
    assert worker.returncode != 0
    assert "QUANYU_KAFKA_PASSWORD" in worker.stderr
    assert "Traceback" not in worker.stderr


def test_a_broker_that_wants_a_certificate_says_which_setting_lacks_it(fort: Fort) -> None:
    done = fort.quanyu(
        "topics", "diff", KAFKA=f"127.0.0.1:{fort.port + 10}", KAFKA_SECURITY_PROTOCOL="SSL"
    )
    assert done.returncode == 2
    assert "QUANYU_KAFKA_CERTIFICATE_FILE" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"CLICKHOUSE_CA_FILE": "foreign"}, "QUANYU_CLICKHOUSE_CA_FILE"),
        ({"CLICKHOUSE": "https://127.0.0.1:{plain}"}, "QUANYU_CLICKHOUSE"),
        ({"CLICKHOUSE": "https://a:hunter2@127.0.0.1:1"}, "QUANYU_CLICKHOUSE_PASSWORD"),
    ],
)
def test_what_is_wrong_with_clickhouses_lock_is_said_by_its_setting(
    fort: Fort, change: dict[str, str], named: str
) -> None:
    foreign = Authority(fort.home / "foreign", "foreign")
    more = {
        key: str(foreign.ca) if value == "foreign" else value.format(plain=fort.port + 1)
        for key, value in change.items()
    }
    done = fort.quanyu("tables", "diff", **more)
    assert done.returncode == 2
    assert named in done.stderr
    assert "Traceback" not in done.stderr
    assert "hunter2" not in done.stderr
