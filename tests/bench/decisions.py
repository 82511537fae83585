"""What the three steps cost without broker and engine: decode, decide and encode of a simulated day.

The sum bounds what one core can do; the difference to the end-to-end figure is what moving costs. Merge is
measured once more with many open events of other matters in its state.
"""

import gc
import time
from typing import Any

import msgspec

from connectors.mapping import to_raw_report
from connectors.simulator import Simulation, load_numbers
from schemas.channels import load_channel
from schemas.city import CityPack, load_city
from schemas.codec import Codec, default_codec
from schemas.ids import event_id
from schemas.settings import Settings
from streams.batch import Batch, Output, Step
from streams.dispatch.decide import DispatchStep
from streams.intake.decide import IntakeStep
from streams.merge.decide import DEVICE, DIARY, MergeStep
from streams.merge.state import event_of, to_json

SEED = 4101
#: Reports a second of the simulated day.
RATE = 500.0
NOW_MS = 1_790_000_000_000
#: What the transport cuts at most; a small batch pays more per report.
BATCH = 4_000
#: Open events of a city in whose midst a report is decided.
OPEN_EVENTS = 100_000
#: Degrees by which copies of events are moved: kilometres, so that they are other matters of the same city.
NORTH, EAST = 0.013, 0.017
#: They opened so long before the run, and each copy an hour before the one before it: opened all at once they
#: would be a storm, whose events gather in incidents, and no city's usual day.
BEFORE_MS, TURN_MS = 600_000, 3_600_000


def run(reports: int = 60_000) -> dict[str, Any]:
    """Reports, accepted ones, events, µs a report of each step and of all, reports/s of one core."""
    settings = Settings()
    city, codec = load_city(settings.city), default_codec(settings)
    raws = raw_reports(city, codec, reports)
    settle_garbage()
    intake, decided, _ = seconds_of(IntakeStep(city, codec, bytes(32)), "reports.raw.bench", raws)
    accepted = values_to(decided, "reports")
    merge, merged, stored = seconds_of(MergeStep(city, codec), "reports", accepted)
    known = elsewhere(stored, OPEN_EVENTS)
    amidst, _, _ = seconds_of(MergeStep(city, codec), "reports", accepted, known)
    events = values_to(merged, "events")
    dispatch, dispatched, _ = seconds_of(DispatchStep(city, codec), "events", events)
    seconds = {"intake": intake, "merge": merge, "dispatch": dispatch}
    whole = sum(seconds.values())
    return {
        "reports": reports,
        "accepted": len(accepted),
        "events": len(values_to(dispatched, "orders")),
        "us_per_report": {
            **{name: round(s / reports * 1e6, 1) for name, s in seconds.items()},
            f"merge, {len(known):,} other events open": round(amidst / reports * 1e6, 1),
        },
        "total_us_per_report": round(whole / reports * 1e6, 1),
        "reports_per_s_per_core": round(reports / whole),
    }


def settle_garbage() -> None:
    """As in streams/worker.py: what is live is not looked through for garbage."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(200_000, 50, 100)


def raw_reports(city: CityPack, codec: Codec, reports: int) -> list[bytes | None]:
    """A simulated day as it lies in the raw topics."""
    day = load_numbers().scenario("day")
    simulated = Simulation(city, day, seed=SEED, rate=RATE, start_ms=NOW_MS).reports()
    encode = codec.encoder("RawReport")
    raws: list[bytes | None] = []
    for _ in range(reports):
        report = next(simulated)
        raws.append(
            encode(
                to_raw_report(
                    load_channel(report.channel),
                    report.native,
                    received_at=NOW_MS + round(report.due_s * 1000),
                    connector="bench",
                )
            )
        )
    return raws


def values_to(outputs: list[Output], topic: str) -> list[bytes | None]:
    return [output.value for output in outputs if output.topic == topic]


def elsewhere(stored: dict[bytes, bytes], count: int) -> dict[bytes, bytes]:
    """So many open events: those of a run, each moved to other places and named anew."""
    events = [
        event_of(value) for key, value in stored.items() if not key.startswith((DIARY, DEVICE))
    ]
    copies: dict[bytes, bytes] = {}
    for turn in range(1, -(-count // len(events)) + 1):
        for event in events[: count - len(copies)]:
            identity = event_id(f"{turn}/{event.first_report_id}")
            copy = msgspec.structs.replace(event, id=identity, tokens=[], learnt=[], device="")
            copy.address, copy.building = (
                f"{turn}{event.address}",
                event.building and f"{turn}/{event.building}",
            )
            copy.grid_code = f"{turn}{event.grid_code}"
            if event.lon is not None and event.lat is not None:
                copy.lon, copy.lat = event.lon + turn * EAST, event.lat + turn * NORTH
            for name in ("at", "last_at", "opener_occurred_at", "updated_at"):
                setattr(copy, name, getattr(copy, name) - BEFORE_MS - turn * TURN_MS)
            copies[identity.encode()] = to_json(copy)
    return copies


def seconds_of(
    step: Step[Any],
    topic: str,
    values: list[bytes | None],
    known: dict[bytes, bytes] | None = None,
    skip: int = 0,
    size: int = BATCH,
) -> tuple[float, list[Output], dict[bytes, bytes]]:
    """CPU seconds of a step over all values in batches of one partition, what it wrote, its state topic.

    ``known``: what the state topic holds before; ``skip``: so many of the first values are not counted, in
    whose course what is too old of that is forgotten; ``size``: records of a batch.
    """
    state = step.restore(topic, 0, known or {})
    outputs: list[Output] = []
    changes: list[tuple[bytes, bytes | None]] = []
    started = time.process_time()
    for start in range(0, len(values), size):
        if 0 < start <= skip:
            started = time.process_time()
        run_of = values[start : start + size]
        offsets = list(range(start, start + len(run_of)))
        batch = Batch(
            topic, 0, [None] * len(run_of), run_of, offsets, [NOW_MS] * len(run_of), [None] * len(run_of)
        )  # fmt: skip
        decision = step.decide(state, batch, NOW_MS)
        outputs += decision.outputs
        changes += decision.changes
    seconds = time.process_time() - started
    stored = {key: value for key, value in dict(changes).items() if value is not None}
    return seconds, outputs, stored


if __name__ == "__main__":
    print(run())
