"""What people ask for, brought to the agents: merges and splits of events, answers to reviews.

An action is a record in Kafka; the agent that owns what it is about does it or refuses it, and says so in
``action.outcomes``. This reads what an action must bring along, sends it and waits for what became of it.
"""

import sys
import time
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import Any, NamedTuple

import structlog
from clickhouse_connect.driver.exceptions import ClickHouseError
from confluent_kafka import KafkaException, Message, Producer

from deploy.positions import Extent, Partition, Positions
from schemas import ids
from schemas.codec import Codec, default_codec
from schemas.errors import QuanyuError
from schemas.kafka import producer_config
from schemas.queries import connect, run
from schemas.settings import Settings
from streams.asked import OUTCOMES
from streams.intake.privacy import mask

log = structlog.get_logger("desk")

#: Links that an action brings along; an event with more reports is not taken apart by hand.
LINKS_LIMIT = 20_000
CONFIRM_S = 10.0
#: A command that does not need Kafka waits no longer to learn whether it is there.
ANSWER_S = 3.0
#: Between two looks whether an outcome is there.
LOOK_S = 0.1
#: What an action did to its order is to be read so long after its outcome, or it is said without.
SHOWN_S = 5.0
#: The named queries that this asks.
QUERIES = (
    *("action_outcome", "links_in_force", "merges_open", "reviews_open", "whole_reports", "taught"),
    *("order_book", "order_shown", "order_steps"),
)

Row = Mapping[str, Any]


class Actor(NamedTuple):
    """Who asks: a code, a role, and the unit of a unit's people."""

    code: str
    role: str
    unit_code: str = ""


class Unavailable(Exception):
    """Kafka or ClickHouse does not answer; the same may be asked again."""


def action_id(actor: Actor, key: str = "") -> str:
    """A new id, or the one of an actor's own ``key``: what is sent twice with it is one action."""
    return ids.action_id("asked", actor.code, key) if key else str(uuid.uuid4())


def log_line(
    *, kind: str, action: str, target: str, actor: str, role: str, outcome: str = "applied",
    reason: str = "", detail: str = "", other: str = "",
) -> dict[str, Any]:  # fmt: skip
    """One line of the people's log, ``action.outcomes``: who did or was refused what; no personal data."""
    now = int(time.time() * 1000)
    return {
        "action_id": str(uuid.uuid4()), "kind": kind, "action": action, "target": target,
        "other": other, "outcome": outcome, "reason": reason, "detail": detail, "actor": actor,
        "role": role, "at": now, "decided_at": now,
    }  # fmt: skip


@contextmanager
def at_desk(settings: Settings) -> Iterator["Desk"]:
    """A desk for one command; what does not answer is a :class:`QuanyuError` with its remedy."""
    try:
        with closing(Desk(settings)) as desk:
            yield desk
    except Unavailable as error:
        raise QuanyuError(f"{error}; see quanyu status") from None


def tell(settings: Settings, **said: Any) -> None:
    """A line of the people's log from the command line, for what is done already; see :func:`log_line`.

    Keys and people are made before Kafka runs, too: then it is said that no line was written.
    """
    try:
        with at_desk(settings) as desk:
            desk.reach(ANSWER_S)
            desk.write(role="operator", **said)
    except QuanyuError as error:
        print(f"done, but not in the people's log: {error}", file=sys.stderr)


