# ruff: noqa: E501 # statements are wrapped by their sense
"""A year of a city in the real tables: which rows, with what skew, made inside the engine by INSERT … SELECT.

Every row is a function of its number and the seed (hashes, no random numbers), so that the same size gives
the same year. Skew: season, weekday, hour and days of storm; few classes, places and channels have most;
a third of the accepted reports join a known event, some links move, some records are late, orders go
through their whole life with returns, extensions, reworks and visits. The year ends in the afternoon of
its last day, with that much still open.
"""

import math
from collections.abc import Iterator, Mapping
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from clickhouse_connect.driver.client import Client

from schemas.channels import load_channels
from schemas.city import CityPack

#: The last day of the year, and the hour at which it is now.
LAST_DAY, LAST_HOUR = date(2026, 12, 31), 16
DAYS = 365
SOURCE = "year_source"
#: How much of a day's reports come in each of its hours: people sleep, and call after breakfast.
HOURS = (2, 1, 1, 1, 1, 2, 4, 7, 11, 12, 11, 9, 7, 8, 9, 9, 9, 8, 8, 8, 7, 6, 4, 3)
STORMS = frozenset({37, 143, 199, 200, 201, 236, 310})
#: Channel's kind → how many reports it has for one of a foreign channel.
SHARES = {"human": 6, "sensing": 4, "foreign": 0}
WORDS = {
    "roads": ("中原路", "桐柏路", "建设路", "航海路", "农业路", "花园路", "文化路", "金水路", "东风路", "陇海路"),
    "sides": ("东北角", "西南角", "路口", "地铁站 B 口", "桥下", "小学门前", "公交站旁", "沿河步道"),
    "tales": (
        "破损多日，雨后积水，行人通行不便，请尽快处理。", "堆放影响出行，多次反映没有结果，希望有关部门核实。",
        "夜间一直有声响，老人休息不好，盼望安排人员查看。", "存在安全隐患，孩子放学经过这里，请先做围挡。",
        "已经两天没有人来，气味很大，请安排清运。", "看到有人占用，车辆只能绕行，早晚高峰很堵。",
    ),
}  # fmt: skip


def day_weight(number: int) -> float:
    """How busy a day of the year is; ``number`` counts from its first day."""
    day = LAST_DAY - timedelta(days=DAYS - 1 - number)
    season = 1 + 0.25 * math.sin(2 * math.pi * (number - 100) / DAYS)
    weekend = 0.7 if day.weekday() > 4 else 1.0
    return (
        season * weekend * (3.0 if number in STORMS else 0.9 + 0.2 * ((number * 7919) % 101) / 100)
    )


def hours(reports: int, time_zone: str) -> Iterator[tuple[int, int, int]]:
    """Of each hour of the year: its begin (seconds since the epoch), number of its first report, how many."""
    zone = ZoneInfo(time_zone)
    slots: list[tuple[int, float]] = []
    for number in range(DAYS):
        day = LAST_DAY - timedelta(days=DAYS - 1 - number)
        begin = round(datetime(day.year, day.month, day.day, tzinfo=zone).timestamp())
        for hour in range(LAST_HOUR if day == LAST_DAY else 24):
            slots.append((begin + hour * 3600, day_weight(number) * HOURS[hour]))
    total, passed, first = sum(weight for _, weight in slots), 0.0, 0
    for begin, weight in slots:
        passed += weight
        until = round(reports * passed / total)
        yield begin, first, until - first
        first = until


def now_ms(time_zone: str) -> int:
    """The instant at which the year ends."""
    last = datetime(LAST_DAY.year, LAST_DAY.month, LAST_DAY.day, LAST_HOUR)
    return round(last.replace(tzinfo=ZoneInfo(time_zone)).timestamp() * 1000)


