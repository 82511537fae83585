"""What evaluate simulation reads of the tables, in the real engine."""

from dataclasses import replace
from datetime import UTC, datetime

import clickhouse_connect
import pytest

from deploy.evaluate_simulation import _ORDERS, _PARKED, _rows
from schemas import tables
from schemas.settings import Settings
from tests.city_day import city_day

pytestmark = pytest.mark.integration

NOW = datetime(2026, 3, 17, 2, 30, 12, tzinfo=UTC)


def test_an_order_that_was_withdrawn_is_not_told_as_dispatched(settings: Settings) -> None:
    own = settings.model_copy(update={"clickhouse_database": "test_evaluate_simulation"})
    tables.apply(own)
    with clickhouse_connect.get_client(
        dsn=own.clickhouse_url, database=own.clickhouse_database, autogenerate_session_id=False
    ) as client:
        day = city_day(NOW, reports=60)
        gone, again = day.rows["orders"][0], day.rows["orders"][1]
        waits = day.rows["orders"][2]
        turned = [
            waits | {"version": 2, "state": "NEEDS_REVIEW"},
            gone | {"version": 2, "state": "WITHDRAWN"},
            again | {"version": 2, "state": "WITHDRAWN"},
            again | {"version": 3, "state": "DISPATCHED", "unit_code": "taken-over"},
        ]
        rows = {"orders": [*day.rows["orders"], *turned]}
        replace(day, rows=rows).insert(client)
        try:
            since = day.now_ms - 3 * 24 * 3600 * 1000
            found = {row[0]: row[2:] for row in _rows(own, _ORDERS, since)}
            parked = list(_rows(own, _PARKED, since))
        finally:
            client.command("DROP DATABASE test_evaluate_simulation")
    assert gone["order_id"] not in found
    assert found[again["order_id"]] == ("taken-over", "DISPATCHED")
    assert found[waits["order_id"]][1] == "NEEDS_REVIEW"
    assert parked == [(0,)]
    assert len(found) == len(day.rows["orders"]) - 1
