-- title: 工单去向
-- unit: 件
-- meaning: 工单 dispatched to each unit in the city's day.
-- refresh: 10 s
-- drill_down: orders -> orders_of_day(unit_code = unit_code)
-- parameter: day Date — Day of the city.
-- parameter: time_zone String — Zone of the city's day.
-- parameter: until Int64 = 0 — Only what came before this instant, ms since the epoch; 0: the whole day.
-- parameter: limit UInt32 = 8 — How many units.
WITH
    toDateTime({day:Date}, {time_zone:String}) AS day_start,
    least(toDateTime({day:Date} + 1, {time_zone:String}),
        if({until:Int64} = 0, toDateTime({day:Date} + 1, {time_zone:String}), toDateTime(intDiv({until:Int64}, 1000), 'UTC'))) AS day_end,
    counted AS
    (
        SELECT unit_code, sum(n) AS orders
        FROM transition_counts
        WHERE minute >= day_start AND minute < day_end AND from_state = 'UNKNOWN'
        GROUP BY unit_code
        ORDER BY orders DESC, unit_code
        LIMIT {limit:UInt32}
    )
SELECT unit_code, name AS unit_name, orders
FROM counted
LEFT JOIN
(
    SELECT unit_code, any(unit_name) AS name
    FROM orders
    WHERE opened_at >= day_start - INTERVAL 1 DAY AND opened_at < day_end
    GROUP BY unit_code
) AS names USING (unit_code)
ORDER BY orders DESC, unit_code
