"""Many near events of one cause are one incident, the same one however their reports arrived."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.city import CityPack
from schemas.codec import Codec
from schemas.ids import event_id, incident_id
from schemas.merge_policy import Burst, MergePolicy
from streams.merge.decide import ACTIONS, MergeStep
from streams.merge.state import HORIZON_MS
from tests.unit.streams.batches import NOW, Record, cut, records, run
from tests.unit.streams.merge.test_order import DRAWN, MINUTE, POLICY, both_orders, report

BURSTS = POLICY.model_copy(
    update={
        "bursts": [
            Burst(classes=["0101", "0202"], events=2, radius_m=60, hours=0.03),
            Burst(classes=["01"], events=3, radius_m=150, hours=1),
        ]
    }
)
#: So late that everything before it has settled.
LAST = 20


def matter(number: int, north: float, minute: float = 0.0, **fields: Any) -> Record:
    """A report of an outage, ``north`` metres north of the first, that merges with no other."""
    plain: dict[str, Any] = {
        "minute": minute, "ms": number, "delay": 0, "text": f"{number}", "class_code": "0102", "address": "",
        "reporter": "", "forwarded": None, "media": [], "device": "", "alarm": "", "grid": "",
        "north": north,
    }  # fmt: skip
    made = report(number, plain)
    made["received_at"] = made["occurred_at"] = round(NOW + minute * MINUTE) + number
    return made | fields


def outage(**rule: Any) -> MergePolicy:
    """Three events of 0102 within 500 m and an hour; they merge with nobody."""
    burst = {"classes": ["0102"], "events": 3, "radius_m": 500, "hours": 1} | rule
    return MergePolicy.model_validate({"default": {"mode": "never"}, "bursts": [burst]})


def incidents(codec: Codec, outputs: Any) -> dict[str, str]:
    """First report → incident, by the newest version of each event that has reports."""
    newest = {event["event_id"]: event for event in records(codec, outputs, "events")}
    return {
        event["first_report_id"]: event["incident_id"]
        for event in newest.values()
        if event["report_count"] and event["incident_id"] is not None
    }


def decided(
    city: CityPack, codec: Codec, policy: MergePolicy, reports: list[Record], *, end: bool = True
) -> dict[str, str]:
    """The incidents of reports in the order given; ``end``: with a last one, by which they settle."""
    after = [matter(999, 0.0, LAST, class_code="0201")] if end else []
    values = [codec.encode("Report", each) for each in [*reports, *after]]
    return incidents(codec, run(MergeStep(city, codec, policy), cut(values, [], "reports"))[0])


@settings(
    deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    drawn=st.lists(DRAWN, min_size=3, max_size=16),
    shuffle=st.integers(0, 2**32),
    cuts=st.lists(st.integers(1, 15), max_size=6),
    restart=st.booleans(),
    last=st.sampled_from([3, 4, LAST]),
)
def test_arrival_order_within_a_minute_batches_and_restarts_change_no_incident(
    city: CityPack,
    codec: Codec,
    drawn: list[dict[str, Any]],
    shuffle: int,
    cuts: list[int],
    restart: bool,
    last: int,
) -> None:
    reports, arrived = both_orders(drawn, shuffle)
    # Stream time ends at one instant, so the same events have settled.
    end = matter(999, 0.0, last + 1, class_code="0201")
    told = []
    for each, where, again in ((reports, [], False), (arrived, cuts, restart)):
        values = [codec.encode("Report", r) for r in [*each, end]]
        outputs, _ = run(
            MergeStep(city, codec, BURSTS), cut(values, where, "reports"), restart=again
        )
        told.append(incidents(codec, outputs))
    assert told[0] == told[1]


def test_enough_near_events_are_one_incident_named_after_the_first(
    city: CityPack, codec: Codec
) -> None:
    near = [matter(number, 150.0 * number) for number in range(1, 4)]
    far = matter(4, 2000.0)
    name = incident_id(event_id("r1"))
    assert decided(city, codec, outage(), [*near, far]) == {"r1": name, "r2": name, "r3": name}
    assert decided(city, codec, outage(events=4), [*near, far]) == {}
    assert decided(city, codec, outage(classes=["0101"]), near) == {}


def test_what_may_still_be_preceded_by_another_is_no_incident_yet(
    city: CityPack, codec: Codec
) -> None:
    near = [matter(number, 150.0 * number) for number in range(1, 4)]
    assert decided(city, codec, outage(), near, end=False) == {}
    # The third is as old as the horizon, not older: it waits.
    end = matter(4, 0.0, class_code="0201")
    end["received_at"] = near[2]["received_at"] + HORIZON_MS
    assert decided(city, codec, outage(), [*near, end], end=False) == {}
    end["received_at"] += 1
    assert set(decided(city, codec, outage(), [*near, end], end=False)) == {"r1", "r2", "r3"}


def test_what_opens_later_near_the_first_joins_the_incident_and_a_chain_does_not_grow(
    city: CityPack, codec: Codec
) -> None:
    near = [matter(number, 100.0 * number) for number in range(1, 4)]
    later = matter(4, 550.0, minute=10.0)
    # 450 m from one of them, but 600 m from the first.
    chained = matter(5, 700.0, minute=11.0)
    after = matter(6, 100.0, minute=61.0)
    end = matter(7, 0.0, minute=80.0, class_code="0201")
    found = decided(city, codec, outage(), [*near, later, chained, after, end], end=False)
    assert set(found) == {"r1", "r2", "r3", "r4"}
    assert len(set(found.values())) == 1


@pytest.mark.parametrize("restart", [False, True])
def test_an_event_that_a_person_merged_into_another_does_not_count(
    city: CityPack, codec: Codec, restart: bool
) -> None:
    near = [matter(number, 150.0 * number) for number in range(1, 4)]
    step = MergeStep(city, codec, outage())
    first = cut([codec.encode("Report", each) for each in near], [], "reports")
    outputs, _ = run(step, first)
    links = [o.value for o in outputs if o.topic == "event.links" and o.value and b"r3" in o.value]
    action = codec.encode(
        "EventAction",
        {
            "action_id": "a1", "zone": "core", "action": "merge", "actor": "p", "role": "operator",
            "reason": "", "at": NOW, "event_id": event_id("r3"), "into": event_id("r2"),
            "report_ids": [], "links": links, "reports": [],
        },
    )  # fmt: skip
    by_hand = cut([action], [], ACTIONS)
    last = cut([codec.encode("Report", matter(9, 0.0, LAST, class_code="0201"))], [], "reports")
    last[0].offsets = [100]
    outputs, _ = run(step, [*first, *by_hand, *last], restart=restart)
    assert records(codec, outputs, "action.outcomes")[0]["outcome"] == "applied"
    assert incidents(codec, outputs) == {}


def test_a_class_of_two_bursts_is_refused() -> None:
    rule = {"classes": ["24"]}
    with pytest.raises(ValueError, match="bursts names 24 twice"):
        MergePolicy.model_validate({"bursts": [rule, rule]})
