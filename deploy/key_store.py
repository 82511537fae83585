"""Keys of channels and people as an operator handles them: list, add, rotate, revoke."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from deploy.people import read_people, write_person_keys
from schemas.channels import load_channels
from schemas.errors import QuanyuError
from schemas.keys import (
    Key,
    digest_of,
    last_used,
    new_key,
    read_channel_keys,
    used_path,
    write_channel_keys,
)
from schemas.settings import Settings

DAY_MS = 24 * 3600 * 1000


@dataclass(frozen=True, slots=True)
class Held:
    """One key as it is listed; ``owner`` is ``channel:NAME`` or ``person:CODE``. Instants in ms."""

    id: str
    owner: str
    role: str
    state: str
    hashed: bool
    created_at: int
    expires_at: int | None
    last_used_at: int | None


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose keys: read and write them."""

    name: str
    role: str
    signs: bool
    keys: list[Key]
    write: Callable[[list[Key]], None]


def owners(settings: Settings) -> list[Owner]:
    """Every channel that pushes and every person; :class:`QuanyuError` when a file is broken."""
    channels = read_channel_keys(settings.keys_path)
    found = []
    for name, spec in load_channels().items():
        http = spec.transports.http
        if http is None and name not in channels:
            continue

        def write(keys: list[Key], name: str = name) -> None:
            write_channel_keys(settings.keys_path, name, keys)

        signs = http is not None and http.signed
        found.append(Owner(f"channel:{name}", "channel", signs, channels.get(name, []), write))
    for person in read_people(settings.people_path):

        def write_person(keys: list[Key], code: str = person.code) -> None:
            write_person_keys(settings.people_path, code, keys)

        keys = person.all_keys
        found.append(Owner(f"person:{person.code}", person.role, False, keys, write_person))
    return found


def owner(settings: Settings, channel: str, person: str) -> Owner:
    """The channel or the person that was named, exactly one of both."""
    if bool(channel) == bool(person):
        raise QuanyuError("name whose key: --channel NAME or --person CODE")
    wanted = f"channel:{channel}" if channel else f"person:{person}"
    known = owners(settings)
    for one in known:
        if one.name == wanted:
            return one
    kind, _, name = wanted.partition(":")
    names = ", ".join(o.name.partition(":")[2] for o in known if o.name.startswith(kind))
    more = "; see quanyu people add --help" if person else ""
    raise QuanyuError(f"no {kind} {name[:60]!r} has keys; known: {names or 'none'}{more}")


def listed(settings: Settings) -> list[Held]:
    """Every key that is on file."""
    used = {
        **last_used(used_path(settings.keys_path)),
        **last_used(used_path(settings.people_path)),
    }
    now = _now()
    return [
        Held(
            key.id, one.name, one.role, key.state(now), bool(key.sha256), key.created_at,
            key.expires_at, used.get(key.id),
        )
        for one in owners(settings)
        for key in one.keys
    ]  # fmt: skip


def add(one: Owner, days: int | None) -> tuple[Key, str]:
    """One more key beside those that there are; the key's text is told once."""
    ends = _now() + days * DAY_MS if days is not None else None
    key, text = new_key(signs=one.signs, expires_at=ends)
    one.write([*one.keys, key])
    return key, text


def rotate(one: Owner, overlap_h: float, days: int | None) -> tuple[Key, str, list[Key]]:
    """A new key; those that hold now end after the overlap. Returns the ending ones too."""
    now = _now()
    end = now + int(overlap_h * 3600 * 1000)
    kept, ending = [], []
    for key in one.keys:
        if key.holds(now) and (key.expires_at is None or key.expires_at > end):
            key = key.model_copy(update={"expires_at": end})
            ending.append(key)
        kept.append(key)
    ends = now + days * DAY_MS if days is not None else None
    key, text = new_key(signs=one.signs, expires_at=ends)
    # Senders of this machine use the first that they can read.
    one.write([key, *kept])
    return key, text, ending


def revoke(settings: Settings, identity: str) -> Owner:
    """A key opens nothing from now on; whose it was."""
    for one in owners(settings):
        if identity in {key.id for key in one.keys}:
            gone = {"revoked_at": _now(), "secret": ""}
            one.write([_gone(k, gone) if k.id == identity else k for k in one.keys])
            return one
    raise QuanyuError(f"no key {identity[:20]!r}; see quanyu keys list")


def _gone(key: Key, change: dict[str, object]) -> Key:
    return key.model_copy(update={**change, "sha256": key.sha256 or digest_of(key.secret)})


def _now() -> int:
    return int(time.time() * 1000)