class Desk:
    """One desk of an installation; safe to use from several threads."""

    def __init__(self, settings: Settings, codec: Codec | None = None) -> None:
        self._settings = settings
        self._codec = codec or default_codec(settings)
        self._producer = Producer({**producer_config(settings), "log_level": 2})
        # Made once: its parts are asked by several threads.
        self._client: Any = None

    def rows(self, query: str, **given: Any) -> list[dict[str, Any]]:
        """A named query's rows; :class:`Unavailable` when ClickHouse does not answer."""
        try:
            if self._client is None:
                self._client = connect(self._settings, connect_s=3, answer_s=20, at_once=8)
            return run(self._client, query, **given)
        except (ClickHouseError, OSError) as error:
            raise Unavailable(
                f"ClickHouse does not answer: {str(error).splitlines()[0][:200]}"
            ) from None

    # ---- events

    def merge(self, actor: Actor, event: str, into: str, reason: str, key: str = "") -> str:
        """Ask that ``event`` goes into ``into``; the action's id."""
        zone = self._zone(event)
        self._zone(into)
        links = self._links(event)
        return self._event_action(actor, "merge", event, zone, reason, key, into=into, links=links)

    def split(
        self, actor: Actor, event: str, reports: Sequence[str], reason: str, key: str = ""
    ) -> str:
        """Ask that ``reports`` leave ``event`` together for one of their own; the action's id."""
        zone, links = self._zone(event), self._links(event)
        leaving = set(reports)
        firsts = {link["report_id"] in leaving: link["report_id"] for link in reversed(links)}
        whole = self.rows("whole_reports", report_ids=",".join(firsts.values())) if firsts else []
        return self._event_action(
            actor, "split", event, zone, reason, key,
            report_ids=sorted(leaving), links=links, reports=whole,
        )  # fmt: skip

    def apart(self, actor: Actor, event: str, other: str, reason: str, key: str = "") -> str:
        """Say that two events are not one; the action's id."""
        zone = self._zone(event)
        self._zone(other)
        return self._event_action(actor, "apart", event, zone, reason, key, into=other)

    def _zone(self, event: str) -> str:
        found = self.rows("event", event_id=event)
        if not found:
            raise QuanyuError(f"no event {event[:60]!r}; see the screen, or quanyu review list")
        return str(found[0]["zone"])

    def _links(self, event: str) -> list[dict[str, Any]]:
        links = self.rows("links_in_force", event_ids=event)
        if len(links) > LINKS_LIMIT:
            raise QuanyuError(
                f"event {event} has {len(links)} reports; by hand at most {LINKS_LIMIT} are moved"
            )
        return links

    def _event_action(
        self, actor: Actor, action: str, event: str, zone: str, reason: str, key: str,
        links: Sequence[Row] = (), reports: Sequence[Row] = (), **more: Any,
    ) -> str:  # fmt: skip
        identity = action_id(actor, key)
        record = {
            "action_id": identity,
            "action": action,
            "event_id": event,
            "zone": zone,
            "actor": actor.code,
            "role": actor.role,
            "reason": reason,
            "at": int(time.time() * 1000),
            "links": [self._codec.encode("Link", dict(link)) for link in links],
            "reports": [self._codec.encode("Report", dict(report)) for report in reports],
            **more,
        }
        self.send("event.actions", zone, "EventAction", record)
        return identity

    # ---- orders

    def order(self, order: str) -> dict[str, Any]:
        """An order's last step and all of them; :class:`QuanyuError` when there is no such order."""
        steps = self.rows("order_steps", order_id=order)
        if not steps:
            raise QuanyuError(f"no order {order[:60]!r}; see quanyu order list")
        return {**steps[-1], "state": steps[-1]["to_state"], "steps": steps}

    def order_action(
        self, actor: Actor, order: str, action: str, key: str = "", **said: Any
    ) -> str:
        """Ask for an action on an order (verbs of the life cycle); the action's id."""
        event = self.order(order)["event_id"]
        identity = action_id(actor, key)
        record = {
            "action_id": identity,
            "order_id": order,
            "event_id": event,
            "action": action,
            "actor": actor.code,
            "role": actor.role,
            "unit_code": actor.unit_code,
            "at": int(time.time() * 1000),
            **{name: value for name, value in said.items() if value is not None},
        }
        self.send("order.actions", event, "OrderAction", record)
        return identity

    # ---- reviews

    def reviews(self, limit: int = 50, offset: int = 0, **given: Any) -> list[dict[str, Any]]:
        """Reports that wait for a person, each with its words, personal data masked."""
        found = self.rows("reviews_open", limit=limit, offset=offset, **given)
        raws = self._raws(found)
        return [
            {k: v for k, v in row.items() if not k.startswith("source_")} | _words(raw and raw[1])
            for row, raw in zip(found, raws, strict=True)
        ]

    def doubts(self, limit: int = 50, offset: int = 0, since: int = 0) -> list[dict[str, Any]]:
        """Pairs of events that may be one."""
        return self.rows("merges_open", limit=limit, offset=offset, since=since)

    def answer(
        self, actor: Actor, report: str, action: str, reason: str, key: str = "", **said: Any
    ) -> str:
        """Answer for a report in review: ``accept`` with class and place, or ``reject``; the action's id."""
        found = self.rows("reviews_open", report_id=report, limit=1)
        if not found:
            raise QuanyuError(f"no report {report[:60]!r} waits for review; see quanyu review list")
        (raw,) = self._raws(found)
        if raw is None:
            raise QuanyuError(
                f"report {report}: its raw record is no longer in Kafka; its source must send it again"
            )
        identity = action_id(actor, key)
        record = {
            "action_id": identity,
            "report_id": report,
            "action": action,
            "actor": actor.code,
            "role": actor.role,
            "reason": reason,
            "at": int(time.time() * 1000),
            "raw": raw[0],
            "source_timestamp": raw[2],
            **{k: found[0][k] for k in ("source_topic", "source_partition", "source_offset")},
            **{k: v for k, v in said.items() if v is not None},
        }
        self.send("review.answers", report, "ReviewAnswer", record)
        return identity

    def _raws(
        self, rows: Sequence[Row]
    ) -> list[tuple[bytes, Mapping[str, Any] | None, int] | None]:
        """The raw record of each row: its bytes, what it says, its timestamp; None when it is gone."""
        wanted: dict[Partition, set[int]] = {}
        for row in rows:
            partition = row["source_topic"], row["source_partition"]
            wanted.setdefault(partition, set()).add(row["source_offset"])
        found: dict[tuple[str, int, int], tuple[bytes, int]] = {}
        try:
            with Positions(self._settings, timeout=CONFIRM_S) as positions:
                for partition, message in _one_by_one(positions, wanted):
                    value, offset = message.value(), message.offset()
                    if isinstance(value, bytes) and offset is not None:
                        found[*partition, offset] = value, message.timestamp()[1]
        except QuanyuError as error:
            raise Unavailable(str(error)) from None
        result: list[tuple[bytes, Mapping[str, Any] | None, int] | None] = []
        for row in rows:
            raw = found.get((row["source_topic"], row["source_partition"], row["source_offset"]))
            if raw is None:
                result.append(None)
                continue
            said, _ = self._codec.decode_batch("RawReport", [raw[0]])
            result.append((raw[0], said[0], raw[1]))
        return result

    # ---- sending and waiting

    def send(self, topic: str, key: str, record_name: str, record: Mapping[str, Any]) -> None:
        """Bring one record to Kafka; returns when every in-sync replica has it."""
        errors: list[Any] = []
        try:
            self._producer.produce(
                topic,
                key=key.encode(),
                value=self._codec.encode(record_name, dict(record)),
                on_delivery=lambda error, _: errors.append(error),
            )
            self._producer.flush(CONFIRM_S)
        except (KafkaException, BufferError) as error:
            raise Unavailable(f"Kafka does not take the action: {error}") from None
        if not errors or errors[0] is not None:
            why = errors[0].str() if errors else "no confirmation in time"
            raise Unavailable(f"Kafka does not take the action: {why}")

    def note(self, **said: Any) -> None:
        """Hand over a line of the people's log and do not wait for it; see :func:`log_line`."""
        line = log_line(**said)
        try:
            self._producer.produce(
                OUTCOMES,
                key=line["action_id"].encode(),
                value=self._codec.encode("ActionOutcome", line),
            )
            self._producer.poll(0)
        except (KafkaException, BufferError) as error:
            log.warning("the people's log takes no line", error=str(error)[:200])

    def reach(self, timeout_s: float) -> None:
        """:class:`Unavailable` when no broker answers within so many seconds."""
        try:
            self._producer.list_topics(timeout=timeout_s)
        except KafkaException as error:
            raise Unavailable(f"Kafka does not answer: {error.args[0].str()}") from None

    def write(self, **said: Any) -> None:
        """A line of the people's log, confirmed; :class:`Unavailable` when Kafka does not take it."""
        line = log_line(**said)
        self.send(OUTCOMES, line["action_id"], "ActionOutcome", line)

    def outcome(self, action: str, wait_s: float = 0.0) -> dict[str, Any] | None:
        """What became of an action; None when that is not known after ``wait_s`` seconds.

        What an action did to an order is then to be read: outcome, step and state are rows of three tables.
        """
        until = time.monotonic() + wait_s
        while not (found := self.rows("action_outcome", action_id=action)):
            if time.monotonic() >= until:
                return None
            time.sleep(LOOK_S)
        (told,) = found
        until = min(until, time.monotonic() + SHOWN_S)
        while (told["kind"], told["outcome"]) == ("order", "applied") and time.monotonic() < until:
            (shown,) = self.rows("order_shown", order_id=told["target"], action_id=action)
            if 0 < shown["step"] <= shown["state"]:
                break
            time.sleep(LOOK_S)
        return told

    def close(self) -> None:
        """Send what waits, lines on refusals, within a second; all else was confirmed by :meth:`send`."""
        self._producer.flush(1.0)


def _one_by_one(
    positions: Positions, wanted: Mapping[Partition, Collection[int]]
) -> Iterator[tuple[Partition, Message]]:
    """The records at single offsets, one of every partition at a time; those that are gone are left out."""
    kept = positions.extents(list(wanted))
    left = {
        partition: sorted(o for o in offsets if kept[partition].first <= o < kept[partition].end)
        for partition, offsets in wanted.items()
    }
    while some := {p: offsets.pop() for p, offsets in left.items() if offsets}:
        for partition, messages in positions.records(
            {p: Extent(o, o + 1) for p, o in some.items()}
        ):
            for message in messages:
                yield partition, message


def _words(raw: Mapping[str, Any] | None) -> dict[str, str]:
    """What a raw report says, personal data masked; empty where its record is gone."""
    names = ("title", "text", "address", "category")
    return {name: mask((raw or {}).get(name) or "").text[:2000] for name in names}
