# ruff: noqa: S608 # names of tables and columns are constants of this file; values go as parameters
"""The reconciliation 对账: nothing is lost, nothing is counted twice, and every total adds up.

:func:`audit` reads the position of every committed record in Kafka and the rows in ClickHouse, and
holds them against each other in :mod:`deploy.reconcile`. It takes part in no consumer group and
changes nothing.

A pipeline at rest is a snapshot, and one pass over it is exact. Under traffic the parts are read at
slightly different instants; then the audit repeats its pass and counts only what every pass found,
each pass after everything that the one before it saw had time to travel through the whole pipeline.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from clickhouse_connect.driver.exceptions import ClickHouseError

from deploy import reconcile
from deploy.dead_letters import Origin, origin
from deploy.positions import Extent, Lag, Partition, Positions
from deploy.reconcile import Array, fingerprint, fingerprint_sql
from schemas.channels import channel_names
from schemas.codec import Codec, DecodeError, default_codec
from schemas.errors import QuanyuError
from schemas.settings import Settings
from schemas.tables import connect
from schemas.topics import dlq_topic, load_topics, raw_topic, table_topics

STREAMS_GROUP = "quanyu-streams"
SINK_GROUP = "quanyu-sink"
#: raw → reports → events → orders → tables: so many times everything must have been caught up with
#: before what stood in the first topic at the beginning is certain to be in the last table.
DEPTH = 4
#: Passes under traffic; what every one of them finds in the same way is wrong.
PASSES = 3
#: Offenders kept of one kind; the number of all of them is exact.
KEPT = 1000
SHOWN = 20
POLL_SECONDS = 0.2
#: States of an order that is in force no more, so that another may stand in its place.
OVER = ("INVALID", "RETURNED", "WITHDRAWN")

CHECKS = {
    "lag": "Both consumer groups have processed every record that was there when the audit began.",
    "raw_outcomes": "Every raw record has exactly one outcome, and every outcome its raw record.",
    "accepted_once": "No report id is accepted more than once.",
    "accepted_rows": "Accepted outcomes and rows of reports are the same reports, one row each.",
    "report_event": "Every accepted report is in exactly one event, by one link.",
    "link_event": "Every link's event exists, and every event has a link.",
    "event_count": "An event's report count is the number of reports linked to it.",
    "event_order": "Every event has one order in force, or one that says why it needs a person.",
    "order_event": "Every order's event exists.",
    "order_transitions": "An order's steps lead each to the next and end in its state and version.",
    "topic_rows": "Every record of a topic with a table is one row of it, and every row a record.",
    "counters": "Every counter equals a recount of the facts that feed it, group by group.",
    "dead_letters": "Every record in a raw topic's dead-letter topic is a rejected raw record.",
}


@dataclass(frozen=True, slots=True)
class Offender:
    """One thing that does not add up: what, where, and the two values that differ."""

    what: str
    topic: str = ""
    partition: int | None = None
    offset: int | None = None
    id: str = ""
    expected: str = ""
    actual: str = ""


@dataclass(frozen=True, slots=True)
class Check:
    """One promise and everything that breaks it; ``first`` shows some of the offenders."""

    name: str
    meaning: str
    offenders: int
    first: tuple[Offender, ...] = ()

    @property
    def ok(self) -> bool:
        """True when nothing breaks the promise."""
        return self.offenders == 0


@dataclass(frozen=True, slots=True)
class ChannelCount:
    """One channel's raw records in Kafka and its outcomes by kind."""

    channel: str
    received: int
    outcomes: dict[str, int]


@dataclass(frozen=True, slots=True)
class AuditReport:
    """What an audit found.

    ``quiet``: nothing moved, one pass was exact. ``caught_up``: both groups had processed what was
    there; else only the lag is certain. ``note`` says so in words.
    ``seconds`` includes the wait for quiet.
    """

    quiet: bool
    caught_up: bool
    note: str
    seconds: float
    channels: tuple[ChannelCount, ...]
    totals: dict[str, int]
    dead_letters: dict[str, int]
    checks: tuple[Check, ...]

    @property
    def clean(self) -> bool:
        """True when every check holds."""
        return all(check.ok for check in self.checks)

    def as_dict(self) -> dict[str, Any]:
        """The report for JSON, with ``clean`` first."""
        plain = asdict(self)
        for check, named in zip(self.checks, plain["checks"], strict=True):
            named["ok"] = check.ok
        return {"clean": self.clean, **plain}


