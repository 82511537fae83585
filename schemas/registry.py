"""Schema ids: from a lock file in the repository, or from any registry with the Confluent API."""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

from fastavro.schema import fingerprint, parse_schema, to_parsing_canonical_form

from schemas.errors import QuanyuError
from schemas.settings import Settings

AVRO_DIR = Path(__file__).parent / "avro"
LOCK_NAME = "ids.lock"
FILE_NAME = re.compile(r"\A(?P<name>[A-Z]\w*)\.v(?P<version>[1-9]\d*)\.avsc\Z")

Version = tuple[str, int]


@dataclass(frozen=True, slots=True)
class SchemaIds:
    """Every schema version of the tree and the id it travels under.

    ``find`` gives the schema of an id that is not among them, or None when nobody has it: while a
    deployment is under way, records of a newer version arrive. It raises :class:`QuanyuError` when the
    registry cannot say.
    """

    schemas: Mapping[Version, Any]
    ids: Mapping[Version, int]
    find: Callable[[int], Any] | None = None


def load_schemas(folder: Path = AVRO_DIR) -> dict[Version, Any]:
    """Every ``<Record>.v<N>.avsc`` as JSON; :class:`QuanyuError` names the file at fault."""
    schemas: dict[Version, Any] = {}
    for path in sorted(folder.glob("*.avsc")):
        match = FILE_NAME.match(path.name)
        if not match:
            raise QuanyuError(f"{path}: name it <Record>.v<N>.avsc")
        try:
            schema = json.loads(path.read_text(encoding="utf-8"))
        except json.JSONDecodeError as error:
            raise QuanyuError(f"{path}:{error.lineno}: not JSON ({error.msg})") from None
        if not isinstance(schema, dict) or schema.get("name") != match["name"]:
            raise QuanyuError(f"{path}: field name: must be a record named {match['name']}")
        if not isinstance(schema.get("fields"), list):
            raise QuanyuError(f"{path}: field fields: must be a list")
        try:
            # A copy: parsing writes into what it is given.
            parse_schema(json.loads(json.dumps(schema)), named_schemas={})
        except Exception as error:
            # fastavro's errors have no common base: a missing key is a KeyError.
            raise QuanyuError(f"{path}: not an Avro schema ({error!r})") from None
        schemas[match["name"], int(match["version"])] = schema
    return schemas


