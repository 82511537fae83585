"""Events merged, split and closed by people: pure, over the same state as the rules.

What a person decided stands: a report that was moved by hand is not decided again. A merge takes the reports
of one event, and where it can be joined, into another; a split gives a set of reports an event of their own,
named after the first of them. So each undoes the other: what is split out of the event that took it has its
former id.

Merge remembers only the reports of the last moments, hence an action brings the links of its event's reports.
What joined or left meanwhile is known here; where both together do not make up the event, the action is
refused and is to be asked for again.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from schemas.ids import event_id
from streams.asked import Refusal
from streams.merge.place import OPENING, REPEATED, Changes, Placer, called, moved
from streams.merge.state import (
    REPORTERS_KEPT,
    TOKENS_KEPT,
    Learnt,
    Member,
    MergeState,
    Move,
    OpenEvent,
    Seen,
)

#: Names, houses and points at most that an event takes over from those merged into it.
LEARNT_KEPT = 32


def member(link: Mapping[str, Any]) -> Member:
    """A member out of its Link record."""
    return Member(
        link["report_id"], link["event_id"], link["relation"], link["channel"], link["class_code"],
        link["district_code"], link["occurred_at"], link["received_at"], link["sequence"],
    )  # fmt: skip


def act(
    placer: Placer,
    state: MergeState,
    action: Mapping[str, Any],
    members: Iterable[Member],
    firsts: Mapping[str, Seen],
    changes: Changes,
) -> Refusal | None:
    """Do one action; None when it was done, else nothing was changed.

    ``action``: an EventAction record; ``members``: the links in force of the event's reports, as somebody
    read them; ``firsts``: by id the first report of each side of a split.
    """
    event = placer.event(state, action["event_id"])
    if event is None:
        return Refusal("unknown_event", "merge does not know the event, or has forgotten it")
    reason = f"by hand: {action['reason']}".rstrip(": ")
    match action["action"]:
        case "merge":
            other = placer.event(state, action["into"])
            if other is None:
                return Refusal("unknown_event", "merge does not know the event to merge into")
            return _merge(placer, state, event, other, members, reason, changes)
        case "split":
            return _split(
                placer, state, event, action["report_ids"], members, firsts, reason, changes
            )
        case "apart":
            other = placer.event(state, action["into"])
            if other is None:
                return Refusal("unknown_event", "merge does not know the other event")
            _apart(event, other, changes)
            return None
        case "close":
            return _close(event, action["at"], changes)
        case "reopen":
            return _close(event, None, changes)
    return Refusal(
        "unknown_action", f"{action['action']!r} is none of merge, split, apart, close, reopen"
    )


def _merge(
    placer: Placer,
    state: MergeState,
    event: OpenEvent,
    into: OpenEvent,
    members: Iterable[Member],
    reason: str,
    changes: Changes,
) -> Refusal | None:
    if event is into:
        return Refusal("same_event", "an event cannot be merged into itself")
    if event.merged_into == into.id:
        return Refusal("already_done", "the event is merged into that one already")
    for one in (event, into):
        if one.merged_into is not None or not one.count:
            where = f": it went into {one.merged_into}" if one.merged_into else ""
            return Refusal("no_reports", f"event {one.id} has no reports of its own{where}")
    if event.zone != into.zone:
        return Refusal("other_zone", "events of two merge zones are never one")
    found = _members(state, event, members)
    if isinstance(found, Refusal):
        return found
    _leave(state, event, into, found, reason, changes)
    # Where it was joined, the other is joined from now on.
    name = called(event)
    told = Learnt(event.at, event.rank, event.lon, event.lat, event.building, name)
    placer.lift(state, event, None)
    for learnt in event.learnt:
        placer.lift(state, event, learnt)
    for learnt in (told, *event.learnt)[: max(0, LEARNT_KEPT - len(into.learnt))]:
        placer.learn(state, into, learnt)
    event.learnt = []
    into.reporters = list(dict.fromkeys([*into.reporters, *event.reporters]))[:REPORTERS_KEPT]
    into.count += event.count
    into.priority += event.priority + (event.was in REPEATED)
    into.urgent += event.urgent
    # The one that it may have been is part of it now.
    into.apart = into.apart or into.candidate == event.id
    into.occurred_at = min(into.occurred_at, event.occurred_at)
    into.last_occurred_at = max(into.last_occurred_at, event.last_occurred_at)
    into.updated_at = max(into.updated_at, event.updated_at)
    into.last_at = max(into.last_at, event.last_at)
    event.count, event.merged_into = 0, into.id
    return None


def _split(
    placer: Placer,
    state: MergeState,
    event: OpenEvent,
    reports: Sequence[str],
    members: Iterable[Member],
    firsts: Mapping[str, Seen],
    reason: str,
    changes: Changes,
) -> Refusal | None:
    found = _members(state, event, members)
    if isinstance(found, Refusal):
        return found
    asked = set(reports)
    unknown = sorted(asked - {each.report for each in found})
    if unknown:
        return Refusal("not_in_event", f"report {unknown[0]} is not in the event")
    if not asked or len(asked) == len(found):
        return Refusal("nothing_to_split", "name some of the event's reports, but not all")
    # The event stays where its opening report is; the others leave.
    leaving = [e for e in found if (e.report in asked) != (event.first_report_id in asked)]
    first = min(leaving, key=lambda each: each.key)
    identity = event_id(first.report)
    new = placer.event(state, identity)
    if new is None:
        opener = state.young.get(first.report) or firsts.get(first.report)
        if opener is None:
            return Refusal("unknown_report", f"report {first.report} must come with the action")
        new = placer.opened(opener, identity, first.key)
    elif new.count:
        return Refusal("other_event", f"event {identity}, which that report opened, has reports")
    new.merged_into, new.was, new.apart = None, first.relation, True
    state.events[identity] = new
    placer.anchor(state, new, None)
    _leave(state, event, new, leaving, reason, changes)
    ranks = {each.key[1] for each in leaving}
    for learnt in [learnt for learnt in event.learnt if learnt.rank in ranks]:
        event.learnt.remove(learnt)
        placer.lift(state, event, learnt)
        if learnt.rank != new.rank:
            placer.learn(state, new, learnt)
    staying = [each for each in found if each.key[1] not in ranks]
    for one, theirs in ((event, staying), (new, leaving)):
        one.count = len(theirs)
        one.priority = sum(
            each.relation in REPEATED and each.report != one.first_report_id for each in theirs
        )
        one.occurred_at = min(each.occurred_at for each in theirs)
        one.last_occurred_at = max(each.occurred_at for each in theirs)
        one.updated_at = max(each.received_at for each in theirs)
    new.last_at = max(each.received_at for each in leaving)
    return None


def _apart(event: OpenEvent, other: OpenEvent, changes: Changes) -> None:
    """Where one names the other as what it may be, it is known to be none."""
    for one, two in ((event, other), (other, event)):
        if one.candidate == two.id and not one.apart:
            one.apart = True
            one.version += 1
            changes.events[one.id] = one


def _close(event: OpenEvent, at: int | None, changes: Changes) -> Refusal | None:
    """Close an event at an instant, or open it again: what is told of a closed one recurs."""
    if (event.closed_at is None) == (at is None):
        return Refusal("already_done", "the event is open" if at is None else "the event is closed")
    event.closed_at = at
    event.version += 1
    changes.events[event.id] = event
    return None


def _members(
    state: MergeState, event: OpenEvent, members: Iterable[Member]
) -> list[Member] | Refusal:
    """Every report of an event: the young ones as they are here, the others as they were read."""
    found = [each for each in members if each.event == event.id and each.report not in state.young]
    found += [_young(state, seen) for seen in state.young.values() if seen.event == event.id]
    if len({each.report for each in found}) != event.count or len(found) != event.count:
        return Refusal(
            "stale",
            f"{len(found)} of the event's {event.count} reports are known: read it again and repeat",
        )
    return found


def _young(state: MergeState, seen: Seen) -> Member:
    event = state.events[seen.event]
    return Member(
        seen.id, seen.event, seen.relation, seen.channel, event.class_code, event.district_code,
        seen.occurred_at, seen.received_at, seen.moves,
    )  # fmt: skip


def _leave(
    state: MergeState,
    event: OpenEvent,
    into: OpenEvent,
    leaving: Collection[Member],
    reason: str,
    changes: Changes,
) -> None:
    """Reports go from one event to another, with what makes certain that others belong to them."""
    for each in leaving:
        relation = each.relation
        if each.report == into.first_report_id:
            relation = "recurrence" if into.recurs_of else "opened"
        elif relation in OPENING:
            relation = event.was or "co_report"
        seen = state.young.get(each.report)
        if seen is None:
            changes.moves.append(Move(each, into.id, relation, reason))
            continue
        seen.event, seen.relation, seen.score, seen.reason = into.id, relation, 1.0, reason
        seen.candidate, seen.by_hand = "", True
        moved(state, seen, event.id)
        changes.reports[seen.id] = seen
    ranks = {each.key[1] for each in leaving}
    for token, at, own in [entry for entry in event.tokens if entry[2] in ranks]:
        event.tokens.remove([token, at, own])
        holds = state.holders.get(token) == (at, own, event.id)
        if len(into.tokens) < TOKENS_KEPT:
            into.tokens.append([token, at, own])
            if holds:
                state.holders[token] = (at, own, into.id)
        elif holds:
            del state.holders[token]
    for device, alarms in state.alarms.items():
        for index, alarm in enumerate(alarms):
            if alarm[4] == event.id and alarm[1] in ranks:
                alarms[index] = (*alarm[:4], into.id)
                changes.devices.add(device)
    for one in (event, into):
        one.version += 1
        changes.events[one.id] = one