@dataclass(slots=True)
class _Found:
    """Offenders of one check: all of them counted, the first ones kept."""

    count: int = 0
    kept: list[Offender] = field(default_factory=list)

    def add(self, count: int, offenders: Iterable[Offender]) -> None:
        self.count += int(count)
        for offender in offenders:
            if len(self.kept) >= KEPT:
                break
            self.kept.append(offender)

    def add_offsets(self, what: str, partition: Partition, offsets: Array) -> None:
        topic, number = partition
        self.add(offsets.size, (Offender(what, topic, number, int(o)) for o in offsets[:KEPT]))

    def confirmed_by(self, later: "_Found") -> "_Found":
        """What both passes found in the same way."""
        seen = set(self.kept)
        both = [offender for offender in later.kept if offender in seen]
        whole = self.count <= len(self.kept) or later.count <= len(later.kept)
        return _Found(len(both) if whole or not both else min(self.count, later.count), both)


@dataclass(frozen=True, slots=True)
class _Settled:
    """How the wait ended: the extents that everything was caught up with, and what was not."""

    quiet: bool
    travelled: bool
    lag: dict[str, dict[Partition, Lag]]
    #: Extents that had travelled through the whole pipeline, and the latest ones caught up with.
    through: dict[Partition, Extent]
    caught_up: dict[Partition, Extent]


@dataclass(frozen=True, slots=True)
class _Pass:
    channels: tuple[ChannelCount, ...]
    totals: dict[str, int]
    dead_letters: dict[str, int]
    found: dict[str, _Found]


class _Facts:
    """Columns of the tables, as arrays. Raises QuanyuError when ClickHouse does not answer."""

    def __init__(self, settings: Settings) -> None:
        self._url = settings.clickhouse_url
        self._client = connect(settings)
        self._client.database = settings.clickhouse_database

    def close(self) -> None:
        self._client.close()

    def columns(self, count: int, sql: str, **parameters: Any) -> list[Array]:
        """The result's columns, one array each; numbers only."""
        try:
            table = self._client.query_np(sql, parameters=parameters)
        except (ClickHouseError, OSError) as error:
            raise self._unreachable(error) from None
        if not table.size:
            return [np.empty(0, dtype=np.int64)] * count
        columns = [table[name] for name in table.dtype.names] if table.dtype.names else table.T
        return [np.ascontiguousarray(column) for column in columns]

    def rows(self, sql: str, **parameters: Any) -> list[tuple[Any, ...]]:
        """The result as rows, for small ones."""
        try:
            return [
                tuple(row) for row in self._client.query(sql, parameters=parameters).result_rows
            ]
        except (ClickHouseError, OSError) as error:
            raise self._unreachable(error) from None

    def _unreachable(self, error: Exception) -> QuanyuError:
        reason = str(error).strip().splitlines()[0][:300]
        return QuanyuError(
            f"ClickHouse at {self._url}: {reason}; is it running (quanyu status), "
            "and are its tables there (quanyu tables apply)?"
        )


@dataclass(frozen=True, slots=True)
class Topology:
    """Which partitions each group reads, and which topic fills which table."""

    channels: dict[str, str]
    tables: dict[str, str]
    reads: dict[str, list[Partition]]
    dead_letters: list[Partition]
    partitions: list[Partition]

    def of(self, topic: str) -> list[Partition]:
        return [p for p in self.partitions if p[0] == topic]


