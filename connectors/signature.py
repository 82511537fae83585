"""Signed webhooks: an HMAC over the time and the very bytes sent, good for minutes and for one *yes*.

``X-Quanyu-Timestamp`` is the unix time in seconds, ``X-Quanyu-Signature`` is ``v1=`` and the hex HMAC-SHA256,
keyed with the channel's secret, of the timestamp's digits, a full stop and the body. So a request that was
overheard proves nothing about another body, is of no use after :data:`WINDOW_S`, and of none at all
once it was taken. What is remembered is one process's: after a restart, or at another replica, a repetition
inside the window passes, and intake recognises its reports as duplicates by their ids.
"""

import contextlib
import hashlib
import heapq
import hmac
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence

TIMESTAMP_HEADER = "X-Quanyu-Timestamp"
SIGNATURE_HEADER = "X-Quanyu-Signature"
#: Seconds between the sender's clock and ours: clocks of partners drift, and slow lines take time.
WINDOW_S = 300
#: Signatures remembered at once, some 200 bytes each: 1,000 requests a second over the whole window.
REMEMBERED_LIMIT = 300_000
# One way to write each, so that what was used cannot come again in another spelling.
_TIMESTAMP = re.compile(r"[1-9][0-9]{0,11}")
_SIGNATURE = re.compile(r"v1=[0-9a-fA-F]{64}")


class BadSignature(Exception):
    """The request proves nothing; ``reason`` is ``signature``, ``timestamp`` or ``replayed``."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class NotNow(Exception):
    """The signature is good, and its request can be answered only later; send the same again."""


def sign(secret: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The headers that prove a body; ``timestamp`` is now, in seconds since 1970.

    A repetition of a request that got no answer is signed anew.
    """
    digest = _digest(secret, str(timestamp), body)
    return {TIMESTAMP_HEADER: str(timestamp), SIGNATURE_HEADER: f"v1={digest.hex()}"}


def timely(timestamp: str | None, signature: str | None, now: float) -> None:
    """Check what can be checked before the body is there; raises :class:`BadSignature`."""
    if not _SIGNATURE.fullmatch(signature or ""):
        raise BadSignature(
            "signature", f"{SIGNATURE_HEADER} is missing or not v1= and 64 hexadecimal digits"
        )
    if not _TIMESTAMP.fullmatch(timestamp or ""):
        raise BadSignature("timestamp", f"{TIMESTAMP_HEADER} is missing or no unix time in seconds")
    if abs(now - int(timestamp or "")) > WINDOW_S:
        raise BadSignature(
            "timestamp",
            f"{TIMESTAMP_HEADER} is more than {WINDOW_S} s from now, {int(now)}; sign with the time of "
            "sending",
        )


def verified(secrets: Sequence[str], timestamp: str, signature: str, body: bytes) -> bytes:
    """The digest of a signature that one of the secrets made; raises :class:`BadSignature`.

    Takes the same time whatever is wrong.
    """
    given = bytes.fromhex(signature.removeprefix("v1="))
    good = [hmac.compare_digest(_digest(secret, timestamp, body), given) for secret in secrets]
    if not any(good):
        raise BadSignature("signature", f"{SIGNATURE_HEADER} is not made with this channel's key")
    return given


def signer(secrets: Sequence[str], timestamp: str, digest: bytes, body: bytes) -> str:
    """Which of the secrets made a verified digest."""
    made = (s for s in secrets[:-1] if hmac.compare_digest(_digest(s, timestamp, body), digest))
    return next(made, secrets[-1])


def _digest(secret: str, timestamp: str, body: bytes) -> bytes:
    made = hmac.new(secret.encode(), digestmod=hashlib.sha256)
    made.update(f"{timestamp}.".encode())
    made.update(body)
    return made.digest()


class Replays:
    """Signatures that led to a *yes*, for as long as they would be good; used by any thread."""

    def __init__(
        self, limit: int = REMEMBERED_LIMIT, clock: Callable[[], float] = time.monotonic
    ) -> None:
        # Not the time of day: a clock that is set back must not make what was used good again.
        self._limit, self._clock = limit, clock
        self._lock = threading.Lock()
        self._under_way: set[bytes] = set()
        self._used: set[bytes] = set()
        self._ends: list[tuple[float, bytes]] = []

    @contextlib.contextmanager
    def once(self, digest: bytes, lifetime_s: float) -> Iterator[None]:
        """Use a signature that is good for so long; used up when the block ends without exception.

        Raises :class:`BadSignature` when it was used before; :class:`NotNow` while another request uses
        it, or when so many are remembered that another could be forgotten.
        """
        with self._lock:
            self._forget()
            if digest in self._used:
                raise BadSignature(
                    "replayed", "this very request was taken before; sign a repetition anew"
                )
            if digest in self._under_way:
                raise NotNow("this very request is under way")
            if len(self._used) + len(self._under_way) >= self._limit:
                raise NotNow("too many signed requests within minutes")
            self._under_way.add(digest)
        try:
            yield
        except BaseException:
            with self._lock:
                self._under_way.remove(digest)
            raise
        with self._lock:
            self._under_way.remove(digest)
            self._used.add(digest)
            heapq.heappush(self._ends, (self._clock() + lifetime_s, digest))

    def __len__(self) -> int:
        return len(self._used)

    def _forget(self) -> None:
        now = self._clock()
        while self._ends and self._ends[0][0] < now:
            self._used.remove(heapq.heappop(self._ends)[1])
