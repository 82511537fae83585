"""What people merge and split: it stands, each undoes the other, and what is refused changes nothing."""

from collections import defaultdict
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.city import CityPack
from schemas.codec import Codec
from schemas.ids import event_id
from streams.batch import Batch
from streams.merge.decide import ACTIONS, MergeStep
from streams.merge.state import HORIZON_MS, MergeState
from tests.unit.streams.batches import NOW, Record, batch
from tests.unit.streams.merge.test_order import DRAWN, MINUTE, POLICY, in_force
from tests.unit.streams.merge.test_order import report as drawn_report
from tests.unit.tiny_city import WEST

#: Fields of an event that only say when something was last decided.
#: A person who takes apart what was one, or makes one of two, has said whether one may be the other.
MOVING = (
    "version", "decided_at", "candidate", "candidate_score", "candidate_reason", "urgent",
)  # fmt: skip


class Desk:
    """A merge agent, what it wrote, and a person who reads that and asks."""

    def __init__(self, city: CityPack, codec: Codec, *, restart: bool = False) -> None:
        self.codec, self.restart = codec, restart
        self.step = MergeStep(city, codec, POLICY)
        self.state: MergeState = self.step.restore("reports", 3, {})
        self.stored: dict[bytes, bytes] = {}
        self.reports: dict[str, Record] = {}
        self.links: list[Record] = []
        self.outcomes: list[Record] = []
        self.versions: dict[str, Record] = {}
        self.offset = 0

    def take(self, *reports: Record) -> None:
        for each in reports:
            self.reports[each["report_id"]] = each
            self._decide(batch([self.codec.encode("Report", each)], "reports", self.offset))

    def ask(
        self, action: str, event: str, into: str = "", reports: tuple[str, ...] = (), **fields: Any
    ) -> Record:
        """Ask for an action as the API does, and return its outcome."""
        mine = [link for link in self.standing() if link["event_id"] in (event, into)]
        sides = [
            [
                link
                for link in mine
                if link["event_id"] == event and (link["report_id"] in reports) == side
            ]
            for side in (True, False)
        ]
        firsts = [
            min(
                side, key=lambda link: (link["received_at"], link["occurred_at"], link["report_id"])
            )
            for side in sides
            if side
        ]
        record = {
            "action_id": f"a{self.offset}", "action": action, "event_id": event, "into": into,
            "report_ids": list(reports), "zone": "core", "actor": "p1", "role": "centre",
            "reason": "seen", "at": NOW,
            "links": [self.codec.encode("Link", link) for link in mine],
            "reports": [self.codec.encode("Report", self.reports[f["report_id"]]) for f in firsts],
        } | fields  # fmt: skip
        self._decide(batch([self.codec.encode("EventAction", record)], ACTIONS, self.offset))
        return self.outcomes[-1]

    def standing(self) -> list[Record]:
        held = in_force(self.links)
        last = {link["report_id"]: link for link in self.links if link["sign"] > 0}
        return [last[report] for report in held]

    def together(self) -> dict[str, frozenset[str]]:
        found = defaultdict(set)
        for report, (event, _) in in_force(self.links).items():
            found[event].add(report)
        counts = {e: v["report_count"] for e, v in self.versions.items() if v["report_count"]}
        assert counts == {event: len(members) for event, members in found.items()}
        return {event: frozenset(members) for event, members in found.items()}

    def facts(self) -> dict[str, Record]:
        """What every event with reports says of itself, but when it was decided."""
        return {
            event: {name: value for name, value in record.items() if name not in MOVING}
            for event, record in self.versions.items()
            if record["report_count"]
        }

    def _decide(self, given: Batch) -> None:
        self.offset += 1
        if self.restart:
            self.state = self.step.restore("reports", 3, dict(self.stored))
        decision = self.step.decide(self.state, given, NOW)
        for key, value in decision.changes:
            self.stored.pop(key, None) if value is None else self.stored.update({key: value})
        for output in decision.outputs:
            record = self.codec.decode(output.value)[1]
            match output.topic:
                case "event.links":
                    self.links.append(record)
                case "events":
                    former = self.versions.get(record["event_id"], {"version": 0})
                    assert record["version"] > former["version"]
                    self.versions[record["event_id"]] = record
                case "action.outcomes":
                    self.outcomes.append(record)
                case topic:
                    raise AssertionError(topic)


def plain(number: int, **fields: Any) -> Record:
    drawn: dict[str, Any] = {
        "minute": 0, "ms": number * 1000, "delay": 0, "text": "abc", "class_code": "0202",
        "address": "", "reporter": "", "forwarded": None, "media": [], "device": "", "alarm": "",
        "grid": WEST, "north": 0.0,
    }  # fmt: skip
    return drawn_report(number, drawn | fields)


