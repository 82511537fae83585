"""MQTT: devices publish JSON to topics; each message is acknowledged when Kafka has it, not before.

Quality of service 1 and a session that the broker keeps: what was not acknowledged comes again, to the
next connection or after a ``kill -9``, and what is published while we are away waits there. Nothing is
read between two portions, so a slow Kafka holds back the broker, which holds the messages. A sender
that publishes with QoS 0 has chosen that its messages may be lost.

One connection has one client id: a second process with the same id takes the session away from the
first. Filters that a spec no longer names stay subscribed in a session that the broker keeps, and their
messages are taken. MQTT 5, and 3.1.1 where the broker knows no other.
"""

import contextlib
import json
import select
import ssl
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from connectors.files import CELL_LIMIT, json_document, json_entry
from connectors.mapping import Entry
from connectors.source import Portion, SourceError
from schemas.channels import ChannelSpec
from schemas.errors import QuanyuError
from schemas.settings import Settings

#: Messages and bytes taken from the connection at once; what else there is stays with the broker.
MESSAGES, SIZE = 1_000, 16 * 1024 * 1024
#: Entries of a portion; a message is never split, so it may have the entries of one array more.
ENTRIES = 1_000
#: Reports of one message, as in a push.
ARRAY_LIMIT = 1_000
#: A portion is complete when nothing came for so long.
SETTLE_S = 0.005
#: How long the broker may take for an answer, and how often it hears that we are there.
ANSWER_S, KEEPALIVE_S = 10.0, 30
#: The most that MQTT 5 allows to be on its way unacknowledged, and the expiry that means never.
IN_FLIGHT, NEVER = 65_535, 0xFFFF_FFFF
OPTIONS = ("cafile", "certfile", "keyfile", "client_id")
#: Reasons of a broker that will say the same the next time.
REFUSED = {
    "Bad user name or password",
    "Not authorized",
    "Banned",
    "Bad authentication method",
    "Client identifier not valid",
}
UNSUPPORTED = "Unsupported protocol version"
TAKEN = "Session taken over"


def open_source(_: Settings, spec: ChannelSpec, address: str) -> "MqttSource":
    """The channel's topics at ``mqtt://[user:password@]host[:1883][?client_id=…]`` or, with TLS,
    ``mqtts://[user:password@]host[:8883][?cafile=…&certfile=…&keyfile=…&client_id=…]``.

    The client id is ``quanyu-<channel>`` unless given: two installations at one broker need two.
    :class:`QuanyuError` for an address that is none, and for topic filters that overlap.
    """
    if spec.transports.mqtt is None:
        raise QuanyuError(f"channel {spec.name} has no transport mqtt")
    filters = sorted(set(spec.transports.mqtt.topics))
    for one, other in combinations(filters, 2):
        if overlap(one, other):
            # The broker may send such a message twice, and without an id it would count twice.
            raise QuanyuError(
                f"connectors/channels/{spec.name}.yaml: transports.mqtt.topics: {one} and {other} "
                "overlap; name each topic once"
            )
    broker = read_address(spec.name, address)
    try:
        return MqttSource(broker, filters, MQTTProtocolVersion.MQTTv5)
    except _OtherVersion:
        return MqttSource(broker, filters, MQTTProtocolVersion.MQTTv311)


@dataclass(frozen=True, slots=True)
class Broker:
    """Where a broker is and who we are there."""

    host: str
    port: int
    client_id: str
    user: str | None
    password: str | None
    tls: ssl.SSLContext | None


def read_address(channel: str, address: str) -> Broker:
    """An address as :func:`open_source` takes it; a :class:`QuanyuError` says no password."""
    where = f"source {channel}.mqtt"
    try:
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise QuanyuError(f"{where}: {error}") from None
    if parts.scheme not in ("mqtt", "mqtts") or not host or parts.path not in ("", "/"):
        raise QuanyuError(f"{where}: write mqtt://host:1883 or mqtts://host:8883")
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    for name in options:
        if name not in OPTIONS:
            raise QuanyuError(f"{where}: no option {name!r}; known: {', '.join(OPTIONS)}")
    tls = parts.scheme == "mqtts"
    if not tls and options.keys() - {"client_id"}:
        raise QuanyuError(f"{where}: certificates need mqtts://")
    return Broker(
        host=host,
        port=port or (8883 if tls else 1883),
        client_id=options.get("client_id") or f"quanyu-{channel}",
        user=unquote(parts.username) if parts.username else None,
        password=unquote(parts.password) if parts.password else None,
        tls=_tls(where, options) if tls else None,
    )


