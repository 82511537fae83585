"""One event per matter, one link per report, whatever the batches; doubt opens a new event."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from schemas.city import CityPack
from schemas.codec import Codec
from schemas.grids import METRES_PER_DEGREE
from schemas.ids import event_id
from schemas.merge_policy import Alarm, MergePolicy, Rule
from streams.batch import Output
from streams.merge.decide import DEVICE, DIARY, MergeStep
from streams.merge.likeness import character_pairs, jaccard, metres
from streams.merge.place import HOUR_MS, LATE_MS
from streams.merge.state import REPORTERS_KEPT, OpenEvent, event_of, to_json
from tests.unit.streams.batches import NOW, Record, batch, cut, records, run
from tests.unit.tiny_city import IN_WEST, WEST

TOPIC = "reports"


@pytest.fixture
def step(city: CityPack, codec: Codec) -> MergeStep:
    return MergeStep(city, codec)


def report(name: str, north_m: float = 0.0, hours: float = 0.0, **fields: Any) -> Record:
    """A report ``north_m`` metres and ``hours`` away from the first."""
    at = NOW + round(hours * HOUR_MS)
    return {
        "report_id": name,
        "channel": "test",
        "native_id": name,
        "occurred_at": at,
        "received_at": at,
        "title": "路面积水",
        "text": "磨坊边路面积水很深",
        "class_code": "0101",
        "lon": IN_WEST[0],
        "lat": IN_WEST[1] + north_m / METRES_PER_DEGREE,
        "district_code": WEST,
        "grid_code": WEST,
        "zone": "core",
        "source_topic": "reports.raw.test",
        "source_partition": 0,
        "source_offset": 0,
    } | fields


def links(step: MergeStep, codec: Codec, *reports: Record) -> list[Record]:
    """The links of reports in one batch."""
    values = [codec.encode("Report", each) for each in reports]
    return records(codec, run(step, [batch(values, TOPIC)])[0], "event.links")


def events_of(stored: dict[bytes, bytes]) -> list[OpenEvent]:
    """The events in the state topic, which holds young reports and devices too."""
    return [event_of(value) for key, value in stored.items() if not key.startswith((DIARY, DEVICE))]


def one_event(step: MergeStep, codec: Codec, *reports: Record) -> bool:
    return len({link["event_id"] for link in links(step, codec, *reports)}) == 1


def test_the_first_report_of_a_matter_opens_its_event(step: MergeStep, codec: Codec) -> None:
    (link,) = links(step, codec, report("r1"))
    assert (link["relation"], link["event_id"]) == ("opened", event_id("r1"))


def test_a_second_report_near_in_place_time_and_words_joins_and_says_why(
    step: MergeStep, codec: Codec
) -> None:
    _, link = links(step, codec, report("r1"), report("r2", 20.0, 1.0))
    assert (link["relation"], link["event_id"]) == ("co_report", event_id("r1"))
    assert link["reason"] == "20 m, 1.0 h, words alike 1.00"
    assert link["score"] == pytest.approx(0.6 * 0.8 + 0.15 * (1 - 1 / 24) + 0.25)


@pytest.mark.parametrize(
    ("other", "joins"),
    [
        (report("r2", 99.0), True),
        (report("r2", 101.0), False),
        (report("r2", hours=23.9), True),
        (report("r2", hours=24.1), False),
        (report("r2", hours=-23.9), True),
        (report("r2", hours=-24.1), False),
        (report("r2", class_code="0102"), False),
        (report("r2", zone="990104"), False),
        (report("r2", 90.0, title="abc", text="xyz"), False),
    ],
    ids=["near", "too far", "soon", "too late", "before", "too early", "class", "zone", "words"],
)
def test_what_lies_beyond_the_packs_radius_hours_class_or_zone_is_another_matter(
    step: MergeStep, codec: Codec, other: Record, joins: bool
) -> None:
    assert one_event(step, codec, report("r1"), other) is joins


def test_a_class_has_its_own_radius_from_the_pack(step: MergeStep, codec: Codec) -> None:
    far = report("r2", 250.0, class_code="0201")
    assert one_event(step, codec, report("r1", class_code="0201"), far)


def nameless(name: str, text: str, grid: str = WEST) -> Record:
    return report(name, lon=None, lat=None, grid_code=grid, title="积水", text=text)


def test_without_a_point_only_the_same_place_in_nearly_the_same_words_joins(
    step: MergeStep, codec: Codec
) -> None:
    first = nameless("r1", "磨坊街道12号门口积水")
    assert one_event(step, codec, first, nameless("r2", "磨坊街道12号门口积水了"))
    assert not one_event(step, codec, first, nameless("r2", "西山区中学操场被淹请尽快抽水"))
    assert not one_event(step, codec, first, nameless("r2", "磨坊街道12号门口积水", "990103001"))


def test_a_report_without_a_point_never_joins_one_that_has_it(
    step: MergeStep, codec: Codec
) -> None:
    plain = report("r2", lon=None, lat=None)
    assert not one_event(step, codec, report("r1"), plain)


def test_the_same_reporter_again_urges_and_raises_the_priority(
    step: MergeStep, codec: Codec
) -> None:
    reports = [report(f"r{i}", reporter_hash=who) for i, who in enumerate(["h", "h", "g", ""])]
    outputs, _ = run(step, [batch([codec.encode("Report", r) for r in reports], TOPIC)])
    relations = [link["relation"] for link in records(codec, outputs, "event.links")]
    assert relations == ["opened", "urge", "co_report", "co_report"]
    (event,) = records(codec, outputs, "events")
    assert (event["priority"], event["report_count"], event["version"]) == (1, 4, 4)


def test_a_matter_the_whole_city_reports_keeps_its_state_bounded(
    step: MergeStep, codec: Codec
) -> None:
    reports = [report(f"r{i}", reporter_hash=f"h{i}") for i in range(REPORTERS_KEPT + 30)]
    _, stored = run(step, [batch([codec.encode("Report", r) for r in reports], TOPIC)])
    (event,) = events_of(stored)
    assert (event.count, len(event.reporters)) == (REPORTERS_KEPT + 30, REPORTERS_KEPT)


def test_an_event_that_nothing_can_join_any_more_is_kept_for_people_while_there_is_room(
    step: MergeStep, codec: Codec, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = 24 + LATE_MS / HOUR_MS + 1
    values = [codec.encode("Report", r) for r in (report("r1"), report("r2", 50_000, late))]
    _, stored = run(step, cut(values, [1], TOPIC))
    again = step.restore(TOPIC, 3, stored)
    report_later = report("r3", 50_000, late + 1)
    step.decide(again, batch([codec.encode("Report", report_later)], TOPIC, 9), NOW)
    assert event_id("r1") not in again.events
    assert event_id("r1") in again.archive

    monkeypatch.setattr("streams.merge.place.ARCHIVE_KEPT", 0)
    again = step.restore(TOPIC, 3, stored)
    decision = step.decide(again, batch([codec.encode("Report", report_later)], TOPIC, 9), NOW)
    assert (event_id("r1").encode(), None) in decision.changes


@pytest.mark.parametrize("cuts", [[], [1], [2], [1, 2]])
def test_a_very_late_report_opens_a_new_event_wherever_batches_are_cut(
    city: CityPack, codec: Codec, cuts: list[int]
) -> None:
    late = 24 + LATE_MS / HOUR_MS + 1
    reports = [
        report("r1"),
        report("r2", 50_000, late),
        report("r3", received_at=NOW + round(late * HOUR_MS)),
    ]
    values = [codec.encode("Report", r) for r in reports]
    found = records(codec, run(MergeStep(city, codec), cut(values, cuts, TOPIC))[0], "event.links")
    assert [link["relation"] for link in found] == ["opened"] * 3


def test_damaged_reports_go_to_the_dead_letters_and_stop_nothing(
    step: MergeStep, codec: Codec
) -> None:
    good = codec.encode("Report", report("r1"))
    bad = [None, b"", b"\x07" + good[1:], good[:-3], good + b"!", b"\x00\x7f\xff\xff\xff"]
    outputs, _ = run(step, [batch([*bad, good], TOPIC)])
    letters = [o for o in outputs if o.topic == "reports.dlq"]
    assert [o.value for o in letters] == bad
    codes = [dict(o.headers or [])["__connect.errors.exception.class.name"] for o in letters]
    assert codes == [
        b"null_value", b"bad_magic", b"bad_magic", b"truncated", b"trailing_bytes",
        b"unknown_schema",
    ]  # fmt: skip
    assert len(records(codec, outputs, "event.links")) == 1


def newest(events: Sequence[Record]) -> dict[str, Record]:
    """The newest version of each event, as the tables keep it."""
    found: dict[str, Record] = {}
    for event in events:
        assert event["version"] > found.get(event["event_id"], {"version": 0})["version"]
        found[event["event_id"]] = event
    return found


REPORTS = st.lists(
    st.tuples(
        st.sampled_from([0.0, 30.0, 70.0, 99.0, 130.0, 5_000.0]),
        st.sampled_from([0.0, 2.0, 20.0, 26.0, 60.0, 73.0, 100.0]),
        st.sampled_from([0.0, 1.0, 30.0, 74.0]),
        st.sampled_from(["0101", "0201"]),
        st.sampled_from(["", "h1", "h2"]),
        st.booleans(),
    ),
    min_size=1,
    max_size=12,
)
Drawn = list[tuple[float, float, float, str, str, bool]]


@settings(
    deadline=None, max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(drawn=REPORTS, cuts=st.lists(st.integers(1, 11)), restart=st.booleans())
@example(
    drawn=[
        (0.0, 0.0, 0.0, "0101", "", True),
        (5_000.0, 100.0, 0.0, "0101", "", True),
        (0.0, 0.0, 100.0, "0101", "", True),
    ],
    cuts=[2],
    restart=True,
)
def test_neither_batch_borders_nor_restarts_change_links_and_events(
    city: CityPack, codec: Codec, drawn: Drawn, cuts: list[int], restart: bool
) -> None:
    values = []
    for number, (north, hours, delay, class_code, reporter, pointed) in enumerate(drawn):
        fields: Record = {"class_code": class_code, "reporter_hash": reporter}
        fields["received_at"] = NOW + round((hours + delay) * HOUR_MS)
        if not pointed:
            fields |= {"lon": None, "lat": None}
        values.append(codec.encode("Report", report(f"r{number}", north, hours, **fields)))
    whole, _ = run(MergeStep(city, codec), cut(values, [], TOPIC))
    parts, _ = run(MergeStep(city, codec), cut(values, cuts, TOPIC), restart=restart)

    def told(outputs: list[Output]) -> dict[str, str]:
        """Each report's event: a later link takes the place of an earlier one."""
        links = records(codec, outputs, "event.links")
        return {link["report_id"]: link["event_id"] for link in links}

    assert told(parts) == told(whole)
    assert len(told(whole)) == len(values)
    left, right = (
        {identity: event["report_count"] for identity, event in newest(each).items()}
        for each in (records(codec, parts, "events"), records(codec, whole, "events"))
    )
    assert {k: n for k, n in left.items() if n} == {k: n for k, n in right.items() if n}


