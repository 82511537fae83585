"""Which matter is a report about? One event (事件) per matter, a link with its reason for every report.

A report joins an open event of its class and zone when it lies within the policy's radius and hours and
scores enough from distance, delay and likeness of text. Without a point, only the same place by name and
nearly the same words join: likeness of text alone is a poor stand-in for the same address. A wrong merge
hides a matter, a missed one costs a second look; so doubt opens a new event. Reports are never deleted.
"""

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

from schemas import metrics
from schemas.city import CityPack, MergeRule
from schemas.codec import Codec
from schemas.dead_letter import DeadLetterLimit, dead_letter_headers
from schemas.grids import METRES_PER_DEGREE
from schemas.ids import event_id, link_id
from schemas.topics import dlq_topic
from streams.batch import Batch, Decision, Output

RULE_VERSION = "merge-1"
HOUR_MS = 3600 * 1000

#: What distance, delay and text are worth; with equal words a report at the rim of the radius joins,
#: with none in common only one that lies within about two thirds of it.
DISTANCE_WEIGHT, DELAY_WEIGHT, TEXT_WEIGHT = 0.6, 0.15, 0.25
JOIN_SCORE = 0.3
#: Share of common character pairs from which texts without a point tell the same matter.
SAME_WORDS = 0.6
#: How much of a report's text is kept to compare with.
TEXT_KEPT = 80
REPORTERS_KEPT = 20
#: An event is kept so long after its window closed, for reports that arrive late.
LATE_HOURS = 48.0
#: Stream time between two sweeps of events that can no longer be joined.
SWEEP_MS = 600_000

Report = dict[str, Any]


@dataclass(slots=True)
class OpenEvent:
    """An event that may still be joined."""

    id: str
    version: int
    class_code: str
    lon: float | None
    lat: float | None
    district_code: str
    grid_code: str
    zone: str
    title: str
    address: str
    first_report_id: str
    first_channel: str
    count: int
    occurred_at: int
    last_occurred_at: int
    opened_at: int
    updated_at: int
    priority: int
    words: str
    reporters: list[str]

    def to_bytes(self) -> bytes:
        """Compact form for the state topic."""
        return _to_json(_values(self)).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> "OpenEvent":
        """Inverse of :meth:`to_bytes`."""
        return cls(*json.loads(data))


_values = attrgetter(*OpenEvent.__slots__)
#: One encoder for all: json.dumps would make one for each event.
_to_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode

Cell = tuple[str, str, int, int]


@dataclass(slots=True)
class MergeState:
    """Open events of the zones in one partition, by id and by where they can be joined."""

    events: dict[str, OpenEvent] = field(default_factory=dict)
    by_cell: dict[Cell, list[str]] = field(default_factory=dict)
    by_name: dict[tuple[str, str, str], list[str]] = field(default_factory=dict)
    stream_time: int = 0
    swept_at: int = 0


