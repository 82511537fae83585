"""Simulated storms decided in memory by the agents' own code, held against their truth; needs no stack.

``python -m tests.bench.storm``: matters that one unit is given twice and why, how often a report that may be
one of its street is (what joining it would gain, and cost in wrong merges), and decisions that differ when the
same reports come shuffled within a minute, in other batches. One partition; a stack has several, and a clock.
"""

import argparse
import json
import random
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console

from connectors.mapping import to_raw_report
from connectors.simulator import Simulation, load_numbers
from deploy.evaluate_simulation import Share, count_pairs
from schemas.channels import load_channel
from schemas.city import CityPack, load_city
from schemas.codec import Codec, default_codec
from schemas.grids import LEVELS
from schemas.ids import report_id
from schemas.settings import Settings
from streams.batch import Output
from streams.dispatch.decide import DispatchStep
from streams.intake.decide import IntakeStep
from streams.merge.decide import MergeStep
from tests.bench.decisions import NOW_MS, seconds_of, values_to

RATE, BATCH, OTHER_BATCH, MINUTE_MS = 50.0, 500, 37, 60_000
STREET = LEVELS["street"]
Record = dict[str, Any]


def run(reports: int, seeds: Sequence[int], scenario: str) -> dict[str, Any]:
    """The figures of all seeds together."""
    settings = Settings()
    city, codec = load_city(settings.city), default_codec(settings)
    twice, pairs, differ = Share(), [0, 0, 0], 0
    why: Counter[str] = Counter()
    doubts: dict[str, Share] = defaultdict(Share)
    for seed in seeds:
        raws, truth = _simulated(city, codec, reports, seed, scenario)
        intake, merge, dispatch = (
            IntakeStep(city, codec, bytes(32)), MergeStep(city, codec), DispatchStep(city, codec)
        )  # fmt: skip
        _, decided, _ = seconds_of(intake, "reports.raw.bench", raws, size=BATCH)
        accepted = values_to(decided, "reports")
        _, merged, _ = seconds_of(merge, "reports", accepted, size=BATCH)
        told = {r["report_id"]: r for r in (codec.decode(v)[1] for v in accepted if v)}
        links = _links(codec, merged)
        found, _ = count_pairs(
            (r["channel"], truth[name], links[name]["event_id"] if name in links else None)
            for name, r in told.items()
            if name in truth
        )
        pairs = [a + b for a, b in zip(pairs, (found.true, found.decided, found.both), strict=True)]
        _, dispatched, _ = seconds_of(dispatch, "events", values_to(merged, "events"), size=BATCH)
        orders = _orders(codec, dispatched)
        _count_twice(links, truth, orders, twice, why)
        _count_doubts(links, truth, told, doubts)
        chance = random.Random(seed)
        late = sorted(
            accepted,
            key=lambda v: (
                told[codec.decode(v or b"")[1]["report_id"]]["received_at"]
                + chance.randrange(MINUTE_MS)
            ),
        )
        _, merged, _ = seconds_of(MergeStep(city, codec), "reports", late, size=OTHER_BATCH)
        shuffled = _links(codec, merged)
        differ += sum(_says(links.get(name)) != _says(shuffled.get(name)) for name in told)
    return {
        "reports": reports * len(seeds),
        "dispatched_twice": {**twice.as_dict(), "why": dict(why.most_common())},
        "pairs": {"true": pairs[0], "decided": pairs[1], "both": pairs[2]},
        "of_its_street": {name: share.as_dict() for name, share in sorted(doubts.items())},
        "differ_when_shuffled": differ,
    }


def _simulated(
    city: CityPack, codec: Codec, reports: int, seed: int, scenario: str
) -> tuple[list[bytes | None], dict[str, tuple[str, ...]]]:
    """Raw reports in the order in which they are due, and the matters of each."""
    simulation = Simulation(
        city, load_numbers().scenario(scenario), seed=seed, rate=RATE, start_ms=NOW_MS,
        duration=reports / RATE,
    )  # fmt: skip
    encode = codec.encoder("RawReport")
    raws: list[bytes | None] = []
    truth: dict[str, tuple[str, ...]] = {}
    for report in simulation.reports():
        at = NOW_MS + round(report.due_s * 1000)
        channel = load_channel(report.channel)
        raws.append(
            encode(to_raw_report(channel, report.native, received_at=at, connector="bench"))
        )
        identity = report_id(report.channel, report.native_id, report.revision)
        truth[identity] = tuple(matter.id for matter in report.matters)
    return raws, truth


