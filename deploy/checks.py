# ruff: noqa: S608 # names of tables and columns are constants of this file; values go as parameters
"""The checks of an audit: what each promise means in records and rows, and who breaks it."""

from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from clickhouse_connect.driver.exceptions import ClickHouseError
from confluent_kafka import Message

from deploy import reconcile
from deploy.dead_letters import Origin, is_word, origin
from deploy.flows import Settled, Topology
from deploy.positions import Extent, Partition, Positions
from deploy.reconcile import Array, fingerprint, fingerprint_sql
from schemas.codec import Codec, DecodeError, default_codec
from schemas.errors import QuanyuError
from schemas.settings import Settings
from schemas.tables import connect, view_query
from schemas.topics import load_topics

#: Offenders kept of one kind; the number of all of them is exact.
KEPT = 1000
#: The raw message's id of a row of reports: several demands of one message are a report each.
MESSAGE = "if(origin = '', report_id, origin)"
#: States of an order that is in force no more: another stands for its event, or the event is in another.
ENDED = ("RETURNED", "WITHDRAWN")
#: States of an order that is over with its event.
SETTLED = ("CLOSED", "INVALID", "DIRECT_ANSWERED")
#: States of an order that is no matter, or not yet one.
NO_MATTER = ("UNKNOWN", "INVALID", "DIRECT_ANSWERED", "WITHDRAWN")
#: The last state of each order.
LAST = (
    "SELECT event_id, order_id, argMax(toString(state), version) AS last FROM orders "
    "GROUP BY event_id, order_id"
)
#: What people ask for: topic → its record, and what the outcomes call it.
ACTIONS = {
    "order.actions": ("OrderAction", "order"),
    "event.actions": ("EventAction", "event"),
    "review.answers": ("ReviewAnswer", "review"),
}
#: Longer than this no action waits for its outcome; so much earlier than Kafka drops it, it is missed no more.
PATIENCE_MS = 24 * 3600 * 1000

