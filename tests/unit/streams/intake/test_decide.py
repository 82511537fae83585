"""Every raw record has exactly one outcome and stops nothing, whatever its bytes are."""

import struct
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.city import CityPack
from schemas.codec import Codec
from schemas.dead_letter import TooManyDeadLetters
from schemas.ids import report_id, undecodable_report_id
from schemas.settings import Settings
from schemas.topics import load_topics
from streams.batch import Output
from streams.intake.decide import TEXT_LIMIT, IntakeStep, Reason
from tests.unit.streams.batches import NOW, Record, batch, cut, raw_report, records, run
from tests.unit.tiny_city import EAST, WEST

TOPIC = "reports.raw.test"
UNHURRIED = settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture
def step(city: CityPack, codec: Codec) -> IntakeStep:
    return IntakeStep(city, codec, b"secret")


def decide(step: IntakeStep, codec: Codec, *raws: Record) -> tuple[list[Record], list[Record]]:
    """Outcomes and reports of raw reports in one batch."""
    values = [codec.encode("RawReport", raw) for raw in raws]
    outputs, _ = run(step, [batch(values)])
    return records(codec, outputs, "report.outcomes"), records(codec, outputs, "reports")


def test_a_good_report_is_accepted_with_class_place_and_instant(
    step: IntakeStep, codec: Codec
) -> None:
    (outcome,), (report,) = decide(step, codec, raw_report())
    assert (outcome["outcome"], outcome["reason"]) == ("accepted", "")
    assert outcome["report_id"] == report["report_id"] == report_id("test", "A1", 0)
    assert (report["class_code"], report["district_code"], report["zone"]) == ("0101", WEST, "core")
    # Nine in the morning of Warsaw's winter is eight of UTC.
    assert report["occurred_at"] == 1_772_697_600_000
    assert report["occurred_offset_min"] == 60
    assert (report["source_topic"], report["source_partition"]) == (TOPIC, 3)


@pytest.mark.parametrize(
    ("spoilt", "outcome", "reason"),
    [
        ({"native_id": None}, "rejected", Reason.MISSING_NATIVE_ID),
        ({"native_id": " \x00 "}, "rejected", Reason.MISSING_NATIVE_ID),
        ({"text": "水" * 1_700_000}, "rejected", Reason.TEXT_TOO_LONG),
        ({"title": None, "text": None}, "rejected", Reason.EMPTY),
        ({"title": "\x00", "text": "\u200b\n"}, "rejected", Reason.EMPTY),
        ({"defects": ["encoding:neither UTF-8 nor GB 18030"]}, "rejected", Reason.ENCODING),
        ({"defects": ["malformed:3 cells, 7 columns"]}, "rejected", Reason.MALFORMED),
        ({"occurred_at": "2026-02-30 09:00:00"}, "review", Reason.IMPOSSIBLE_DATE),
        ({"occurred_at": "1899-12-30"}, "review", Reason.IMPOSSIBLE_DATE),
        ({"occurred_at": "2226-03-05 09:00:00"}, "review", Reason.IMPOSSIBLE_DATE),
        ({"occurred_at": "昨天晚上" * 100}, "review", Reason.IMPOSSIBLE_DATE),
        ({"time_zone": "Nowhere/Atall"}, "review", Reason.IMPOSSIBLE_DATE),
        ({"lon": "0", "lat": "0"}, "review", Reason.NULL_ISLAND),
        ({"lon": "113.651", "lat": "34.746"}, "review", Reason.OUTSIDE_CITY),
        ({"crs": "LOCAL54"}, "review", Reason.UNKNOWN_CRS),
        ({"crs": None}, "review", Reason.UNKNOWN_CRS),
        ({"lon": "20.05", "lat": "50.05"}, "review", Reason.ROUNDED_POINT),
        ({"lon": "nan"}, "review", Reason.BAD_COORDINATE),
        ({"lon": None, "lat": None, "title": "积水", "text": ""}, "review", Reason.NO_LOCATION),
        (
            {"lon": None, "lat": None, "address": "磨坊街道和山口镇"},
            "review",
            Reason.AMBIGUOUS_PLACE,
        ),
        ({"title": "你好", "text": "谢谢"}, "review", Reason.CLASS_UNKNOWN),
    ],
)
def test_bad_input_ends_with_its_reason_beside_a_good_neighbour(
    step: IntakeStep, codec: Codec, spoilt: dict[str, Any], outcome: str, reason: Reason
) -> None:
    outcomes, reports = decide(
        step,
        codec,
        raw_report("before"),
        raw_report(**{"native_id": "bad"} | spoilt),
        raw_report("after"),
    )
    assert [o["outcome"] for o in outcomes] == ["accepted", outcome, "accepted"]
    assert outcomes[1]["reason"] == reason
    assert [r["native_id"] for r in reports] == ["before", "after"]


