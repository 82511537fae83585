"""Incidents: many near events of one cause, as an outage or a flood has, under one id (群体聚集). Pure.

The relation stands above merging: each event is still handled by itself. Rules are data of the policy
(:class:`schemas.merge_policy.Burst`).

An event is counted once it is *settled*: so old in stream time that nothing received before it can still
arrive. Settled events are taken in the order of their keys, so arrival order, batches and restarts make no
difference. What lies within a rule's radius and hours of the first event of an incident joins it; else, when
enough events without an incident do so around the one that settles, they become one, named after the first
of them. So an incident cannot grow along a chain of events. An event without a point does not count, nor one
that a person merged into another; what a person splits off later can be counted, but begins nothing.
"""

import heapq
import math
from collections.abc import Iterable, Mapping

from schemas.grids import METRES_PER_DEGREE
from schemas.ids import incident_id
from schemas.merge_policy import MergePolicy
from streams.merge.likeness import metres
from streams.merge.place import HOUR_MS, Changes
from streams.merge.state import HORIZON_MS, Key, MergeState, OpenEvent, Token


class Bursts:
    """The incidents of one policy."""

    def __init__(self, policy: MergePolicy) -> None:
        self._policy = policy
        self._rules: dict[str, int | None] = {}
        self._kept_ms = max((burst.hours for burst in policy.bursts), default=0.0) * HOUR_MS

    def settle(self, state: MergeState, changes: Changes) -> None:
        """After a batch: find the incidents of what has settled; their events are changed."""
        if not self._policy.bursts:
            return
        self._note(state, changes.events.values())
        bursts = state.bursts
        bursts.floor = state.stream_time - HORIZON_MS
        while bursts.unsettled and bursts.unsettled[0][0] < bursts.floor:
            _, _, identity = heapq.heappop(bursts.unsettled)
            bursts.waiting.discard(identity)
            event = state.events.get(identity)
            # One that came and went within a batch is no more.
            if event is not None:
                if _counts(event):
                    self._join(state, event, changes)
                self._hold(state, event)
        self._forget(state)

    def restore(self, state: MergeState) -> None:
        """Make the state again of the restored events."""
        if self._policy.bursts:
            state.bursts.floor = state.stream_time - HORIZON_MS
            self._note(state, sorted(state.events.values(), key=_key))
            self._forget(state)

    def _note(self, state: MergeState, events: Iterable[OpenEvent]) -> None:
        """Hold each event that may be part of an incident, once."""
        bursts = state.bursts
        for event in events:
            if event.lon is None or self._rule(event.class_code) is None:
                continue
            if event.id in bursts.waiting or event.id in bursts.settled:
                continue
            if event.at >= bursts.floor:
                bursts.waiting.add(event.id)
                heapq.heappush(bursts.unsettled, (event.at, event.rank, event.id))
            elif event.at >= bursts.floor - self._kept_ms:
                self._hold(state, event)

    def _join(self, state: MergeState, event: OpenEvent, changes: Changes) -> None:
        """Let an event that settles join an incident, or begin one with those around it."""
        burst = self._policy.bursts[self._rule(event.class_code) or 0]
        free, firsts = state.bursts.free, state.bursts.firsts
        incident = next((first.incident_id for first in self._near(firsts, event)), None)
        together = [event]
        if incident is None:
            together += [other for other in self._near(free, event) if _counts(other)]
            if len(together) < burst.events:
                return
            incident = incident_id(min(together, key=_key).id)
        for each in together:
            self._lift(state, each)
            each.incident_id = incident
            each.version += 1
            changes.events[each.id] = each
            if each is not event:
                self._hold(state, each)

    def _near(
        self, cells: Mapping[Token, Mapping[str, OpenEvent]], event: OpenEvent
    ) -> list[OpenEvent]:
        """What cells hold within the rule's radius and hours of an event, earliest first."""
        rule, zone, x, y = self._cell(event)
        burst = self._policy.bursts[rule]
        found = []
        for column in (x - 1, x, x + 1):
            for row in (y - 1, y, y + 1):
                for other in cells.get((rule, zone, column, row), {}).values():
                    if (
                        abs(event.at - other.at) <= burst.hours * HOUR_MS
                        and metres(*_point(event), *_point(other)) <= burst.radius_m
                    ):
                        found.append(other)
        return sorted(found, key=_key)

    def _hold(self, state: MergeState, event: OpenEvent) -> None:
        """Put a settled event where others find it."""
        bursts = state.bursts
        bursts.settled[event.id] = event
        if event.incident_id is None:
            bursts.free.setdefault(self._cell(event), {})[event.id] = event
        elif event.incident_id == incident_id(event.id):
            bursts.firsts.setdefault(self._cell(event), {})[event.id] = event

    def _lift(self, state: MergeState, event: OpenEvent) -> None:
        """Take an event from where others find it."""
        cell = self._cell(event)
        for cells in (state.bursts.free, state.bursts.firsts):
            there = cells.get(cell)
            if there is not None and there.pop(event.id, None) is not None and not there:
                del cells[cell]

    def _forget(self, state: MergeState) -> None:
        """Let go what no event can be near in time any more."""
        bursts, oldest = state.bursts, state.bursts.floor - self._kept_ms
        old: list[OpenEvent] = []
        for event in bursts.settled.values():
            if event.at >= oldest:
                break
            old.append(event)
        for event in old:
            del bursts.settled[event.id]
            self._lift(state, event)

    def _rule(self, class_code: str) -> int | None:
        if class_code not in self._rules:
            self._rules[class_code] = self._policy.burst(class_code)
        return self._rules[class_code]

    def _cell(self, event: OpenEvent) -> tuple[int, str, int, int]:
        """Where an event is held: the nine cells around hold all within the radius (up to 60° of latitude)."""
        rule = self._rule(event.class_code) or 0
        size = self._policy.bursts[rule].radius_m / METRES_PER_DEGREE
        lon, lat = _point(event)
        return rule, event.zone, math.floor(lon / (2.0 * size)), math.floor(lat / size)


def _point(event: OpenEvent) -> tuple[float, float]:
    return event.lon or 0.0, event.lat or 0.0


def _counts(event: OpenEvent) -> bool:
    """Whether an event still has reports of its own."""
    return event.count > 0 and event.merged_into is None


def _key(event: OpenEvent) -> Key:
    return event.at, event.rank
