"""A city's own history: reports, and which of them its clerks said to be one matter.

What decides here is what the agent runs (:mod:`streams.merge.place`). CSV in UTF-8 with a header; further
columns are ignored. Reports: ``report_id`` and, each cell may be empty, ``occurred_at, category, lon, lat, crs,
address, text``. Truth: pairs ``a,b``, or flags ``report_id,is_duplicate`` (1: a repeat of an earlier report).
"""

import math
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

import numpy as np

from schemas.coordinates import TO_CGCS2000
from schemas.documents import read_rows
from schemas.errors import QuanyuError
from schemas.instants import parse_instant
from schemas.merge_policy import MergePolicy, Rule
from streams.merge.decide import to_seen
from streams.merge.place import Changes, Placer
from streams.merge.state import MergeState

#: Time is cut into so many blocks of equally many reports; every fifth of them is held out together, so
#: that each hour of the day and each stage of a storm is learnt from and judged.
BLOCKS, FOLDS = 20, 5
#: What a class must show against what holds for all classes together: so many pairs weigh the same.
PRIOR_PAIRS = 2.0
RADII = (1.0, 15.0, 30.0, 60.0, 100.0, 150.0, 250.0)
HOURS = (1.0, 2.0, 4.0, 6.0, 8.0, 12.0, 18.0, 24.0, 36.0, 48.0, 72.0, 96.0, 168.0, 336.0, 720.0)


@dataclass(frozen=True, slots=True)
class PastReport:
    """One row of a history."""

    id: str
    at: int
    category: str
    lon: float | None
    lat: float | None
    address: str
    text: str


@dataclass(slots=True)
class History:
    """Reports in the order of their time; ``defects`` name what in which line could not be read."""

    reports: list[PastReport]
    defects: list[str] = field(default_factory=list)


#: Truth as pairs of report ids, or the ids of flagged reports.
Truth = frozenset[tuple[str, str]] | frozenset[str]


@dataclass(frozen=True, slots=True)
class Score:
    """How far decisions and truth agree; counts of pairs or of flagged reports."""

    right: float
    told: float
    true: float

    @property
    def precision(self) -> float:
        """Share of what was told that is true; 1 when nothing was told."""
        return self.right / self.told if self.told else 1.0

    @property
    def recall(self) -> float:
        """Share of what is true that was told; 1 when nothing is true."""
        return self.right / self.true if self.true else 1.0

    @property
    def f1(self) -> float:
        """Harmonic mean of both, 1 when neither has anything."""
        both = self.told + self.true
        return 2.0 * self.right / both if both else 1.0


# ---- reading


def label(category: str, classes: Collection[str]) -> str:
    """A taxonomy code as it is; any other category as one spelling of itself."""
    if category in classes:
        return category
    return " ".join(unicodedata.normalize("NFKC", category).casefold().split())


def read_reports(path: Path, classes: Collection[str], time_zone: str) -> History:
    """Read reports; a time without an offset is of ``time_zone``.

    A cell that cannot be read is a defect and counts as empty; a report without an id, or whose id
    stands twice, is an error.
    """
    columns = ("report_id", "occurred_at", "category", "lon", "lat", "crs", "address", "text")
    history = History([])
    lines: dict[str, int] = {}
    for line, row in read_rows(path, columns):
        where, identity = f"{path}:{line}", row["report_id"]
        if not identity:
            raise QuanyuError(f"{where}: report_id: is empty; every report needs one")
        if identity in lines:
            raise QuanyuError(
                f"{where}: report_id: {identity} stands in line {lines[identity]} too"
            )
        lines[identity] = line
        instant = parse_instant(row["occurred_at"], time_zone) if row["occurred_at"] else None
        if row["occurred_at"] and instant is None:
            history.defects.append(f"{where}: occurred_at: {row['occurred_at'][:40]!r} is no time")
        point = _point(row, where, history.defects)
        history.reports.append(
            PastReport(
                identity,
                instant.ms if instant else 0,
                label(row["category"], classes),
                point[0],
                point[1],
                row["address"],
                row["text"],
            )
        )
    if not history.reports:
        raise QuanyuError(f"{path}: no reports; it has only its header")
    history.reports.sort(key=lambda report: (report.at, report.id))
    return history