def _links(codec: Codec, outputs: Sequence[Output]) -> dict[str, Record]:
    """Report → its link in force."""
    links: dict[str, Record] = {}
    for output in outputs:
        if output.topic == "event.links":
            link = codec.decode(output.value)[1]
            if link["sign"] > 0:
                links[link["report_id"]] = link
            elif links.get(link["report_id"], link)["event_id"] == link["event_id"]:
                links.pop(link["report_id"], None)
    return links


def _says(link: Record | None) -> tuple[Any, ...] | None:
    """What was decided of a report."""
    return None if link is None else (link["event_id"], link["relation"], link["candidate"])


def _orders(codec: Codec, outputs: Sequence[Output]) -> dict[str, Record]:
    """Event → its order that a unit has: neither taken back nor waiting for a person."""
    orders: dict[str, Record] = {}
    for output in outputs:
        if output.topic == "orders":
            order = codec.decode(output.value)[1]
            orders[order["event_id"]] = order
    away = ("WITHDRAWN", "RETURNED", "NEEDS_REVIEW")
    return {event: order for event, order in orders.items() if order["state"] not in away}


def _count_twice(
    links: Mapping[str, Record],
    truth: Mapping[str, tuple[str, ...]],
    orders: Mapping[str, Record],
    twice: Share,
    why: Counter[str],
) -> None:
    """Matters of which one unit has several orders, and what the later of them were opened for."""
    openers: dict[str, list[Record]] = defaultdict(list)
    for name, link in links.items():
        if link["relation"] in ("opened", "recurrence") and len(truth.get(name, ())) == 1:
            openers[truth[name][0]].append(link)
    for found in openers.values():
        units: dict[str, list[Record]] = defaultdict(list)
        for link in sorted(found, key=lambda link: link["received_at"]):
            if link["event_id"] in orders:
                units[orders[link["event_id"]]["unit_code"]].append(link)
        if units:
            twice.count(any(len(same) > 1 for same in units.values()))
        for same in units.values():
            why.update(re.sub(r"[:;].*", "", link["reason"]) for link in same[1:])


def _count_doubts(
    links: Mapping[str, Record],
    truth: Mapping[str, tuple[str, ...]],
    told: Mapping[str, Record],
    doubts: Mapping[str, Share],
) -> None:
    """How many of those that may be one of their street are of the matter that they name."""
    members: dict[str, list[str]] = defaultdict(list)
    for name in sorted(links, key=lambda name: links[name]["received_at"]):
        members[links[name]["event_id"]].append(name)
    for name, link in links.items():
        of = members.get(link["candidate"] or "")
        if not of or "of its street" not in link["reason"] or len(truth.get(name, ())) != 1:
            continue
        report = told[name]
        street = report["class_code"], report["grid_code"][:STREET]
        heard = sum(links[other]["received_at"] < link["received_at"] for other in of)
        others = sum(
            (told[names[0]]["class_code"], told[names[0]]["grid_code"][:STREET]) == street
            and links[names[0]]["received_at"] < link["received_at"]
            for names in members.values()
        )
        only = report["lon"] is None and len(report["grid_code"]) == STREET
        how = (
            "names the street alone" if only else "says more than the one before",
            "one event there" if others == 1 else "several events there",
            "told once" if heard == 1 else "told before again",
        )
        doubts[", ".join(how)].count(truth[name][0] in truth.get(of[0], ()))


def main() -> None:
    """One JSON object on stdout."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.storm")
    parser.add_argument("--reports", type=int, default=4700)
    parser.add_argument("--seeds", type=int, nargs="+", default=[7, 8, 9, 10])
    parser.add_argument("--scenario", choices=("storm", "day", "quiet"), default="storm")
    given = parser.parse_args()
    result = run(given.reports, given.seeds, given.scenario)
    Console(stderr=True).print(result)
    print(json.dumps(result, ensure_ascii=False))


if __name__ == "__main__":
    main()
