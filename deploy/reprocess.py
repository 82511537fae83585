# ruff: noqa: S608 # names of tables and columns are constants of this file; values go as parameters
"""What the agents would decide today of the raw reports of a past time, beside what they decided then.

Raw records are read from Kafka as far as they are kept, and go through the agents' own steps in memory, with
another model, merge policy or pack where one is given: intake for each partition, then merge over all reports
in the order of their arrival, then the first order of each event. What people did in that time (answers to
reviews, merges and splits by hand, closed events) is done again as far as it applies. Nothing is written.

The time before the range is decided, too, from :data:`WARM_MS` earlier on, and not compared: an event may have
been opened there. Reports that a person decided or moved are counted, not compared: a person's word stands.

:func:`switch` brings over what the agents have an action for, by that action, so that every counter follows by
sign and the audit stays clean: see :func:`plan`.
"""

import csv
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

from confluent_kafka import Message

from deploy.checks import Facts
from deploy.desk import Actor, Desk
from deploy.positions import Extent, Partition, Positions
from schemas.channels import channel_names
from schemas.city import CityPack, TrainedClassifier
from schemas.codec import Codec, default_codec
from schemas.errors import QuanyuError
from schemas.merge_policy import MergePolicy
from schemas.secrets import load_hash_key
from schemas.settings import Settings
from schemas.topics import raw_topic
from streams.batch import Batch, Output
from streams.dispatch.decide import DispatchStep
from streams.intake.decide import ANSWERS, IntakeStep
from streams.merge.decide import ACTIONS, MergeStep

#: What is decided before the range, so that its first reports meet the events that they met.
WARM_MS = 72 * 3600 * 1000
#: Records in memory at most; a busy city's week.
RECORDS_LIMIT = 1_000_000
BATCH = 4000
#: How a link says that a person made it.
BY_HAND = "by hand"
#: Seconds to wait for what became of an action.
OUTCOME_S = 30.0

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Under:
    """With what to decide; ``policy`` None: the pack's."""

    city: CityPack
    policy: MergePolicy | None = None


def under(
    city: CityPack, model: Path | None, threshold: float | None, policy: MergePolicy | None
) -> Under:
    """The pack, with another model, threshold or policy where one is given."""
    known = city.classifier
    if model is None and threshold is not None:
        if known is None:
            raise QuanyuError("--threshold: the pack names no model; give one with --model")
        model = city.folder / known.model
    if model is not None:
        chosen = TrainedClassifier(model=model.resolve())
        if threshold is not None:
            chosen = chosen.model_copy(update={"threshold": threshold})
        city = replace(city, classifier=chosen)
    return Under(city, policy)


class Place(NamedTuple):
    """Where a raw record lies."""

    topic: str
    partition: int
    offset: int


@dataclass(slots=True)
class Judged:
    """What was decided of one raw record. ``reports``: those that it became, in order."""

    report_id: str
    channel: str
    outcome: str
    reason: str
    class_code: str
    grid_code: str
    reports: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Side:
    """Everything that was decided: raw record → decision, report → event, event → unit of its first order."""

    messages: dict[Place, Judged] = field(default_factory=dict)
    events: dict[str, str] = field(default_factory=dict)
    units: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Row:
    """One raw record, decided then (``old``) and now (``new``).

    ``changed``: outcome, class, grid, parts, merge, unit, joined by spaces. ``switch``: how it can be brought
    over, else ``why_not``.
    """

    report_id: str
    channel: str
    source_topic: str
    source_partition: int
    source_offset: int
    changed: str
    old_outcome: str
    new_outcome: str
    old_reason: str
    new_reason: str
    old_class: str
    new_class: str
    old_grid: str
    new_grid: str
    old_event: str
    new_event: str
    old_unit: str
    new_unit: str
    switch: str = ""
    why_not: str = ""


@dataclass(slots=True)
class Comparison:
    """What changed, in numbers and rows (changed ones only).

    ``not_kept``: records of the range that Kafka no longer has; ``by_person``: left out, a person decided.
    """

    compared: int = 0
    not_kept: int = 0
    not_decided_then: int = 0
    by_person: int = 0
    changed: dict[str, int] = field(default_factory=dict)
    outcomes: dict[str, int] = field(default_factory=dict)
    classes: dict[str, int] = field(default_factory=dict)
    reasons: dict[str, int] = field(default_factory=dict)
    events_then: int = 0
    events_now: int = 0
    seconds: float = 0.0
    rows: list[Row] = field(default_factory=list)
    actions: list["Action"] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """For JSON, without the rows."""
        whole = {f.name: getattr(self, f.name) for f in fields(self)}
        del whole["rows"]
        return {**whole, "actions": dict(Counter(a.verb for a in self.actions))}


