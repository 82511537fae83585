-- title: 工单明细
-- unit: 行
-- meaning: One row for each order dispatched in the city's day, newest first; total is their number before the limit.
-- refresh: 5 s
-- parameter: day Date — Day of the city.
-- parameter: time_zone String — Zone of the city's day.
-- parameter: until Int64 = 0 — Only what came before this instant, ms since the epoch; 0: the whole day.
-- parameter: unit_code String = '' — Only this unit; empty: all.
-- parameter: district_code String = '' — Only this district; empty: all.
-- parameter: limit UInt32 = 200 — How many rows.
-- parameter: offset UInt32 = 0 — Rows to skip.
WITH
    toDateTime({day:Date}, {time_zone:String}) AS day_start,
    least(toDateTime({day:Date} + 1, {time_zone:String}),
        if({until:Int64} = 0, toDateTime({day:Date} + 1, {time_zone:String}), toDateTime(intDiv({until:Int64}, 1000), 'UTC'))) AS day_end,
    found AS
    (
        SELECT order_id, event_id, at, unit_code, class_code, district_code
        FROM order_transitions
        WHERE at >= day_start AND at < day_end AND from_state = 'UNKNOWN'
            AND ({unit_code:String} = '' OR unit_code = {unit_code:String})
            AND ({district_code:String} = '' OR district_code = {district_code:String})
    ),
    page AS
    (
        SELECT * FROM found
        ORDER BY at DESC, order_id
        LIMIT {limit:UInt32} OFFSET {offset:UInt32}
    )
SELECT
    page.order_id AS order_id, page.event_id AS event_id, page.at AS dispatched_at,
    page.class_code AS class_code, page.district_code AS district_code,
    unit_name, state, priority, due_at, (SELECT count() FROM found) AS total
FROM page
LEFT JOIN
(
    SELECT order_id, argMax(unit_name, version) AS unit_name, argMax(state, version) AS state,
        argMax(priority, version) AS priority, argMax(tuple(due_at), version).1 AS due_at
    FROM orders
    WHERE opened_at >= day_start - INTERVAL 30 DAY AND opened_at < day_end
        AND order_id IN (SELECT order_id FROM page)
    GROUP BY order_id
) AS newest ON newest.order_id = page.order_id
ORDER BY dispatched_at DESC, order_id
