"""The bulk observation is what one-by-one observation would have been."""

import numpy as np
from prometheus_client import CollectorRegistry, Histogram

from connectors.sink.visible import observe_dispatched, observe_many, observe_visible
from schemas.metrics import COLLECTORS, LATENCY_BUCKETS


def samples(histogram: Histogram) -> dict[tuple[str, str], float]:
    return {
        (sample.name, sample.labels.get("le", "")): round(sample.value, 6)
        for metric in histogram.collect()
        for sample in metric.samples
        if not sample.name.endswith("_created")
    }


def test_bulk_observation_equals_single_observations() -> None:
    values = np.concatenate(
        [np.random.default_rng(7).exponential(5.0, 500), LATENCY_BUCKETS, [1e6]]
    )
    one, many = (
        Histogram("a_seconds", "x", buckets=LATENCY_BUCKETS, registry=CollectorRegistry())
        for _ in range(2)
    )
    for value in values:
        one.observe(value)
    observe_many(many, values)
    assert samples(many) == samples(one)


def test_every_row_counts_under_its_channel_and_the_future_counts_as_now() -> None:
    observe_visible(["x1", "x2", "x1"], [1_000, 2_500, 9_000], now_ms=3_000)

    def value(suffix: str, **labels: str) -> float | None:
        return COLLECTORS.get_sample_value(f"quanyu_report_visible_seconds{suffix}", labels)

    assert value("_count", channel="x1") == 2
    assert value("_sum", channel="x1") == 2.0
    assert value("_bucket", channel="x1", le="0.05") == 1
    assert value("_bucket", channel="x2", le="0.5") == 1


def test_only_a_matters_first_order_counts_for_its_time_to_dispatch() -> None:
    def seen(suffix: str, **labels: str) -> float:
        found = COLLECTORS.get_sample_value(f"quanyu_order_visible_seconds{suffix}", labels)
        assert found is not None
        return found

    before, late = seen("_count"), seen("_bucket", le="120.0")
    opened_at, from_states = [0, 60_000, 0, 0], ["UNKNOWN", "UNKNOWN", "DISPATCHED", "UNKNOWN"]
    # The third is a step, the last a second order.
    observe_dispatched(opened_at, from_states, [1, 1, 1, 2], now_ms=180_000)
    assert seen("_count") - before == 2
    assert seen("_bucket", le="120.0") - late == 1