def reprocess(
    settings: Settings, begin_ms: int, end_ms: int, how: Under, say: Say = lambda _: None
) -> Comparison:
    """Decide the raw reports that came from ``begin_ms`` on and before ``end_ms`` anew, and compare.

    Raises :class:`QuanyuError` when Kafka or ClickHouse does not answer, nothing is kept of that time, or it
    holds more than :data:`RECORDS_LIMIT` records.
    """
    started = time.monotonic()
    if begin_ms >= end_ms:
        raise QuanyuError("--from must be before --to")
    codec = default_codec(settings)
    with Positions(settings) as positions, closing(Facts(settings)) as facts:
        window, begin, gone = _extents(positions, begin_ms, end_ms)
        then, hand, people = _recorded(facts, window)
        say(f"{len(then.messages)} decisions of that time read")
        seen = _seen_before(facts, window)
        records = _read(positions, window, end_ms, say)
        now = _decide(settings, codec, how, records, seen, people, say)
    found = compare(then, now, hand, people, begin)
    found.not_kept = sum(_not_kept(settings, gone, begin_ms, end_ms))
    found.actions = plan(then, now, found, hand, begin)
    found.rows = _with_switch(found)
    found.seconds = round(time.monotonic() - started, 1)
    return found


# ---- what was decided then


def _extents(
    positions: Positions, begin_ms: int, end_ms: int
) -> tuple[dict[Partition, Extent], dict[Partition, int], dict[Partition, int]]:
    """Of each raw partition: what to decide, where the range begins in it, where its log begins."""
    partitions = positions.partitions(raw_topic(name) for name in channel_names())
    warm, begin = (
        positions.since(partitions, begin_ms - WARM_MS),
        positions.since(partitions, begin_ms),
    )
    end, kept = positions.since(partitions, end_ms), positions.extents(partitions)
    window = {p: Extent(warm[p], end[p]) for p in partitions if warm[p] < end[p]}
    if not any(begin[p] < end[p] for p in partitions):
        raise QuanyuError(
            "Kafka has no raw report of that time: it came to none, or retention has deleted them "
            "(topics.yaml, channels.retention_days); quanyu replay brings them from their source"
        )
    size = sum(e.end - e.first for e in window.values())
    if size > RECORDS_LIMIT:
        raise QuanyuError(
            f"{size} records, with the {WARM_MS // 3_600_000} h before: more than {RECORDS_LIMIT} do not fit "
            "in memory; take a shorter time"
        )
    return window, begin, {p: kept[p].first for p in partitions}


def _where(window: Mapping[Partition, Extent]) -> tuple[str, dict[str, Any]]:
    """The condition of the window's outcomes, and its parameters."""
    parts: list[str] = []
    given: dict[str, Any] = {}
    for n, ((topic, partition), extent) in enumerate(sorted(window.items())):
        parts.append(
            f"(source_topic = {{t{n}:String}} AND source_partition = {{p{n}:UInt32}} "
            f"AND source_offset >= {{a{n}:UInt64}} AND source_offset < {{z{n}:UInt64}})"
        )
        given |= {f"t{n}": topic, f"p{n}": partition, f"a{n}": extent.first, f"z{n}": extent.end}
    return f"({' OR '.join(parts)})", given


