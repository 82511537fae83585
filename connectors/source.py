"""The contract of every transport that fetches, and the loop that runs one.

A source *reads* a portion of entries, the loop *publishes* it, and only when the broker has it on every
in-sync replica is the portion *confirmed*: then, and not before, the source moves its position. A
process killed between the two reads the portion again, and intake recognises the repetition. So
nothing is lost and nothing counted twice, whatever the transport.
"""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import structlog

from connectors.mapping import Entry, RawReport, entry_report, undecodable
from connectors.publish import BrokerBehind, Publisher, Unpublishable
from schemas import metrics
from schemas.channels import ChannelSpec
from schemas.settings import Settings

log = structlog.get_logger("connectors")

#: Pauses after a failure double from the first to the last: a database that restarts is met soon after,
#: one that is gone for the night is not hammered.
PAUSE_FIRST_S, PAUSE_LAST_S = 0.5, 30.0
#: An entry that says this and nothing else is the monitor's: it has come all the way that a report comes, and
#: is no report.
HEARTBEAT = {"quanyu": "heartbeat"}
HEARTBEAT_FILE = "quanyu-heartbeat.jsonl"
#: Defect of a record of which only an excerpt could be published.
REFUSED = "malformed:the broker refuses it"


class SourceError(Exception):
    """A source cannot be read now, and may be later; ``reason`` is one word for a metric's label."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Portion:
    """Entries read together; ``position`` is the source's own affair, handed back when confirmed."""

    entries: Sequence[Entry]
    #: Where they come from, e.g. a file's name; with the entry's number it finds the original again.
    origin: str
    position: Any = None


class Source(Protocol):
    """One channel's source through one transport; used by one thread at a time."""

    def read(self, timeout_s: float) -> Portion | None:
        """The next entries after the last confirmed portion, or None when none came in time.

        At most a few thousand, or some 32 MB. Never returns a portion again that was confirmed, always
        again one that was not, from this or from another object over the same source. An entry that
        cannot be read is an :class:`Entry` with its bytes and a defect; a source that cannot be read
        at all raises :class:`SourceError`. Must return soon after ``timeout_s``.
        """

    def confirm(self, portion: Portion) -> None:
        """The broker has all of the portion: move the position behind it, durably."""

    def close(self) -> None:
        """Release connections; what is not confirmed stays unread."""


#: Opens a channel's source at an address; raises SourceError when it cannot be reached now.
Opener = Callable[[Settings, ChannelSpec, str], Source]


def raw_reports(
    spec: ChannelSpec, transport: str, portion: Portion, received_at: int
) -> list[RawReport]:
    """The portion's raw reports, each with where it came from; a heartbeat is none."""
    return [
        entry_report(
            spec,
            entry,
            received_at=received_at,
            connector=f"{transport}:{portion.origin}:{entry.number}"[:300],
        )
        for entry in portion.entries
        if not is_heartbeat(entry)
    ]


def is_heartbeat(entry: Entry) -> bool:
    """Whether an entry is :data:`HEARTBEAT`; what a transport itself adds begins with ``_``."""
    fields = entry.fields
    if fields is None or "quanyu" not in fields:
        return False
    return {name: value for name, value in fields.items() if name[:1] != "_"} == HEARTBEAT


class Feed:
    """Runs one source for ever: read, publish, confirm; after a failure it opens the source anew."""

    def __init__(
        self,
        settings: Settings,
        spec: ChannelSpec,
        transport: str,
        address: str,
        opener: Opener,
        publisher: Publisher,
        stop: threading.Event,
    ) -> None:
        self._settings, self._spec, self._transport = settings, spec, transport
        self._address, self._opener = address, opener
        self._publisher, self._stop = publisher, stop
        self._labels = (spec.name, transport)
        self.name = f"{spec.name}.{transport}"
        self._failures = 0

    def run(self) -> None:
        """Until told to stop; returns with the current portion confirmed or not begun."""
        metrics.CONNECTOR_UP.labels(*self._labels).set(0)
        while not self._stop.is_set():
            source: Source | None = None
            try:
                source = self._opener(self._settings, self._spec, self._address)
                while not self._stop.is_set():
                    portion = source.read(1.0)
                    self._reached()
                    if portion is not None:
                        self._publish(portion)
                        source.confirm(portion)
                        if any(map(is_heartbeat, portion.entries)):
                            metrics.HEARTBEAT_AT.labels(*self._labels).set_to_current_time()
                    self._well()
            except SourceError as error:
                self._failed(error.reason, error)
            except Exception as error:  # one channel's surprise must not end the others
                self._failed("unexpected", error)
                log.exception("connector failed", channel=self._spec.name)
            finally:
                if source is not None:
                    self._close(source)
        metrics.CONNECTOR_UP.labels(*self._labels).set(0)

    def _reached(self) -> None:
        metrics.CONNECTOR_READ_AT.labels(*self._labels).set_to_current_time()
        if not self._failures:
            metrics.CONNECTOR_UP.labels(*self._labels).set(1)

    def _well(self) -> None:
        """Read and confirmed. To be read alone is not enough: a position that cannot be moved, on a full
        disk say, would be tried at the first pause for ever, and publish the same portion each time."""
        if self._failures:
            log.info("connector recovered", channel=self._spec.name, transport=self._transport)
        self._failures = 0
        metrics.CONNECTOR_UP.labels(*self._labels).set(1)

    def _close(self, source: Source) -> None:
        try:
            source.close()
        except Exception as error:  # a connection that is gone may refuse to be closed; go on
            log.warning("source not closed", channel=self._spec.name, error=str(error)[:500])

    def _failed(self, reason: str, error: Exception) -> None:
        self._failures += 1
        metrics.CONNECTOR_UP.labels(*self._labels).set(0)
        metrics.CONNECTOR_ERRORS.labels(*self._labels, reason).inc()
        log.warning(
            "connector waits",
            channel=self._spec.name,
            transport=self._transport,
            reason=reason,
            error=str(error)[:500],
            failures=self._failures,
        )
        self._stop.wait(min(PAUSE_LAST_S, PAUSE_FIRST_S * 2.0 ** min(self._failures - 1, 10)))

    def _publish(self, portion: Portion) -> None:
        """Until the broker has all of it; gives up only when told to stop."""
        todo = [raw_reports(self._spec, self._transport, portion, int(time.time() * 1000))]
        while todo:
            raws = todo[-1]
            try:
                self._publisher.publish(raws, self._transport)
                todo.pop()
            except BrokerBehind as error:
                metrics.CONNECTOR_ERRORS.labels(*self._labels, "broker_behind").inc()
                if self._stop.wait(min(5.0, error.retry_after_s)):
                    raise SourceError("stopped", "stopped before the broker confirmed") from None
            except Unpublishable as error:
                # One record must not hold back its neighbours: alone, what is left of it is published.
                todo.pop()
                if middle := len(raws) // 2:
                    todo += [raws[middle:], raws[:middle]]
                elif any(defect.startswith(REFUSED) for defect in raws[0]["defects"]):
                    # Not even the excerpt: then it is the topic, and to go on would be without end or pause.
                    raise SourceError(
                        "unpublishable", f"the topic takes nothing: {error}"
                    ) from None
                else:
                    todo.append([self._excerpt(raws[0], error)])

    def _excerpt(self, raw: RawReport, error: Exception) -> RawReport:
        return undecodable(
            self._spec,
            raw["payload"][:65_536],
            f"{REFUSED}: {error}",
            received_at=raw["received_at"],
            connector=raw["connector"],
        )
