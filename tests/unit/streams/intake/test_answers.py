"""What a person says of a report that went to review: done once, or refused with what to do."""

from typing import Any

import pytest

from schemas.city import CityPack
from schemas.codec import Codec
from schemas.ids import report_id
from streams.intake.decide import ANSWERS, IntakeStep
from tests.unit.streams.batches import NOW, Record, batch, raw_report, records, run
from tests.unit.tiny_city import EAST, WEST

#: No word of the taxonomy, no place.
LOST = raw_report("L1", title="你好", text="请看一下", lon=None, lat=None)


@pytest.fixture
def step(city: CityPack, codec: Codec) -> IntakeStep:
    return IntakeStep(city, codec, b"secret")


def answer(codec: Codec, of: Record = LOST, **fields: Any) -> bytes:
    return codec.encode(
        "ReviewAnswer",
        {
            "action_id": "a1",
            "report_id": report_id("test", of["native_id"], 0),
            "action": "accept",
            "class_code": "0101",
            "grid_code": WEST,
            "actor": "p7",
            "role": "centre",
            "at": NOW,
            "raw": codec.encode("RawReport", of),
            "source_topic": "reports.raw.test",
            "source_partition": 1,
            "source_offset": 77,
            "source_timestamp": NOW,
        }
        | fields,
    )


def say(step: IntakeStep, codec: Codec, *answers: bytes) -> tuple[list[Record], list[Record]]:
    """Outcomes of the answers, and the reports that they made."""
    outputs, _ = run(
        step, [batch([each], ANSWERS, n) for n, each in enumerate(answers)], restart=True
    )
    return records(codec, outputs, "action.outcomes"), records(codec, outputs, "reports")


def test_what_a_person_classed_and_placed_becomes_the_report(
    step: IntakeStep, codec: Codec
) -> None:
    (outcome,), (report,) = say(step, codec, answer(codec))
    assert (outcome["outcome"], outcome["kind"], outcome["other"]) == ("applied", "review", "0101")
    assert report["report_id"] == outcome["target"]
    assert (report["class_code"], report["class_method"]) == ("0101", "person")
    assert (report["district_code"], report["locate_method"]) == (WEST, "person")
    assert (report["source_topic"], report["source_offset"]) == ("reports.raw.test", 77)


def test_what_the_person_does_not_say_the_rules_find(step: IntakeStep, codec: Codec) -> None:
    raw = raw_report("L2", title="你好", text="请看一下")
    _, (report,) = say(step, codec, answer(codec, raw, grid_code=""))
    assert (report["locate_method"], report["district_code"]) == ("point", WEST)
    placed = raw_report("L3", lon=None, lat=None, address="")
    _, (report,) = say(step, codec, answer(codec, placed, class_code="", grid_code=EAST))
    assert (report["class_method"], report["district_code"]) == ("keyword", EAST)


def test_a_point_that_a_person_sets_counts_as_it_is(step: IntakeStep, codec: Codec) -> None:
    _, (report,) = say(step, codec, answer(codec, grid_code="", lon=20.05123, lat=50.05123))
    assert (report["lon"], report["lat"]) == (20.05123, 50.05123)
    assert report["locate_method"] == "person"


def test_a_report_is_answered_once_even_over_a_restart(step: IntakeStep, codec: Codec) -> None:
    outcomes, reports = say(
        step, codec, answer(codec), answer(codec, action_id="a2", action="reject")
    )
    assert [o["reason"] for o in outcomes] == ["", "already_done"]
    assert len(reports) == 1


def test_a_rejected_report_makes_none(step: IntakeStep, codec: Codec) -> None:
    outcomes, reports = say(step, codec, answer(codec, action="reject"))
    assert [(o["action"], o["outcome"]) for o in outcomes] == [("reject", "applied")]
    assert reports == []


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"action": "shrug"}, "unknown_action"),
        ({"class_code": "9999"}, "unknown_class"),
        ({"class_code": ""}, "unknown_class"),
        ({"grid_code": "999999"}, "unknown_grid"),
        ({"grid_code": "x"}, "unknown_grid"),
        ({"grid_code": ""}, "no_location"),
        ({"grid_code": "", "lon": 0.0, "lat": 0.0}, "null_island"),
        ({"grid_code": "", "lon": 113.65123, "lat": 34.74612}, "outside_city"),
        ({"grid_code": "", "lon": float("nan"), "lat": 50.0}, "bad_coordinate"),
        ({"report_id": "another"}, "other_report"),
        ({"raw": b""}, "other_report"),
        ({"raw": b"\x00\x00\x00\x00\x63rubbish"}, "other_report"),
    ],
)
def test_an_answer_that_cannot_be_done_says_what_to_do_and_may_be_given_again(
    step: IntakeStep, codec: Codec, fields: Record, reason: str
) -> None:
    outcomes, reports = say(step, codec, answer(codec, **fields), answer(codec))
    assert [o["reason"] for o in outcomes] == [reason, ""]
    assert outcomes[0]["detail"]
    assert len(reports) == 1


def test_what_is_no_answer_goes_to_the_dead_letters(step: IntakeStep, codec: Codec) -> None:
    outputs, _ = run(step, [batch([b"rubbish", answer(codec)], ANSWERS)])
    assert [o.value for o in outputs if o.topic == "review.answers.dlq"] == [b"rubbish"]
    assert len(records(codec, outputs, "reports")) == 1
