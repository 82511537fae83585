"""Which event a report belongs to. Pure, and the same in whatever order the reports of a minute arrive.

Reports have one order, by when they were received, those of one message by when they occurred. In it a
report joins what is certain to be its matter (the alarm before it of the same device, the report it was
handed over from, the same long text, the same photo), else the likeliest event near enough in place, time and
words, else it opens one. An event stands where its *opening* report says; what that did not say, a point, a
house, what people call the place, it learns from the first reports that do, near it. So events cannot grow
along a chain of neighbours. A report that arrives late makes the young reports after it that it concerns be
decided again, in order.

Nobody is asked to guess: a place that is only named joins the one event of that name in its street, and a
name of two places joins neither of them. A compound is small enough to stand for a place: who names it joins
the one event there whose house is not another. Who names only a street opens an event, though it may be one of
those open there, and so does the first who says where after one who did not: each names the other as candidate.
"""

import heapq
import math
from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, combinations

from schemas.grids import LEVELS, METRES_PER_DEGREE
from schemas.ids import event_id
from schemas.merge_policy import MergePolicy, Rule
from streams.merge.likeness import character_pairs, jaccard, metres, name_key
from streams.merge.photos import same_photo
from streams.merge.state import (
    ARCHIVE_KEPT,
    HORIZON_MS,
    REPORTERS_KEPT,
    TOKENS_KEPT,
    AlarmSeen,
    Anchor,
    Key,
    Learnt,
    MergeState,
    Move,
    OpenEvent,
    Place,
    Seen,
    Token,
    event_of,
    to_json,
)

HOUR_MS = 3600 * 1000
#: Relations of a reporter who was heard before; they raise the priority.
REPEATED = ("urge", "supplement")
OPENING = ("opened", "recurrence")
#: Share of common character pairs from which texts without a point tell the same matter.
SAME_WORDS = 0.6
#: Streets of one name lie in several parts of a city, and forms give many reports the same words: farther
#: apart, neither an equal address nor an equal text is the same matter.
NAMESAKE_M = 500.0
#: A spot tapped on a map lies so far from the house whose number is told with it.
TAPPED_M = 75.0
#: Two who name different houses so far apart tell of two matters, even where a class reaches farther.
NEIGHBOURS_M = 150.0
#: An event learns where else it can be joined from reports at most so far from it; so many names and houses.
LEARN_M, NAMES_LEARNT, HOUSES_LEARNT = 100.0, 4, 3
#: Digits of a grid from which it is so small that one class has one matter there.
COMPOUND = LEVELS["compound"]
STREET = LEVELS["street"]
#: In place of a distance: the same house, the same name of a place, the same words, the same compound.
SAME_ADDRESS, SAME_NAME, BY_WORDS, SAME_COMPOUND = -1.0, -2.0, -3.0, -4.0
#: How a place may be told (:func:`_says`) → how others tell theirs that cannot be held against it.
_UNLIKE = ((0, 1, 2, 3), (0, 2), (0, 1), (0,))
#: An event is kept so long after its window closed, for reports that arrive late.
LATE_MS = 48 * HOUR_MS
#: What a link says of such a way, and the way of each kind of token.
SAYS = {
    SAME_NAME: "same name of the place",
    BY_WORDS: "same place by name",
    SAME_COMPOUND: "the one of its class in the compound",
}
WAYS = {"n": SAME_NAME, "g": BY_WORDS, "w": SAME_COMPOUND}
#: What is closed is known so long after its last report; what is open, as long as there is room.
CLOSED_KEPT_MS = 30 * 24 * HOUR_MS
#: Stream time between two sweeps of events that can no longer be joined.
SWEEP_MS = 600_000


@dataclass(slots=True)
class Changes:
    """What a batch changed: events by id, reports that were decided, devices."""

    events: dict[str, OpenEvent] = field(default_factory=dict)
    reports: dict[str, Seen] = field(default_factory=dict)
    devices: set[Token] = field(default_factory=set)
    #: Old reports that a person moved.
    moves: list[Move] = field(default_factory=list)
    gone: set[str] = field(default_factory=set)


@dataclass(slots=True)
class Verdict:
    """What is decided of one report; an event of "" means that it belongs to none."""

    event: str
    relation: str
    score: float
    reason: str
    candidate: str = ""
    recurs_of: str | None = None
    #: Whether it says where else its event is; see :func:`_learns`.
    teaches: bool = False
    #: Whether it joined an event at its own place, whose point is known.
    settled: bool = False


@dataclass(slots=True)
class Candidate:
    """An event that may be a report's, by its best way there."""

    event: OpenEvent
    base: float
    distance: float
    delay: int
    rule: Rule
    pointed: bool


