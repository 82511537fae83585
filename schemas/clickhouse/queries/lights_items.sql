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
    -- What stays the same in every version of an order may be taken from any.
    newest AS
    (
        SELECT
            order_id, any(orders.event_id) AS event_id, any(orders.unit_code) AS unit_code,
            any(orders.unit_name) AS unit_name, any(orders.class_code) AS class_code,
            any(orders.district_code) AS district_code, any(orders.street_code) AS street_code,
            any(orders.grid_code) AS grid_code, any(orders.sequence) AS sequence, any(orders.opened_at) AS opened_at,
            argMax(tuple(orders.state, orders.priority, orders.due_at), orders.version) AS facts
        FROM orders
        WHERE orders.opened_at >= instant - toIntervalDay({lookback_days:UInt32}) AND orders.opened_at <= instant
        GROUP BY order_id
    ),
    known AS
    (
        SELECT *,
            facts.1 AS state, facts.2 AS priority, facts.3 AS due_at,
            state NOT IN ('INVALID', 'DIRECT_ANSWERED', 'WITHDRAWN') AS is_matter,
            is_matter AND sequence <= 1 AS is_first,
            is_first AND opened_at > instant - toIntervalHour({burst_hours:UInt32}) AND street_code != '' AS is_new,
            is_first AND opened_at > instant - toIntervalDay({recurrence_days:UInt32}) AND length(grid_code) >= 15 AS is_placed,
            toString(class_code) AS own_class,
            substring(own_class, 1, {burst_digits:UInt8}) AS own_group
        FROM newest
    )
SELECT
    lit.1 AS rule, lit.2 AS class_code, toString(district_code) AS district_code, toString(street_code) AS street_code,
    lit.3 AS place, order_id, event_id, toString(unit_code) AS unit_code, toString(unit_name) AS unit_name,
    toString(state) AS state, toInt32(priority) AS priority, opened_at, due_at
FROM
(
    SELECT *, arrayJoin(arrayFilter(each -> each.4 AND {rule:String} IN ('', each.1), [
        ('dangerous', own_class, '', toUInt8(is_first AND priority <= {dangerous_priority:UInt8}
            AND opened_at >= day_start AND opened_at < day_end)),
        ('due_soon', own_class, '', toUInt8(ifNull(is_matter AND state NOT IN ('CLOSED', 'RETURNED', 'SUSPENDED')
            AND due_at >= instant AND due_at < instant + toIntervalHour({due_hours:UInt32}), 0))),
        ('recurrence', own_class, toString(grid_code), toUInt8(is_placed)),
        ('burst', own_group, '', toUInt8(is_new))])) AS lit
    FROM known
)
