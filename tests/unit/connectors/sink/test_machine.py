"""The sink's decisions for one partition, by example."""

from dataclasses import replace

import pytest

from connectors.sink.machine import (
    Block,
    Closing,
    Commit,
    CommitFailed,
    Committed,
    DeadLetter,
    DeadLetterLimit,
    Fail,
    Insert,
    Inserted,
    InsertFailed,
    Limits,
    Partition,
    Pause,
    Record,
    Records,
    Refusal,
    Resume,
    Start,
    Tick,
    resume,
)

LIMITS = Limits(rows=10, age=1.0, busy_rows=5, busy_age=3.0, rest=2.0, waiting_rows=10)


def records(*offsets: int, size: int = 1) -> Records:
    return Records([Record(offset, size, None) for offset in offsets])


def block(*offsets: int) -> Block:
    return Block("reports", 0, tuple(Record(offset, 1, None) for offset in offsets))


def partition(start: Start | None = None, limits: Limits = LIMITS) -> Partition:
    return Partition("reports", 0, start or Start(0), limits)


def test_a_range_is_recorded_before_its_rows_are_sent() -> None:
    it = partition()
    assert it.handle(records(3, 5, 8), 0.0) == []
    assert it.handle(Tick(), 1.0) == [Commit(0, "pending:3-8")]
    assert it.handle(Tick(), 50.0) == [], "nothing is sent while the commit is in flight"
    assert it.handle(Committed(), 50.0) == [Insert(block(3, 5, 8))]
    assert block(3, 5, 8).token == "reports:0:3-8"


def test_a_finished_block_is_committed_with_the_next_one() -> None:
    it = partition()
    it.handle(records(0, 1), 0.0)
    it.handle(Tick(), 1.0)
    it.handle(Committed(), 1.0)
    it.handle(records(3), 1.1)
    assert it.handle(Inserted(), 1.2) == []
    assert it.handle(Tick(), 2.1) == [Commit(2, "pending:3-3")]


def test_a_finished_block_is_committed_alone_when_nothing_follows() -> None:
    it = partition()
    it.handle(records(0, 1), 0.0)
    it.handle(Tick(), 1.0)
    it.handle(Committed(), 1.0)
    it.handle(Inserted(), 1.2)
    assert it.handle(Tick(), 2.1) == []
    assert it.handle(Tick(), 2.2) == [Commit(2, "")]
    assert it.handle(Committed(), 2.3) == []
    assert it.settled


def test_a_fenced_commit_ends_the_partition_before_anything_is_inserted() -> None:
    it = partition()
    it.handle(records(0), 0.0)
    it.handle(Tick(), 1.0)
    assert it.handle(CommitFailed(fenced=True), 1.0) == []
    assert it.handle(records(1), 9.0) == []
    assert it.handle(Tick(), 99.0) == []
    assert it.fenced


@pytest.mark.parametrize("failure", [CommitFailed(fenced=False), InsertFailed(True, "202")])
def test_doubt_repeats_the_same_range_though_more_records_wait(
    failure: CommitFailed | InsertFailed,
) -> None:
    it = partition()
    it.handle(records(0, 1), 0.0)
    it.handle(Tick(), 1.0)
    if isinstance(failure, InsertFailed):
        it.handle(Committed(), 1.0)
    assert it.handle(failure, 1.0) == []
    assert it.handle(records(2, 3), 1.05) == []
    assert it.handle(Tick(), 1.2) == [Commit(0, "pending:0-1")]
    assert it.handle(Committed(), 1.2) == [Insert(block(0, 1))]


def test_pauses_between_attempts_grow_and_stay_bounded() -> None:
    it = partition()
    it.handle(records(0), 0.0)
    it.handle(Tick(), 1.0)
    now, pauses = 1.0, []
    for _ in range(60):
        it.handle(Committed(), now)
        it.handle(InsertFailed(True, "202"), now)
        begun = now
        while not it.handle(Tick(), now):
            now += 0.05
        pauses.append(now - begun)
    assert pauses[0] < pauses[2] < pauses[4]
    assert max(pauses) == pytest.approx(LIMITS.retry_last, abs=0.1)