def topology(settings: Settings, positions: Positions) -> Topology:
    """The flows of this installation. Raises QuanyuError when a topic is missing."""
    channels = {name: raw_topic(name) for name in channel_names()}
    tables = dict(table_topics())
    specs = load_topics(settings)
    inputs = [spec.name for spec in specs if spec.stateful and not spec.name.endswith(".state")]
    letters = positions.partitions(dlq_topic(t) for t in [*channels.values(), *tables])
    streams, sink = positions.partitions(inputs), positions.partitions(tables)
    missing = {*inputs, *tables} - {topic for topic, _ in streams + sink}
    if missing:
        raise QuanyuError(f"topics missing in Kafka: {sorted(missing)}; run quanyu topics apply")
    reads = {STREAMS_GROUP: streams, SINK_GROUP: sink}
    return Topology(channels, tables, reads, letters, sorted({*streams, *sink}))


def _settle(
    positions: Positions, flows: Topology, deadline: float, *, until_quiet: bool
) -> _Settled:
    """Wait until nothing moves, or (under traffic) until the first extents travelled through."""
    history = [positions.extents(flows.partitions)]
    while True:
        lag = _lag(positions, flows, history[-1])
        while any(lag.values()) and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
            lag = _lag(positions, flows, history[-1])
        travelled = len(history) > DEPTH
        through = history[-DEPTH - 1] if travelled else history[0]
        if any(lag.values()):
            return _Settled(False, travelled, lag, through, history[-1])
        now = positions.extents(flows.partitions)
        if now == history[-1]:
            return _Settled(True, True, lag, now, now)
        if travelled and (not until_quiet or time.monotonic() >= deadline):
            return _Settled(False, True, lag, through, history[-1])
        history.append(now)


def _lag(
    positions: Positions, flows: Topology, extents: Mapping[Partition, Extent]
) -> dict[str, dict[Partition, Lag]]:
    return {
        group: {
            partition: lag
            for partition, lag in positions.lag(group, partitions, extents).items()
            if lag.records
        }
        for group, partitions in flows.reads.items()
    }


def audit(
    settings: Settings,
    *,
    timeout: float = 120.0,
    until_quiet: bool = True,
    progress: Callable[[str], None] = lambda _: None,
) -> AuditReport:
    """Hold everything against everything; see :data:`CHECKS` for what.

    Waits at most ``timeout`` seconds for the pipeline to be at rest; with ``until_quiet`` false
    only until what was there at the beginning has travelled through. Raises QuanyuError when Kafka
    or ClickHouse does not answer or their topics or tables are missing.
    """
    begun = time.monotonic()
    facts = _Facts(settings)
    try:
        with Positions(settings) as positions:
            flows = topology(settings, positions)
            progress("waiting until the pipeline is at rest")
            settled = _settle(positions, flows, begun + timeout, until_quiet=until_quiet)
            progress("reading Kafka and ClickHouse")
            last = _one_pass(settings, positions, facts, flows, settled)
            found = last.found
            quiet = settled.quiet and positions.extents(flows.partitions) == settled.caught_up
            for _ in range(PASSES - 1):
                if quiet or any(settled.lag.values()) or not any(f.count for f in found.values()):
                    break
                progress("reading again, because records arrive meanwhile")
                settled = _settle(positions, flows, time.monotonic() + timeout, until_quiet=False)
                last = _one_pass(settings, positions, facts, flows, settled)
                found = {name: found[name].confirmed_by(last.found[name]) for name in found}
    finally:
        facts.close()
    found["lag"] = _lag_found(settled)
    return AuditReport(
        quiet=quiet,
        caught_up=not any(settled.lag.values()),
        note=_note(quiet, settled, timeout),
        seconds=round(time.monotonic() - begun, 3),
        channels=last.channels,
        totals=last.totals,
        dead_letters=last.dead_letters,
        checks=tuple(
            Check(name, meaning, found[name].count, tuple(found[name].kept[:SHOWN]))
            for name, meaning in CHECKS.items()
        ),
    )


def _note(quiet: bool, settled: _Settled, timeout: float) -> str:
    if quiet:
        return ""
    if any(settled.lag.values()):
        return f"not caught up within {timeout:.0f} s: counts below are of an unfinished pipeline"
    return "records arrived meanwhile: only what was wrong in every pass is counted"


