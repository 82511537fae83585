"""The audit against a real broker and a real engine: a whole world is clean, each flaw is named.

The world is written by hand, with no worker and no sink, so that every row can be spoiled alone.
"""

import itertools
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from deploy import dead_letters
from deploy.audit import AuditReport, audit
from deploy.checks import ACTIONS, CHECKS, Facts, one_pass
from deploy.flows import SINK_GROUP, STREAMS_GROUP, settle, topology
from deploy.positions import Positions
from schemas import tables, topics
from schemas.channels import channel_names
from schemas.codec import default_codec
from schemas.kafka import admin_config, consumer_config, producer_config
from schemas.settings import Settings
from schemas.topics import dlq_topic, raw_topic, table_topics
from streams.dispatch.lifecycle import OPEN, SETTLED

pytestmark = pytest.mark.integration

AT = 1_767_225_600_000
GOLDEN = Path(tables.__file__).parent / "avro/golden"
Row = dict[str, Any]


@dataclass
class World:
    """Records in Kafka, and the rows that a faultless sink would have written for them."""

    settings: Settings
    producer: Producer
    rows: list[tuple[str, Row]] = field(default_factory=list)
    channel: str = ""

    def record(
        self, topic: str, value: bytes, headers: dict[str, str | bytes | None] | None = None
    ) -> int:
        """Produce one record to partition 0 and return its offset."""
        offsets: list[int] = []
        self.producer.produce(
            topic,
            value,
            partition=0,
            headers=headers,
            on_delivery=lambda _, message: offsets.append(message.offset() or 0),
        )
        self.producer.flush()
        return offsets[0]

    def fact(self, table: str, columns: Row, value: bytes = b"x") -> None:
        """A record of the table's topic, and its row."""
        topic = next(t for t, filled in table_topics().items() if filled == table)
        offset = self.record(topic, value)
        self.rows.append((table, {**columns, "_topic": topic, "_partition": 0, "_offset": offset}))

    def letter(self, topic: str, offset: int) -> None:
        """A dead letter of a record."""
        names = {"topic": topic, "partition": "0", "offset": str(offset)}
        headers: dict[str, str | bytes | None] = {
            f"__connect.errors.{name}": value.encode() for name, value in names.items()
        }
        headers["__connect.errors.exception.class.name"] = b"bad_magic"
        self.record(dlq_topic(topic), b"\x01no avro", headers)

    def action(
        self, topic: str, identity: str, *outcomes: str, role: str = "centre", reason: str = ""
    ) -> None:
        """One record of an action for each outcome, at least one, and its row; "" is no row."""
        codec = default_codec(self.settings)
        name, kind = ACTIONS[topic]
        _, whole = codec.decode((GOLDEN / f"{name}.v1.bin").read_bytes())
        said = {"action_id": identity, "role": role, "action": "close"}
        for outcome in outcomes:
            self.record(topic, codec.encode(name, {**whole, **said}))
            if outcome:
                row = {**said, "kind": kind, "outcome": outcome, "reason": reason}
                self.fact("action_outcomes", {**row, "decided_at": round(time.time() * 1000)})

    def build(self) -> None:
        """Six raw reports in two transactions; four accepted, into three events, each ordered."""
        raw = raw_topic(self.channel)
        codec = default_codec(self.settings)
        self.producer.begin_transaction()
        source = [self.record(raw, b"payload") for _ in range(3)]
        self.producer.commit_transaction()  # its marker leaves a gap that is no loss
        self.producer.begin_transaction()
        source += [self.record(raw, b"payload") for _ in range(3)]
        self.letter(raw, source[5])
        outcomes = ["accepted"] * 4 + ["duplicate", "rejected"]
        for number, (offset, outcome) in enumerate(zip(source, outcomes, strict=True)):
            came = {
                "channel": self.channel,
                "received_at": AT + number * 30_000,
                "source_topic": raw,
                "source_partition": 0,
                "source_offset": offset,
            }
            report = f"report-{0 if outcome == 'duplicate' else number}"
            self.fact("report_outcomes", {"report_id": report, "outcome": outcome, **came})
            if outcome == "accepted":
                self.fact("reports", {"report_id": report, **came})
        for linked, event, relation in (
            (0, 0, "opened"),
            (1, 0, "co_report"),
            (2, 1, "opened"),
            (3, 2, "recurrence"),
        ):
            self.fact(
                "event_links",
                {
                    "link_id": f"link-{linked}",
                    "report_id": f"report-{linked}",
                    "event_id": f"event-{event}",
                    "relation": relation,
                    "channel": self.channel,
                    "received_at": AT,
                    "decided_at": AT,
                },
            )
        for event, version, count in ((0, 1, 1), (0, 2, 2), (1, 1, 1), (2, 1, 1)):
            columns: Row = {
                "event_id": f"event-{event}",
                "version": version,
                "status": "open",
                "report_count": count,
                "opened_at": AT,
            }
            texts = ("class_code", "district_code", "grid_code", "zone", "first_report_id")
            whole: Row = {**columns}
            whole |= dict.fromkeys(texts, "")
            whole |= dict.fromkeys(("occurred_at", "updated_at", "decided_at"), AT)
            self.fact("events", columns, codec.encode("Event", whole))
        for number, last in enumerate(("DISPATCHED", "DISPATCHED", "NEEDS_REVIEW")):
            order = {"order_id": f"order-{number}", "event_id": f"event-{number}"}
            self.fact("orders", {**order, "version": 2, "state": last, "opened_at": AT})
            for version, (source_state, target) in enumerate(
                (("UNKNOWN", "RECEIVED"), ("RECEIVED", last)), start=1
            ):
                self.fact(
                    "order_transitions",
                    {
                        **order,
                        "version": version,
                        "from_state": source_state,
                        "to_state": target,
                        "reason": "no unit is responsible" if target == "NEEDS_REVIEW" else "",
                        "at": AT,
                    },
                )
        # Asked for twice; by a person; by an order, whose end merge does or refuses; in a review; unreadable.
        self.action("order.actions", "action-1", "applied", "refused")
        self.action("event.actions", "action-2", "applied")
        self.action("event.actions", "action-3", "", role="system")
        self.action("event.actions", "action-4", "refused", role="system", reason="unknown_event")
        self.action("review.answers", "action-5", "refused")
        self.letter("order.actions", self.record("order.actions", b"x"))
        self.producer.commit_transaction()
        self.processed()

    def processed(self, behind: int = 0) -> None:
        """Both groups have processed everything but the last ``behind`` offsets."""
        with Positions(self.settings) as positions:
            flows = topology(self.settings, positions)
            ends = positions.ends(flows.partitions)
        for group in (STREAMS_GROUP, SINK_GROUP):
            consumer = Consumer(consumer_config(self.settings, group))
            consumer.commit(
                offsets=[
                    TopicPartition(t, p, max(0, ends[t, p] - behind)) for t, p in flows.reads[group]
                ],
                asynchronous=False,
            )
            consumer.close()


