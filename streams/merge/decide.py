"""The merge agent's step: one event (事件) per matter, a link with its reason for every report.

:mod:`streams.merge.place` decides; this moves records in and out. Reports are never deleted: a report that
goes to another event takes its link back (sign -1) and gets a later one, an event that lost all its reports
names the one it went into (``merged_into``). A wrong merge hides a matter, a missed one costs a second look;
so doubt opens a new event, whose link names the other as candidate; so does the event itself, until it is known
to be another. :mod:`streams.merge.by_hand` does what
people ask for.
"""

from collections.abc import Callable, Mapping
from typing import Any

from schemas.city import CityPack
from schemas.codec import Codec
from schemas.ids import link_id
from schemas.merge_policy import MergePolicy, Rule, city_policy
from streams.asked import Outcomes, Refusal
from streams.batch import Batch, Decision, Headers, Output
from streams.intake.classify import KeywordClassifier
from streams.merge.burst import Bursts
from streams.merge.by_hand import act, member
from streams.merge.likeness import address_key, body_key
from streams.merge.photos import photo_tokens
from streams.merge.place import Changes, Placer, in_order
from streams.merge.state import (
    HORIZON_MS,
    Member,
    MergeState,
    Move,
    OpenEvent,
    Seen,
    Token,
    alarms_of,
    event_of,
    rank,
    reports_of,
    to_json,
)
from streams.records import Records, hand_on

#: How much of a report's text is kept to compare with.
TEXT_KEPT = 80
#: How much of title and address; and how many reports are one entry of the diary, so that it fits a record.
NAME_KEPT = 200
DIARY_REPORTS = 200
#: From so sure a word's class counts beside the chosen one.
SURE = 0.5
#: First letters of the state topic's keys that are no event ids.
DIARY, DEVICE = b"young:", b"device:"
#: What people ask for.
ACTIONS = "event.actions"