def test_an_open_event_survives_the_state_topic(step: MergeStep, codec: Codec) -> None:
    odd = report("r1", title='"引号"\n', lon=20.1 + 1e-15)
    _, stored = run(step, [batch([codec.encode("Report", odd)], TOPIC)])
    (event,) = events_of(stored)
    assert to_json(event) == stored[event.id.encode()]
    assert event.lon == 20.1 + 1e-15


def test_entries_written_before_their_last_fields_existed_are_read(
    step: MergeStep, codec: Codec
) -> None:
    first, second = (codec.encode("Report", report(name, text="磨坊")) for name in ("r1", "r2"))
    _, stored = run(step, [batch([first], TOPIC)])
    for key, value in stored.items():
        # Without what was added since: an event's incident, and the rank of both, which is made again.
        if key.startswith(DIARY):
            stored[key] = to_json([values[:-1] for values in json.loads(value)])
        elif not key.startswith(DEVICE):
            stored[key] = to_json(json.loads(value)[:-2])
    restored = step.restore("topic", 3, stored)
    outputs = step.decide(restored, batch([second], TOPIC, 1), NOW).outputs
    (link,) = records(codec, outputs, "event.links")
    assert link["relation"] == "co_report"


@given(st.text(max_size=30), st.text(max_size=30))
def test_likeness_is_symmetric_and_between_none_and_all(one: str, other: str) -> None:
    a, b = character_pairs(one), character_pairs(other)
    assert 0.0 <= jaccard(a, b) == jaccard(b, a) <= 1.0
    assert jaccard(a, a) == (1.0 if a else 0.0)


