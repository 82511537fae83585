"""What merge remembers: events that may still be joined, and the reports of the last moments.

A report is *young* for :data:`HORIZON_MS` of stream time. Only young reports are decided again when one that
was received before them arrives after them; older decisions stand.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec

#: Reports that arrive at most so much out of order are decided as if they had come in order.
HORIZON_MS = 120_000
#: Young reports are found, and forgotten, by spans of so long.
SPAN_MS = HORIZON_MS // 2
#: Reporters and tokens remembered of one event; a matter that the whole city reports stays bounded.
REPORTERS_KEPT, TOKENS_KEPT = 20, 64
#: Events kept only because somebody may send the same long text again; the oldest go first.
ARCHIVE_KEPT = 100_000

#: (ms, rank): the order in which reports are decided, whatever the order in which they arrive.
Key = tuple[int, str]
Token = tuple[Any, ...]
#: Where a young report is found: a place or a device, what makes certain (its token), its event (its id).
Place = Token | str
#: One alarm of a device: its key (ms and rank), when it occurred, open or cleared, its event.
AlarmSeen = tuple[int, str, int, str, str]


def rank(occurred_at: int, report: str) -> str:
    """Where a report stands among those received in one millisecond: by when it occurred, then by its id.

    Reports of one message have one time of receipt; what ended must not come before what began.
    """
    return f"{max(occurred_at, 0):014d}|{report}"


class Seen(msgspec.Struct, array_like=True, eq=False, gc=False):
    """A report as merge sees it, and what was decided of it.

    An array in the state topic: a new field goes to the end and has a default.
    """

    at: int
    id: str
    occurred_at: int
    received_at: int
    channel: str
    class_code: str
    zone: str
    lon: float | None
    lat: float | None
    district_code: str
    grid_code: str
    title: str
    address: str
    words: str
    reporter: str
    tokens: list[str]
    device: str
    alarm_state: str
    building: str
    part: bool
    # decided
    event: str = ""
    relation: str = ""
    score: float = 0.0
    reason: str = ""
    candidate: str = ""
    #: How often it moved, as far as published.
    moves: int = 0
    #: The class that its words name, where its reporter chose another.
    also: str = ""
    #: A person put it where it is.
    by_hand: bool = False
    #: What its link in force says, once it has one: event, relation, class and district.
    told: list[str] = []
    #: Its place among the reports of its millisecond.
    rank: str = ""
    #: Its words tell of danger.
    urgent: bool = False
    #: Its reporter settled the matter on the spot.
    self_handled: bool = False

    def __post_init__(self) -> None:
        self.rank = self.rank or rank(self.occurred_at, self.id)

    @property
    def opener(self) -> bool:
        """Whether it opened its event."""
        return self.relation in ("opened", "recurrence")


@dataclass(frozen=True, slots=True)
class Member:
    """A report in an event, as its link in force tells."""

    report: str
    event: str
    relation: str
    channel: str
    class_code: str
    district_code: str
    occurred_at: int
    received_at: int
    sequence: int

    @property
    def key(self) -> tuple[int, str]:
        """Where it stands in the order of reports."""
        return self.received_at, rank(self.occurred_at, self.report)


@dataclass(frozen=True, slots=True)
class Move:
    """An old report that goes from one event to another: the link to take back, and the new one."""

    member: Member
    event: str
    relation: str
    reason: str


class Learnt(NamedTuple):
    """Where a report says that its event is, beyond what was known of it; empty what it does not say."""

    at: int
    rank: str
    lon: float | None
    lat: float | None
    building: str
    name: str


class OpenEvent(msgspec.Struct, array_like=True, eq=False, gc=False):
    """An event that may still be joined; in the state topic as a :class:`Seen` is."""

    id: str
    version: int
    #: When its opener was decided, and the newest of its reports: ms of the order of decisions.
    at: int
    last_at: int
    class_code: str
    zone: str
    lon: float | None
    lat: float | None
    district_code: str
    grid_code: str
    title: str
    address: str
    words: str
    building: str
    part: bool
    device: str
    first_report_id: str
    first_channel: str
    opener_occurred_at: int
    occurred_at: int
    last_occurred_at: int
    opened_at: int
    updated_at: int
    count: int
    priority: int
    reporters: list[str]
    tokens: list[list[Any]]
    recurs_of: str | None = None
    merged_into: str | None = None
    cleared_at: int | None = None
    closed_at: int | None = None
    recurred_by: str | None = None
    published: bool = False
    #: The class that its opener's words name, where the reporter chose another.
    also: str = ""
    learnt: list[Learnt] = []
    #: What its opener was in the event that it was split from.
    was: str = ""
    #: The group of events of one cause that it belongs to.
    incident_id: str | None = None
    #: The rank of its opener.
    rank: str = ""
    #: What its opener's decision named as another that it may be, the score and why.
    candidate: str = ""
    candidate_score: float = 0.0
    candidate_reason: str = ""
    #: A person said that it is another matter.
    apart: bool = False
    #: Reports of it whose words tell of danger.
    urgent: int = 0
    #: Who opened it settled it on the spot.
    self_handled: bool = False

    def __post_init__(self) -> None:
        self.rank = self.rank or rank(self.opener_occurred_at, self.first_report_id)

    @property
    def doubtful(self) -> bool:
        """Whether it may be one with its candidate: until a person says no, or a report says where it is."""
        if not self.candidate or self.apart:
            return False
        told = self.lon is not None or self.building
        return bool(told) or not any(
            learnt.lon is not None or learnt.building for learnt in self.learnt
        )


@dataclass(slots=True, eq=False)
class Anchor:
    """A place where an event can be joined: its opener's, or one learnt from a later report."""

    event: OpenEvent
    at: int
    rank: str
    lon: float | None
    lat: float | None


