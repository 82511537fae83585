-- title: 考核明细
-- unit: 项
-- meaning: One row for each order (工单), check or report (报件) that a KPI (指标) of the period takes up: counted, or left out with the reason; hit when it is in the numerator, ms when the KPI is a time. Every order is taken as it was at the instant asked for, by its last step until then. Deadlines make the cohort: what should have been done is what fell due in the period, whenever it was opened.
-- refresh: 60 s
-- private: every KPI's rows at once, for kpi, scorecard and orders_behind to read
-- parameter: at Int64 — As of when, ms since the epoch: only steps until then are known.
-- parameter: since Int64 = 0 — Begin of the period, ms since the epoch; 0: thirty days before its end.
-- parameter: until Int64 = 0 — End of the period, which it does not include; 0: at.
-- parameter: time_zone String — Zone of the city, for work time.
-- parameter: lookback_days UInt32 = 100 — Orders whose last step is older than so many days before the period are not looked for.
-- parameter: kpi String = '' — Only this KPI, or these, separated by commas; empty: all.
-- parameter: by String = 'city' — Group of each row: city, centre, district, street, unit or handler.
-- parameter: code String = '' — Only this group; empty: all.
-- parameter: centres String = '' — Streets and districts with the code of the centre that steers them, street:code|…; a district that is not named is its own.
-- parameter: district_code String = '' — Only this district; empty: all.
-- parameter: street_code String = '' — Only this street; empty: all.
-- parameter: unit_code String = '' — Only this unit; empty: all.
-- parameter: handler String = '' — Only who works on it; empty: all.
-- parameter: channel String = '' — Only what this channel opened; empty: all.
-- parameter: class_code String = '' — Only classes that begin so; empty: all.
-- parameter: calendar String = '' — Work days from calendar_from on, one sign for each: 1 work, 0 none, - unknown; empty: no work time is known.
-- parameter: calendar_from Date = 1970-01-01 — The first of them.
-- parameter: work_hours String = '' — Windows of a work day in seconds of the day, begin-end,….
-- parameter: repeat_days UInt32 = 30 — 重复案件: a group's window reaches so many days back from the period's end, and at least over the period.
-- parameter: repeat_times UInt32 = 3 — 重复案件: from so many matters of one class in one grid on they are a group.
WITH
    {at:Int64} AS known_at,
    if({until:Int64} = 0, known_at, {until:Int64}) AS period_end,
    if({since:Int64} = 0, period_end - 30 * 86400000, {since:Int64}) AS period_start,
    least(period_start, period_end - toInt64({repeat_days:UInt32}) * 86400000) AS repeat_start,
    -- Work time of an instant: all work of the days before its own, and what of its own day's windows is over.
    arrayMap(sign -> toUInt8(sign = '1'), splitByString('', {calendar:String})) AS works,
    arrayCumSum(works) AS worked_days,
    arrayCumSum(sign -> toUInt8(sign NOT IN ('0', '1')), splitByString('', {calendar:String})) AS unknown_days,
    arrayMap(
        times -> tuple(toInt64OrZero(times[1]) * 1000, toInt64OrZero(times[2]) * 1000),
        arrayMap(span -> splitByChar('-', span), splitByChar(',', {work_hours:String}))) AS windows,
    arraySum(span -> span.2 - span.1, windows) AS day_ms,
    splitByChar('|', {centres:String}) AS steered,
    arrayMap(pair -> splitByChar(':', pair)[1], steered) AS members,
    arrayMap(pair -> splitByChar(':', pair)[2], steered) AS centre_codes,
    (street, district) -> transform(toString(street), members, centre_codes,
        transform(toString(district), members, centre_codes, toString(district))) AS centre_of,
    (t) -> ifNull(t >= period_start AND t < period_end, 0) AS falls_in,
    fromUnixTimestamp64Milli(known_at, 'UTC') AS known_until,
    fromUnixTimestamp64Milli(period_start, 'UTC') AS start_instant,
    fromUnixTimestamp64Milli(period_end, 'UTC') AS end_instant,
    start_instant - toIntervalDay({lookback_days:UInt32}) AS looked_for,
    arrayFilter(name -> name != '', splitByChar(',', {kpi:String})) AS kpis,
    -- Orders first: who took no step since the period began and has no deadline in it has no row. A group of
    -- repeated matters reaches further back.
    taken AS
    (
        SELECT order_id
        FROM order_transitions
        WHERE order_transitions.at >= looked_for AND order_transitions.at <= known_until
            AND (order_transitions.at >= start_instant
                OR (due_at >= start_instant AND due_at < end_instant)
                OR (sign_due_at >= start_instant AND sign_due_at < end_instant)
                OR (handle_due_at >= start_instant AND handle_due_at < end_instant)
                OR opened_at >= fromUnixTimestamp64Milli(repeat_start, 'UTC'))
    ),
    steps AS
    (
        SELECT
            order_id,
            any(order_transitions.event_id) AS event_id, any(order_transitions.unit_code) AS unit_code,
            any(order_transitions.unit_name) AS unit_name, any(order_transitions.class_code) AS class_code,
            any(order_transitions.district_code) AS district_code, any(order_transitions.street_code) AS street_code,
            any(order_transitions.grid_code) AS grid_code, any(order_transitions.sequence) AS sequence,
            toUnixTimestamp64Milli(any(order_transitions.opened_at)) AS opened,
            argMax(tuple(
                order_transitions.to_state, order_transitions.action, order_transitions.handler,
                order_transitions.dispatched_at, order_transitions.due_at, order_transitions.dispatch_due_at,
                order_transitions.sign_due_at, order_transitions.handle_due_at, order_transitions.contacted_at,
                order_transitions.handled_at, order_transitions.closed_at, order_transitions.paused_at,
                order_transitions.extensions, order_transitions.reworks, order_transitions.reopens,
                order_transitions.supervised, order_transitions.false_closure, order_transitions.self_handled,
                order_transitions.first_visit, order_transitions.final_visit, order_transitions.solved),
                order_transitions.version) AS facts,
            minIf(toUnixTimestamp64Milli(order_transitions.at), order_transitions.action = 'visit') AS first_visited,
            maxIf(toUnixTimestamp64Milli(order_transitions.at), order_transitions.action = 'visit') AS last_visited,
            countIf(order_transitions.action = 'check_pass' AND falls_in(toUnixTimestamp64Milli(order_transitions.at))) AS passes,
            countIf(order_transitions.action = 'check_fail' AND falls_in(toUnixTimestamp64Milli(order_transitions.at))) AS fails
        FROM order_transitions
        WHERE order_transitions.at >= looked_for AND order_transitions.at <= known_until AND order_id IN taken
            AND ({district_code:String} = '' OR order_transitions.district_code = {district_code:String})
            AND ({street_code:String} = '' OR order_transitions.street_code = {street_code:String})
            AND startsWith(order_transitions.class_code, {class_code:String})
        GROUP BY order_id
    ),
    states AS
    (
        SELECT
            * EXCEPT (facts),
            facts.1 AS state, facts.2 AS last_action, facts.3 AS worker, toUnixTimestamp64Milli(facts.4) AS dispatched,
            toUnixTimestamp64Milli(facts.5) AS due, toUnixTimestamp64Milli(facts.6) AS dispatch_due,
            toUnixTimestamp64Milli(facts.7) AS sign_due, toUnixTimestamp64Milli(facts.8) AS handle_due,
            toUnixTimestamp64Milli(facts.9) AS contacted, toUnixTimestamp64Milli(facts.10) AS handled,
            toUnixTimestamp64Milli(facts.11) AS closed, toUnixTimestamp64Milli(facts.12) AS paused,
            facts.13 AS extensions, facts.14 AS reworks, facts.15 AS reopens, facts.16 AS supervised,
            facts.17 AS false_closure, facts.18 AS self_handled, facts.19 AS first_visit, facts.20 AS final_visit,
            facts.21 AS solved
        FROM steps
    ),
    judged AS
    (
        SELECT
            *,
            state IN ('HANDLED', 'CHECKED', 'REVISITED', 'CLOSED') AS is_handled,
            state = 'CLOSED' AS is_closed,
            -- While it waits for a person its unit is only proposed.
            unit_code != '' AND state != 'NEEDS_REVIEW' AS is_dispatched,
            state = 'RETURNED' AS is_returned,
            state = 'WITHDRAWN' AND last_action = 'assign' AS is_reassigned,
            -- What was no work for a unit: nobody's score takes it up.
            multiIf(
                state = 'INVALID', 'invalid',
                state = 'DIRECT_ANSWERED', 'direct_answered',
                state = 'WITHDRAWN' AND last_action != 'assign', 'withdrawn',
                state = 'UNKNOWN', 'status_unknown',
                '') AS no_matter,
            multiIf(
                closed < opened, 'closed_before_opened',
                due < opened, 'due_before_opened',
                '') AS bad_times,
            -- A grid that is not known more finely than by its community is no place.
            length(grid_code) >= 15 AS has_place,
            -- Of opened, dispatched, handled, closed: its day in the calendar, its ms of the day.
            arrayMap(at_local -> tuple(
                    toInt64(toDate(at_local)) - toInt64({calendar_from:Date}) + 1,
                    (toHour(at_local) * 3600 + toMinute(at_local) * 60 + toSecond(at_local)) * 1000
                        + toMillisecond(at_local)),
                arrayMap(t -> toTimeZone(fromUnixTimestamp64Milli(t, 'UTC'), {time_zone:String}),
                    [opened, dispatched, ifNull(handled, opened), ifNull(closed, opened)])) AS days
        FROM states
    ),
    clocked AS
    (
        SELECT
            *,
            multiIf(no_matter != '', no_matter, self_handled, 'self_handled', '') AS no_work,
            -- Another order took the place of a returned or reassigned one, and is judged for it.
            multiIf(
                no_matter != '', no_matter,
                self_handled, 'self_handled',
                is_reassigned, 'reassigned',
                is_returned, 'returned',
                '') AS left_out,
            -- Of the same four: days of unknown years before its day, and up to it; work time until then.
            arrayMap(day -> tuple(
                    if(day.1 > 1, unknown_days[day.1 - 1], 0),
                    unknown_days[day.1],
                    (worked_days[day.1] - works[day.1]) * day_ms + works[day.1]
                        * arraySum(span -> greatest(0, least(day.2, span.2) - span.1), windows),
                    day.1 >= 1 AND day.1 <= length(works)),
                days) AS clock,
            countIf(sequence <= 1 AND no_matter = '' AND opened >= repeat_start AND opened < period_end)
                OVER (PARTITION BY class_code, grid_code) AS told_here,
            multiIf(
                {by:String} = 'centre', centre_of(street_code, district_code),
                {by:String} = 'district', toString(district_code),
                {by:String} = 'street', toString(street_code),
                {by:String} = 'unit', toString(unit_code),
                {by:String} = 'handler', toString(worker),
                '') AS key
        FROM judged
    ),
    orders AS
    (
        SELECT
            *,
            -- Of the deadlines of signing, handling and all: whether the period takes the order up, why it is left out.
            arrayMap(limit_ms -> tuple(
                    falls_in(ifNull(limit_ms, opened)),
                    multiIf(
                        left_out != '', left_out,
                        bad_times != '', bad_times,
                        limit_ms IS NULL, 'no_deadline',
                        limit_ms > known_at, 'not_due',
                        state = 'SUSPENDED' AND paused < limit_ms, 'suspended',
                        '')),
                [sign_due, handle_due, due]) AS duties,
            duties[1] AS to_contact, duties[2] AS to_handle, duties[3] AS to_close,
            arrayMap(t -> falls_in(t), [toNullable(opened), dispatched, handled, closed, first_visited, last_visited]) AS inside,
            inside[1] AS opened_inside, inside[2] AND is_dispatched AS dispatched_inside, inside[3] AS handled_inside,
            inside[4] AS closed_inside, inside[5] AS first_visited_inside, inside[6] AS last_visited_inside,
            inside[1] AND sequence <= 1 AS first_inside,
            first_inside AND is_dispatched AS accepted_inside,
            multiIf(left_out != '', left_out, NOT is_handled, 'not_handled', '') AS no_handling,
            multiIf(left_out != '', left_out, NOT is_closed, 'open_again', '') AS no_closing
        FROM clocked
    )
