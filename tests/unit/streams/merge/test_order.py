"""The same reports in any arrival order within a minute, in any batches, over any restart: the same events."""

import random
from collections import Counter
from typing import Any
from unittest.mock import patch

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.city import CityPack
from schemas.codec import Codec
from schemas.grids import METRES_PER_DEGREE
from schemas.merge_policy import Alarm, MergePolicy, Rule
from streams.merge import decide, place
from streams.merge.decide import MergeStep, to_seen
from streams.merge.state import YoungAt
from tests.unit.streams.batches import NOW, Record, cut, records, run
from tests.unit.tiny_city import IN_WEST, WEST

MINUTE = 60_000
POLICY = MergePolicy(
    default=Rule(radius_m=60, hours=2),
    classes={
        "0102": Rule(radius_m=90, hours=2),
        "0201": Rule(mode="address", radius_m=10, hours=4),
        "0202": Rule(radius_m=40, hours=1, alarm=Alarm(kind="event", minutes=1)),
        "0203": Rule(radius_m=40, hours=1, alarm=Alarm(kind="lasting", minutes=1)),
    },
    alike=[["0101", "0102"]],
    part=["only mine"],
)
COMPOUND = "990101001001001"
BODY = "这一段话足够长，所以不同的人说的是同一件事情，请有关部门尽快处理。"


def report(number: int, drawn: dict[str, Any]) -> Record:
    """A drawn report; its number only makes its ids."""
    at = NOW + drawn["minute"] * MINUTE + drawn["ms"]
    pointed = drawn["north"] is not None
    return {
        "report_id": f"r{number}",
        "channel": "test",
        "native_id": f"n{number}",
        "occurred_at": at - drawn["delay"] * MINUTE,
        "received_at": at,
        "title": "t",
        "text": drawn["text"],
        "class_code": drawn["class_code"],
        "class_method": "native",
        "lon": IN_WEST[0] if pointed else None,
        "lat": IN_WEST[1] + drawn["north"] / METRES_PER_DEGREE if pointed else None,
        "district_code": WEST,
        "grid_code": drawn["grid"],
        "zone": "core",
        "address": drawn["address"],
        "reporter_hash": drawn["reporter"],
        "forwarded_from": drawn["forwarded"] and f"test/n{drawn['forwarded']}",
        "media": drawn["media"],
        "device": drawn["device"],
        "alarm_state": drawn["alarm"] if drawn["device"] else "",
        "urgent": drawn.get("urgent", False),
        "self_handled": drawn.get("self_handled", False),
        "source_topic": "reports.raw.test",
        "source_partition": 0,
        "source_offset": 0,
    }


DRAWN = st.fixed_dictionaries(
    {
        "minute": st.integers(0, 4),
        "ms": st.integers(0, MINUTE - 1),
        "delay": st.sampled_from([0, 0, 1, 45, 90]),
        "text": st.sampled_from(["", "abcdef", "abcdeg", "only mine", "路灯", BODY]),
        "class_code": st.sampled_from(["0101", "0102", "0201", "0202", "0203"]),
        "north": st.sampled_from([None, 0.0, 25.0, 50.0, 75.0, 100.0, 130.0]),
        "grid": st.sampled_from([WEST, "990103001", COMPOUND, f"{COMPOUND}001"]),
        "address": st.sampled_from(
            ["", "1 Main Street", "1 MAIN ST APT 2", "2 Main St", "the old mill", "Old Mill, the"]
        ),
        "reporter": st.sampled_from(["", "h1", "h2"]),
        "forwarded": st.sampled_from([None, None, None, 1, 2]),
        "media": st.sampled_from([[], [], ["sha256:" + "0" * 64]]),
        "device": st.sampled_from(["", "", "d1", "d2"]),
        "alarm": st.sampled_from(["open", "open", "cleared"]),
        "urgent": st.sampled_from([False, False, True]),
    }
)

SOME: dict[str, Any] = {
    "ms": 0, "delay": 0, "text": "", "class_code": "0101", "north": None, "grid": WEST, "address": "",
    "reporter": "", "forwarded": None, "media": [], "device": "", "alarm": "",
}  # fmt: skip


def both_orders(drawn: list[dict[str, Any]], shuffle: int) -> tuple[list[Record], list[Record]]:
    """Drawn reports as they were received, and as they arrive: each at most a minute later."""
    reports = sorted(
        (report(number, each) for number, each in enumerate(drawn)),
        key=lambda r: (r["received_at"], r["report_id"]),
    )
    chance = random.Random(shuffle)
    return reports, sorted(reports, key=lambda r: r["received_at"] + chance.randrange(MINUTE))