def _recorded(
    facts: Facts, window: Mapping[Partition, Extent]
) -> tuple[Side, set[str], dict[str, str]]:
    """The tables' side; reports that a person moved; messages that a person decided, and how."""
    side = Side()
    where, given = _where(window)
    by_id: dict[str, Judged] = {}
    for topic, partition, offset, *decided in facts.rows(
        "SELECT source_topic, source_partition, source_offset, report_id, channel, toString(outcome), reason, "
        f"class_code, grid_code FROM report_outcomes WHERE {where}",
        **given,
    ):
        message = Judged(*decided)
        side.messages[Place(topic, partition, offset)] = message
        if message.outcome != "duplicate":
            by_id[message.report_id] = message
    for report, origin in facts.rows(
        f"SELECT report_id, origin FROM reports WHERE {where} ORDER BY report_id", **given
    ):
        if (found := by_id.get(origin or report)) is not None:
            found.reports.append(report)
    hand: set[str] = set()
    for report, event, reason in facts.rows(
        "SELECT any(report_id), any(event_id), any(reason) FROM event_links WHERE report_id IN "
        f"(SELECT report_id FROM reports WHERE {where}) GROUP BY link_id HAVING sum(sign) > 0",
        **given,
    ):
        side.events[report] = event
        if BY_HAND in reason:
            hand.add(report)
    side.units = dict(
        facts.rows(
            "SELECT event_id, argMin(unit_code, (sequence, opened_at)) FROM orders FINAL WHERE event_id IN "
            "(SELECT event_id FROM event_links WHERE report_id IN "
            f"(SELECT report_id FROM reports WHERE {where})) GROUP BY event_id",
            **given,
        )
    )
    people = dict(
        facts.rows(
            "SELECT target, action FROM action_outcomes WHERE kind = 'review' AND outcome = 'applied' "
            f"AND target IN (SELECT report_id FROM report_outcomes WHERE {where})",
            **given,
        )
    )
    return side, hand, people


def _seen_before(facts: Facts, window: Mapping[Partition, Extent]) -> set[bytes]:
    """Reports of which the window has repetitions only."""
    where, given = _where(window)
    return {
        bytes.fromhex(report.replace("-", ""))
        for (report,) in facts.rows(
            f"SELECT report_id FROM report_outcomes WHERE {where} GROUP BY report_id "
            "HAVING countIf(outcome != 'duplicate') = 0",
            **given,
        )
    }


def _not_kept(
    settings: Settings, gone: Mapping[Partition, int], begin_ms: int, end_ms: int
) -> Iterator[int]:
    """Outcomes of the range whose raw record retention has deleted."""
    with closing(Facts(settings)) as facts:
        for (topic, partition), first in gone.items():
            ((number,),) = facts.rows(
                "SELECT count() FROM report_outcomes WHERE source_topic = {t:String} AND "
                "source_partition = {p:UInt32} AND source_offset < {o:UInt64} AND "
                "received_at >= fromUnixTimestamp64Milli({a:Int64}) AND "
                "received_at < fromUnixTimestamp64Milli({z:Int64})",
                t=topic, p=partition, o=first, a=begin_ms, z=end_ms,
            )  # fmt: skip
            yield number


# ---- what is decided now


@dataclass(slots=True)
class _Records:
    """Records by partition; answers and actions, each with their time."""

    raw: dict[Partition, list[Message]] = field(default_factory=dict)
    answers: list[Message] = field(default_factory=list)
    actions: list[Message] = field(default_factory=list)


def _read(
    positions: Positions, window: Mapping[Partition, Extent], end_ms: int, say: Say
) -> _Records:
    found = _Records()
    people = positions.partitions([ANSWERS, ACTIONS])
    kept = positions.extents(people)
    until = positions.since(people, end_ms)
    # A report of the range may be answered for later than its end.
    more = {p: Extent(kept[p].first, kept[p].end if p[0] == ANSWERS else until[p]) for p in people}
    number = 0
    for partition, run in positions.records({**window, **more}):
        if partition[0] == ANSWERS:
            found.answers += run
        elif partition[0] == ACTIONS:
            found.actions += run
        else:
            found.raw.setdefault(partition, []).extend(run)
        number += len(run)
        say(f"{number} records read")
    return found


def _batch(topic: str, partition: int, run: Sequence[Message]) -> Batch:
    return Batch(
        topic,
        partition,
        [m.key() for m in run],
        [m.value() for m in run],
        [m.offset() or 0 for m in run],
        [m.timestamp()[1] for m in run],
        [None] * len(run),  # no decision depends on them
    )