def purge(settings: Settings) -> None:
    """Empty every topic: the broker is shared with the tests before and after."""
    with Positions(settings) as positions:
        flows = topology(settings, positions)
        ends = positions.ends([*flows.partitions, *flows.dead_letters])
    admin = AdminClient(admin_config(settings))  # its answers end with it: keep it
    deleted = admin.delete_records(
        [TopicPartition(topic, number, end) for (topic, number), end in ends.items()]
    )
    for future in deleted.values():
        future.result(30)


@pytest.fixture(scope="module")
def world(settings: Settings) -> Iterator[World]:
    """The records, written once; every test writes the rows into a database of its own."""
    topics.apply(settings)
    purge(settings)
    producer = Producer({**producer_config(settings), "transactional.id": "audit-test"})
    producer.init_transactions()
    made = World(settings, producer, channel=channel_names()[0])
    made.build()
    yield made
    purge(settings)


@dataclass
class Database:
    """A database of its own with the world's rows."""

    settings: Settings
    client: Client
    world: World

    def fill(self, rows: list[tuple[str, Row]] | None = None) -> None:
        for table, row in self.world.rows if rows is None else rows:
            self.client.insert(
                table,
                [[self._cell(column, value) for column, value in row.items()]],
                column_names=list(row),
                settings={"insert_deduplication_token": uuid.uuid4().hex},  # repeated rows double
            )

    @staticmethod
    def _cell(column: str, value: Any) -> Any:
        instant = column == "at" or column.endswith("_at")
        return datetime.fromtimestamp(value / 1000, UTC) if instant else value

    def without(self, table: str, **where: Any) -> list[tuple[str, Row]]:
        """The world's rows but those of the table that have these values."""
        kept = [
            (name, row)
            for name, row in self.world.rows
            if name != table or any(row.get(column) != value for column, value in where.items())
        ]
        assert len(kept) < len(self.world.rows), "the test spoils nothing"
        return kept

    def audit(self) -> AuditReport:
        return audit(self.settings, timeout=20)


