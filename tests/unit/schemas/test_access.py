"""Users and certificates from settings: what is missing is named, what is secret is never shown."""

import contextlib
import socket
import ssl
import threading
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from pydantic import SecretStr

from schemas.access import (
    clickhouse_options,
    hold_kafka,
    http_files,
    kafka_options,
    kafka_tls,
    kafka_user,
    own_http_tls,
)
from schemas.errors import QuanyuError
from schemas.kafka import admin_config, consumer_config, producer_config
from schemas.settings import Settings, load_settings
from streams.app import credentials
from tests.certificates import Authority

SECRET = "not to be seen by anybody"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "certificates")


def test_every_kafka_client_has_the_user_and_the_certificates(authority: Authority) -> None:
    own = authority.issue("worker")
    settings = Settings(
        kafka_security_protocol="SASL_SSL", kafka_user="u", kafka_password=SecretStr(SECRET),
        kafka_ca_file=authority.ca, kafka_certificate_file=own.certificate, kafka_key_file=own.key,
    )  # fmt: skip
    for config in (
        producer_config(settings), consumer_config(settings, "g"), admin_config(settings),
    ):  # fmt: skip
        assert config["security.protocol"] == "SASL_SSL"
        assert config["sasl.mechanism"] == "SCRAM-SHA-512"
        assert (config["sasl.username"], config["sasl.password"]) == ("u", SECRET)
        assert config["ssl.ca.location"] == str(authority.ca)
        assert config["ssl.certificate.location"] == str(own.certificate)
    Producer({**producer_config(settings), "log_level": 0})  # librdkafka reads the files
    faust = credentials(settings)
    assert faust is not None
    assert faust.protocol.value == "SASL_SSL"
    assert SECRET not in repr(faust)


def test_without_settings_nothing_changes() -> None:
    settings = Settings()
    assert kafka_options(settings) == {"security.protocol": "PLAINTEXT"}
    assert (kafka_tls(settings), kafka_user(settings), credentials(settings)) == (None, None, None)
    assert (http_files(settings), own_http_tls(settings)) == ((None, None), True)
    hold_kafka(settings)  # asks nobody


def test_verification_cannot_be_turned_off(authority: Authority) -> None:
    context = kafka_tls(Settings(kafka_security_protocol="SSL", kafka_ca_file=authority.ca))
    assert context is not None
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert not [name for name in Settings.model_fields if "verify" in name or "insecure" in name]


def test_a_secret_may_stand_in_a_file_and_the_variable_goes_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "secret").write_text(f"{SECRET}\n")
    monkeypatch.setenv("QUANYU_HOME", str(tmp_path))
    for name in ("KAFKA_PASSWORD", "CLICKHOUSE_PASSWORD", "HASH_KEY"):
        monkeypatch.setenv(f"QUANYU_{name}_FILE", str(tmp_path / "secret"))
    settings = load_settings()
    for value in (settings.kafka_password, settings.clickhouse_password, settings.hash_key):
        assert value is not None
        assert value.get_secret_value() == SECRET
    monkeypatch.setenv("QUANYU_KAFKA_PASSWORD", "of the variable")
    changed = load_settings().kafka_password
    assert changed is not None
    assert changed.get_secret_value() == "of the variable"
    monkeypatch.setenv("QUANYU_HASH_KEY_FILE", str(tmp_path / "nowhere"))
    with pytest.raises(QuanyuError, match=r"QUANYU_HASH_KEY_FILE: .*nowhere: No such file"):
        load_settings()


