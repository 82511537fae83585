"""A photo in words, by an OpenAI-compatible endpoint: ``POST <vision_url>/chat/completions``.

Off unless ``QUANYU_VISION_URL`` is set. Whatever goes wrong there is a reason, never an error: who reports a
matter does not wait for it. Neither photo nor words are logged or kept.
"""

import asyncio
import base64
import json
from typing import NamedTuple

import httpx

from schemas.settings import Settings
from schemas.texts import clean
from streams.intake.privacy import mask

#: Photos under way at once; one more is told that the endpoint is busy.
CONCURRENT = 4
#: A description is two sentences; an endpoint that sends more is not listened to.
ANSWER_LIMIT = 256 * 1024
DESCRIPTION_LIMIT = 500
TOKENS = 200
#: First bytes → media type of the photos that telephones send.
_KINDS = (
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
)


class Described(NamedTuple):
    """``state`` is described or unavailable; then ``reason`` says why in a word or two."""

    state: str
    reason: str = ""
    text: str = ""


class _Unusable(Exception):
    """The endpoint answered with nothing usable; carries the reason."""


def media_type(photo: bytes) -> str:
    """What kind of image the bytes are by their first ones; empty when of none that is taken."""
    if photo[:4] == b"RIFF" and photo[8:12] == b"WEBP":
        return "image/webp"
    return next((kind for start, kind in _KINDS if photo.startswith(start)), "")


class Vision:
    """The configured endpoint, or none."""

    def __init__(self, settings: Settings, prompt: str) -> None:
        self._settings = settings
        self._prompt = prompt
        self._asked = 0
        key = settings.vision_key
        self._client = httpx.AsyncClient(
            headers={"Authorization": f"Bearer {key.get_secret_value()}"} if key else {},
            # A photo goes where the settings say and nowhere else.
            follow_redirects=False,
            trust_env=False,
        )

    async def describe(self, photo: bytes) -> Described:
        """The photo in words without personal data, within ``vision_timeout_s``."""
        if not self._settings.vision_url:
            return Described("unavailable", "not_configured")
        if self._asked >= CONCURRENT:
            return Described("unavailable", "busy")
        self._asked += 1
        try:
            async with asyncio.timeout(self._settings.vision_timeout_s):
                text = mask(clean(await self._ask(photo))[:DESCRIPTION_LIMIT]).text
        except TimeoutError:
            return Described("unavailable", "timeout")
        except _Unusable as error:
            return Described("unavailable", str(error))
        except (httpx.HTTPError, httpx.InvalidURL, OSError):
            return Described("unavailable", "no_connection")
        finally:
            self._asked -= 1
        return Described("described", text=text) if text else Described("unavailable", "no_words")

    async def _ask(self, photo: bytes) -> str:
        data = f"data:{media_type(photo)};base64,{base64.b64encode(photo).decode()}"
        question = {
            "model": self._settings.vision_model,
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": self._prompt},
                        {"type": "image_url", "image_url": {"url": data}},
                    ],
                }
            ],
            "max_tokens": TOKENS,
            "temperature": 0,
        }
        url = f"{str(self._settings.vision_url).rstrip('/')}/chat/completions"
        body = b""
        # The time limit is that of the whole description, not of a single read.
        async with self._client.stream("POST", url, json=question, timeout=None) as answer:
            if answer.status_code != 200:
                raise _Unusable(f"http_{answer.status_code}")
            async for part in answer.aiter_bytes():
                body += part
                if len(body) > ANSWER_LIMIT:
                    raise _Unusable("answer_too_long")
        try:
            words = json.loads(body)["choices"][0]["message"]["content"]
        except (ValueError, LookupError, TypeError, RecursionError):
            raise _Unusable("answer_not_understood") from None
        if not isinstance(words, str):
            raise _Unusable("answer_not_understood")
        return words