class Placer:
    """The decisions of one policy."""

    def __init__(self, policy: MergePolicy, districts: Iterable[str] = ()) -> None:
        """``districts``: an address that begins with one of these names has no namesake in the city."""
        self.policy = policy
        self._districts = tuple(filter(None, districts))
        self._rules: dict[str, Rule] = {}
        self._groups = {code: group[0] for group in policy.alike for code in group}
        self._members = {group[0]: group for group in policy.alike}
        self._grounds: dict[str, tuple[str, float, float]] = {}
        self._kept: dict[str, float] = {}
        self._body_ms = policy.body_days * 24 * HOUR_MS

    def rule(self, class_code: str) -> Rule:
        """The rule of a class."""
        found = self._rules.get(class_code)
        if found is None:
            found = self._rules[class_code] = self.policy.rule(class_code)
        return found

    def place(self, state: MergeState, seen: Seen, changes: Changes) -> None:
        """Decide one report, and again those that it makes be decided again."""
        seen.at = seen.at or _turn(state.stream_time, seen)
        state.stream_time = max(state.stream_time, seen.at)
        late = (seen.at, seen.rank) < state.newest
        if not late:
            state.newest = seen.at, seen.rank
        own = self._own_places(seen)
        self._apply(state, seen, self._decide(state, seen, late), own, changes)
        self._remember(state, seen, own)
        if late:
            self._again(state, seen, changes)

    def restore(self, state: MergeState, event: OpenEvent) -> None:
        """Put an event of the state topic back into its indexes."""
        state.events[event.id] = event
        for token, at, report in event.tokens:
            self._hold(state, token, at, report, event.id)
        if event.count and event.merged_into is None:
            for learnt in (None, *event.learnt):
                self.anchor(state, event, learnt)

    def remember(self, state: MergeState, seen: Seen) -> None:
        """Put a young report of the state topic back."""
        self._remember(state, seen, self._own_places(seen))
        state.newest = max(state.newest, (seen.at, seen.rank))

    def forget(self, state: MergeState, changes: Changes) -> None:
        """Let reports grow old, and events that no report can join any more go."""
        floor = state.stream_time - HORIZON_MS
        # Found first, deleted then: a dictionary's first entry is dear to find once many before it are gone.
        old: list[Seen] = []
        for seen in state.young.values():
            if seen.at >= floor:
                break
            old.append(seen)
        for seen in old:
            del state.young[seen.id]
        state.young_at.forget(floor)
        if state.stream_time - state.swept_at >= SWEEP_MS:
            state.swept_at = state.stream_time
            self._sweep(state, floor, changes)

    # ---- deciding

    def _decide(self, state: MergeState, seen: Seen, late: bool) -> Verdict:
        rule = self.rule(seen.class_code)
        if seen.device:
            verdict = self._by_alarm(state, seen, rule)
            if verdict is not None:
                return verdict
        verdict = self._by_token(state, seen)
        if verdict is not None:
            event = state.events[verdict.event] if verdict.relation not in OPENING else None
            if event is None or point_of(event, (seen.at, seen.rank)) is not None:
                return verdict
            # Nobody knows where that one is; where this one is, its matter may be known already.
            other = self._by_likeness(state, seen, late) if rule.mode != "never" else verdict
            return other if other.settled else verdict
        if rule.mode == "never":
            return self._open(seen, "classes of this kind are never merged")
        return self._by_likeness(state, seen, late)

    def _open(self, seen: Seen, reason: str) -> Verdict:
        return Verdict(event_id(seen.id), "opened", 1.0, reason)

    def _join(
        self,
        state: MergeState,
        seen: Seen,
        event: OpenEvent,
        score: float,
        reason: str,
        *,
        teaches: bool = False,
    ) -> Verdict:
        """Joined; to what is closed already it is a recurrence."""
        while event.closed_at is not None and event.closed_at <= seen.occurred_at:
            again = state.events.get(event.recurred_by or "")
            if again is not None and again.count and (again.at, again.rank) < (seen.at, seen.rank):
                event = again
                continue
            return Verdict(
                event_id(seen.id), "recurrence", score, f"{reason}; was closed", recurs_of=event.id
            )
        relation = _relation(seen, event, event.reporters)
        return Verdict(event.id, relation, score, reason, teaches=teaches)

    def _by_alarm(self, state: MergeState, seen: Seen, rule: Rule) -> Verdict | None:
        """The session of the device's alarm, when one is open."""
        before = self._alarm_before(state, seen)
        gap = rule.alarm.minutes * 60_000
        cleared = seen.alarm_state == "cleared"
        if before is not None and before[0] >= seen.at - rule.hours * HOUR_MS - LATE_MS:
            event = state.events.get(before[4])
            since = abs(seen.occurred_at - before[2])
            if event is not None and before[3] != "cleared":
                what = f"same device, {since / 60_000:.0f} min after its last alarm"
                if cleared:
                    return Verdict(event.id, "co_report", 1.0, f"{what}: cleared")
                if rule.alarm.kind == "event":
                    since = abs(seen.occurred_at - event.opener_occurred_at)
                if since <= gap:
                    return self._join(state, seen, event, 1.0, what)
            elif event is not None and cleared:
                return Verdict(event.id, "co_report", 1.0, "same device: cleared again")
            elif event is not None and rule.alarm.kind == "lasting" and since <= gap:
                what = f"same device, {since / 60_000:.0f} min after it was over"
                return self._join(state, seen, event, 1.0, what)
        return Verdict("", "", 0.0, "cleared, and no alarm is open") if cleared else None

    def _by_token(self, state: MergeState, seen: Seen) -> Verdict | None:
        """What shares a hand-over, a long text or a photo."""
        key = seen.at, seen.rank
        for token in seen.tokens:
            holder = state.holders.get(token)
            if holder is None or holder[:2] >= key:
                continue
            event = self.event(state, holder[2])
            if event is None:
                continue
            kind = token[0]
            if kind != "b" and holder[0] < seen.at - self._keep_ms(event.class_code):
                continue
            if kind == "b":
                # Words that stand in many reports are a form's, not a person's: the place tells.
                if holder[0] < seen.at - self._body_ms or _apart(seen, event):
                    continue
                reason = "the same long text"
            elif kind in "mhp":
                if not self._akin(seen.class_code, event.class_code):
                    continue
                reason = "the same photo"
                if kind != "m":
                    # Two pictures look alike more easily than they are alike: the place must not deny it.
                    if _apart(seen, event) or not same_photo(
                        seen.tokens, (entry[0] for entry in event.tokens)
                    ):
                        continue
                    reason = "a photo that looks the same"
            else:
                reason = "handed over from one channel to the other"
            return self._join(state, seen, event, 1.0, reason, teaches=True)
        return None

    def _by_likeness(self, state: MergeState, seen: Seen, late: bool) -> Verdict:
        """The likeliest event near in place and time, if any is likely enough."""
        near: dict[str, Candidate] = {}
        named: dict[str, Candidate] = {}
        self._look(state, seen, seen.class_code, late, near, named)
        if seen.also:
            self._look(state, seen, seen.also, late, near, named)
        if not near and not named:
            alone = self._open(seen, "no open event near in class, place and time")
            return self._doubted(state, seen, alone)
        verdict = self._best(state, seen, list(near.values())) if near else None
        if named and (verdict is None or verdict.relation in OPENING):
            by_name = self._by_name(state, seen, list(named.values()))
            if by_name is not None:
                return by_name
        return self._doubted(
            state, seen, verdict or self._open(seen, "what is near is not alike enough")
        )

    def _look(
        self,
        state: MergeState,
        seen: Seen,
        code: str,
        late: bool,
        near: dict[str, Candidate],
        named: dict[str, Candidate],
    ) -> None:
        """Collect the open events of a class near in place and time: by house and point, by name."""
        rule, places = self.rule(code), state.places
        if rule.mode == "never":
            return
        hours_ms = rule.hours * HOUR_MS
        oldest = seen.at - hours_ms - LATE_MS
        occurred, lon, lat, key = seen.occurred_at, seen.lon, seen.lat, (seen.at, seen.rank)
        alarm_ms = (
            rule.alarm.minutes * 60_000 if seen.device and rule.alarm.kind != "state" else 0.0
        )
        over = self._over(state, seen, rule) if seen.device else ""
        reach = rule.radius_m + TAPPED_M if rule.mode == "point" else NAMESAKE_M
        place_worth, delay_worth = rule.weights.place, rule.weights.delay
        for token in self._near_places(seen, rule, code):
            kind = token[0]
            for anchor in places.get(token, ()):
                event = anchor.event
                # An event's window is that of its key, not of the sweep: where batches are cut must not count.
                if event.at < oldest or (late and (anchor.at, anchor.rank) >= key):
                    continue
                delay = abs(occurred - event.opener_occurred_at)
                if delay > hours_ms or event.id == over:
                    continue
                if alarm_ms and event.device and delay > alarm_ms:
                    continue
                worth, pointed, found = place_worth, True, near
                if kind == "c":
                    distance = metres(lon or 0.0, lat or 0.0, anchor.lon or 0.0, anchor.lat or 0.0)
                    if distance > rule.radius_m or (
                        seen.device and event.device and distance > rule.alarm.radius_m
                    ):
                        continue
                    if seen.building and event.building:
                        apart = distance > NEIGHBOURS_M and seen.building != event.building
                        if apart or rule.mode == "address":
                            continue
                    worth *= 1.0 - distance / rule.radius_m
                else:
                    at = point_of(event, key)
                    pointed, distance = at is not None, 0.0
                    if at is not None and lon is not None and lat is not None:
                        distance = metres(lon, lat, *at)
                    if kind == "a":
                        # Streets have namesakes; and two points say more than two numbers of houses.
                        if distance > reach and not seen.building.startswith(self._districts):
                            continue
                        distance = SAME_ADDRESS
                    else:
                        if kind == "n" and distance > reach:
                            continue
                        if kind == "g" and seen.building and event.building:
                            continue
                        if kind == "w" and (
                            (seen.building and _has_house(event, key))
                            or not _in_compound(seen, event, pointed, distance)
                        ):
                            continue
                        found, distance = named, WAYS[kind]
                # One dwelling's trouble is another's only when the same person tells it again.
                if (seen.part or event.part) and (
                    not seen.reporter or seen.reporter not in event.reporters[0:1]
                ):
                    continue
                base = worth + delay_worth * (1.0 - delay / hours_ms)
                other = found.get(event.id)
                if other is None or other.base < base:
                    found[event.id] = Candidate(event, base, distance, delay, rule, pointed)

    def _best(self, state: MergeState, seen: Seen, near: list[Candidate]) -> Verdict:
        """The likeliest by house or point; one whose point is known before one whose is not."""
        best, found, likeness = (True, 0.0, "~"), None, 0.0
        if len(near) > 1:
            near.sort(key=lambda candidate: -candidate.base)
        for candidate in near:
            event, rule = candidate.event, candidate.rule
            alike = _alike(seen, event)
            score = candidate.base + rule.weights.text * alike
            if score < rule.review:
                continue
            # The lower id on a tie, so that no order of a dictionary decides.
            rated = (not candidate.pointed or score < rule.join, -score, event.id)
            if found is None or rated < best:
                best, found, likeness = rated, candidate, alike
        if found is None:
            return self._open(seen, "what is near is not alike enough")
        how = "same address" if found.distance == SAME_ADDRESS else f"{found.distance:.0f} m"
        reason = f"{how}, {found.delay / HOUR_MS:.1f} h, words alike {likeness:.2f}"
        if -best[1] < found.rule.join:
            verdict = self._open(seen, f"may be one with another: {reason}")
            verdict.score, verdict.candidate = -best[1], found.event.id
            return verdict
        teaches = found.distance <= LEARN_M
        verdict = self._join(state, seen, found.event, -best[1], reason, teaches=teaches)
        verdict.settled = found.pointed and verdict.relation not in OPENING
        return verdict

    def _by_name(self, state: MergeState, seen: Seen, named: list[Candidate]) -> Verdict | None:
        """The one event of a place of that name, or the one told in nearly the same words."""
        alike = {c.event.id: _alike(seen, c.event) for c in named}
        within = [c for c in named if c.distance == SAME_COMPOUND]
        named = [
            c
            for c in named
            if c.distance == SAME_NAME
            or (c.distance == BY_WORDS and alike[c.event.id] >= SAME_WORDS)
        ]
        same = [c for c in named if c.distance == SAME_NAME]
        pointed = [c for c in same if c.pointed]
        key = seen.at, seen.rank
        # A pin beside the place must not make its name one of two: what knows a house too goes before.
        pointed = [c for c in pointed if _has_house(c.event, key)] or pointed
        if _scattered(pointed, key):
            # Which of them, nobody knows; but one who said no more told of the same.
            pointed, same = [], [c for c in same if not c.pointed]
            if not same:
                verdict = self._open(seen, "several places have this name")
                verdict.candidate = min(c.event.id for c in named)
                return verdict
        chosen = pointed or same
        if chosen:
            found = min(chosen, key=lambda c: (c.event.at, c.event.rank))
        elif named:
            found = min(named, key=lambda c: (-_score(c, alike), c.event.id))
        elif len(within) == 1:
            found = within[0]
        elif within:
            verdict = self._open(seen, "several events in this compound")
            verdict.candidate = min(c.event.id for c in within)
            return verdict
        else:
            return None
        score = _score(found, alike)
        if score < found.rule.join:
            return None
        how = SAYS[found.distance]
        likeness = alike[found.event.id]
        reason = f"{how}, {found.delay / HOUR_MS:.1f} h, words alike {likeness:.2f}"
        named_so = found.distance == SAME_NAME
        teaches = found.distance != BY_WORDS
        verdict = self._join(state, seen, found.event, score, reason, teaches=teaches)
        verdict.settled = named_so and found.pointed and verdict.relation not in OPENING
        return verdict

    def _doubted(self, state: MergeState, seen: Seen, verdict: Verdict) -> Verdict:
        """Name the event of its street that a new one may be, where what both say of their place cannot be held
        against each other.

        So are a street and a house or point in it, a house without a point and a point without a house; two
        names are not. Who names only a street may mean any event there; one who says more is asked about only
        when the other names none itself and nothing before was taken for it. Of 100 such, some 40 are one
        matter: too few to join, enough to ask. Alarms know where they are.
        """
        if (
            verdict.relation != "opened"
            or verdict.candidate
            or len(seen.grid_code) < STREET
            or seen.device
            or seen.part
        ):
            return verdict
        key, name = (seen.at, seen.rank), called(seen)
        says = _says(seen.lon, seen.building, seen.grid_code)
        best: tuple[float, str] | None = None
        for code in (seen.class_code, seen.also) if seen.also else (seen.class_code,):
            rule = self.rule(code)
            if rule.mode == "never":
                continue
            street = "s", self._group(code), seen.zone, seen.grid_code[:STREET]
            there = [state.places.get((*street, other), ()) for other in range(4)]
            for anchor in chain.from_iterable(there[other] for other in _UNLIKE[says]):
                event = anchor.event
                if not self._may_be(seen, event, rule) or (name and called(event)):
                    continue
                if says and (_known(event, key) & says or self._taken(event, there, key)):
                    continue
                delay = abs(seen.occurred_at - event.opener_occurred_at)
                alike, weights = _alike(seen, event), rule.weights
                score = (
                    weights.delay * (1.0 - delay / (rule.hours * HOUR_MS)) + weights.text * alike
                )
                if best is None or (-score, event.id) < best:
                    best = -score, event.id
                    how = f"{delay / HOUR_MS:.1f} h, words alike {alike:.2f}"
                    verdict.reason = f"may be one of its street: {how}"
                    verdict.score, verdict.candidate = score, event.id
        return verdict

    @staticmethod
    def _taken(event: OpenEvent, there: Iterable[Iterable[Anchor]], key: Key) -> bool:
        """Whether an event names another itself, or one before ``key`` names it."""
        return bool(event.candidate) or any(
            anchor.event.candidate == event.id and (anchor.at, anchor.rank) < key
            for anchor in chain.from_iterable(there)
        )

    @staticmethod
    def _may_be(seen: Seen, event: OpenEvent, rule: Rule) -> bool:
        """Whether an event of a report's street and class was open before it, not too long ago."""
        hours_ms = rule.hours * HOUR_MS
        return (
            (event.at, event.rank) < (seen.at, seen.rank)
            and event.at >= seen.at - hours_ms - LATE_MS
            and abs(seen.occurred_at - event.opener_occurred_at) <= hours_ms
            and (event.closed_at is None or event.closed_at > seen.occurred_at)
            and not event.part
            and (
                max(len(seen.grid_code), len(event.grid_code)) == STREET
                or min(len(seen.grid_code), len(event.grid_code)) >= COMPOUND
                or event.grid_code.startswith(seen.grid_code)
                or seen.grid_code.startswith(event.grid_code)
            )
        )

    def _alarm_before(self, state: MergeState, seen: Seen) -> AlarmSeen | None:
        alarms = state.alarms.get(_device(seen))
        if not alarms:
            return None
        index = bisect_left(alarms, (seen.at, seen.rank))
        return alarms[index - 1] if index else None

    def _over(self, state: MergeState, seen: Seen, rule: Rule) -> str:
        """The device's own event that it called over: its next alarm raises it anew.

        A state that comes back within the gap of a session never was over. An event that others opened is
        not the device's to end.
        """
        before = self._alarm_before(state, seen)
        if before is None or before[3] != "cleared":
            return ""
        event = state.events.get(before[4])
        if event is None or event.device != seen.device:
            return ""
        away = abs(seen.occurred_at - before[2])
        return (
            "" if rule.alarm.kind == "state" and away <= rule.alarm.minutes * 60_000 else event.id
        )

    def _akin(self, one: str, other: str) -> bool:
        """Whether a photo of one class can be of the other: of one main class, or alike."""
        return one[:2] == other[:2] or self._group(one) == self._group(other)

    def event(self, state: MergeState, identity: str) -> OpenEvent | None:
        """An event, out of the archive if need be."""
        event = state.events.get(identity)
        if event is None:
            data = state.archive.pop(identity, None)
            if data is None:
                return None
            event = event_of(data)
            self.restore(state, event)
        return event

    # ---- applying

    def _apply(
        self, state: MergeState, seen: Seen, verdict: Verdict, own: list[Token], changes: Changes
    ) -> None:
        seen.event, seen.relation, seen.score = verdict.event, verdict.relation, verdict.score
        seen.reason, seen.candidate = verdict.reason, verdict.candidate
        changes.reports[seen.id] = seen
        if seen.device:
            device = _device(seen)
            alarms = state.alarms.setdefault(device, [])
            insort(alarms, (seen.at, seen.rank, seen.occurred_at, seen.alarm_state, seen.event))
            floor = state.stream_time - HORIZON_MS
            while len(alarms) > 1 and alarms[1][0] < floor:
                del alarms[0]
            changes.devices.add(device)
        if not seen.event:
            return
        if seen.opener:
            self._opened(state, seen, verdict, own, changes)
            return
        event = state.events[seen.event]
        event.version += 1
        event.count += 1
        event.occurred_at = min(event.occurred_at, seen.occurred_at)
        event.last_occurred_at = max(event.last_occurred_at, seen.occurred_at)
        event.updated_at = max(event.updated_at, seen.received_at)
        event.last_at = max(event.last_at, seen.at)
        event.urgent += seen.urgent
        if seen.alarm_state == "cleared":
            event.cleared_at = max(event.cleared_at or 0, seen.occurred_at)
        if seen.relation in REPEATED:
            event.priority += 1
        elif (
            seen.reporter
            and len(event.reporters) < REPORTERS_KEPT
            and seen.reporter not in event.reporters
        ):
            event.reporters.append(seen.reporter)
        self._give_tokens(state, seen, event)
        learnt = _learns(seen, event) if verdict.teaches else None
        if learnt is not None:
            self.learn(state, event, learnt)
        changes.events[event.id] = event

    def _opened(
        self, state: MergeState, seen: Seen, verdict: Verdict, own: list[Token], changes: Changes
    ) -> None:
        former = state.events.get(seen.event)
        event = self.opened(seen, seen.event, (seen.at, seen.rank))
        event.count, event.recurs_of = 1, verdict.recurs_of
        self._name(event, verdict)
        if former is not None:
            event.version, event.published = former.version + 1, former.published
        state.events[event.id] = event
        recurred = state.events.get(verdict.recurs_of or "")
        if recurred is not None:
            recurred.recurred_by = event.id
            recurred.version += 1
            changes.events[recurred.id] = recurred
        self._give_tokens(state, seen, event)
        self._anchor(state, event, None, own)
        changes.events[event.id] = event

    @staticmethod
    def opened(seen: Seen, identity: str, key: Key) -> OpenEvent:
        """A new event of a report, without any yet; it is in no index."""
        return OpenEvent(
            identity, 1, key[0], key[0], seen.class_code, seen.zone,
            seen.lon, seen.lat, seen.district_code, seen.grid_code, seen.title, seen.address,
            seen.words, seen.building, seen.part, seen.device, seen.id, seen.channel,
            seen.occurred_at, seen.occurred_at, seen.occurred_at, seen.received_at,
            seen.received_at, 0, 0, [seen.reporter], [], also=seen.also, urgent=int(seen.urgent),
            self_handled=seen.self_handled,
        )  # fmt: skip

    @staticmethod
    def _name(event: OpenEvent, verdict: Verdict) -> None:
        """Let an event say which other it may be."""
        event.candidate = verdict.candidate
        event.candidate_score = verdict.score if verdict.candidate else 0.0
        event.candidate_reason = verdict.reason if verdict.candidate else ""

    def learn(self, state: MergeState, event: OpenEvent, learnt: Learnt) -> None:
        """Let an event be joined where a report says that it is."""
        insort(event.learnt, learnt, key=_key_of)
        self.anchor(state, event, learnt)

    def anchor(self, state: MergeState, event: OpenEvent, learnt: Learnt | None) -> None:
        """Let an event be joined where its opener stands, or by what was learnt; :meth:`lift` undoes it."""
        self._anchor(state, event, learnt, self._event_places(event, learnt))

    def _take_back(self, state: MergeState, seen: Seen, changes: Changes) -> None:
        """Undo what a report did to its event."""
        if seen.device:
            alarms = state.alarms[_device(seen)]
            del alarms[bisect_left(alarms, (seen.at, seen.rank))]
        event = state.events.get(seen.event)
        if event is None:
            return
        event.version += 1
        event.count -= 1
        event.urgent -= seen.urgent
        if seen.relation in REPEATED:
            event.priority -= 1
        elif seen.reporter in event.reporters[1:]:
            event.reporters.remove(seen.reporter)
        for token, at, report in event.tokens:
            if report == seen.rank and state.holders.get(token) == (at, report, event.id):
                del state.holders[token]
        event.tokens = [entry for entry in event.tokens if entry[2] != seen.rank]
        if seen.opener:
            self.lift(state, event, None)
        for learnt in event.learnt:
            if learnt.rank == seen.rank:
                event.learnt.remove(learnt)
                self.lift(state, event, learnt)
                break
        changes.events[event.id] = event

    def _give_tokens(self, state: MergeState, seen: Seen, event: OpenEvent) -> None:
        rank = seen.rank
        for token in seen.tokens:
            if len(event.tokens) < TOKENS_KEPT:
                event.tokens.append([token, seen.at, rank])
                self._hold(state, token, seen.at, rank, event.id)

    @staticmethod
    def _hold(state: MergeState, token: str, at: int, report: str, event: str) -> None:
        holder = state.holders.get(token)
        if holder is None or (at, report) <= holder[:2]:
            state.holders[token] = (at, report, event)

    # ---- deciding again

    def _again(self, state: MergeState, first: Seen, changes: Changes) -> None:
        """Decide again, in their order, the young reports that what was decided may concern."""
        queue: list[tuple[int, str, str]] = []
        queued: set[str] = set()
        event = state.events.get(first.event)
        learnt = _learnt_from(first, event)
        self._push_concerned(state, first, queue, queued, first.opener, [(event, learnt)])
        heard = {(first.event, first.reporter)} if first.reporter else set()
        full = {} if event is None else {event.id: len(event.reporters) >= REPORTERS_KEPT}
        while queue:
            _, _, identity = heapq.heappop(queue)
            queued.discard(identity)
            seen = state.young[identity]
            if seen.by_hand:
                continue
            left, opened = state.events.get(seen.event), seen.opener
            forgotten = _learnt_from(seen, left)
            verdict = self._decide(state, seen, True)
            opens = verdict.relation in OPENING
            event = state.events.get(verdict.event)
            if (
                verdict.event == seen.event
                and opens == opened
                and (_learns(seen, event) if verdict.teaches and event else None) == forgotten
            ):
                if event is not None and opens and verdict.candidate != event.candidate:
                    seen.score, seen.reason = verdict.score, verdict.reason
                    seen.candidate = verdict.candidate
                    self._name(event, verdict)
                    event.version += 1
                    changes.events[event.id] = event
                    changes.reports[seen.id] = seen
                    # Whether others name this one depends on what it names.
                    self._push_concerned(state, seen, queue, queued, True, [])
                continue
            before = seen.event
            for each in (left, event):
                if each is not None:
                    full.setdefault(each.id, len(each.reporters) >= REPORTERS_KEPT)
            self._take_back(state, seen, changes)
            self._apply(state, seen, verdict, self._own_places(seen), changes)
            if seen.event != before:
                moved(state, seen, before)
            if seen.reporter:
                heard |= {(before, seen.reporter), (seen.event, seen.reporter)}
            event = state.events.get(seen.event)
            told = [(left, forgotten), (event, _learnt_from(seen, event))]
            self._push_concerned(state, seen, queue, queued, opened != opens, told)
            if left is not None and not left.count:
                left.merged_into = seen.event or None
        for identity in sorted({identity for identity, _ in heard} & state.events.keys()):
            of_event = {reporter for event, reporter in heard if event == identity}
            asked = state.events[identity]
            self._hear_again(state, asked, of_event, full.get(identity, False), changes)

    @staticmethod
    def _hear_again(
        state: MergeState,
        event: OpenEvent,
        reporters: set[str],
        full: bool,
        changes: Changes,
    ) -> None:
        """Tell anew which young reports of these reporters are of somebody who was heard before.

        Who was heard first by a young report may have been heard by another before; who was heard by none of
        them was heard by an old one. ``full``: the event remembered no more reporters before; everybody is
        asked where that may change whom it remembers.
        """
        spans = state.young_at.since(state.stream_time - HORIZON_MS)

        def of(places: Iterable[str]) -> list[Seen]:
            return [
                seen
                for place in places
                for span in spans
                for seen in span.get(place, ())
                if seen.reporter and seen.event == event.id and seen.id in state.young
            ]

        remembered = set(event.reporters)
        young = of(_voice(event.id, reporter) for reporter in reporters)
        if full and len(remembered) == REPORTERS_KEPT:
            # Who is not remembered will be, if heard before one of those who are.
            known = of(_voice(event.id, reporter) for reporter in remembered)
            last = max((_key(seen) for seen in known if _heard_first(seen)), default=(0, ""))
            everybody = any(
                seen.reporter not in remembered and not seen.by_hand and _key(seen) < last
                for seen in young
            )
        else:
            everybody = full or len(remembered | reporters) > REPORTERS_KEPT
        if everybody:
            young = of([event.id])
        young.sort(key=_key)
        firsts = {seen.reporter for seen in young if _heard_first(seen)}
        # The opener's stays the first.
        heard = event.reporters[:1]
        heard += [reporter for reporter in event.reporters[1:] if reporter not in firsts]
        for seen in young:
            if seen.opener or seen.by_hand:
                continue
            before = seen.reporter in heard
            if not before and len(heard) < REPORTERS_KEPT:
                heard.append(seen.reporter)
            if before != (seen.relation in REPEATED):
                seen.relation = _relation(seen, event, heard) if before else "co_report"
                event.priority += 1 if before else -1
                event.version += 1
                changes.events[event.id] = event
                changes.reports[seen.id] = seen
        event.reporters = heard

    def _push_concerned(
        self,
        state: MergeState,
        seen: Seen,
        queue: list[tuple[int, str, str]],
        queued: set[str],
        opening: bool,
        told: list[tuple[OpenEvent | None, Learnt | None]],
    ) -> None:
        """Queue the later reports that share what makes certain, or a place at which an event came or went."""
        places: list[Place] = self._certain_places(seen)
        if opening:
            places += self._around(self._own_places(seen))
        for event, learnt in told:
            if event is not None and (opening or learnt is not None):
                places.append(event.id)
                places += [token for token, _, _ in event.tokens]
                # What is known of an event counts wherever it can be joined.
                for known in {None, learnt, *event.learnt}:
                    places += self._around(self._event_places(event, known))
        key = seen.at, seen.rank
        for found in state.young_at.since(seen.at):
            for place in places:
                # Of its street a report asks only when it opens an event.
                opening_only = place[0] == "s"
                for other in found.get(place, ()):
                    if opening_only and not other.opener:
                        continue
                    if (other.at, other.rank) > key and other.id not in queued:
                        queued.add(other.id)
                        heapq.heappush(queue, (other.at, other.rank, other.id))

    @staticmethod
    def _around(places: list[Token]) -> Iterator[Token]:
        """The places, each cell with those beside it, each street however it is told."""
        for place in places:
            if place[0] == "s":
                for says in range(len(_UNLIKE)):
                    yield (*place[:4], says)
                continue
            if place[0] != "c":
                yield place
                continue
            _, group, zone, x, y = place
            for column in (x - 1, x, x + 1):
                for row in (y - 1, y, y + 1):
                    yield ("c", group, zone, column, row)

    # ---- where a report is found and looks

    def _group(self, class_code: str) -> str:
        return self._groups.get(class_code, class_code)

    def _ground(self, class_code: str) -> tuple[str, float, float]:
        """A class's group, and the width and height of its cells in degrees.

        A cell is as high as the group's largest radius, so that the nine around hold all. In longitude twice as
        many degrees: enough up to 60° of latitude.
        """
        ground = self._grounds.get(class_code)
        if ground is None:
            group = self._groups.get(class_code, class_code)
            members = self._members.get(group, [group])
            size = max(self.rule(code).radius_m for code in members) / METRES_PER_DEGREE
            ground = self._grounds[class_code] = group, 2.0 * size, size
        return ground

    def _own_places(self, seen: Seen) -> list[Token]:
        return self._places(
            seen.class_code, seen.also, seen.zone, seen.lon, seen.lat, seen.building, called(seen),
            seen.grid_code,
        )  # fmt: skip

    def _event_places(self, event: OpenEvent, learnt: Learnt | None) -> list[Token]:
        """Where an event can be joined by its opener, or by what was learnt."""
        codes = event.class_code, event.also, event.zone
        if learnt is not None:
            return self._places(*codes, learnt.lon, learnt.lat, learnt.building, learnt.name, "")
        return self._places(
            *codes, event.lon, event.lat, event.building, called(event), event.grid_code
        )

    @staticmethod
    def _anchor(
        state: MergeState, event: OpenEvent, learnt: Learnt | None, places: list[Token]
    ) -> None:
        """Let an event be joined where its opener stands, or where it is by what was learnt."""
        anchor = (
            Anchor(event, learnt.at, learnt.rank, learnt.lon, learnt.lat)
            if learnt
            else Anchor(event, event.at, event.rank, event.lon, event.lat)
        )
        for place in places:
            there = state.places.get(place)
            if there is None:
                state.places[place] = [anchor]
            else:
                there.append(anchor)

    def lift(self, state: MergeState, event: OpenEvent, learnt: Learnt | None) -> None:
        """Undo :meth:`anchor`."""
        rank = learnt.rank if learnt else event.rank
        for place in self._event_places(event, learnt):
            there = state.places[place]
            for index, anchor in enumerate(there):
                if anchor.event is event and anchor.rank == rank:
                    del there[index]
                    break
            if not there:
                del state.places[place]

    def _places(
        self,
        class_code: str,
        also: str,
        zone: str,
        lon: float | None,
        lat: float | None,
        building: str,
        name: str,
        grid: str,
    ) -> list[Token]:
        grounds = [self._ground(class_code)]
        if also and (other := self._ground(also))[0] != grounds[0][0]:
            grounds.append(other)
        places: list[Token] = []
        for group, width, height in grounds:
            if building:
                places.append(("a", group, zone, building))
            if name:
                places.append(("n", group, zone, name))
            if lon is not None and lat is not None:
                places.append(("c", group, zone, math.floor(lon / width), math.floor(lat / height)))
            elif grid:
                places.append(("g", group, zone, grid))
            if len(grid) >= COMPOUND:
                places.append(("w", group, zone, grid[:COMPOUND]))
            if len(grid) >= STREET:
                # Where nothing is joined, but asked whether it may be one.
                says = _says(lon, building, grid)
                places.append(("s", group, zone, grid[:STREET], says))
        return places

    def _near_places(self, seen: Seen, rule: Rule, code: str) -> Iterator[Token]:
        """Where an event of its matter may be joined: surest first."""
        zone, lon, lat = seen.zone, seen.lon, seen.lat
        group, width, height = self._ground(code)
        if seen.building:
            yield ("a", group, zone, seen.building)
        elif name := called(seen):
            yield ("n", group, zone, name)
        if rule.mode == "point" and len(seen.grid_code) >= COMPOUND:
            yield ("w", group, zone, seen.grid_code[:COMPOUND])
        if lon is None or lat is None:
            if seen.grid_code:
                yield ("g", group, zone, seen.grid_code)
            return
        x, y = math.floor(lon / width), math.floor(lat / height)
        # A neighbouring cell counts only when the radius reaches over the border to it.
        reach_y = rule.radius_m / METRES_PER_DEGREE
        reach_x = reach_y / math.cos(math.radians(lat))
        left, right = lon - reach_x < x * width, lon + reach_x >= (x + 1) * width
        down, up = lat - reach_y < y * height, lat + reach_y >= (y + 1) * height
        for column in range(x - left, x + right + 1):
            for row in range(y - down, y + up + 1):
                yield ("c", group, zone, column, row)

    @staticmethod
    def _certain_places(seen: Seen) -> list[Place]:
        return [*seen.tokens, _device(seen)] if seen.device else [*seen.tokens]

    def _remember(self, state: MergeState, seen: Seen, own: list[Token]) -> None:
        state.young[seen.id] = seen
        places = self._certain_places(seen)
        if seen.event:
            places.append(seen.event)
            if seen.reporter:
                places.append(_voice(seen.event, seen.reporter))
        places += own
        state.young_at.note(seen, places)

    # ---- forgetting

    def _keep_ms(self, class_code: str) -> float:
        kept = self._kept.get(class_code)
        if kept is None:
            kept = self._kept[class_code] = self.rule(class_code).hours * HOUR_MS + LATE_MS
        return kept

    def _sweep(self, state: MergeState, floor: int, changes: Changes) -> None:
        gone = [
            event
            for event in state.events.values()
            if event.last_at < floor - self._keep_ms(event.class_code)
        ]
        for event in gone:
            del state.events[event.id]
            if event.count:
                self.lift(state, event, None)
                for learnt in event.learnt:
                    self.lift(state, event, learnt)
            bodies = [entry for entry in event.tokens if entry[0][0] == "b"]
            # A person may still close, merge or split it.
            known = event.closed_at is None or event.last_at >= floor - CLOSED_KEPT_MS
            keep = known or (bool(bodies) and event.last_at >= floor - self._body_ms)
            for token, at, report in event.tokens:
                holder = (at, report, event.id)
                if not (keep and token[0] == "b") and state.holders.get(token) == holder:
                    del state.holders[token]
            if keep:
                event.tokens = bodies
                state.archive[event.id] = to_json(event)
            else:
                changes.gone.add(event.id)
        while len(state.archive) > ARCHIVE_KEPT:
            changes.gone.add(next(iter(state.archive)))
            state.archive.pop(next(iter(state.archive)))
        past = state.stream_time - 100 * 24 * HOUR_MS
        for device, alarms in list(state.alarms.items()):
            if alarms and alarms[-1][0] < past:
                del state.alarms[device]
                changes.devices.add(device)


