"""Which event a report belongs to. Pure, and the same in whatever order the reports of a minute arrive.

Reports have one order, by when they were received, those of one message by when they occurred. In it a
report joins what is certain to be its matter (the alarm before it of the same device, the report it was
handed over from, the same long text, the same photo), else the likeliest event whose *opening* report is
near enough in place, time and words, else it opens one. So only openers decide where others go: events
cannot grow along a chain of neighbours. A report that arrives late makes the young reports after it that
it concerns be decided again, in order.
"""

import heapq
import math
from bisect import bisect_left, insort
from collections.abc import Iterator
from dataclasses import dataclass, field

from schemas.grids import METRES_PER_DEGREE
from schemas.ids import event_id
from schemas.merge_policy import MergePolicy, Rule
from streams.merge.likeness import character_pairs, jaccard, metres
from streams.merge.state import (
    ARCHIVE_KEPT,
    HORIZON_MS,
    REPORTERS_KEPT,
    TOKENS_KEPT,
    AlarmSeen,
    MergeState,
    OpenEvent,
    Seen,
    Token,
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
#: In place of a distance.
SAME_ADDRESS, BY_NAME = -1.0, -2.0
#: An event is kept so long after its window closed, for reports that arrive late.
LATE_MS = 48 * HOUR_MS
#: Stream time between two sweeps of events that can no longer be joined.
SWEEP_MS = 600_000


@dataclass(slots=True)
class Changes:
    """What a batch changed: events by id, reports that were decided, devices."""

    events: dict[str, OpenEvent] = field(default_factory=dict)
    reports: dict[str, Seen] = field(default_factory=dict)
    devices: set[Token] = field(default_factory=set)
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


class Placer:
    """The decisions of one policy."""

    def __init__(self, policy: MergePolicy) -> None:
        self.policy = policy
        self._rules: dict[str, Rule] = {}
        self._groups = {code: group[0] for group in policy.alike for code in group}
        self._members = {group[0]: group for group in policy.alike}
        self._sizes: dict[str, float] = {}
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
        state.stream_time = max(state.stream_time, seen.received_at)
        seen.at = max(seen.received_at, state.stream_time - HORIZON_MS)
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
            for place in self._event_places(event):
                state.places.setdefault(place, []).append(event)

    def remember(self, state: MergeState, seen: Seen) -> None:
        """Put a young report of the state topic back."""
        self._remember(state, seen, self._own_places(seen))
        state.newest = max(state.newest, (seen.at, seen.rank))

    def forget(self, state: MergeState, changes: Changes) -> None:
        """Let reports grow old, and events that no report can join any more go."""
        floor = state.stream_time - HORIZON_MS
        young = state.young
        while young:
            seen = next(iter(young.values()))
            if seen.at >= floor:
                break
            del young[seen.id]
            for place in self._all_places(seen):
                there = state.young_at[place]
                del there[seen.id]
                if not there:
                    del state.young_at[place]
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
            return verdict
        if rule.mode == "never":
            return self._open(seen, "classes of this kind are never merged")
        return self._by_likeness(state, seen, rule, late)

    def _open(self, seen: Seen, reason: str) -> Verdict:
        return Verdict(event_id(seen.id), "opened", 1.0, reason)

    def _join(
        self, state: MergeState, seen: Seen, event: OpenEvent, score: float, reason: str
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
        relation = "co_report"
        if seen.reporter and seen.reporter in event.reporters:
            alike = jaccard(character_pairs(seen.words), character_pairs(event.words))
            relation = "urge" if alike >= SAME_WORDS else "supplement"
        return Verdict(event.id, relation, score, reason)

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
        return Verdict("", "", 0.0, "cleared, and no alarm is open") if cleared else None

    def _by_token(self, state: MergeState, seen: Seen) -> Verdict | None:
        """What shares a hand-over, a long text or a photo."""
        key = seen.at, seen.rank
        for token in seen.tokens:
            holder = state.holders.get(token)
            if holder is None or holder[:2] >= key:
                continue
            event = self._event(state, holder[2])
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
            elif kind == "m":
                if not self._akin(seen.class_code, event.class_code):
                    continue
                reason = "the same photo"
            else:
                reason = "handed over from one channel to the other"
            return self._join(state, seen, event, 1.0, reason)
        return None

    def _by_likeness(self, state: MergeState, seen: Seen, rule: Rule, late: bool) -> Verdict:
        """The likeliest event near in place and time, if any is likely enough."""
        hours_ms = rule.hours * HOUR_MS
        oldest = seen.at - hours_ms - LATE_MS
        weights, occurred, lon, lat = rule.weights, seen.occurred_at, seen.lon, seen.lat
        key = seen.at, seen.rank
        alarm_ms = (
            rule.alarm.minutes * 60_000 if seen.device and rule.alarm.kind == "event" else 0.0
        )
        # What the device itself called over it raises anew.
        before = self._alarm_before(state, seen) if seen.device else None
        over = before[4] if before is not None and before[3] == "cleared" else ""
        near: list[tuple[float, OpenEvent, float, int]] = []
        tried: set[str] = set()
        for place in self._near_places(seen, rule):
            for event in state.places.get(place, ()):
                # An event's window is that of its key, not of the sweep: where batches are cut must not count.
                if event.at < oldest or (late and (event.at, event.rank) >= key):
                    continue
                delay = abs(occurred - event.opener_occurred_at)
                if delay > hours_ms:
                    continue
                if alarm_ms and event.device and delay > alarm_ms:
                    continue
                if event.id == over:
                    continue
                distance, worth = 0.0, weights.place
                if lon is not None and lat is not None and event.lon is not None:
                    distance = metres(lon, lat, event.lon, event.lat or 0.0)
                if place[0] == "c":
                    if distance > rule.radius_m:
                        continue
                    if rule.mode == "address" and seen.building and event.building:
                        continue
                    worth *= 1.0 - distance / rule.radius_m
                elif event.id in tried or distance > NAMESAKE_M:
                    continue
                elif rule.mode == "point" and lon is not None and event.lon is not None:
                    # Two points say more than two numbers of houses.
                    continue
                else:
                    tried.add(event.id)
                    distance = SAME_ADDRESS if place[0] == "a" else BY_NAME
                # One dwelling's trouble is another's only when the same person tells it again.
                if (seen.part or event.part) and seen.reporter not in event.reporters[0:1]:
                    continue
                if (seen.part or event.part) and not seen.reporter:
                    continue
                near.append(
                    (worth + weights.delay * (1.0 - delay / hours_ms), event, distance, delay)
                )
        if not near:
            return self._open(seen, "no open event near in class, place and time")
        return self._best(state, seen, rule, near)

    def _best(
        self,
        state: MergeState,
        seen: Seen,
        rule: Rule,
        near: list[tuple[float, OpenEvent, float, int]],
    ) -> Verdict:
        # Texts are compared where they can still decide: the rest of a score is known before.
        if len(near) > 1:
            near.sort(key=lambda candidate: -candidate[0])
        weight = rule.weights.text
        best = (-rule.review, "~")  # above every id: a score that is just enough wins
        found: tuple[OpenEvent, float, float, int, float] | None = None
        for base, event, distance, delay in near:
            if base + weight < -best[0]:
                break
            if seen.words == event.words:
                likeness = 1.0
            elif seen.words and event.words:
                likeness = jaccard(character_pairs(seen.words), character_pairs(event.words))
            else:
                likeness = 0.0
            if distance == BY_NAME and likeness < SAME_WORDS:
                continue
            score = base + weight * likeness
            # The lower id on a tie, so that no order of a dictionary decides.
            if (-score, event.id) < best:
                best = (-score, event.id)
                found = event, score, distance, delay, likeness
        if found is None:
            return self._open(seen, "what is near is not alike enough")
        event, score, distance, delay, likeness = found
        how = {SAME_ADDRESS: "same address", BY_NAME: "same place by name"}.get(
            distance, f"{distance:.0f} m"
        )
        reason = f"{how}, {delay / HOUR_MS:.1f} h, words alike {likeness:.2f}"
        if score < rule.join:
            verdict = self._open(seen, f"may be one with another: {reason}")
            verdict.score, verdict.candidate = score, event.id
            return verdict
        return self._join(state, seen, event, score, reason)

    def _alarm_before(self, state: MergeState, seen: Seen) -> AlarmSeen | None:
        alarms = state.alarms.get(_device(seen))
        if not alarms:
            return None
        index = bisect_left(alarms, (seen.at, seen.rank))
        return alarms[index - 1] if index else None

    def _akin(self, one: str, other: str) -> bool:
        """Whether a photo of one class can be of the other: of one main class, or alike."""
        return one[:2] == other[:2] or self._group(one) == self._group(other)

    def _event(self, state: MergeState, identity: str) -> OpenEvent | None:
        """An event, out of the archive if need be."""
        event = state.events.get(identity)
        if event is None:
            data = state.archive.pop(identity, None)
            if data is None:
                return None
            event = OpenEvent.from_bytes(data)
            self.restore(state, event)
        return event

    # ---- applying

    def _apply(
        self,
        state: MergeState,
        seen: Seen,
        verdict: Verdict,
        own: list[Token],
        changes: Changes,
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
        changes.events[event.id] = event

    def _opened(
        self, state: MergeState, seen: Seen, verdict: Verdict, own: list[Token], changes: Changes
    ) -> None:
        former = state.events.get(seen.event)
        event = OpenEvent(
            seen.event, former.version + 1 if former else 1, seen.at, seen.at, seen.class_code, seen.zone,
            seen.lon, seen.lat, seen.district_code, seen.grid_code, seen.title, seen.address,
            seen.words, seen.building, seen.part, seen.device, seen.id, seen.channel,
            seen.occurred_at, seen.occurred_at, seen.occurred_at, seen.received_at,
            seen.received_at, 1, 0, [seen.reporter], [],
            verdict.recurs_of, published=former is not None and former.published,
        )  # fmt: skip
        state.events[event.id] = event
        recurred = state.events.get(verdict.recurs_of or "")
        if recurred is not None:
            recurred.recurred_by = event.id
            changes.events[recurred.id] = recurred
        self._give_tokens(state, seen, event)
        for place in own:
            state.places.setdefault(place, []).append(event)
        changes.events[event.id] = event

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
        if seen.relation in REPEATED:
            event.priority -= 1
        for token, at, report in event.tokens:
            if report == seen.rank and state.holders.get(token) == (at, report, event.id):
                del state.holders[token]
        event.tokens = [entry for entry in event.tokens if entry[2] != seen.rank]
        if seen.opener:
            for place in self._event_places(event):
                state.places[place].remove(event)
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
        self._push_concerned(state, first, first.opener, queue, queued)
        while queue:
            _, _, identity = heapq.heappop(queue)
            queued.discard(identity)
            seen = state.young[identity]
            before = seen.event, seen.opener
            verdict = self._decide(state, seen, True)
            opens = verdict.relation in OPENING
            if (verdict.event, opens) == before:
                continue
            self._take_back(state, seen, changes)
            self._apply(state, seen, verdict, self._own_places(seen), changes)
            seen.moves += 1
            self._push_concerned(state, seen, before[1] != opens, queue, queued)
            left = state.events.get(before[0])
            if left is not None and not left.count:
                left.merged_into = seen.event or None

    def _push_concerned(
        self,
        state: MergeState,
        seen: Seen,
        opening: bool,
        queue: list[tuple[int, str, str]],
        queued: set[str],
    ) -> None:
        places = list(self._certain_places(seen))
        if opening:
            for place in self._own_places(seen):
                if place[0] == "c":
                    _, group, zone, x, y = place
                    places += [
                        ("c", group, zone, column, row)
                        for column in (x - 1, x, x + 1)
                        for row in (y - 1, y, y + 1)
                    ]
                else:
                    places.append(place)
        key = seen.at, seen.rank
        for place in places:
            for other in state.young_at.get(place, {}).values():
                if (other.at, other.rank) > key and other.id not in queued:
                    queued.add(other.id)
                    heapq.heappush(queue, (other.at, other.rank, other.id))

    # ---- where a report is found and looks

    def _group(self, class_code: str) -> str:
        return self._groups.get(class_code, class_code)

    def _size(self, group: str) -> float:
        """Width of the group's cells in degrees: its largest radius, so that the nine around hold all."""
        size = self._sizes.get(group)
        if size is None:
            members = self._members.get(group, [group])
            size = max(self.rule(code).radius_m for code in members) / METRES_PER_DEGREE
            self._sizes[group] = size
        return size

    def _own_places(self, seen: Seen) -> list[Token]:
        return self._places(
            seen.class_code, seen.zone, seen.lon, seen.lat, seen.building, seen.grid_code
        )

    def _event_places(self, event: OpenEvent) -> list[Token]:
        return self._places(
            event.class_code, event.zone, event.lon, event.lat, event.building, event.grid_code
        )

    def _places(
        self,
        class_code: str,
        zone: str,
        lon: float | None,
        lat: float | None,
        building: str,
        grid: str,
    ) -> list[Token]:
        group = self._group(class_code)
        places: list[Token] = []
        if building:
            places.append(("a", group, zone, building))
        if lon is not None and lat is not None:
            # Twice as wide in longitude: enough for the nine around up to 60° of latitude.
            size = self._size(group)
            places.append(
                ("c", group, zone, math.floor(lon / (2.0 * size)), math.floor(lat / size))
            )
        elif grid:
            places.append(("g", group, zone, grid))
        return places

    def _near_places(self, seen: Seen, rule: Rule) -> Iterator[Token]:
        """Where openers of its matter may stand: surest first."""
        group = self._group(seen.class_code)
        zone, lon, lat = seen.zone, seen.lon, seen.lat
        if seen.building:
            yield ("a", group, zone, seen.building)
        if lon is None or lat is None:
            if seen.grid_code:
                yield ("g", group, zone, seen.grid_code)
            return
        size = self._size(group)
        x, y = math.floor(lon / (2.0 * size)), math.floor(lat / size)
        # A neighbouring cell counts only when the radius reaches over the border to it.
        reach_y = rule.radius_m / METRES_PER_DEGREE
        reach_x = reach_y / math.cos(math.radians(lat))
        left, right = lon - reach_x < x * 2.0 * size, lon + reach_x >= (x + 1) * 2.0 * size
        down, up = lat - reach_y < y * size, lat + reach_y >= (y + 1) * size
        for column in range(x - left, x + right + 1):
            for row in range(y - down, y + up + 1):
                yield ("c", group, zone, column, row)

    def _certain_places(self, seen: Seen) -> Iterator[Token]:
        for token in seen.tokens:
            yield ("t", token)
        if seen.device:
            yield _device(seen)

    def _all_places(self, seen: Seen) -> list[Token]:
        return [*self._own_places(seen), *self._certain_places(seen)]

    def _remember(self, state: MergeState, seen: Seen, own: list[Token]) -> None:
        state.young[seen.id] = seen
        young_at = state.young_at
        for place in own:
            young_at.setdefault(place, {})[seen.id] = seen
        for place in self._certain_places(seen):
            young_at.setdefault(place, {})[seen.id] = seen

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
                for place in self._event_places(event):
                    there = state.places[place]
                    there.remove(event)
                    if not there:
                        del state.places[place]
            bodies = [entry for entry in event.tokens if entry[0][0] == "b"]
            keep = bool(bodies) and event.last_at >= floor - self._body_ms
            for token, at, report in event.tokens:
                holder = (at, report, event.id)
                if not (keep and token[0] == "b") and state.holders.get(token) == holder:
                    del state.holders[token]
            if keep:
                event.tokens = bodies
                state.archive[event.id] = event.to_bytes()
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


def _apart(seen: Seen, event: OpenEvent) -> bool:
    """Whether both name a place and it is not the same."""
    if seen.building and event.building and seen.building != event.building:
        return True
    if seen.lon is None or seen.lat is None or event.lon is None or event.lat is None:
        return False
    return metres(seen.lon, seen.lat, event.lon, event.lat) > NAMESAKE_M


def _device(seen: Seen) -> Token:
    return ("d", seen.device, seen.class_code)


def close(state: MergeState, event: str, at_ms: int) -> OpenEvent | None:
    """Close an event: what comes after ``at_ms`` about it recurs. None when merge has forgotten it."""
    found = state.events.get(event)
    if found is not None and found.closed_at is None:
        found.version += 1
        found.closed_at = at_ms
    return found
