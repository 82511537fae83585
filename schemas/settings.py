"""Typed settings of every process: the environment (prefix ``QUANYU_``), then the home's ``quanyu.toml``.

A secret may also stand in a file, as orchestrators mount them: ``QUANYU_KAFKA_PASSWORD_FILE`` names the file of
``QUANYU_KAFKA_PASSWORD``, and so for each.

A process started by ``quanyu up`` and a command typed later in another shell must find the same
ports: ``up`` writes them to ``<home>/stack.json`` and :func:`load_settings` reads them back, where neither
the environment nor the file says otherwise.
"""

import difflib
import json
import os
import tomllib
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args
from urllib.parse import urlsplit

from pydantic import Field, FilePath, SecretStr, ValidationError, field_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from schemas.errors import QuanyuError

STACK_FILE = "stack.json"
#: What a person writes: setting = value, without the prefix.
SETTINGS_FILE = "quanyu.toml"


def is_secret(field: FieldInfo) -> bool:
    """Whether a setting's value must never be shown."""
    return SecretStr in (field.annotation, *get_args(field.annotation))


class SecretFiles(PydanticBaseSettingsSource):
    """``QUANYU_<NAME>_FILE`` of every secret: the file's text without the line's end."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """See :class:`PydanticBaseSettingsSource`; :class:`QuanyuError` when the file cannot be read."""
        name = f"QUANYU_{field_name.upper()}_FILE"
        path = os.environ.get(name) if is_secret(field) else None
        if not path:
            return None, field_name, False
        try:
            return Path(path).read_text(encoding="utf-8").rstrip("\r\n"), field_name, False
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "is not UTF-8"
            raise QuanyuError(f"{name}: {path}: {why}") from None

    def __call__(self) -> dict[str, Any]:
        """Every secret that a file gives."""
        found = {
            name: self.get_field_value(field, name)[0]
            for name, field in self.settings_cls.model_fields.items()
        }
        return {name: value for name, value in found.items() if value is not None}


#: Parts that answer over HTTP.
PartName = Literal["screen", "worker", "sink", "monitor", "connectors", "webhooks"]


class Settings(BaseSettings):
    """One city's installation. Unset addresses mean the embedded stack on 127.0.0.1."""

    model_config = SettingsConfigDict(env_prefix="QUANYU_", frozen=True, extra="ignore")

    home: Path = Field(default=Path(".quanyu"), description="State of the embedded stack.")
    port: int = Field(
        default=8000,
        ge=1024,
        le=65000,
        description="First of the embedded stack's ports; the screen answers on it.",
    )
    bind: str = Field(default="127.0.0.1", description="Address that listening parts bind to.")
    parts: dict[PartName, list[str]] = Field(
        default_factory=dict,
        description="Where parts on other machines answer (JSON): part, then its addresses; others are here.",
    )
    city: str = Field(
        default="zhengzhou", description="City pack: a name below deploy/cities or a path."
    )
    kafka: str | None = Field(default=None, description="External Kafka bootstrap servers.")
    clickhouse: str | None = Field(default=None, description="External ClickHouse HTTP URL.")
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        default="PLAINTEXT",
        description="How Kafka is spoken to: SSL is TLS, SASL proves a user by name and password.",
    )
    kafka_sasl_mechanism: Literal["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"] = Field(
        default="SCRAM-SHA-512"
    )
    kafka_user: str = Field(default="", max_length=200, description="For SASL.")
    kafka_password: SecretStr | None = Field(default=None, description="For SASL.")
    kafka_ca_file: FilePath | None = Field(
        default=None,
        description="PEM of who signed the brokers' certificates; unset: the system's.",
    )
    kafka_certificate_file: FilePath | None = Field(
        default=None, description="PEM of our certificate and its chain, for brokers that want one."
    )
    kafka_key_file: FilePath | None = Field(
        default=None, description="PEM of that certificate's private key, not encrypted."
    )
    clickhouse_user: str = Field(default="", max_length=200)
    clickhouse_password: SecretStr | None = Field(default=None)
    clickhouse_ca_file: FilePath | None = Field(
        default=None, description="PEM of who signed the server's certificate; unset: the system's."
    )
    clickhouse_certificate_file: FilePath | None = Field(
        default=None, description="PEM of our certificate, for servers that want one."
    )
    clickhouse_key_file: FilePath | None = Field(
        default=None, description="PEM of that certificate's private key."
    )
    http_certificate_file: FilePath | None = Field(
        default=None,
        description="PEM of the screen port's certificate and chain: it answers HTTPS only then.",
    )
    http_key_file: FilePath | None = Field(
        default=None, description="PEM of that certificate's private key."
    )
    hash_key: SecretStr | None = Field(
        default=None,
        description="Under which personal data is hashed, 16 characters at least; default <home>/hash.key.",
    )
    clickhouse_database: str = Field(default="quanyu")
    clickhouse_cluster: str | None = Field(
        default=None,
        description="Cluster name of the ClickHouse server; unset: a single node, plain engines.",
    )
    schema_registry_url: str | None = Field(
        default=None, description="Confluent-compatible registry; unset: ids from the lock file."
    )
    keys_file: Path | None = Field(
        default=None, description="Channel API keys (JSON); default <home>/keys.json."
    )
    sources_file: Path | None = Field(
        default=None,
        description="Addresses of the channels' sources (JSON); default <home>/sources.json.",
    )
    people_file: Path | None = Field(
        default=None, description="Who may act, by hashed keys (JSON); default <home>/people.json."
    )
    webhooks_file: Path | None = Field(
        default=None,
        description="Units' systems that are told of their orders (JSON); default <home>/webhooks.json.",
    )
    environment: str = Field(
        default="local", description="Which column of topics.yaml holds: local or production."
    )
    log_level: str = Field(default="INFO")
    vision_url: str | None = Field(
        default=None,
        pattern=r"^https?://\S+$",
        description="OpenAI-compatible endpoint that describes photos, with its /v1; unset: none is sent.",
    )
    vision_model: str = Field(default="", description="The model that the endpoint is asked for.")
    vision_key: SecretStr | None = Field(default=None, description="Sent to it as bearer token.")
    vision_timeout_s: float = Field(
        default=6.0,
        gt=0,
        le=60,
        description="A description that is not there by then is not waited for.",
    )
    heartbeats: list[str] | None = Field(
        default=None,
        description="Ways in that the monitor sends its heartbeat through (JSON), as iot.mqtt; unset: the "
        "embedded stack's own. It writes there, which others' systems may not expect.",
    )
    otlp_endpoint: str | None = Field(
        default=None,
        pattern=r"^(https?://[^\s@]+)?$",
        description="Collector of traces, OTLP over HTTP, without /v1/traces; empty: nothing is traced.",
    )
    trace_share: float = Field(
        default=0.01, ge=0, le=1, description="Share of the reports whose way is traced."
    )

    @field_validator("clickhouse")
    @classmethod
    def _holds_no_password(cls, url: str | None) -> str | None:
        if url and "@" in urlsplit(url).netloc:
            # Addresses are shown and logged.
            raise ValueError("use QUANYU_CLICKHOUSE_USER and QUANYU_CLICKHOUSE_PASSWORD")
        return url

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """What is given in the process, then the environment, then the secrets' files."""
        return init_settings, env_settings, SecretFiles(settings_cls)

    # One base port, fixed offsets: two homes run side by side when their bases differ by >= 20.
    @property
    def screen_port(self) -> int:
        """HTTP: the screen, the named queries and the channels' push endpoint."""
        return self.port

    @property
    def clickhouse_port(self) -> int:
        """ClickHouse HTTP interface of the embedded engine."""
        return self.port + 1

    @property
    def kafka_port(self) -> int:
        """Kafka listener of the embedded broker."""
        return self.port + 2

    @property
    def kafka_controller_port(self) -> int:
        """KRaft controller listener of the embedded broker."""
        return self.port + 3

    @property
    def mqtt_port(self) -> int:
        """Listener of the embedded MQTT broker."""
        return self.port + 8

    def metrics_port(self, part: str) -> int:
        """Prometheus port of a part (the screen serves its own)."""
        ports = {"worker": 4, "sink": 5, "monitor": 6, "connectors": 7, "webhooks": 9}
        return self.port + ports[part]

    @cached_property
    def bootstrap(self) -> str:
        """Kafka bootstrap servers, embedded unless configured."""
        return self.kafka or f"127.0.0.1:{self.kafka_port}"

    @cached_property
    def clickhouse_url(self) -> str:
        """ClickHouse HTTP URL, embedded unless configured."""
        return self.clickhouse or f"http://127.0.0.1:{self.clickhouse_port}"

    @property
    def screen_url(self) -> str:
        """Where parts reach the screen and the push interface."""
        return self.part_urls("screen")[0]

    def part_urls(self, part: PartName) -> list[str]:
        """Where a part answers, without a slash at the end; one on this machine unless configured."""
        if configured := self.parts.get(part):
            return [url.rstrip("/") for url in configured]
        host = "127.0.0.1" if self.bind in ("0.0.0.0", "::") else self.bind  # noqa: S104 # read, not bound
        if part != "screen":
            return [f"http://{host}:{self.metrics_port(part)}"]
        scheme = "https" if self.http_certificate_file else "http"
        return [f"{scheme}://{host}:{self.screen_port}"]

    @property
    def keys_path(self) -> Path:
        """File of the channels' API keys."""
        return self.keys_file or self.home / "keys.json"

    @property
    def people_path(self) -> Path:
        """File of who may act."""
        return self.people_file or self.home / "people.json"

    @property
    def webhooks_path(self) -> Path:
        """File of the units' systems that are told of their orders."""
        return self.webhooks_file or self.home / "webhooks.json"

    @property
    def sources_path(self) -> Path:
        """File of the channels' source addresses."""
        return self.sources_file or self.home / "sources.json"


