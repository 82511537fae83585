-- title: 红黄灯工单
-- unit: 行
-- meaning: The orders that one light stands for, nearest deadline first; total is their number before the limit.
-- refresh: 5 s
-- over: lights_items
-- parameter: class_code String = '' — Class of the light, or group of classes.
-- parameter: district_code String = '' — Its district.
-- parameter: street_code String = '' — Its street.
-- parameter: place String = '' — Its grid.
-- parameter: limit UInt32 = 200 — How many rows.
-- parameter: offset UInt32 = 0 — Rows to skip.
WITH
    lit AS
    (
        SELECT rule, class_code, district_code, street_code, place, order_id, opened_at
        FROM lights_items
        WHERE class_code = {class_code:String} AND district_code = {district_code:String}
            AND street_code = {street_code:String} AND place = {place:String}
        GROUP BY ALL
        HAVING sum(n) > 0
    ),
    newest AS
    (
        SELECT
            orders.order_id AS order_id, any(orders.event_id) AS event_id, any(orders.unit_code) AS unit_code,
            any(orders.unit_name) AS unit_name, argMax(orders.state, orders.version) AS state,
            any(orders.priority) AS priority, argMax(tuple(orders.due_at), orders.version).1 AS due
        FROM orders
        -- By the key: the hours and the orders in them.
        WHERE toStartOfHour(orders.opened_at) IN (SELECT toStartOfHour(opened_at) FROM lit)
            AND orders.order_id IN (SELECT order_id FROM lit)
        GROUP BY orders.order_id
    )
SELECT
    lit.rule AS rule, lit.class_code AS class_code, lit.district_code AS district_code, lit.street_code AS street_code,
    lit.place AS place, lit.order_id AS order_id, newest.event_id AS event_id, newest.unit_code AS unit_code,
    newest.unit_name AS unit_name, newest.state AS state, newest.priority AS priority, lit.opened_at AS opened_at,
    newest.due AS due_at, count() OVER () AS total
FROM lit
LEFT JOIN newest ON newest.order_id = lit.order_id
ORDER BY due_at ASC NULLS LAST, order_id, rule
LIMIT {limit:UInt32} OFFSET {offset:UInt32}
