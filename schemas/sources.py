"""Where the channels' sources are: addresses and their secrets, apart from the specs.

One JSON file, channel → transport → address (``{"hotline12345": {"sql": "postgresql+psycopg://…"}}``),
readable by its owner only; ``QUANYU_SOURCES_FILE`` names it, else it is ``<home>/sources.json``, which
``quanyu up`` fills with the embedded stack's own. A transport without an address is not in service.
"""

import json

from pydantic import TypeAdapter, ValidationError

from schemas.channels import load_channels
from schemas.errors import QuanyuError
from schemas.settings import Settings

_SOURCES = TypeAdapter(dict[str, dict[str, str]])


def load_sources(settings: Settings) -> dict[str, dict[str, str]]:
    """Channel → transport → address. A missing file is no source; a wrong one is a QuanyuError."""
    path = settings.sources_path
    try:
        found = _SOURCES.validate_json(path.read_bytes(), strict=True)
    except FileNotFoundError:
        return {}
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "document"
        raise QuanyuError(
            f"{path}: {where}: {first['msg']}; write {{channel: {{transport: address}}}}"
        ) from None
    for channel, transports in found.items():
        spec = load_channels().get(channel)
        for transport in transports:
            if spec is None or transport not in spec.transports.names:
                raise QuanyuError(f"{path}: {channel}.{transport}: no channel has this transport")
    return found


def embedded_sources(settings: Settings) -> dict[str, dict[str, str]]:
    """Sources of the embedded stack: databases and folders in the home, its MQTT broker."""
    home = settings.home.resolve()
    found: dict[str, dict[str, str]] = {}
    for name, spec in load_channels().items():
        addresses = {
            "sql": f"sqlite:///{home}/feeds/{name}.db",
            "file": str(home / "drop" / name),
            "mqtt": f"mqtt://127.0.0.1:{settings.mqtt_port}",
        }
        found[name] = {t: a for t, a in addresses.items() if t in spec.transports.names}
    return {name: addresses for name, addresses in found.items() if addresses}


def dump_sources(sources: dict[str, dict[str, str]]) -> str:
    """The file's text."""
    return json.dumps(sources, ensure_ascii=False, indent=1)
