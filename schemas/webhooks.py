"""Which systems are told of the steps of a unit's orders: addresses and secrets, apart from the duty list.

One JSON file, unit code → endpoint (``{"990105-CG": {"url": "https://…", "secret": "…"}}``), readable by its
owner only; ``QUANYU_WEBHOOKS_FILE`` names it, else it is ``<home>/webhooks.json``. A code that ends in ``*``
stands for every unit whose code begins so; the exact code goes first, then the longest beginning. A unit
without an entry is told nothing.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    StringConstraints,
    TypeAdapter,
    field_validator,
)

from schemas.documents import read_json
from schemas.keys import Watched

#: Bits of a file's mode that let others read it.
OTHERS = 0o077


class Endpoint(BaseModel):
    """One system that takes steps; ``actions`` limits them to some verbs of the life cycle."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str = Field(max_length=2000)
    secret: SecretStr = Field(min_length=16, max_length=200, description="Key of the signature.")
    actions: frozenset[str] | None = Field(default=None, min_length=1)

    @field_validator("url")
    @classmethod
    def _is_address(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
            raise ValueError("write http://host/path or https://host/path")
        if "@" in parts.netloc or parts.fragment or not url.isascii() or not url.isprintable():
            raise ValueError("no user, password, fragment or character outside ASCII is taken")
        return url

    @property
    def host(self) -> str:
        """Host and port: the part of the address that holds no secret."""
        return urlsplit(self.url).netloc


_ENDPOINTS = TypeAdapter(
    dict[Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.:-]{0,60}\*?$")], Endpoint]
)


def read_webhooks(path: Path) -> dict[str, Endpoint]:
    """Every endpoint by unit code, none when there is no file; a :class:`QuanyuError` names the field."""
    remedy = 'write {"UNIT": {"url": "https://…", "secret": "at least 16 characters"}}'
    return read_json(path, _ENDPOINTS, remedy) or {}


def readable_by_others(path: Path) -> bool:
    """Whether more people than its owner can read the file's secrets."""
    return path.exists() and bool(path.stat().st_mode & OTHERS)


def unit_entry(endpoints: Mapping[str, Endpoint], unit_code: str) -> str | None:
    """The entry that a unit's steps go to: its own, else the longest beginning with ``*``."""
    if unit_code in endpoints and not unit_code.endswith("*"):
        return unit_code
    fitting = [e for e in endpoints if e.endswith("*") and unit_code.startswith(e[:-1])]
    return max(fitting, key=len, default=None)


class Webhooks(Watched[dict[str, Endpoint]]):
    """The file's endpoints, read again when it changes; while it cannot be read, the last ones hold."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, read_webhooks)

    @property
    def endpoints(self) -> dict[str, Endpoint] | None:
        """None until the file could be read once: then nobody may be passed over."""
        return self.value