SELECT
    item.1 AS kpi, orders.key AS key, order_id, event_id, '' AS report_id, toString(unit_code) AS unit_code,
    toString(unit_name) AS unit_name, toString(worker) AS handler, toString(state) AS state,
    toString(class_code) AS class_code, toString(district_code) AS district_code,
    toString(street_code) AS street_code, toString(grid_code) AS grid_code, toNullable(opened) AS opened_ms,
    toNullable(dispatched) AS dispatched_ms, due AS due_ms, handled AS handled_ms, closed AS closed_ms,
    item.3 AS reason, item.3 = '' AND item.4 AS hit, item.5 AS ms, toInt64(1) AS n
FROM orders
ARRAY JOIN arrayFilter(each -> each.2 AND (empty(kpis) OR has(kpis, each.1)), arrayConcat(
    -- kpi, whether the period takes the order up, why it is left out, whether it is in the numerator.
    arrayMap(each -> tuple(each.1, each.2, each.3, toUInt8(ifNull(each.4, 0)), CAST(NULL, 'Nullable(Int64)')),
        arrayFilter(each -> each.2, [
            ('accurate_dispatch_rate', dispatched_inside, no_work, NOT is_returned AND NOT is_reassigned),
            ('response_rate', to_contact.1, to_contact.2, contacted <= sign_due),
            ('in_time_archive_rate', to_close.1, to_close.2, is_closed AND closed <= due AND reopens = 0),
            ('rework_rate', handled_inside, left_out, reworks > 0),
            ('false_closure_rate', closed_inside, left_out, false_closure),
            ('solve_rate', last_visited_inside,
                multiIf(left_out != '', left_out, final_visit = 'unreachable', 'unreachable', solved = '', 'not_answered', ''),
                solved = 'solved'),
            ('satisfaction_rate', last_visited_inside,
                multiIf(left_out != '', left_out, final_visit = 'unreachable', 'unreachable', ''),
                final_visit = 'satisfied'),
            ('in_time_register_rate', first_inside,
                multiIf(no_matter != '', no_matter, dispatch_due IS NULL, 'no_deadline',
                    NOT is_dispatched AND dispatch_due > known_at, 'not_due', ''),
                is_dispatched AND dispatched <= dispatch_due),
            ('return_rate', dispatched_inside, no_work, is_returned),
            ('dispose_rate', to_handle.1, to_handle.2, is_handled),
            ('in_time_dispose_rate', to_handle.1, to_handle.2,
                is_handled AND handled <= handle_due AND reopens = 0),
            ('archive_rate', to_close.1, to_close.2, is_closed),
            ('overdue_rate', to_close.1, to_close.2, NOT ifNull(is_closed AND closed <= due, 0)),
            ('extension_rate', to_close.1, to_close.2, extensions > 0),
            ('supervision_rate', to_close.1, to_close.2, supervised),
            ('closed_rate', opened_inside, left_out, is_closed),
            ('on_time_rate', closed_inside,
                multiIf(bad_times != '', bad_times, due IS NULL, 'no_deadline',
                    state NOT IN ('CLOSED', 'INVALID', 'DIRECT_ANSWERED', 'WITHDRAWN', 'UNKNOWN'), 'open_again', ''),
                closed <= due),
            ('reopen_rate', closed_inside, left_out, reopens > 0),
            ('first_satisfaction_rate', first_visited_inside,
                multiIf(left_out != '', left_out, first_visit = 'unreachable', 'unreachable', ''),
                first_visit = 'satisfied'),
            ('repeat_rate', first_inside,
                multiIf(no_matter != '', no_matter, NOT has_place, 'no_place', ''),
                told_here >= {repeat_times:UInt32})
        ])),
    -- Checks are counted, not orders.
    arrayMap(number -> tuple('check_pass_rate', toUInt8(1), left_out, toUInt8(number <= passes), CAST(NULL, 'Nullable(Int64)')),
        range(1, passes + fails + 1)),
    -- kpi, whether the period takes the order up, why it is left out, from when to when, whether the calendar knows
    -- both, how long.
    arrayMap(
        each -> tuple(each.1, each.2,
            multiIf(each.3 != '', each.3, each.5 < each.4, 'times_disordered', NOT each.6, 'no_calendar', ''),
            toUInt8(0), each.7),
        [
            ('close_time_wall', closed_inside, no_closing, opened, closed, toUInt8(1), toInt64(closed - opened)),
            ('accept_time_wall', accepted_inside, no_matter, opened, dispatched, toUInt8(1), toInt64(dispatched - opened)),
            ('accept_time_work', accepted_inside, no_matter, opened, dispatched,
                clock[1].4 AND clock[2].4 AND clock[1].1 = clock[2].2, clock[2].3 - clock[1].3),
            ('handle_time_wall', handled_inside, no_handling, dispatched, handled, toUInt8(1), toInt64(handled - dispatched)),
            ('handle_time_work', handled_inside, no_handling, dispatched, handled,
                clock[2].4 AND clock[3].4 AND clock[2].1 = clock[3].2, clock[3].3 - clock[2].3),
            ('close_time_work', closed_inside, no_closing, opened, closed,
                clock[1].4 AND clock[4].4 AND clock[1].1 = clock[4].2, clock[4].3 - clock[1].3)
        ])
)) AS item
WHERE ({unit_code:String} = '' OR unit_code = {unit_code:String})
    AND ({handler:String} = '' OR worker = {handler:String})
    AND ({code:String} = '' OR orders.key = {code:String})
    AND ({channel:String} = '' OR event_id IN
    (
        SELECT event_links.event_id FROM event_links
        WHERE {channel:String} != '' AND event_links.channel = {channel:String} AND relation IN ('opened', 'recurrence')
            AND event_links.received_at <= fromUnixTimestamp64Milli(known_at, 'UTC')
    ))