class MergeStep:
    """The merge agent's step over ``reports``."""

    name = "merge"

    def __init__(self, city: CityPack, codec: Codec) -> None:
        self._codec = codec
        self._rules: dict[str, MergeRule] = {code: city.merge.rule(code) for code in city.classes}
        self._default = city.merge.default
        self._encode_event = codec.encoder("Event")
        self._encode_link = codec.encoder("Link")
        self._limit = DeadLetterLimit()

    def restore(self, topic: str, partition: int, entries: dict[bytes, bytes]) -> MergeState:
        """Changes hold one open event each."""
        state = MergeState()
        for key in sorted(entries):
            self._index(state, OpenEvent.from_bytes(entries[key]))
        state.stream_time = max((e.updated_at for e in state.events.values()), default=0)
        return state

    def entries(self, state: MergeState) -> int:
        """Open events held."""
        return len(state.events)

    def decide(self, state: MergeState, batch: Batch, now_ms: int) -> Decision:
        """A link for each report, the newest version of each event it touched."""
        reports, errors = self._codec.decode_batch("Report", batch.values)
        self._limit.count(len(batch), len(errors))
        decision = Decision()
        for index, error in errors.items():
            headers = dead_letter_headers(
                batch.topic,
                batch.partition,
                batch.offsets[index],
                self.name,
                error.code,
                error.detail,
            )
            decision.outputs.append(
                Output(dlq_topic(batch.topic), batch.keys[index], batch.values[index], headers)
            )
            metrics.STREAM_DLQ.labels(batch.topic, error.code).inc()
        touched: dict[str, OpenEvent] = {}
        for report in reports:
            if report is None:
                continue
            event, relation, score, reason = self._place(state, report)
            touched[event.id] = event
            decision.outputs.append(self._link(report, event, relation, score, reason, now_ms))
        for event in touched.values():
            decision.outputs.append(self._event(event, now_ms))
            decision.changes.append((event.id.encode(), event.to_bytes()))
        decision.changes.extend((gone.encode(), None) for gone in self._sweep(state))
        return decision

    def rule(self, class_code: str) -> MergeRule:
        """The policy of a class."""
        return self._rules.get(class_code, self._default)

    def _place(self, state: MergeState, report: Report) -> tuple[OpenEvent, str, float, str]:
        """The event of a report, new or joined; relation, score and reason of the link."""
        state.stream_time = max(state.stream_time, report["received_at"])
        words = f"{report['title']} {report['text']}"[:TEXT_KEPT]
        best = self._best(state, report, words)
        if best is None:
            event = OpenEvent(
                event_id(report["report_id"]), 1, report["class_code"], report["lon"], report["lat"],
                report["district_code"], report["grid_code"], report["zone"], report["title"],
                report["address"], report["report_id"], report["channel"], 1, report["occurred_at"],
                report["occurred_at"], report["received_at"], report["received_at"], 0, words,
                [report["reporter_hash"]] if report["reporter_hash"] else [],
            )  # fmt: skip
            self._index(state, event)
            return event, "opened", 1.0, "no open event near in class, place and time"
        event, score, reason = best
        event.version += 1
        event.count += 1
        event.occurred_at = min(event.occurred_at, report["occurred_at"])
        event.last_occurred_at = max(event.last_occurred_at, report["occurred_at"])
        event.updated_at = max(event.updated_at, report["received_at"])
        relation = "co_report"
        reporter = report["reporter_hash"]
        if reporter:
            if reporter in event.reporters:
                relation = "urge"
                event.priority += 1
            elif len(event.reporters) < REPORTERS_KEPT:
                event.reporters.append(reporter)
        return event, relation, score, reason

    def _best(
        self, state: MergeState, report: Report, words: str
    ) -> tuple[OpenEvent, float, str] | None:
        """The open event that the report most likely is about, if any is likely enough."""
        rule = self.rule(report["class_code"])
        hours_ms = rule.hours * HOUR_MS
        occurred, pointed = report["occurred_at"], report["lon"] is not None
        gone = self._gone_before(
            state, report["class_code"]
        )  # candidates are of the report's class
        near: list[tuple[float, OpenEvent, float, float]] = []
        for event in self._candidates(state, report):
            # Whether the sweep came by already must not decide: it depends on where batches are cut.
            if event.updated_at < gone:
                continue
            delay = max(event.occurred_at - occurred, occurred - event.last_occurred_at, 0)
            if delay > hours_ms:
                continue
            distance = 0.0
            if pointed and event.lon is not None and event.lat is not None:
                distance = metres(report["lon"], report["lat"], event.lon, event.lat)
                if distance > rule.radius_m:
                    continue
            base = DISTANCE_WEIGHT * (1.0 - distance / rule.radius_m)
            base += DELAY_WEIGHT * (1.0 - delay / hours_ms)
            near.append((base, event, distance, delay))
        if not near:
            return None
        # Texts are compared where they can still decide: the rest of a score is known before.
        near.sort(key=lambda candidate: -candidate[0])
        pairs = character_pairs(words)
        best = (-JOIN_SCORE, "~")  # above every id: a score that is just enough wins
        found: tuple[OpenEvent, float, str] | None = None
        for base, event, distance, delay in near:
            if base + TEXT_WEIGHT < -best[0]:
                break
            likeness = 1.0 if words == event.words else jaccard(pairs, character_pairs(event.words))
            if not pointed and likeness < SAME_WORDS:
                continue
            score = base + TEXT_WEIGHT * likeness
            # The lower id on a tie, so that no order of a dictionary decides.
            if (-score, event.id) < best:
                best = (-score, event.id)
                how = f"{distance:.0f} m" if pointed else "same place by name"
                reason = f"{how}, {delay / HOUR_MS:.1f} h, words alike {likeness:.2f}"
                found = event, score, reason
        return found

    def _candidates(self, state: MergeState, report: Report) -> Iterable[OpenEvent]:
        class_code, zone = report["class_code"], report["zone"]
        if report["lon"] is None:
            for event in state.by_name.get((class_code, zone, report["grid_code"]), ()):
                yield state.events[event]
            return
        row, column = self._cell(class_code, report["lon"], report["lat"])
        for x in (row - 1, row, row + 1):
            for y in (column - 1, column, column + 1):
                for event in state.by_cell.get((class_code, zone, x, y), ()):
                    yield state.events[event]

    def _cell(self, class_code: str, lon: float, lat: float) -> tuple[int, int]:
        """Cells as wide as the class's radius at 60° north or less, so that the nine around hold all."""
        size = self.rule(class_code).radius_m / METRES_PER_DEGREE
        return math.floor(lon / (2.0 * size)), math.floor(lat / size)

    def _index(self, state: MergeState, event: OpenEvent) -> None:
        state.events[event.id] = event
        self._slot(state, event).append(event.id)

    def _slot(self, state: MergeState, event: OpenEvent) -> list[str]:
        """The list of the index in which the event stands."""
        if event.lon is None or event.lat is None:
            return state.by_name.setdefault((event.class_code, event.zone, event.grid_code), [])
        cell = (event.class_code, event.zone, *self._cell(event.class_code, event.lon, event.lat))
        return state.by_cell.setdefault(cell, [])

    def _gone_before(self, state: MergeState, class_code: str) -> float:
        """An event of the class that was last updated before this instant (ms) is joined by no report."""
        return state.stream_time - (self.rule(class_code).hours + LATE_HOURS) * HOUR_MS

    def _sweep(self, state: MergeState) -> list[str]:
        """Forget events that no report can join any more."""
        if state.stream_time - state.swept_at < SWEEP_MS:
            return []
        state.swept_at = state.stream_time
        before = {code: self._gone_before(state, code) for code in self._rules}
        default = self._gone_before(state, "")
        gone = [
            event
            for event in state.events.values()
            if event.updated_at < before.get(event.class_code, default)
        ]
        for event in gone:
            del state.events[event.id]
            slot = self._slot(state, event)
            slot.remove(event.id)
        return [event.id for event in gone]

    def _link(
        self,
        report: Report,
        event: OpenEvent,
        relation: str,
        score: float,
        reason: str,
        now_ms: int,
    ) -> Output:
        link = {
            "link_id": link_id(report["report_id"]),
            "report_id": report["report_id"],
            "event_id": event.id,
            "relation": relation,
            "score": score,
            "reason": reason,
            "rule_version": RULE_VERSION,
            "channel": report["channel"],
            "class_code": event.class_code,
            "district_code": event.district_code,
            "occurred_at": report["occurred_at"],
            "received_at": report["received_at"],
            "decided_at": now_ms,
        }
        return Output("event.links", event.id.encode(), self._encode_link(link))

    def _event(self, event: OpenEvent, now_ms: int) -> Output:
        record = {
            "event_id": event.id,
            "version": event.version,
            "status": "open",
            "class_code": event.class_code,
            "lon": event.lon,
            "lat": event.lat,
            "district_code": event.district_code,
            "grid_code": event.grid_code,
            "zone": event.zone,
            "title": event.title,
            "address": event.address,
            "first_report_id": event.first_report_id,
            "first_channel": event.first_channel,
            "report_count": event.count,
            "occurred_at": event.occurred_at,
            "opened_at": event.opened_at,
            "updated_at": event.updated_at,
            "decided_at": now_ms,
            "recurs_of": None,
            "priority": event.priority,
        }
        return Output("events", event.id.encode(), self._encode_event(record))


def metres(lon: float, lat: float, other_lon: float, other_lat: float) -> float:
    """Distance of two near points in metres (equirectangular; error below 0.1 % under 10 km)."""
    east = (lon - other_lon) * math.cos(math.radians((lat + other_lat) / 2.0))
    return math.hypot(east, lat - other_lat) * METRES_PER_DEGREE


def character_pairs(text: str) -> set[str]:
    """The pairs of neighbouring characters of a text."""
    return {text[i : i + 2] for i in range(len(text) - 1)}


def jaccard(one: set[str], other: set[str]) -> float:
    """Share of common members, 0 for two empty sets."""
    union = len(one | other)
    return len(one & other) / union if union else 0.0
