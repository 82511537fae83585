"""How every client proves itself and whom it trusts: TLS and users of Kafka, ClickHouse and our own HTTP port.

Each client takes its part from here, so that no connection is left in the clear by oversight. What is wrong
with a file or is missing is a :class:`QuanyuError` that names the setting. Certificates are verified always,
names of hosts too; there is no setting that turns it off.
"""

import ssl
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from schemas.errors import QuanyuError
from schemas.settings import Settings

Config = dict[str, str | int | float | bool]

_PEM_END = "-----END CERTIFICATE-----"
#: Seconds in which a broker that is there has answered, or said why it will not.
ANSWER_S = 10.0


def tls_context(settings: Settings, of: str) -> ssl.SSLContext:
    """For a client of ``kafka`` or ``clickhouse``: whom it trusts, and its own certificate where it has one."""

    def path(name: str) -> Path | None:
        found: Path | None = getattr(settings, f"{of}_{name}_file")
        return found

    variable = f"QUANYU_{of.upper()}"
    ca, certificate, key = path("ca"), path("certificate"), path("key")
    try:
        context = ssl.create_default_context(cafile=ca)
    except (ssl.SSLError, OSError) as error:
        raise QuanyuError(f"{variable}_CA_FILE: {ca}: no PEM certificate ({error})") from None
    if certificate or key:
        _load_own(context, certificate, key, variable)
    return context


def _load_own(
    context: ssl.SSLContext, certificate: Path | None, key: Path | None, variable: str
) -> None:
    if certificate is None or key is None:
        missing = "KEY" if key is None else "CERTIFICATE"
        raise QuanyuError(f"{variable}_{missing}_FILE is missing: a certificate goes with its key")
    try:
        # An encrypted key would be asked for on the terminal; a part has none.
        context.load_cert_chain(certificate, key, password=lambda: "")
    except (ssl.SSLError, OSError) as error:
        raise QuanyuError(
            f"{variable}_CERTIFICATE_FILE, {variable}_KEY_FILE: {certificate} and {key} are no PEM "
            f"certificate with its own, not encrypted key ({error})"
        ) from None


# ---- Kafka


def kafka_user(settings: Settings) -> tuple[str, str] | None:
    """User and password where the protocol is SASL's, else None."""
    protocol = settings.kafka_security_protocol
    if not protocol.startswith("SASL"):
        return None
    password = settings.kafka_password
    secret = password.get_secret_value() if password else ""
    for name, value in (("KAFKA_USER", settings.kafka_user), ("KAFKA_PASSWORD", secret)):
        if not value:
            raise QuanyuError(
                f"QUANYU_{name} is missing: QUANYU_KAFKA_SECURITY_PROTOCOL={protocol} proves a user"
                + ("; QUANYU_KAFKA_PASSWORD_FILE may name its file" if "PASS" in name else "")
            )
    return settings.kafka_user, secret


def kafka_tls(settings: Settings) -> ssl.SSLContext | None:
    """For aiokafka; None where the protocol knows no TLS."""
    if not settings.kafka_security_protocol.endswith("SSL"):
        return None
    return tls_context(settings, "kafka")


def kafka_options(settings: Settings) -> Config:
    """For confluent-kafka: every producer, consumer and admin client."""
    options: Config = {"security.protocol": settings.kafka_security_protocol}
    if kafka_tls(settings):  # its files hold
        files = {
            "ssl.ca.location": settings.kafka_ca_file,
            "ssl.certificate.location": settings.kafka_certificate_file,
            "ssl.key.location": settings.kafka_key_file,
        }
        options |= {name: str(path) for name, path in files.items() if path}
    if (user := kafka_user(settings)) is not None:
        options["sasl.mechanism"] = settings.kafka_sasl_mechanism
        options["sasl.username"], options["sasl.password"] = user
    return options


def hold_kafka(settings: Settings, timeout_s: float = ANSWER_S) -> None:
    """Ask the brokers once: a :class:`QuanyuError` names the setting at fault when they refuse us.

    A broker that is not there refuses nobody: clients wait for it by themselves.
    """
    if settings.kafka_security_protocol == "PLAINTEXT":
        return
    heard: list[KafkaError] = []
    config: dict[str, Any] = {
        "bootstrap.servers": settings.bootstrap,
        **kafka_options(settings),
        "log_level": 0,
        "error_cb": heard.append,
    }
    admin = AdminClient(config)
    try:
        admin.list_topics(timeout=timeout_s)
    except KafkaException as error:
        admin.poll(0)
        for one in (*heard, error.args[0]):
            if why := _refused(settings, one):
                raise QuanyuError(f"Kafka at {settings.bootstrap}: {why}") from None


