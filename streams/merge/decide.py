"""The merge agent's step: one event (事件) per matter, a link with its reason for every report.

:mod:`streams.merge.place` decides; this moves records in and out. Reports are never deleted: a report that
goes to another event gets a later link (relation ``split``), an event that lost all its reports names the
one it went into (``merged_into``). A wrong merge hides a matter, a missed one costs a second look; so doubt
opens a new event, whose link names the other as candidate.
"""

import json
from collections.abc import Mapping
from typing import Any

from schemas import metrics
from schemas.city import CityPack
from schemas.codec import Codec
from schemas.dead_letter import DeadLetterLimit, dead_letter_headers
from schemas.ids import link_id
from schemas.merge_policy import MergePolicy, city_policy
from schemas.topics import dlq_topic
from streams.batch import Batch, Decision, Output
from streams.intake.classify import KeywordClassifier
from streams.merge.likeness import address_key, body_key
from streams.merge.place import Changes, Placer
from streams.merge.state import (
    HORIZON_MS,
    MergeState,
    OpenEvent,
    Seen,
    Token,
    rank,
    seen_values,
    to_json,
)

#: How much of a report's text is kept to compare with.
TEXT_KEPT = 80
#: How much of title and address; and how many reports are one entry of the diary, so that it fits a record.
NAME_KEPT = 200
DIARY_REPORTS = 200
#: From so sure a word's class counts beside the chosen one.
SURE = 0.5
#: First letters of the state topic's keys that are no event ids.
DIARY, DEVICE = b"young:", b"device:"


class MergeStep:
    """The merge agent's step over ``reports``."""

    name = "merge"

    def __init__(self, city: CityPack, codec: Codec, policy: MergePolicy | None = None) -> None:
        self._codec = codec
        self._policy = policy or city_policy(city)
        self._placer = Placer(self._policy, city.district_names)
        self._encode_event = codec.encoder("Event")
        self._encode_link = codec.encoder("Link")
        self._limit = DeadLetterLimit()
        self._classifier = KeywordClassifier(city.classes)

    def restore(self, topic: str, partition: int, entries: dict[bytes, bytes]) -> MergeState:
        """Changes hold one open event each, the young reports of a batch, or the alarms of a device."""
        state = MergeState()
        young: dict[str, Seen] = {}
        for key in sorted(entries):
            value = entries[key]
            if key.startswith(DIARY):
                seens = [Seen(*values) for values in json.loads(value)]
                # A report that moved stands again in a later batch.
                for seen in seens:
                    young[seen.id] = seen
                state.diary.append((key, max(seen.at for seen in seens)))
            elif key.startswith(DEVICE):
                device, alarms = json.loads(value)
                # Before merge-3 an alarm stood under its id alone.
                state.alarms[tuple(device)] = sorted(
                    (at, name if "|" in name else rank(occurred, name), occurred, *rest)
                    for at, name, occurred, *rest in alarms
                )
            else:
                self._placer.restore(state, OpenEvent.from_bytes(value))
        for seen in young.values():
            self._placer.remember(state, seen)
        state.stream_time = max(
            [event.updated_at for event in state.events.values()]
            + [seen.received_at for seen in young.values()],
            default=0,
        )
        return state

    def entries(self, state: MergeState) -> int:
        """Events held."""
        return len(state.events) + len(state.archive)

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
        changes = Changes()
        fresh: set[str] = set()
        # Before the batch, so that an event which it opens is told, however old.
        self._placer.forget(state, changes)
        for report in reports:
            if report is None:
                continue
            seen = to_seen(report, self._policy, self._words_class(report))
            fresh.add(seen.id)
            self._placer.place(state, seen, changes)
        for seen in changes.reports.values():
            if seen.event:
                decision.outputs.append(
                    self._link(state, seen, moved=seen.id not in fresh, now_ms=now_ms)
                )
        for event in changes.events.values():
            if event.id in changes.gone or state.events.get(event.id) is not event:
                continue
            if not event.count and not event.published:
                # It came and went within the batch: nobody heard of it.
                del state.events[event.id]
                continue
            event.published = True
            decision.outputs.append(self._event(event, now_ms))
            decision.changes.append((event.id.encode(), event.to_bytes()))
        decision.changes.extend((gone.encode(), None) for gone in changes.gone)
        for device in changes.devices:
            alarms = state.alarms.get(device)
            decision.changes.append(
                (_device_key(device), to_json([device, alarms]).encode() if alarms else None)
            )
        self._diary(state, batch, changes, decision)
        return decision

    def _words_class(self, report: Mapping[str, Any]) -> str:
        """The class that a report's words name, where its reporter chose another; else empty.

        People choose wrongly from a list; what they then write tells of the matter.
        """
        if report["class_method"] != "native" or report["device"]:
            return ""
        found = self._classifier.by_words(report["title"], report["text"])
        if found is None or found.code == report["class_code"] or found.confidence < SURE:
            return ""
        return found.code

    def _diary(self, state: MergeState, batch: Batch, changes: Changes, decision: Decision) -> None:
        """The batch's young reports as one entry; entries of which none is young any more go."""
        young = [seen for seen in changes.reports.values() if seen.id in state.young]
        for part, start in enumerate(range(0, len(young), DIARY_REPORTS)):
            seens = young[start : start + DIARY_REPORTS]
            # Keyed by where the batch starts: no later batch overwrites it, compaction keeps it.
            key = DIARY + b"%020d:%03d" % (batch.first, part)
            decision.changes.append((key, to_json([seen_values(seen) for seen in seens]).encode()))
            state.diary.append((key, max(seen.at for seen in seens)))
        while state.diary and state.diary[0][1] < state.stream_time - HORIZON_MS:
            decision.changes.append((state.diary.popleft()[0], None))

    def _link(self, state: MergeState, seen: Seen, *, moved: bool, now_ms: int) -> Output:
        event = state.events[seen.event]
        link = {
            "link_id": link_id(seen.id, seen.moves if moved else 0),
            "report_id": seen.id,
            "event_id": event.id,
            "relation": "split" if moved else seen.relation,
            "score": seen.score,
            "reason": f"after a report that came late: {seen.reason}" if moved else seen.reason,
            "rule_version": self._policy.version,
            "channel": seen.channel,
            "class_code": event.class_code,
            "district_code": event.district_code,
            "occurred_at": seen.occurred_at,
            "received_at": seen.received_at,
            "decided_at": now_ms,
            "candidate": seen.candidate or None,
        }
        return Output("event.links", event.id.encode(), self._encode_link(link))

    def _event(self, event: OpenEvent, now_ms: int) -> Output:
        record = {
            "event_id": event.id,
            "version": event.version,
            "status": "open" if event.closed_at is None and event.count else "closed",
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
            "recurs_of": event.recurs_of,
            "priority": event.priority,
            "merged_into": event.merged_into,
            "cleared_at": event.cleared_at,
        }
        return Output("events", event.id.encode(), self._encode_event(record))