def _point(
    row: Mapping[str, str], where: str, defects: list[str]
) -> tuple[float, float] | tuple[None, None]:
    """The point in CGCS2000; none without a readable pair of known CRS."""
    if not row["lon"] and not row["lat"]:
        return None, None
    try:
        lon, lat = float(row["lon"]), float(row["lat"])
    except ValueError:
        defects.append(f"{where}: lon, lat: {row['lon'][:20]!r}, {row['lat'][:20]!r} are no point")
        return None, None
    crs = row["crs"].upper().replace("-", "")
    if crs not in TO_CGCS2000:
        known = ", ".join(TO_CGCS2000)
        defects.append(f"{where}: crs: {row['crs'][:20]!r} is none of {known}")
        return None, None
    if not (abs(lon) <= 180 and abs(lat) < 89) or (lon, lat) == (0.0, 0.0):
        defects.append(f"{where}: lon, lat: ({lon}, {lat}) is no place of a city")
        return None, None
    x, y = TO_CGCS2000[crs](np.array([lon]), np.array([lat]))
    if not (math.isfinite(x[0]) and math.isfinite(y[0])):
        defects.append(f"{where}: lon, lat: ({lon}, {lat}) is no place in {crs}")
        return None, None
    return float(x[0]), float(y[0])


def read_pairs(path: Path, reports: Sequence[PastReport]) -> frozenset[tuple[str, str]]:
    """Pairs (earlier, later) of reports of one matter, closed transitively."""
    known = {report.id for report in reports}
    parent = {identity: identity for identity in known}

    def root(identity: str) -> str:
        while parent[identity] != identity:
            parent[identity] = identity = parent[parent[identity]]
        return identity

    for line, row in read_rows(path, ("a", "b")):
        for name in ("a", "b"):
            if row[name] not in known:
                raise QuanyuError(f"{path}:{line}: {name}: no report {row[name]!r} in the reports")
        if row["a"] == row["b"]:
            raise QuanyuError(f"{path}:{line}: b: {row['b']} is paired with itself")
        parent[root(row["a"])] = root(row["b"])
    groups: dict[str, list[str]] = defaultdict(list)
    for report in reports:
        groups[root(report.id)].append(report.id)
    pairs = frozenset(
        (one, other)
        for group in groups.values()
        for index, one in enumerate(group)
        for other in group[index + 1 :]
    )
    if not pairs:
        raise QuanyuError(f"{path}: no pairs; without any nothing can be measured")
    return pairs


def read_flags(path: Path, reports: Sequence[PastReport]) -> frozenset[str]:
    """Ids of the reports that repeat an earlier one."""
    known = {report.id for report in reports}
    flags: dict[str, str] = {}
    for line, row in read_rows(path, ("report_id", "is_duplicate")):
        identity, flag = row["report_id"], row["is_duplicate"]
        if identity not in known:
            raise QuanyuError(f"{path}:{line}: report_id: no report {identity!r} in the reports")
        if flag not in ("0", "1"):
            raise QuanyuError(f"{path}:{line}: is_duplicate: {flag[:20]!r} must be 0 or 1")
        if flags.setdefault(identity, flag) != flag:
            raise QuanyuError(f"{path}:{line}: report_id: {identity} is flagged 0 and 1")
    flagged = frozenset(identity for identity, flag in flags.items() if flag == "1")
    if not flagged:
        raise QuanyuError(f"{path}: no report is flagged 1; without any nothing can be measured")
    return flagged


# ---- deciding and measuring


def decide(policy: MergePolicy, reports: Sequence[PastReport]) -> dict[str, str]:
    """The event of each report, decided in the order of their time."""
    placer, state, seens = Placer(policy), MergeState(), []
    for number, report in enumerate(reports):
        seen = to_seen(
            {
                "report_id": report.id,
                "channel": "history",
                "native_id": report.id,
                "occurred_at": report.at,
                "received_at": report.at,
                "title": "",
                "text": report.text,
                "class_code": report.category,
                "zone": "",
                "lon": report.lon,
                "lat": report.lat,
                "district_code": "",
                "grid_code": "",
                "address": report.address,
                "reporter_hash": "",
                "forwarded_from": None,
                "media": (),
                "device": "",
                "alarm_state": "",
            },
            policy,
        )
        changes = Changes()
        placer.place(state, seen, changes)
        seens.append(seen)
        if number % 1000 == 999:
            placer.forget(state, changes)
    return {seen.id: seen.event for seen in seens}