@pytest.fixture
def database(world: World, request: pytest.FixtureRequest) -> Iterator[Database]:
    name = f"audit_{abs(hash(request.node.name))}"
    settings = world.settings.model_copy(update={"clickhouse_database": name})
    tables.apply(settings)
    with tables.connect(settings) as client:
        client.database = name
        yield Database(settings, client, world)
        client.command(f"DROP DATABASE {name}")


def broken(report: AuditReport) -> dict[str, int]:
    """Checks that do not hold, with the number of offenders."""
    assert report.quiet, report.note
    return {check.name: check.offenders for check in report.checks if not check.ok}


def test_whole_world_is_clean_and_counted(database: Database) -> None:
    database.fill()
    report = database.audit()
    assert broken(report) == {}
    assert report.clean
    assert report.totals == {"outcomes": 6, "reports": 4, "events": 3, "orders": 3}
    counted = {c.channel: c for c in report.channels}[database.world.channel]
    assert counted.received == 6
    assert counted.outcomes == {"accepted": 4, "duplicate": 1, "rejected": 1}
    assert [check.name for check in report.checks] == list(CHECKS)
    assert report.as_dict()["clean"] is True


def test_lost_outcome_is_named_with_its_raw_record(database: Database) -> None:
    database.fill(database.without("report_outcomes", outcome="duplicate"))
    report = database.audit()
    found = {check.name: check for check in report.checks}
    # The outcome's own record has no row either; its counter was never fed, hence agrees.
    assert broken(report) == {"raw_outcomes": 1, "topic_rows": 1}
    (offender,) = found["raw_outcomes"].first
    assert offender.topic == raw_topic(database.world.channel)
    lost = next(r for t, r in database.world.rows if r.get("outcome") == "duplicate")
    assert offender.offset == lost["source_offset"]


def test_block_inserted_twice_is_found_in_rows_outcomes_and_reports(database: Database) -> None:
    database.fill()
    database.fill([row for row in database.world.rows if row[1].get("report_id") == "report-2"])
    assert broken(database.audit()) == {
        "raw_outcomes": 1,
        "accepted_once": 1,
        "accepted_rows": 1,
        "report_event": 1,
        "topic_rows": 3,
    }


def split(world: World, parts: int) -> list[tuple[str, Row]]:
    """The world's rows, had report-1 become two reports, of ``parts`` that its outcome claims."""
    rows = []
    for table, row in world.rows:
        if row.get("report_id") == "report-1":
            if table == "report_outcomes":
                row = {**row, "parts": parts}
            elif table == "reports":
                row = {**row, "report_id": "part-1", "origin": "report-1"}
            else:
                row = {**row, "report_id": "part-1"}
        rows.append((table, row))
    # The other part is a report that another outcome would have brought.
    return [
        (table, {**row, "origin": "report-1"} if same and table == "reports" else row)
        for table, row in rows
        for same in [row.get("report_id") == "report-2"]
        if not (same and table == "report_outcomes")
    ]


def test_the_demands_of_a_message_are_reports_of_its_one_outcome(database: Database) -> None:
    # One outcome is taken away with its record, which is all that is missing.
    database.fill(split(database.world, parts=2))
    assert broken(database.audit()) == {"raw_outcomes": 1, "topic_rows": 1}


@pytest.mark.parametrize("parts", [1, 3])
def test_a_demand_too_many_or_too_few_is_found(database: Database, parts: int) -> None:
    database.fill(split(database.world, parts))
    report = database.audit()
    assert broken(report) == {"raw_outcomes": 1, "topic_rows": 1, "accepted_rows": 1}
    (offender,) = next(check.first for check in report.checks if check.name == "accepted_rows")
    assert (offender.id, offender.expected, offender.actual) == ("report-1", "2", str(parts))