def _lag_found(settled: _Settled) -> _Found:
    found = _Found()
    for group, lags in settled.lag.items():
        for (topic, partition), lag in lags.items():
            found.add(
                1,
                [Offender(f"{group} is behind", topic, partition, None, "", "0", str(lag.records))],
            )
    return found


def _one_pass(
    settings: Settings,
    positions: Positions,
    facts: _Facts,
    flows: Topology,
    settled: _Settled,
) -> _Pass:
    found = {name: _Found() for name in CHECKS}
    log = _read_log(positions, flows, settled)
    channels = _raw_outcomes(facts, flows, log, found["raw_outcomes"])
    _events(facts, _reports(facts, found), found)
    _orders(facts, found["order_transitions"])
    codec = default_codec(settings)
    for topic, table in flows.tables.items():
        absent = _topic_rows(facts, log, (topic, table), flows.of(topic), found["topic_rows"])
        if table in VERSIONED:
            absent = _not_superseded(positions, facts, codec, table, absent)
        for partition, missing in absent.items():
            found["topic_rows"].add_offsets(f"record not in {table}", partition, missing)
    _counters(facts, found["counters"])
    _rejected(facts, flows, log.origins, found["dead_letters"])
    for check in found.values():
        check.kept.sort(key=lambda o: (o.topic, o.partition or 0, o.offset or 0, o.what, o.id))
    return _Pass(channels, _totals(facts), log.dead_letters, found)


@dataclass(frozen=True, slots=True)
class _Log:
    """What Kafka holds: the range read of each partition, its records, and all dead letters."""

    extents: dict[Partition, Extent]
    offsets: dict[Partition, Array]
    dead_letters: dict[str, int]
    #: Of each partition, the records that became dead letters.
    origins: dict[Partition, list[Origin]]


def _read_log(positions: Positions, flows: Topology, settled: _Settled) -> _Log:
    raw = set(flows.channels.values())
    extents = {
        p: (settled.through if p[0] in raw else settled.caught_up)[p] for p in flows.partitions
    }
    offsets: dict[Partition, list[int]] = {p: [] for p in extents}
    counts: dict[str, int] = {}
    origins: dict[Partition, list[Origin]] = {}
    # One reading of everything: each new assignment costs a client up to a second.
    for partition, messages in positions.records(
        {**extents, **positions.extents(flows.dead_letters)}
    ):
        if partition in offsets:
            offsets[partition].extend([m.offset() or 0 for m in messages])
            continue
        counts[partition[0]] = counts.get(partition[0], 0) + len(messages)
        for message in messages:
            if (came := origin(message)) is not None:
                origins.setdefault((came.topic, came.partition), []).append(came)
    arrays = {p: np.array(found, dtype=np.int64) for p, found in offsets.items()}
    return _Log(extents, arrays, counts, origins)


def _raw_outcomes(
    facts: _Facts, flows: Topology, log: _Log, found: _Found
) -> tuple[ChannelCount, ...]:
    """Raw records against the outcomes that name them, partition by partition."""
    counts = facts.rows(
        "SELECT channel, toString(outcome), count() FROM report_outcomes "
        "GROUP BY 1, 2 ORDER BY 1, 2"
    )
    result = []
    for channel, topic in flows.channels.items():
        partition_of, offset_of = facts.columns(
            2,
            "SELECT source_partition, source_offset FROM report_outcomes "
            "WHERE source_topic = {topic:String}",
            topic=topic,
        )
        received = 0
        for partition in flows.of(topic):
            extent = log.extents[partition]
            mine = offset_of[partition_of == partition[1]]
            mine = mine[(mine >= extent.first) & (mine < extent.end)]
            difference = reconcile.compare(log.offsets[partition], mine)
            found.add_offsets("raw record without an outcome", partition, difference.missing)
            found.add_offsets("outcome without a raw record", partition, difference.extra)
            found.add_offsets("raw record with several outcomes", partition, difference.repeated)
            received += log.offsets[partition].size
        result.append(ChannelCount(channel, received, {o: n for c, o, n in counts if c == channel}))
    return tuple(result)