def test_a_revision_that_is_no_number_is_no_reason_to_lose_a_report(
    step: IntakeStep, codec: Codec
) -> None:
    (outcome,), _ = decide(step, codec, raw_report(defects=["revision:not_a_number"]))
    assert outcome["outcome"] == "accepted"


def test_nul_in_a_text_leaves_the_rest_of_it(step: IntakeStep, codec: Codec) -> None:
    _, (report,) = decide(step, codec, raw_report(text="积\x00水\u200b很深"))
    assert report["text"] == "积水很深"


def test_a_text_at_the_limit_is_taken(step: IntakeStep, codec: Codec) -> None:
    (outcome,), _ = decide(step, codec, raw_report(text="水" * TEXT_LIMIT))
    assert outcome["outcome"] == "accepted"


@pytest.mark.parametrize(
    "cells",
    [
        dict.fromkeys(("text", "address", "forwarded_from"), "\U00020000" * 99_000),
        {"text": "\ufdfa" * 99_000},  # NFKC makes 18 characters of each
        {"address": "水" * 1_000_000},
        {"media": ["https://photos/" + "x" * 1_000] * 2_000},
        {"lon": "20.0512" + "0" * 2_000_000},
        {"native_id": "9" * 2_000_000},
        {"channel": "c" * 2_000_000},
    ],
    ids=lambda cells: "+".join(cells),
)
def test_no_report_makes_a_record_that_its_topic_refuses(
    step: IntakeStep, codec: Codec, cells: dict[str, Any]
) -> None:
    # Such a batch could never be committed: the worker would fail on it for ever.
    takes = {spec.name: int(spec.config["max.message.bytes"]) for spec in load_topics(Settings())}
    raws = [raw_report(**{"native_id": "big"} | cells), raw_report("after")]
    outputs, _ = run(step, [batch([codec.encode("RawReport", raw) for raw in raws])])
    assert all(len(o.value or b"") < takes[o.topic] for o in outputs)
    outcomes = records(codec, outputs, "report.outcomes")
    assert [o["outcome"] for o in outcomes] == ["rejected", "accepted"]
    assert outcomes[0]["reason"] == Reason.TEXT_TOO_LONG
    assert [r["native_id"] for r in records(codec, outputs, "reports")] == ["after"]


def test_without_a_date_it_occurred_when_it_was_received(step: IntakeStep, codec: Codec) -> None:
    (outcome,), (report,) = decide(step, codec, raw_report(occurred_at=None))
    assert outcome["occurred_at"] is None
    assert report["occurred_at"] == NOW


@pytest.mark.parametrize("again", ["A1", " Ａ１ ", "A\x001"])
def test_the_same_id_again_is_a_duplicate_however_it_is_written(
    step: IntakeStep, codec: Codec, again: str
) -> None:
    outcomes, reports = decide(step, codec, raw_report("A1"), raw_report(again, text="other words"))
    assert [o["outcome"] for o in outcomes] == ["accepted", "duplicate"]
    assert outcomes[1]["reason"] == Reason.EXACT_DUPLICATE
    assert len(reports) == 1


