"""The monitor's heartbeat through channels that are fetched: a message or a file that its connector must find.

It goes the whole way of a report (broker or folder, claim, decoding, position) up to where it would be
published: :data:`connectors.source.HEARTBEAT` is no report, so nothing of it is decided or counted, and a
channel is not heard by it. When one came is told by the connector; since when one should, by the monitor.

A database, another city and another cluster are only read: their sign of life is the connector's last look
(``quanyu_connector_read_timestamp_seconds``). Channels that push have the empty batch of :mod:`deploy.vitals`.
"""

import contextlib
import json
import threading
import uuid
from fnmatch import fnmatchcase
from pathlib import Path

import paho.mqtt.client as paho
import structlog
from paho.mqtt.enums import CallbackAPIVersion

from connectors.file_drop import DONE
from connectors.mqtt import read_address
from connectors.source import HEARTBEAT, HEARTBEAT_FILE
from schemas import metrics
from schemas.channels import ChannelSpec, load_channels
from schemas.errors import QuanyuError
from schemas.settings import Settings
from schemas.sources import embedded_sources, load_sources

log = structlog.get_logger("monitor")

#: Seconds between two; the alert waits for three minutes.
INTERVAL = 15.0
ANSWER_SECONDS = 3.0
NAME = HEARTBEAT_FILE.partition(".")[0]


def wanted(settings: Settings) -> dict[tuple[str, str], str]:
    """Channel and transport of each way in that is walked, and its address.

    :class:`QuanyuError` for one that is named and cannot be.
    """
    there = {(c, t): a for c, found in load_sources(settings).items() for t, a in found.items()}
    walked = {way: a for way, a in there.items() if _can(load_channels()[way[0]], way[1])}
    if settings.heartbeats is None:
        ours = embedded_sources(settings)
        return {(c, t): a for (c, t), a in walked.items() if ours.get(c, {}).get(t) == a}
    found = {}
    for name in settings.heartbeats:
        channel, _, transport = name.partition(".")
        if (way := (channel, transport)) not in walked:
            known = ", ".join(sorted(map(".".join, walked))) or "none"
            raise QuanyuError(
                f"QUANYU_HEARTBEATS: {name[:80]!r} takes none; those that do: {known}"
            )
        found[way] = walked[way]
    return found


def _can(spec: ChannelSpec, transport: str) -> bool:
    if transport == "file" and spec.transports.file is not None:
        return any(
            fnmatchcase(HEARTBEAT_FILE, pattern.lower())
            for pattern in spec.transports.file.patterns
        )
    return transport == "mqtt"


class Heartbeats:
    """Sends them; what goes wrong is said once, and the missing heartbeat tells of it."""

    def __init__(self, settings: Settings) -> None:
        self._ways = wanted(settings)
        self._failing: set[tuple[str, str]] = set()
        # Who has not answered for long is told from when this began, also while it never answers.
        for channel, transport in self._ways:
            metrics.HEARTBEAT_AT.labels(channel, transport).set_to_current_time()

    def round(self) -> None:
        """One through each."""
        for (channel, transport), address in self._ways.items():
            try:
                if transport == "file":
                    drop(Path(address))
                else:
                    publish(load_channels()[channel], address)
                self._failing.discard((channel, transport))
            except (QuanyuError, OSError, ValueError, RuntimeError) as error:
                if (channel, transport) not in self._failing:
                    log.warning(
                        "no heartbeat sent",
                        channel=channel,
                        transport=transport,
                        error=str(error)[:300],
                    )
                self._failing.add((channel, transport))


def drop(folder: Path) -> None:
    """Leave a heartbeat in a folder, unless one lies there, and take away those that were read."""
    for read in (folder / DONE).glob(f"{NAME}*.jsonl"):
        read.unlink(missing_ok=True)
    if (folder / HEARTBEAT_FILE).exists():
        return
    draft = folder / f".{NAME}.{uuid.uuid4().hex[:12]}"
    draft.write_text(f"{json.dumps(HEARTBEAT)}\n", encoding="utf-8")
    draft.replace(folder / HEARTBEAT_FILE)


def publish(spec: ChannelSpec, address: str) -> None:
    """Publish a heartbeat under the channel's first filter. OSError when the broker does not take it."""
    if spec.transports.mqtt is None:
        raise QuanyuError(f"channel {spec.name} has no transport mqtt")
    topic = spec.transports.mqtt.topics[0].replace("+", NAME).replace("#", NAME)
    broker = read_address(spec.name, address)
    client = paho.Client(
        CallbackAPIVersion.VERSION2, client_id=f"{NAME}-{spec.name}", reconnect_on_failure=False
    )
    client.connect_timeout = ANSWER_SECONDS
    if broker.user is not None:
        client.username_pw_set(broker.user, broker.password)
    if broker.tls is not None:
        client.tls_set_context(broker.tls)
    client.connect(broker.host, broker.port)
    client.loop_start()
    try:
        sent = client.publish(topic, json.dumps(HEARTBEAT), qos=1)
        sent.wait_for_publish(ANSWER_SECONDS)
        if not sent.is_published():
            raise OSError(f"{broker.host}:{broker.port} does not acknowledge it")
    finally:
        with contextlib.suppress(OSError, ValueError):
            client.disconnect()
        client.loop_stop()


def watch_heartbeats(settings: Settings, stop: threading.Event) -> None:
    """Send them until told to stop."""
    try:
        heartbeats = Heartbeats(settings)
    except QuanyuError as error:
        log.error("no heartbeats", error=str(error))
        return
    while not stop.is_set():
        heartbeats.round()
        stop.wait(INTERVAL)