def _says(lon: float | None, building: str, grid: str) -> int:
    """How a place is told: 0 its street or less, 1 a house or compound, 2 a point, 3 a point and a house."""
    if lon is not None:
        return 3 if building else 2
    return 1 if building or len(grid) >= COMPOUND else 0


def _known(event: OpenEvent, key: Key) -> int:
    """:func:`_says` of an event, with what it learnt before ``key``."""
    says = _says(event.lon, event.building, event.grid_code)
    learnt = [each for each in event.learnt if each[:2] < key]
    says |= 2 * any(each.lon is not None for each in learnt)
    return says | any(each.building for each in learnt)


def in_order(state: MergeState, seens: Iterable[Seen]) -> list[Seen]:
    """Reports that arrived together, in the order of decisions: what comes in order is decided once."""
    now, arrived = state.stream_time, list(seens)
    for seen in arrived:
        seen.at = _turn(now, seen)
        now = max(now, seen.at)
    return sorted(arrived, key=_key)


def _turn(now: int, seen: Seen) -> int:
    """When a report has its turn: as it was received or, too late for that, right after all that came before.

    So time goes on, and what is young grows old, even while all that comes is late: as after a clock that was
    ahead for a moment.
    """
    return seen.received_at if seen.received_at >= now - HORIZON_MS else now + 1