def test_counter_that_counted_a_block_twice_is_found(database: Database) -> None:
    database.fill()
    database.client.command(
        "INSERT INTO outcome_counts SELECT * FROM outcome_counts WHERE outcome = 'duplicate'"
    )
    report = database.audit()
    assert broken(report) == {"counters": 1}
    (offender,) = next(check.first for check in report.checks if check.name == "counters")
    assert (offender.expected, offender.actual) == ("1", "2")
    assert "duplicate" in offender.id


def test_counter_that_missed_a_block_is_found(database: Database) -> None:
    database.fill()
    database.client.command("TRUNCATE TABLE link_counts")
    assert set(broken(database.audit())) == {"counters"}


def test_versions_replaced_by_a_merge_are_no_loss(database: Database) -> None:
    database.fill()
    database.client.command("OPTIMIZE TABLE events FINAL")
    assert database.client.command("SELECT count() FROM events") == 3
    assert broken(database.audit()) == {}


def test_lost_newest_version_is_found_though_an_older_one_is_there(database: Database) -> None:
    database.fill(database.without("events", event_id="event-0", version=2))
    assert broken(database.audit()) == {"topic_rows": 1, "event_count": 1}


def test_event_without_order_and_order_without_event_are_found(database: Database) -> None:
    database.fill(database.without("orders", event_id="event-1"))
    assert broken(database.audit()) == {"event_order": 1, "order_transitions": 1, "topic_rows": 1}


def test_an_order_in_force_of_an_event_that_went_into_another_is_found(database: Database) -> None:
    database.fill()
    columns = "event_id, report_count, opened_at"
    database.client.command(
        f"INSERT INTO events (version, status, merged_into, {columns}) "
        f"SELECT 2, 'closed', 'event-0', {columns} FROM events WHERE event_id = 'event-1'"
    )
    assert broken(database.audit()) == {"event_order": 1}


def test_event_dispatched_twice_is_found(database: Database) -> None:
    database.fill()
    columns = "order_id, version, event_id, state, opened_at"
    database.client.command(
        f"INSERT INTO orders ({columns}) SELECT 'order-9', version, event_id, state, opened_at "
        "FROM orders WHERE order_id = 'order-1'"
    )
    assert broken(database.audit()) == {"event_order": 1, "order_transitions": 1}


STATES = (*OPEN, *SETTLED, "RETURNED", "WITHDRAWN")


@pytest.mark.parametrize("forgotten", [False, True])
def test_in_every_state_an_order_and_its_event_agree(database: Database, forgotten: bool) -> None:
    """``forgotten``: merge said that it knows the event no more, so it cannot close nor open it."""
    at = datetime.fromtimestamp(AT / 1000, UTC)
    over = "open event whose order is over"
    kinds: dict[str, dict[str, str]] = {
        "open": dict.fromkeys(SETTLED, "" if forgotten else over)
        | dict.fromkeys(("RETURNED", "WITHDRAWN"), "open event without an order in force"),
        "closed": dict.fromkeys(OPEN, "" if forgotten else "closed event whose order is not over"),
        "merged": {},
        "empty": {},
    }
    for kind in ("merged", "empty"):
        what = "order in force of an event that went into another or has no report left"
        kinds[kind] = dict.fromkeys(OPEN, "" if forgotten else what)
    events, orders, outcomes, expected = [], [], [], {}
    for kind, state in itertools.product(kinds, STATES):
        name = f"{kind}-{state}"
        status = "open" if kind == "open" else "closed"
        into = "event-0" if kind == "merged" else None
        count = 0 if kind in ("merged", "empty") else 1
        events.append([name, 3, status, count, into, at])
        orders.append([f"order-{name}", 2, name, state, 1, at])
        if what := kinds[kind].get(state, ""):
            expected[name] = what, state
        outcomes.append(
            [f"close-{name}", "event", "close", name, "refused", "unknown_event", "system", at]
        )
    # Two orders of an open event: one in force, if it is not over, is enough.
    for one, two in itertools.product(STATES, ("DISPATCHED", "RETURNED", "INVALID")):
        name = f"two-{one}-{two}"
        events.append([name, 1, "open", 1, None, at])
        orders += [[f"order-{name}-{n}", 2, name, s, n, at] for n, s in enumerate((one, two))]
        standing = [state for state in (one, two) if state not in ("RETURNED", "WITHDRAWN")]
        if len(standing) != 1 or standing[0] in SETTLED:
            what = ("open event without an order in force", over, "orders in force")[len(standing)]
            expected[name] = what, " ".join(sorted((one, two)))
    insert = database.client.insert
    names = ["event_id", "version", "status", "report_count", "merged_into", "opened_at"]
    insert("events", events, column_names=names)
    names = ["order_id", "version", "event_id", "state", "sequence", "opened_at"]
    insert("orders", orders, column_names=names)
    columns = ["order_id", "version", "from_state", "to_state", "reason", "at"]
    parked = [[row[0], 2, "UNKNOWN", "NEEDS_REVIEW", "nobody is left", at] for row in orders]
    insert("order_transitions", parked, column_names=columns)
    if forgotten:
        names = ["action_id", "kind", "action", "target", "outcome", "reason", "role", "decided_at"]
        insert("action_outcomes", outcomes, column_names=names)
    with Positions(database.settings) as positions:
        flows = topology(database.settings, positions)
        settled = settle(positions, flows, time.monotonic() + 20, until_quiet=True)
        facts = Facts(database.settings)
        findings = one_pass(database.settings, positions, facts, flows, settled)
        facts.close()
    found = {o.id: (o.what, o.actual) for o in findings.found["event_order"].kept}
    assert found == expected