def test_another_revision_or_channel_is_another_report(step: IntakeStep, codec: Codec) -> None:
    outcomes, _ = decide(
        step, codec, raw_report(), raw_report(revision=1), raw_report(channel="other")
    )
    assert [o["outcome"] for o in outcomes] == ["accepted"] * 3
    assert len({o["report_id"] for o in outcomes}) == 3


def test_the_repetition_of_a_refused_report_is_a_duplicate(step: IntakeStep, codec: Codec) -> None:
    outcomes, _ = decide(step, codec, raw_report(lon="0", lat="0"), raw_report(lon="0", lat="0"))
    assert [o["outcome"] for o in outcomes] == ["review", "duplicate"]


def test_whoever_reported_cannot_be_read_from_a_report(city: CityPack, codec: Codec) -> None:
    raws = [raw_report("a", reporter="13800000000"), raw_report("b", reporter="１３８0000 0000")]
    raws.append(raw_report("c", reporter="13800000001"))
    raws.append(raw_report("d", text="路灯不亮，电话138-0000-0000"))
    _, reports = decide(IntakeStep(city, codec, b"secret"), codec, *raws)
    hashes = [report["reporter_hash"] for report in reports]
    # One number is one reporter, however it is written and wherever it stands.
    assert hashes[0] == hashes[1] == hashes[3] != hashes[2]
    assert "1380000" not in str(reports)
    assert "138-0000" not in str(reports)
    _, other = decide(IntakeStep(city, codec, b"another"), codec, raws[0])
    assert other[0]["reporter_hash"] != hashes[0]


GOOD_FRAME = "good"


def damaged(codec: Codec) -> dict[str, bytes | None]:
    """Values that are no raw report, by the code that they must get."""
    good = codec.encode("RawReport", raw_report())
    event = struct.pack(">bI", 0, 0)[:1] + codec.encode("Link", LINK)[1:]
    return {
        "null_value": None,
        "bad_magic": b"\x07" + good[1:],
        "unknown_schema": good[:1] + b"\x7f\xff\xff\xff" + good[5:],
        "truncated": good[:-9],
        "trailing_bytes": good + b"\x00",
        "wrong_record": event,
    }


LINK: Record = {
    "link_id": "l", "report_id": "r", "event_id": "e", "relation": "opened", "score": 1.0,
    "reason": "", "rule_version": "", "channel": "", "class_code": "", "district_code": "",
    "occurred_at": 0, "received_at": 0, "decided_at": 0,
}  # fmt: skip
CODES = ("null_value", "bad_magic", "unknown_schema", "truncated", "trailing_bytes", "wrong_record")


@pytest.mark.parametrize("code", CODES)
def test_bytes_that_are_no_report_go_untouched_to_the_dead_letters_with_their_reason(
    step: IntakeStep, codec: Codec, code: str
) -> None:
    bad, good = damaged(codec)[code], codec.encode("RawReport", raw_report())
    outputs, _ = run(step, [batch([bad, good])])
    letters = [o for o in outputs if o.topic.endswith(".dlq")]
    assert [(o.key, o.value) for o in letters] == [(b"k0", bad)]
    headers = dict(letters[0].headers or [])
    assert headers["__connect.errors.exception.class.name"] == code.encode()
    assert headers["__connect.errors.offset"] == b"0"
    assert headers["__connect.errors.topic"] == TOPIC.encode()
    found = {o["report_id"]: o for o in records(codec, outputs, "report.outcomes")}
    rejected = found[undecodable_report_id(TOPIC, 3, 0)]
    assert (rejected["outcome"], rejected["reason"]) == ("rejected", Reason.UNDECODABLE)
    assert rejected["detail"].startswith(f"{code}: ")
    assert (rejected["channel"], rejected["received_at"]) == ("test", NOW - 1000)
    assert found[report_id("test", "A1", 0)]["outcome"] == "accepted"


def test_nothing_but_damage_for_thousands_of_records_stops_the_worker(step: IntakeStep) -> None:
    state = step.restore(TOPIC, 0, {})
    with pytest.raises(TooManyDeadLetters):
        step.decide(state, batch([b"\x07"] * 5000), NOW)


