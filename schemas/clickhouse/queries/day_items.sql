-- title: 当日考核明细
-- unit: 项
-- meaning: The rows of kpi_items for the KPIs of the screen in the city's day until now, by the same rules: one for each order that a KPI takes up, counted or left out with the reason. Cheaper, for only orders that took a step in the day, or had a deadline in it, are looked at.
-- refresh: 30 s
-- private: every KPI's rows at once, for quality, day_scores and day_orders to read
-- parameter: at Int64 — As of when, ms since the epoch: only steps until then are known.
-- parameter: until Int64 = 0 — As of this instant instead of at, ms since the epoch; 0: at.
-- parameter: day Date — Day of the city.
-- parameter: time_zone String — Zone of the city's day.
-- parameter: lookback_days UInt32 = 35 — Orders whose last step is older than so many days before the day are not looked for.
-- parameter: by String = 'city' — Group of each row: city, centre or street.
-- parameter: code String = '' — Only this group; empty: all.
-- parameter: centres String = '' — Streets and districts with the code of the centre that steers them, street:code|…; a district that is not named is its own.
WITH
    if({until:Int64} = 0, {at:Int64}, {until:Int64}) AS known_at,
    fromUnixTimestamp64Milli(known_at, 'UTC') AS instant,
    toDateTime({day:Date}, {time_zone:String}) AS day_start,
    toInt64(toUnixTimestamp(day_start)) * 1000 AS period_start,
    least(toInt64(toUnixTimestamp(toDateTime({day:Date} + 1, {time_zone:String}))) * 1000, known_at) AS period_end,
    fromUnixTimestamp64Milli(period_end, 'UTC') AS period_until,
    extractAll({centres:String}, '([^|:]+):') AS members,
    extractAll({centres:String}, ':([^|:]+)') AS centre_codes,
    taken AS
    (
        SELECT DISTINCT order_id
        FROM order_transitions
        WHERE order_transitions.at >= day_start - toIntervalDay({lookback_days:UInt32}) AND order_transitions.at <= instant
            AND (order_transitions.at >= day_start
                OR (due_at >= day_start AND due_at < period_until)
                OR (sign_due_at >= day_start AND sign_due_at < period_until))
    ),
    -- Each step of the thought is a level of its own: names that stand for names make the engine think long.
    newest AS
    (
        SELECT
            order_id,
            any(order_transitions.event_id) AS event_id, any(order_transitions.unit_code) AS unit_code,
            any(order_transitions.unit_name) AS unit_name, any(order_transitions.class_code) AS class_code,
            any(order_transitions.district_code) AS district_code, any(order_transitions.street_code) AS street_code,
            any(toUnixTimestamp64Milli(order_transitions.opened_at)) AS opened,
            argMax(tuple(
                order_transitions.to_state, order_transitions.action, order_transitions.dispatched_at,
                order_transitions.due_at, order_transitions.sign_due_at, order_transitions.contacted_at,
                order_transitions.handled_at, order_transitions.closed_at, order_transitions.paused_at,
                order_transitions.reworks, order_transitions.reopens, order_transitions.false_closure,
                order_transitions.self_handled, order_transitions.final_visit, order_transitions.solved),
                order_transitions.version) AS facts,
            maxIf(toUnixTimestamp64Milli(order_transitions.at), order_transitions.action = 'visit') AS visited
        FROM order_transitions
        WHERE order_transitions.at >= day_start - toIntervalDay({lookback_days:UInt32}) AND order_transitions.at <= instant
            AND order_id IN taken
        GROUP BY order_id
    ),
    known AS
    (
        SELECT
            order_id, event_id, unit_code, unit_name, class_code, district_code, street_code, opened, visited,
            facts.1 AS state, facts.2 AS last_action, toUnixTimestamp64Milli(facts.3) AS dispatched,
            toUnixTimestamp64Milli(facts.4) AS due, toUnixTimestamp64Milli(facts.5) AS sign_due,
            toUnixTimestamp64Milli(facts.6) AS contacted, toUnixTimestamp64Milli(facts.7) AS handled,
            toUnixTimestamp64Milli(facts.8) AS closed, toUnixTimestamp64Milli(facts.9) AS paused, facts.10 AS reworks,
            facts.11 AS reopens, facts.12 AS false_closure, facts.13 AS self_handled, facts.14 AS final_visit,
            facts.15 AS solved
        FROM newest
    ),
    worked AS
    (
        SELECT
            *,
            multiIf(
                state = 'INVALID', 'invalid',
                state = 'DIRECT_ANSWERED', 'direct_answered',
                state = 'WITHDRAWN' AND last_action != 'assign', 'withdrawn',
                state = 'UNKNOWN', 'status_unknown',
                self_handled, 'self_handled',
                '') AS no_work,
            multiIf(state = 'RETURNED', 'returned', state = 'WITHDRAWN' AND last_action = 'assign', 'reassigned', '') AS replaced,
            multiIf(closed < opened, 'closed_before_opened', due < opened, 'due_before_opened', '') AS bad_times
        FROM known
    ),
    judged AS
    (
        SELECT *, if(no_work != '', no_work, replaced) AS left_out
        FROM worked
    ),
    timed AS
    (
        SELECT
            *,
            multiIf(left_out != '', left_out, bad_times != '', bad_times, sign_due > known_at, 'not_due',
                state = 'SUSPENDED' AND paused < sign_due, 'suspended', '') AS unsigned,
            multiIf(left_out != '', left_out, bad_times != '', bad_times, due > known_at, 'not_due',
                state = 'SUSPENDED' AND paused < due, 'suspended', '') AS unclosed,
            multiIf(left_out != '', left_out, final_visit = 'unreachable', 'unreachable', '') AS unrated,
            multiIf(left_out != '', left_out, state != 'CLOSED', 'open_again', closed < opened, 'times_disordered', '') AS untimed,
            ifNull(sign_due >= period_start AND sign_due < period_end, opened >= period_start AND opened < period_end) AS sign_inside,
            ifNull(due >= period_start AND due < period_end, opened >= period_start AND opened < period_end) AS due_inside,
            ifNull(handled >= period_start AND handled < period_end, 0) AS handled_inside,
            ifNull(closed >= period_start AND closed < period_end, 0) AS closed_inside,
            visited >= period_start AND visited < period_end AS visited_inside
        FROM judged
    )