def moved(state: MergeState, seen: Seen, before: str) -> None:
    """Note that a young report went from one event to another."""
    state.young_at.move(seen, before, seen.event)
    state.young_at.move(seen, _voice(before, seen.reporter), _voice(seen.event, seen.reporter))


def _voice(event: str, reporter: str) -> str:
    """Where the young reports of one reporter of one event are found; "" where either is nobody's."""
    return f"{event} {reporter}" if event and reporter else ""


def _key(seen: Seen) -> Key:
    return seen.at, seen.rank


def _heard_first(seen: Seen) -> bool:
    """Whether its event remembers its reporter by it."""
    return seen.relation not in REPEATED and not seen.by_hand


def _relation(seen: Seen, event: OpenEvent, heard: Iterable[str]) -> str:
    """What a report is to the event that it joins, by whom ``heard`` has."""
    if not seen.reporter or seen.reporter not in heard:
        return "co_report"
    alike = jaccard(character_pairs(seen.words), character_pairs(event.words))
    return "urge" if alike >= SAME_WORDS else "supplement"


def _apart(seen: Seen, event: OpenEvent) -> bool:
    """Whether both name a place and it is not the same."""
    if seen.building and event.building and seen.building != event.building:
        return True
    if seen.lon is None or seen.lat is None or event.lon is None or event.lat is None:
        return False
    return metres(seen.lon, seen.lat, event.lon, event.lat) > NAMESAKE_M


