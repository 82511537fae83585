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
    closed, if(closed = 0, NULL, whole_ms / closed) AS mean_ms, if(closed = 0, NULL, quantiles[1]) AS median_ms,
    if(closed = 0, NULL, quantiles[2]) AS p90_ms,
    rated, satisfied, if(rated = 0, NULL, satisfied / rated) AS satisfaction_rate
FROM
(
    SELECT
        sumIf(n, kpi = 'in_time_archive_rate' AND reason = '') AS due,
        sumIf(n, kpi = 'in_time_archive_rate' AND hit) AS on_time,
        sumIf(n, kpi = 'in_time_archive_rate' AND reason != '') AS due_left_out,
        sumIf(n, kpi = 'close_time_wall' AND reason = '') AS closed,
        sumIf(n * ms, kpi = 'close_time_wall' AND reason = '') AS whole_ms,
        -- Each time as often as it is there; one that was taken away, maybe before a rebuild added it, is not.
        sumMapIf([ifNull(ms, 0)], [n], kpi = 'close_time_wall' AND reason = '') AS times,
        arrayReduce('quantilesExactInclusive(0.5, 0.9)',
            arrayFlatten(arrayMap((each, often) -> arrayWithConstant(greatest(often, 0), each), times.1, times.2))) AS quantiles,
        sumIf(n, kpi = 'satisfaction_rate' AND reason = '') AS rated,
        sumIf(n, kpi = 'satisfaction_rate' AND hit) AS satisfied
    FROM day_items
    WHERE kpi IN ('in_time_archive_rate', 'close_time_wall', 'satisfaction_rate')
)