UNION ALL
SELECT
    'register_rate' AS kpi,
    multiIf(
        {by:String} = 'centre', centre_of(substring(grid_code, 1, 9), district_code),
        {by:String} = 'district', toString(district_code),
        {by:String} = 'street', substring(grid_code, 1, 9),
        '') AS key,
    '' AS order_id, '' AS event_id, report_id, '' AS unit_code, '' AS unit_name, '' AS handler,
    toString(outcome) AS state, toString(class_code) AS class_code, toString(district_code) AS district_code,
    substring(grid_code, 1, 9) AS street_code, toString(grid_code) AS grid_code,
    toNullable(toUnixTimestamp64Milli(received_at)) AS opened_ms, CAST(NULL, 'Nullable(Int64)') AS dispatched_ms,
    CAST(NULL, 'Nullable(Int64)') AS due_ms, CAST(NULL, 'Nullable(Int64)') AS handled_ms,
    CAST(NULL, 'Nullable(Int64)') AS closed_ms, if(outcome = 'duplicate', 'duplicate', '') AS reason,
    outcome = 'accepted' OR outcome = 'review' AND report_id IN
    (
        SELECT target FROM action_outcomes
        WHERE kind = 'review' AND action = 'accept' AND outcome = 'applied'
            AND action_outcomes.decided_at <= fromUnixTimestamp64Milli(known_at, 'UTC')
    ) AS hit,
    CAST(NULL, 'Nullable(Int64)') AS ms, toInt64(1) AS n
FROM report_outcomes
WHERE (empty(kpis) OR has(kpis, 'register_rate')) AND {unit_code:String} = '' AND {handler:String} = ''
    AND received_at >= fromUnixTimestamp64Milli(period_start, 'UTC')
    AND received_at < fromUnixTimestamp64Milli(period_end, 'UTC')
    AND report_outcomes.decided_at <= fromUnixTimestamp64Milli(known_at, 'UTC')
    AND ({code:String} = '' OR key = {code:String})
    AND ({district_code:String} = '' OR district_code = {district_code:String})
    AND ({street_code:String} = '' OR substring(grid_code, 1, 9) = {street_code:String})
    AND ({channel:String} = '' OR channel = {channel:String})
    AND startsWith(class_code, {class_code:String})