def point_of(event: OpenEvent, key: Key) -> tuple[float, float] | None:
    """Where an event lies, as far as was known before ``key``."""
    if event.lon is not None and event.lat is not None:
        return event.lon, event.lat
    for at, rank, lon, lat, _, _ in event.learnt:
        if (at, rank) >= key:
            break
        if lon is not None and lat is not None:
            return lon, lat
    return None


def called(told: Seen | OpenEvent) -> str:
    """What the place is called; empty where a house says it better."""
    return "" if told.building else name_key(told.address, told.grid_code)


def _learns(seen: Seen, event: OpenEvent) -> Learnt | None:
    """What a report says of where its event is, beyond what was known before it; None when it is nothing.

    An event has one point; it learns houses and names from reports near it, so that it cannot grow along a
    street.
    """
    key = seen.at, seen.rank
    name = called(seen)
    point = point_of(event, key)
    lon = lat = None
    if seen.lon is not None and seen.lat is not None:
        if point is None:
            lon, lat = seen.lon, seen.lat
        elif metres(seen.lon, seen.lat, *point) > LEARN_M:
            return None
    known = [learnt for learnt in event.learnt if learnt[:2] < key]
    houses = {event.building, *(learnt.building for learnt in known)}
    names = {called(event)}
    names.update(learnt.name for learnt in known)
    building = "" if seen.building in houses or len(houses) > HOUSES_LEARNT else seen.building
    if name in names or len(names) > NAMES_LEARNT:
        name = ""
    if lon is None and not building and not name:
        return None
    return Learnt(seen.at, seen.rank, lon, lat, building, name)