def score(events: Mapping[str, str], reports: Sequence[PastReport], truth: Truth) -> Score:
    """Agreement over pairs, or over flagged reports: all but the first of an event."""
    counts = _counts(events, reports, truth, {report.id: 0 for report in reports})
    true = _true(truth, {report.id: 0 for report in reports})
    return Score(counts[0][0], counts[0][1], true[0])


Block = Mapping[str, int]


def _within(truth: Truth, own: Collection[str]) -> Truth:
    """What of the truth is about these reports; never empty, so that its kind stays known."""
    pairs = frozenset(t for t in truth if isinstance(t, tuple) and t[0] in own and t[1] in own)
    flags = frozenset(t for t in truth if isinstance(t, str) and t in own)
    if _pairwise(truth):
        return pairs or frozenset({("", "")})
    return flags or frozenset({""})


def _pairwise(truth: Truth) -> bool:
    return not truth or isinstance(next(iter(truth)), tuple)


def _counts(
    events: Mapping[str, str], reports: Sequence[PastReport], truth: Truth, block: Block
) -> dict[int, tuple[int, int]]:
    """Right and told for each block of time; a pair is of the block of its later report."""
    right: Counter[int] = Counter()
    told: Counter[int] = Counter()
    before: Counter[str] = Counter()
    pairwise = _pairwise(truth)
    for report in reports:
        event = events[report.id]
        told[block[report.id]] += before[event] if pairwise else before[event] > 0
        if not pairwise and before[event] and report.id in truth:
            right[block[report.id]] += 1
        before[event] += 1
    if pairwise:
        for pair in truth:
            assert isinstance(pair, tuple)
            one, other = pair
            if one in events and other in events and events[one] == events[other]:
                right[block[other]] += 1
    return {b: (right[b], told[b]) for b in {*right, *told, *block.values()}}


def _true(truth: Truth, block: Block) -> Counter[int]:
    true: Counter[int] = Counter()
    for entry in truth:
        if isinstance(entry, tuple):
            true[block[entry[1]]] += 1
        else:
            true[block[entry]] += 1
    return true


# ---- learning


@dataclass(frozen=True, slots=True)
class Learnt:
    """A policy and what it reached on time that it had not seen."""

    policy: MergePolicy
    blocks: list[Score]

    @property
    def cross_validated(self) -> Score:
        """All held-out blocks together."""
        return Score(
            sum(b.right for b in self.blocks),
            sum(b.told for b in self.blocks),
            sum(b.true for b in self.blocks),
        )


NEVER = Rule(mode="never")
#: For each rule: right and told.
Sums = dict[Rule, tuple[float, float]]
#: For each rule and block: right and told.
Counts = dict[Rule, dict[int, tuple[int, int]]]


