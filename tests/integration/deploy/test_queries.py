"""Every named query on known rows in the real engine; every number drills down to its rows."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import clickhouse_connect
import pytest
from clickhouse_connect.driver.client import Client

from deploy.silence import learned_gap
from schemas import tables
from schemas.errors import QuanyuError
from schemas.queries import load_queries, run
from schemas.settings import Settings
from tests.city_day import ZONE, CityDay, city_day, counted

pytestmark = pytest.mark.integration

#: 10:30 in the city, 02:30 UTC: the city's day and UTC's day differ.
NOW = datetime(2026, 3, 17, 2, 30, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def known(settings: Settings) -> Iterator[tuple[Client, CityDay]]:
    """The known rows in a database of their own."""
    own = settings.model_copy(update={"clickhouse_database": "test_named_queries"})
    tables.apply(own)
    client = clickhouse_connect.get_client(
        dsn=own.clickhouse_url, database=own.clickhouse_database, autogenerate_session_id=False
    )
    day = city_day(NOW)
    day.insert(client)
    yield client, day
    client.command("DROP DATABASE test_named_queries")
    client.close()


def ask(known: tuple[Client, CityDay], name: str, **more: Any) -> list[dict[str, Any]]:
    client, day = known
    clock = {"day": day.day, "time_zone": ZONE, "at": day.now_ms}
    has = {parameter.name for parameter in load_queries()[name].parameters}
    return run(client, name, **{k: v for k, v in clock.items() if k in has}, **more)


def test_todays_three_counters_are_the_rows_of_the_citys_day(known: tuple[Client, CityDay]) -> None:
    _, day = known
    links = day.today("event_links")
    merged = [r for r in links if r["relation"] in ("co_report", "urge", "supplement")]
    (totals,) = ask(known, "today_totals")
    assert totals["reports"] == len(day.today("report_outcomes"))
    assert totals["accepted"] == len(
        [r for r in day.today("report_outcomes") if r["outcome"] == "accepted"]
    )
    assert totals["events"] == len(links) - len(merged)
    assert totals["orders"] == len(day.today("order_transitions", "at"))
    assert totals["merge_ratio"] == pytest.approx(len(merged) / len(links))


def test_groups_are_the_rows_of_the_citys_day(known: tuple[Client, CityDay]) -> None:
    _, day = known
    outcomes, links = day.today("report_outcomes"), day.today("event_links")
    opened = [r for r in links if r["relation"] in ("opened", "recurrence")]
    for name, key, column, rows in (
        ("by_channel", "channel", "reports", outcomes),
        ("outcome_totals", "outcome", "reports", outcomes),
        ("by_class", "class_code", "events", opened),
        ("map_areas", "code", "events", opened),
        ("by_unit", "unit_code", "orders", day.today("order_transitions", "at")),
    ):
        by = "district_code" if key == "code" else key
        assert {r[key]: r[column] for r in ask(known, name)} == counted(rows, by), name
    hours = {r["hour"]: r["reports"] for r in ask(known, "intake_by_hour")}
    assert sorted(hours) == list(range(24))
    assert sum(hours.values()) == len(outcomes)


def test_every_number_equals_the_rows_that_it_opens(known: tuple[Client, CityDay]) -> None:
    _, day = known
    given = {"day": day.day, "time_zone": ZONE, "at": day.now_ms}
    followed = 0
    for name, query in load_queries().items():
        for row in ask(known, name) if query.drill_down else []:
            for drill in query.drill_down:
                rows = run(known[0], drill.query, **drill.arguments(row, given), limit=1_000_000)
                assert len(rows) == row[drill.column], f"{name}.{drill.column} of {row}"
                assert {r["total"] for r in rows} <= {row[drill.column]}
                followed += 1
    assert followed > 50


def test_a_page_of_rows_says_how_many_there_are_in_all(known: tuple[Client, CityDay]) -> None:
    (totals,) = ask(known, "today_totals")
    first = ask(known, "reports_of_day", limit=10)
    second = ask(known, "reports_of_day", limit=10, offset=10)
    assert {r["total"] for r in first + second} == {totals["reports"]}
    assert len({r["report_id"] for r in first + second}) == 20


def test_a_message_of_several_demands_is_one_row_and_leads_to_all_of_them(
    settings: Settings,
) -> None:
    own = settings.model_copy(update={"clickhouse_database": "test_demands"})
    tables.apply(own)
    with clickhouse_connect.get_client(
        dsn=own.clickhouse_url, database=own.clickhouse_database, autogenerate_session_id=False
    ) as client:
        base = {"channel": "mailbox", "received_at": NOW}
        rows: list[tuple[str, dict[str, Any]]] = [
            ("report_outcomes", {"report_id": "whole", "outcome": "accepted", "parts": 2}),
            ("report_outcomes", {"report_id": "alone", "outcome": "accepted", "parts": 1}),
            ("reports", {"report_id": "alone", "native_id": "b", "title": "一件事"}),
            ("event_links", {"report_id": "alone", "event_id": "e0"}),
        ]
        for n in (2, 1):  # the first one is the first one's by its number, not by its place
            part = {"report_id": f"part-{n}"}
            more = {"origin": "whole", "native_id": f"a-0{n}", "title": f"第{n}件"}
            rows += [("reports", part | more), ("event_links", part | {"event_id": f"e{n}"})]
        for table, row in rows:
            whole = base | row
            client.insert(table, [list(whole.values())], column_names=list(whole))
        try:
            shown = run(client, "reports_of_day", day="2026-03-17", time_zone=ZONE)
            links = {
                i: run(client, "report_links", report_id=i) for i in ("whole", "part-2", "alone")
            }
            outcomes = [run(client, "report_outcome", report_id=i) for i in ("whole", "part-1")]
        finally:
            client.command("DROP DATABASE test_demands")
    assert [(r["report_id"], r["title"], r["event_id"], r["parts"]) for r in shown] == [
        ("alone", "一件事", "e0", 1),
        ("whole", "第1件", "e1", 2),
    ]
    assert {i: {r["event_id"] for r in found} for i, found in links.items()} == {
        "whole": {"e1", "e2"}, "part-2": {"e2"}, "alone": {"e0"},
    }  # fmt: skip
    assert [[r["report_id"] for r in found] for found in outcomes] == [["whole"], ["whole"]]


def test_an_event_that_changed_shows_once_in_its_newest_version(
    known: tuple[Client, CityDay],
) -> None:
    _, day = known
    newest = {r["event_id"]: r for r in day.rows["events"]}
    shown = ask(known, "latest_events", limit=500)
    assert len(shown) == len({r["event_id"] for r in shown}) == len(newest)
    assert all(r["report_count"] == newest[r["event_id"]]["report_count"] for r in shown)
    assert {r["order_state"] for r in shown} == {"DISPATCHED"}


def test_an_event_opens_with_all_its_reports_and_orders(known: tuple[Client, CityDay]) -> None:
    _, day = known
    event = max(day.rows["events"], key=lambda r: r["report_count"])["event_id"]
    for name, table in (("event_reports", "event_links"), ("event_orders", "order_transitions")):
        assert len(ask(known, name, event_id=event)) == counted(day.rows[table], "event_id")[event]
    (found,) = ask(known, "event", event_id=event)
    assert found["report_count"] == counted(day.rows["event_links"], "event_id")[event]


def test_open_orders_are_lit_by_priority_and_deadline(known: tuple[Client, CityDay]) -> None:
    _, day = known
    (lights,) = ask(known, "open_orders")
    orders = day.rows["orders"]
    assert lights["open"] == len(orders)
    assert lights["red"] == len([r for r in orders if r["priority"] == 1])
    assert lights["overdue"] == len([r for r in orders if r["due_at"] < NOW])


#: Tuesday as NOW; that week and the three before.
HABITS = {
    # every minute of the working day, asleep at night and on weekends
    "grid_patrol": [(day, 8 * 60, 18 * 60, 1) for day in range(29) if (1 - day) % 7 < 5],
    # a letter every two hours, day and night
    "mailbox": [(day, 0, 24 * 60, 120) for day in range(29)],
    # since yesterday only
    "uav": [(day, 0, 24 * 60, 5) for day in range(2)],
}


def gaps_at(client: Client, at: datetime, channel: str = "") -> dict[str, dict[str, int]]:
    """Channel → day → longest gap around that time of day, seconds."""
    rows = run(
        client,
        "channel_gap_days",
        at=round(at.timestamp() * 1000),
        time_zone=ZONE,
        channel=channel,
    )
    found: dict[str, dict[str, int]] = {}
    for row in rows:
        found.setdefault(row["channel"], {})[row["day"]] = row["gap_s"]
    return found


def test_a_channels_gaps_are_those_of_the_same_time_on_days_of_the_same_kind(
    settings: Settings,
) -> None:
    own = settings.model_copy(update={"clickhouse_database": "test_gaps"})
    tables.apply(own)
    client = clickhouse_connect.get_client(
        dsn=own.clickhouse_url, database="test_gaps", autogenerate_session_id=False
    )
    midnight = NOW.astimezone(ZoneInfo(ZONE)).replace(hour=0, minute=0, second=0)
    rows = [
        [f"{channel}-{day}-{minute}", channel, "accepted", at]
        for channel, habits in HABITS.items()
        for day, first, end, step in habits
        for minute in range(first, end, step)
        if (at := midnight - timedelta(days=day) + timedelta(minutes=minute)) <= NOW
    ]
    client.insert(
        "report_outcomes", rows, column_names=["report_id", "channel", "outcome", "received_at"]
    )
    hour, day, night = 3600, 24 * 3600, 14 * 3600 + 60
    morning = gaps_at(client, NOW)
    assert set(morning["grid_patrol"].values()) == {60}
    assert len(morning["grid_patrol"]) == 20  # four working weeks, not the weekends between
    assert "2026-03-17" not in morning["grid_patrol"]  # today is not compared with itself
    assert set(morning["mailbox"].values()) == {2 * hour}
    assert morning["uav"] == {"2026-03-16": 300}
    assert learned_gap(list(morning["grid_patrol"].values())) == 60
    assert learned_gap(list(morning["uav"].values())) is None
    # At three in the night the patrol sleeps: after a weekend longer, on every fifth night.
    asleep = gaps_at(client, NOW.replace(hour=19) - timedelta(days=1))["grid_patrol"]
    mondays = {"2026-03-16", "2026-03-09", "2026-03-02", "2026-02-23"}
    assert {d: g for d, g in asleep.items() if d in mondays} == dict.fromkeys(
        mondays, night + 2 * day
    )
    assert {g for d, g in asleep.items() if d not in mondays} == {night}
    # On a weekend it is compared with weekends only, one after the other in one gap.
    sunday = gaps_at(client, datetime(2026, 3, 15, 2, 30, tzinfo=UTC), "grid_patrol")
    assert set(sunday) == {"grid_patrol"}
    assert set(sunday["grid_patrol"].values()) == {night + 2 * day}
    # A gap that is not over is none: silence of days is not learned while it lasts.
    late = gaps_at(client, NOW + timedelta(days=3))
    assert set(late["mailbox"].values()) == {2 * hour}
    client.command("DROP DATABASE test_gaps")


def test_without_a_row_numbers_are_zero_and_instants_unknown(settings: Settings) -> None:
    own = settings.model_copy(update={"clickhouse_database": "test_no_rows"})
    tables.apply(own)
    client = clickhouse_connect.get_client(
        dsn=own.clickhouse_url, database="test_no_rows", autogenerate_session_id=False
    )
    day = CityDay(round(NOW.timestamp() * 1000), "2026-03-17", ZONE)
    clock = ("day", "time_zone", "at")
    for name, query in load_queries().items():
        needed = [p for p in query.parameters if p.default is None and p.name not in clock]
        nothing: dict[str, Any] = {
            p.name: "none" if p.type == "String" else "2026-03-17" if p.type == "Date" else 0
            for p in needed
        }
        rows = ask((client, day), name, **nothing)
        if name == "today_totals":
            assert (rows[0]["reports"], rows[0]["merge_ratio"]) == (0, None)
        if name == "data_as_of":
            assert (rows[0]["inserted_at"], rows[0]["lag_p99_ms"]) == (None, None)
    client.command("DROP DATABASE test_no_rows")


@pytest.mark.parametrize(
    "text",
    [
        "x' OR '1'='1",
        "back\\slash",
        "tab\there",
        "line\nbreak",
        "{day:Date}",
        "'; DROP TABLE reports; --",
        "井盖",
    ],
)
def test_a_value_is_never_read_as_sql(known: tuple[Client, CityDay], text: str) -> None:
    client, _ = known
    assert ask(known, "reports_of_day", channel=text) == []
    client.insert(
        "report_outcomes",
        [[f"odd-{text}", text, "accepted", datetime(2020, 1, 1, tzinfo=UTC)]],
        column_names=["report_id", "channel", "outcome", "received_at"],
    )
    (found,) = run(client, "reports_of_day", day="2020-01-01", time_zone=ZONE, channel=text)
    assert found["channel"] == text


def test_a_missing_or_wrong_parameter_is_named(known: tuple[Client, CityDay]) -> None:
    client, _ = known
    for params, message in (
        ({"time_zone": ZONE}, "parameter day \\(Date\\) is missing"),
        ({"time_zone": ZONE, "day": "2026-02-30"}, "parameter day"),
        ({"time_zone": ZONE, "day": "2026-02-03", "limit": -1}, "parameter limit"),
        ({"time_zone": ZONE, "day": "2026-02-03", "sql": "1"}, "no parameter 'sql'"),
    ):
        with pytest.raises(QuanyuError, match=message):
            run(client, "reports_of_day", **params)


def test_the_four_scenes_count_what_is_open_and_what_devices_told_in_an_hour(
    settings: Settings,
) -> None:
    own = settings.model_copy(update={"clickhouse_database": "test_scenes"})
    tables.apply(own)
    minute = timedelta(minutes=1)
    events = [  # class, opened so long ago, status, cleared
        ("2201", 2 * minute, "open", None), ("2201", 8 * 1440 * minute, "open", None),
        ("2301", minute, "open", NOW), ("2302", minute, "open", None), ("2203", minute, "closed", None),
        ("0102", minute, "open", None),
    ]  # fmt: skip
    alarms = [  # class, received so long ago, device, state, title
        ("2301", 5 * minute, "w-1", "open", "南流站 water_level 318.5cm"),
        ("2301", 6 * minute, "w-1", "open", "南流站 water_level 301cm"),
        ("2301", 4 * minute, "w-1", "cleared", "南流站 水位 恢复"),
        ("2301", 90 * minute, "w-2", "open", "北流站 water_level 280cm"),
        ("2202", minute, "", "", "车棚冒烟"), ("2203", minute, "c-1", "", "电动车入梯"),
    ]  # fmt: skip
    at = round(NOW.timestamp() * 1000)
    with clickhouse_connect.get_client(
        dsn=own.clickhouse_url, database=own.clickhouse_database, autogenerate_session_id=False
    ) as client:
        for n, (kind, ago, status, cleared) in enumerate(events):
            row: dict[str, Any] = {
                "event_id": f"e{n}", "version": 1, "status": status, "class_code": kind,
                "opened_at": NOW - ago, "cleared_at": cleared,
            }  # fmt: skip
            client.insert("events", [list(row.values())], column_names=list(row))
        for n, (kind, ago, device, state, title) in enumerate(alarms):
            row = {
                "report_id": f"r{n}", "class_code": kind, "received_at": NOW - ago, "device": device,
                "alarm_state": state, "title": title, "media": ["sha256:0"],
            }  # fmt: skip
            client.insert("reports", [list(row.values())], column_names=list(row))
        try:
            shown = {r["scene"]: (r["open"], r["last_hour"]) for r in run(client, "sensing", at=at)}
            rows = {
                scene: run(client, "sensing_alarms", at=at, scene=scene)
                for scene in ("water", "lift")
            }
            levels = [r["level_cm"] for r in run(client, "water_levels", at=at)]
            still = run(client, "sensing_open", at=at, scene="water")
        finally:
            client.command("DROP DATABASE test_scenes")
    assert shown == {"fire_lane": (1, 0), "shed_fire": (0, 0), "water": (1, 2), "lift": (0, 1)}
    assert list(shown) == ["fire_lane", "shed_fire", "water", "lift"]
    assert [len(rows["water"]), len(rows["lift"])] == [2, 1]
    assert {r["pictures"] for r in rows["water"]} == {1}
    assert levels == [280, 318.5]
    assert [r["class_code"] for r in still] == ["2302"]


def test_until_a_minute_the_days_numbers_are_those_of_the_rows_before_it(
    known: tuple[Client, CityDay],
) -> None:
    _, day = known
    until = day.now_ms - 3 * 3600 * 1000
    earlier = datetime.fromtimestamp(until / 1000, UTC)
    outcomes = [r for r in day.today("report_outcomes") if r["received_at"] < earlier]
    (totals,) = ask(known, "today_totals", until=until)
    assert 0 < totals["reports"] == len(outcomes) < len(day.today("report_outcomes"))
    assert totals["orders"] == len(
        [r for r in day.today("order_transitions", "at") if r["at"] < earlier]
    )
    assert sum(r["reports"] for r in ask(known, "by_channel", until=until)) == len(outcomes)
    assert sum(r["reports"] for r in ask(known, "outcome_totals", until=until)) == len(outcomes)
    assert sum(r["reports"] for r in ask(known, "intake_by_hour", until=until)) == len(outcomes)
    assert len(ask(known, "reports_of_day", until=until, limit=100_000)) == len(outcomes)
    assert sum(r["events"] for r in ask(known, "map_areas", until=until)) == totals["events"]


def test_two_events_that_may_be_one_are_asked_about_until_somebody_answers(
    settings: Settings,
) -> None:
    own = settings.model_copy(update={"clickhouse_database": "test_doubts"})
    tables.apply(own)
    doubts = {"e1": "e0", "e2": "e0", "e3": "e9", "e4": "e0", "e5": "closed"}
    with clickhouse_connect.get_client(
        dsn=own.clickhouse_url, database=own.clickhouse_database, autogenerate_session_id=False
    ) as client:
        rows: list[tuple[str, dict[str, Any]]] = [
            ("events", {"event_id": e, "version": v, "status": status, "title": f"{e} v{v}",
                        "report_count": 1, "opened_at": NOW})
            for e in ("e0", "e1", "e2", "e4", "e5", "closed")
            for v, status in ((1, "open"), (2, "closed" if e == "closed" else "open"))
        ]  # fmt: skip
        link = {"relation": "opened", "received_at": NOW, "sign": 1}
        rows += [
            ("event_links", link | {"link_id": f"l{e}", "report_id": f"r{e}", "event_id": e, "candidate": c})
            for e, c in doubts.items()
        ]  # fmt: skip
        # One moved to another event, of one somebody said that they are apart.
        rows.append(("event_links", link | {"link_id": "le4", "event_id": "e4", "sign": -1}))
        said = {"kind": "event", "action": "apart", "outcome": "applied", "decided_at": NOW}
        rows.append(("action_outcomes", said | {"action_id": "a", "target": "e2", "other": "e0"}))
        # An order that waits for the answer is asked about though the other event is over, and first.
        waits = {
            "order_id": "o5",
            "event_id": "e5",
            "version": 1,
            "dispatched_at": NOW,
            "unit_code": "u",
        }
        rows.append(("orders", waits | {"state": "NEEDS_REVIEW"}))
        for table, row in rows:
            client.insert(table, [list(row.values())], column_names=list(row))
        try:
            found = run(client, "merges_open")
        finally:
            client.command("DROP DATABASE test_doubts")
    told = [(r["event_id"], r["into"], r["title"], r["into_title"], r["total"]) for r in found]
    assert told == [("e5", "closed", "e5 v2", "", 2), ("e1", "e0", "e1 v2", "e0 v2", 2)]
    assert [r["order_id"] for r in found] == ["o5", ""]
    assert [r["waits_since"] is None for r in found] == [False, True]
