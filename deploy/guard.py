"""Before every route of the gateway: how often a key may ask; a line in the people's log for who is refused.

The log is ``action.outcomes``: what people did stands there already, each action with who, in which role, what
came of it; a refusal for its key (401) or its role (403) gets a line of kind ``access``. No line holds what a
stranger typed: the route is its pattern, the object an id of ours, a code is a known person's.
"""

import hashlib
import math
import re
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from connectors.refusal import Refused
from connectors.signature import SIGNATURE_HEADER
from deploy.people import People
from schemas.channels import channel_names

#: Requests a second of one key for ever, and how many may come at once. A channel with more to say sends arrays
#: of up to 1,000 reports.
RATE, BURST = 200.0, 1_000.0
#: Keys whose rate is remembered; a stranger with many only forgets others like it.
REMEMBERED = 10_000
#: Lines of refusals a second for ever and at once: who tries keys by the million must not fill the log.
LINES, LINES_BURST = 2.0, 50.0
#: What an object of ours is called: ids, and codes of units.
_OBJECT = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}|[A-Z0-9]{2,20}(?:-[A-Z0-9]{1,20}){1,3}")


@dataclass(slots=True)
class _Bucket:
    left: float
    at: float


class Buckets:
    """Token buckets by name: ``rate`` a second for ever, ``burst`` at once."""

    def __init__(
        self,
        rate: float,
        burst: float,
        limit: int = REMEMBERED,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rate, self._burst, self._limit, self._clock = rate, burst, limit, clock
        self._known: OrderedDict[str, _Bucket] = OrderedDict()

    def take(self, name: str) -> float:
        """0 when one more may pass, else the seconds after which one may."""
        now = self._clock()
        bucket = self._known.pop(name, None) or _Bucket(self._burst, now)
        bucket.left = min(self._burst, bucket.left + (now - bucket.at) * self._rate)
        bucket.at = now
        self._known[name] = bucket
        if len(self._known) > self._limit:
            self._known.popitem(last=False)
        if bucket.left < 1:
            return (1 - bucket.left) / self._rate
        bucket.left -= 1
        return 0.0


def too_often(buckets: Buckets, request: Request) -> Response | None:
    """429 for a key that asks too often; None lets it in. Who has no key is refused later, or may ask."""
    headers = request.headers
    if key := headers.get("x-api-key", ""):
        name = hashlib.sha256(key.encode()).hexdigest()
    elif headers.get(SIGNATURE_HEADER):
        # A signature is new each time. Who forges them for a channel must not hold up its sender.
        name = f"{request.url.path} {request.client.host if request.client else ''}"
    else:
        return None
    wait = buckets.take(name)
    if not wait:
        return None
    refused = Refused(
        429, "rate", f"more than {RATE:g} requests a second with one key; send arrays, or come later",
        headers={"Retry-After": str(math.ceil(wait))},
    )  # fmt: skip
    return JSONResponse(
        refused.body.model_dump(exclude_none=True), refused.status, headers=refused.headers
    )


def nobody(people: People, request: Request) -> Response | None:
    """401 for who acts without being anybody; None lets it in. Asked before a body is read."""
    first = request.url.path.strip("/").partition("/")[0]
    if first not in ("desk", "orders") or people.find(request.headers.get("x-api-key", "")):
        return None
    refused = Refused(401, "key", "X-API-Key is missing or nobody's; see quanyu people add")
    return JSONResponse(refused.body.model_dump(exclude_none=True), refused.status)


class Refusals:
    """Writes who was refused into the people's log, at most so many lines; what is left out is counted."""

    def __init__(self, write: Callable[..., None]) -> None:
        self._write = write
        self._lines = Buckets(LINES, LINES_BURST)
        self._left_out = 0

    def told(self, request: Request, status: int) -> None:
        """Take note of an answer; only 401 and 403 are refusals of somebody."""
        if status not in (401, 403):
            return
        if self._lines.take(""):
            self._left_out += 1
            return
        who = getattr(request.state, "person", None)
        channel = _channel(request)
        route: Any = request.scope.get("route")
        # Nobody came as far as a route: then the path's first part, which is one of ours.
        path = getattr(route, "path", "") or f"/{request.url.path.strip('/').partition('/')[0]}/…"
        more = f"{self._left_out} more refusals were not written" if self._left_out else ""
        self._left_out = 0
        self._write(
            kind="access",
            action=f"{request.method} {path}"[:100],
            target=_object(request),
            outcome="refused",
            reason="key" if status == 401 else "role",
            detail=more,
            actor=who.code if who else f"channel:{channel}" if channel else "unknown",
            role=who.role if who else "",
        )


def _channel(request: Request) -> str:
    name = str(request.path_params.get("name", ""))
    return name if name in channel_names() else ""


def _object(request: Request) -> str:
    for value in request.path_params.values():
        if isinstance(value, str) and _OBJECT.fullmatch(value):
            return value
    return ""
