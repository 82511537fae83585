"""Each setting with its source, secrets hidden; and what is wrong with them, misspelt names among it."""

import difflib
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from deploy.people import read_people
from schemas.access import kafka_options, tls_context
from schemas.channels import load_channels
from schemas.city import load_city
from schemas.errors import QuanyuError
from schemas.keys import read_channel_keys
from schemas.registry import load_lock
from schemas.secrets import HASH_KEY_FILE
from schemas.settings import SETTINGS_FILE, STACK_FILE, Settings, is_secret, read_settings_file
from schemas.sources import load_sources
from schemas.topics import load_topics
from schemas.webhooks import read_webhooks

PREFIX = "QUANYU_"
#: Variables that are no settings of an installation: of one process, of one machine, of the tests.
OTHERS = {
    "QUANYU_INSTANCE": "Name of this process in its groups: restarted, it has its partitions back at once.",
    "QUANYU_CHANNELS": "Comma-separated: a process of the connectors serves only these channels.",
    "QUANYU_CACHE": "Where jars and generated grids lie; default ~/.cache/quanyu.",
    "QUANYU_ACCEPT_LOSS": "Topic/partition:position of losses that a person has looked at.",
    "QUANYU_TEST_CONTAINERS": "1: tests run against servers in containers.",
}
#: User and password in an address.
_CREDENTIALS = re.compile(r"//[^/@\s]+@")


@dataclass(frozen=True, slots=True)
class Entry:
    """One setting: its value as it may be shown, and where that came from."""

    name: str
    value: Any
    source: str
    meaning: str


def entries(settings: Settings, environment: Mapping[str, str]) -> list[Entry]:
    """Every setting in the order of the model."""
    given = {name.upper() for name in environment}
    written = read_settings_file(settings.home)
    stack = _stack(settings)
    found = []
    for name, spec in type(settings).model_fields.items():
        variable = PREFIX + name.upper()
        secret = is_secret(spec)
        if variable in given:
            source = variable
        elif secret and f"{variable}_FILE" in given:
            source = f"{variable}_FILE"
        elif name in written:
            source = str(settings.home / SETTINGS_FILE)
        elif stack.get(name) is not None:
            source = str(settings.home / STACK_FILE)
        else:
            source = "default"
        found.append(
            Entry(name, shown(getattr(settings, name), secret), source, spec.description or "")
        )
    return found


def shown(value: Any, secret: bool) -> Any:
    """A value as it may be printed and logged."""
    if value is None or isinstance(value, bool | int | float):
        return value
    return "(hidden)" if secret else _CREDENTIALS.sub("//(hidden)@", str(value))


def _stack(settings: Settings) -> dict[str, Any]:
    path = settings.home / STACK_FILE
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}


def unknown(environment: Iterable[str]) -> list[str]:
    """Variables with our prefix that nothing reads, each with the name that was perhaps meant."""
    fields = Settings.model_fields.items()
    known = {PREFIX + name.upper() for name, _ in fields} | OTHERS.keys()
    known |= {f"{PREFIX}{name.upper()}_FILE" for name, spec in fields if is_secret(spec)}
    problems = []
    for name in sorted(environment):
        if name.upper().startswith(PREFIX) and name.upper() not in known:
            near = difflib.get_close_matches(name.upper(), sorted(known), 1)
            meant = f"; is {near[0]} meant?" if near else "; see quanyu config show"
            problems.append(f"{name}: no setting has this name, so it does nothing{meant}")
    return problems


def problems(settings: Settings, environment: Mapping[str, str] | None = None) -> list[str]:
    """What is wrong with the settings and with the files that they name."""
    found = unknown(os.environ if environment is None else environment)
    checks: tuple[Callable[[], Any], ...] = (
        lambda: load_city(settings.city),
        lambda: load_topics(settings),
        lambda: load_channels(),
        lambda: load_sources(settings),
        lambda: read_people(settings.people_path),
        lambda: read_webhooks(settings.webhooks_path),
        lambda: kafka_options(settings),
        lambda: tls_context(settings, "clickhouse"),
        lambda: None if settings.schema_registry_url else load_lock(),
        lambda: read_channel_keys(settings.keys_path),
    )
    for check in checks:
        try:
            check()
        except QuanyuError as error:
            found.append(str(error))
    if settings.vision_key and not settings.vision_url:
        found.append("QUANYU_VISION_KEY does nothing without QUANYU_VISION_URL")
    if settings.kafka_user and not settings.kafka_security_protocol.startswith("SASL"):
        found.append(
            "QUANYU_KAFKA_USER does nothing while QUANYU_KAFKA_SECURITY_PROTOCOL is "
            f"{settings.kafka_security_protocol}; SASL_SSL or SASL_PLAINTEXT is meant"
        )
    if settings.kafka and not settings.hash_key and not (settings.home / HASH_KEY_FILE).exists():
        found.append(
            "with a Kafka of one's own every process must hash alike: set QUANYU_HASH_KEY, or a worker "
            "and a screen of different homes make keys of their own"
        )
    return found