def in_force(links: list[Record]) -> dict[str, tuple[str, str]]:
    """Report → event and relation, by the links that were not taken back: at most one of a report, each told
    once."""
    signs = Counter[tuple[str, ...]]()
    for link in links:
        key = ("link_id", "report_id", "event_id", "relation", "class_code", "district_code")
        signs[tuple(link[name] for name in key)] += link["sign"]
        assert signs[tuple(link[name] for name in key)] in (0, 1)
    stands = [key for key, sign in signs.items() if sign]
    assert len({key[1] for key in stands}) == len(stands)
    return {key[1]: (key[2], key[3]) for key in stands}


def partition(codec: Codec, outputs: Any) -> set[frozenset[tuple[str, str]]]:
    """Which reports are together and what each is to its event, by each report's link in force."""
    last = in_force(records(codec, outputs, "event.links"))
    together: dict[str, set[tuple[str, str]]] = {}
    for name, (event, relation) in last.items():
        together.setdefault(event, set()).add((name, relation))
    # What an event says of itself agrees with the links.
    counts: dict[str, tuple[int, int]] = {}
    for version in records(codec, outputs, "events"):
        newest = counts.get(version["event_id"], (0, 0))
        assert version["version"] > newest[0]
        counts[version["event_id"]] = version["version"], version["report_count"]
    assert {e: n for e, (_, n) in counts.items() if n} == {e: len(m) for e, m in together.items()}
    return {frozenset(members) for members in together.values()}


def candidates(codec: Codec, outputs: Any) -> dict[str, tuple[Any, ...]]:
    """What each event with reports says that it may be, whether it is urgent, how often it was urged."""
    return {
        version["event_id"]: (version["candidate"], version["urgent"], version["priority"])
        for version in {e["event_id"]: e for e in records(codec, outputs, "events")}.values()
        if version["report_count"]
    }


#: A report of one place that arrives as soon as it is told.
AT_ONCE: dict[str, Any] = {
    "minute": 0, "delay": 0, "text": "abcdef", "class_code": "0101", "address": "", "north": 0.0,
    "reporter": "", "forwarded": None, "media": [], "device": "", "alarm": "", "grid": COMPOUND,
}  # fmt: skip
#: People who tell of one place again and again.
NEIGHBOURS = st.builds(
    lambda **drawn: SOME | {"class_code": "0101"} | drawn,
    minute=st.integers(0, 2),
    ms=st.integers(0, MINUTE - 1),
    text=st.sampled_from(["abcdef", "abcdeg", "路灯"]),
    north=st.sampled_from([None, 0.0, 25.0, 50.0, 75.0]),
    reporter=st.sampled_from(["", "h1", "h2", "h3", "h4", "h5"]),
)
#: People who tell of one street: by its name alone, a house or a point.
PASSERS_BY = st.builds(
    lambda **drawn: SOME | {"class_code": "0101"} | drawn,
    minute=st.integers(0, 2),
    ms=st.integers(0, MINUTE - 1),
    text=st.sampled_from(["abcdef", "abcdeg", "路灯"]),
    north=st.sampled_from([None, None, 0.0, 130.0]),
    grid=st.sampled_from([COMPOUND[:9], f"{COMPOUND[:9]}002001"]),
    address=st.sampled_from(["", "", "1 Main Street", "2 Main St"]),
)


@settings(
    deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    drawn=st.one_of(
        *(st.lists(each, min_size=2, max_size=20) for each in (DRAWN, NEIGHBOURS, PASSERS_BY))
    ),
    shuffle=st.integers(0, 2**32),
    cuts=st.lists(st.integers(1, 13), max_size=6),
    restart=st.booleans(),
    kept=st.sampled_from([2, 3, 20]),
)
def test_arrival_order_within_a_minute_batches_and_restarts_change_no_decision(
    city: CityPack,
    codec: Codec,
    drawn: list[dict[str, Any]],
    shuffle: int,
    cuts: list[int],
    restart: bool,
    kept: int,
) -> None:
    reports, arrived = both_orders(drawn, shuffle)
    told = []
    for each, where, again in ((reports, [], False), (arrived, cuts, restart)):
        values = [codec.encode("Report", r) for r in each]
        with patch.object(place, "REPORTERS_KEPT", kept):
            outputs, _ = run(
                MergeStep(city, codec, POLICY), cut(values, where, "reports"), restart=again
            )
        told.append((partition(codec, outputs), candidates(codec, outputs)))
    assert told[0] == told[1]