def _decide(
    settings: Settings,
    codec: Codec,
    how: Under,
    records: _Records,
    seen: set[bytes],
    people: Mapping[str, str],
    say: Say,
) -> Side:
    side = Side()
    intake = IntakeStep(how.city, codec, load_hash_key(settings))
    now_ms = int(time.time() * 1000)
    arrived: list[tuple[int, str, bytes]] = []
    by_id: dict[str, Judged] = {}

    def take(outputs: Iterable[Output], at: Mapping[Place, int], answer_ms: int | None) -> None:
        for output in outputs:
            if output.value is None or output.topic not in ("report.outcomes", "reports"):
                continue
            _, record = codec.decode(output.value)
            place = Place(*(record[f"source_{n}"] for n in ("topic", "partition", "offset")))
            if output.topic == "report.outcomes":
                names = ("report_id", "channel", "outcome", "reason", "class_code", "grid_code")
                side.messages[place] = message = Judged(*(record[n] for n in names))
                if message.outcome != "duplicate":
                    by_id[message.report_id] = message
                continue
            identity = record["origin"] or record["report_id"]
            if answer_ms is None and people.get(identity) is not None:
                continue  # a person decided: what they said comes with their answer
            if (known := by_id.get(identity)) is not None:
                known.reports.append(record["report_id"])
                arrived.append((answer_ms or at[place], "reports", output.value))

    done = 0
    for (topic, partition), run in sorted(records.raw.items()):
        state = intake.restore(topic, partition, {})
        state.add(seen)
        for start in range(0, len(run), BATCH):
            batch = _batch(topic, partition, run[start : start + BATCH])
            at = {
                Place(topic, partition, o): t
                for o, t in zip(batch.offsets, batch.timestamps, strict=True)
            }
            take(intake.decide(state, batch, now_ms).outputs, at, None)
            done += len(batch)
            say(f"{done} raw records decided")
    answered = intake.restore(ANSWERS, 0, {})
    for message in records.answers:
        one = _batch(ANSWERS, 0, [message])
        take(intake.decide(answered, one, now_ms).outputs, {}, one.timestamps[0])
    arrived += [(m.timestamp()[1], ACTIONS, value) for m in records.actions if (value := m.value())]
    arrived.sort(key=lambda item: item[0])
    _merge(
        MergeStep(how.city, codec, how.policy),
        DispatchStep(how.city, codec),
        codec,
        arrived,
        side,
        say,
    )
    return side


def _merge(
    merge: MergeStep,
    dispatch: DispatchStep,
    codec: Codec,
    arrived: Sequence[tuple[int, str, bytes]],
    side: Side,
    say: Say,
) -> None:
    """Reports and actions in the order of their arrival; fills in events and units."""
    state, orders = merge.restore("reports", 0, {}), dispatch.restore("events", 0, {})
    now_ms = int(time.time() * 1000)
    held: dict[tuple[str, str], int] = {}
    start = 0
    while start < len(arrived):
        topic = arrived[start][1]
        end = start
        while end < len(arrived) and end - start < BATCH and arrived[end][1] == topic:
            end += 1
        some = arrived[start:end]
        outputs = merge.decide(state, _made(topic, start, some), now_ms).outputs
        events = []
        for output in outputs:
            if output.value is None:
                continue
            if output.topic == "event.links":
                _, link = codec.decode(output.value)
                pair = link["report_id"], link["event_id"]
                held[pair] = held.get(pair, 0) + link["sign"]
            elif output.topic == "events":
                events.append((some[-1][0], "events", output.value))
        for output in dispatch.decide(orders, _made("events", start, events), now_ms).outputs:
            if output.topic == "orders" and output.value is not None:
                _, order = codec.decode(output.value)
                side.units.setdefault(order["event_id"], order["unit_code"])
        start = end
        say(f"{end} of {len(arrived)} reports and actions merged")
    side.events = {report: event for (report, event), number in held.items() if number > 0}


def _made(topic: str, first: int, some: Sequence[tuple[int, str, bytes]]) -> Batch:
    n = len(some)
    return Batch(
        topic, 0, [None] * n, [value for _, _, value in some], list(range(first, first + n)),
        [at for at, _, _ in some], [None] * n,
    )  # fmt: skip


# ---- the one beside the other