def prepare(client: Client, city: CityPack, reports: int) -> None:
    """What the statements draw from: the pack's classes, places and units, and how many come in each hour."""
    client.command(f"CREATE DATABASE IF NOT EXISTS {SOURCE}")
    client.command(f"DROP TABLE IF EXISTS {SOURCE}.lists")
    client.command(f"DROP TABLE IF EXISTS {SOURCE}.hours")
    client.command(
        f"CREATE TABLE {SOURCE}.lists (name String, list Array(String)) ENGINE = MergeTree ORDER BY name"
    )
    client.command(
        f"CREATE TABLE {SOURCE}.hours (since UInt32, first UInt64, n UInt64, span_ms UInt32 DEFAULT 3600000) ENGINE = MergeTree "
        "ORDER BY since"
    )
    channels = [
        (name, kind)
        for name, spec in load_channels().items()
        for kind in [spec.kind] * SHARES[spec.kind]
    ]
    lists: Mapping[str, list[str]] = {
        "grids": [code for code, _, _ in city.grids.names("micro")][::10],
        "classes": list(city.classes),
        "class_names": [one.name for one in city.classes.values()],
        "units": [f"{district}-{n:02}" for district in city.units for n in range(8)],
        "channels": [name for name, _ in channels],
        "kinds": [kind for _, kind in channels],
        **{name: list(words) for name, words in WORDS.items()},
    }
    client.insert(f"{SOURCE}.lists", list(map(list, lists.items())), column_names=["name", "list"])
    client.insert(
        f"{SOURCE}.hours",
        [list(row) for row in hours(reports, city.time_zone)],
        column_names=["since", "first", "n"],
    )


def _list(name: str) -> str:
    return f"(SELECT any(list) FROM {SOURCE}.lists WHERE name = '{name}') AS {name}"


#: Reports by their numbers. `e` is the number of the report that opened its event: its own, or an earlier one.
BASE = f"""
    {_list("grids")}, {_list("classes")}, {_list("class_names")}, {_list("units")}, {_list("channels")},
    {_list("kinds")}, {_list("roads")}, {_list("sides")}, {_list("tales")},
    (x, salt) -> (cityHash64(x, salt, {{seed:UInt32}}) % 1000000 + 0.5) / 1e6 AS u,
    (x, salt) -> toString(reinterpretAsUUID(sipHash128(x, salt, {{seed:UInt32}}))) AS id_of,
    (t) -> fromUnixTimestamp64Milli(toInt64(t), 'UTC') AS instant,
    (t, latest) -> if(t <= latest, toNullable(fromUnixTimestamp64Milli(toInt64(t), 'UTC')), NULL) AS known,
    (t, sure, before, after) -> toUInt8(sure AND (t <= after) != (t <= before)) AS turned,
    (t, before) -> toString(if(t <= before, toInt64(t), 0)) AS once,
    numbered AS
    (
        SELECT since, span_ms, arrayJoin(range(first, first + n)) AS n
        FROM {SOURCE}.hours
        WHERE since >= {{since:UInt32}} AND since < {{until:UInt32}}
    ),
    told AS
    (
        SELECT
            n, toInt64(since) * 1000 + toInt64(u(n, 1) * span_ms) AS received,
            n % 25 AS luck, n % 3 = 2 AND n > 6000 AS joined,
            toInt64(n) - 1 - 3 * toInt64(u(n, 2) * u(n, 3) * 1900) AS opener,
            if(joined, if(opener % 25 >= 22, opener - 9, opener), toInt64(n)) AS e,
            1 + toUInt32(u(n, 4) * length(channels)) AS channel_at
        FROM numbered
    ),
    placed AS
    (
        SELECT
            *, toString(channels[channel_at]) AS channel, kinds[channel_at] = 'sensing' AS sensed,
            1 + toUInt32(pow(u(e, 5), 2.5) * length(classes)) AS class_at,
            if(sensed AND NOT joined AND u(n, 6) < 0.3, '2301', classes[class_at]) AS class_code,
            grids[1 + toUInt32(pow(u(e, 7), 2) * length(grids))] AS full_grid,
            multiIf(u(e, 8) < 0.8, full_grid, u(e, 8) < 0.9, substring(full_grid, 1, 12),
                substring(full_grid, 1, 9)) AS grid_code,
            substring(grid_code, 1, 6) AS district_code,
            multiIf(u(e, 9) < 0.01, 1, u(e, 9) < 0.1, 2, 3) AS priority,
            113.4 + u(e, 10) * 0.5 AS lon, 34.6 + u(e, 11) * 0.3 AS lat,
            concat(roads[1 + toUInt32(u(e, 12) * length(roads))], toString(e % 400), '号',
                sides[1 + toUInt32(u(e, 13) * length(sides))]) AS address,
            if(sensed AND class_code = '2301', concat('南流站 water_level ', toString(200 + n % 150), 'cm'),
                class_names[class_at]) AS title,
            received + 150 + toInt64(u(n, 14) * 700) AS decided
        FROM told
    )"""
