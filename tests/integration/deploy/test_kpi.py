"""Every KPI equals the one that plain Python computes from the same steps, as of any moment and for anybody."""

import random
import statistics
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import clickhouse_connect
import numpy as np
import pytest
from clickhouse_connect.driver.client import Client

from deploy.kpi import Period, asker, compared, difference, light_parameters, months, parameters
from deploy.report import REASONS
from schemas import tables
from schemas.city import CityPack
from schemas.kpi import RATES, kpi_rules, light_rules
from schemas.queries import day_of, load_queries, run
from schemas.settings import Settings
from tests.order_book import (
    CHANNELS,
    CITY,
    DAY,
    GRIDS,
    HOUR,
    INSTANTS,
    SINCE,
    UNITS,
    UNTIL,
    ZONE,
    Book,
    Row,
    expected,
    ms,
    order_book,
)  # fmt: skip

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def known(settings: Settings) -> Iterator[tuple[Client, Book]]:
    own = settings.model_copy(update={"clickhouse_database": "test_kpi"})
    tables.apply(own)
    client = clickhouse_connect.get_client(
        dsn=own.clickhouse_url, database="test_kpi", autogenerate_session_id=False
    )
    book = order_book(seed=20261001, events=900)
    book.insert(client)
    yield client, book
    client.command("DROP DATABASE test_kpi")
    client.close()


#: Long after, at the end, in the middle, at an instant of a step, and before the period began.
MOMENTS = [UNTIL + 60 * DAY, UNTIL, SINCE + 11 * DAY + 7, SINCE - 1]


@pytest.mark.parametrize("at", MOMENTS)
def test_each_rate_equals_the_one_from_the_facts(known: tuple[Client, Book], at: int) -> None:
    client, book = known
    period = Period(SINCE, UNTIL, at)
    rates, _ = expected(book, period)
    found = {r["kpi"]: r for r in asker(client)("kpi", parameters(CITY, period))}
    composite = found.pop("composite")
    assert {
        kpi: (r["numerator"], r["denominator"], r["excluded"]) for kpi, r in found.items()
    } == rates
    assert {kpi: r["better"] for kpi, r in found.items()} == RATES
    for row in found.values():
        n = row["denominator"]
        assert row["value"] == (row["numerator"] / n if n else None)
        assert row["left_out"] == sum(row["excluded"].values())
    three = [found[k]["value"] for k in ("response_rate", "solve_rate", "satisfaction_rate")]
    if None in three:
        assert composite["value"] is None
    else:
        weights = (CITY.kpi.response, CITY.kpi.resolution, CITY.kpi.satisfaction)
        assert composite["value"] == pytest.approx(np.dot(weights, three))
    if at >= UNTIL:
        # Every trap was met.
        for kpi in RATES:
            assert 0 < found[kpi]["numerator"] < found[kpi]["denominator"], kpi
        reasons = {reason for row in found.values() for reason in row["excluded"]}
        assert reasons <= REASONS.keys()
        assert reasons >= {
            "invalid", "direct_answered", "withdrawn", "reassigned", "returned", "self_handled",
            "no_deadline", "suspended", "unreachable", "not_answered", "closed_before_opened",
            "duplicate", "no_place", "open_again",
        }  # fmt: skip


@pytest.mark.parametrize("at", MOMENTS)
def test_times_are_mean_median_and_p90_by_both_clocks(known: tuple[Client, Book], at: int) -> None:
    client, book = known
    period = Period(SINCE, UNTIL, at)
    _, times = expected(book, period)
    rows = asker(client)("kpi_time", parameters(CITY, period))
    assert len(rows) == 6
    for row in rows:
        values = times[row["kpi"]]
        assert row["n"] == len(values), row["kpi"]
        if not values:
            assert row["mean_ms"] is row["median_ms"] is row["p90_ms"] is None
            continue
        assert row["sum_ms"] == sum(values)
        assert row["mean_ms"] == pytest.approx(statistics.mean(values))
        assert row["median_ms"] == pytest.approx(statistics.median(values))
        assert row["p90_ms"] == pytest.approx(np.percentile(values, 90))


