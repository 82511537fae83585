"""``python -m connectors``: the channels whose reports are fetched, one thread each, and the units' webhooks.

Channels that push are served by the gateway. ``QUANYU_CHANNELS`` (comma separated) limits a process to some
of the channels, so that a deployment can give each its own; ``python -m connectors.webhooks`` runs then beside
them.
"""

import importlib
import os
import signal
import sys
import threading
import time

import structlog

from connectors import webhooks
from connectors.leave import STOP_LIMIT_S, leave, leave_in_time
from connectors.publish import Publisher
from connectors.source import Feed, Opener
from schemas import probes
from schemas.access import hold_kafka
from schemas.channels import load_channel, load_channels
from schemas.errors import QuanyuError
from schemas.metrics import describe_process
from schemas.settings import Settings, load_settings
from schemas.sources import load_sources

log = structlog.get_logger("connectors")

#: Transport → module with ``open_source``; loaded when a channel in service needs it.
MODULES = {
    "sql": "connectors.sql_poll",
    "file": "connectors.file_drop",
    "mqtt": "connectors.mqtt",
    "open311": "connectors.open311.pull",
    "kafka": "connectors.kafka_bridge",
}


def opener(transport: str) -> Opener:
    """What opens a source of the transport."""
    found: Opener = importlib.import_module(MODULES[transport]).open_source
    return found


def feeds(settings: Settings, publisher: Publisher, stop: threading.Event) -> list[Feed]:
    """One feed for each channel and transport that is in service."""
    only = set(filter(None, os.environ.get("QUANYU_CHANNELS", "").split(",")))
    for name in only:
        load_channel(name)  # a name that is none is said, not ignored
    return [
        Feed(
            settings, load_channels()[name], transport, address, opener(transport), publisher, stop
        )
        for name, addresses in load_sources(settings).items()
        if not only or name in only
        for transport, address in addresses.items()
        if transport in MODULES
    ]


def main() -> None:
    """Run until SIGTERM; portions under way are confirmed or left to the next start."""
    settings = load_settings()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: leave_in_time(stop.set))
    try:
        hold_kafka(settings)
        publisher = Publisher(settings)
        running = feeds(settings, publisher, stop)
    except QuanyuError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from None
    describe_process(settings)
    threads = [threading.Thread(target=feed.run, daemon=True, name=feed.name) for feed in running]
    if not os.environ.get("QUANYU_CHANNELS"):
        threads.append(
            threading.Thread(
                target=webhooks.run, args=(settings, stop), daemon=True, name="webhooks"
            )
        )
    for thread in threads:
        thread.start()

    def ended() -> str:
        # A feed goes on after every error: one that ended did so by something that it cannot mend.
        dead = [] if stop.is_set() else [t.name for t in threads if not t.is_alive()]
        return f"ended: {', '.join(dead)}" if dead else ""

    probes.serve(settings, "connectors", stuck=ended, starting=lambda: "")
    log.info("connectors run", feeds=len(running))
    stop.wait()
    end = time.monotonic() + STOP_LIMIT_S - 1.0
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    # A portion that is not confirmed by now is read again.
    publisher.close(max(0.1, end - time.monotonic()))


if __name__ == "__main__":
    main()
    leave()