def _reports(facts: _Facts, found: dict[str, _Found]) -> reconcile.Links:
    """Accepted outcomes, rows of reports and links against each other; returns the links."""
    identity = fingerprint_sql("report_id")
    (accepted,) = facts.columns(
        1, f"SELECT {identity} FROM report_outcomes WHERE outcome = 'accepted'"
    )
    (reports,) = facts.columns(1, f"SELECT {identity} FROM reports")
    links = reconcile.Links(
        *facts.columns(
            4,
            f"SELECT {identity}, {fingerprint_sql('event_id')}, relation = 'split', "
            "toUnixTimestamp64Milli(decided_at) FROM event_links",
        )
    )

    def offenders(check: str, what: str, ids: Array, table: str) -> None:
        _add_ids(found[check], facts, what, ids, (table, "report_id"))

    twice = "accepted more than once"
    offenders("accepted_once", twice, reconcile.repeated(accepted), "report_outcomes")
    rows = reconcile.compare(np.unique(accepted), reports)
    offenders("accepted_rows", "accepted, but not in reports", rows.missing, "report_outcomes")
    offenders("accepted_rows", "in reports, but not accepted", rows.extra, "reports")
    offenders("accepted_rows", "several rows in reports", rows.repeated, "reports")
    linked = reconcile.compare(np.unique(reports), links.report[links.split == 0])
    offenders("report_event", "accepted report in no event", linked.missing, "reports")
    offenders("report_event", "linked, but not accepted", linked.extra, "event_links")
    offenders("report_event", "report in several events", linked.repeated, "event_links")
    return links


def _events(facts: _Facts, links: reconcile.Links, found: dict[str, _Found]) -> None:
    """What events claim, against links and orders."""
    event = fingerprint_sql("event_id")
    events, counts = facts.columns(
        2, f"SELECT {event} AS id, toInt64(argMax(report_count, version)) FROM events GROUP BY id"
    )
    order = np.argsort(events)
    events, counts = events[order], counts[order]
    (ordered,) = facts.columns(1, f"SELECT DISTINCT {event} FROM orders")

    def offenders(check: str, what: str, ids: Array, table: str) -> None:
        _add_ids(found[check], facts, what, ids, (table, "event_id"))

    unknown = reconcile.absent(links.event, events)
    offenders("link_event", "link to an event that does not exist", unknown, "event_links")
    bare = reconcile.absent(events, links.event)
    offenders("link_event", "event without a link", bare, "events")
    without = reconcile.absent(events, ordered)
    offenders("event_order", "event without an order", without, "events")
    orphans = reconcile.absent(ordered, events)
    offenders("order_event", "order of an event that does not exist", orphans, "orders")
    wrong = reconcile.compare_counts(events, counts, reconcile.current_links(links).event)
    _add_ids(
        found["event_count"],
        facts,
        "reports linked, and the event's report_count",
        wrong.ids,
        ("events", "event_id"),
        (wrong.expected, wrong.actual),
    )
    several = facts.rows(
        "SELECT event_id, toString(count()) FROM ("
        "SELECT event_id, order_id, argMax(state, version) AS last FROM orders "
        "GROUP BY event_id, order_id) "
        f"WHERE last NOT IN {OVER} GROUP BY event_id HAVING count() > 1 ORDER BY event_id"
    )
    found["event_order"].add(
        len(several), (Offender("orders in force", "", None, None, i, "1", n) for i, n in several)
    )
    silent = facts.rows(
        "SELECT event_id FROM orders GROUP BY event_id, order_id "
        "HAVING argMax(state, version) = 'NEEDS_REVIEW' AND order_id NOT IN ("
        "SELECT order_id FROM order_transitions WHERE to_state = 'NEEDS_REVIEW' AND reason != '') "
        "ORDER BY event_id"
    )
    found["event_order"].add(
        len(silent), (Offender("needs a person, but no reason is stated", id=i) for (i,) in silent)
    )


