-- title: 当日考核工单
-- unit: 行
-- meaning: The orders behind a number of quality or day_scores: one row for each that is counted, or left out with its reason; total is their number before the limit.
-- refresh: 30 s
-- over: day_items
-- parameter: counted String = '' — denominator, numerator or left_out; empty: all that the KPI takes up.
-- parameter: limit UInt32 = 200 — How many rows.
-- parameter: offset UInt32 = 0 — Rows to skip.
WITH
    page AS
    (
        SELECT kpi, order_id, falls_at, reason, hit, ms, any(event_id) AS event, any(class_code) AS class,
            any(district_code) AS district, any(unit_name) AS unit, any(opened_at) AS opened, count() OVER () AS total
        FROM day_items
        WHERE {by:String} != 'handler'
            AND ({counted:String} = ''
                OR ({counted:String} = 'denominator' AND reason = '')
                OR ({counted:String} = 'numerator' AND hit)
                OR ({counted:String} = 'left_out' AND reason != ''))
        GROUP BY kpi, order_id, falls_at, reason, hit, ms
        HAVING sum(n) > 0
        ORDER BY hit, falls_at, order_id, kpi
        LIMIT {limit:UInt32} OFFSET {offset:UInt32}
    ),
    states AS
    (
        SELECT order_transitions.order_id AS order_id, argMax(tuple(to_state, due_at, closed_at), version) AS facts
        FROM order_transitions
        WHERE order_transitions.order_id IN (SELECT page.order_id FROM page)
            AND order_transitions.at >= (SELECT min(opened) FROM page)
            AND order_transitions.at <= fromUnixTimestamp64Milli(if({until:Int64} = 0, {at:Int64}, {until:Int64}), 'UTC')
        GROUP BY order_transitions.order_id
    )
SELECT
    page.order_id AS order_id, event AS event_id, class AS class_code, district AS district_code, unit AS unit_name,
    facts.1 AS state, toUnixTimestamp64Milli(opened) AS opened_at, toUnixTimestamp64Milli(facts.2) AS due_at,
    toUnixTimestamp64Milli(facts.3) AS closed_at, hit, reason, ms, total
FROM page LEFT JOIN states ON states.order_id = page.order_id
ORDER BY hit, falls_at, order_id, page.kpi