def _learnt_from(seen: Seen, event: OpenEvent | None) -> Learnt | None:
    """What its event learnt from a report."""
    if event is None:
        return None
    return next((learnt for learnt in event.learnt if learnt.rank == seen.rank), None)


def _key_of(learnt: Learnt) -> Key:
    return learnt.at, learnt.rank


def _alike(seen: Seen, event: OpenEvent) -> float:
    """Likeness of words; what two devices write is their makers' form and says nothing."""
    if seen.device and event.device:
        return 0.0
    if seen.words == event.words:
        return 1.0
    if not seen.words or not event.words:
        return 0.0
    return jaccard(character_pairs(seen.words), character_pairs(event.words))


def _score(candidate: Candidate, alike: Mapping[str, float]) -> float:
    return candidate.base + candidate.rule.weights.text * alike[candidate.event.id]


def _in_compound(seen: Seen, event: OpenEvent, pointed: bool, distance: float) -> bool:
    """Whether a report and an event of one compound may be one matter; ``distance``: of their points.

    A compound says where for who has no point. Of two who have one, each must name the place, as people do
    whose pin is off it: what only has a point stands there.
    """
    if seen.device and event.device:
        return False
    if seen.lon is None or not pointed:
        return (seen.lon is None) == pointed
    return distance <= LEARN_M and bool(seen.address) and bool(event.address)


def _has_house(event: OpenEvent, key: Key) -> bool:
    """Whether an event's house was known before ``key``."""
    return bool(event.building) or any(
        learnt.building for learnt in event.learnt if learnt[:2] < key
    )


def _scattered(candidates: list[Candidate], key: Key) -> bool:
    """Whether events whose points are known lie at several places."""
    points = [point for c in candidates if (point := point_of(c.event, key)) is not None]
    return any(metres(*one, *other) > NAMESAKE_M for one, other in combinations(points, 2))


def _device(seen: Seen) -> Token:
    return ("d", seen.device, seen.class_code)