def _orders(facts: _Facts, found: _Found) -> None:
    """Orders against their steps."""
    order = fingerprint_sql("order_id")
    state = "sipHash64(toString({}))".format
    ids, versions, states = facts.columns(
        3,
        f"SELECT {order} AS id, max(version), {state('argMax(state, version)')} "
        "FROM orders GROUP BY id ORDER BY id",
    )
    steps = reconcile.Transitions(
        *facts.columns(
            4,
            f"SELECT {order}, version, {state('from_state')}, {state('to_state')} "
            "FROM order_transitions",
        )
    )
    ((initial,),) = facts.rows(f"SELECT {state(repr('UNKNOWN'))}")
    last = reconcile.last_steps(steps)
    known = reconcile.compare(ids, last.order)
    both = np.intersect1d(ids, last.order)
    mine, theirs = np.searchsorted(ids, both), np.searchsorted(last.order, both)
    apart = both[(versions[mine] != last.version[theirs]) | (states[mine] != last.to_state[theirs])]
    chains = reconcile.broken_chains(steps, initial)
    for what, offenders, table in (
        ("order without a transition", known.missing, "orders"),
        ("transition of an order that does not exist", known.extra, "order_transitions"),
        ("the order is not where its last transition leads", apart, "orders"),
        ("a transition is missing, repeated or out of order", chains, "order_transitions"),
    ):
        _add_ids(found, facts, what, offenders, (table, "order_id"))


#: Tables that keep the newest version of an id, and that id: an older version's row may be gone.
VERSIONED = {"events": "event_id", "orders": "order_id"}


def _topic_rows(
    facts: _Facts,
    log: _Log,
    filled: tuple[str, str],
    partitions: Sequence[Partition],
    found: _Found,
) -> dict[Partition, Array]:
    """A topic's records against its table's rows; returns the offsets that have no row."""
    topic, table = filled
    partition_of, offset_of = facts.columns(
        2,
        f"SELECT _partition, _offset FROM {table} WHERE _topic = {{topic:String}}",
        topic=topic,
    )
    absent: dict[Partition, Array] = {}
    for partition in partitions:
        extent = log.extents[partition]
        rows = offset_of[partition_of == partition[1]].astype(np.int64)
        rows = rows[(rows >= extent.first) & (rows < extent.end)]
        difference = reconcile.compare(log.offsets[partition], rows)
        found.add_offsets(f"row of {table} without a record", partition, difference.extra)
        found.add_offsets(f"record twice in {table}", partition, difference.repeated)
        refused = [came.offset for came in log.origins.get(partition, ()) if came.by_sink]
        absent[partition] = reconcile.absent(difference.missing, np.array(refused, dtype=np.int64))
    return absent


def _not_superseded(
    positions: Positions,
    facts: _Facts,
    codec: Codec,
    table: str,
    absent: dict[Partition, Array],
) -> dict[Partition, Array]:
    """Those of the absent records of which no newer version is in the table."""
    id_column = VERSIONED[table]
    sought = {p: offsets for p, offsets in absent.items() if offsets.size}
    if not sought:
        return absent
    known, versions = facts.columns(
        2, f"SELECT {fingerprint_sql(id_column)} AS id, max(version) FROM {table} GROUP BY id"
    )
    left: dict[Partition, list[int]] = {p: [] for p in absent}
    extents = {p: Extent(int(o[0]), int(o[-1]) + 1) for p, o in sought.items()}
    for partition, messages in positions.records(extents):
        at = np.array([m.offset() for m in messages], dtype=np.int64)
        chosen = np.flatnonzero(np.isin(at, sought[partition]))
        ids, claimed = [], []
        for index in chosen:
            try:
                _, record = codec.decode(messages[index].value())
            except DecodeError:
                record = {}
            ids.append(fingerprint(str(record.get(id_column, ""))))
            claimed.append(int(record.get("version", 0)))
        newest = reconcile.newest_versions(known, versions, np.array(ids, dtype=np.uint64))
        lost = newest < np.array(claimed, dtype=np.int64)
        left[partition].extend(at[chosen][lost].tolist())
    return {p: np.array(offsets, dtype=np.int64) for p, offsets in left.items()}


@dataclass(frozen=True, slots=True)
class _Counter:
    """A counter table, the facts that feed it, and its groups as expressions over these facts."""

    table: str
    base: str
    groups: dict[str, str]


