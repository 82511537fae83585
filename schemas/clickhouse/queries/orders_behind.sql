-- title: 指标明细
-- unit: 行
-- meaning: The orders (or checks, or reports) behind a number of kpi, kpi_time or scorecard: one row for each that is counted, or left out with its reason; total is their number before the limit.
-- refresh: 60 s
-- over: kpi_items
-- parameter: counted String = '' — denominator, numerator or left_out; empty: all that the KPI takes up.
-- parameter: limit UInt32 = 200 — How many rows.
-- parameter: offset UInt32 = 0 — Rows to skip.
SELECT
    kpi, order_id, event_id, report_id, unit_code, unit_name, state, class_code, district_code, street_code,
    opened_ms AS opened_at, dispatched_ms AS dispatched_at, due_ms AS due_at, handled_ms AS handled_at,
    closed_ms AS closed_at, reason, hit, ms, count() OVER () AS total
FROM kpi_items
WHERE {counted:String} = ''
    OR ({counted:String} = 'denominator' AND reason = '')
    OR ({counted:String} = 'numerator' AND hit)
    OR ({counted:String} = 'left_out' AND reason != '')
ORDER BY kpi, hit, opened_ms, order_id, report_id
LIMIT {limit:UInt32} OFFSET {offset:UInt32}