@pytest.mark.parametrize(
    ("filters", "chosen"),
    [
        ({"district_code": "410102"}, lambda o: o["district_code"] == "410102"),
        ({"class_code": "01"}, lambda o: o["class_code"].startswith("01")),
        ({"unit_code": UNITS[0]}, lambda o: o.get("unit_code") == UNITS[0]),
        ({"handler": "G1"}, lambda o: o.get("handler") == "G1"),
    ],
)
def test_a_part_of_the_city_is_counted_by_the_same_rules(
    known: tuple[Client, Book], filters: dict[str, str], chosen: Callable[[Row], bool]
) -> None:
    client, book = known
    period = Period(SINCE, UNTIL, UNTIL + 9 * DAY)
    rates, _ = expected(book, period, chosen)
    found = asker(client)("kpi", parameters(CITY, period) | filters)
    assert {
        r["kpi"]: (r["numerator"], r["denominator"], r["excluded"])
        for r in found
        if r["kpi"] in RATES
    } == rates


def test_a_street_and_a_channel_count_what_is_theirs(known: tuple[Client, Book]) -> None:
    client, book = known
    period = Period(SINCE, UNTIL, UNTIL + 9 * DAY)
    opened_by = {link["event_id"]: link["channel"] for link in book.links}
    for filters, chosen in (
        (
            {"street_code": GRIDS[0][:9]},
            lambda o: o["grid_code" if "is_report" in o else "street_code"][:9] == GRIDS[0][:9],
        ),
        (
            {"channel": CHANNELS[0]},
            lambda o: o.get("channel", opened_by.get(o.get("event_id"))) == CHANNELS[0],
        ),
    ):
        rates, _ = expected(book, period, chosen)
        found = {r["kpi"]: r for r in asker(client)("kpi", parameters(CITY, period) | filters)}
        for kpi in ("register_rate", "in_time_archive_rate", "solve_rate", "return_rate"):
            assert (found[kpi]["numerator"], found[kpi]["denominator"]) == rates[kpi][:2], kpi


def test_every_number_opens_the_orders_that_it_counts(known: tuple[Client, Book]) -> None:
    client, _ = known
    period = Period(SINCE, UNTIL, UNTIL)
    ask, given = asker(client), parameters(CITY, period)
    rates, times = ask("kpi", given), ask("kpi_time", given)
    behind = Counter(
        (row["kpi"], counted)
        for row in ask("orders_behind", given | {"limit": 1_000_000})
        for counted in (
            "left_out" if row["reason"] else "denominator",
            *(["numerator"] if row["hit"] else []),
        )
    )
    for row in rates:
        for column in ("denominator", "numerator", "left_out"):
            assert behind[row["kpi"], column] == row[column], f"{column} of {row}"
    for row in times:
        assert behind[row["kpi"], "denominator"] == row["n"]
        assert behind[row["kpi"], "left_out"] == row["left_out"]
    # And so does each link that the queries declare.
    scores = ask("scorecard", given | {"by": "centre"})
    for name, row in (
        ("kpi", next(r for r in rates if r["kpi"] == "check_pass_rate")),
        ("kpi", next(r for r in rates if r["kpi"] == "register_rate")),
        ("kpi_time", times[3]),
        ("scorecard", max(scores, key=lambda r: int(r["denominator"]))),
    ):
        for drill in load_queries()[name].drill_down:
            # Its own group comes from the row.
            passed = {k: v for k, v in given.items() if k != "by"}
            rows = run(client, drill.query, **drill.arguments(row, passed), limit=1_000_000)
            assert len(rows) == row[drill.column] > 0, f"{name}.{drill.column} of {row}"
            assert {r["total"] for r in rows} == {row[drill.column]}


def centre(o: Row) -> str:
    """By the pack's own tree: the street's unit before the district's."""
    unit = CITY.unit_of(o["street_code"] or o["district_code"])
    return unit.code if unit else str(o["district_code"])


