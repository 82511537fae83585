"""How each channel's own system hands its reports over: rows, messages, files, posts.

A feeder's ``deliver`` yields reports as soon as the transport has accepted them: the commit, the PUBACK, the
rename, the 202. It raises :class:`NotAccepted` when the rest is to be tried again, which repeats native ids
and nothing else.
"""

import json
import os
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import count, groupby
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import parse_qs, urlsplit
from zoneinfo import ZoneInfo

import httpx
import openpyxl
import paho.mqtt.client as mqtt
import sqlalchemy as sa
from paho.mqtt.enums import CallbackAPIVersion

from connectors.signature import sign
from connectors.simulator.report import Report
from schemas.access import own_http_tls
from schemas.channels import ChannelSpec, SqlTransport, load_channel
from schemas.errors import QuanyuError
from schemas.keys import Keys
from schemas.settings import Settings

#: Reports of one request; the interface takes 1,000.
REQUEST = 500
#: Forms posted one by one of what is due at once; a busier window's server sends the rest together.
FORMS = 5
#: A whole request, or the acknowledgement of every message of a delivery.
TIMEOUT_S = 30.0


class NotAccepted(Exception):
    """What was not yielded is not promised; send it again."""


class Feeder(Protocol):
    """One channel's sender; used by one thread."""

    def deliver(self, reports: Sequence[Report]) -> Iterator[Sequence[Report]]:
        """Reports in the order given, as they are accepted; see the module."""

    def close(self) -> None:
        """Release connections."""


class HttpFeeder:
    """Pushes arrays of reports, signed or with the channel's key; forms where the channel takes them."""

    def __init__(self, settings: Settings, spec: ChannelSpec) -> None:
        keys = Keys(settings.keys_path).of(spec.name)
        if not keys or spec.transports.http is None:
            raise QuanyuError(
                f"{settings.keys_path}: no key of {spec.name}; start the stack: quanyu up"
            )
        self._spec, self._key = spec, keys[0]
        self._signed, self._form = spec.transports.http.signed, spec.transports.http.form
        self._client = httpx.Client(
            base_url=settings.screen_url,
            timeout=TIMEOUT_S,
            trust_env=False,
            verify=own_http_tls(settings),
        )
        self._path = f"/channels/{spec.name}/reports"

    def deliver(self, reports: Sequence[Report]) -> Iterator[Sequence[Report]]:
        """See :class:`Feeder`."""
        if self._form:
            for report in reports[:FORMS]:
                self._post_form(report)
                yield [report]
            reports = reports[FORMS:]
        for start in range(0, len(reports), REQUEST):
            part = reports[start : start + REQUEST]
            natives = [report.native for report in part]
            body = json.dumps(natives, ensure_ascii=False).encode()
            proof = (
                sign(self._key, int(time.time()), body)
                if self._signed
                else {"X-API-Key": self._key}
            )
            headers = {"Content-Type": "application/json", **proof}
            self._post(content=body, headers=headers)
            yield part

    def close(self) -> None:
        """See :class:`Feeder`."""
        self._client.close()

    def _post_form(self, report: Report) -> None:
        fields = {name: text for name, text in report.native.items() if isinstance(text, str)}
        files = [
            ("attachments", (f"{place}.jpg", content, "image/jpeg"))
            for place, content in enumerate(report.files)
        ]
        self._post(data=fields, files=files or None, headers={"X-API-Key": self._key})

    def _post(self, **request: Any) -> None:
        try:
            answer = self._client.post(self._path, **request)
        except httpx.HTTPError as error:
            raise NotAccepted(f"{type(error).__name__}: {error}") from None
        if answer.status_code == httpx.codes.ACCEPTED:
            return
        problem = f"{answer.status_code} {answer.text[:200]}"
        if answer.status_code in (408, 429, 507) or answer.status_code >= 500:
            raise NotAccepted(problem)
        raise QuanyuError(f"{self._spec.name}: refused: {problem}")