#: What a connector stamps while its clock is a day ahead, before all others.
AHEAD = SOME | {"minute": 26 * 60, "class_code": "0202", "north": 900.0}


@settings(
    deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    drawn=st.one_of(
        *(st.lists(each, min_size=2, max_size=20) for each in (DRAWN, NEIGHBOURS, PASSERS_BY))
    ),
    cuts=st.lists(st.integers(1, 13), max_size=6),
)
def test_after_a_clock_that_was_ahead_batches_and_restarts_change_no_decision(
    city: CityPack, codec: Codec, drawn: list[dict[str, Any]], cuts: list[int]
) -> None:
    arrived = [report(number, each) for number, each in enumerate([AHEAD, *drawn])]
    values = [codec.encode("Report", r) for r in arrived]
    told = []
    for where, again in (([], False), (cuts, True)):
        outputs, _ = run(
            MergeStep(city, codec, POLICY), cut(values, where, "reports"), restart=again
        )
        told.append((partition(codec, outputs), candidates(codec, outputs)))
    assert told[0] == told[1]


def test_after_a_clock_that_was_ahead_reports_grow_old_as_ever(
    city: CityPack, codec: Codec
) -> None:
    horizon, count = 200, 1000
    crowd = [report(0, AHEAD), *(report(n, AT_ONCE | {"ms": 50 * n}) for n in range(1, count))]
    values = [codec.encode("Report", r) for r in crowd]
    step = MergeStep(city, codec, POLICY)
    state = step.restore("reports", 0, {})
    with patch.object(place, "HORIZON_MS", horizon), patch.object(decide, "HORIZON_MS", horizon):
        for batch in cut(values, [*range(10, count, 10)], "reports"):
            step.decide(state, batch, NOW)
    assert len(state.young) < 2 * horizon
    assert len(state.diary) < 2 * horizon // 10


def test_who_comes_late_to_a_crowd_is_not_held_against_the_whole_crowd(
    city: CityPack, codec: Codec
) -> None:
    def asked(people: int) -> float:
        """How many reports are looked at for each that comes, to tell who was heard before."""
        chance, count = random.Random(people), 8 * people
        crowd = [
            report(n, AT_ONCE | {"ms": chance.randrange(MINUTE), "reporter": f"h{n % people}"})
            for n in range(count)
        ]
        values = [codec.encode("Report", r) for r in crowd]
        with patch.object(place, "_heard_first", wraps=place._heard_first) as looked:
            run(MergeStep(city, codec, POLICY), cut(values, [*range(10, count, 10)], "reports"))
        return looked.call_count / count

    assert asked(120) < 1.5 * asked(30)


def test_an_opener_that_arrives_late_takes_the_others_and_their_event_says_where_they_went(
    city: CityPack, codec: Codec
) -> None:
    plain = AT_ONCE | {"text": "abc", "class_code": "0202", "grid": WEST}
    first = report(1, plain | {"ms": 1000, "north": 0.0})
    second = report(2, plain | {"ms": 2000, "north": 30.0})
    values = [codec.encode("Report", r) for r in (second, first)]
    outputs, _ = run(MergeStep(city, codec, POLICY), cut(values, [1], "reports"), restart=True)
    found = records(codec, outputs, "event.links")
    assert [(link["relation"], link["sign"]) for link in found] == [
        ("opened", 1), ("opened", 1), ("opened", -1), ("co_report", 1),
    ]  # fmt: skip
    assert len({event for event, _ in in_force(found).values()}) == 1
    last = {event["event_id"]: event for event in records(codec, outputs, "events")}
    emptied = next(e for e in last.values() if not e["report_count"])
    kept = next(e for e in last.values() if e["report_count"])
    assert (emptied["merged_into"], emptied["status"]) == (kept["event_id"], "closed")
    assert kept["report_count"] == 2


def test_what_was_noted_is_found_where_it_is_until_it_is_old() -> None:
    young = YoungAt()

    def at(place: Any, since: int) -> list[Any]:
        return [seen for found in young.since(since) for seen in found.get(place, ())]

    old, new = (to_seen(report(n, SOME | {"minute": n}), POLICY) for n in (0, 3))
    for seen in (old, new):
        seen.at = seen.received_at
        young.note(seen, [("a",), "event"])
    assert at(("a",), old.at) == [old, new]
    assert at("event", new.at) == [new]
    young.move(new, "event", "other")
    assert at("event", old.at) == [old]
    assert at("other", old.at) == [new]
    young.forget(new.at)
    assert at(("a",), old.at) == [new]
    # A person may move what is about to be forgotten.
    young.move(old, "event", "other")