@pytest.fixture
def desk(city: CityPack, codec: Codec) -> Desk:
    """Two matters 200 m apart: r1 and r2, r3 and r4."""
    desk = Desk(city, codec)
    desk.take(plain(1), plain(2), plain(3, north=200.0), plain(4, north=200.0))
    assert desk.together() == {A: {"r1", "r2"}, B: {"r3", "r4"}}
    return desk


A, B = event_id("r1"), event_id("r3")


def test_merged_events_are_one_and_the_link_says_that_a_person_did_it(desk: Desk) -> None:
    outcome = desk.ask("merge", B, A)
    assert (outcome["outcome"], outcome["kind"], outcome["target"]) == ("applied", "event", B)
    assert desk.together() == {A: {"r1", "r2", "r3", "r4"}}
    assert (desk.versions[B]["merged_into"], desk.versions[B]["status"]) == (A, "closed")
    moved = [link for link in desk.links if link["reason"] == "by hand: seen"]
    assert [(link["report_id"], link["relation"]) for link in moved] == [
        ("r3", "co_report"), ("r4", "co_report"),
    ]  # fmt: skip


STREET = f"{WEST}001"
HOUSE = {"class_code": "0101", "grid": f"{STREET}002003", "address": "1 Main Street"}
VAGUE = {"class_code": "0101", "grid": STREET, "address": "", "north": None}


@pytest.mark.parametrize("turned", [False, True])
def test_who_says_that_two_are_apart_takes_the_candidate_away_and_keeps_the_other(
    city: CityPack, codec: Codec, turned: bool
) -> None:
    desk = Desk(city, codec)
    desk.take(plain(1, **HOUSE), plain(3, **VAGUE))
    assert desk.versions[B]["candidate"] == A
    pair = (A, B) if turned else (B, A)
    assert desk.ask("apart", *pair)["outcome"] == "applied"
    told = desk.versions[B]
    assert (told["candidate"], told["candidate_reason"], told["report_count"]) == (None, "", 1)
    version = told["version"]
    assert desk.ask("apart", *pair)["outcome"] == "applied"
    assert desk.versions[B]["version"] == version


def test_what_was_merged_into_the_one_that_may_be_it_is_no_candidate_and_apart_again_neither(
    city: CityPack, codec: Codec
) -> None:
    desk = Desk(city, codec)
    desk.take(plain(1, **HOUSE), plain(3, **VAGUE))
    desk.ask("merge", A, B)
    assert desk.versions[B]["candidate"] is None
    desk = Desk(city, codec)
    desk.take(plain(1, **HOUSE), plain(3, **VAGUE))
    desk.ask("merge", B, A)
    desk.ask("split", A, reports=("r3",))
    assert (desk.versions[B]["candidate"], desk.versions[B]["report_count"]) == (None, 1)


def test_what_is_told_later_where_the_merged_event_was_joins_the_other(desk: Desk) -> None:
    desk.ask("merge", B, A)
    desk.take(plain(5, north=210.0))
    assert desk.together() == {A: {"r1", "r2", "r3", "r4", "r5"}}
    # Split again, its place is its own again.
    desk.ask("split", A, reports=("r3", "r4", "r5"))
    desk.take(plain(6, north=210.0), plain(7))
    assert desk.together() == {A: {"r1", "r2", "r7"}, B: {"r3", "r4", "r5", "r6"}}


def test_the_event_stays_where_its_opening_report_is(desk: Desk) -> None:
    desk.ask("split", A, reports=("r1",))
    assert desk.together() == {A: {"r1"}, event_id("r2"): {"r2"}, B: {"r3", "r4"}}
    assert desk.versions[event_id("r2")]["first_report_id"] == "r2"
    relations = {link["report_id"]: link["relation"] for link in desk.standing()}
    assert relations == {"r1": "opened", "r2": "opened", "r3": "opened", "r4": "co_report"}


def test_a_late_report_does_not_undo_what_a_person_decided(desk: Desk) -> None:
    desk.ask("merge", B, A)
    desk.take(plain(0, north=200.0))
    assert desk.together()[A] == {"r1", "r2", "r3", "r4"}


