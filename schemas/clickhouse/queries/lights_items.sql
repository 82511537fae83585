-- title: 红黄灯明细
-- unit: 项
-- meaning: Rows of sign n for the orders that a rule of the lights may light, so that their sum counts what holds: dangerous (of a dangerous class, its matter received in the city's day), due_soon (open, due within the next hours), recurrence (matters of one class in one grid), burst (matters of one class group in one street). due_at is the deadline of an order that is still open; a recurrence has none of its own.
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
    instant - toIntervalDay({lookback_days:UInt32}) AS looked_for,
    toDateTime({day:Date}, {time_zone:String}) AS day_start,
    toDateTime({day:Date} + 1, {time_zone:String}) AS day_end,
    instant - toIntervalHour({burst_hours:UInt32}) AS burst_start,
    arrayMap(name -> toLowCardinality(name), ['dangerous', 'burst']) AS names
-- What was received lately: few. Matters are summed, not read by FINAL: over a month that would be most of the work.
SELECT
    names[number] AS rule, if(number = 2, substring(class_code, 1, {burst_digits:UInt8}), class_code)::LowCardinality(String) AS class_code,
    district_code, street_code, toLowCardinality('') AS place, order_id, matters.opened_at AS opened_at, due_at, n
FROM matters
LEFT ANY JOIN
(
    SELECT order_id, due_at FROM orders_in_hand FINAL
    WHERE opened_at >= least(day_start, burst_start) AND opened_at <= instant AND orders_in_hand.n > 0
) AS due USING (order_id)
ARRAY JOIN arrayFilter(each -> each > 0 AND {rule:String} IN ('', names[each]), [
    1 * (priority <= {dangerous_priority:UInt8} AND matters.opened_at >= day_start AND matters.opened_at < day_end),
    2 * (matters.opened_at > burst_start AND street_code != '')
]) AS number
WHERE {rule:String} IN ('', 'dangerous', 'burst')
    AND matters.opened_at >= greatest(looked_for, least(day_start, burst_start)) AND matters.opened_at <= instant
UNION ALL
SELECT toLowCardinality('due_soon') AS rule, class_code, district_code, street_code, toLowCardinality('') AS place, order_id,
    opened_at, due_at, n
FROM orders_in_hand FINAL
WHERE {rule:String} IN ('', 'due_soon') AND opened_at >= looked_for AND opened_at <= instant AND n > 0
    AND state != 'SUSPENDED' AND due_at >= instant AND due_at < instant + toIntervalHour({due_hours:UInt32})
UNION ALL
SELECT toLowCardinality('recurrence') AS rule, class_code, district_code, street_code, grid_code AS place, order_id,
    opened_at, NULL AS due_at, n
FROM matters
WHERE {rule:String} IN ('', 'recurrence') AND opened_at >= looked_for AND opened_at <= instant
    AND opened_at > instant - toIntervalDay({recurrence_days:UInt32}) AND length(grid_code) >= 15