SELECT
    item.1 AS kpi,
    multiIf(
        {by:String} = 'centre', transform(toString(street_code), members, centre_codes,
            transform(toString(district_code), members, centre_codes, toString(district_code))),
        {by:String} = 'street', toString(street_code),
        '') AS key,
    order_id, event_id, toString(unit_code) AS unit_code, toString(unit_name) AS unit_name,
    toString(state) AS state, toString(class_code) AS class_code, toString(district_code) AS district_code,
    toString(street_code) AS street_code, opened AS opened_ms, due AS due_ms, closed AS closed_ms,
    item.3 AS reason, item.3 = '' AND item.4 AS hit, if(item.1 = 'close_time_wall', closed - opened, NULL) AS ms
FROM timed
-- kpi, whether the day takes the order up, why it is left out, whether it is in the numerator.
ARRAY JOIN arrayFilter(each -> each.2, [
    ('in_time_archive_rate', due_inside, if(unclosed = '' AND due IS NULL, 'no_deadline', unclosed),
        ifNull(state = 'CLOSED' AND closed <= due AND reopens = 0, 0)),
    ('response_rate', sign_inside, if(unsigned = '' AND sign_due IS NULL, 'no_deadline', unsigned),
        ifNull(contacted <= sign_due, 0)),
    ('accurate_dispatch_rate', dispatched >= period_start AND dispatched < period_end AND unit_code != '', no_work, replaced = ''),
    ('rework_rate', handled_inside, left_out, reworks > 0),
    ('false_closure_rate', closed_inside, left_out, toUInt8(false_closure)),
    ('solve_rate', visited_inside, if(unrated = '' AND solved = '', 'not_answered', unrated), solved = 'solved'),
    ('satisfaction_rate', visited_inside, unrated, final_visit = 'satisfied'),
    ('close_time_wall', closed_inside, untimed, 0)]) AS item
WHERE {code:String} = '' OR key = {code:String}
