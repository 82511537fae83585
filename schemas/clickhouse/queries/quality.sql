-- title: 办理质效
-- unit: 率
-- meaning: The city's day until now: of the orders that fell due in it how many were closed in time (按期办结率), from receipt to closing of those closed in it (mean, median, p90 in ms), of the visits in it how many were satisfied (满意率). The rules are those of the query kpi.
-- refresh: 30 s
-- over: day_items
-- drill_down: due -> day_orders(kpi = due_kpi, counted = 'denominator')
-- drill_down: on_time -> day_orders(kpi = due_kpi, counted = 'numerator')
-- drill_down: due_left_out -> day_orders(kpi = due_kpi, counted = 'left_out')
-- drill_down: closed -> day_orders(kpi = closed_kpi, counted = 'denominator')
-- drill_down: rated -> day_orders(kpi = rated_kpi, counted = 'denominator')
-- drill_down: satisfied -> day_orders(kpi = rated_kpi, counted = 'numerator')
SELECT
    'in_time_archive_rate' AS due_kpi, 'close_time_wall' AS closed_kpi, 'satisfaction_rate' AS rated_kpi,
    countIf(kpi = due_kpi AND reason = '') AS due,
    countIf(kpi = due_kpi AND hit) AS on_time,
    countIf(kpi = due_kpi AND reason != '') AS due_left_out,
    if(due = 0, NULL, on_time / due) AS on_time_rate,
    countIf(kpi = closed_kpi AND reason = '') AS closed,
    if(closed = 0, NULL, avgIf(ms, kpi = closed_kpi AND reason = '')) AS mean_ms,
    if(closed = 0, NULL, quantileExactInclusiveIf(0.5)(ms, kpi = closed_kpi AND reason = '')) AS median_ms,
    if(closed = 0, NULL, quantileExactInclusiveIf(0.9)(ms, kpi = closed_kpi AND reason = '')) AS p90_ms,
    countIf(kpi = rated_kpi AND reason = '') AS rated,
    countIf(kpi = rated_kpi AND hit) AS satisfied,
    if(rated = 0, NULL, satisfied / rated) AS satisfaction_rate
FROM day_items