class YoungAt:
    """Where young reports are found, by each of the places that they are given.

    A dictionary for each :data:`SPAN_MS` of the order of decisions, so that what is old goes at once. Only who
    decides again looks, so a report is noted, and put into its dictionary when somebody does.
    """

    def __init__(self) -> None:
        self._spans: dict[int, dict[Place, list[Seen]]] = {}
        self._noted: deque[tuple[Seen, list[Place]]] = deque()

    def note(self, seen: Seen, places: list[Place]) -> None:
        """A report is at these places."""
        self._noted.append((seen, places))

    def since(self, at: int) -> list[dict[Place, list[Seen]]]:
        """By their places the reports that were decided at ``at`` or later, and maybe some before."""
        self._sort()
        return [places for span, places in self._spans.items() if span >= at // SPAN_MS]

    def move(self, seen: Seen, before: Place, after: Place) -> None:
        """A report is no more at one place but at another; "" is none."""
        self._sort()
        places = self._spans.setdefault(seen.at // SPAN_MS, {})
        if seen in places.get(before, ()):
            places[before].remove(seen)
        if after:
            places.setdefault(after, []).append(seen)

    def forget(self, floor: int) -> None:
        """Let go what is older than ``floor``, as far as nothing younger is beside it."""
        while self._noted and self._noted[0][0].at < floor:
            self._noted.popleft()
        for span in [span for span in self._spans if (span + 1) * SPAN_MS <= floor]:
            del self._spans[span]

    def _sort(self) -> None:
        """Put what was noted where it is found."""
        while self._noted:
            seen, places = self._noted.popleft()
            there = self._spans.setdefault(seen.at // SPAN_MS, {})
            for place in places:
                there.setdefault(place, []).append(seen)


#: Values of the state topic: an event, the young reports of a batch, the alarms of a device.
to_json = msgspec.json.Encoder().encode
event_of = msgspec.json.Decoder(OpenEvent).decode
reports_of = msgspec.json.Decoder(list[Seen]).decode
alarms_of = msgspec.json.Decoder(tuple[list[Any], list[list[Any]]]).decode


@dataclass(slots=True)
class BurstState:
    """Events that may be part of an incident. All of it is in the events themselves, and made again of them."""

    #: Those of which an earlier one may still arrive, by key: at, rank, id.
    unsettled: list[tuple[int, str, str]] = field(default_factory=list)
    #: The others by id, earliest first but for those that a person split off.
    settled: dict[str, OpenEvent] = field(default_factory=dict)
    #: Settled ones without an incident, and the first ones of incidents, by their cells.
    free: dict[Token, dict[str, OpenEvent]] = field(default_factory=dict)
    firsts: dict[Token, dict[str, OpenEvent]] = field(default_factory=dict)
    #: Ids of the unsettled.
    waiting: set[str] = field(default_factory=set)
    #: What is older is settled: ms of the order of decisions.
    floor: int = 0


@dataclass(slots=True)
class MergeState:
    """The zones of one partition."""

    events: dict[str, OpenEvent] = field(default_factory=dict)
    #: Where events can be joined, by the tokens of these places.
    places: dict[Token, list["Anchor"]] = field(default_factory=dict)
    #: Earliest holder of a token that makes certain: at, rank, event id.
    holders: dict[str, tuple[int, str, str]] = field(default_factory=dict)
    #: Alarms of a device and class, by key: all young ones and the newest before them.
    alarms: dict[Token, list[AlarmSeen]] = field(default_factory=dict)
    archive: dict[str, bytes] = field(default_factory=dict)
    young: dict[str, Seen] = field(default_factory=dict)
    young_at: YoungAt = field(default_factory=YoungAt)
    #: Entries of the state topic that hold young reports, oldest first: entry key, its newest report.
    diary: deque[tuple[bytes, int]] = field(default_factory=deque)
    bursts: BurstState = field(default_factory=BurstState)
    newest: Key = (0, "")
    stream_time: int = 0
    swept_at: int = 0
