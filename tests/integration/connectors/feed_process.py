"""One feed in a process of its own, to be killed: ``feed_process.py DOCUMENT``, a JSON file.

With ``kill_at`` the process kills itself, as hard as can be, when so many portions are published and the
last of them is not confirmed: the worst moment there is. It ends when nothing came for ``idle_s``.
"""

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from connectors import __main__ as connectors
from connectors import file_drop, kafka_bridge, sql_poll
from connectors.publish import Publisher
from connectors.source import Feed, Portion, Source
from schemas.channels import ChannelSpec
from schemas.settings import Settings, load_settings


class Deadly:
    """A source that ends its process on a confirmation, or the feed when nothing comes any more."""

    def __init__(
        self, source: Source, kill_at: int | None, idle_s: float, stop: threading.Event
    ) -> None:
        self._source, self._kill_at = source, kill_at
        self._idle_s, self._stop = idle_s, stop
        self._last, self._portions = time.monotonic(), 0

    def read(self, timeout_s: float) -> Portion | None:
        portion = self._source.read(timeout_s)
        if portion is not None:
            self._last = time.monotonic()
        elif time.monotonic() - self._last > self._idle_s:
            self._stop.set()
        return portion

    def confirm(self, portion: Portion) -> None:
        self._portions += 1
        if self._portions == self._kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        self._source.confirm(portion)

    def close(self) -> None:
        self._source.close()


def main() -> None:
    document: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    sql_poll.PAGE = file_drop.CHUNK = kafka_bridge.CHUNK = document["chunk"]
    transport, stop = document["transport"], threading.Event()

    def opener(settings: Settings, spec: ChannelSpec, address: str) -> Source:
        source = connectors.opener(transport)(settings, spec, address)
        return Deadly(source, document.get("kill_at"), document["idle_s"], stop)

    settings = load_settings()
    publisher = Publisher(settings)
    spec = ChannelSpec.model_validate(document["spec"])
    Feed(settings, spec, transport, document["address"], opener, publisher, stop).run()
    publisher.close()


if __name__ == "__main__":
    main()