def _device_key(device: Token) -> bytes:
    return DEVICE + to_json(device).encode()


def to_seen(report: Mapping[str, Any], policy: MergePolicy, also: str = "") -> Seen:
    """What merge needs of an accepted report; ``also``: a second class under which its event may stand."""
    title, text, class_code = report["title"], report["text"], report["class_code"]
    tokens = [f"n:{report['channel']}/{report['native_id']}"]
    if report["forwarded_from"]:
        tokens.insert(0, f"n:{report['forwarded_from']}")
    # What raises no alarms has no sessions: a drone's sortie, named as the device, sees many matters.
    device = report["device"] if report["alarm_state"] else ""
    # What a device writes is its maker's form.
    body = "" if report["device"] else body_key(text, policy.body_characters)
    if body:
        tokens.append(f"b:{body}")
    tokens += [
        f"m:{medium[7:71]}" for medium in report["media"][:20] if medium.startswith("sha256:")
    ]
    building, part = address_key(report["address"]), False
    if policy.part and (report["lon"] is None or policy.rule(class_code).mode == "address"):
        words = f"{title} {text}".lower()
        part = any(word in words for word in policy.part)
    return Seen(
        0, report["report_id"], report["occurred_at"], report["received_at"], report["channel"],
        class_code, report["zone"], report["lon"], report["lat"], report["district_code"],
        report["grid_code"], title[:NAME_KEPT], report["address"][:NAME_KEPT],
        f"{title} {text}"[:TEXT_KEPT],
        report["reporter_hash"], list(dict.fromkeys(tokens)), device,
        report["alarm_state"], building, part, also=also,
    )  # fmt: skip