class MergeStep:
    """The merge agent's step over ``reports``."""

    name = "merge"

    def __init__(self, city: CityPack, codec: Codec, policy: MergePolicy | None = None) -> None:
        self._codec = codec
        self._policy = policy or city_policy(city)
        self._placer = Placer(self._policy, city.district_names)
        self._bursts = Bursts(self._policy)
        self._encode_event = codec.encoder("Event")
        self._encode_link = codec.encoder("Link")
        self._asked = Outcomes(codec, "event")
        self._records = Records(codec, self.name)
        self._classifier = KeywordClassifier(city.classes)

    def restore(self, topic: str, partition: int, entries: dict[bytes, bytes]) -> MergeState:
        """Changes hold one open event each, the young reports of a batch, or the alarms of a device."""
        state = MergeState()
        young: dict[str, Seen] = {}
        for key in sorted(entries):
            value = entries[key]
            if key.startswith(DIARY):
                seens = reports_of(value)
                # A report that moved stands again in a later batch.
                for seen in seens:
                    young[seen.id] = seen
                state.diary.append((key, max(seen.at for seen in seens)))
            elif key.startswith(DEVICE):
                device, alarms = alarms_of(value)
                # Before merge-3 an alarm stood under its id alone.
                state.alarms[tuple(device)] = sorted(
                    (at, name if "|" in name else rank(occurred, name), occurred, *rest)
                    for at, name, occurred, *rest in alarms
                )
            else:
                self._placer.restore(state, event_of(value))
        for seen in young.values():
            event = state.events.get(seen.event)
            if event is not None and not seen.told:
                # Before links had a sign, what was told of a report stood in its event alone.
                seen.told = _told(seen, event)
            self._placer.remember(state, seen)
        state.stream_time = max(
            [max(event.updated_at, event.last_at) for event in state.events.values()]
            + [seen.at for seen in young.values()],
            default=0,
        )
        self._bursts.restore(state)
        return state

    def entries(self, state: MergeState) -> int:
        """Events held."""
        return len(state.events) + len(state.archive)

    def decide(self, state: MergeState, batch: Batch, now_ms: int) -> Decision:
        """Links for what reports, or people, changed, and the newest version of each event touched."""
        if batch.topic == ACTIONS:
            return self._act(state, batch, now_ms)
        decision = Decision()
        changes = Changes()
        # Before the batch, so that an event which it opens is told, however old.
        self._placer.forget(state, changes)
        told = self._records.of("Report", batch, decision)
        traced = {report["report_id"]: headers for report, headers in told if headers}
        seens = [self._seen(report) for report, _ in told]
        for seen in in_order(state, seens):
            self._placer.place(state, seen, changes)
        self._bursts.settle(state, changes)
        # An event is told for all that came to it: its trace is that of the last one.
        events = traced and {s.event: traced[s.id] for s in seens if s.id in traced}
        self._publish(state, changes, now_ms, decision, traced, events)
        self._diary(state, batch, changes, decision)
        return decision

    def _act(self, state: MergeState, batch: Batch, now_ms: int) -> Decision:
        """Do what people ask, one after the other, and say what became of it."""
        decision = Decision()
        changes = Changes()
        events: dict[str, Headers] = {}
        for action, headers in self._records.of("EventAction", batch, decision):
            if headers:
                events[action["event_id"]] = headers
            links, broken = self._codec.decode_batch("Link", action["links"])
            reports, unreadable = self._codec.decode_batch("Report", action["reports"])
            refusal = (
                Refusal("unreadable", "a link or report of the action is none")
                if broken or unreadable
                else act(
                    self._placer,
                    state,
                    action,
                    [member(link) for link in links if link],
                    {report["report_id"]: self._seen(report) for report in reports if report},
                    changes,
                )
            )
            if refusal is None and action["role"] == "system":
                continue  # an order's own end: its steps tell of it
            decision.outputs.append(
                self._asked.output(action, action["event_id"], action["into"], refusal, now_ms)
            )
        self._bursts.settle(state, changes)
        self._publish(state, changes, now_ms, decision, {}, events)
        # Keyed apart from the batches of reports, whose offsets are another topic's.
        self._diary(state, batch, changes, decision, DIARY + b"act:")
        return decision

    def _seen(self, report: Mapping[str, Any]) -> Seen:
        return to_seen(report, self._policy, self._words_class(report), self._placer.rule)

    def _publish(
        self,
        state: MergeState,
        changes: Changes,
        now_ms: int,
        decision: Decision,
        reports: Mapping[str, Headers],
        events: Mapping[str, Headers],
    ) -> None:
        """``reports``, ``events``: headers of what is told of those that are traced."""
        for move in changes.moves:
            self._move(state, move, now_ms, decision)
        for seen in changes.reports.values():
            start = len(decision.outputs)
            self._tell(state, seen, now_ms, decision)
            hand_on(decision, start, reports.get(seen.id))
        for event in changes.events.values():
            if event.id in changes.gone or state.events.get(event.id) is not event:
                continue
            if not event.count and not event.published:
                # It came and went within the batch: nobody heard of it.
                del state.events[event.id]
                continue
            event.published = True
            decision.outputs.append(
                self._event(event, now_ms)._replace(headers=events.get(event.id))
            )
            decision.changes.append((event.id.encode(), to_json(event)))
        decision.changes.extend((gone.encode(), None) for gone in changes.gone)
        for device in changes.devices:
            alarms = state.alarms.get(device)
            decision.changes.append(
                (_device_key(device), to_json([device, alarms]) if alarms else None)
            )

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

    def _diary(
        self,
        state: MergeState,
        batch: Batch,
        changes: Changes,
        decision: Decision,
        prefix: bytes = DIARY,
    ) -> None:
        """The batch's young reports as one entry; entries of which none is young any more go."""
        young = [seen for seen in changes.reports.values() if seen.id in state.young]
        for part, start in enumerate(range(0, len(young), DIARY_REPORTS)):
            seens = young[start : start + DIARY_REPORTS]
            # Keyed by where the batch starts: no later batch overwrites it, compaction keeps it.
            key = prefix + b"%020d:%03d" % (batch.first, part)
            decision.changes.append((key, to_json(seens)))
            state.diary.append((key, max(seen.at for seen in seens)))
        while state.diary and state.diary[0][1] < state.stream_time - HORIZON_MS:
            decision.changes.append((state.diary.popleft()[0], None))

    def _tell(self, state: MergeState, seen: Seen, now_ms: int, decision: Decision) -> None:
        """A report's link, where it says something new; the one before is taken back."""
        event = state.events.get(seen.event)
        told = _told(seen, event) if event is not None else []
        if told == seen.told:
            return
        if seen.told:
            former, relation, class_code, district_code = seen.told[:4]
            taken = self._link(
                seen, seen.id, former, seen.moves, now_ms, relation, class_code, district_code
            )
            taken["sign"] = -1
            decision.outputs.append(self._out(taken))
            seen.moves += 1
        if event is not None:
            link = self._link(
                seen, seen.id, event.id, seen.moves, now_ms,
                seen.relation, event.class_code, event.district_code,
            )  # fmt: skip
            late = seen.moves and not seen.by_hand
            link["score"] = seen.score
            link["reason"] = (
                f"after a report that came late: {seen.reason}" if late else seen.reason
            )
            link["candidate"] = seen.candidate or None
            decision.outputs.append(self._out(link))
        seen.told = told

    def _move(self, state: MergeState, move: Move, now_ms: int, decision: Decision) -> None:
        """An old report that a person moved: its link taken back, and the new one."""
        was, event = move.member, state.events[move.event]
        taken = self._link(
            was, was.report, was.event, was.sequence, now_ms,
            was.relation, was.class_code, was.district_code,
        )  # fmt: skip
        taken["sign"] = -1
        link = self._link(
            was, was.report, event.id, was.sequence + 1, now_ms,
            move.relation, event.class_code, event.district_code,
        )  # fmt: skip
        link["reason"] = move.reason
        decision.outputs += [self._out(taken), self._out(link)]

    def _link(
        self,
        report: Seen | Member,
        report_id: str,
        event: str,
        sequence: int,
        now_ms: int,
        relation: str,
        class_code: str,
        district_code: str,
    ) -> dict[str, Any]:
        """A link that holds, sure and without a reason."""
        return {
            "link_id": link_id(report_id, sequence),
            "report_id": report_id,
            "event_id": event,
            "relation": relation,
            "class_code": class_code,
            "district_code": district_code,
            "channel": report.channel,
            "occurred_at": report.occurred_at,
            "received_at": report.received_at,
            "score": 1.0,
            "reason": "",
            "rule_version": self._policy.version,
            "decided_at": now_ms,
            "candidate": None,
            "sign": 1,
            "sequence": sequence,
        }

    def _out(self, link: Mapping[str, Any]) -> Output:
        return Output("event.links", link["event_id"].encode(), self._encode_link(link))

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
            "incident_id": event.incident_id,
            "candidate": event.candidate if event.doubtful else None,
            "candidate_score": event.candidate_score if event.doubtful else 0.0,
            "candidate_reason": event.candidate_reason if event.doubtful else "",
            "urgent": event.urgent > 0,
            "self_handled": event.self_handled,
        }
        return Output("events", event.id.encode(), self._encode_event(record))