def compare(
    then: Side,
    now: Side,
    hand: set[str],
    people: Mapping[str, str],
    begin: Mapping[Partition, int],
) -> Comparison:
    """Each raw record of the range, then and now."""
    found = Comparison()
    common = then.events.keys() & now.events.keys()
    apart = merged_differently(then.events, now.events, common - hand)
    changed: Counter[str] = Counter()
    outcomes: Counter[str] = Counter()
    classes: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    of_then: set[str] = set()
    of_now: set[str] = set()
    for place, new in sorted(now.messages.items()):
        if place.offset < begin[place.topic, place.partition]:
            continue
        old = then.messages.get(place)
        if old is None:
            found.not_decided_then += 1
            continue
        if old.report_id in people or hand.intersection(old.reports):
            found.by_person += 1
            continue
        found.compared += 1
        of_then.update(then.events[r] for r in old.reports if r in then.events)
        of_now.update(now.events[r] for r in new.reports if r in now.events)
        row = _row(place, old, new, then, now, apart)
        if not row.changed:
            continue
        changed.update(row.changed.split())
        outcomes[f"{old.outcome} → {new.outcome}"] += old.outcome != new.outcome
        reasons[f"{old.reason or '-'} → {new.reason or '-'}"] += old.reason != new.reason
        classes[f"{old.class_code or '-'} → {new.class_code or '-'}"] += (
            "class" in row.changed.split()
        )
        found.rows.append(row)
    found.changed = dict(changed.most_common())
    found.outcomes, found.classes, found.reasons = (
        {k: n for k, n in counted.most_common() if n} for counted in (outcomes, classes, reasons)
    )
    found.events_then, found.events_now = len(of_then), len(of_now)
    return found


def _row(place: Place, old: Judged, new: Judged, then: Side, now: Side, apart: set[str]) -> Row:
    both = old.outcome == new.outcome == "accepted"
    first_old = then.events.get(old.reports[0], "") if old.reports else ""
    first_new = now.events.get(new.reports[0], "") if new.reports else ""
    old_unit, new_unit = then.units.get(first_old, ""), now.units.get(first_new, "")
    merge = bool(apart.intersection(old.reports))
    what = {
        "outcome": old.outcome != new.outcome,
        "class": both and old.class_code != new.class_code,
        "grid": both and old.grid_code != new.grid_code,
        "parts": both and len(old.reports) != len(new.reports),
        "merge": merge,
        "unit": both and bool(old_unit and new_unit) and old_unit != new_unit,
    }
    return Row(
        old.report_id, old.channel, *place, " ".join(name for name, is_so in what.items() if is_so),
        old.outcome, new.outcome, old.reason, new.reason, old.class_code, new.class_code,
        old.grid_code, new.grid_code, first_old, first_new, old_unit, new_unit,
    )  # fmt: skip


def merged_differently(
    then: Mapping[str, str], now: Mapping[str, str], reports: Iterable[str]
) -> set[str]:
    """Reports whose company, among ``reports``, is another now: whatever the events are called."""
    some = list(reports)
    old, new = Counter(then[r] for r in some), Counter(now[r] for r in some)
    both = Counter((then[r], now[r]) for r in some)
    return {r for r in some if not old[then[r]] == new[now[r]] == both[then[r], now[r]]}


# ---- bringing it over


@dataclass(frozen=True, slots=True)
class Action:
    """What to ask an agent for: ``answer`` a report in review, ``merge`` an event ``into`` another, ``split``
    reports off."""

    verb: str
    target: str
    into: str = ""
    reports: tuple[str, ...] = ()


#: Why a change is not brought over.
OVER = "its report, event and order say so in facts that are only ever added to; no agent has an action for it"
WHY_NOT = {
    "outcome": "only review → accepted can be brought over: an order is under way, or the sender was told",
    "parts": "a person's answer makes one report of a message",
    "merge": "events do not fall together or apart whole: other reports, or a person's word, are among them",
    "class": OVER,
    "grid": OVER,
    "unit": "an order that went out is given to another unit by quanyu order assign",
}


