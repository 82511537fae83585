# ruff: noqa: S608 # names of tables and columns are the engine's own answers; values go as parameters
"""A counter computed anew from the facts that feed it, while the sink goes on inserting.

A second table is filled beside the counter and takes its place at the end. What it must hold is cut at the
offsets that the facts reach at one instant: rows up to there are counted by a query, later ones by a view of
the second table's own. For that instant, and for the exchange, the facts refuse inserts, which the sink
repeats: a second or two each, and nothing else waits. A block from before the cut that the sink repeats would
count twice, as the new table does not know its token: it is waited until the sink is past them all.
"""

import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError
from confluent_kafka import Consumer, KafkaException, TopicPartition

from connectors.sink.machine import PENDING
from deploy.flows import SINK_GROUP
from schemas.errors import QuanyuError
from schemas.kafka import consumer_config
from schemas.settings import Settings
from schemas.tables import connect

#: Inserts under way when the facts begin to refuse end within this, or the rebuild is given up.
UNDER_WAY_S = 60.0
POLL_S = 0.05
#: With so many parts of one month a table refuses an insert; at 1, every one.
LIMIT = "parts_to_throw_insert"

#: Steps that do not say what they replaced are filled so many at a time, or some more: all those of an order.
STEPS_AT_ONCE = 1_000_000
#: The facts of an order that a step may replace, as far as its scores go by them, and how they are told.
_FACTS = {
    **dict.fromkeys(("dispatched_at", "sign_due_at", "due_at", "contacted_at"), "Int64"),
    **dict.fromkeys(("handled_at", "closed_at", "paused_at", "visited_at"), "Int64"),
    **dict.fromkeys(("reworks", "reopens"), "Int64"),
    **dict.fromkeys(("false_closure", "self_handled"), "Bool"),
    **dict.fromkeys(("final_visit", "solved"), "String"),
}

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Counter:
    """A table that a view fills from facts, as the engine declares it."""

    database: str
    name: str
    view: str
    facts: str
    select: str

    @property
    def table(self) -> str:
        """The table's whole name, quoted; so are the others."""
        return f"`{self.database}`.`{self.name}`"

    @property
    def beside(self) -> str:
        return f"`{self.database}`.`{self.name}_rebuilt`"

    @property
    def beside_view(self) -> str:
        return f"`{self.database}`.`{self.name}_rebuilt_view`"

    @property
    def source(self) -> str:
        return f"`{self.database}`.`{self.facts}`"

    def select_from(self, facts: str) -> str:
        """The view's query over these rows instead, a query of their own."""
        named = f" FROM ({facts}) AS `{self.facts}`"
        return re.sub(_from(self.database, self.facts), lambda _: named, self.select, count=1)

    def select_where(self, condition: str) -> str:
        """The view's query over some of the facts."""
        return self.select_from(f"SELECT * FROM {self.source} WHERE {condition}")


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What changed: facts counted, groups of the counter that were wrong before, seconds."""

    name: str
    facts: int
    wrong_before: int
    seconds: float


def counters(client: Client, database: str) -> dict[str, Counter]:
    """Every counter by name."""
    found = {}
    for view, definition, select in client.query(
        "SELECT name, create_table_query, as_select FROM system.tables "
        "WHERE database = {d:String} AND engine = 'MaterializedView' AND NOT endsWith(name, '_rebuilt_view')",
        parameters={"d": database},
    ).result_rows:
        target = re.search(rf" TO `?{database}`?\.`?(\w+)`?", definition)
        facts = re.search(_from(database, r"(\w+)"), select)
        if target and facts:
            found[target[1]] = Counter(database, target[1], view, facts[1], select)
    return found


def _from(database: str, facts: str) -> str:
    """How a view names its facts, as an expression."""
    return rf" FROM `?{database}`?\.`?{facts}`?(?!\w)"


def rebuild(
    settings: Settings,
    name: str,
    *,
    group: str = SINK_GROUP,
    timeout: float = 600.0,
    say: Say = print,
) -> Rebuilt:
    """Compute a counter anew; readers see the old one until the new one is whole.

    Raises :class:`QuanyuError` for an unknown name, without facts, on a cluster, and when inserts under way
    or the sink's doubtful block do not end in time: then the counter is as it was, and the command may be
    repeated.
    """
    if settings.clickhouse_cluster:
        raise QuanyuError(
            "on a cluster a counter is rebuilt shard by shard: name a shard's server in QUANYU_CLICKHOUSE, "
            "its database, and leave QUANYU_CLICKHOUSE_CLUSTER unset"
        )
    began = time.monotonic()
    with connect(settings) as client:
        known = counters(client, settings.clickhouse_database)
        if name not in known:
            raise QuanyuError(f"no counter {name[:60]!r}; known: {', '.join(sorted(known))}")
        counter = known[name]
        try:
            _clear(client, counter)
            client.command(f"CREATE TABLE {counter.beside} AS {counter.table}")
            with inserts_held(client, counter.database, counter.facts):
                cut, facts = _reached(client, counter)
                if not cut:
                    # Nor does what has no part refuse an insert.
                    raise QuanyuError(f"{counter.facts} has no rows: there is nothing to count")
                later = counter.select_where(f"NOT ({_up_to(cut)})")
                client.command(
                    f"CREATE MATERIALIZED VIEW {counter.beside_view} TO {counter.beside} AS {later}"
                )
            say(f"{counter.facts}: cut at the offsets of {len(cut)} partitions")
            _sink_is_past(settings, group, cut, time.monotonic() + timeout)
            _fill(client, counter, cut, facts, say)
            with inserts_held(client, counter.database, counter.facts):
                wrong = _differences(client, counter)
                client.command(f"EXCHANGE TABLES {counter.table} AND {counter.beside}")
                client.command(f"DROP VIEW {counter.beside_view} SYNC")
            _clear(client, counter)
        except (ClickHouseError, OSError) as error:
            raise QuanyuError(
                f"ClickHouse: {str(error).splitlines()[0][:300]}; {name} is as it was, repeat the command"
            ) from None
    return Rebuilt(name, facts, wrong, round(time.monotonic() - began, 1))


def _clear(client: Client, counter: Counter) -> None:
    """Take away what this run, or one that was killed, leaves; the facts take inserts again."""
    client.command(f"DROP VIEW IF EXISTS {counter.beside_view} SYNC")
    client.command(f"DROP TABLE IF EXISTS {counter.beside} SYNC")
    _accept(client, counter.database, counter.facts)


def _accept(client: Client, database: str, facts: str) -> None:
    found = client.query(
        "SELECT create_table_query FROM system.tables WHERE database = {d:String} AND name = {n:String}",
        parameters={"d": database, "n": facts},
    ).result_rows
    if found and LIMIT in found[0][0]:
        client.command(f"ALTER TABLE `{database}`.`{facts}` RESET SETTING {LIMIT}")


@contextmanager
def inserts_held(client: Client, database: str, facts: str) -> Iterator[None]:
    """Within, nothing is inserted into the table, if it has rows, and nothing that began before is under way.

    Raises :class:`QuanyuError` when an insert under way does not end in time.
    """
    client.command(f"ALTER TABLE `{database}`.`{facts}` MODIFY SETTING {LIMIT} = 1")
    try:
        end = time.monotonic() + UNDER_WAY_S
        while _under_way(client, facts):
            if time.monotonic() > end:
                raise QuanyuError(
                    f"an insert into {facts} takes over {UNDER_WAY_S:.0f} s; see system.processes, "
                    "then repeat the command"
                )
            time.sleep(POLL_S)
        yield
    finally:
        _accept(client, database, facts)


def _under_way(client: Client, facts: str) -> bool:
    found = client.query(
        "SELECT count() FROM system.processes WHERE query_kind = 'Insert' AND position(query, {n:String}) > 0",
        parameters={"n": facts},
    ).result_rows
    return bool(found[0][0])


def _reached(client: Client, counter: Counter) -> tuple[dict[tuple[str, int], int], int]:
    """(topic, partition) → last offset in the facts; and how many facts there are."""
    rows = client.query(
        f"SELECT _topic, _partition, max(_offset), count() FROM {counter.source} "
        "GROUP BY ALL ORDER BY ALL"
    ).result_rows
    cut = {(str(topic), int(partition)): int(last) for topic, partition, last, _ in rows}
    return cut, sum(row[3] for row in rows)


def _up_to(cut: Mapping[tuple[str, int], int]) -> str:
    """The condition of rows up to the cut; topics are names that Kafka allows, so they need no escaping."""
    parts = [
        f"(_topic = '{topic}' AND _partition = {partition} AND _offset <= {last})"
        for (topic, partition), last in cut.items()
        if re.fullmatch(r"[A-Za-z0-9._-]*", topic)
    ]
    if len(parts) < len(cut):
        raise QuanyuError("a row of the facts names no topic of Kafka; see column _topic")
    return " OR ".join(parts) or "0"


def _sink_is_past(
    settings: Settings, group: str, cut: Mapping[tuple[str, int], int], end: float
) -> None:
    """Wait until no block of the sink from before the cut is in doubt."""
    consumer = Consumer({**consumer_config(settings, group), "log_level": 0})
    try:
        while True:
            places = [TopicPartition(topic, partition) for topic, partition in cut if topic]
            waiting = [
                place
                for place in (consumer.committed(places, 30.0) if places else [])
                if not _past(place, cut[place.topic, place.partition])
            ]
            if not waiting:
                return
            if time.monotonic() > end:
                first = waiting[0]
                raise QuanyuError(
                    f"the sink has not finished its block of {first.topic}/{first.partition}; is it running "
                    "(quanyu status)? The counter is as it was, repeat the command"
                )
            time.sleep(POLL_S)
    except KafkaException as error:
        raise QuanyuError(f"Kafka: {error.args[0].str()}; is it running (quanyu status)?") from None
    finally:
        consumer.close()


def _past(place: Any, last: int) -> bool:
    """Whether the group's commit says that the block which held ``last`` is done."""
    if place.offset < 0:
        return True  # no sink reads it: its rows came by hand
    doubtful = PENDING.fullmatch(place.metadata or "")
    return bool((int(doubtful[1]) if doubtful else place.offset) > last)