def _told(seen: Seen, event: OpenEvent) -> list[str]:
    """What counts of a report's link."""
    told = [event.id, seen.relation, event.class_code, event.district_code]
    return [*told, seen.candidate] if seen.candidate else told


def _device_key(device: Token) -> bytes:
    return DEVICE + to_json(device)


def to_seen(
    report: Mapping[str, Any],
    policy: MergePolicy,
    also: str = "",
    rule: Callable[[str], Rule] | None = None,
) -> Seen:
    """What merge needs of an accepted report; ``also``: a second class under which its event may stand.

    ``rule``: the policy's, where it is remembered.
    """
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
    tokens += photo_tokens(report["media"])
    building, part = address_key(report["address"]), False
    if policy.part and (
        report["lon"] is None or (rule or policy.rule)(class_code).mode == "address"
    ):
        words = f"{title} {text}".lower()
        part = any(word in words for word in policy.part)
    return Seen(
        0, report["report_id"], report["occurred_at"], report["received_at"], report["channel"],
        class_code, report["zone"], report["lon"], report["lat"], report["district_code"],
        report["grid_code"], title[:NAME_KEPT], report["address"][:NAME_KEPT],
        f"{title} {text}"[:TEXT_KEPT],
        "" if device else report["reporter_hash"], list(dict.fromkeys(tokens)), device,
        report["alarm_state"], building, part, also=also,
        urgent=bool(report.get("urgent")), self_handled=bool(report.get("self_handled")),
    )  # fmt: skip
