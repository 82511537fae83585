"""The simulated city is the pack's own, the same for the same seed, and as dirty as it says."""

import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from itertools import islice, pairwise
from pathlib import Path

import pytest

from connectors.simulator import CHANNELS, PEOPLE, Report, Simulation, load_numbers
from connectors.simulator.truth import Truth, line, read_truth
from schemas.city import CityPack
from schemas.errors import QuanyuError

#: A Tuesday, 10:00 in the tiny city's zone (Europe/Warsaw).
START_MS = 1_772_528_400_000
HOUR_MS = 3_600_000

ROOT = Path(__file__).resolve().parents[4]


def simulation(city: CityPack, scenario: str = "day", **given: float | None) -> Simulation:
    options = {"seed": 7, "rate": 350.0, "start_ms": START_MS, "duration": 30.0} | given
    return Simulation(city, load_numbers().scenario(scenario), **options)  # type: ignore[arg-type]


def reports(city: CityPack, scenario: str = "day", **given: float | None) -> list[Report]:
    return list(simulation(city, scenario, **given).reports())


@pytest.fixture(scope="module")
def day(city: CityPack) -> list[Report]:
    return reports(city)


@pytest.fixture(scope="module")
def storm(city: CityPack) -> list[Report]:
    return reports(city, "storm")


def told_again(stream: Sequence[Report]) -> float:
    """Share of people's reports whose matter was told of before."""
    known: set[str] = set()
    again = total = 0
    for report in stream:
        if report.channel in PEOPLE:
            total += 1
            again += report.matters[0].id in known
        known.add(report.matters[0].id)
    return again / total


def test_the_same_seed_gives_the_same_reports_and_another_seed_others(city: CityPack) -> None:
    once = reports(city, rate=60.0)
    assert reports(city, rate=60.0) == once
    other = reports(city, rate=60.0, seed=8)
    assert [r.matters for r in other] != [r.matters for r in once]