def test_metres_are_metres() -> None:
    assert metres(20.0, 60.0, 20.0, 60.001) == pytest.approx(111.32, abs=0.01)
    assert metres(20.0, 60.0, 20.001, 60.0) == pytest.approx(55.66, abs=0.01)


def test_a_report_with_an_address_alone_joins_the_event_of_a_point_at_that_address(
    step: MergeStep, codec: Codec
) -> None:
    there: Record = {"address": "磨坊边12号"}
    elsewhere: Record = {"address": "磨坊边14号"}
    pointless: Record = {"lon": None, "lat": None, "text": "水没过膝盖,没人管"}
    first, same, other = links(
        step,
        codec,
        report("a", **there),
        report("b", hours=0.5, **there, **pointless),
        report("c", hours=0.6, **elsewhere, **pointless),
    )
    assert same["event_id"] == first["event_id"]
    assert same["reason"].startswith("same address")
    assert other["relation"] == "opened"


def test_two_points_count_for_more_than_one_house_number(step: MergeStep, codec: Codec) -> None:
    radius = step._placer.rule("0101").radius_m
    house: Record = {"address": "磨坊边12号"}
    # A spot is tapped beside its house; a namesake of the street lies elsewhere.
    assert one_event(step, codec, report("a", **house), report("b", radius + 50.0, **house))
    assert not one_event(step, codec, report("a", **house), report("b", radius + 150.0, **house))


