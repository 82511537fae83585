"""The simulated city is the pack's own, the same for the same seed, and as dirty as it says."""

from itertools import islice

import pytest

from connectors.mapping import to_raw_report
from connectors.simulator import CHANNELS, SimulatedReport, Simulator
from schemas.channels import load_channel
from schemas.city import CityPack
from tests.unit.tiny_city import STREETS

NOW = 1_772_700_000_000


def reports(city: CityPack, seed: int, count: int = 1500) -> list[SimulatedReport]:
    return list(islice(Simulator(city, seed).reports(NOW), count))


@pytest.fixture(scope="module")
def stream(city: CityPack) -> list[SimulatedReport]:
    return reports(city, 7)


def test_the_same_seed_gives_the_same_reports(
    city: CityPack, stream: list[SimulatedReport]
) -> None:
    assert reports(city, 7) == stream
    assert reports(city, 8, 20) != stream[:20]


def test_the_clock_may_move_on_within_one_city(city: CityPack) -> None:
    simulator = Simulator(city, 7)
    first = list(islice(simulator.reports(NOW), 50))
    later = list(islice(simulator.reports(NOW + 1000), 50))
    fresh = {r.native_id for r in later if not r.resent}
    assert not fresh & {r.native_id for r in first}


def test_an_id_is_sent_again_only_with_the_same_message(stream: list[SimulatedReport]) -> None:
    seen: dict[tuple[str, str], dict[str, object]] = {}
    again = 0
    for report in stream:
        key = report.channel, report.native_id
        assert (key in seen) == report.resent
        assert seen.setdefault(key, report.native) == report.native
        again += report.resent
    assert again > 0


def test_every_report_fits_its_channels_spec(stream: list[SimulatedReport]) -> None:
    for report in stream:
        raw = to_raw_report(
            load_channel(report.channel), report.native, received_at=NOW, connector="unit"
        )
        assert (raw["native_id"], raw["defects"]) == (report.native_id, [])
        assert raw["title"]
        assert raw["occurred_at"]


def test_names_words_and_points_are_the_packs(
    city: CityPack, stream: list[SimulatedReport]
) -> None:
    known = {code for code, _, _ in STREETS}
    for report in stream:
        matter = report.matter
        assert matter.street.code in known
        assert matter.keyword in city.classes[matter.entry.code].keywords
        assert 19.99 < matter.lon < 20.21
        assert 49.99 < matter.lat < 50.21


def test_every_channel_speaks_and_bad_points_occur(stream: list[SimulatedReport]) -> None:
    assert {report.channel for report in stream} == set(CHANNELS)
    patrols = [r.native for r in stream if r.channel == "grid_patrol"]
    apps = [r.native["location"] for r in stream if r.channel == "photo_app"]
    points = [(native["lng"], native["lat"]) for native in [*patrols, *apps]]
    assert ("0", "0") in points
    hotline = [r.native for r in stream if r.channel == "hotline12345"]
    without = sum("经度" not in native for native in hotline) / len(hotline)
    assert 0.3 < without < 0.6


def test_most_matters_are_reported_once_and_some_by_many(stream: list[SimulatedReport]) -> None:
    counts: dict[int, int] = {}
    for report in stream:
        if not report.resent:
            counts[report.matter.number] = counts.get(report.matter.number, 0) + 1
    assert 1 in counts.values()
    assert max(counts.values()) == 6


@pytest.mark.parametrize("pace", [1, 7])
def test_the_same_matters_are_reported_whatever_the_pace_of_the_clock(
    city: CityPack, stream: list[SimulatedReport], pace: int
) -> None:
    simulator = Simulator(city, 7)
    sent: list[SimulatedReport] = []
    while len(sent) < 350:
        sent += islice(simulator.reports(NOW), pace)
    assert sent == stream[: len(sent)]
