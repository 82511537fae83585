"""Texts as they come, made comparable. Pure."""

import re
import unicodedata

#: Control characters (NUL included), private use and bidirectional marks: never part of a matter.
_HIDDEN = re.compile(
    r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff\ue000-\uf8ff]"
)
_SPACE = re.compile(r"\s+")
_PLAIN = re.compile(r"[\x21-\x7e\u4e00-\u9fa5]*\Z")


def clean(text: str | None) -> str:
    """NFKC (full-width digits and letters become plain), hidden characters out, white space single."""
    if not text:
        return ""
    if _PLAIN.match(text):
        return text
    text = unicodedata.normalize("NFKC", _HIDDEN.sub("", text))
    return _SPACE.sub(" ", text).strip()
