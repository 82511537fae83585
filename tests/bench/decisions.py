"""What the three steps cost without broker and engine: decode, decide and encode of a simulated day.

The sum bounds what one core can do; the difference to the end-to-end figure is what moving costs.
"""

import gc
import time
from typing import Any

from connectors.mapping import to_raw_report
from connectors.simulator import Simulation, load_numbers
from schemas.channels import load_channel
from schemas.city import load_city
from schemas.codec import default_codec
from schemas.settings import Settings
from streams.batch import Batch, Output, Step
from streams.dispatch.decide import DispatchStep
from streams.intake.decide import IntakeStep
from streams.merge.decide import MergeStep

SEED = 4101
#: Reports a second of the simulated day.
RATE = 500.0
NOW_MS = 1_790_000_000_000
#: What the transport cuts at most; a small batch pays more per report.
BATCH = 4_000


def run(reports: int = 60_000) -> dict[str, Any]:
    """Reports, accepted ones, events, µs a report of each step and of all, reports/s of one core."""
    settings = Settings()
    city, codec = load_city(settings.city), default_codec(settings)
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
                    received_at=NOW_MS,
                    connector="bench",
                )
            )
        )
    # As in streams/worker.py: what is live is not looked through for garbage.
    gc.collect()
    gc.freeze()
    gc.set_threshold(200_000, 50, 100)
    intake, decided = _seconds(IntakeStep(city, codec, bytes(32)), "reports.raw.bench", raws)
    merge, merged = _seconds(MergeStep(city, codec), "reports", _to(decided, "reports"))
    events = _to(merged, "events")
    dispatch, dispatched = _seconds(DispatchStep(city, codec), "events", events)
    seconds = {"intake": intake, "merge": merge, "dispatch": dispatch}
    whole = sum(seconds.values())
    return {
        "reports": reports,
        "accepted": len(_to(decided, "reports")),
        "events": len(_to(dispatched, "orders")),
        "us_per_report": {name: round(s / reports * 1e6, 1) for name, s in seconds.items()},
        "total_us_per_report": round(whole / reports * 1e6, 1),
        "reports_per_s_per_core": round(reports / whole),
    }


def _to(outputs: list[Output], topic: str) -> list[bytes | None]:
    return [output.value for output in outputs if output.topic == topic]


def _seconds(step: Step[Any], topic: str, values: list[bytes | None]) -> tuple[float, list[Output]]:
    """CPU seconds of a step over all values in batches of one partition, and what it wrote."""
    state = step.restore(topic, 0, {})
    outputs: list[Output] = []
    started = time.process_time()
    for start in range(0, len(values), BATCH):
        run_of = values[start : start + BATCH]
        offsets = list(range(start, start + len(run_of)))
        batch = Batch(
            topic, 0, [None] * len(run_of), run_of, offsets, [NOW_MS] * len(run_of), [None] * len(run_of)
        )  # fmt: skip
        outputs += step.decide(state, batch, NOW_MS).outputs
    return time.process_time() - started, outputs


if __name__ == "__main__":
    print(run())