MILL: Record = {"address": "磨坊那边门口", "grid_code": "990103001"}
HOUSE: Record = {"address": "磨坊边12号", "grid_code": "990103001"}
NOWHERE: Record = {"lon": None, "lat": None}


@pytest.mark.parametrize("first", [MILL, HOUSE])
def test_an_event_learns_the_house_or_the_name_that_a_report_near_it_tells(
    step: MergeStep, codec: Codec, first: Record
) -> None:
    second = HOUSE if first is MILL else MILL
    opened, _, third, fourth = found = links(
        step,
        codec,
        report("a", **first),
        report("b", 30.0, **second),
        report("c", hours=0.1, **second, **NOWHERE, text="水没过膝盖,没人管"),
        report("d", hours=0.2, **first, **NOWHERE, text="一直没有人来抽水"),
    )
    assert {link["event_id"] for link in found} == {opened["event_id"]}
    assert (third["reason"] + fourth["reason"]).count("same name of the place") == 1


def test_an_event_without_a_point_learns_the_first_that_is_told_at_its_house(
    step: MergeStep, codec: Codec
) -> None:
    reports = [
        report("a", **HOUSE, **NOWHERE),
        report("b", **HOUSE),
        report("c", 20.0, address="对面", text="水没过膝盖,没人管"),
    ]
    assert one_event(step, codec, *reports)
    assert not one_event(step, codec, *reports, report("d", 1_000.0))


def test_a_name_of_several_places_joins_none_of_them(step: MergeStep, codec: Codec) -> None:
    *_, last = links(
        step, codec, report("a", **MILL), report("b", 900.0, **MILL), report("c", **MILL, **NOWHERE)
    )
    assert (last["relation"], last["reason"]) == ("opened", "several places have this name")
    assert last["candidate"]


@pytest.mark.parametrize("away", [300.0, 900.0])
def test_a_pin_beside_the_place_does_not_make_its_name_one_of_two(
    step: MergeStep, codec: Codec, away: float
) -> None:
    known, named, pin, told = links(
        step,
        codec,
        report("a", **HOUSE),
        report("b", 20.0, **MILL),
        report("c", away, **MILL),
        report("d", **MILL, **NOWHERE, text="一直没有人来抽水"),
    )
    assert known["event_id"] == named["event_id"] == told["event_id"] != pin["event_id"]


def test_an_event_does_not_grow_along_a_street(step: MergeStep, codec: Codec) -> None:
    houses = [report(f"r{n}", 60.0 * n, address=f"磨坊边{n}号") for n in range(12)]
    events = {link["report_id"]: link["event_id"] for link in links(step, codec, *houses)}
    spots: dict[str, list[float]] = {}
    for each in houses:
        spots.setdefault(events[each["report_id"]], []).append(each["lat"] * METRES_PER_DEGREE)
    radius = step._placer.rule("0101").radius_m
    assert all(max(places) - min(places) <= 2 * radius for places in spots.values())


def test_a_report_is_looked_for_under_the_class_that_its_words_name(
    step: MergeStep, codec: Codec
) -> None:
    lamp: Record = {"class_method": "native", "class_code": "0201"}
    assert one_event(step, codec, report("a"), report("b", 10.0, **lamp))
    assert one_event(step, codec, report("a", **lamp), report("b", 10.0))
    dark: Record = {"title": "路灯不亮", "text": "路灯不亮"}
    assert not one_event(step, codec, report("a"), report("b", 10.0, **lamp, **dark))
    # What a model found in the words it found in the words.
    assert not one_event(
        step, codec, report("a"), report("b", 10.0, **lamp | {"class_method": "keyword"})
    )


