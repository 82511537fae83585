"""Intake's decisions: every raw record has exactly one outcome, accepted | duplicate | review | rejected."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from schemas import metrics
from schemas.city import CityPack
from schemas.codec import Codec, DecodeError
from schemas.ids import report_id, undecodable_report_id
from schemas.instants import Instant, parse_instant
from schemas.texts import clean
from streams.asked import Outcomes, Refusal
from streams.batch import Batch, Decision, Output
from streams.intake.classify import Classified, Classifier, ReportTexts
from streams.intake.demands import (
    Demands,
    demands,
    may_list,
    names_house,
    part_id,
    plain_numbers,
    suffix,
)
from streams.intake.locate import Located, Locator, Place
from streams.intake.normalise import plausible
from streams.intake.privacy import mask, reporter_hash
from streams.intake.seen import SeenIds
from streams.intake.tags import Tagger, Tags
from streams.records import Records, hand_on

RULE_VERSION = "intake-11"
#: A letter of 20,000 characters is long; more than this is a mistake that a person must look at.
TEXT_LIMIT = 100_000
TITLE_LIMIT = 500
#: A topic takes records of 1 MiB (topics.yaml). A record above it could never be committed and would stop
#: the partition for good, so it is refused here, by its size as it would be written: cells that are each
#: within a connector's limit can add up, and NFKC makes up to 18 characters of one. The rest is framing.
RECORD_LIMIT = 1_000_000
#: Of an outcome's own identifying cells only so much is kept: an outcome must always be possible.
NAME_LIMIT = 1_000
#: So sure must each demand of a message be of its class, and of a place of its own, for the message to be taken
#: apart: a wrong split sends somebody where nothing is.
DEMAND_SURE = 0.7
#: What a demand is called whose message is called after another: so many of its own first characters.
DEMAND_TITLE = 30
#: So early a demand says what it is about.
DEMAND_HEAD = 60
RAW_PREFIX = "reports.raw."
ANSWERS = "review.answers"
ALARM_STATES = ("open", "cleared")
#: How systems write yes.
YES = frozenset({"1", "true", "yes", "y", "是"})


class Reason(StrEnum):
    """Why an outcome is not ``accepted``."""

    UNDECODABLE = (
        "undecodable"  # rejected: no record of ours; the bytes are in the dead-letter topic
    )
    MISSING_NATIVE_ID = "missing_native_id"  # rejected: cannot be told from its own repetition
    ENCODING = "encoding"  # rejected: the connector could not read the bytes as text
    MALFORMED = "malformed"  # rejected: the connector could not read the entry
    TEXT_TOO_LONG = "text_too_long"  # rejected: above the limit, a cell or all of them together
    EMPTY = "empty"  # rejected: neither title, text nor category
    EXACT_DUPLICATE = "exact_duplicate"  # duplicate: same channel, native id and revision
    IMPOSSIBLE_DATE = "impossible_date"  # review
    CLASS_UNKNOWN = "class_unknown"  # review
    CLASS_UNSURE = "class_unsure"  # review: the trained model is below its threshold
    NO_LOCATION = "no_location"  # review: neither point nor unique name
    AMBIGUOUS_PLACE = "ambiguous_place"  # review: names of several districts
    OUTSIDE_CITY = "outside_city"  # review
    NULL_ISLAND = "null_island"  # review: (0, 0)
    UNKNOWN_CRS = "unknown_crs"  # review
    BAD_COORDINATE = "bad_coordinate"  # review: not a number, or out of range
    ROUNDED_POINT = "rounded_point"  # review: too few decimals to name a place
    PLACE_CONFLICT = "place_conflict"  # review: the point lies far outside of what is named


def fatal_defect(defect: str) -> Reason | None:
    """The reason to reject, when what the connector could not read ends the matter here.

    A defect is ``encoding:…`` or ``malformed:…`` for the whole entry, else ``field:what:…``.
    """
    first, _, rest = defect.partition(":")
    if first == "encoding":
        return Reason.ENCODING
    if first == "malformed":
        return Reason.MALFORMED
    return Reason.TEXT_TOO_LONG if rest.startswith("too_long") else None


Raw = Mapping[str, Any]


def _key(identity: str) -> bytes:
    """A report id as intake holds it."""
    return bytes.fromhex(identity.replace("-", ""))


@dataclass(slots=True)
class _Draft:
    """A raw report on its way to an outcome."""

    index: int
    raw: Raw
    id: str
    place: Place
    title: str
    text: str
    occurred: Instant | None
    outcome: str = "accepted"
    reason: str = ""
    detail: str = ""
    located: Located | None = None
    classified: Classified | None = None
    #: Its demands, when it tells of several.
    demands: list["_Demand"] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Demand:
    """One of several matters that a message tells of, or the only one."""

    title: str
    text: str
    classified: Classified
    located: Located
    #: Its place is not the message's.
    elsewhere: bool = False


class IntakeStep:
    """The intake agent's step over raw topics."""

    name = "intake"

    def __init__(self, city: CityPack, codec: Codec, hash_key: bytes) -> None:
        self._city = city
        self._codec = codec
        self._classifier = Classifier(city)
        self._locator = Locator(city)
        self._tagger = Tagger(city.tags)
        self._hash_key = hash_key
        self._records = Records(codec, self.name)
        self._outcomes: Counter[tuple[str, str, str]] = Counter()
        self._encode_outcome = codec.encoder("ReportOutcome")
        self._encode_report = codec.encoder("Report")
        self._asked = Outcomes(codec, "review")

    def restore(self, topic: str, partition: int, entries: dict[bytes, bytes]) -> SeenIds:
        """Changes hold the ids of a batch, or of several small ones, 16 bytes an id."""
        return SeenIds(entries)

    def entries(self, state: SeenIds) -> int:
        """Ids held."""
        return len(state)

    def decide(self, state: SeenIds, batch: Batch, now_ms: int) -> Decision:
        """One outcome for each record; accepted ones become reports, undecodable ones dead letters."""
        if batch.topic == ANSWERS:
            return self._answered(state, batch, now_ms)
        raws, errors = self._records.decode("RawReport", batch)
        decision = Decision()
        for index, error in errors.items():
            self._undecodable(batch, index, error, now_ms, decision)
        drafts = [self._draft(i, raw) for i, raw in enumerate(raws) if raw is not None]
        fresh = self._once(drafts, state)
        open_drafts = [d for d in drafts if d.outcome == "accepted"]
        for draft, located in zip(
            open_drafts, self._locator.locate([d.place for d in open_drafts]), strict=True
        ):
            draft.located = located
        texts = [ReportTexts(clean(d.raw["category"]), d.title, d.text) for d in open_drafts]
        for draft, classified in zip(open_drafts, self._classifier.classify(texts), strict=True):
            draft.classified = classified
            if may_list(draft.text):
                self._take_apart(draft)
        headers = self._records.headers(batch)
        for draft in drafts:
            start = len(decision.outputs)
            self._conclude(draft, batch, now_ms, decision)
            hand_on(decision, start, headers[draft.index])
        if fresh:
            # Keyed by where the batch starts: no later batch overwrites it, compaction keeps it.
            decision.changes += state.changes(b"seen:%020d" % batch.first, b"".join(fresh))
        for labels, count in self._outcomes.items():
            metrics.STREAM_OUTCOMES.labels(*labels).inc(count)
        self._outcomes.clear()
        return decision

    def _draft(self, index: int, raw: Raw) -> _Draft:
        """Read a raw report; settles what can be settled without state and place."""
        native = clean(raw["native_id"])
        title, text = clean(raw["title"])[:TITLE_LIMIT], raw["text"] or ""
        too_long = len(text) > TEXT_LIMIT
        text = "" if too_long else clean(plain_numbers(text) if "①" in text else text)
        address = clean(raw["address"])
        occurred = (
            parse_instant(raw["occurred_at"], raw["time_zone"]) if raw["occurred_at"] else None
        )
        if occurred is not None and not plausible(occurred, raw["received_at"]):
            occurred = None
        draft = _Draft(
            index,
            raw,
            report_id(raw["channel"], native, raw["revision"]) if native else "",
            Place(
                clean(raw["lon"]),
                clean(raw["lat"]),
                clean(raw["crs"]).upper().replace("-", ""),
                clean(raw["district"]),
                clean(raw["street"]),
                (address, title, text),
                occurred.ms if occurred else raw["received_at"],
            ),
            title,
            text,
            occurred,
        )
        fatal = next(filter(None, map(fatal_defect, raw["defects"])), None)
        if fatal:
            self._set(draft, "rejected", fatal, "; ".join(raw["defects"])[:200])
        elif not native:
            self._set(
                draft,
                "rejected",
                Reason.MISSING_NATIVE_ID,
                "the message carries no id of its channel",
            )
        elif too_long:
            self._set(
                draft,
                "rejected",
                Reason.TEXT_TOO_LONG,
                f"{len(raw['text'])} characters, limit {TEXT_LIMIT}",
            )
        elif not (title or text or raw["category"]):
            self._set(draft, "rejected", Reason.EMPTY, "neither title, text nor category")
        return draft

    @staticmethod
    def _set(draft: _Draft, outcome: str, reason: str, detail: str) -> None:
        draft.outcome, draft.reason, draft.detail = outcome, reason, detail

    def _once(self, drafts: Sequence[_Draft], seen: SeenIds) -> list[bytes]:
        """The same message again is a duplicate, whatever became of the first; ids seen for the first time."""
        keys = {draft.index: _key(draft.id) for draft in drafts if draft.id}
        before = seen.among(keys.values())
        fresh: list[bytes] = []
        for draft in drafts:
            key = keys.get(draft.index)
            if key is None:
                continue
            if key in before:
                self._set(
                    draft,
                    "duplicate",
                    Reason.EXACT_DUPLICATE,
                    "same channel, native id and revision",
                )
            else:
                before.add(key)
                fresh.append(key)
        seen.add(fresh)
        return fresh

    def _take_apart(self, draft: _Draft) -> None:
        """Find the demands of a person's message, if it tells of several and nobody need look at it."""
        raw = draft.raw
        if raw["device"] or (raw["occurred_at"] and draft.occurred is None):
            return
        for found in demands(draft.text):
            draft.demands = self._each(draft, found)
            if draft.demands:
                return

    def _each(self, draft: _Draft, found: Demands) -> list[_Demand]:
        """The demands, each with a class and a place of its own; none when any is in doubt."""
        classes = self._surely(found.parts)
        if not classes:
            return []
        codes = [c.code for c in classes]
        # What the channel says is of the whole: it must be of one of them, or nobody knows of which.
        (native,) = self._classifier.classify([ReportTexts(clean(draft.raw["category"]), "", "")])
        if native is not None:
            if native.code not in codes:
                return []
            classes[codes.index(native.code)] = native
        texts = [f"{found.common} {part}".strip() for part in found.parts]
        places = self._places(draft.place, found, texts)
        if any(place.reason for place, _ in places):
            return []
        (called,) = self._classifier.classify([ReportTexts("", draft.title, "")])
        return [
            _Demand(
                draft.title
                if not number or called is None or called.code == classified.code
                else part[:DEMAND_TITLE],
                text,
                classified,
                *place,
            )
            for number, (part, text, classified, place) in enumerate(
                zip(found.parts, texts, classes, places, strict=True)
            )
        ]

    def _surely(self, parts: Sequence[str]) -> list[Classified]:
        """The class of each part; none when one is in doubt, or when one unit may have to do with two of them.

        A demand says at its beginning what it is about; what a reporter wants is none (咨询, 投诉, 表扬).
        """
        count = len(parts)
        texts = [ReportTexts("", "", part) for part in parts]
        texts += [ReportTexts("", "", part[:DEMAND_HEAD]) for part in parts]
        found = self._classifier.classify(texts)
        classes = [c for c in found if c is not None and c.sure and c.confidence >= DEMAND_SURE]
        kinds = [self._city.classes[c.code] for c in classes[:count]]
        if (
            len(classes) < len(texts)
            or any(c.code != head.code for c, head in zip(classes, classes[count:], strict=False))
            or len({kind.class_name for kind in kinds}) < count
            or any(intent in kind.name for kind in kinds for intent in self._city.tags.intents)
        ):
            return []
        return classes[:count]

    def _places(
        self, place: Place, found: Demands, texts: Sequence[str]
    ) -> list[tuple[Located, bool]]:
        """Where each demand is, and whether that is elsewhere than the message: its own words come first."""
        named = [Place("", "", "", "", "", ("", "", part), place.at) for part in found.parts]
        address, title, _ = place.texts
        whole = [place._replace(texts=(address, title, text)) for text in texts]
        placed: list[tuple[Located, bool]] = []
        for number, (own, common) in enumerate(
            zip(self._locator.locate(named), self._locator.locate(whole), strict=True)
        ):
            # What a message says before it begins anew is what its point and address are of.
            first = not number and not found.common
            away = own.confidence >= DEMAND_SURE and not common.grid.startswith(own.grid)
            # It names a house, of which nobody knows where it is.
            doubt = own.reason == "ambiguous_place" or (
                bool(own.reason) and names_house(found.parts[number])
            )
            elsewhere = not first and (away or doubt)
            placed.append((own if elsewhere else common, elsewhere))
        return placed

    def _conclude(self, draft: _Draft, batch: Batch, now_ms: int, decision: Decision) -> None:
        """Date and place what is still open; write the outcome and the report, or those of its demands."""
        raw, occurred = draft.raw, draft.occurred
        if draft.demands:
            draft.classified, draft.located = draft.demands[0].classified, draft.demands[0].located
        classified, located = draft.classified, draft.located or Located()
        if draft.outcome == "accepted":
            if raw["occurred_at"] and occurred is None:
                self._set(
                    draft,
                    "review",
                    Reason.IMPOSSIBLE_DATE,
                    f"occurred_at {raw['occurred_at'][:40]!r}",
                )
            elif located.reason:
                self._set(draft, "review", located.reason, located.detail)
            elif classified is None:
                self._set(
                    draft,
                    "review",
                    Reason.CLASS_UNKNOWN,
                    "no word of the taxonomy in title or text",
                )
            elif not classified.sure:
                self._set(draft, "review", Reason.CLASS_UNSURE, self._choices(classified))
        offset = batch.offsets[draft.index]
        identity = draft.id or undecodable_report_id(batch.topic, batch.partition, offset)
        source = {
            "source_topic": batch.topic,
            "source_partition": batch.partition,
            "source_offset": offset,
            "rule_version": RULE_VERSION,
        }
        class_code = classified.code if classified else ""
        written: list[bytes] = []
        if draft.outcome == "accepted" and classified is not None:
            whole = _Demand(draft.title, draft.text, classified, located)
            written = [
                self._report(draft, identity, demand, number, source)
                for number, demand in enumerate(draft.demands, 1)
            ] or [self._report(draft, identity, whole, 0, source)]
            if (size := max(map(len, written))) > RECORD_LIMIT:
                self._set(
                    draft,
                    "rejected",
                    Reason.TEXT_TOO_LONG,
                    f"{size} bytes in all cells together, limit {RECORD_LIMIT}",
                )
                written = []
            elif draft.demands:
                draft.detail = "demands: " + ", ".join(d.classified.code for d in draft.demands)
        outcome = {
            "report_id": identity,
            "channel": raw["channel"][:NAME_LIMIT],
            "native_id": raw["native_id"] and raw["native_id"][:NAME_LIMIT],
            "revision": raw["revision"],
            "outcome": draft.outcome,
            "reason": str(draft.reason),
            "detail": draft.detail,
            "class_code": class_code,
            "district_code": located.district,
            "grid_code": located.grid,
            "occurred_at": occurred.ms if occurred else None,
            "received_at": raw["received_at"],
            "decided_at": now_ms,
            "parts": len(written) or 1,
            **source,
        }
        decision.outputs.append(
            Output("report.outcomes", identity.encode(), self._encode_outcome(outcome))
        )
        self._outcomes[outcome["channel"], draft.outcome, str(draft.reason)] += 1
        zones = [demand.located.zone for demand in draft.demands] or [located.zone]
        for zone, report in zip(zones, written, strict=False):
            decision.outputs.append(Output("reports", zone.encode(), report))

    def _report(
        self,
        draft: _Draft,
        identity: str,
        demand: _Demand,
        number: int,
        source: Mapping[str, Any],
    ) -> bytes:
        """The accepted report as it is written; ``number`` of the demand, 0 when it is the whole."""
        raw, occurred = draft.raw, draft.occurred
        classified, located = demand.classified, demand.located
        # Point and address are the message's; a demand that is elsewhere has neither.
        place = draft.place if not number or not demand.elsewhere else None
        behind = suffix(number) if number else ""
        forwarded = raw["forwarded_from"]
        # What people will read tells of the matter, not of who told it.
        title, text = mask(demand.title), mask(demand.text)
        address = mask(place.texts[0] if place else "")
        # A device wants nothing and says its words of itself.
        tags = Tags() if raw["device"] else self._tagger.tags(demand.title, demand.text)
        # One message is one reporter's, wherever in it the number stands.
        told = mask(draft.text) if number else text
        phones = (*title.phones, *told.phones, *address.phones)
        return self._encode_report(
            {
                "report_id": part_id(identity, number) if number else identity,
                "origin": identity if number else "",
                "channel": raw["channel"],
                "native_id": clean(raw["native_id"]) + behind,
                "revision": raw["revision"],
                "occurred_at": occurred.ms if occurred else raw["received_at"],
                "occurred_offset_min": occurred.offset_min if occurred else 0,
                "received_at": raw["received_at"],
                "title": title.text,
                "text": text.text,
                "class_code": classified.code,
                "class_confidence": classified.confidence,
                "class_method": classified.method,
                "lon": located.lon,
                "lat": located.lat,
                "source_lon": place.lon if place else "",
                "source_lat": place.lat if place else "",
                "crs": place.crs if place else "",
                "district_code": located.district,
                "grid_code": located.grid,
                "locate_method": located.method,
                "zone": located.zone,
                "address": address.text,
                "reporter_hash": reporter_hash(
                    self._hash_key, clean(raw["reporter"] or next(iter(phones), None))
                ),
                # The same words fell into the same demands where they came from.
                "forwarded_from": forwarded + behind if forwarded else forwarded,
                "media": raw["media"],
                "device": clean(raw["device"]),
                "alarm_state": raw["alarm_state"] if raw["alarm_state"] in ALARM_STATES else "",
                "self_handled": clean(raw["self_handled"]).lower() in YES,
                "intent": tags.intent,
                "urgent": tags.urgent,
                "sensitive": tags.sensitive,
                **source,
            }
        )

    # ---- what people say of reports that went to review

    def _answered(self, state: SeenIds, batch: Batch, now_ms: int) -> Decision:
        """What a person decided becomes a report, or ends the matter; the outcome says what was done."""
        decision = Decision()
        fresh: list[bytes] = []
        for answer, headers in self._records.of("ReviewAnswer", batch, decision):
            start = len(decision.outputs)
            refusal = self._answer(state, answer, fresh, decision)
            decision.outputs.append(
                self._asked.output(
                    answer, answer["report_id"], answer["class_code"], refusal, now_ms
                )
            )
            hand_on(decision, start, headers)
        if fresh:
            decision.changes += state.changes(b"seen:%020d" % batch.first, b"".join(fresh))
        return decision

    def _answer(
        self,
        state: SeenIds,
        answer: Mapping[str, Any],
        fresh: list[bytes],
        decision: Decision,
    ) -> Refusal | None:
        """Do what one answer says, or refuse it."""
        if answer["action"] not in ("accept", "reject"):
            return Refusal(
                "unknown_action", f"{answer['action'][:40]!r} is neither accept nor reject"
            )
        raws, errors = self._codec.decode_batch("RawReport", [answer["raw"]])
        draft = None if errors or raws[0] is None else self._draft(0, raws[0])
        if draft is None or draft.id != answer["report_id"]:
            return Refusal(
                "other_report", "the raw record that came with the answer is of another report"
            )
        key = _key(draft.id)
        if state.among([key]):
            return Refusal("already_done", "somebody has answered for this report")
        if answer["action"] == "accept":
            if draft.outcome != "accepted":
                return Refusal(str(draft.reason), draft.detail)
            classified, located = self._person_says(draft, answer)
            if located.reason:
                return Refusal(located.reason, located.detail or "name its grid, or set a point")
            if classified is None:
                return Refusal("unknown_class", "name its class by a code of the taxonomy")
            source = {name: answer[name] for name in ("source_topic", "source_partition")}
            source |= {"source_offset": answer["source_offset"], "rule_version": RULE_VERSION}
            whole = _Demand(draft.title, draft.text, classified, located)
            written = self._report(draft, draft.id, whole, 0, source)
            if len(written) > RECORD_LIMIT:
                return Refusal(Reason.TEXT_TOO_LONG, f"{len(written)} bytes, limit {RECORD_LIMIT}")
            decision.outputs.append(Output("reports", located.zone.encode(), written))
        state.add([key])
        fresh.append(key)
        return None

    def _person_says(
        self, draft: _Draft, answer: Mapping[str, Any]
    ) -> tuple[Classified | None, Located]:
        """Class and place as the person says; what the person does not say, as the rules find it."""
        place = draft.place
        if answer["lon"] is not None and answer["lat"] is not None:
            # The person has read what is written beside it.
            point = Place(
                f"{answer['lon']:.7f}", f"{answer['lat']:.7f}", "CGCS2000", "", "", (), place.at
            )
            located = self._locator.locate([point])[0]._replace(method="person")
        elif answer["grid_code"]:
            located = self._locator.grid(answer["grid_code"])
        else:
            located = self._locator.locate([place])[0]
        code = answer["class_code"]
        if code:
            known = code in self._city.classes
            return (Classified(code, 1.0, "person") if known else None), located
        texts = ReportTexts(clean(draft.raw["category"]), draft.title, draft.text)
        found = self._classifier.classify([texts])[0]
        return (found if found is not None and found.sure else None), located

    def _choices(self, classified: Classified) -> str:
        """The best classes, for who must choose."""
        return ", ".join(
            f"{code} {self._city.classes[code].name} {chance:.2f}"
            for code, chance in classified.top
        )

    def _undecodable(
        self, batch: Batch, index: int, error: DecodeError, now_ms: int, decision: Decision
    ) -> None:
        """Rejected, and the bytes untouched to the dead-letter topic."""
        offset = batch.offsets[index]
        identity = undecodable_report_id(batch.topic, batch.partition, offset)
        channel = batch.topic.removeprefix(RAW_PREFIX)
        outcome = {
            "report_id": identity,
            "channel": channel,
            "native_id": None,
            "outcome": "rejected",
            "reason": str(Reason.UNDECODABLE),
            "detail": str(error),
            "received_at": batch.timestamps[index],
            "decided_at": now_ms,
            "source_topic": batch.topic,
            "source_partition": batch.partition,
            "source_offset": offset,
            "rule_version": RULE_VERSION,
        }
        decision.outputs.append(
            Output("report.outcomes", identity.encode(), self._encode_outcome(outcome))
        )
        decision.outputs.append(self._records.put_aside(batch, index, error))
        self._outcomes[channel, "rejected", str(Reason.UNDECODABLE)] += 1