class SqlFeeder:
    """Inserts rows into the channel's table, as its system does; makes the table when it is not there."""

    def __init__(self, spec: ChannelSpec, address: str, zone: str) -> None:
        assert spec.transports.sql is not None, "only for channels with a table"
        self._sql: SqlTransport = spec.transports.sql
        self._zone = ZoneInfo(zone)
        url = sa.make_url(address)
        options: dict[str, Any] = {}
        if url.get_backend_name() == "sqlite":
            Path(url.database or "").parent.mkdir(parents=True, exist_ok=True)
            options = {"connect_args": {"timeout": TIMEOUT_S}}
        self._engine = sa.create_engine(url, hide_parameters=True, **options)
        self._key = spec.native_id if isinstance(spec.native_id, str) else spec.native_id[0]
        self._table: sa.Table | None = None

    def deliver(self, reports: Sequence[Report]) -> Iterator[Sequence[Report]]:
        """See :class:`Feeder`."""
        try:
            if self._table is None:
                self._table = self._made(reports[0].native)
            try:
                self._insert(self._table, [report.native for report in reports])
            except sa.exc.IntegrityError:
                # After a commit of which nobody heard, some rows are there.
                self._insert(self._table, self._absent(self._table, reports))
        except sa.exc.DBAPIError as error:
            raise NotAccepted(str(error.orig)) from None
        yield reports

    def _insert(self, table: sa.Table, natives: Sequence[dict[str, Any]]) -> None:
        if not natives:
            return
        with self._engine.begin() as connection:
            # What other systems go by, so the time of the commit, as near as can be.
            now = datetime.now(self._zone).replace(tzinfo=None)
            rows = [native | {self._sql.watermark: now} for native in natives]
            connection.execute(table.insert(), rows)

    def _absent(self, table: sa.Table, reports: Sequence[Report]) -> list[dict[str, Any]]:
        key = table.c[self._key]
        with self._engine.connect() as connection:
            wanted = sa.select(key).where(key.in_([report.native_id for report in reports]))
            known = set(connection.scalars(wanted))
        return [report.native for report in reports if report.native_id not in known]

    def close(self) -> None:
        """See :class:`Feeder`."""
        self._engine.dispose()

    def _made(self, row: dict[str, Any]) -> sa.Table:
        schema, _, name = self._sql.table.rpartition(".")
        columns = [
            sa.Column(field, _column_type(field, value), primary_key=field == self._key)
            for field, value in row.items()
        ]
        watermark = sa.Column(self._sql.watermark, sa.DateTime, nullable=False, index=True)
        table = sa.Table(name, sa.MetaData(), *columns, watermark, schema=schema or None)
        table.create(self._engine, checkfirst=True)
        return table


def _column_type(field: str, value: Any) -> sa.types.TypeEngine[Any]:
    if isinstance(value, bool):
        return sa.Boolean()
    if field in ("lng", "lat", "x", "y"):
        return sa.Float(53)
    return sa.Text() if field in ("main_content", "event_desc") else sa.String(200)


