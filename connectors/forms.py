"""A form as a native message: its fields by name, its files by what they are (their SHA-256).

A field that stands several times is a list, so none is lost. Files become
``{"sha256", "url", "name", "size"}``, photos with ``"phash"`` beside, in the field that the channel maps as
media, whatever their part is called; their bytes go to
``<home>/media/<first two digits>/<sha256>``, where a file that was sent twice lies once.
"""

import contextlib
import hashlib
import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from python_multipart.multipart import Field, File, FormParser, parse_options_header

from connectors.photo_hash import FILE_LIMIT, perceptual_hash
from connectors.refusal import Refused
from schemas.channels import ChannelSpec

URLENCODED = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data"
FORM_TYPES = (URLENCODED, MULTIPART)
#: A whole form, files included: nine photos as telephones send them. Held in memory.
FORM_LIMIT = 32 * 1024 * 1024
#: Bytes of what is not files, as much as a body of JSON may have.
TEXT_LIMIT = 6 * 1024 * 1024
FIELDS_LIMIT = 200
NAME_LIMIT = 200


@dataclass(slots=True)
class Form:
    """One form: the native message, and the files' bytes by their SHA-256."""

    native: dict[str, Any] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)


def read_form(spec: ChannelSpec, body: bytes, content_type: str) -> Form:
    """Read a body of one of :data:`FORM_TYPES`; raises :class:`Refused` naming field and file."""
    if content_type.partition(";")[0].strip().lower() == URLENCODED:
        return _urlencoded(body)
    _, options = parse_options_header(content_type)
    boundary = options.get(b"boundary")
    if not boundary:
        raise Refused(400, "malformed_form", "Content-Type says no boundary of the form's parts")
    return _Reader(spec).read(body, boundary)


def _urlencoded(body: bytes) -> Form:
    if len(body) > TEXT_LIMIT:
        raise Refused(413, "body_too_large", f"the form is larger than {TEXT_LIMIT} bytes")
    form = Form()
    try:
        pairs = parse_qsl(
            body.decode("utf-8"),
            keep_blank_values=True,
            errors="strict",
            max_num_fields=FIELDS_LIMIT,
        )
    except UnicodeDecodeError:
        raise Refused(400, "encoding", "the form is not UTF-8") from None
    except ValueError:
        raise Refused(413, "too_many", f"more than {FIELDS_LIMIT} fields") from None
    for name, value in pairs:
        _put(form.native, name, value)
    return form


def _put(native: dict[str, Any], name: str, value: Any) -> None:
    if name not in native:
        native[name] = value
    elif isinstance(native[name], list):
        native[name].append(value)
    else:
        native[name] = [native[name], value]


class _Reader:
    """Reads one multipart form."""

    def __init__(self, spec: ChannelSpec) -> None:
        media = spec.fields.get("media")
        self._media = media[0] if isinstance(media, list) else media
        http = spec.transports.http
        self._limit = http.media_limit if http and self._media else 0
        self._form, self._fields, self._text, self._ended = Form(), 0, 0, False
        self._media_items: list[dict[str, Any]] = []

    def read(self, body: bytes, boundary: bytes) -> Form:
        try:
            parser = FormParser(
                MULTIPART,
                self._field,
                self._file,
                self._end,
                boundary=boundary,
                config={
                    # The whole body is in memory already; a temporary file would only be a copy of it.
                    "MAX_MEMORY_FILE_SIZE": float("inf"),
                    "UPLOAD_ERROR_ON_BAD_CTE": True,
                },
            )
            parser.write(body)
            parser.finalize()
        except UnicodeDecodeError:
            raise Refused(400, "encoding", "a field or a name of the form is not UTF-8") from None
        except ValueError as error:
            raise Refused(400, "malformed_form", f"not a form in parts: {error}"[:300]) from None
        if not self._ended:
            # Without its last boundary a form is cut off, and the part that it ends in with it.
            raise Refused(400, "malformed_form", "the form ends before its last boundary")
        if self._media_items and self._media:
            texts = self._form.native.get(self._media) or []
            self._form.native[self._media] = [
                *(texts if isinstance(texts, list) else [texts]),
                *self._media_items,
            ]
        return self._form

    def _field(self, part: Field) -> None:
        self._count()
        name, value = (part.field_name or b"").decode(), (part.value or b"").decode()
        self._text += len(value)
        if self._text > TEXT_LIMIT:
            raise Refused(
                413, "body_too_large", f"the form's text is larger than {TEXT_LIMIT} bytes", name
            )
        _put(self._form.native, name, value)

    def _file(self, part: File) -> None:
        self._count()
        name = (part.file_name or b"").decode()
        if not name and not part.size:
            return  # a file input that nobody filled
        index = len(self._media_items)
        if index >= self._limit:
            raise Refused(
                400, "media_limit", f"at most {self._limit} files", self._media, self._limit
            )
        if part.size > FILE_LIMIT:
            raise Refused(
                413, "file_too_large", f"a file is larger than {FILE_LIMIT} bytes",
                self._media, index,
            )  # fmt: skip
        part.file_object.seek(0)
        data = part.file_object.read()
        digest = hashlib.sha256(data).hexdigest()
        self._form.files[digest] = data
        item = {"sha256": digest, "url": "", "name": name[:NAME_LIMIT], "size": len(data)}
        if look := perceptual_hash(data):
            item["phash"] = look
        self._media_items.append(item)

    def _count(self) -> None:
        self._fields += 1
        if self._fields > FIELDS_LIMIT:
            raise Refused(413, "too_many", f"more than {FIELDS_LIMIT} fields and files")

    def _end(self) -> None:
        self._ended = True


def keep(home: Path, files: dict[str, bytes]) -> None:
    """Keep files under their SHA-256, each whole and on the disk when this returns.

    Raises :class:`Refused` (507) when the disk does not take them; what is kept by then stays, and a
    repetition finds it.
    """
    try:
        for digest, data in files.items():
            _keep(home / "media" / digest[:2] / digest, data)
    except OSError as error:
        raise Refused(
            507, "no_room", f"the files cannot be kept ({error.strerror}); nothing was taken"
        ) from None


def _keep(path: Path, data: bytes) -> None:
    folders = (path.parent.parent, path.parent)
    for folder in folders:
        # People's photos: for the owner of the installation only.
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not path.exists():
        draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        try:
            with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
                out.write(data)
                out.flush()
                os.fsync(out.fileno())
            draft.replace(path)
        except OSError:
            with contextlib.suppress(OSError):
                draft.unlink()
            raise
    # Also when it lay there: whoever put it there may have died before its name was on the disk.
    for folder in (folders[0].parent, *folders):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