def _tls(where: str, options: dict[str, str]) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=options.get("cafile"))
        if "certfile" in options:
            context.load_cert_chain(options["certfile"], options.get("keyfile"))
    except (OSError, ValueError) as error:  # ssl.SSLError is one; a NUL in a path is the other
        named = ", ".join(f"{k}={v}" for k, v in options.items() if k != "client_id")
        why = getattr(error, "strerror", None) or error
        raise QuanyuError(f"{where}: {named}: {why}") from None
    return context


def overlap(one: str, other: str) -> bool:
    """Whether a topic can match both filters."""
    left, right = one.split("/"), other.split("/")
    for a, b in zip(left, right, strict=False):
        if "#" in (a, b):
            return True
        if a != b and "+" not in (a, b):
            return False
    # `a/#` matches `a` too.
    longer = left[len(right) :] or right[len(left) :]
    return longer in ([], ["#"])


def entries(topic: str | None, payload: bytes) -> list[Entry]:
    """A message's entries, numbered from 1: of one object or of an array of objects; at least one.

    Each has the topic as ``_topic`` unless it says that itself. ``topic`` None: it was not UTF-8.
    """
    if topic is None:
        return [_marked(1, payload, "encoding:the topic is not UTF-8")]
    found = _of_array(payload) if payload.lstrip()[:1] == b"[" else [json_entry(1, payload)]
    return [
        entry if entry.fields is None else Entry(entry.number, {"_topic": topic} | entry.fields)
        for entry in found
    ]


def _of_array(payload: bytes) -> list[Entry]:
    try:
        items = json_document(payload)
    except (ValueError, RecursionError):
        return [json_entry(1, payload)]  # says what is wrong
    if not 0 < len(items) <= ARRAY_LIMIT:
        return [_marked(1, payload, f"malformed:{len(items)} reports, 1 to {ARRAY_LIMIT} allowed")]
    return [
        Entry(n, item)
        if isinstance(item, dict)
        else _marked(n, json.dumps(item).encode(), "malformed:not an object")
        for n, item in enumerate(items, 1)
    ]


class _OtherVersion(Exception):
    """The broker does not speak this version of MQTT."""