@pytest.mark.parametrize(
    ("by", "key"),
    [
        ("centre", centre),
        ("district", lambda o: o["district_code"]),
        ("street", lambda o: o["street_code"]),
        ("unit", lambda o: o["unit_code"]),
        ("handler", lambda o: o["handler"]),
    ],
)
def test_scores_are_the_weighted_points_of_each_groups_own_kpis(
    known: tuple[Client, Book], by: str, key: Callable[[Row], str]
) -> None:
    client, book = known
    period = Period(SINCE, UNTIL, UNTIL + 9 * DAY)
    rules = kpi_rules(CITY)
    name = "scorecard_staff" if by == "handler" else "scorecard"
    rows = asker(client)(name, parameters(CITY, period) | {"by": by})
    codes = {r["code"] for r in rows}
    scores: dict[str, float] = {}
    for code in codes:

        def theirs(o: Row, code: str = code) -> bool:
            return "is_report" not in o and key(o) == code

        rates, _ = expected(book, period, theirs)
        points = {}
        for row in (r for r in rows if r["code"] == code):
            line = rules.scorecard[row["kpi"]]
            hits, n, _ = rates[row["kpi"]]
            assert (row["numerator"], row["denominator"]) == (hits, n)
            if n:
                good = hits / n if RATES[row["kpi"]] == "high" else 1 - hits / n
                aim = line.target if RATES[row["kpi"]] == "high" else 1 - line.target
                points[row["kpi"]] = 100 * min(1, good / aim)
                assert row["points"] == pytest.approx(points[row["kpi"]])
        weights = {kpi: rules.scorecard[kpi].weight for kpi in points}
        scores[code] = sum(w * points[k] for k, w in weights.items()) / sum(weights.values())
        assert row["score"] == pytest.approx(scores[code])
    assert codes == {key(o) for o in book.orders(period.at) if key(o)} & codes
    assert len(codes) >= 3
    ranks = {r["code"]: r["rank"] for r in rows if r["rank"] is not None}
    ordered = sorted(ranks, key=lambda code: -scores[code])
    assert [ranks[code] for code in ordered] == list(range(1, len(ordered) + 1))
    big = {r["code"] for r in rows if r["denominator"] >= rules.least}
    assert set(ranks) == big
    if by == "handler":
        assert asker(client)("scorecard", parameters(CITY, period) | {"by": by}) == []


def test_months_are_compared_as_long_after_their_end(known: tuple[Client, Book]) -> None:
    client, book = known
    at = UNTIL + 5 * DAY
    periods = months("2026-10", ZONE, at)
    assert periods[0] == (SINCE, UNTIL, at)
    assert periods[1] == (ms("2026-09-01"), SINCE, SINCE + 5 * DAY)
    assert periods[2] == (ms("2025-10-01"), ms("2025-11-01"), ms("2025-11-06"))
    rows = compared(asker(client), CITY, "kpi", periods, "kpi")
    before, _ = expected(book, periods[1])
    row = next(r for r in rows if r["kpi"] == "in_time_archive_rate")
    hits, n, _ = before["in_time_archive_rate"]
    assert difference(row, row["before"]) == pytest.approx(row["value"] - hits / n)
    # There was no order a year before: nothing to compare with.
    assert difference(row, row["year_before"]) is None
    # A month that still runs is compared with as much of the others.
    running = months("2026-10", ZONE, SINCE + DAY)
    assert running[1].at == ms("2026-09-01") + DAY


def test_without_a_calendar_no_work_time_is_told(known: tuple[Client, Book]) -> None:
    client, _ = known
    period = Period(SINCE, UNTIL, UNTIL)
    given = parameters(CITY, period) | {"calendar": "", "work_hours": ""}
    rows = {r["kpi"]: r for r in asker(client)("kpi_time", given)}
    wall, work = rows["handle_time_wall"], rows["handle_time_work"]
    assert work["n"] == 0
    assert work["excluded"]["no_calendar"] == wall["n"] > 0


# ---- lights


