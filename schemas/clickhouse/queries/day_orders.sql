-- title: 当日考核工单
-- unit: 行
-- meaning: The orders behind a number of quality or day_scores: one row for each that is counted, or left out with its reason; total is their number before the limit.
-- refresh: 30 s
-- over: day_items
-- parameter: counted String = '' — denominator, numerator or left_out; empty: all that the KPI takes up.
-- parameter: limit UInt32 = 200 — How many rows.
-- parameter: offset UInt32 = 0 — Rows to skip.
SELECT
    order_id, event_id, class_code, district_code, unit_name, state, opened_ms AS opened_at, due_ms AS due_at,
    closed_ms AS closed_at, hit, reason, ms, count() OVER () AS total
FROM day_items
WHERE {by:String} != 'handler'
    AND ({counted:String} = ''
        OR ({counted:String} = 'denominator' AND reason = '')
        OR ({counted:String} = 'numerator' AND hit)
        OR ({counted:String} = 'left_out' AND reason != ''))
ORDER BY hit, due_ms ASC NULLS LAST, order_id, day_items.kpi
LIMIT {limit:UInt32} OFFSET {offset:UInt32}
