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
    due, on_time, due_left_out, if(due = 0, NULL, on_time / due) AS on_time_rate,
    closed, if(closed = 0, NULL, means) AS mean_ms, if(closed = 0, NULL, quantiles[1]) AS median_ms,
    if(closed = 0, NULL, quantiles[2]) AS p90_ms,
    rated, satisfied, if(rated = 0, NULL, satisfied / rated) AS satisfaction_rate
FROM
(
    -- One row for each KPI first: the engine then resolves few names.
    SELECT
        sumIf(counted, name = 'in_time_archive_rate') AS due, sumIf(hits, name = 'in_time_archive_rate') AS on_time,
        sumIf(others, name = 'in_time_archive_rate') AS due_left_out,
        sumIf(counted, name = 'close_time_wall') AS closed, anyIf(mean, name = 'close_time_wall') AS means,
        anyIf(middle, name = 'close_time_wall') AS quantiles,
        sumIf(counted, name = 'satisfaction_rate') AS rated, sumIf(hits, name = 'satisfaction_rate') AS satisfied
    FROM
    (
        SELECT kpi AS name, countIf(reason = '') AS counted, countIf(hit) AS hits, countIf(reason != '') AS others,
            avgIf(ms, reason = '') AS mean, quantilesExactInclusiveIf(0.5, 0.9)(ms, reason = '') AS middle
        FROM day_items
        GROUP BY kpi
    )
)
