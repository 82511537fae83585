"""Texts and instants as they come, made comparable. Pure; what cannot be read is said, not guessed."""

import re
import unicodedata
from datetime import UTC, datetime

from schemas.instants import Instant

#: Control characters (NUL included), private use and bidirectional marks: never part of a matter.
_HIDDEN = re.compile(
    r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff\ue000-\uf8ff]"
)
_SPACE = re.compile(r"\s+")
_PLAIN = re.compile(r"[\x21-\x7e\u4e00-\u9fa5]*\Z")

#: A report cannot be about what lies further ahead than a clock may be wrong.
FUTURE_LIMIT_MS = 24 * 3600 * 1000
#: Before this a date is a default of some software (1900, 1970, 2000), not an observation.
EARLIEST_MS = int(datetime(2001, 1, 1, tzinfo=UTC).timestamp() * 1000)


def clean(text: str | None) -> str:
    """NFKC (full-width digits and letters become plain), hidden characters out, white space single."""
    if not text:
        return ""
    if _PLAIN.match(text):
        return text
    text = unicodedata.normalize("NFKC", _HIDDEN.sub("", text))
    return _SPACE.sub(" ", text).strip()


def plausible(instant: Instant, received_ms: int) -> bool:
    """Whether an instant can be when something occurred that was received at ``received_ms``."""
    return EARLIEST_MS <= instant.ms <= received_ms + FUTURE_LIMIT_MS