def test_an_order_waits_only_while_its_event_may_be_another_and_is_not_urgent(
    database: Database,
) -> None:
    database.fill()
    client, at = database.client, datetime.fromtimestamp(AT / 1000, UTC)
    events: list[list[Any]] = []
    for name, candidate, urgent in (
        ("waits", "event-0", False), ("answered", None, False), ("danger", "event-0", True),
    ):  # fmt: skip
        events.append([name, 1, "open", 0, "event-0", False, at])
        events.append([name, 2, "open", 0, candidate, urgent, at])
    names = ["event_id", "version", "status", "report_count", "candidate", "urgent", "opened_at"]
    client.insert("events", events, column_names=names)
    rows = [[f"order-{e[0]}", 1, e[0], "NEEDS_REVIEW", "unit", at] for e in events[::2]]
    names = ["order_id", "version", "event_id", "state", "unit_code", "opened_at"]
    client.insert("orders", rows, column_names=names)
    columns = ["order_id", "version", "from_state", "to_state", "reason", "at"]
    steps = [[row[0], 1, "UNKNOWN", "NEEDS_REVIEW", "may_be_known: event-0", at] for row in rows]
    client.insert("order_transitions", steps, column_names=columns)
    with Positions(database.settings) as positions:
        flows = topology(database.settings, positions)
        settled = settle(positions, flows, time.monotonic() + 20, until_quiet=True)
        facts = Facts(database.settings)
        findings = one_pass(database.settings, positions, facts, flows, settled)
        facts.close()
    what = "waits for an answer, but its event is no other known"
    kept = findings.found["event_order"].kept
    assert {each.id for each in kept if each.what == what} == {"answered", "danger"}


def test_a_reason_once_told_is_none_for_what_needs_a_person_now(database: Database) -> None:
    database.fill()
    columns = "order_id, version, from_state, to_state, reason, at"
    database.client.command(
        f"INSERT INTO order_transitions ({columns}) SELECT order_id, 3, to_state, to_state, '', at "
        "FROM order_transitions WHERE order_id = 'order-2' AND version = 2"
    )
    database.client.command(
        "INSERT INTO orders (order_id, version, event_id, state, opened_at) SELECT order_id, 3, event_id, "
        "state, opened_at FROM orders WHERE order_id = 'order-2'"
    )
    assert broken(database.audit()) == {"event_order": 1}


def offenders(report: AuditReport, check: str) -> list[tuple[str, str, str, str]]:
    return [
        (o.what, o.topic or o.id, o.expected, o.actual)
        for c in report.checks
        if c.name == check
        for o in c.first
    ]


def test_an_action_of_which_nothing_became_is_found(database: Database) -> None:
    database.fill(database.without("action_outcomes", action_id="action-2"))
    report = database.audit()
    assert broken(report) == {"action_outcomes": 1, "topic_rows": 1}
    assert offenders(report, "action_outcomes") == [
        ("action without an outcome", "event.actions", "", "")
    ]


