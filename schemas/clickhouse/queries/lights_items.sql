-- title: 红黄灯明细
-- unit: 项
-- meaning: One row for each order that a rule of the lights may light: dangerous (of a dangerous class, its matter received in the city's day), due_soon (open, due within the next hours), recurrence (matters of one class in one grid), burst (matters of one class group in one street).
-- refresh: 5 s
-- private: the rows below lights and lights_behind, unthinned
-- parameter: at Int64 — Now, ms since the epoch.
-- parameter: day Date — Day of the city.
-- parameter: time_zone String — Zone of the city's day.
-- parameter: rule String = '' — Only this rule; empty: all.
-- parameter: dangerous_priority UInt8 = 1 — Classes of this level and above are dangerous.
-- parameter: due_hours UInt32 = 72 — due_soon: due within so many hours.
-- parameter: recurrence_days UInt32 = 30 — recurrence: received in so many days.
-- parameter: burst_hours UInt32 = 2 — burst: received within so many hours.
-- parameter: burst_digits UInt8 = 2 — burst: classes that agree in so many digits are one group.
-- parameter: lookback_days UInt32 = 60 — Orders of matters that were received earlier are not looked for.
WITH
    fromUnixTimestamp64Milli({at:Int64}, 'UTC') AS instant,
    toDateTime({day:Date}, {time_zone:String}) AS day_start,
    toDateTime({day:Date} + 1, {time_zone:String}) AS day_end,
    ['dangerous', 'due_soon', 'recurrence', 'burst'] AS rules,
    newest AS
    (
        -- An order's opening never changes, so that all its versions lie in the window or none.
        SELECT
            order_id, event_id, unit_code, unit_name, class_code, district_code, street_code, grid_code, sequence,
            orders.opened_at AS opened_at, orders.state AS state, orders.priority AS priority, orders.due_at AS due_at
        FROM orders FINAL
        WHERE orders.opened_at >= instant - toIntervalDay({lookback_days:UInt32}) AND orders.opened_at <= instant
    ),
    known AS
    (
        SELECT *,
            state NOT IN ('INVALID', 'DIRECT_ANSWERED', 'WITHDRAWN') AS is_matter,
            is_matter AND sequence <= 1 AS is_first,
            -- Numbers of the rules that may light it; their names and texts only for those that do.
            arrayFilter(number -> number > 0 AND {rule:String} IN ('', rules[number]), [
                1 * (is_first AND priority <= {dangerous_priority:UInt8} AND opened_at >= day_start AND opened_at < day_end),
                2 * ifNull(is_matter AND state NOT IN ('CLOSED', 'RETURNED', 'SUSPENDED')
                    AND due_at >= instant AND due_at < instant + toIntervalHour({due_hours:UInt32}), 0),
                3 * (is_first AND opened_at > instant - toIntervalDay({recurrence_days:UInt32}) AND length(grid_code) >= 15),
                4 * (is_first AND opened_at > instant - toIntervalHour({burst_hours:UInt32}) AND street_code != '')
            ]) AS numbers
        FROM newest
    )
SELECT
    rules[number] AS rule,
    if(number = 4, substring(class_code, 1, {burst_digits:UInt8}), toString(class_code)) AS class_code,
    toString(district_code) AS district_code, toString(street_code) AS street_code,
    if(number = 3, toString(grid_code), '') AS place, order_id, event_id, toString(unit_code) AS unit_code,
    toString(unit_name) AS unit_name, toString(state) AS state, toInt32(priority) AS priority, opened_at, due_at
FROM known
ARRAY JOIN numbers AS number