def test_each_light_equals_the_one_from_the_orders(known: tuple[Client, Book]) -> None:
    client, book = known
    day, at = "2026-10-15", ms("2026-10-15T10:30")
    rules = light_rules(CITY)
    given = {**light_parameters(CITY), "at": at, "day": day, "time_zone": ZONE}
    given["dangerous_priority"] = 3  # the morning has no order of a dangerous class
    found = run(client, "lights", **given, limit=100_000)
    # The table of orders keeps the newest version only.
    newest = {s["order_id"]: s for s in book.steps}.values()
    matters = [
        o
        for o in newest
        if o["to_state"] not in ("INVALID", "DIRECT_ANSWERED", "WITHDRAWN")
        and at - 60 * DAY <= o["opened_at"] <= at
    ]
    lit: Counter[tuple[str, ...]] = Counter()
    for o in matters:
        where = (o["district_code"], o["street_code"])
        if o["sequence"] == 1:
            if (
                o["priority"] <= int(given["dangerous_priority"])
                and ms(day) <= o["opened_at"] < ms(day) + DAY
            ):
                lit["dangerous", o["class_code"], *where, ""] += 1
            if o["opened_at"] > at - rules.recurrence.days * DAY and len(o["grid_code"]) >= 15:
                lit["recurrence", o["class_code"], *where, o["grid_code"]] += 1
            if o["opened_at"] > at - rules.burst.hours * HOUR and o["street_code"]:
                lit["burst", o["class_code"][:2], *where, ""] += 1
        is_open = o["to_state"] not in ("CLOSED", "RETURNED", "SUSPENDED")
        if is_open and o["due_at"] and at <= o["due_at"] < at + rules.due_soon.hours * HOUR:
            lit["due_soon", o["class_code"], *where, ""] += 1
    least = {"recurrence": rules.recurrence.times, "burst": rules.burst.events}
    keys = ("rule", "class_code", "district_code", "street_code", "place")
    assert {tuple(r[k] for k in keys): r["n"] for r in found} == {
        key: n for key, n in lit.items() if n >= least.get(key[0], 1)
    }
    assert {r["rule"] for r in found} >= {"dangerous", "due_soon", "recurrence"}
    assert all((r["light"] == "red") == (r["rule"] in rules.red) for r in found)
    (drill,) = load_queries()["lights"].drill_down
    for row in found:
        behind = run(client, drill.query, **drill.arguments(row, given), limit=10_000)
        assert len(behind) == row["n"] == behind[0]["total"]


def test_a_burst_in_one_street_lights_until_its_hours_are_over(
    settings: Settings, zhengzhou: CityPack
) -> None:
    own = settings.model_copy(update={"clickhouse_database": "test_lights"})
    tables.apply(own)
    client = clickhouse_connect.get_client(
        dsn=own.clickhouse_url, database="test_lights", autogenerate_session_id=False
    )
    at = ms("2026-10-15T10:30")
    names = ["order_id", "version", "event_id", "from_state", "to_state", "class_code", "district_code",
             "street_code", "grid_code", "sequence", "priority", "opened_at", "at"]  # fmt: skip
    opened = [datetime.fromtimestamp((at - n * 10 * 60_000) / 1000, UTC) for n in range(5)]
    rows: list[list[Any]] = [
        [f"o{n}", 1, f"e{n}", "UNKNOWN", "DISPATCHED", f"23{n:02}", "410102", "410102001", "410102001", 1, 3,
         instant, instant]
        for n, instant in enumerate(opened)
    ]  # fmt: skip
    client.insert("order_transitions", rows, column_names=names)

    def lights(after: int) -> list[tuple[str, str, int]]:
        given = {**light_parameters(zhengzhou), "at": at + after, "day": "2026-10-15"}
        found = run(client, "lights", **given, time_zone=ZONE)
        return [(r["rule"], r["class_code"], r["n"]) for r in found]

    assert lights(0) == [("burst", "23", 5)]
    assert lights(2 * HOUR - 40 * 60_000) == []

    # A step of an order is not another matter; one that is withdrawn is none, until it is there again.
    def step(version: int, before: str, after: str) -> None:
        row = [rows[0][0], version, rows[0][2], before, after, *rows[0][5:]]
        client.insert("order_transitions", [row], column_names=names)

    step(2, "DISPATCHED", "SIGNED")
    assert lights(0) == [("burst", "23", 5)]
    step(3, "SIGNED", "WITHDRAWN")
    assert lights(0) == []
    step(4, "WITHDRAWN", "SIGNED")
    assert lights(0) == [("burst", "23", 5)]
    client.command("OPTIMIZE TABLE matters FINAL")
    assert lights(0) == [("burst", "23", 5)]
    client.command("DROP DATABASE test_lights")