def test_an_action_asked_for_twice_has_two_outcomes(database: Database) -> None:
    database.fill(database.without("action_outcomes", action_id="action-1", outcome="refused"))
    report = database.audit()
    assert broken(report) == {"action_outcomes": 1, "topic_rows": 1}
    assert offenders(report, "action_outcomes") == [
        ("records of an action, and its outcomes", "action-1", "2", "1")
    ]


def test_an_outcome_that_nobody_asked_for_and_an_action_done_twice_are_found(
    database: Database,
) -> None:
    database.fill(
        [
            (table, {**row, "outcome": "applied"} if row.get("action_id") == "action-1" else row)
            for table, row in database.world.rows
        ]
    )
    columns = "kind, action, outcome, role, decided_at"
    for identity, decided_at in (("action-9", "decided_at"), ("action-8", "decided_at - 1e8")):
        # What Kafka has dropped meanwhile is not missed.
        database.client.command(
            f"INSERT INTO action_outcomes (action_id, {columns}) SELECT '{identity}', "
            f"{columns.replace('decided_at', decided_at)} FROM action_outcomes "
            "WHERE action_id = 'action-5'"
        )
    report = database.audit()
    assert broken(report) == {"action_outcomes": 2}
    assert offenders(report, "action_outcomes") == [
        ("action done more than once", "action-1", "", ""),
        ("outcome without its action", "action-9", "", ""),
    ]


def test_a_record_that_is_no_action_is_a_dead_letter_or_lost(database: Database) -> None:
    database.fill()
    world = database.world
    world.producer.begin_transaction()
    offset = world.record("event.actions", b"x")
    world.producer.commit_transaction()
    world.processed()
    lost = database.audit()
    world.producer.begin_transaction()
    world.letter("event.actions", offset)
    world.producer.commit_transaction()
    assert broken(lost) == {"action_outcomes": 1}
    assert offenders(lost, "action_outcomes") == [
        ("no action, yet no dead letter", "event.actions", "", "")
    ]
    assert broken(database.audit()) == {}


def test_event_lost_under_its_links_and_order_is_found(database: Database) -> None:
    database.fill(database.without("events", event_id="event-2"))
    assert broken(database.audit()) == {"link_event": 1, "order_event": 1, "topic_rows": 1}


def test_lost_transition_breaks_the_chain(database: Database) -> None:
    database.fill(database.without("order_transitions", order_id="order-0", version=1))
    assert broken(database.audit()) == {"order_transitions": 1, "topic_rows": 1}


def test_order_for_a_person_without_a_reason_is_found(database: Database) -> None:
    database.fill()
    database.client.command(
        "ALTER TABLE order_transitions UPDATE reason = '' WHERE order_id = 'order-2' "
        "SETTINGS mutations_sync = 1"
    )
    assert broken(database.audit()) == {"event_order": 1}


def test_accepted_report_that_reached_no_event_is_found(database: Database) -> None:
    database.fill(database.without("event_links", report_id="report-1"))
    assert broken(database.audit()) == {"report_event": 1, "event_count": 1, "topic_rows": 1}


def test_dead_letter_whose_record_was_accepted_is_found(database: Database) -> None:
    rows = [
        (table, {**row, "outcome": "review"} if row.get("outcome") == "rejected" else row)
        for table, row in database.world.rows
    ]
    database.fill(rows)
    assert broken(database.audit()) == {"dead_letters": 1}


def test_unread_records_are_lag_and_the_report_says_that_it_could_not_wait(
    database: Database,
) -> None:
    database.fill()
    database.world.processed(behind=2)  # one record and the marker of its transaction
    try:
        report = audit(database.settings, timeout=1)
    finally:
        database.world.processed()
    lag = next(check for check in report.checks if check.name == "lag")
    assert lag.offenders > 0
    assert not report.caught_up
    assert "not caught up" in report.note
    assert not report.clean


def test_dead_letters_are_counted_by_reason_and_shown_with_their_bytes(world: World) -> None:
    raw = raw_topic(world.channel)
    counted = dead_letters.count(world.settings).open
    assert counted[dlq_topic(raw)] == counted[dlq_topic("order.actions")] == {"bad_magic": 1}
    (letter,) = dead_letters.show(world.settings, dead_letters.Filter(raw), limit=5)
    assert letter.preview == "\\x01no avro"
    assert letter.headers["__connect.errors.partition"] == "0"
