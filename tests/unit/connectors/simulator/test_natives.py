"""Each channel's own form says, through its channel's spec, what the simulator meant to say."""

import json
from pathlib import Path
from typing import Any

import pytest

from connectors.files import read_entries
from connectors.mapping import to_raw_report
from connectors.simulator import CHANNELS, Report, Simulation, load_numbers
from connectors.simulator.natives import Clock, base36
from schemas.channels import load_channel
from schemas.city import CityPack
from schemas.grids import METRES_PER_DEGREE
from schemas.instants import parse_instant

START_MS = 1_772_528_400_000
#: Metres: the widest scatter of a channel, several times over; oblique pictures.
NEAR_M = 250.0


@pytest.fixture(scope="module")
def stream(city: CityPack) -> list[Report]:
    day = load_numbers().scenario("day")
    return list(
        Simulation(city, day, seed=3, rate=400.0, start_ms=START_MS, duration=20.0).reports()
    )


def raw(report: Report, tmp_path: Path) -> dict[str, Any]:
    native = report.native
    if report.channel == "uav":  # what the file says, with the footprint's centre
        path = tmp_path / "one.geojson"
        path.write_text(json.dumps({"type": "FeatureCollection", "features": [native]}))
        (entry,) = read_entries(path)
        assert entry.fields is not None
        native = entry.fields
    spec = load_channel(report.channel)
    return to_raw_report(spec, native, received_at=START_MS, connector="unit")


@pytest.mark.parametrize("channel", CHANNELS)
def test_a_native_message_becomes_the_raw_report_that_was_meant(
    channel: str, city: CityPack, stream: list[Report], tmp_path: Path
) -> None:
    ours = [r for r in stream if r.channel == channel][:150]
    assert ours
    zone = load_channel(channel).time_zone
    with_points = 0
    for report in ours:
        found = raw(report, tmp_path)
        assert found["defects"] == []
        assert (found["native_id"], found["revision"]) == (report.native_id, report.revision)
        assert found["title"] or found["text"] or found["category"]
        occurred = parse_instant(found["occurred_at"], zone)
        assert occurred is not None, found["occurred_at"]
        if not {"clock_drift", "no_clock", "months_old", "late_batch"} & set(report.defects):
            # The tiny city is in another zone than the channels' specs say; hours do not matter here.
            assert abs(occurred.ms - START_MS) < 24 * 3_600_000
        wrong = {"wrong_crs", "null_point", "rounded", "outside", "at_home", "camera_moved"}
        if not found["lon"] or wrong & set(report.defects):
            continue
        with_points += 1
        x, y = float(found["lon"]), float(found["lat"])
        lon, lat = (float(c[0]) for c in city.systems[found["crs"]](*columns(x, y)))
        right = report.matters[0].place.cgcs2000
        assert abs(lon - right[0]) * METRES_PER_DEGREE < NEAR_M
        assert abs(lat - right[1]) * METRES_PER_DEGREE < NEAR_M
    if channel not in ("mailbox", "city_management"):  # no points; no plane in the tiny city
        assert with_points


def columns(x: float, y: float) -> tuple[Any, Any]:
    import numpy as np

    return np.array([x]), np.array([y])


def test_a_device_of_a_class_says_the_class_by_its_channels_own_word(
    stream: list[Report], tmp_path: Path
) -> None:
    for report in stream:
        if report.channel in ("iot", "video_ai", "uav"):
            assert raw(report, tmp_path)["category"] == report.matters[0].code


def test_instants_are_written_in_the_citys_zone() -> None:
    clock = Clock("Asia/Shanghai")
    ms = 1_772_700_007_250
    assert clock.plain(ms) == "2026-03-05 16:40:07"
    assert clock.slashed(ms) == "2026/3/5 16:40:07"
    assert clock.iso(ms) == "2026-03-05T16:40:07.250+08:00"
    for text in (clock.plain(ms), clock.slashed(ms), clock.iso(ms)):
        found = parse_instant(text, "Asia/Shanghai")
        assert found is not None
        assert found.ms // 1000 == ms // 1000


def test_numbers_are_short_in_base_36() -> None:
    assert [base36(n) for n in (0, 35, 36, 1295)] == ["0", "z", "10", "zz"]