# ---- what is open, and what is a matter


def test_what_views_keep_of_orders_is_that_of_each_ones_last_step_however_steps_come(
    settings: Settings,
) -> None:
    own = settings.model_copy(update={"clickhouse_database": "test_in_hand"})
    tables.apply(own)
    client = clickhouse_connect.get_client(
        dsn=own.clickhouse_url, database="test_in_hand", autogenerate_session_id=False
    )
    book = order_book(seed=7, events=300)
    names = [n for n in book.steps[0] if n not in ("actor", "role")]
    steps = [
        [datetime.fromtimestamp(s[n] / 1000, UTC) if n in INSTANTS and s[n] is not None else s[n]
         for n in names]
        for s in book.steps
    ]  # fmt: skip
    newest = {s["order_id"]: s for s in book.steps}.values()
    over = ("CLOSED", "INVALID", "DIRECT_ANSWERED", "WITHDRAWN", "RETURNED")
    in_hand = {
        (o["order_id"], o["version"], o["to_state"], o["due_at"], o["priority"])
        for o in newest
        if o["to_state"] not in over
    }
    matters = {
        (o["order_id"], o["class_code"], o["grid_code"])
        for o in newest
        if o["sequence"] == 1 and o["to_state"] not in over[1:4]
    }
    # Late, early, in blocks that the sink repeats: no order of them may matter.
    random.Random(3).shuffle(steps)
    for begin in range(0, len(steps), 400):
        for token in (f"block-{begin}", f"block-{begin}"):
            client.insert("order_transitions", steps[begin : begin + 400], column_names=names,
                          settings={"insert_deduplication_token": token})  # fmt: skip
    for merged in (False, True):
        if merged:
            client.command("OPTIMIZE TABLE orders_in_hand FINAL")
            client.command("OPTIMIZE TABLE matters FINAL")
        rows = client.query(
            "SELECT order_id, of_version, state, toUnixTimestamp64Milli(due_at), priority "
            "FROM orders_in_hand FINAL WHERE n > 0"
        ).result_rows
        assert len(rows) == len(in_hand) > 50
        assert set(rows) == in_hand
        rows = client.query(
            "SELECT order_id, class_code, grid_code FROM matters GROUP BY ALL HAVING sum(n) = 1"
        ).result_rows
        assert set(rows) == matters
        assert client.query("SELECT sum(n) FROM matters").result_rows == [(len(matters),)]
    # Each order is judged once by its deadlines, whatever it went through.
    twice = "SELECT kpi, order_id, sum(n) AS times FROM order_scores GROUP BY ALL HAVING times NOT IN (0, 1)"
    assert client.query(twice).result_rows == []
    for kpi in ("response_rate", "in_time_archive_rate"):
        judged = client.query(f"SELECT sum(n) FROM order_scores WHERE kpi = '{kpi}'")
        assert judged.result_rows == [(len(newest),)]
    client.command("DROP DATABASE test_in_hand")
    client.close()


# ---- a day on the screen