def _refused(settings: Settings, error: KafkaError) -> str:
    """What a refusal means and which setting mends it; empty when the error is no refusal."""
    said = error.str().split(": ", 1)[-1].partition(" (after ")[0][:300]
    code = error.code()
    if code in (KafkaError._AUTHENTICATION, KafkaError.SASL_AUTHENTICATION_FAILED):
        return (
            f"user {settings.kafka_user!r} is refused ({said}); check QUANYU_KAFKA_USER, "
            "QUANYU_KAFKA_PASSWORD (or its _FILE) and QUANYU_KAFKA_SASL_MECHANISM"
        )
    # With TLS 1.3 the broker refuses a client's certificate after the client thinks that all is well; some only
    # hang up then.
    refused = code == KafkaError._SSL or "SSL routines" in said
    hung_up = code == KafkaError._TRANSPORT and "isconnected" in said
    lacks = settings.kafka_security_protocol == "SSL" and settings.kafka_certificate_file is None
    if hung_up and lacks:
        return (
            f"it ends the connection ({said}); if it wants a certificate, set "
            "QUANYU_KAFKA_CERTIFICATE_FILE and QUANYU_KAFKA_KEY_FILE"
        )
    if not refused:
        return ""
    if "verify failed" in said or "verification failed" in said:
        return (
            f"its certificate is not trusted ({said}); check QUANYU_KAFKA_CA_FILE, and that the "
            "certificate names the hosts of QUANYU_KAFKA"
        )
    if "certificate" in said:
        return (
            f"our certificate is refused ({said}); check QUANYU_KAFKA_CERTIFICATE_FILE and "
            "QUANYU_KAFKA_KEY_FILE"
        )
    return f"no TLS ({said}); check QUANYU_KAFKA_SECURITY_PROTOCOL and the port of QUANYU_KAFKA"


# ---- ClickHouse


def clickhouse_files(settings: Settings) -> dict[str, Any]:
    """TLS of ``get_client`` and ``get_pool_manager``; nothing for an address that is no https."""
    if not settings.clickhouse_url.startswith("https://"):
        return {}
    tls_context(settings, "clickhouse")  # its files hold
    files = {
        "ca_cert": settings.clickhouse_ca_file,
        "client_cert": settings.clickhouse_certificate_file,
        "client_cert_key": settings.clickhouse_key_file,
    }
    return {name: str(path) for name, path in files.items() if path}


def clickhouse_options(settings: Settings) -> dict[str, Any]:
    """Address, user and TLS of a ClickHouse client, for ``clickhouse_connect.get_client``."""
    # The driver takes no scheme from an address: without the interface it would speak plain HTTP to any port.
    scheme = settings.clickhouse_url.partition("://")[0]
    options: dict[str, Any] = {
        "dsn": settings.clickhouse_url, "interface": scheme, **clickhouse_files(settings)
    }  # fmt: skip
    if settings.clickhouse_user:
        secret = settings.clickhouse_password
        options["username"] = settings.clickhouse_user
        options["password"] = secret.get_secret_value() if secret else ""
        if settings.clickhouse_certificate_file:
            # The certificate is for the line alone; who we are is the user's name and password.
            options["tls_mode"] = "strict"
    return options


def clickhouse_remedy(settings: Settings, error: BaseException) -> str:
    """What to check after an error of a ClickHouse client."""
    said = str(error)
    if "CERTIFICATE_VERIFY_FAILED" in said:
        return "its certificate is not trusted: check QUANYU_CLICKHOUSE_CA_FILE and the host's name"
    if "AUTHENTICATION_FAILED" in said or "Authentication failed" in said:
        return "check QUANYU_CLICKHOUSE_USER and QUANYU_CLICKHOUSE_PASSWORD (or its _FILE)"
    if "SSL" in said or "Connection aborted" in said:
        return (
            "check that QUANYU_CLICKHOUSE is an https address with TLS, and "
            "QUANYU_CLICKHOUSE_CERTIFICATE_FILE where the server wants one"
        )
    return "is it running (quanyu status), is QUANYU_CLICKHOUSE right?"


# ---- our own HTTP port


def http_files(settings: Settings) -> tuple[Path | None, Path | None]:
    """Certificate and key of the screen's port; None for both while it answers plain HTTP."""
    certificate, key = settings.http_certificate_file, settings.http_key_file
    if certificate or key:
        _load_own(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), certificate, key, "QUANYU_HTTP")
    return certificate, key


def own_http_tls(settings: Settings) -> ssl.SSLContext | bool:
    """How parts of ours verify the screen's port: it must have the very certificate that is configured.

    They ask on loopback, whose name a certificate rarely bears: so the certificate itself is what is trusted.
    """
    if settings.http_certificate_file is None:
        return True
    try:
        # The first of the chain: of a public authority above it, anybody may have a certificate.
        chain = settings.http_certificate_file.read_text(encoding="ascii")
        own = chain[: chain.index(_PEM_END) + len(_PEM_END)]
        context = ssl.create_default_context(cadata=own)
    except (ssl.SSLError, OSError, ValueError) as error:
        raise QuanyuError(
            f"QUANYU_HTTP_CERTIFICATE_FILE: {settings.http_certificate_file}: no PEM certificate ({error})"
        ) from None
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context