class MqttFeeder:
    """Publishes with QoS 1; reports of one group are one message, as a device sends after an outage."""

    def __init__(self, spec: ChannelSpec, address: str) -> None:
        assert spec.transports.mqtt is not None, "only for channels with topics"
        # A device speaks on its own level of the first filter.
        self._topic = spec.transports.mqtt.topics[0]
        url = urlsplit(address)
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2)
        if url.username:
            self._client.username_pw_set(url.username, url.password)
        if url.scheme == "mqtts":
            given = {name: values[0] for name, values in parse_qs(url.query).items()}
            self._client.tls_set(given.get("cafile"), given.get("certfile"), given.get("keyfile"))
        self._client.max_queued_messages_set(0)
        self._client.max_inflight_messages_set(500)
        self._client.on_publish = self._acknowledged
        self._pending: set[int] = set()
        self._early: set[int] = set()
        self._changed = threading.Condition()
        self._address = (url.hostname or "127.0.0.1", url.port or 1883)
        self._connected = self._waiting = False

    def deliver(self, reports: Sequence[Report]) -> Iterator[Sequence[Report]]:
        """See :class:`Feeder`. What was published is sent again by the client itself until acknowledged."""
        if not self._connected:
            try:
                self._client.connect(*self._address)
            except OSError as error:
                raise NotAccepted(f"{self._address[0]}:{self._address[1]}: {error}") from None
            self._client.loop_start()
            self._connected = True
        if not self._waiting:
            self._waiting = True
            for _, together in groupby(reports, key=lambda r: r.group or r.native_id):
                natives = [report.native for report in together]
                payload = json.dumps(
                    natives if len(natives) > 1 else natives[0], ensure_ascii=False
                )
                topic = self._topic.replace("+", natives[0]["device_id"])
                self._published(self._client.publish(topic, payload.encode(), qos=1).mid)
        with self._changed:
            if not self._changed.wait_for(lambda: not self._pending, TIMEOUT_S):
                raise NotAccepted(f"{len(self._pending)} messages are not acknowledged")
        self._waiting = False
        yield reports

    def close(self) -> None:
        """See :class:`Feeder`."""
        self._client.disconnect()
        self._client.loop_stop()

    def _published(self, mid: int) -> None:
        with self._changed:
            if mid in self._early:
                self._early.remove(mid)
            else:
                self._pending.add(mid)

    def _acknowledged(self, _client: Any, _data: Any, mid: int, _code: Any, _props: Any) -> None:
        with self._changed:
            if mid in self._pending:
                self._pending.remove(mid)
            else:  # before publish() had returned
                self._early.add(mid)
            self._changed.notify()


class FileFeeder:
    """Drops whole files: letters as a spreadsheet, a sortie as GeoJSON."""

    def __init__(self, spec: ChannelSpec, address: str, run: str) -> None:
        self._folder, self._stem = Path(address), f"{spec.name}-{run}"
        self._number = count(1)

    def deliver(self, reports: Sequence[Report]) -> Iterator[Sequence[Report]]:
        """See :class:`Feeder`."""
        for group, together in groupby(reports, key=lambda report: report.group):
            part = list(together)
            natives = [report.native for report in part]
            name = f"{self._stem}-{group or format(next(self._number), '06d')}"
            try:
                self._folder.mkdir(parents=True, exist_ok=True)
                if group:
                    self._write(f"{name}.geojson", _feature_collection(natives))
                else:
                    self._write(f"{name}.xlsx", _spreadsheet(natives))
            except OSError as error:
                raise NotAccepted(f"{self._folder}: {error.strerror or error}") from None
            yield part

    def close(self) -> None:
        """See :class:`Feeder`."""

    def _write(self, name: str, content: bytes) -> None:
        """The file under its name only when it is whole and on disk."""
        draft = self._folder / f"{name}.part"
        with draft.open("wb") as out:
            out.write(content)
            out.flush()
            os.fsync(out.fileno())
        draft.rename(self._folder / name)


def _feature_collection(natives: Iterable[dict[str, Any]]) -> bytes:
    document = {"type": "FeatureCollection", "features": list(natives)}
    return json.dumps(document, ensure_ascii=False).encode()


def _spreadsheet(natives: Sequence[dict[str, Any]]) -> bytes:
    from io import BytesIO

    book = openpyxl.Workbook(write_only=True)
    sheet = book.create_sheet("letters")
    sheet.append(list(natives[0]))
    for native in natives:
        sheet.append(list(native.values()))
    out = BytesIO()
    book.save(out)
    return out.getvalue()


def feeder(
    settings: Settings,
    sources: dict[str, dict[str, str]],
    channel: str,
    *,
    zone: str,
    run: str,
) -> Feeder:
    """The sender of a channel; :class:`QuanyuError` says what is not in service."""
    spec = load_channel(channel)
    addresses = sources.get(channel, {})
    if "sql" in addresses:
        return SqlFeeder(spec, addresses["sql"], zone)
    if "mqtt" in addresses:
        return MqttFeeder(spec, addresses["mqtt"])
    if spec.transports.http is not None:
        return HttpFeeder(settings, spec)
    if "file" in addresses:
        return FileFeeder(spec, addresses["file"], run)
    raise QuanyuError(
        f"{settings.sources_path}: {channel} has no address; start the stack: quanyu up"
    )