CHECKS = {
    "lag": "Both consumer groups have processed every record that was there when the audit began.",
    "raw_outcomes": "Every raw record has exactly one outcome, and every outcome its raw record.",
    "accepted_once": "No report id is accepted more than once.",
    "accepted_rows": "Accepted outcomes and rows of reports are the same reports, one row for each demand.",
    "report_event": "An accepted report is in exactly one event, by one link (a cleared alarm maybe in none).",
    "link_event": "Every link's event exists, and every event has a link.",
    "event_count": "An event's report count is the number of reports linked to it.",
    "event_order": "Every open event has one order in force, or one that says why it needs a person; "
    "a closed one's is over, and one that went into another has none in force.",
    "order_event": "Every order's event exists.",
    "order_transitions": "An order's steps lead each to the next and end in its state and version.",
    "action_outcomes": "Every action that was asked for has one outcome, and every outcome its action; "
    "none is done twice.",
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
class ChannelCount:
    """One channel's raw records in Kafka and its outcomes by kind."""

    channel: str
    received: int
    outcomes: dict[str, int]


@dataclass(slots=True)
class Found:
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

    def confirmed_by(self, later: "Found") -> "Found":
        """What both passes found in the same way."""
        seen = set(self.kept)
        both = [offender for offender in later.kept if offender in seen]
        whole = self.count <= len(self.kept) or later.count <= len(later.kept)
        return Found(len(both) if whole or not both else min(self.count, later.count), both)


@dataclass(frozen=True, slots=True)
class Findings:
    channels: tuple[ChannelCount, ...]
    totals: dict[str, int]
    dead_letters: dict[str, int]
    found: dict[str, Found]


#: From here on a recount goes by way of the disk.
SPILL_BYTES = 1_000_000_000


class Facts:
    """Columns of the tables, as arrays. Raises QuanyuError when ClickHouse does not answer."""

    def __init__(self, settings: Settings) -> None:
        self._url = settings.clickhouse_url
        self._client = connect(settings)
        self._client.database = settings.clickhouse_database
        # Groups of a year that do not fit into memory are summed on disk.
        self._client.set_client_setting("max_bytes_before_external_group_by", SPILL_BYTES)

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


def one_pass(
    settings: Settings,
    positions: Positions,
    facts: Facts,
    flows: Topology,
    settled: Settled,
) -> Findings:
    found = {name: Found() for name in CHECKS}
    codec = default_codec(settings)
    log = _read_log(positions, flows, settled, codec)
    channels = _raw_outcomes(facts, flows, log, found["raw_outcomes"])
    _events(facts, *_reports(facts, found), found)
    _orders(facts, found["order_transitions"])
    _actions(settings, facts, flows, log, found["action_outcomes"])
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
    return Findings(channels, _totals(facts), log.dead_letters, found)


@dataclass(slots=True)
class Asked:
    """Actions of one partition; ``own``: asked for by an order itself."""

    ids: list[int] = field(default_factory=list)
    own: list[bool] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    #: Of records that are no action.
    unreadable: list[int] = field(default_factory=list)

    def read(self, codec: Codec, record: str, messages: Sequence[Message]) -> None:
        found, _ = codec.decode_batch(record, [message.value() for message in messages])
        for message, action in zip(messages, found, strict=True):
            offset = message.offset() or 0
            if action is None:
                self.unreadable.append(offset)
                continue
            self.ids.append(fingerprint(action["action_id"]))
            self.own.append(action["role"] == "system")
            self.offsets.append(offset)


@dataclass(frozen=True, slots=True)
class Log:
    """What Kafka holds: the range read of each partition, its records, and all dead letters."""

    extents: dict[Partition, Extent]
    offsets: dict[Partition, Array]
    dead_letters: dict[str, int]
    #: Of each partition, the records that became dead letters.
    origins: dict[Partition, list[Origin]]
    asked: dict[Partition, Asked]


def _read_log(positions: Positions, flows: Topology, settled: Settled, codec: Codec) -> Log:
    first = {*flows.channels.values(), *ACTIONS}
    extents = {
        p: (settled.through if p[0] in first else settled.caught_up)[p] for p in flows.partitions
    }
    # Eight bytes a record, not forty: a month of a city is tens of millions.
    offsets = {p: array("q") for p in extents}
    counts: dict[str, int] = {}
    origins: dict[Partition, list[Origin]] = {}
    asked = {p: Asked() for p in extents if p[0] in ACTIONS}
    # One reading of everything: each new assignment costs a client up to a second.
    for partition, messages in positions.records(
        {**extents, **positions.extents(flows.dead_letters)}
    ):
        if partition in offsets:
            offsets[partition].extend([m.offset() or 0 for m in messages])
            if partition in asked:
                asked[partition].read(codec, ACTIONS[partition[0]][0], messages)
            continue
        letters = [message for message in messages if not is_word(message)]
        counts[partition[0]] = counts.get(partition[0], 0) + len(letters)
        for message in letters:
            if (came := origin(message)) is not None:
                origins.setdefault((came.topic, came.partition), []).append(came)
    arrays = {p: np.array(found, dtype=np.int64) for p, found in offsets.items()}
    return Log(extents, arrays, counts, origins, asked)


def _raw_outcomes(
    facts: Facts, flows: Topology, log: Log, found: Found
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


def _reports(facts: Facts, found: dict[str, Found]) -> tuple[reconcile.Links, reconcile.Links]:
    """Accepted outcomes, rows of reports and links against each other; returns all links and those in force."""
    identity = fingerprint_sql("report_id")
    # A person may have accepted what went to review.
    accepted, parts = facts.columns(
        2,
        f"SELECT {identity}, toInt64(parts) FROM report_outcomes WHERE outcome = 'accepted' "
        f"UNION ALL SELECT {fingerprint_sql('target')}, 1 FROM action_outcomes "
        "WHERE kind = 'review' AND action = 'accept' AND outcome = 'applied'",
    )
    reports, messages = facts.columns(
        2, f"SELECT {identity}, {fingerprint_sql(MESSAGE)} FROM reports"
    )
    links = reconcile.Links(
        *facts.columns(
            4,
            f"SELECT {fingerprint_sql('link_id')}, {identity}, {fingerprint_sql('event_id')}, "
            "toInt64(sign) FROM event_links",
        )
    )

    def offenders(check: str, what: str, ids: Array, table: str) -> None:
        _add_ids(found[check], facts, what, ids, (table, "report_id"))

    twice = "accepted more than once"
    offenders("accepted_once", twice, reconcile.repeated(accepted), "report_outcomes")
    accepted, first = np.unique(accepted, return_index=True)
    rows = reconcile.compare(accepted, messages)
    offenders("accepted_rows", "accepted, but not in reports", rows.missing, "report_outcomes")
    message = "reports", MESSAGE
    _add_ids(found["accepted_rows"], facts, "in reports, but not accepted", rows.extra, message)
    offenders("accepted_rows", "several rows in reports", reconcile.repeated(reports), "reports")
    there = ~np.isin(accepted, rows.missing)
    _, once = np.unique(reports, return_index=True)
    wrong = reconcile.compare_counts(accepted[there], parts[first][there], messages[once])
    _add_ids(
        found["accepted_rows"],
        facts,
        "reports of one message, and its outcome's parts",
        wrong.ids,
        message,
        (wrong.expected, wrong.actual),
    )
    held, uneven = reconcile.links_in_force(links)
    linked = reconcile.compare(np.unique(reports), held.report)
    # That an alarm is over belongs to the alarm's event; one that nobody knows of has none.
    (ended,) = facts.columns(1, f"SELECT {identity} FROM reports WHERE alarm_state = 'cleared'")
    missing = np.setdiff1d(linked.missing, ended)
    offenders("report_event", "accepted report in no event", missing, "reports")
    offenders("report_event", "linked, but not accepted", linked.extra, "event_links")
    offenders("report_event", "report in several events", linked.repeated, "event_links")
    _add_ids(
        found["report_event"],
        facts,
        "link told twice, or taken back and never told",
        uneven,
        ("event_links", "link_id"),
    )
    return links, held


def _events(
    facts: Facts, links: reconcile.Links, held: reconcile.Links, found: dict[str, Found]
) -> None:
    """What events claim, against links and orders."""
    event = fingerprint_sql("event_id")
    events, counts, is_open, apart = facts.columns(
        4,
        f"SELECT {event} AS id, toInt64(argMax(report_count, version)), "
        "toInt64(argMax(status, version) = 'open'), "
        "toInt64(argMax(merged_into IS NULL AND report_count > 0, version)) "
        "FROM events GROUP BY id",
    )
    order = np.argsort(events)
    events, counts, is_open, apart = events[order], counts[order], is_open[order], apart[order]
    (ordered,) = facts.columns(1, f"SELECT DISTINCT {event} FROM orders")

    def offenders(check: str, what: str, ids: Array, table: str) -> None:
        _add_ids(found[check], facts, what, ids, (table, "event_id"))

    unknown = reconcile.absent(links.event, events)
    offenders("link_event", "link to an event that does not exist", unknown, "event_links")
    bare = reconcile.absent(events, links.event)
    offenders("link_event", "event without a link", bare, "events")
    orphans = reconcile.absent(ordered, events)
    offenders("order_event", "order of an event that does not exist", orphans, "orders")
    wrong = reconcile.compare_counts(events, counts, held.event)
    _add_ids(
        found["event_count"],
        facts,
        "reports linked, and the event's report_count",
        wrong.ids,
        ("events", "event_id"),
        (wrong.expected, wrong.actual),
    )
    _in_force(facts, events, is_open == 1, apart == 1, found["event_order"])


def _in_force(
    facts: Facts, events: Array, is_open: reconcile.Mask, apart: reconcile.Mask, found: Found
) -> None:
    """Events against the orders that stand for them; ``apart``: with reports of their own."""
    event = fingerprint_sql("event_id")
    ordered, standing, going = facts.columns(
        3,
        f"SELECT {event} AS id, toInt64(countIf(last NOT IN {ENDED})), "
        f"toInt64(countIf(last NOT IN {(*ENDED, *SETTLED)})) FROM ({LAST}) GROUP BY id",
    )
    # An event that merge has forgotten, or never knew, cannot be closed nor opened again: it says so.
    (forgotten,) = facts.columns(
        1,
        f"SELECT {fingerprint_sql('target')} FROM action_outcomes WHERE kind = 'event' "
        "AND action IN ('close', 'reopen') AND role = 'system' AND reason = 'unknown_event'",
    )
    in_force = reconcile.newest_versions(ordered, standing, events)
    runs = reconcile.newest_versions(ordered, going, events) > 0
    told = ~np.isin(events, forgotten)
    for what, expected, wrong in (
        ("open event without an order in force", "one in force", is_open & (in_force < 1)),
        ("orders in force", "one in force", in_force > 1),
        (
            "open event whose order is over",
            "one that is not over",
            is_open & (in_force == 1) & ~runs & told,
        ),
        ("closed event whose order is not over", "over", ~is_open & apart & runs & told),
        # What went into another event is handled there; an order here would be a second one.
        (
            "order in force of an event that went into another or has no report left",
            "withdrawn",
            ~apart & runs & told,
        ),
    ):
        ids = events[wrong]
        if not ids.size:
            continue
        states = dict(
            facts.rows(
                f"SELECT {event} AS id, arrayStringConcat(arraySort(groupArray(last)), ' ') "
                f"FROM ({LAST}) WHERE id IN {{ids:Array(UInt64)}} GROUP BY id",
                ids=ids[:KEPT].tolist(),
            )
        )
        actual = np.array([states.get(i, "none") for i in ids[:KEPT].tolist()])
        values = np.full(ids.size, expected), actual
        _add_ids(found, facts, what, ids, ("events", "event_id"), values)
    silent = facts.rows(
        f"SELECT event_id FROM ({LAST}) WHERE last = 'NEEDS_REVIEW' AND order_id NOT IN ("
        "SELECT order_id FROM order_transitions WHERE to_state = 'NEEDS_REVIEW' "
        "GROUP BY order_id HAVING argMax(reason, version) != '') ORDER BY event_id"
    )
    found.add(
        len(silent), (Offender("needs a person, but no reason is stated", id=i) for (i,) in silent)
    )
    # What has a unit waits only because its event may be known: an answer, or danger, sends it out.
    idle = facts.rows(
        "SELECT event_id FROM (SELECT event_id, order_id FROM orders GROUP BY event_id, order_id "
        "HAVING argMax(state, version) = 'NEEDS_REVIEW' AND any(unit_code) != '') WHERE event_id NOT IN ("
        "SELECT event_id FROM events GROUP BY event_id "
        "HAVING (argMax(tuple(isNotNull(candidate), urgent), version) AS last).1 AND NOT last.2) "
        "ORDER BY event_id"
    )
    found.add(
        len(idle),
        (Offender("waits for an answer, but its event is no other known", id=i) for (i,) in idle),
    )


def _orders(facts: Facts, found: Found) -> None:
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


def _actions(settings: Settings, facts: Facts, flows: Topology, log: Log, found: Found) -> None:
    """What people asked for against what became of it, kind by kind."""
    kept = {
        spec.name: int(spec.config["retention.ms"])
        for spec in load_topics(settings)
        if spec.name in ACTIONS
    }
    for topic, (_, kind) in ACTIONS.items():
        outcomes, applied, is_late = facts.columns(
            3,
            f"SELECT {fingerprint_sql('action_id')}, toInt64(outcome = 'applied'), "
            "toInt64(decided_at > now64(3) - toIntervalMillisecond({late:Int64})) "
            "FROM action_outcomes WHERE kind = {kind:String}",
            kind=kind,
            late=kept[topic] - PATIENCE_MS,
        )
        asked: list[Array] = []
        owned: list[Array] = []
        for partition in flows.of(topic):
            mine = log.asked[partition]
            ids, own = np.array(mine.ids, dtype=np.uint64), np.array(mine.own, dtype=np.bool_)
            # Of an order's own end its steps tell; merge answers only when it cannot be.
            awaited = ~own if kind == "event" else np.full(ids.size, True)
            lost = np.array(mine.offsets, dtype=np.int64)[awaited & ~np.isin(ids, outcomes)]
            found.add_offsets("action without an outcome", partition, lost)
            letters = np.array([o.offset for o in log.origins.get(partition, ())], dtype=np.int64)
            unread = reconcile.absent(np.array(mine.unreadable, dtype=np.int64), letters)
            found.add_offsets("no action, yet no dead letter", partition, unread)
            asked.append(ids[awaited])
            owned.append(ids[~awaited])
        whole = np.concatenate(asked)
        names, counts = np.unique(whole, return_counts=True)
        wrong = reconcile.compare_counts(names, counts, outcomes)
        told = wrong.expected > 0
        for what, ids, values in (
            (
                "records of an action, and its outcomes",
                wrong.ids[told],
                (wrong.actual[told], wrong.expected[told]),
            ),
            (
                "outcome without its action",
                reconcile.absent(outcomes[is_late == 1], np.concatenate([whole, *owned])),
                None,
            ),
            # To keep two events apart twice is to keep them apart.
            (
                "action done more than once",
                reconcile.repeated(outcomes[applied == 1]) if kind != "event" else names[:0],
                None,
            ),
        ):
            _add_ids(found, facts, what, ids, ("action_outcomes", "action_id"), values)


#: Tables that keep the newest version of an id, and that id: an older version's row may be gone.
VERSIONED = {"events": "event_id", "orders": "order_id"}


def _topic_rows(
    facts: Facts,
    log: Log,
    filled: tuple[str, str],
    partitions: Sequence[Partition],
    found: Found,
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
    facts: Facts,
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
class Counter:
    """A counter table, the facts that feed it, and its groups as expressions over these facts."""

    table: str
    base: str
    groups: dict[str, str]
    #: What a fact counts.
    weight: str = "1"
    #: How a fact counts more than once.
    sides: str = ""
    #: What is read instead of the facts themselves: a query over them, made when it is asked.
    rows: Callable[[], str] | None = None


def _scored() -> str:
    """What each order's newest step alone scores: the view's query, with that step as if it were the first.

    It goes by nothing that steps say they replaced. Of visits old steps tell by their own instant.
    """
    newest = """(
        SELECT order_transitions.* REPLACE (toInt64(1) AS version, ifNull(visited_at, last_visit) AS visited_at)
        FROM order_transitions ANY LEFT JOIN
        (
            SELECT order_id, max(version) AS newest, maxOrNullIf(at, action = 'visit') AS last_visit
            FROM order_transitions GROUP BY order_id
        ) AS lives USING (order_id)
        WHERE order_transitions.version = newest
    ) AS order_transitions"""
    return view_query("order_scores_view").replace("{local:order_transitions}", newest)


#: A step adds what holds after it and takes back what held before.
_BOTH = "ARRAY JOIN [0, 1] AS back"
_SAME = {name: name for name in ("class_code", "district_code")}
COUNTERS = (
    Counter(
        "outcome_counts",
        "report_outcomes",
        {
            "minute": "toStartOfMinute(received_at)",
            **{name: name for name in ("channel", "outcome", "reason")},
            **_SAME,
        },
    ),
    Counter(
        "link_counts",
        "event_links",
        {
            "minute": "toStartOfMinute(received_at)",
            **{name: name for name in ("channel", "relation")},
            **_SAME,
        },
        "sign",
    ),
    Counter(
        "transition_counts",
        "order_transitions",
        {
            "minute": "toStartOfMinute(at)",
            **{name: name for name in ("to_state", "from_state", "unit_code")},
            **_SAME,
        },
    ),
    Counter(
        "orders_in_hand",
        "order_transitions",
        {"opened_at": "opened_at", "order_id": "order_id", "of_version": "version - back"},
        f"if(back, -1, 1) * (if(back, from_state, to_state) NOT IN {('UNKNOWN', *SETTLED, *ENDED)})",
        _BOTH,
    ),
    Counter(
        "matters",
        "order_transitions",
        {"opened_at": "opened_at", "order_id": "order_id"},
        f"(sequence <= 1) * if(back, -1, 1) * (if(back, from_state, to_state) NOT IN {NO_MATTER})",
        _BOTH,
    ),
    Counter(
        "order_scores",
        "order_transitions",
        {name: name for name in ("kpi", "falls_at", "order_id", "reason", "ms")}
        | {"hit": "toBool(hit)"},
        "n",
        rows=_scored,
    ),
)


def _counters(facts: Facts, found: Found) -> None:
    for counter in COUNTERS:
        columns = ", ".join(f"toString({c}) AS g_{c}" for c in counter.groups)
        recount = ", ".join(f"toString({e}) AS g_{c}" for c, e in counter.groups.items())
        names = ", ".join(f"g_{c}" for c in counter.groups)
        facts_of = f"({counter.rows()})" if counter.rows else counter.base
        wrong = facts.rows(
            f"SELECT {names}, sum(fact), sum(counted), count() OVER () FROM ("
            f"SELECT {columns}, toInt64(0) AS fact, toInt64(n) AS counted FROM {counter.table} "
            f"UNION ALL SELECT {recount}, toInt64({counter.weight}), toInt64(0) "
            f"FROM {facts_of} {counter.sides}) "
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
    facts: Facts,
    flows: Topology,
    origins: Mapping[Partition, Sequence[Origin]],
    found: Found,
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


def _totals(facts: Facts) -> dict[str, int]:
    ((outcomes, reports, events, orders),) = facts.rows(
        "SELECT (SELECT count() FROM report_outcomes), (SELECT count() FROM reports), "
        "(SELECT uniqExact(event_id) FROM events), (SELECT uniqExact(order_id) FROM orders)"
    )
    return {"outcomes": outcomes, "reports": reports, "events": events, "orders": orders}


def _add_ids(
    found: Found,
    facts: Facts,
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
