"""What a deadline and a duty cost on one core: the clocks in batches and one by one, the duty list."""

import time
from itertools import cycle, islice
from typing import get_args

import numpy as np

from schemas.city import DeadlineUnit, load_city
from schemas.settings import Settings
from streams.dispatch.deadline import WorkClock
from streams.dispatch.duty import DutyList, as_event

#: 1 March 2026.
START_MS = 1_772_294_400_000
SEED = 4101
TEXTS = (
    "花园路与东风路口{n}米处路面破损，影响出行，请尽快处理",
    "阳光花园小区{n}号楼前下水道堵塞，已经好几天没人管",
    "巡查发现{n}号院门前垃圾堆积，需处置",
    "市民来电，{n}号附近夜间施工，之前反映过没有解决，要求回复",
)


def run(deadlines: int = 1_000_000, duties: int = 100_000) -> dict[str, int]:
    """Deadlines and duties a second of CPU time; each duty of another text, in any street."""
    city = load_city(Settings().city)
    clock = WorkClock(city.calendar, city.time_zone)
    chance = np.random.default_rng(SEED)
    starts = START_MS + chance.integers(0, 180 * 86_400_000, deadlines)
    values = chance.integers(1, 21, deadlines).astype(np.float64)
    units = np.array(get_args(DeadlineUnit))[chance.integers(0, 4, deadlines)]
    begun = time.process_time()
    clock.add_batch(starts, values, units)
    batch = time.process_time() - begun
    few = deadlines // 10
    rows = list(
        zip(starts[:few].tolist(), values[:few].tolist(), units[:few].tolist(), strict=True)
    )
    begun = time.process_time()
    for row in rows:
        clock.add(*row)
    single = time.process_time() - begun
    classes, streets = sorted(city.classes), [street.code for street in city.streets]
    kinds = list(islice(cycle(TEXTS), duties))
    events = [
        as_event(city, code, street, text.format(n=n), START_MS + n * 1000)
        for n, (code, street, text) in enumerate(
            zip(
                chance.choice(classes, duties).tolist(),
                chance.choice(streets, duties).tolist(),
                kinds,
                strict=True,
            )
        )
    ]
    duty = DutyList(city)
    for event in events:
        duty.duty(event)
    begun = time.process_time()
    for event in events:
        duty.duty(event)
    known = time.process_time() - begun
    return {
        "deadlines_per_s": round(deadlines / batch),
        "deadlines_one_by_one_per_s": round(few / single),
        "duties_per_s": round(duties / known),
    }


if __name__ == "__main__":
    print(run())