def test_clickhouse_is_spoken_to_as_its_address_says(authority: Authority) -> None:
    plain = clickhouse_options(Settings(port=9000))
    assert plain == {"dsn": "http://127.0.0.1:9001", "interface": "http"}
    settings = Settings(
        clickhouse="https://ch:9440", clickhouse_ca_file=authority.ca, clickhouse_user="sink",
        clickhouse_password=SecretStr(SECRET),
    )  # fmt: skip
    assert clickhouse_options(settings) == {
        "dsn": "https://ch:9440", "interface": "https", "ca_cert": str(authority.ca),
        "username": "sink", "password": SECRET,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"kafka_security_protocol": "SASL_SSL"}, "QUANYU_KAFKA_USER is missing"),
        ({"kafka_security_protocol": "SASL_SSL", "kafka_user": "u"}, "QUANYU_KAFKA_PASSWORD is"),
        ({"kafka_security_protocol": "SSL", "kafka_ca_file": "junk"}, "QUANYU_KAFKA_CA_FILE"),
        ({"kafka_security_protocol": "SSL", "kafka_key_file": "key"}, "QUANYU_KAFKA_CERTIFICATE_F"),
        (
            {"kafka_security_protocol": "SSL", "kafka_key_file": "other", "kafka_certificate_file": "own"},
            "QUANYU_KAFKA_CERTIFICATE_FILE, QUANYU_KAFKA_KEY_FILE",
        ),
        ({"http_key_file": "key"}, "QUANYU_HTTP_CERTIFICATE_FILE is missing"),
        ({"http_certificate_file": "junk", "http_key_file": "key"}, "QUANYU_HTTP_CERTIFICATE_FILE"),
        ({"clickhouse": "https://a:1", "clickhouse_ca_file": "junk"}, "QUANYU_CLICKHOUSE_CA_FILE"),
    ],
)  # fmt: skip
def test_what_is_missing_or_none_is_named_by_its_setting(
    authority: Authority, tmp_path: Path, given: dict[str, Any], named: str
) -> None:
    (tmp_path / "junk").write_text("no certificate")
    own = authority.issue("own")
    files = {
        "junk": tmp_path / "junk", "key": own.key, "own": own.certificate,
        "other": authority.issue("other").key,
    }  # fmt: skip
    settings = Settings(**{k: files.get(v, v) for k, v in given.items()})

    def everything() -> None:
        kafka_options(settings)
        clickhouse_options(settings)
        http_files(settings)

    with pytest.raises(QuanyuError, match=named):
        everything()


def test_no_secret_is_shown_by_an_error_or_by_the_settings_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUANYU_HOME", str(tmp_path))
    secret = SecretStr(SECRET)
    settings = Settings(kafka_password=secret, clickhouse_password=secret, hash_key=secret)
    assert SECRET not in f"{settings!r} {settings} {settings.model_dump(mode='json')}"
    monkeypatch.setenv("QUANYU_CLICKHOUSE", f"https://user:{SECRET.replace(' ', '')}@host:8443")
    with pytest.raises(QuanyuError, match="QUANYU_CLICKHOUSE_PASSWORD") as caught:
        load_settings()
    assert SECRET.replace(" ", "") not in str(caught.value)


@pytest.mark.parametrize(("shown", "trusted"), [("own", True), ("sister", False)])
def test_our_own_parts_trust_the_very_certificate_and_none_of_the_same_authority(
    authority: Authority, shown: str, trusted: bool
) -> None:
    issued = {name: authority.issue(name) for name in ("own", "sister")}
    context = own_http_tls(
        Settings(http_certificate_file=issued["own"].certificate, http_key_file=issued["own"].key)
    )
    assert isinstance(context, ssl.SSLContext)
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(issued[shown].certificate, issued[shown].key)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = context.wrap_bio(to_client, to_server, server_hostname="any.name")
    theirs = server.wrap_bio(to_server, to_client, server_side=True)

    def shake() -> bool:
        for side in (ours, theirs) * 4:
            with contextlib.suppress(ssl.SSLWantReadError):
                side.do_handshake()
        return ours.version() is not None

    if trusted:
        assert shake()
    else:
        with pytest.raises(ssl.SSLCertVerificationError):
            shake()


def test_a_broker_that_wants_a_certificate_says_which_setting_lacks_it(
    authority: Authority,
) -> None:
    broker = authority.issue("broker")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=authority.ca)
    context.load_cert_chain(broker.certificate, broker.key)
    context.verify_mode = ssl.CERT_REQUIRED
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                raw, _ = listener.accept()
                with contextlib.suppress(OSError), raw:
                    context.wrap_socket(raw, server_side=True).recv(10)

    threading.Thread(target=serve, daemon=True).start()
    settings = Settings(
        kafka=f"127.0.0.1:{listener.getsockname()[1]}", kafka_security_protocol="SSL",
        kafka_ca_file=authority.ca,
    )  # fmt: skip
    with pytest.raises(QuanyuError, match="QUANYU_KAFKA_CERTIFICATE_FILE"):
        hold_kafka(settings, 5.0)
    foreign = Authority(authority.ca.parent / "foreign", "foreign")
    with pytest.raises(QuanyuError, match="QUANYU_KAFKA_CA_FILE"):
        hold_kafka(settings.model_copy(update={"kafka_ca_file": foreign.ca}), 5.0)
    listener.close()