def test_one_refused_row_is_isolated_and_the_rows_around_it_get_new_tokens() -> None:
    it = partition()
    it.handle(records(0, 1, 2, 3), 0.0)
    actions = it.handle(Tick(), 1.0)
    inserted: list[tuple[int, int]] = []
    dead: list[int] = []
    for _ in range(50):
        [action] = actions or it.handle(Tick(), 100.0)
        match action:
            case Commit(_, ""):
                actions = it.handle(Committed(), 2.0)
                break
            case Commit():
                actions = it.handle(Committed(), 2.0)
            case Insert(sent):
                if any(record.offset == 2 for record in sent.records):
                    actions = it.handle(InsertFailed(False, "bad value"), 2.0)
                else:
                    inserted.append((sent.first, sent.last))
                    actions = it.handle(Inserted(), 2.0)
            case DeadLetter(sent, reason):
                assert reason == "bad value"
                dead.append(sent.first)
                actions = it.handle(Inserted(), 2.0)
    assert inserted == [(0, 1), (3, 3)]
    assert dead == [2]
    assert it.next_offset == 4


def test_a_recorded_range_is_rebuilt_exactly_before_anything_else() -> None:
    it = partition(Start(3, (3, 7)))
    assert it.handle(records(3, 5), 0.0) == []
    assert it.handle(Tick(), 99.0) == [], "never sealed by age while it is being rebuilt"
    assert it.handle(records(7, 8, 9), 99.0) == [Commit(3, "pending:3-7")]
    assert it.handle(Committed(), 99.0) == [Insert(block(3, 5, 7))]


def test_a_recorded_range_larger_than_all_limits_is_rebuilt_whole() -> None:
    it = partition(Start(0, (0, 99)))
    assert it.handle(records(*range(60)), 0.0) == []
    assert it.handle(records(*range(60, 100)), 0.0) == [Commit(0, "pending:0-99")]
    [insert] = it.handle(Committed(), 0.0)
    assert isinstance(insert, Insert)
    assert len(insert.block.records) == 100


@pytest.mark.parametrize("found", [(4, 7), (3, 6, 8), (8, 9)])
def test_a_recorded_range_with_missing_ends_stops_the_process(found: tuple[int, ...]) -> None:
    [action] = partition(Start(3, (3, 7))).handle(records(*found), 0.0)
    assert isinstance(action, Fail)
    assert "3-7" in action.reason


def test_a_busy_partition_waits_for_a_larger_block_and_a_full_block_goes_at_once() -> None:
    it = partition()
    it.handle(records(*range(6)), 0.0)
    assert it.handle(Tick(), 1.5) == []
    assert it.handle(Tick(), 3.0) == [Commit(0, "pending:0-5")]
    it = partition()
    assert it.handle(records(*range(12)), 0.0) == [Commit(0, "pending:0-9")]


@pytest.mark.parametrize(
    ("before", "took", "age"),
    [(0.2, 0.2, 1.0), (0.75, 0.75, 1.5), (60.0, 60.0, 3.0), (0.1, 60.0, 1.0), (60.0, 0.75, 1.5)],
)
def test_after_slow_inserts_the_next_block_waits_longer_but_not_for_ever_nor_for_a_single_one(
    before: float, took: float, age: float
) -> None:
    it = partition()
    for turn, lasted in enumerate((before, took)):
        begin = 100.0 * turn
        it.handle(records(turn), begin)
        it.handle(Tick(), begin + 3.0)
        it.handle(Committed(), begin + 3.0)
        it.handle(Inserted(), begin + 3.0 + lasted)
        assert it.handle(Tick(), begin + 90.0) == [Commit(turn + 1, "")]
        it.handle(Committed(), begin + 90.0)
    it.handle(records(2), 200.0)
    assert it.handle(Tick(), 199.9 + age) == []
    assert it.handle(Tick(), 200.0 + age) == [Commit(2, "pending:2-2")]


def test_a_block_is_sealed_by_bytes_and_a_record_above_the_limit_goes_alone() -> None:
    it = partition(limits=replace(LIMITS, bytes=10))
    assert it.handle(records(0, 1, 2, size=4), 0.0) == [Commit(0, "pending:0-1")]
    it = partition(limits=replace(LIMITS, bytes=10))
    assert it.handle(records(0, 1, size=40), 0.0) == [Commit(0, "pending:0-0")]