def read_settings_file(home: Path) -> dict[str, Any]:
    """What ``<home>/quanyu.toml`` says; empty when there is none.

    Raises :class:`QuanyuError` with the line of what is no TOML or no setting.
    """
    path = home / SETTINGS_FILE
    try:
        text = path.read_text(encoding="utf-8")
        found = tomllib.loads(text)
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise QuanyuError(f"{path}: {error}") from None
    for name in found:
        if name in Settings.model_fields and name != "home":
            continue
        lines = enumerate(text.splitlines(), start=1)
        line = next((n for n, words in lines if name in words.partition("=")[0]), 1)
        if name == "home":
            raise QuanyuError(f"{path}:{line}: home: the file lies in it; set QUANYU_HOME instead")
        near = difflib.get_close_matches(name, list(Settings.model_fields), 1)
        meant = f"; is {near[0]} meant?" if near else "; see quanyu config show --all"
        raise QuanyuError(f"{path}:{line}: {name[:60]}: no setting has this name{meant}")
    return found


def load_settings(**overrides: Any) -> Settings:
    """Settings for this process: overrides, the environment, ``<home>/quanyu.toml``, ``<home>/stack.json``.

    Raises :class:`QuanyuError` naming the variable, or the file's key, when a value is not valid.
    """
    given = {k: v for k, v in overrides.items() if v is not None}
    written: dict[str, Any] = {}
    try:
        settings = Settings(**given)
        said = settings.model_fields_set
        written = read_settings_file(settings.home)
        stack_file = settings.home / STACK_FILE
        stack = json.loads(stack_file.read_text(encoding="utf-8")) if stack_file.exists() else {}
        known = {k: v for k, v in stack.items() if v is not None} | written
        unset = {k: v for k, v in known.items() if k not in said}
        written = {k: v for k, v in written.items() if k not in said}
        if unset:
            settings = Settings(**{**unset, **given})
    except ValidationError as error:
        first = error.errors()[0]
        field = str(first["loc"][0])
        name, given_value = f"QUANYU_{field.upper()}", repr(first.get("input"))
        if is_secret(Settings.model_fields[field]) or "@" in given_value:
            given_value = "a value that is not shown"
        if field in written:
            name = f"{SETTINGS_FILE} of the home: {field}"
        raise QuanyuError(f"{name}: {first['msg']} (got {given_value})") from None
    except json.JSONDecodeError as error:
        raise QuanyuError(
            f"{stack_file}: not JSON ({error}); remove it and run quanyu up"
        ) from None
    return settings
