"""What an audit may conclude when records arrive meanwhile, and that no counter escapes it."""

import itertools
import re
from collections.abc import Mapping, Sequence

from deploy.checks import ACTIONS, COUNTERS, ENDED, KEPT, SETTLED, Found, Offender
from deploy.flows import DEPTH, SINK_GROUP, STREAMS_GROUP, Topology, settle
from deploy.positions import Extent, Lag, Partition, Positions
from schemas.tables import load_migrations
from schemas.topics import beside_topics, table_topics
from streams.dispatch import lifecycle

RAW: Partition = ("reports.raw.x", 0)
FLOWS = Topology({"x": "reports.raw.x"}, {}, {STREAMS_GROUP: [RAW], SINK_GROUP: []}, [], [RAW])
FOREVER = float("inf")


class Traffic(Positions):
    """A broker whose only topic grows to the given ends, one at each look; the last one stays."""

    def __init__(self, *ends: int, behind: int = 0) -> None:  # connects to nothing
        self._ends = itertools.chain(ends, itertools.repeat(ends[-1]))
        self._behind = behind

    def extents(self, partitions: Sequence[Partition]) -> dict[Partition, Extent]:
        end = next(self._ends)
        return {p: Extent(0, end) for p in partitions}

    def lag(
        self, group: str, partitions: Sequence[Partition], extents: Mapping[Partition, Extent]
    ) -> dict[Partition, Lag]:
        return {p: Lag(self._behind, 1 if self._behind else None) for p in partitions}


def found(*offsets: int) -> Found:
    made = Found()
    made.add(len(offsets), (Offender("lost", "t", 0, offset) for offset in offsets))
    return made


def test_pipeline_at_rest_is_quiet_and_read_up_to_its_end() -> None:
    settled = settle(Traffic(10, 12, 12), FLOWS, FOREVER, until_quiet=True)
    assert settled.quiet
    assert settled.through == settled.caught_up == {RAW: Extent(0, 12)}


def test_under_traffic_only_what_travelled_through_everything_is_judged() -> None:
    settled = settle(Traffic(*range(10, 100, 10)), FLOWS, FOREVER, until_quiet=False)
    assert not settled.quiet
    assert settled.travelled
    assert settled.through == {RAW: Extent(0, 10)}
    assert settled.caught_up == {RAW: Extent(0, 10 + 10 * DEPTH)}


def test_a_group_that_does_not_catch_up_in_time_is_reported_behind() -> None:
    settled = settle(Traffic(10, behind=3), FLOWS, 0.0, until_quiet=True)
    assert not settled.quiet
    assert settled.lag[STREAMS_GROUP] == {RAW: Lag(3, 1)}


def test_what_heals_between_two_passes_is_no_offender() -> None:
    confirmed = found(1, 2, 3).confirmed_by(found(3, 4))
    assert confirmed.count == 1
    assert confirmed.kept == [Offender("lost", "t", 0, 3)]
    assert found(1).confirmed_by(found()).count == 0


def test_more_offenders_than_are_kept_are_still_counted() -> None:
    many = found(*range(KEPT * 3))
    assert (many.count, len(many.kept)) == (KEPT * 3, KEPT)
    assert many.confirmed_by(many).count == KEPT * 3


def test_every_materialised_view_is_recounted() -> None:
    text = "\n".join(migration.text for migration in load_migrations())
    views = dict(
        re.findall(
            r"CREATE MATERIALIZED VIEW.*?TO \{local:(\w+)\}.*?FROM \{local:(\w+)\}",
            text,
            re.DOTALL,
        )
    )
    assert views
    assert views == {counter.table: counter.base for counter in COUNTERS}


def test_every_state_of_the_life_cycle_is_in_force_or_over_as_the_audit_has_it() -> None:
    states = {row.to for row in lifecycle.TABLE} - {lifecycle.SAME, lifecycle.BEFORE}
    assert states == {*lifecycle.OPEN, *SETTLED, *ENDED}
    assert lifecycle.SETTLED == SETTLED


def test_every_topic_of_actions_is_held_against_its_outcomes() -> None:
    beside = {topic for topic in beside_topics() if topic not in table_topics()}
    assert {*beside, "review.answers"} == ACTIONS.keys()