def _fill(
    client: Client,
    counter: Counter,
    cut: Mapping[tuple[str, int], int],
    facts: int,
    say: Say,
) -> None:
    """Count the facts up to the cut, month by month; steps that say not what they replaced, by whole orders."""
    if counter.name == "order_scores" and _are_untold(client, counter):
        parts = 1 + facts // STEPS_AT_ONCE
        for part in range(parts):
            condition = f"({_up_to(cut)}) AND cityHash64(order_id) % {parts} = {part}"
            steps = counter.select_from(_told(counter.source, condition))
            client.command(f"INSERT INTO {counter.beside} {steps}")
            say(f"{counter.name}: part {part + 1} of {parts} counted")
        return
    months = client.query(
        "SELECT DISTINCT partition_id FROM system.parts WHERE active AND database = {d:String} "
        "AND table = {n:String} ORDER BY partition_id",
        parameters={"d": counter.database, "n": counter.facts},
    ).result_rows
    for (month,) in months:
        condition = f"({_up_to(cut)}) AND _partition_id = '{month}'"
        client.command(f"INSERT INTO {counter.beside} {counter.select_where(condition)}")
        say(f"{counter.name}: {month} counted")


def _are_untold(client: Client, counter: Counter) -> bool:
    """Whether steps are there from before they said what they replaced."""
    found = client.query(
        f"SELECT 1 FROM {counter.source} WHERE version > 1 AND replaced IS NULL LIMIT 1"
    )
    return bool(found.result_rows)


