"""Crash anywhere, redeliver, rebalance, freeze: every offset is once in the table.

A model of what the sink stands on, with as little kindness as the real things: a log with gaps, a
group commit that only its owner may write, and a table that drops a repeated token. Hypothesis
drives any number of sink instances through it, dead, frozen and alive.
"""

from collections.abc import Callable

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from connectors.sink.machine import (
    Action,
    Block,
    Closing,
    Commit,
    CommitFailed,
    Committed,
    DeadLetter,
    Event,
    Fail,
    Insert,
    Inserted,
    InsertFailed,
    Limits,
    Partition,
    Pause,
    Record,
    Records,
    Resume,
    Start,
    Tick,
    resume,
)

LIMITS = Limits(rows=7, age=1.0, busy_rows=4, busy_age=2.0, waiting_rows=9, linger=1.0)
PERFORMED = st.sampled_from(["done", "done", "done but not known", "not done"])


class Instance:
    """One process that owns, or believes to own, the partition."""

    def __init__(self, start: Start) -> None:
        self.machine = Partition("t", 0, start, LIMITS)
        self.read_from = start.offset
        self.paused = False
        self.in_flight: Commit | Insert | DeadLetter | None = None

    def handle(self, event: Event, now: float) -> None:
        for action in self.machine.handle(event, now):
            self._note(action)

    def _note(self, action: Action) -> None:
        match action:
            case Pause():
                self.paused = True
            case Resume():
                self.paused = False
            case Fail(reason):
                raise AssertionError(reason)
            case _:
                assert self.in_flight is None, "two things in flight"
                self.in_flight = action


class World(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.log: list[tuple[int, bool]] = []  # offset, whether the table accepts it
        self.end = 0
        self.committed: tuple[int, str] | None = None
        self.tokens: set[str] = set()
        self.table: list[int] = []
        self.dead: list[int] = []
        self.ghosts: list[Block] = []  # requests on the wire whose sender is dead
        self.frozen: list[Instance] = []
        self.owner = self._assign()

    def _assign(self) -> Instance:
        offset, metadata = self.committed or (None, "")
        in_table = max(self.table, default=None)
        start = resume(offset, metadata, in_table, 0, self.end)
        assert isinstance(start, Start), start
        return Instance(start)

    def _insert(self, block: Block) -> bool:
        accepted = dict(self.log)
        if not all(accepted[record.offset] for record in block.records):
            return False
        if block.token not in self.tokens:
            self.tokens.add(block.token)
            self.table += [record.offset for record in block.records]
        return True

    def _perform(self, instance: Instance, how: str) -> None:
        action, instance.in_flight = instance.in_flight, None
        answer: Event
        match action:
            case Commit(offset, metadata):
                if instance is not self.owner:
                    answer = CommitFailed(fenced=True)
                else:
                    if how != "not done":
                        self.committed = (offset, metadata)
                    answer = Committed() if how == "done" else CommitFailed(fenced=False)
            case Insert(block):
                accepted = how == "not done" or self._insert(block)
                if not accepted:
                    answer = InsertFailed(False, "refused")
                else:
                    answer = Inserted() if how == "done" else InsertFailed(True, "unknown")
            case DeadLetter(block, _):
                if how != "not done":
                    self.dead.append(block.first)
                answer = Inserted() if how == "done" else InsertFailed(True, "unknown")
            case None:
                return
        instance.handle(answer, self.now)

    def _deliver(self, instance: Instance, count: int) -> None:
        if instance.paused:
            return
        ready = [offset for offset, _ in self.log if offset >= instance.read_from][:count]
        if ready:
            instance.read_from = ready[-1] + 1
            instance.handle(Records([Record(offset, 1, None) for offset in ready]), self.now)

    @rule(gaps=st.lists(st.integers(0, 2), max_size=8), bad=st.integers(0, 12))
    def produce_some(self, gaps: list[int], bad: int) -> None:
        self.produce(gaps, bad)

    def produce(self, gaps: list[int], bad: int) -> None:
        for index, gap in enumerate(gaps):
            self.log.append((self.end + gap, index != bad))
            self.end += gap + 1

    @rule(gaps=st.lists(st.integers(0, 2), min_size=3, max_size=12), hows=st.lists(PERFORMED))
    def run(self, gaps: list[int], hows: list[str]) -> None:
        """A stretch of work, so that faults meet every phase and not only an idle sink."""
        self.produce(gaps, 99)
        for how in hows:
            self._deliver(self.owner, 4)
            self.now += 1.0
            self.owner.handle(Tick(), self.now)
            self._perform(self.owner, how)

    @rule(count=st.integers(1, 12))
    def deliver(self, count: int) -> None:
        self._deliver(self.owner, count)

    @rule(seconds=st.sampled_from([0.1, 1.0, 6.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.owner.handle(Tick(), self.now)

    @rule(how=PERFORMED)
    def perform(self, how: str) -> None:
        self._perform(self.owner, how)

    @rule()
    def read_again(self) -> None:
        """A client that seeks back delivers records twice."""
        self.owner.read_from = max(0, self.owner.read_from - 5)

    @rule(request_on_wire=st.booleans())
    def kill(self, request_on_wire: bool) -> None:
        if request_on_wire and isinstance(self.owner.in_flight, Insert):
            self.ghosts.append(self.owner.in_flight.block)
        self.owner = self._assign()

    @rule()
    def freeze(self) -> None:
        self.frozen.append(self.owner)
        self.owner = self._assign()

    @rule(how=PERFORMED)
    def hand_over(self, how: str) -> None:
        self.owner.handle(Closing(), self.now)
        for _ in range(4):
            self._perform(self.owner, how)
        if isinstance(self.owner.in_flight, Insert):
            self.ghosts.append(self.owner.in_flight.block)
        self.owner = self._assign()

    @precondition(lambda self: self.frozen)
    @rule(data=st.data(), how=PERFORMED)
    def thaw_one_step(self, data: st.DataObject, how: str) -> None:
        zombie = data.draw(st.sampled_from(self.frozen))
        steps: list[Callable[[], None]] = [
            lambda: self._perform(zombie, how),
            lambda: self._deliver(zombie, 5),
            lambda: zombie.handle(Tick(), self.now),
        ]
        data.draw(st.sampled_from(steps))()

    @precondition(lambda self: self.ghosts)
    @rule()
    def ghost_arrives(self) -> None:
        self._insert(self.ghosts.pop())

    @precondition(lambda self: not self.ghosts and not self.frozen)
    @rule()
    def group_expires_while_nobody_runs(self) -> None:
        if self.owner.in_flight is None:
            self.committed = None
            self.owner = self._assign()

    @invariant()
    def nothing_is_twice_in_the_table(self) -> None:
        assert len(self.table) == len(set(self.table))

    def teardown(self) -> None:
        self.owner = self._assign()
        for _ in range(20 * len(self.log) + 50):
            self._deliver(self.owner, 5)
            self._perform(self.owner, "done")
            self.now += 0.7
            self.owner.handle(Tick(), self.now)
        for zombie in self.frozen:
            for _ in range(4):
                self._perform(zombie, "done")
        for ghost in self.ghosts:
            self._insert(ghost)
        good = [offset for offset, accepted in self.log if accepted]
        bad = {offset for offset, accepted in self.log if not accepted}
        assert sorted(self.table) == good
        assert set(self.dead) == bad
        assert self.owner.machine.settled
        # An expired commit is written again only with the next block.
        if self.committed is not None and self.log:
            assert self.committed == (self.log[-1][0] + 1, "")


TestWorld = World.TestCase
TestWorld.settings = settings(
    max_examples=300,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