def learn(history: History, truth: Truth, start: MergePolicy, progress: object = None) -> Learnt:
    """The policy that agrees best with the truth, and its cross-validation over blocks of time.

    Each class takes the rule that adds most to F1, shrunk to what holds for all classes together; where a
    class shows nothing, that is its rule. ``progress`` is called with each class that is done.
    """
    reports = history.reports
    block = {r.id: i * BLOCKS // len(reports) % FOLDS for i, r in enumerate(reports)}
    true = _true(truth, block)
    by_class: dict[str, list[PastReport]] = defaultdict(list)
    for report in reports:
        by_class[report.category].append(report)
    counts: dict[str, Counts] = {}
    span = (reports[-1].at - reports[0].at) / 3_600_000
    for name, members in sorted(by_class.items()):
        own = {r.id for r in members}
        inner = _within(truth, own)
        counts[name] = {}
        for rule in _options(members, span) if len(members) > 1 else ():
            policy = start.model_copy(update={"default": rule, "classes": {}, "alike": []})
            counts[name][rule] = _counts(decide(policy, members), members, inner, block)
        if callable(progress):
            progress(name)
    blocks = []
    for held in range(FOLDS):
        chosen, default = _choose(counts, true, [b for b in range(FOLDS) if b != held])
        right = told = 0
        for name, options in counts.items():
            got = options.get(chosen.get(name, default), {}).get(held, (0, 0))
            right, told = right + got[0], told + got[1]
        blocks.append(Score(right, told, true[held]))
    chosen, default = _choose(counts, true, list(range(FOLDS)))
    policy = start.model_copy(
        update={
            "version": "learnt-1",
            "default": default,
            "classes": {n: r for n, r in sorted(chosen.items()) if n and r != default},
        }
    )
    return Learnt(policy, blocks)


def _options(members: Sequence[PastReport], span: float) -> Iterator[Rule]:
    yield NEVER
    joins = (0.0, 0.7) if any(report.text for report in members) else (0.0,)
    hours = [h for h in HOURS if h < span] + [h for h in HOURS if h >= span][:1]
    addressed = any(report.address for report in members)
    for h, join in product(hours, joins):
        if addressed:
            yield Rule(mode="address", radius_m=5.0, hours=h, join=join, review=0.0)
        for radius in RADII:
            yield Rule(radius_m=radius, hours=h, join=join, review=0.0)


def _smooth(options: Sums) -> Sums:
    """Each rule's counts, half its own and a quarter of those of the next shorter and the next longer window.

    What holds for one window and not for those beside it is chance, of few pairs.
    """
    rows: dict[tuple[str, float, float], list[Rule]] = defaultdict(list)
    for rule in sorted(options, key=lambda rule: rule.hours):
        rows[rule.mode, rule.radius_m, rule.join].append(rule)
    smooth: Sums = {}
    for row in rows.values():
        for index, rule in enumerate(row):
            near = [rule, *row[max(index - 1, 0) : index + 2]]
            right, told = (sum(options[each][column] for each in near) for column in (0, 1))
            smooth[rule] = right / len(near), told / len(near)
    return smooth


def _choose(
    counts: Mapping[str, Counts], true: Mapping[int, int], blocks: Sequence[int]
) -> tuple[dict[str, Rule], Rule]:
    """Each class's rule and the one for all, which together reach the best F1 on ``blocks``."""
    sums: dict[str, Sums] = {
        name: {
            rule: (
                sum(got.get(b, (0, 0))[0] for b in blocks),
                sum(got.get(b, (0, 0))[1] for b in blocks),
            )
            for rule, got in options.items()
        }
        for name, options in counts.items()
    }
    alone, sums = sums, {name: _smooth(options) for name, options in sums.items()}
    pooled: dict[Rule, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for options in sums.values():
        for rule, (right, told) in options.items():
            pooled[rule][0] += right
            pooled[rule][1] += told
    whole = sum(true.get(b, 0) for b in blocks)
    default = max(
        pooled or {NEVER: [0.0, 0.0]},
        key=lambda rule: (2 * pooled[rule][0] / (pooled[rule][1] + whole or 1), -pooled[rule][1]),
    )
    # F1 is a ratio of sums: for a given F1 each class can be chosen by itself (Dinkelbach's method).
    chosen: dict[str, Rule] = {}
    f1 = 0.5
    for _ in range(30):
        right = told = 0.0
        for name, options in sums.items():
            if not options:
                continue

            def worth(rule: Rule, options: Sums = options, f1: float = f1) -> float:
                got, said = options[rule]
                rate = pooled[rule][0] / pooled[rule][1] if pooled[rule][1] else 0.0
                prior = PRIOR_PAIRS if rule.mode != "never" else 0.0
                return 2.0 * (got + prior * rate) - f1 * (said + prior)

            best = max(options, key=lambda rule: (worth(rule), -options[rule][1]))
            # What decides nothing else than the rule for all is not worth a line in the policy.
            chosen[name] = default if alone[name].get(default) == alone[name][best] else best
            right, told = right + options[best][0], told + options[best][1]
        new = 2.0 * right / (told + whole) if told + whole else 0.0
        if abs(new - f1) < 1e-9:
            break
        f1 = new
    return chosen, default