def plan(
    then: Side,
    now: Side,
    found: Comparison,
    hand: set[str],
    begin: Mapping[Partition, int],
) -> list[Action]:
    """What the agents have an action for, each done once however often it is asked for.

    A report in review that would be accepted now, as one report, is answered: its agent decides it by the rules
    that are in service. Events whose reports, all of them compared, fall into one event now are merged; an
    event whose reports fall into several is split. Nothing else is done, see :data:`WHY_NOT`.
    """
    actions = [
        Action("answer", row.report_id)
        for row in found.rows
        if (row.old_outcome, row.new_outcome) == ("review", "accepted")
        and len(now.messages[_place(row)].reports) == 1
    ]
    inside = {
        report
        for place, message in then.messages.items()
        if place.offset >= begin[place.topic, place.partition]
        for report in message.reports
    }
    old_sets: dict[str, set[str]] = defaultdict(set)
    new_sets: dict[str, set[str]] = defaultdict(set)
    for report, event in then.events.items():
        old_sets[event].add(report)
    for report, event in now.events.items():
        if report in then.events:
            new_sets[event].add(report)
    whole = {
        event
        for event, reports in old_sets.items()
        if reports <= inside and reports <= now.events.keys() and not reports & hand
    }
    for reports in new_sets.values():
        former = {then.events[r] for r in reports}
        if (
            len(former) > 1
            and former <= whole
            and set().union(*(old_sets[e] for e in former)) == reports
        ):
            # The oldest keeps its order: the one that the new event is called after, if it is among them.
            into = next(
                (e for e in sorted(former) if now.events[next(iter(reports))] == e), min(former)
            )
            actions += [Action("merge", e, into=into) for e in sorted(former - {into})]
    for event in sorted(whole):
        groups: dict[str, list[str]] = defaultdict(list)
        for report in sorted(old_sets[event]):
            groups[now.events[report]].append(report)
        if len(groups) > 1 and all(new_sets[new] == set(rs) for new, rs in groups.items()):
            stays = event if event in groups else max(groups, key=lambda new: len(groups[new]))
            actions += [
                Action("split", event, reports=tuple(rs))
                for new, rs in sorted(groups.items())
                if new != stays
            ]
    return actions


def _place(row: Row) -> Place:
    return Place(row.source_topic, row.source_partition, row.source_offset)


def _with_switch(found: Comparison) -> list[Row]:
    answered = {a.target for a in found.actions if a.verb == "answer"}
    moved = {a.target: a.verb for a in found.actions if a.verb != "answer"}
    moved |= {a.into: a.verb for a in found.actions if a.verb == "merge"}
    rows = []
    for row in found.rows:
        kinds = row.changed.split()
        how = []
        if row.report_id in answered:
            how.append("answer")
            kinds = [k for k in kinds if k == "merge"]
        if "merge" in kinds and row.old_event in moved:
            how.append(moved[row.old_event])
            kinds.remove("merge")
        why = "; ".join(f"{kind}: {WHY_NOT[kind]}" for kind in kinds)
        rows.append(replace(row, switch=" ".join(how), why_not=why))
    return rows


def switch(
    settings: Settings,
    actions: Sequence[Action],
    actor: str,
    limit: int,
    say: Say = lambda _: None,
) -> dict[str, int]:
    """Ask the agents, and wait for what became of each; numbers by verb and outcome.

    An action's id is of what it asks for: asked again, it is one action and its outcome the same.
    """
    counts: Counter[str] = Counter()
    # `quanyu review export` takes what people said for the truth: a rule's own word must be told from it.
    who, why = Actor(f"reprocess:{actor}", "centre"), "decided again by quanyu reprocess"
    asked: list[tuple[str, str]] = []
    with closing(Desk(settings)) as desk:
        for number, action in enumerate(actions[:limit], 1):
            key = (
                f"reprocess:{action.verb}:{action.target}:{action.into}:{','.join(action.reports)}"
            )
            try:
                if action.verb == "answer":
                    identity = desk.answer(who, action.target, "accept", why, key)
                elif action.verb == "merge":
                    identity = desk.merge(who, action.target, action.into, why, key)
                else:
                    identity = desk.split(who, action.target, action.reports, why, key)
            except QuanyuError as error:
                # Answered for, or gone, since it was compared.
                counts[f"{action.verb} not asked"] += 1
                say(f"{action.verb} {action.target}: {error}")
                continue
            asked.append((action.verb, identity))
            say(f"{number} of {min(limit, len(actions))} asked")
        for verb, identity in asked:
            told = desk.outcome(identity, OUTCOME_S)
            became = told["outcome"] if told else "pending"
            counts[
                f"{verb} {became}" + (f" ({told['reason']})" if told and told["reason"] else "")
            ] += 1
    counts["left"] = max(0, len(actions) - limit)
    return {name: number for name, number in counts.items() if number}


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """The changed rows as CSV."""
    try:
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, [f.name for f in fields(Row)])
            writer.writeheader()
            writer.writerows(asdict(row) for row in rows)
    except OSError as error:
        raise QuanyuError(f"--out {path}: {error.strerror}") from None