@st.composite
def mixtures(draw: st.DrawFn) -> list[tuple[str, Any]]:
    """Random mixes of good reports, spoilt ones, repetitions and damage."""
    spoilt: list[dict[str, Any]] = [
        {}, {"lon": "0", "lat": "0"}, {"lon": "NaN"}, {"crs": "X"}, {"title": "", "text": "\x00"},
        {"occurred_at": "2026-02-30"}, {"lon": None, "lat": None, "district": "东湾区"},
        {"defects": ["malformed:x"]}, {"native_id": None},
    ]  # fmt: skip
    report = st.tuples(
        st.just("report"),
        st.builds(
            lambda number, fields: {"native_id": f"N{number}"} | fields,
            st.integers(0, 6),
            st.sampled_from(spoilt),
        ),
    )
    damage = st.tuples(st.just("damage"), st.sampled_from(CODES))
    noise = st.tuples(st.just("bytes"), st.binary(max_size=40))
    return draw(st.lists(st.one_of(report, damage, noise), min_size=1, max_size=14))


def frame(codec: Codec, mixture: list[tuple[str, Any]]) -> list[bytes | None]:
    bad = damaged(codec)
    return [
        codec.encode("RawReport", raw_report(**content))
        if kind == "report"
        else (bad[content] if kind == "damage" else content)
        for kind, content in mixture
    ]


def sources(found: list[Record]) -> list[int]:
    return sorted(outcome["source_offset"] for outcome in found)


@UNHURRIED
@given(mixture=mixtures())
def test_every_record_has_exactly_one_outcome(
    city: CityPack, codec: Codec, mixture: list[tuple[str, Any]]
) -> None:
    values = frame(codec, mixture)
    outputs, _ = run(IntakeStep(city, codec, b""), [batch(values)])
    outcomes = records(codec, outputs, "report.outcomes")
    assert sources(outcomes) == [2 * i for i in range(len(values))]
    # Each rejection has a reason; a report for each acceptance, a letter for each undecodable value.
    assert all(bool(o["reason"]) == (o["outcome"] != "accepted") for o in outcomes)
    accepted = [o["report_id"] for o in outcomes if o["outcome"] == "accepted"]
    assert sorted(accepted) == sorted(r["report_id"] for r in records(codec, outputs, "reports"))
    undecodable = sum(o["reason"] == Reason.UNDECODABLE for o in outcomes)
    assert undecodable == sum(o.topic.endswith(".dlq") for o in outputs)


@UNHURRIED
@given(mixture=mixtures(), cuts=st.lists(st.integers(1, 13)), restart=st.booleans())
def test_neither_batch_borders_nor_restarts_change_what_is_decided(
    city: CityPack, codec: Codec, mixture: list[tuple[str, Any]], cuts: list[int], restart: bool
) -> None:
    values = frame(codec, mixture)
    whole, _ = run(IntakeStep(city, codec, b""), cut(values, [], TOPIC))
    parts, _ = run(IntakeStep(city, codec, b""), cut(values, cuts, TOPIC), restart=restart)
    assert sorted(parts, key=repr) == sorted(whole, key=repr)
    # Accepted reports keep their order, which merge relies on.
    assert [o for o in parts if o.topic == "reports"] == [o for o in whole if o.topic == "reports"]


def test_reports_are_keyed_by_zone_so_that_one_matter_meets_in_one_partition(
    step: IntakeStep, codec: Codec
) -> None:
    raws = [raw_report("a"), raw_report("b", lon="20.1512"), raw_report("c", lat="50.1512")]
    outputs, _ = run(step, [batch([codec.encode("RawReport", raw) for raw in raws])])
    keys: list[Output] = [output for output in outputs if output.topic == "reports"]
    assert [output.key for output in keys] == [b"core", b"core", b"990104"]
    assert records(codec, outputs, "reports")[1]["district_code"] == EAST