def digest(schema: Any) -> str:
    """Fingerprint of everything that fixes a schema's bytes and defaults (not its docs)."""
    canonical = fingerprint(to_parsing_canonical_form(schema), "SHA-256")
    defaults = json.dumps(_defaults(schema), sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(f"{canonical}{defaults}".encode()).hexdigest()


def _defaults(schema: Any) -> Any:
    """Defaults, symbols and aliases, which the canonical form leaves out."""
    if isinstance(schema, dict):
        kept = {k: schema[k] for k in ("default", "aliases", "logicalType") if k in schema}
        nested = {
            k: _defaults(v) for k, v in schema.items() if k in ("fields", "type", "items", "values")
        }
        return {"name": schema.get("name"), **kept, **nested}
    if isinstance(schema, list):
        return [_defaults(item) for item in schema]
    return None


def load_lock(folder: Path = AVRO_DIR) -> dict[Version, tuple[int, str]]:
    """Version → (id, digest) of the lock file."""
    path = folder / LOCK_NAME
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        return {(e["record"], e["version"]): (e["id"], e["digest"]) for e in entries["schemas"]}
    except FileNotFoundError:
        raise QuanyuError(f"{path} is missing; run: quanyu schemas lock") from None
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise QuanyuError(f"{path}: not a lock file ({error}); restore it from git") from None


def write_lock(folder: Path = AVRO_DIR) -> list[str]:
    """Give every new version the next id; what changed. Ids and digests that stand are never altered."""
    path = folder / LOCK_NAME
    locked = load_lock(folder) if path.exists() else {}
    changes = []
    for (name, version), schema in sorted(load_schemas(folder).items()):
        if (name, version) not in locked:
            number = 1 + max((number for number, _ in locked.values()), default=0)
            locked[name, version] = number, digest(schema)
            changes.append(f"{name} v{version}: id {number}")
    entries = [
        {"record": name, "version": version, "id": number, "digest": print_}
        for (name, version), (number, print_) in sorted(locked.items(), key=lambda item: item[1][0])
    ]
    path.write_text(json.dumps({"schemas": entries}, indent=1) + "\n", encoding="utf-8")
    return changes


def schema_ids(settings: Settings) -> SchemaIds:
    """Ids of the configured registry, where missing versions are registered, else of the lock file."""
    schemas = load_schemas()
    if settings.schema_registry_url:
        registry = Registry(settings.schema_registry_url)
        return SchemaIds(schemas, registry.ids(schemas), registry.find)
    locked = load_lock()
    missing = [f"{name} v{version}" for name, version in schemas if (name, version) not in locked]
    if missing:
        raise QuanyuError(f"no id for {', '.join(missing)}; run: quanyu schemas lock")
    return SchemaIds(schemas, {version: locked[version][0] for version in schemas})


class Registry:
    """A registry with the Confluent API; each record has the subject ``quanyu.<Record>``.

    Every method raises :class:`QuanyuError` when the registry cannot be reached or refuses.
    """

    def __init__(self, url: str) -> None:
        # Slow to import, and only a deployment with a registry needs it.
        from confluent_kafka.schema_registry import SchemaRegistryClient

        self._url = url
        self._client = SchemaRegistryClient({"url": url})

    def ids(self, schemas: Mapping[Version, Any]) -> dict[Version, int]:
        """The id of each version, oldest first; what the registry lacks is registered.

        Reading rights are enough where every version is registered already.
        """
        from confluent_kafka.schema_registry import Schema

        ids = {}
        for (name, version), schema in sorted(schemas.items(), key=lambda item: item[0]):
            subject, text = f"quanyu.{name}", Schema(json.dumps(schema), "AVRO")
            what = f"{subject} v{version}"
            found = self._ask(what, self._client.lookup_schema, subject, text)
            ids[name, version] = (
                self._ask(what, self._client.register_schema, subject, text)
                if found is None
                else found.schema_id
            )
        return ids

    def lacks(self, schemas: Mapping[Version, Any]) -> list[Version]:
        """The versions that nobody has registered; nothing is registered."""
        from confluent_kafka.schema_registry import Schema

        return [
            (name, version)
            for (name, version), schema in sorted(schemas.items(), key=lambda item: item[0])
            if self._ask(
                f"quanyu.{name} v{version}",
                self._client.lookup_schema,
                f"quanyu.{name}",
                Schema(json.dumps(schema), "AVRO"),
            )
            is None
        ]

    def find(self, schema_id: int) -> Any:
        """The schema of an id, or None when the registry has none or it is no Avro schema."""
        found = self._ask(f"id {schema_id}", self._client.get_schema, schema_id)
        try:
            return None if found is None else json.loads(found.schema_str)
        except (json.JSONDecodeError, TypeError):
            return None

    def _ask(self, what: str, question: Callable[..., Any], *arguments: Any) -> Any:
        """The registry's answer; None when it has no such thing."""
        from confluent_kafka.schema_registry.error import SchemaRegistryError

        try:
            return question(*arguments)
        except SchemaRegistryError as error:
            if error.http_status_code == HTTPStatus.NOT_FOUND:
                return None
            raise QuanyuError(f"schema registry {self._url}: {what}: {error}") from None
        except Exception as error:
            # The client's HTTP layer raises its own connection errors, of a library we do not import.
            raise QuanyuError(
                f"schema registry {self._url} cannot be reached: {error}; is "
                "QUANYU_SCHEMA_REGISTRY_URL right?"
            ) from None