def test_objects_of_one_sortie_are_apart_and_frames_of_one_object_together(
    step: MergeStep, codec: Codec
) -> None:
    first, again, other = links(
        step,
        codec,
        report("a", device="F1"),
        report("b", 5.0, device="F1"),
        report("c", 900.0, device="F1"),
    )
    assert first["event_id"] == again["event_id"] != other["event_id"]


@pytest.mark.parametrize("names", [("a", "b"), ("b", "a")])
def test_in_one_message_an_alarm_comes_before_its_end_whatever_their_ids(
    step: MergeStep, codec: Codec, names: tuple[str, str]
) -> None:
    began, ended = names
    alarm = report(began, device="d1", alarm_state="open", occurred_at=NOW - 60_000)
    over = report(ended, device="d1", alarm_state="cleared")
    values = [codec.encode("Report", each) for each in (over, alarm)]
    outputs, _ = run(step, [batch(values, TOPIC)])
    found = {link["report_id"]: link["event_id"] for link in records(codec, outputs, "event.links")}
    assert found[began] == found[ended] == event_id(began)
    (event,) = records(codec, outputs, "events")
    assert (event["report_count"], event["cleared_at"]) == (2, NOW)


def alarm(name: str, device: str, minutes: float, state: str = "open", **fields: Any) -> Record:
    return report(name, hours=minutes / 60.0, device=device, alarm_state=state, **fields)


def test_devices_apart_tell_of_two_matters_where_people_would_tell_of_one(
    step: MergeStep, codec: Codec
) -> None:
    near: Record = {"lat": IN_WEST[1] + 20.0 / METRES_PER_DEGREE}
    far: Record = {"lat": IN_WEST[1] + 70.0 / METRES_PER_DEGREE}
    assert one_event(step, codec, alarm("a", "d1", 0.0), alarm("b", "d2", 1.0, **near))
    assert not one_event(step, codec, alarm("a", "d1", 0.0), alarm("b", "d2", 1.0, **far))
    assert one_event(step, codec, report("a"), report("b", 70.0))
    assert one_event(step, codec, report("a"), alarm("b", "d2", 1.0, **far))


def test_a_state_that_comes_back_at_once_was_not_over_but_later_it_is_raised_anew(
    step: MergeStep, codec: Codec
) -> None:
    up, over = alarm("a", "d1", 0.0), alarm("b", "d1", 10.0, "cleared")
    gap = step._placer.rule("0101").alarm.minutes
    assert one_event(step, codec, up, over, alarm("c", "d1", 10.0 + gap / 2))
    assert not one_event(step, codec, up, over, alarm("c", "d1", 11.0 + gap))
    # What people opened goes on whatever the device says.
    told = report("0")
    assert one_event(step, codec, told, up, over, alarm("c", "d1", 11.0 + gap))


def test_two_houses_far_apart_are_two_matters_though_the_class_reaches_farther(
    step: MergeStep, codec: Codec
) -> None:
    lamp: Record = {"class_code": "0201"}
    assert step._placer.rule("0201").radius_m == 300
    one = report("a", **lamp, address="磨坊边12号")
    assert not one_event(step, codec, one, report("b", 200.0, **lamp, address="磨坊边14号"))
    assert one_event(step, codec, one, report("b", 100.0, **lamp, address="磨坊边14号"))
    assert one_event(step, codec, one, report("b", 200.0, **lamp))


def test_a_house_under_its_whole_address_has_no_namesake(step: MergeStep, codec: Codec) -> None:
    whole: Record = {"address": "西山区磨坊边12号"}
    assert one_event(step, codec, report("a", **whole), report("b", 3_000.0, **whole))
    short: Record = {"address": "磨坊边12号"}
    assert not one_event(step, codec, report("a", **short), report("b", 3_000.0, **short))


def test_what_is_handed_over_from_nowhere_goes_to_the_event_at_its_own_place(
    step: MergeStep, codec: Codec
) -> None:
    vague, known, _, late = links(
        step,
        codec,
        report("a", **MILL, **NOWHERE),
        report("b", **HOUSE),
        report("c", 30.0, **MILL),
        report("d", 10.0, **HOUSE, forwarded_from="test/a"),
    )
    assert vague["event_id"] != known["event_id"] == late["event_id"]