def _told(facts: str, condition: str) -> str:
    """Steps of whole orders, each with what it replaced: as it says or, if too old, as the one before tells.

    When an order was visited, steps of that age tell by their own instant.
    """
    former = ", ".join(
        f"ifNull(toUnixTimestamp64Milli({name}), 0)" if name.endswith("_at") else name
        for name in _FACTS
    )
    named = ", ".join(f"{name} {kind}" for name, kind in _FACTS.items())
    visit = "if(action = 'visit', toNullable(at), NULL)"
    steps = "PARTITION BY order_id ORDER BY version ROWS"
    return f"""
        SELECT * REPLACE (if(version <= 1 OR replaced IS NOT NULL, replaced,
            toJSONString(CAST(lagInFrame(tuple({former})) OVER two, 'Tuple({named})'))) AS replaced)
        FROM
        (
            SELECT * REPLACE (ifNull(visited_at, max({visit}) OVER so_far) AS visited_at)
            FROM {facts} WHERE {condition}
            WINDOW so_far AS ({steps} BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)
        )
        WINDOW two AS ({steps} BETWEEN 1 PRECEDING AND CURRENT ROW)"""


def _differences(client: Client, counter: Counter) -> int:
    """Groups of which the old and the new table count differently."""
    keys = [
        name
        for (name,) in client.query(
            "SELECT name FROM system.columns WHERE database = {d:String} AND table = {n:String} "
            "AND is_in_sorting_key ORDER BY position",
            parameters={"d": counter.database, "n": counter.name},
        ).result_rows
    ]
    names = ", ".join(keys)
    return int(
        client.query(
            f"SELECT count() FROM (SELECT {names}, sum(a) AS a, sum(b) AS b FROM ("
            f"SELECT {names}, toInt64(n) AS a, 0 AS b FROM {counter.table} UNION ALL "
            f"SELECT {names}, 0 AS a, toInt64(n) AS b FROM {counter.beside}) GROUP BY ALL HAVING a != b)"
        ).result_rows[0][0]
    )