@pytest.mark.parametrize("days", [3, 11, 20])
@pytest.mark.parametrize("hours", [9, 24, 24 * 30])
def test_a_days_numbers_on_the_screen_are_those_of_the_kpis_for_that_day(
    known: tuple[Client, Book], days: int, hours: int
) -> None:
    client, _ = known
    day = day_of(SINCE + days * DAY, ZONE)
    since = ms(f"{day}T00:00:00+08:00")
    at = since + hours * HOUR
    period = Period(since, min(since + DAY, at), at)
    given = parameters(CITY, period) | {"by": "centre"}
    ask = asker(client)
    own = given | {"day": day, "until": 0}
    scores = ask("day_scores", own)
    assert {r["kpi"] for r in scores} == set(kpi_rules(CITY).scorecard)
    columns = ("value", "numerator", "denominator", "left_out", "points", "weight", "score", "rank")
    expected_rows = {(r["code"], r["kpi"]): r for r in ask("scorecard", given)}
    assert {(r["code"], r["kpi"]) for r in scores} == set(expected_rows)
    for row in scores:
        there = expected_rows[row["code"], row["kpi"]]
        assert [row[c] for c in columns] == pytest.approx([there[c] for c in columns]), row
    kpis = {r["kpi"]: r for r in ask("kpi", given)}
    (time,) = [r for r in ask("kpi_time", given) if r["kpi"] == "close_time_wall"]
    (quality,) = ask("quality", own | {"by": "city"})
    in_time, rated = kpis["in_time_archive_rate"], kpis["satisfaction_rate"]
    assert [quality[c] for c in ("on_time", "due", "due_left_out")] == [
        in_time["numerator"], in_time["denominator"], in_time["left_out"]
    ]  # fmt: skip
    assert [quality[c] for c in ("satisfied", "rated")] == [
        rated["numerator"],
        rated["denominator"],
    ]
    assert [quality[c] for c in ("closed", "mean_ms", "median_ms", "p90_ms")] == pytest.approx(
        [time[c] for c in ("n", "mean_ms", "median_ms", "p90_ms")]
    )
    ranked = {r["code"]: r for r in ask("ranking", own)}
    assert {c: r["rank"] for c, r in ranked.items()} == {r["code"]: r["rank"] for r in scores}
    # As of an instant of the past, and not only because it was now then.
    later = ask("day_scores", own | {"at": at + 90 * DAY, "until": at})
    counts = ("code", "kpi", "numerator", "denominator", "left_out", "rank")
    assert [[r[c] for c in counts] for r in later] == [[r[c] for c in counts] for r in scores]


def test_an_order_that_took_its_last_step_long_ago_counts_on_the_day_it_falls_due(
    settings: Settings,
) -> None:
    own = settings.model_copy(update={"clickhouse_database": "test_long_due"})
    tables.apply(own)
    client = clickhouse_connect.get_client(
        dsn=own.clickhouse_url, database="test_long_due", autogenerate_session_id=False
    )
    day, at = "2026-10-15", ms("2026-10-15T18:00")
    dispatched = datetime.fromtimestamp((at - 70 * DAY) / 1000, UTC)
    row = {
        "order_id": "o1", "event_id": "e1", "version": 1, "to_state": "DISPATCHED", "unit_code": "u",
        "opened_at": dispatched, "dispatched_at": dispatched, "at": dispatched, "sequence": 1,
        "due_at": datetime.fromtimestamp((at - HOUR) / 1000, UTC), "district_code": "410102",
    }  # fmt: skip
    client.insert("order_transitions", [list(row.values())], column_names=list(row))
    (quality,) = run(client, "quality", day=day, time_zone=ZONE, at=at)
    assert (quality["due"], quality["on_time"]) == (1, 0)
    (behind,) = run(
        client, "day_orders", day=day, time_zone=ZONE, at=at, kpi="in_time_archive_rate"
    )
    assert behind["order_id"] == "o1"
    # Several KPIs by name; of others there is no row.
    both = "in_time_archive_rate,solve_rate"
    assert len(run(client, "day_orders", day=day, time_zone=ZONE, at=at, kpi=both)) == 1
    assert run(client, "day_orders", day=day, time_zone=ZONE, at=at, kpi="solve_rate") == []
    client.command("DROP DATABASE test_long_due")