#: An order's life from its event's: instants of each stage, in ms; what does not happen has none.
LIFE = (
    BASE
    + """,
    begun AS
    (
        SELECT
            *,
            arrayJoin(if(u(n, 20) < 0.05, [1, 2], [1])) AS sequence,
            10 * n + sequence AS o,
            sequence = 1 AND u(n, 20) < 0.05 AS is_returned,
            if(sequence = 2, 7200000, 3000 + toInt64(pow(u(o, 21), 8) * 3600000)) AS dispatch_ms,
            [4, 24, 72, 120, 240][1 + toUInt32(u(e, 22) * 5)] * 3600000 AS allowed,
            received + dispatch_ms AS dispatched,
            dispatched + 7200000 AS sign_due,
            dispatched + toInt64(-ln(u(o, 23)) * 2400000) AS signed,
            signed + toInt64(-ln(u(o, 24)) * 1200000) AS contacted,
            u(o, 25) AS fate, NOT is_returned AND fate < 0.02 AS is_invalid,
            NOT is_returned AND fate >= 0.02 AND fate < 0.05 AS is_self_handled,
            NOT is_returned AND fate >= 0.05 AND fate < 0.07 AS is_suspended,
            NOT is_returned AND NOT is_invalid AND NOT is_suspended AS is_worked,
            fate > 0.95 AS is_extended, fate > 0.92 AND fate < 0.95 AS is_reworked,
            contacted + 600000 AS extended,
            contacted + toInt64((-ln(u(o, 26)) + 0.02) * allowed * 0.4) AS handled,
            handled + toInt64(-ln(u(o, 27)) * 9000000) AS checked,
            checked + toInt64(-ln(u(o, 28)) * 36000000) AS visited,
            visited + toInt64(-ln(u(o, 29)) * 9000000) AS closed,
            received + allowed AS first_due,
            concat(units[1 + cityHash64(district_code, class_code) % length(units)]) AS unit_code,
            id_of(o, 60) AS order_id,
            id_of(e, 50) AS event_id,
            concat(unit_code, '责任单位') AS unit_name,
            substring(grid_code, 1, 9) AS street_code,
            instant(received) AS opened_at,
            instant(dispatched) AS dispatched_at,
            toFloat64(allowed / 3600000) AS deadline_value,
            instant(received + 3600000) AS dispatch_due_at,
            instant(sign_due) AS sign_due_at,
            u(o, 30) < 0.02 AS supervised,
            concat('G', district_code, '-', toString(o % 60)) AS handler,
            multiIf(u(o, 32) < 0.05, 'unreachable', u(o, 32) < 0.17, 'unsatisfied', 'satisfied') AS rating,
            if(rating = 'unreachable', '', if(u(o, 33) < 0.9, 'solved', 'unsolved')) AS answer,
            u(o, 31) < 0.02 AS is_false_closure,
            arrayFilter(step -> step.4 AND step.3 <= {now:Int64}, [
                ('dispatch', 'DISPATCHED', dispatched, 1), ('sign', 'SIGNED', signed, 1),
                ('return', 'RETURNED', contacted, toUInt8(is_returned)),
                ('invalid', 'INVALID', contacted, toUInt8(is_invalid)),
                ('suspend', 'SUSPENDED', contacted, toUInt8(is_suspended)),
                ('contact', 'SIGNED', contacted, toUInt8(is_worked)),
                ('extend', 'EXTENDED', extended, toUInt8(is_worked AND is_extended)),
                ('handle', 'HANDLED', handled, toUInt8(is_worked)),
                ('check_fail', 'HANDLING', handled + 60000, toUInt8(is_worked AND is_reworked)),
                ('handle', 'HANDLED', handled + 120000, toUInt8(is_worked AND is_reworked)),
                ('check_pass', 'CHECKED', checked + 180000, toUInt8(is_worked)),
                ('visit', 'REVISITED', visited + 180000, toUInt8(is_worked)),
                ('close', 'CLOSED', closed + 180000, toUInt8(is_worked))]) AS path
        FROM placed
        WHERE luck < 22 AND NOT joined
    )"""
)
#: The order as it stood after a step of number `version`.
STOOD = """

    unit_code, 'department' AS level, class_code, district_code,
    grid_code, toInt32(priority) AS priority,
    toInt32(sequence) AS sequence,
    path[version].3 AS stepped,
    extended <= stepped AND is_extended AND is_worked AS is_later,
    instant(first_due + if(is_later, toInt64(allowed), 0)) AS due_at,
    'hour' AS deadline_unit,
    due_at AS handle_due_at,
    known(signed, stepped) AS signed_at, if(is_worked, known(contacted, stepped), NULL) AS contacted_at,
    if(is_worked, known(handled, stepped), NULL) AS handled_at, if(is_worked, known(checked + 180000, stepped), NULL) AS checked_at,
    if(is_worked, known(closed + 180000, stepped), NULL) AS closed_at,
    if(is_suspended, known(contacted, stepped), NULL) AS paused_at, known(stepped, stepped) AS state_at,
    toInt32(is_later) AS extensions, toInt32(is_reworked AND version > 5) AS reworks,
    is_self_handled AS self_handled, closed_at IS NOT NULL AND is_false_closure AS false_closure,
    'responsible' AS rule,
    is_worked AND visited + 180000 <= stepped AS is_visited,
    if(is_visited, rating, '') AS final_visit, final_visit AS first_visit, if(is_visited, answer, '') AS solved,
    if(is_worked, known(visited + 180000, stepped), NULL) AS visited_at, visited_at AS first_visited_at,
    -- What was so after the step before this one and is not any more, or was not so yet.
    path[version - 1].3 AS former,
    visited <= former - 180000 AS was_visited,
    if(version = 1, '{}', concat('{', arrayStringConcat(arrayMap(fact -> concat('"', fact.1, '":', fact.2), arrayFilter(
        fact -> fact.3, [
            ('due_at', toString(first_due + if(extended <= former, toInt64(allowed), 0)),
                turned(extended, is_worked AND is_extended, former, stepped)),
            ('contacted_at', once(contacted, former), turned(contacted, is_worked, former, stepped)),
            ('handled_at', once(handled, former), turned(handled, is_worked, former, stepped)),
            ('closed_at', once(closed + 180000, former), turned(closed + 180000, is_worked, former, stepped)),
            ('false_closure', toString(closed + 180000 <= former), turned(closed + 180000, is_worked AND is_false_closure, former, stepped)),
            ('paused_at', once(contacted, former), turned(contacted, is_suspended, former, stepped)),
            ('visited_at', once(visited + 180000, former), turned(visited + 180000, is_worked, former, stepped)),
            ('final_visit', if(was_visited, concat('"', rating, '"'), '""'), turned(visited + 180000, is_worked, former, stepped)),
            ('solved', if(was_visited, concat('"', answer, '"'), '""'), turned(visited + 180000, is_worked, former, stepped)),
            ('reworks', '0', toUInt8(is_reworked AND version = 6))
        ])), ','), '}')) AS replaced,
    'orders' AS _topic, toUInt32(o % 8) AS _partition, toUInt64(o * 16 + version) AS _offset,
    instant(stepped + 400) AS _inserted_at"""