def test_old_reports_are_moved_as_their_links_tell(city: CityPack, codec: Codec) -> None:
    desk = Desk(city, codec, restart=True)
    desk.take(plain(1), plain(2), plain(3, north=200.0), plain(4, north=200.0))
    desk.take(*(plain(n, north=5000.0, minute=2 * HORIZON_MS // MINUTE) for n in (5, 6)))
    before = desk.facts()
    assert desk.ask("merge", B, A)["outcome"] == "applied"
    assert desk.together()[A] == {"r1", "r2", "r3", "r4"}
    assert desk.ask("split", A, reports=("r3", "r4"))["outcome"] == "applied"
    assert desk.facts() == before
    # And one that never had an event of its own.
    assert desk.ask("split", A, reports=("r2",))["outcome"] == "applied"
    assert desk.together()[event_id("r2")] == {"r2"}
    assert desk.versions[event_id("r2")]["title"] == "t"


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        (("merge", A, A), "same_event"),
        (("merge", "unknown", A), "unknown_event"),
        (("merge", A, "unknown"), "unknown_event"),
        (("split", A, "", ("r9",)), "not_in_event"),
        (("split", A, "", ("r3",)), "not_in_event"),
        (("split", A, "", ("r1", "r2")), "nothing_to_split"),
        (("split", A), "nothing_to_split"),
        (("reopen", A), "already_done"),
        (("explode", A), "unknown_action"),
        (("apart", A, "unknown"), "unknown_event"),
    ],
)
def test_what_cannot_be_done_is_refused_with_its_reason_and_changes_nothing(
    desk: Desk, asked: tuple[Any, ...], reason: str
) -> None:
    before, stored = (desk.together(), desk.facts(), len(desk.links)), dict(desk.stored)
    outcome = desk.ask(*asked)
    assert (outcome["outcome"], outcome["reason"]) == ("refused", reason)
    assert outcome["detail"]
    assert (desk.together(), desk.facts(), len(desk.links)) == before
    assert desk.stored == stored


def test_an_action_is_done_once_however_often_it_is_asked(desk: Desk) -> None:
    assert desk.ask("merge", B, A)["outcome"] == "applied"
    assert desk.ask("merge", B, A)["reason"] == "already_done"
    assert desk.ask("merge", A, B)["reason"] == "no_reports"
    assert desk.ask("close", A)["outcome"] == "applied"
    assert desk.ask("close", A)["reason"] == "already_done"


def test_an_action_on_reports_that_were_read_too_long_ago_is_refused(
    city: CityPack, codec: Codec
) -> None:
    desk = Desk(city, codec)
    desk.take(plain(1), plain(2), plain(3, north=200.0))
    desk.take(*(plain(n, north=5000.0, minute=2 * HORIZON_MS // MINUTE) for n in (5, 6)))
    outcome = desk.ask("merge", A, B, links=[])
    assert (outcome["outcome"], outcome["reason"]) == ("refused", "stale")
    assert "0 of the event's 2 reports" in outcome["detail"]


def test_a_closed_event_is_not_joined_but_recurs_until_it_is_opened_again(desk: Desk) -> None:
    desk.ask("close", A, at=NOW + 10_000)
    assert desk.versions[A]["status"] == "closed"
    desk.take(plain(20))
    assert desk.versions[event_id("r20")]["recurs_of"] == A
    desk.ask("reopen", A)
    assert desk.versions[A]["status"] == "open"


@settings(
    deadline=None, max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    drawn=st.lists(DRAWN, min_size=2, max_size=12),
    later=st.lists(DRAWN, max_size=4),
    picks=st.lists(st.tuples(st.integers(0, 50), st.integers(0, 2**12)), min_size=1, max_size=4),
    old=st.booleans(),
    restart=st.booleans(),
)
def test_merge_and_split_undo_each_other_and_every_report_stays_in_one_event(
    city: CityPack,
    codec: Codec,
    drawn: list[dict[str, Any]],
    later: list[dict[str, Any]],
    picks: list[tuple[int, int]],
    old: bool,
    restart: bool,
) -> None:
    desk = Desk(city, codec, restart=restart)
    reports = sorted(
        (drawn_report(number, each) for number, each in enumerate(drawn)),
        key=lambda r: r["received_at"],
    )
    desk.take(*reports)
    if old:
        desk.take(*(plain(n, north=9_000.0, minute=5 + 2 * HORIZON_MS // MINUTE) for n in (98, 99)))
    for which, members in picks:
        events = desk.together()
        names = sorted(events)
        if not names:
            return  # only alarms that were over
        one = names[which % len(names)]
        before, facts = events, desk.facts()
        own = sorted(events[one])
        leaving = tuple(r for n, r in enumerate(own) if members >> n & 1)
        if 0 < len(leaving) < len(own):
            assert desk.ask("split", one, reports=leaving)["outcome"] == "applied"
            parts = {frozenset(leaving), events[one] - set(leaving)}
            assert parts <= set(desk.together().values())
            new = next(e for e in desk.together() if e not in before)
            assert desk.ask("merge", new, one)["outcome"] == "applied"
            assert desk.together() == before
            assert desk.facts()[one] == facts[one]
        elif len(names) > 1:
            other = names[(which + 1) % len(names)]
            assert desk.ask("merge", one, other)["outcome"] == "applied"
            assert desk.together()[other] == before[one] | before[other]
            assert desk.ask("split", other, reports=tuple(before[one]))["outcome"] == "applied"
            assert desk.together() == before
            assert desk.facts() == facts
    # The rules go on deciding what comes.
    desk.take(*(drawn_report(100 + number, each) for number, each in enumerate(later)))
    desk.together()
