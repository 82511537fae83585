"""What the pipeline decided, held against what the simulator knows: the truth file and the tables.

The measures are pure functions over rows. A *pair* is two reports of one matter (true) or of one event
(decided); a report that stands in no event shares none. Pairs are counted, never listed: a storm has millions.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations
from math import comb
from pathlib import Path
from typing import Any

from connectors.simulator.truth import Truth, read_truth
from schemas.errors import QuanyuError
from schemas.grids import LEVELS, SPECIAL
from schemas.ids import report_id
from schemas.settings import Settings
from schemas.tables import connect

#: A message may be received so long before its transport said so (ms): a slow 202.
BEFORE_MS = 10 * 60 * 1000


@dataclass(frozen=True, slots=True)
class Decided:
    """What became of a report: its one outcome that is no duplicate, and its repetitions.

    ``demands``: of a message that was taken apart, the report of each, with its class.
    """

    outcome: str
    class_code: str
    grid_code: str
    duplicates: int = 0
    demands: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Pairs:
    """Precision, recall and their harmonic mean, over pairs."""

    true: int
    decided: int
    both: int

    @property
    def precision(self) -> float | None:
        """Of the decided pairs those that are true; None when none was decided."""
        return self.both / self.decided if self.decided else None

    @property
    def recall(self) -> float | None:
        """Of the true pairs those that were decided; None when there is none."""
        return self.both / self.true if self.true else None

    @property
    def f1(self) -> float | None:
        """None when there are pairs on neither side."""
        either = self.true + self.decided
        return 2 * self.both / either if either else None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            **asdict(self),
            "precision": _rounded(self.precision),
            "recall": _rounded(self.recall),
            "f1": _rounded(self.f1),
        }


@dataclass(slots=True)
class Share:
    """How many of how many."""

    right: int = 0
    of: int = 0

    def count(self, right: bool) -> None:
        """One more."""
        self.of += 1
        self.right += right

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "right": self.right,
            "of": self.of,
            "share": _rounded(self.right / self.of if self.of else None),
        }


@dataclass(slots=True)
class Splits:
    """Accepted messages of several matters, and what was taken apart.

    ``right``: into its matters, each of its class; ``wrong``: otherwise, or a message of one matter.
    """

    several: int = 0
    right: int = 0
    wrong: int = 0

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            **asdict(self),
            "recall": _rounded(self.right / self.several if self.several else None),
        }


@dataclass(slots=True)
class Measures:
    """What is measured of all reports, or of one channel's.

    ``sent``: messages; ``reports``: distinct ones. ``class_of_accepted``, ``class_of_all``: the class is that
    of one of the matters. ``without_event``: accepted and in no event, as the end of an unknown alarm, or
    because merge is behind. ``grids``: level → (with a point in the report, without one), of the accepted.
    """

    sent: int = 0
    reports: int = 0
    lost: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    duplicates: int = 0
    without_event: int = 0
    pairs: Pairs = field(default_factory=lambda: Pairs(0, 0, 0))
    class_of_accepted: Share = field(default_factory=Share)
    class_of_all: Share = field(default_factory=Share)
    review: Share = field(default_factory=Share)
    splits: Splits = field(default_factory=Splits)
    grids: dict[str, tuple[Share, Share]] = field(
        default_factory=lambda: {level: (Share(), Share()) for level in (*LEVELS, SPECIAL)}
    )

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "sent": self.sent,
            "reports": self.reports,
            "lost": self.lost,
            "outcomes": dict(sorted(self.outcomes.items())),
            "duplicates": self.duplicates,
            "without_event": self.without_event,
            "pairs": self.pairs.as_dict(),
            "class_of_accepted": self.class_of_accepted.as_dict(),
            "class_of_all": self.class_of_all.as_dict(),
            "review": self.review.as_dict(),
            "splits": self.splits.as_dict(),
            "grids": {
                level: {"with_point": told.as_dict(), "without_point": untold.as_dict()}
                for level, (told, untold) in self.grids.items()
                if told.of or untold.of
            },
        }


@dataclass(frozen=True, slots=True)
class Parked:
    """Orders that wait for a person to say whether their event is known.

    ``waiting``: of all orders in force. ``known``: of the waiting, those whose matter has another order.
    ``ever``: orders that waited at any time, answered or not. ``twice``: matters that one unit is given twice
    when all that wait are dispatched unanswered.
    """

    waiting: Share
    known: Share
    ever: int
    twice: Share

    def as_dict(self) -> dict[str, Any]:
        """For JSON; ``precision`` is the share of ``known``."""
        waiting, known = self.waiting.as_dict(), self.known.as_dict()
        return {
            "orders": waiting["right"],
            "of": waiting["of"],
            "share": waiting["share"],
            "known": known["right"],
            "precision": known["share"],
            "ever": self.ever,
            "twice_if_dispatched": _matters(self.twice),
        }


@dataclass(slots=True)
class Evaluation:
    """The whole: all reports, each channel, matters that one unit was given twice, and what waits meanwhile."""

    overall: Measures
    channels: dict[str, Measures]
    dispatched_twice: Share
    parked: Parked

    def as_dict(self) -> dict[str, Any]:
        """For JSON; ``dispatched_twice`` is of the matters that have an order."""
        return {
            "overall": self.overall.as_dict(),
            "channels": {name: found.as_dict() for name, found in self.channels.items()},
            "dispatched_twice": _matters(self.dispatched_twice),
            "parked": self.parked.as_dict(),
        }


def _matters(share: Share) -> dict[str, Any]:
    told = share.as_dict()
    return {"matters": told["right"], "of": told["of"], "share": told["share"]}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def count_pairs(
    reports: Iterable[tuple[str, Sequence[str], str | None]],
) -> tuple[Pairs, dict[str, Pairs]]:
    """Pairs of all reports and those that have a report of each channel in them.

    A report is (channel, matters, event or None). Two reports make a true pair when they share any matter; each
    set of matters that both tell of is counted in and out (inclusion and exclusion), so that two who share two
    matters are one pair.
    """
    true: dict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
    decided: dict[str, Counter[str]] = defaultdict(Counter)
    both: dict[tuple[str, tuple[str, ...]], Counter[str]] = defaultdict(Counter)
    channels: set[str] = set()
    for channel, matters, event in reports:
        channels.add(channel)
        subsets = _subsets(matters)
        for subset in subsets:
            true[subset][channel] += 1
        if event is not None:
            decided[event][channel] += 1
            for subset in subsets:
                both[event, subset][channel] += 1
    totals: dict[str | None, list[int]] = {name: [0, 0, 0] for name in (None, *channels)}

    def add(column: int, sign: int, cell: Counter[str]) -> None:
        n = cell.total()
        whole = comb(n, 2)
        if not whole:
            return
        totals[None][column] += sign * whole
        for name, of_channel in cell.items():
            totals[name][column] += sign * (whole - comb(n - of_channel, 2))

    for subset, cell in true.items():
        add(0, _sign(subset), cell)
    for cell in decided.values():
        add(1, 1, cell)
    for (_, subset), cell in both.items():
        add(2, _sign(subset), cell)
    found = {name: Pairs(*columns) for name, columns in totals.items() if name is not None}
    return Pairs(*totals[None]), found


def _subsets(matters: Sequence[str]) -> list[tuple[str, ...]]:
    if len(matters) == 1:
        return [(matters[0],)]
    ordered = sorted(set(matters))
    return [c for size in range(1, len(ordered) + 1) for c in combinations(ordered, size)]


def _sign(subset: Sequence[str]) -> int:
    return 1 if len(subset) % 2 else -1


def evaluate(
    truth: Iterable[Truth],
    decided: Mapping[str, Decided],
    event_of: Mapping[str, str],
    opened: Mapping[str, set[str]],
    orders: Mapping[str, Sequence[tuple[str, str]]],
    waiting: Collection[str] = (),
    parked: int = 0,
) -> Evaluation:
    """Hold the decisions against the truth.

    ``decided``: report id → what became of it; ``event_of``: report id → its event now; ``opened``: report id →
    events that it ever opened; ``orders``: event → (order in force, unit); ``waiting``: those of them that wait
    for a person to say whether they are known; ``parked``: how many ever did.
    """
    overall, channels = Measures(), dict[str, Measures]()
    first: dict[str, Truth] = {}
    for told in truth:
        channel = channels.setdefault(told.channel, Measures())
        overall.sent += 1
        channel.sent += 1
        first.setdefault(report_id(told.channel, told.native_id, told.revision), told)
    reports: list[tuple[str, str, tuple[str, ...]]] = []
    for identity, told in first.items():
        found = decided.get(identity)
        parts = _reports(identity, told, found)
        reports += [(part, told.channel, matters) for part, matters in parts]
        for measures in (overall, channels[told.channel]):
            _count(measures, told, found)
            if found is not None and found.outcome == "accepted":
                measures.without_event += sum(part not in event_of for part, _ in parts)
    overall.pairs, of_channels = count_pairs(
        (channel, matters, event_of.get(part)) for part, channel, matters in reports
    )
    for name, pairs in of_channels.items():
        channels[name].pairs = pairs
    events = _events_of(reports, event_of, opened)
    twice, unanswered = Share(), Share()
    known: set[str] = set()
    for found_events in events.values():
        of_matter = [order for event in found_events for order in orders.get(event, ())]
        if len(of_matter) > 1:
            known.update(order for order, _ in of_matter if order in waiting)
        if of_matter:
            units = Counter(unit for order, unit in of_matter if order not in waiting)
            twice.count(max(units.values(), default=0) > 1)
            unanswered.count(max(Counter(unit for _, unit in of_matter).values()) > 1)
    whole = sum(map(len, orders.values()))
    told_parked = Parked(
        Share(len(waiting), whole), Share(len(known), len(waiting)), parked, unanswered
    )
    return Evaluation(overall, dict(sorted(channels.items())), twice, told_parked)


def _reports(
    identity: str, told: Truth, found: Decided | None
) -> list[tuple[str, tuple[str, ...]]]:
    """The reports that a message became, each with the matters that it may be of."""
    demands = found.demands if found else ()
    if not demands:
        return [(identity, told.matters)]
    if len(demands) != len(told.matters):
        return [(part, told.matters) for part, _ in demands]
    # They are told in this order.
    return [(part, (matter,)) for (part, _), matter in zip(demands, told.matters, strict=True)]


def _count(measures: Measures, told: Truth, found: Decided | None) -> None:
    measures.reports += 1
    outcome = found.outcome if found else "lost"
    accepted = outcome == "accepted"
    measures.lost += found is None
    if found:
        measures.outcomes[outcome] += 1
        measures.duplicates += found.duplicates
    right = accepted and found is not None and found.class_code in told.classes
    measures.class_of_all.count(right)
    measures.review.count(outcome == "review")
    if accepted and found is not None:
        measures.class_of_accepted.count(right)
        measures.splits.several += len(told.matters) > 1
        if found.demands:
            apart = tuple(code for _, code in found.demands) == told.classes
            measures.splits.right += apart
            measures.splits.wrong += not apart
        _count_grids(measures, told, found.grid_code)


def _count_grids(measures: Measures, told: Truth, code: str) -> None:
    """Each level that the truth knows. A special grid stands in place of compound and micro-grid."""
    side = 0 if told.pointed else 1
    if told.special:
        measures.grids[SPECIAL][side].count(code == told.special)
    for level, length in LEVELS.items():
        if len(told.grid) < length:
            continue
        if told.special and length > LEVELS["community"]:
            continue
        measures.grids[level][side].count(code[:length] == told.grid[:length])


def _events_of(
    reports: Iterable[tuple[str, str, Sequence[str]]],
    event_of: Mapping[str, str],
    opened: Mapping[str, set[str]],
) -> dict[str, set[str]]:
    """Matter → the events of its reports.

    A report of two matters that was not taken apart is left out: the order of the one would be counted for
    the other.
    """
    events: dict[str, set[str]] = defaultdict(set)
    for identity, _, matters in reports:
        if len(matters) == 1:
            event = event_of.get(identity)
            if event is not None:
                events[matters[0]].add(event)
            events[matters[0]].update(opened.get(identity, ()))
    return events


def newest_truth(settings: Settings) -> Path:
    """The home's last truth file; :class:`QuanyuError` when nothing was simulated."""
    folder = settings.home / "truth"
    found = sorted(folder.glob("*.jsonl"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise QuanyuError(
            f"{folder}: no truth; run quanyu simulate first, or name one: --truth FILE"
        )
    return found[-1]


def evaluate_simulation(
    settings: Settings, truth: Path, progress: Callable[[str], None] = lambda _: None
) -> Evaluation:
    """Read both sides and evaluate. QuanyuError when the truth or the tables hold nothing of the run."""
    progress("reading the truth")
    told = list(read_truth(truth))
    if not told:
        raise QuanyuError(f"{truth}: holds no report that was sent")
    since = min(line.sent_ms for line in told) - BEFORE_MS
    progress("reading the tables")
    demands: dict[str, list[tuple[str, str]]] = {}
    for origin, report, code in _rows(settings, _DEMANDS, since):
        demands.setdefault(str(origin), []).append((str(report), str(code)))
    decided = {
        str(row[0]): Decided(
            str(row[1]), str(row[2]), str(row[3]), int(row[4]), tuple(demands.get(str(row[0]), ()))
        )
        for row in _rows(settings, _DECIDED, since)
    }
    if not decided:
        raise QuanyuError(
            f"no report was decided since {truth.name} began; is this its stack? see quanyu status"
        )
    event_of: dict[str, str] = {}
    opened: dict[str, set[str]] = {}
    for identity, event, others in _rows(settings, _LINKS, since):
        event_of[str(identity)] = str(event)
        if others:
            opened[str(identity)] = {str(other) for other in others}
    orders: dict[str, list[tuple[str, str]]] = {}
    waiting = set()
    for order, event, unit, state in _rows(settings, _ORDERS, since):
        orders.setdefault(str(event), []).append((str(order), str(unit)))
        # What no unit is left for, waits with none.
        if state == "NEEDS_REVIEW" and unit:
            waiting.add(str(order))
    ((parked,),) = _rows(settings, _PARKED, since)
    return evaluate(told, decided, event_of, opened, orders, waiting, int(parked))


#: A report has one outcome that is no duplicate; the others are its repetitions.
_DECIDED = """
SELECT report_id,
    if(countIf(outcome != 'duplicate') = 0, 'duplicate', anyIf(outcome, outcome != 'duplicate')),
    anyIf(class_code, outcome != 'duplicate'), anyIf(grid_code, outcome != 'duplicate'),
    countIf(outcome = 'duplicate')
FROM report_outcomes WHERE received_at >= fromUnixTimestamp64Milli({since:Int64}) GROUP BY report_id
"""
_DEMANDS = """
SELECT origin, report_id, class_code
FROM reports WHERE received_at >= fromUnixTimestamp64Milli({since:Int64}) AND origin != ''
ORDER BY origin, native_id
"""
#: The newest link holds; one that was taken back has a later one, or the report is in no event.
_LINKS = """
SELECT report_id, argMax(event_id, (sequence, sign)),
    groupUniqArrayIf(event_id, relation IN ('opened', 'recurrence'))
FROM event_links WHERE received_at >= fromUnixTimestamp64Milli({since:Int64}) GROUP BY report_id
"""
#: An order that was withdrawn, as its event went into another, sends nobody.
_ORDERS = """
SELECT order_id, any(event_id), argMax(unit_code, version), argMax(state, version)
FROM orders WHERE dispatched_at >= fromUnixTimestamp64Milli({since:Int64})
GROUP BY order_id HAVING argMax(state, version) NOT IN ('WITHDRAWN', 'RETURNED')
"""
_PARKED = """
SELECT uniqExact(order_id) FROM order_transitions
WHERE at >= fromUnixTimestamp64Milli({since:Int64}) AND action = 'park' AND unit_code != ''
"""


def _rows(settings: Settings, query: str, since: int) -> Iterator[Sequence[Any]]:
    with connect(settings) as client:
        client.database = settings.clickhouse_database
        with client.query_rows_stream(query, parameters={"since": since}) as rows:
            yield from rows