_ORDER_COLUMNS = (
    *(
        "order_id",
        "event_id",
        "version",
        "unit_code",
        "unit_name",
        "level",
        "class_code",
        "district_code",
    ),
    *("street_code", "grid_code", "priority", "opened_at", "dispatched_at", "sequence", "due_at"),
    *(
        "deadline_value",
        "deadline_unit",
        "dispatch_due_at",
        "sign_due_at",
        "handle_due_at",
        "signed_at",
    ),
    *(
        "contacted_at",
        "handled_at",
        "checked_at",
        "closed_at",
        "paused_at",
        "state_at",
        "extensions",
    ),
    *("reworks", "supervised", "self_handled", "false_closure", "handler", "rule", "final_visit"),
    *("first_visit", "solved", "_topic", "_partition", "_offset", "_inserted_at"),
)


def _orders(condition: str, versions: str) -> str:
    columns = ", ".join(_ORDER_COLUMNS)
    return (
        f"INSERT INTO orders ({columns}, state)\nWITH {LIFE}\nSELECT {columns}, state FROM (SELECT *, "
        f"{versions} AS version, path[version].2 AS state, {STOOD} "
        f"FROM begun WHERE length(path) > 0 AND {condition})"
    )


_KEPT = "'reports' AS _topic, toUInt32(n % 8) AS _partition, toUInt64(n) AS _offset, instant(decided + 350) AS _inserted_at"
_SOURCE_COLUMNS = "concat('reports.raw.', channel) AS source_topic, 0 AS source_partition, toInt64(n) AS source_offset"
_OWN = "_topic, _partition, _offset, _inserted_at"
#: Table (and which of its rows) → the statement that fills a span of hours, with seed, since, until, now.
STATEMENTS: Mapping[str, str] = {
    "report_outcomes": f"""INSERT INTO report_outcomes (report_id, channel, native_id, outcome, reason, class_code,
        district_code, grid_code, occurred_at, received_at, decided_at, source_topic, source_partition,
        source_offset, rule_version, {_OWN})
    WITH {BASE}
    SELECT id_of(n, 40) AS report_id, channel, concat('N', toString(n)) AS native_id,
        multiIf(luck < 22, 'accepted', luck = 22, 'duplicate', luck = 23, 'review', 'rejected') AS outcome,
        multiIf(luck < 22, '', luck = 22, 'exact_duplicate',
            ['no_location', 'class_unknown', 'empty', 'out_of_city'][1 + n % 4]) AS reason,
        class_code, district_code, grid_code,
        -- Late records: it happened up to three days before it was told.
        instant(received - if(u(n, 15) < 0.01, toInt64(u(n, 16) * 259200000), toInt64(u(n, 16) * 600000))) AS occurred_at,
        instant(received) AS received_at, instant(decided) AS decided_at, {_SOURCE_COLUMNS}, '1' AS rule_version, {_KEPT}
    FROM placed""",
    "reports": f"""INSERT INTO reports (report_id, channel, native_id, occurred_at, occurred_offset_min, received_at,
        title, text, class_code, class_confidence, class_method, lon, lat, source_lon, source_lat, crs, district_code,
        grid_code, locate_method, zone, address, reporter_hash, media, source_topic, source_partition, source_offset,
        rule_version, device, alarm_state, {_OWN})
    WITH {BASE}
    SELECT id_of(n, 40) AS report_id, channel, concat('N', toString(n)) AS native_id,
        instant(received - if(u(n, 15) < 0.01, toInt64(u(n, 16) * 259200000), toInt64(u(n, 16) * 600000))) AS occurred_at,
        480 AS occurred_offset_min, instant(received) AS received_at, title,
        if(sensed, title, concat(address, title, '，', tales[1 + n % length(tales)], '编号', toString(n % 9973))) AS text,
        class_code, toFloat32(round(0.5 + u(n, 17) / 2, 3)) AS class_confidence,
        if(u(n, 18) < 0.001, 'person', 'model') AS class_method,
        round(lon, 6) AS lon, round(lat, 6) AS lat, toString(lon) AS source_lon, toString(lat) AS source_lat,
        'GCJ02' AS crs, district_code, grid_code, 'point' AS locate_method, district_code AS zone, address,
        if(sensed, '', lower(hex(sipHash128(e, u(n, 19) < 0.5, 70)))) AS reporter_hash,
        if(u(n, 34) < 0.3, [concat('media/', id_of(n, 71), '.jpg')], []) AS media, {_SOURCE_COLUMNS}, '1' AS rule_version,
        if(sensed, concat('D', toString(e % 5000)), '') AS device, if(sensed, 'open', '') AS alarm_state, {_KEPT}
    FROM placed WHERE luck < 22""",
    "event_links": f"""INSERT INTO event_links (link_id, report_id, event_id, relation, score, reason, rule_version,
        channel, class_code, district_code, occurred_at, received_at, decided_at, candidate, sign, sequence, {_OWN})
    WITH {BASE}
    SELECT id_of(n, if(way = 1 AND moved, 43, 42)) AS link_id, id_of(n, 40) AS report_id,
        id_of(if(way = 1 AND moved, e - 75, e), 50) AS event_id,
        if(joined, ['co_report', 'co_report', 'urge', 'supplement'][1 + n % 4], if(u(n, 35) < 0.03, 'recurrence', 'opened'))
            AS relation,
        toFloat32(round(if(joined, 0.6 + u(n, 36) * 0.4, 1), 3)) AS score, if(joined, 'near_same_class', 'new') AS reason,
        '1' AS rule_version, channel, class_code, district_code, instant(received - 60000) AS occurred_at,
        instant(received) AS received_at, instant(decided + 100) AS decided_at,
        if(NOT joined AND u(n, 37) < 0.002, toNullable(id_of(e - 75, 50)), NULL) AS candidate,
        -- A few links move: taken back, and made anew with an event of the same luck.
        toInt32(if(moved AND way = 2, -1, 1)) AS sign, toInt32(way) AS sequence, {_KEPT}
    FROM (SELECT *, joined AND n % 400 = 5 AS moved, arrayJoin(if(moved, [0, 2, 1], [0])) AS way FROM placed WHERE luck < 22)""",
    "events": f"""INSERT INTO events (event_id, version, status, class_code, lon, lat, district_code, grid_code, zone,
        title, address, first_report_id, first_channel, report_count, occurred_at, opened_at, updated_at, decided_at,
        priority, {_OWN})
    WITH {LIFE}
    SELECT id_of(e, 50) AS event_id, toInt64(version) AS version, if(version = 3, 'closed', 'open') AS status,
        class_code, round(lon, 6) AS lon, round(lat, 6) AS lat, district_code, grid_code, district_code AS zone, title,
        address, id_of(n, 40) AS first_report_id, channel AS first_channel, toInt32(version) AS report_count,
        instant(received - 60000) AS occurred_at, instant(received) AS opened_at, instant(changed) AS updated_at,
        instant(changed) AS decided_at, toInt32(priority) AS priority, {_OWN}
    FROM (SELECT *, toInt64(arrayJoin(arrayFilter(v -> v != 3 OR (is_worked AND closed + 180000 <= {{now:Int64}}), [1, 2, 3]))) AS version,
        [decided, least(decided + 3600000, {{now:Int64}}), closed + 180000][version] AS changed,
        'events' AS _topic, toUInt32(n % 8) AS _partition, toUInt64(n * 4 + version) AS _offset,
        instant(changed + 350) AS _inserted_at
        FROM begun WHERE sequence = 1 AND length(path) > 0)""",
    "orders as dispatched": _orders("length(path) > 1", "1"),
    "orders": _orders("1", "length(path)"),
    "order_transitions": f"""INSERT INTO order_transitions ({", ".join(_ORDER_COLUMNS)}, transition_id, from_state, to_state, action, actor,
        role, at, replaced, first_visited_at, visited_at)
    WITH {LIFE}
    SELECT {", ".join(_ORDER_COLUMNS)}, id_of(o * 16 + version, 61) AS transition_id,
        if(version = 1, 'UNKNOWN', path[version - 1].2) AS from_state, path[version].2 AS to_state,
        path[version].1 AS action, handler AS actor, 'handler' AS role, instant(path[version].3) AS at,
        replaced, first_visited_at, visited_at
    FROM (SELECT *, arrayJoin(arrayEnumerate(path)) AS version, {STOOD} FROM begun)""",
    "action_outcomes": f"""INSERT INTO action_outcomes (action_id, kind, action, target, outcome, actor, role, at, decided_at, {_OWN})
    WITH {BASE}
    SELECT id_of(n, 44) AS action_id, 'review' AS kind, if(u(n, 38) < 0.7, 'accept', 'reject') AS action,
        id_of(n, 40) AS target, 'applied' AS outcome, 'desk-1' AS actor, 'centre' AS role,
        instant(received + 1800000) AS at, instant(received + 1800500) AS decided_at, {_KEPT}
    FROM placed WHERE luck = 23 AND received + 1800500 <= {{now:Int64}} AND u(n, 39) < 0.97""",
}  # fmt: skip


def fill(client: Client, seed: int, since: int, until: int, now: int) -> None:
    """Fill the hours from ``since`` until ``until`` (seconds since the epoch)."""
    settings = {
        "async_insert": 0, "max_execution_time": 0, "min_insert_block_size_rows": 500_000,
        "min_insert_block_size_bytes": 0, "max_insert_threads": 2, "deduplicate_insert": "disable",
    }  # fmt: skip
    given = {"seed": seed, "since": since, "until": until, "now": now}
    for statement in STATEMENTS.values():
        client.command(statement, parameters=given, settings=settings)


def live(client: Client, since: int, first: int, rate: int, seconds: int) -> None:
    """So many reports of each of the next seconds, to be filled one second after the other."""
    client.insert(
        f"{SOURCE}.hours",
        [[since + number, first + number * rate, rate, 1000] for number in range(seconds)],
        column_names=["since", "first", "n", "span_ms"],
    )
