"""A native message becomes a raw report with nothing interpreted and nothing lost."""

import json
from datetime import UTC, date, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.mapping import BYTES, CELL_LIMIT, RawReport, to_raw_report, undecodable
from schemas.channels import ChannelSpec
from schemas.codec import Codec

SPEC = ChannelSpec.model_validate(
    {
        "name": "test",
        "title": "a test",
        "transports": ["http"],
        "native_id": "id",
        "revision": "rev",
        "crs": "GCJ02",
        "time_zone": "Europe/Warsaw",
        "categories": {"灯": "0201"},
        "fields": {
            "title": ["title", "headline"],
            "text": "text",
            "category": "kind",
            "lon": "place.lng",
            "lat": "place.lat",
            "crs": "place.crs",
            "occurred_at": "when",
            "media": "photos",
        },
    }
)


def raw(native: dict[str, Any], spec: ChannelSpec = SPEC) -> RawReport:
    return to_raw_report(spec, native, received_at=7, connector="unit")


def test_fields_come_from_where_the_spec_says_they_stand() -> None:
    native = {
        "id": 12,
        "headline": "x",
        "place": {"lng": 20.5, "lat": "50.1"},
        "photos": ["a", "b"],
    }
    found = raw(native)
    assert (found["native_id"], found["title"]) == ("12", "x")
    assert (found["lon"], found["lat"], found["crs"]) == ("20.5", "50.1", "GCJ02")
    assert (found["media"], found["time_zone"], found["received_at"]) == (
        ["a", "b"],
        "Europe/Warsaw",
        7,
    )
    assert found["defects"] == []


def test_a_system_that_the_message_names_wins_over_the_channels() -> None:
    assert raw({"id": "a", "place": {"lng": 1, "lat": 2, "crs": "WGS84"}})["crs"] == "WGS84"


def test_without_a_point_there_is_no_system() -> None:
    assert raw({"id": "a"})["crs"] is None


@pytest.mark.parametrize("native", [{}, {"id": None}, {"id": ""}, {"ID": "a"}])
def test_a_message_without_its_id_comes_out_without_one(native: dict[str, Any]) -> None:
    assert raw(native)["native_id"] is None


@pytest.mark.parametrize("value", [True, {}, {"a": 1}, [], [1], float("inf"), float("nan")])
def test_what_cannot_tell_messages_apart_is_no_id(value: Any) -> None:
    # Taken as text, the second message with it would be dropped as the first one's repetition.
    assert raw({"id": value})["native_id"] is None


@pytest.mark.parametrize("value", [0, 17, 17.0, "17", 2**70])
def test_a_number_is_an_id(value: Any) -> None:
    assert raw({"id": value})["native_id"] == str(int(value))


@pytest.mark.parametrize("revision", ["x", True, -1, 2**31, "1.5", [1], {"a": 1}])
def test_a_revision_that_is_no_number_is_marked(revision: Any) -> None:
    found = raw({"id": "a", "rev": revision})
    assert (found["revision"], found["defects"]) == (0, ["revision:not_a_number"])


@pytest.mark.parametrize(("revision", "number"), [(None, 0), ("", 0), (3, 3), ("4", 4), (5.0, 5)])
def test_a_revision_is_read(revision: Any, number: int) -> None:
    assert raw({"id": "a", "rev": revision})["revision"] == number


def test_a_category_that_the_channel_knows_is_told_in_our_codes() -> None:
    assert raw({"id": "a", "kind": "灯"})["category"] == "0201"
    assert raw({"id": "a", "kind": "other"})["category"] == "other"


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        (datetime(2026, 3, 5, 9, 0), "2026-03-05 09:00:00"),
        (datetime(2026, 3, 5, 9, 0, tzinfo=UTC), "2026-03-05T09:00:00+00:00"),
        (date(2026, 3, 5), "2026-03-05"),
        (20260305.0, "20260305"),
        (20.125, "20.125"),
        (float("nan"), "nan"),
        (True, "True"),
        ("a\ud800b", "a\ufffdb"),
        ("a\x00b", "a\x00b"),
    ],
)
def test_a_cell_becomes_text_and_is_not_judged(cell: Any, text: str) -> None:
    assert raw({"id": "a", "title": cell})["title"] == text


def test_a_time_is_read_by_the_channels_pattern_or_left_as_it_came() -> None:
    spec = SPEC.model_copy(update={"time_format": "%m/%d/%Y %I:%M:%S %p"})
    assert raw({"id": "a", "when": "03/05/2026 09:00:00 PM"}, spec)["occurred_at"] == (
        "2026-03-05T21:00:00"
    )
    assert raw({"id": "a", "when": "13/45/2026"}, spec)["occurred_at"] == "13/45/2026"


@pytest.mark.parametrize(
    ("native", "field"),
    [
        ({"id": "x" * (CELL_LIMIT + 1)}, "native_id"),
        ({"id": "a", "text": "水" * 1_700_000}, "text"),
        ({"id": "a", "title": "x" * (CELL_LIMIT + 1)}, "title"),
        ({"id": "a", "photos": ["x" * 60_000] * 2}, "media"),
    ],
)
def test_five_megabytes_stay_in_the_payload_once_and_are_marked(
    codec: Codec, native: dict[str, Any], field: str
) -> None:
    found = raw(native)
    assert not found[field]
    assert found["defects"][0].startswith(f"{field}:too_long:")
    assert json.loads(found["payload"]) == native
    assert len(codec.encode("RawReport", found)) < 8_000_000


def test_bytes_that_cannot_be_read_travel_whole_with_their_defect(codec: Codec) -> None:
    found = undecodable(SPEC, b"\xff\x00", "encoding:x", received_at=7, connector="unit")
    assert (found["payload"], found["content_type"], found["defects"]) == (
        b"\xff\x00",
        BYTES,
        ["encoding:x"],
    )
    assert codec.decode(codec.encode("RawReport", found))[1]["payload"] == b"\xff\x00"


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
KEYS = st.sampled_from(["id", "rev", "title", "text", "kind", "place", "when", "photos", "extra"])


@given(native=st.dictionaries(KEYS, JSON_VALUES))
def test_whatever_a_message_holds_it_can_be_written_and_read(
    codec: Codec, native: dict[str, Any]
) -> None:
    found = raw(native)
    name, record = codec.decode(codec.encode("RawReport", found))
    assert name == "RawReport"
    assert {key: record[key] for key in found} == found
    assert json.loads(record["payload"]).keys() == native.keys()