def test_reading_is_paused_while_a_block_is_stuck_and_resumed_after() -> None:
    it = partition()
    it.handle(records(*range(10)), 0.0)
    it.handle(Committed(), 0.0)
    assert it.handle(records(*range(10, 22)), 0.1) == [Pause()]
    assert it.handle(InsertFailed(True, "202"), 0.1) == []
    it.handle(Tick(), 1.0)
    it.handle(Committed(), 1.0)
    assert it.handle(Inserted(), 1.0) == [Commit(10, "pending:10-19"), Resume()]


def test_records_read_twice_are_taken_once() -> None:
    it = partition(Start(5))
    it.handle(records(4, 5, 6), 0.0)
    it.handle(records(5, 6, 7), 0.0)
    it.handle(Tick(), 1.0)
    assert it.handle(Committed(), 1.0) == [Insert(block(5, 6, 7))]


def test_closing_finishes_what_is_in_flight_and_starts_nothing() -> None:
    it = partition()
    it.handle(records(0, 1), 0.0)
    it.handle(Tick(), 1.0)
    it.handle(records(2, 3), 1.0)
    assert it.handle(Closing(), 1.0) == []
    assert not it.settled
    assert it.handle(Committed(), 1.0) == [Insert(block(0, 1))]
    assert it.handle(Inserted(), 1.0) == [Commit(2, "")]
    assert it.handle(Committed(), 1.0) == []
    assert it.settled


def test_closing_during_doubt_leaves_the_range_recorded_for_the_next_owner() -> None:
    it = partition()
    it.handle(records(0, 1), 0.0)
    it.handle(Tick(), 1.0)
    it.handle(Committed(), 1.0)
    it.handle(Closing(), 1.0)
    assert it.handle(InsertFailed(True, "timeout"), 1.0) == []
    assert it.settled
    assert it.handle(Tick(), 99.0) == []


# Where to start


def test_start_follows_the_commit() -> None:
    assert resume(7, "", 6, 0, 10) == Start(7)
    assert resume(10, "", None, 0, 10) == Start(10)
    assert resume(7, "pending:8-9", 6, 0, 10) == Start(8, (8, 9))
    assert resume(7, "pending:8-9", 9, 0, 10) == Start(8, (8, 9))


def test_an_expired_commit_continues_after_the_table_not_from_the_start() -> None:
    for committed in (None, -1001):
        start = resume(committed, "", 0, 0, 10)
        assert isinstance(start, Start)
        assert start.offset == 1
    assert resume(None, "", None, 4, 10) == Start(4)


def test_a_stale_commit_below_the_table_does_not_insert_again() -> None:
    for metadata in ("", "pending:3-5"):
        start = resume(3, metadata, 8, 0, 10)
        assert isinstance(start, Start)
        assert (start.offset, start.rebuild) == (9, None)
        assert "stale" in start.note


@pytest.mark.parametrize(
    ("committed", "metadata", "in_table"), [(3, "", None), (3, "pending:3-5", None), (None, "", 2)]
)
def test_retention_that_overtook_the_sink_is_refused_not_skipped(
    committed: int | None, metadata: str, in_table: int | None
) -> None:
    refusal = resume(committed, metadata, in_table, 4, 10)
    assert isinstance(refusal, Refusal)
    assert "offsets 3 to 3" in refusal.reason


def test_a_topic_made_anew_is_refused() -> None:
    refusal = resume(None, "", 500, 0, 10)
    assert isinstance(refusal, Refusal)
    assert "made anew" in refusal.reason


def test_foreign_metadata_is_refused() -> None:
    assert isinstance(resume(3, "rack-1", None, 0, 10), Refusal)


# Dead letters


def test_single_bad_records_never_reach_the_limit() -> None:
    limit = DeadLetterLimit(run=3, ratio=0.5, window=10)
    assert all(limit.note(1, 0) is None and limit.note(0, 1) is None for _ in range(100))


def test_a_run_of_bad_records_reaches_the_limit() -> None:
    limit = DeadLetterLimit(run=3, ratio=0.5, window=100)
    assert limit.note(0, 2) is None
    assert "3 records in a row" in (limit.note(0, 1) or "")


def test_a_high_share_of_bad_records_reaches_the_limit() -> None:
    limit = DeadLetterLimit(run=100, ratio=0.5, window=10)
    reasons = [limit.note(1, 2) for _ in range(4)]
    assert reasons[:3] == [None, None, None]
    assert "8 of the last 12" in (reasons[3] or "")