_SAME = {name: name for name in ("class_code", "district_code")}
COUNTERS = (
    _Counter(
        "outcome_counts",
        "report_outcomes",
        {
            "minute": "toStartOfMinute(received_at)",
            **{name: name for name in ("channel", "outcome", "reason")},
            **_SAME,
        },
    ),
    _Counter(
        "link_counts",
        "event_links",
        {
            "minute": "toStartOfMinute(received_at)",
            **{name: name for name in ("channel", "relation")},
            **_SAME,
        },
    ),
    _Counter(
        "transition_counts",
        "order_transitions",
        {
            "minute": "toStartOfMinute(at)",
            **{name: name for name in ("to_state", "from_state", "unit_code")},
            **_SAME,
        },
    ),
)


def _counters(facts: _Facts, found: _Found) -> None:
    for counter in COUNTERS:
        columns = ", ".join(f"toString({c}) AS g_{c}" for c in counter.groups)
        recount = ", ".join(f"toString({e}) AS g_{c}" for c, e in counter.groups.items())
        names = ", ".join(f"g_{c}" for c in counter.groups)
        wrong = facts.rows(
            f"SELECT {names}, sum(fact), sum(counted), count() OVER () FROM ("
            f"SELECT {columns}, toInt64(0) AS fact, toInt64(n) AS counted FROM {counter.table} "
            f"UNION ALL SELECT {recount}, toInt64(1), toInt64(0) FROM {counter.base}) "
            f"GROUP BY {names} HAVING sum(fact) != sum(counted) ORDER BY {names} LIMIT {KEPT}"
        )
        if wrong:
            found.add(
                wrong[0][-1],
                (
                    Offender(
                        f"group of {counter.table}",
                        id="|".join(str(value) for value in row[:-3]),
                        expected=str(row[-3]),
                        actual=str(row[-2]),
                    )
                    for row in wrong
                ),
            )


def _rejected(
    facts: _Facts,
    flows: Topology,
    origins: Mapping[Partition, Sequence[Origin]],
    found: _Found,
) -> None:
    raw = set(flows.channels.values())
    for partition, came in origins.items():
        if partition[0] not in raw:
            continue
        (rejected,) = facts.columns(
            1,
            "SELECT source_offset FROM report_outcomes WHERE source_topic = {topic:String} "
            "AND source_partition = {partition:UInt32} AND outcome = 'rejected'",
            topic=partition[0],
            partition=partition[1],
        )
        sent = np.array([o.offset for o in came], dtype=np.int64)
        found.add_offsets(
            "dead letter whose raw record is not rejected",
            partition,
            reconcile.absent(sent, rejected),
        )
        found.add_offsets("several dead letters of one record", partition, reconcile.repeated(sent))


def _totals(facts: _Facts) -> dict[str, int]:
    ((outcomes, reports, events, orders),) = facts.rows(
        "SELECT (SELECT count() FROM report_outcomes), (SELECT count() FROM reports), "
        "(SELECT uniqExact(event_id) FROM events), (SELECT uniqExact(order_id) FROM orders)"
    )
    return {"outcomes": outcomes, "reports": reports, "events": events, "orders": orders}


def _add_ids(
    found: _Found,
    facts: _Facts,
    what: str,
    ids: Array,
    column: tuple[str, str],
    values: tuple[Array, Array] | None = None,
) -> None:
    """Add offenders given as fingerprints of a table's column, with expected and actual values."""
    if not ids.size:
        return
    table, name = column
    first = ids[:KEPT].tolist()
    rows = facts.rows(
        f"SELECT DISTINCT {fingerprint_sql(name)} AS id, {name} FROM {table} "
        "WHERE id IN {ids:Array(UInt64)}",
        ids=first,
    )
    names = dict(rows)
    expected, actual = values if values is not None else (ids, ids)
    found.add(
        ids.size,
        (
            Offender(
                what,
                id=names.get(number, f"fingerprint {number}"),
                expected=str(expected[at]) if values else "",
                actual=str(actual[at]) if values else "",
            )
            for at, number in enumerate(first)
        ),
    )