@pytest.mark.parametrize(
    ("look", "fields", "joins"),
    [
        ("00ff00ff00ff00fe", {}, True),
        ("00ff00ff00ff0000", {}, False),
        ("00ff00ff00ff00fe", {"class_code": "0201"}, False),
        ("00ff00ff00ff00fe", {"lat": IN_WEST[1] + 600 / METRES_PER_DEGREE}, False),
    ],
    ids=["one bit", "another picture", "another class", "far away"],
)
def test_a_photo_that_looks_the_same_joins_where_class_and_place_do_not_deny_it(
    step: MergeStep, codec: Codec, look: str, fields: Record, joins: bool
) -> None:
    first = report("r1", media=["sha256:" + "0" * 64 + " phash:00ff00ff00ff00ff"])
    media = ["sha256:" + "1" * 64 + f" phash:{look}"]
    second = report("r2", 400.0, title="abc", text="xyz", media=media, **fields)
    _, link = links(step, codec, first, second)
    assert (link["event_id"] == event_id("r1")) is joins
    assert not joins or link["reason"] == "a photo that looks the same"


COMPOUND = "990102001001001"


def told_there(name: str, address: str, north_m: float | None = None, **fields: Any) -> Record:
    """A person's report from a compound, with a pin or without one, in words of its own."""
    point = {} if north_m is not None else {"lon": None, "lat": None}
    words = {"title": name, "text": f"{name} {address}"}
    said = {"grid_code": COMPOUND, "address": address} | words | point | fields
    return report(name, north_m or 0.0, **said)


NUMBERED, CALLED = "磨坊小区12号", "老磨坊对面"


@pytest.mark.parametrize(
    ("one", "other", "joins"),
    [
        (told_there("a", NUMBERED), told_there("b", CALLED, 0.0), True),
        (told_there("a", CALLED, 0.0), told_there("b", NUMBERED), True),
        (told_there("a", NUMBERED, 0.0), told_there("b", CALLED, 95.0), True),
        (told_there("a", NUMBERED), told_there("b", "磨坊小区14号", 0.0), False),
        (told_there("a", NUMBERED, 0.0), told_there("b", CALLED, 105.0), False),
        (told_there("a", NUMBERED), told_there("b", CALLED, 0.0, class_code="0102"), False),
        (told_there("a", NUMBERED), told_there("b", CALLED, 0.0, grid_code="990102001001002"), False),
        (told_there("a", NUMBERED), told_there("b", CALLED, 0.0, grid_code="990102001001"), False),
        (told_there("a", NUMBERED), told_there("b", CALLED), False),
        (told_there("a", "", 0.0), told_there("b", "", 95.0), False),
    ],
    ids=[
        "pin after house", "house after pin", "pin beside it", "another house", "pin away", "another class",
        "another compound", "only the community", "neither has a pin", "neither names a place",
    ],
)  # fmt: skip
def test_who_names_a_compound_joins_the_one_event_there(
    step: MergeStep, codec: Codec, one: Record, other: Record, joins: bool
) -> None:
    assert one_event(step, codec, one, other) is joins


def test_of_several_events_in_a_compound_none_is_guessed(step: MergeStep, codec: Codec) -> None:
    houses = told_there("a", NUMBERED, 0.0), told_there("b", "磨坊小区14号", 200.0)
    *_, link = links(step, codec, *houses, told_there("c", CALLED))
    assert link["relation"] == "opened"
    assert link["reason"] == "several events in this compound"
    assert link["candidate"] in {event_id("a"), event_id("b")}


@pytest.mark.parametrize(
    ("kind", "last", "joins"),
    [
        ("lasting", "open", True),
        ("lasting", "cleared", True),
        ("event", "open", False),
        ("event", "cleared", False),
    ],
)
def test_a_fire_goes_on_while_its_sensor_speaks_or_flaps_and_what_happens_again_is_another(
    city: CityPack, codec: Codec, kind: Any, last: str, joins: bool
) -> None:
    policy = MergePolicy(default=Rule(alarm=Alarm(kind=kind, minutes=2)))
    step = MergeStep(city, codec, policy)
    first = alarm("a", "d1", 0.0), alarm("b", "d1", 1.9, last), alarm("c", "d1", 3.8)
    assert one_event(step, codec, *first) is joins
    silent = alarm("d", "d1", 6.0)
    assert len({link["event_id"] for link in links(step, codec, *first, silent)}) > 1
    # What another device sees later is not swallowed.
    assert not one_event(step, codec, alarm("a", "d1", 0.0), alarm("e", "d2", 2.1))
