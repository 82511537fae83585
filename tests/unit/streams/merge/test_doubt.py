"""An event says which other it may be, where their places cannot be held against each other."""

from typing import Any

import pytest

from schemas.city import CityPack
from schemas.codec import Codec
from schemas.ids import event_id
from streams.merge.decide import MergeStep
from tests.unit.streams.batches import Record, batch, records, run
from tests.unit.streams.merge.test_order import SOME, report
from tests.unit.tiny_city import WEST

STREET, OTHER = f"{WEST}001", f"{WEST}002"
COMPOUND = f"{STREET}002003"
#: How a place may be told: its street alone, a house in it, a point without a house, both.
VAGUE: dict[str, Any] = {"grid": STREET}
HOUSE: dict[str, Any] = {"grid": COMPOUND, "address": "1 Main Street"}
POINT: dict[str, Any] = {"grid": f"{STREET}004005006", "north": 0.0}
BOTH: dict[str, Any] = {"grid": f"{COMPOUND}001", "north": 900.0, "address": "1 Main Street"}
NAME: dict[str, Any] = {"grid": STREET, "address": "the old mill"}
OTHER_NAME: dict[str, Any] = {"grid": STREET, "address": "the new mill"}


def events(city: CityPack, codec: Codec, *told: dict[str, Any]) -> list[Record]:
    """The newest version of each event, in the order in which they opened; a report a minute."""
    values = [
        codec.encode("Report", report(number, SOME | {"minute": number} | each))
        for number, each in enumerate(told, 1)
    ]
    outputs, _ = run(MergeStep(city, codec), [batch(values, "reports")])
    found = {event["event_id"]: event for event in records(codec, outputs, "events")}
    return sorted(found.values(), key=lambda event: event["opened_at"])


def may_be(city: CityPack, codec: Codec, *told: dict[str, Any]) -> list[str | None]:
    """What each event may be: the report that opened that."""
    names = {event_id(f"r{number}"): f"r{number}" for number in range(1, len(told) + 1)}
    return [names.get(event["candidate"] or "") for event in events(city, codec, *told)]


@pytest.mark.parametrize("known", [HOUSE, BOTH, POINT])
def test_who_names_only_the_street_may_mean_what_is_known_there(
    city: CityPack, codec: Codec, known: dict[str, Any]
) -> None:
    _, event = events(city, codec, known, VAGUE)
    assert event["candidate"] == event_id("r1")
    assert event["candidate_reason"] == "may be one of its street: 0.0 h, words alike 1.00"
    assert 0 < event["candidate_score"] < 1


@pytest.mark.parametrize(
    ("first", "second"), [(VAGUE, HOUSE), (VAGUE, BOTH), (HOUSE, POINT), (POINT, HOUSE)]
)
def test_the_first_who_says_more_may_mean_what_was_told_without_and_the_second_is_not_asked(
    city: CityPack, codec: Codec, first: dict[str, Any], second: dict[str, Any]
) -> None:
    elsewhere = second | {"grid": f"{STREET}007008"}
    if "north" in second:
        elsewhere["north"] = 2_000.0
    if "address" in second:
        elsewhere["address"] = "77 Main Street"
    assert may_be(city, codec, first, second, elsewhere) == [None, "r1", None]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (HOUSE, HOUSE | {"grid": f"{STREET}007008", "address": "77 Main Street"}),
        (BOTH, POINT),
        (NAME, OTHER_NAME),
        (HOUSE, VAGUE | {"grid": OTHER}),
        (HOUSE, VAGUE | {"class_code": "0102"}),
        (HOUSE, VAGUE | {"grid": WEST}),
        (VAGUE, POINT | {"device": "d1", "alarm": "open"}),
        (HOUSE | {"delay": 60 * 49}, VAGUE),
    ],
)
def test_what_can_be_held_against_each_other_or_is_of_another_street_class_or_day_is_no_doubt(
    city: CityPack, codec: Codec, first: dict[str, Any], second: dict[str, Any]
) -> None:
    told = events(city, codec, first, second)
    assert [event["candidate"] for event in told] == [None] * len(told)


def test_a_report_that_says_where_the_event_is_ends_the_doubt(city: CityPack, codec: Codec) -> None:
    told = (HOUSE, NAME, NAME | {"north": 3_000.0})
    assert may_be(city, codec, *told[:2]) == [None, "r1"]
    assert may_be(city, codec, *told) == [None, None]


def test_an_event_is_urgent_when_any_of_its_reports_is(city: CityPack, codec: Codec) -> None:
    calm, danger = BOTH, BOTH | {"urgent": True}
    assert [e["urgent"] for e in events(city, codec, calm)] == [False]
    assert [e["urgent"] for e in events(city, codec, calm, danger)] == [True]


def test_an_event_is_settled_on_the_spot_when_who_opened_it_says_so(
    city: CityPack, codec: Codec
) -> None:
    told, settled = BOTH, BOTH | {"self_handled": True}
    for reports, said in (((told,), False), ((settled, told), True), ((told, settled), False)):
        assert [e["self_handled"] for e in events(city, codec, *reports)] == [said]