def test_a_seed_means_the_same_in_another_process(city: CityPack) -> None:
    # Texts hash otherwise in each process: an order of a set would show.
    code = (
        "from schemas.city import load_city; from connectors.simulator import *;"
        "from connectors.simulator.truth import line;"
        f"s = Simulation(load_city({str(city.folder)!r}), load_numbers().scenario('day'), seed=7,"
        f" rate=60.0, start_ms={START_MS}, duration=30.0);"
        "print(''.join(line(r, 0) for r in s.reports()), end='')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "".join(line(report, 0) for report in reports(city, rate=60.0))


def test_the_hour_of_the_start_changes_when_and_never_what(city: CityPack) -> None:
    once = reports(city, rate=60.0)
    later = reports(city, rate=60.0, start_ms=START_MS + 5 * HOUR_MS)
    for channel in CHANNELS:
        before = [(r.matters, r.defects) for r in once if r.channel == channel]
        after = [(r.matters, r.defects) for r in later if r.channel == channel]
        assert after[: len(before)] == before[: len(after)]
        assert after


def test_reports_come_in_the_order_in_which_they_are_due_at_the_rate_that_is_said(
    city: CityPack, day: list[Report]
) -> None:
    assert all(a.due_s <= b.due_s for a, b in pairwise(day))
    assert day[-1].due_s < 30.0
    assert len(day) == pytest.approx(350 * 30, rel=0.05)
    endless = simulation(city, duration=None).reports()
    assert len(list(islice(endless, 100))) == 100


def test_people_sleep_at_night_and_rest_at_weekends_and_devices_do_not(city: CityPack) -> None:
    # Eight days in as many seconds; the first begins on a Tuesday at 10:00.
    week = reports(city, rate=1500.0, duration=8.0, speed=86_400.0)

    def count(channels: set[str], begin_h: float, end_h: float) -> int:
        return sum(r.channel in channels and begin_h <= r.due_s * 24 + 10 < end_h for r in week)

    people, devices = set(PEOPLE), {"video_ai"}
    night, morning = count(people, 26, 28), count(people, 33, 35)
    assert morning > 10 * max(1, night)
    assert count(devices, 26, 28) == pytest.approx(count(devices, 33, 35), rel=0.35)
    thursday, sunday = count(people, 48, 72), count(people, 120, 144)
    assert 0.55 < sunday / thursday < 0.85
    of_day = count(people, 48, 72)
    assert max(count(people, h, h + 1) for h in range(48, 72)) / of_day == pytest.approx(
        0.09, abs=0.03
    )


def test_a_storm_is_tenfold_of_few_places_and_mostly_told_of_before(storm: list[Report]) -> None:
    people = [r for r in storm if r.channel in PEOPLE]
    before = sum(r.due_s < 4.5 for r in people) / 4.5
    within = sum(4.5 <= r.due_s < 22.5 for r in people) / 18.0
    assert 8 < within / before < 12
    assert 0.6 < told_again(storm) < 0.8
    counts = Counter(r.matters[0].id for r in people)
    assert sum(n > 1 for n in counts.values()) < 1000


def test_a_day_is_told_of_again_as_often_as_cities_guess_and_a_quiet_night_hardly(
    city: CityPack, day: list[Report]
) -> None:
    assert 0.1 < told_again(day) < 0.4
    assert told_again(reports(city, "quiet", rate=100.0)) < 0.2


def test_a_scenario_that_is_none_is_answered_with_the_known_ones() -> None:
    with pytest.raises(QuanyuError, match="known: day, storm, quiet"):
        load_numbers().scenario("flood")


def test_every_channel_speaks_in_every_scenario(day: list[Report], storm: list[Report]) -> None:
    assert {r.channel for r in day} == set(CHANNELS) == {r.channel for r in storm}


def test_every_defect_and_every_way_to_come_again_occurs(day: list[Report]) -> None:
    numbers = load_numbers()
    wanted: set[str] = {"same_object", "refire", "camera_moved", *numbers.iot.behaviours}
    for name, person in numbers.people.items():
        # An empty plane, no community: what a pack does not have, its channels cannot get wrong.
        wanted |= set(person.defects) | set(person.repeats) - {"co_report"}
        assert name in PEOPLE
    found = {defect for report in day for defect in report.defects}
    assert wanted | {"late_batch", "wrong_class"} <= found


def test_between_three_and_six_of_ten_calls_have_no_point(day: list[Report]) -> None:
    calls = [r for r in day if r.channel == "hotline12345"]
    assert 0.3 < sum(r.native["lng"] is None for r in calls) / len(calls) < 0.6
    assert all((r.native["lng"] is not None) == r.pointed for r in calls)


def test_an_id_comes_again_only_with_the_same_message(day: list[Report]) -> None:
    seen: dict[tuple[str, str, int], dict[str, object]] = {}
    for report in day:
        key = report.channel, report.native_id, report.revision
        assert (key in seen) == report.resent, report
        assert seen.setdefault(key, report.native) == report.native
    # Their rows are in a database, which holds each once.
    assert not any(r.resent for r in day if r.channel in ("hotline12345", "city_management"))


def test_a_photograph_comes_again_with_the_same_hash_and_another_id(day: list[Report]) -> None:
    first: dict[str, Report] = {}
    again = 0
    for report in day:
        if report.channel == "photo_app":
            for photo in report.native["photos"]:
                known = first.setdefault(photo["sha256"], report)
                if "resent_photo" in report.defects and known is not report:
                    again += 1
                    assert known.matters == report.matters
                    assert known.native_id != report.native_id
    assert again


def test_a_lasting_state_fires_every_five_seconds_of_the_citys_time(city: CityPack) -> None:
    stream = [r for r in reports(city, rate=100.0, duration=60.0) if r.channel == "video_ai"]
    times: dict[str, list[float]] = {}
    for report in stream:
        times.setdefault(report.native["device_id"], []).append(report.due_s)
    gaps = [b - a for fired in times.values() for a, b in pairwise(fired)]
    assert len(gaps) > 100
    assert 4.0 < sum(gaps) / len(gaps) < 6.0
    assert max(Counter(r.matters[0].id for r in stream).values()) > 10


def test_flapping_sensors_open_and_close_and_stuck_ones_say_one_value(city: CityPack) -> None:
    by_device: dict[str, list[Report]] = {}
    for report in reports(city, rate=20.0, duration=400.0):
        if report.channel == "iot":
            by_device.setdefault(report.native["device_id"], []).append(report)
    flapping = [rs for rs in by_device.values() if "flapping" in rs[0].defects and len(rs) > 2]
    assert all(a.native["state"] != b.native["state"] for rs in flapping for a, b in pairwise(rs))
    stuck = [rs for rs in by_device.values() if "stuck" in rs[0].defects]
    assert all(len({r.native["value"] for r in rs}) == 1 for rs in stuck)
    late = [rs for rs in by_device.values() if "late_batch" in rs[0].defects]
    assert all(len({r.due_s for r in rs}) == 1 and rs[0].group for rs in late)
    assert flapping
    assert stuck
    assert late


def test_110_and_12345_hand_over_with_the_number_of_the_other(day: list[Report]) -> None:
    known = {(r.channel, r.native_id): r for r in day}
    handed = [r for r in day if "forwarded" in r.defects and "resent" not in r.defects]
    assert {r.channel for r in handed} >= {"hotline12345", "police110"}
    for report in handed:
        if report.channel == "hotline12345":
            channel, _, number = report.native["forwarded_from"].partition("/")
        else:
            channel, number = "hotline12345", report.native["hotline_order_num"]
        assert known[channel, number].matters == report.matters


def test_two_matters_of_one_call_stand_in_its_truth(day: list[Report], tmp_path: Path) -> None:
    path = tmp_path / "truth.jsonl"
    path.write_text("".join(line(r, 5) for r in day) + '{"cut', encoding="utf-8")
    truth = list(read_truth(path))
    assert len(truth) == len(day)
    assert sum(len(t.matters) == 2 for t in truth) > 10
    for told, report in zip(truth, day, strict=True):
        place = report.matters[0].place
        assert told == Truth(
            report.channel,
            report.native_id,
            report.revision,
            5,
            tuple(m.id for m in report.matters),
            tuple(m.code for m in report.matters),
            place.grid,
            place.special,
            (round(place.cgcs2000[0], 7), round(place.cgcs2000[1], 7)),
            report.pointed,
            report.defects,
        )


def test_a_line_that_is_none_is_named(tmp_path: Path) -> None:
    path = tmp_path / "truth.jsonl"
    path.write_text('{"channel": "iot"}\n', encoding="utf-8")
    with pytest.raises(QuanyuError, match=r"truth\.jsonl:1: .*native_id"):
        list(read_truth(path))
    with pytest.raises(QuanyuError, match="--truth"):
        list(read_truth(tmp_path / "none.jsonl"))