class MqttSource:
    """One connection; when it is lost the source ends, and what was not confirmed comes to the next."""

    def __init__(
        self, broker: Broker, filters: Sequence[str], version: MQTTProtocolVersion
    ) -> None:
        self._broker = broker
        self._origin = f"{broker.host}:{broker.port}"
        self._arrived: deque[paho.MQTTMessage] = deque()
        self._size = 0
        self._open: Portion | None = None
        self._welcome: ReasonCode | None = None
        self._granted: list[ReasonCode] | None = None
        self._farewell = ""
        five = version == MQTTProtocolVersion.MQTTv5
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=broker.client_id,
            clean_session=None if five else False,
            protocol=version,
            reconnect_on_failure=False,
            manual_ack=True,
        )
        self._client.connect_timeout = ANSWER_S / 2
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.on_subscribe = self._on_subscribe
        self._client.on_message = self._on_message
        if broker.user is not None:
            self._client.username_pw_set(broker.user, broker.password)
        if broker.tls is not None:
            self._client.tls_set_context(broker.tls)
        try:
            self._connect(five)
            self._subscribe(filters, five)
        except BaseException:
            self.close()
            raise

    def read(self, timeout_s: float) -> Portion | None:
        """See :class:`connectors.source.Source`."""
        if self._open is None:
            self._receive(timeout_s)
            self._open = self._portion()
        return self._open

    def confirm(self, portion: Portion) -> None:
        """See :class:`connectors.source.Source`."""
        # In the order of arrival, as MQTT asks for. An acknowledgement that gets lost brings the message
        # again.
        for number in portion.position:
            if self._client.ack(number, 1):
                raise self._gone()
        end = time.monotonic() + ANSWER_S
        while self._client.want_write():
            if time.monotonic() > end:
                raise SourceError("unreachable", f"{self._origin} takes no acknowledgement")
            self._turn(end - time.monotonic(), write_only=True)
        self._open = None

    def close(self) -> None:
        """See :class:`connectors.source.Source`."""
        connection: Any = self._client.socket()
        self._client.disconnect()
        if connection is not None:
            with contextlib.suppress(OSError):
                connection.close()

    # --- the connection

    def _connect(self, five: bool) -> None:
        broker = self._broker
        properties = None
        if five:
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho's
            properties.SessionExpiryInterval = NEVER
            properties.ReceiveMaximum = IN_FLIGHT
        try:
            self._client.connect(
                broker.host,
                broker.port,
                KEEPALIVE_S,
                clean_start=False if five else paho.MQTT_CLEAN_START_FIRST_ONLY,
                properties=properties,
            )
        except ssl.SSLCertVerificationError as error:
            raise SourceError(
                "refused", f"certificate of {self._origin}: {error.verify_message}"
            ) from None
        except OSError as error:
            raise SourceError("unreachable", f"{self._origin}: {error.strerror or error}") from None
        self._until(lambda: self._welcome is not None)
        welcome = self._welcome
        if welcome is not None and welcome.is_failure:
            name = welcome.getName()
            if five and name == UNSUPPORTED:
                raise _OtherVersion
            reason = "refused" if name in REFUSED else "unreachable"
            raise SourceError(reason, f"{self._origin}: {name.lower()}")

    def _subscribe(self, filters: Sequence[str], five: bool) -> None:
        if five:
            # Retained messages are old ones: once, with a new subscription, is enough.
            once = SubscribeOptions(qos=1, retainHandling=SubscribeOptions.RETAIN_SEND_IF_NEW_SUB)
            self._client.subscribe([(f, once) for f in filters])
        else:
            self._client.subscribe([(f, 1) for f in filters])
        self._until(lambda: self._granted is not None)
        for wanted, granted in zip(filters, self._granted or [], strict=False):
            if granted.is_failure:
                raise SourceError(
                    "refused", f"{self._origin}: topic {wanted}: {granted.getName().lower()}"
                )

    def _until(self, answered: Callable[[], bool]) -> None:
        end = time.monotonic() + ANSWER_S
        while not answered():
            if time.monotonic() > end:
                raise SourceError("unreachable", f"{self._origin} does not answer")
            try:
                self._turn(max(0.0, end - time.monotonic()))
            except SourceError:
                if not answered():  # a refusal comes with the end of the connection
                    raise

    def _turn(self, wait_s: float, write_only: bool = False) -> bool:
        """Wait until the connection can be used and use it; False when nothing came."""
        connection: Any = self._client.socket()
        if connection is None:
            raise self._gone()
        reads = [] if write_only else [connection]
        writes = [connection] if self._client.want_write() else []
        # TLS may have decrypted more than was asked for: that makes no socket readable.
        pending = bool(reads) and getattr(connection, "pending", int)() > 0
        readable, writable, _ = select.select(reads, writes, [], 0.0 if pending else wait_s)
        if writable and self._client.loop_write():
            raise self._gone()
        if not (readable or pending):
            return False
        if self._client.loop_read():
            raise self._gone()
        return True

    def _gone(self) -> SourceError:
        if self._farewell == TAKEN:
            return SourceError(
                "taken_over",
                f"{self._origin}: another client has the id {self._broker.client_id}; give one of "
                "them its own: mqtt://…?client_id=…",
            )
        return SourceError(
            "unreachable", f"{self._origin}: {self._farewell.lower() or 'connection lost'}"
        )

    # --- messages

    def _receive(self, timeout_s: float) -> None:
        """Until there is nothing more for a moment, or enough; else until the time is over."""
        if self._client.loop_misc():  # says that we are there, notices that the broker is not
            raise self._gone()
        end = time.monotonic() + timeout_s
        while len(self._arrived) < MESSAGES and self._size < SIZE:
            if not self._turn(SETTLE_S if self._arrived else max(0.0, end - time.monotonic())):
                return
            if not self._arrived and time.monotonic() > end:
                return
            # What has come already needs no look at the socket for each message.
            before = -1
            while before < len(self._arrived) < MESSAGES and self._size < SIZE:
                before = len(self._arrived)
                if self._client.loop_read():
                    raise self._gone()

    def _portion(self) -> Portion | None:
        taken: list[Entry] = []
        numbers: list[int] = []
        while self._arrived and len(taken) < ENTRIES:
            message = self._arrived.popleft()
            self._size -= len(message.payload)
            topic = None
            with contextlib.suppress(UnicodeDecodeError):
                topic = message.topic
            taken += entries(topic, bytes(message.payload))
            if message.qos:
                numbers.append(message.mid)
        return Portion(taken, self._origin, numbers) if taken else None

    def _on_message(self, _client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        self._arrived.append(message)
        self._size += len(message.payload)

    def _on_connect(
        self, _client: paho.Client, _data: Any, _flags: Any, reason: ReasonCode, _props: Any
    ) -> None:
        self._welcome = reason

    def _on_disconnect(
        self, _client: paho.Client, _data: Any, flags: Any, reason: ReasonCode, _props: Any
    ) -> None:
        if flags.is_disconnect_packet_from_server:
            self._farewell = reason.getName()

    def _on_subscribe(
        self, _client: paho.Client, _data: Any, _mid: int, reasons: list[ReasonCode], _props: Any
    ) -> None:
        self._granted = reasons


def _marked(number: int, data: bytes, defect: str) -> Entry:
    return Entry(number, data=data[:CELL_LIMIT], defect=defect)
