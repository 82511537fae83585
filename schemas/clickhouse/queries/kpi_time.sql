-- title: 平均时长
-- unit: 毫秒
-- meaning: How long acceptance, handling and closing took in the period, in wall-clock time and in work time: n, mean, median, p90, how many were left out and why. Quantiles lie between the two nearest values, as in spreadsheets.
-- refresh: 60 s
-- over: kpi_items
-- drill_down: n -> orders_behind(kpi = kpi, counted = 'denominator')
-- drill_down: left_out -> orders_behind(kpi = kpi, counted = 'left_out')
WITH
    counted AS
    (
        SELECT
            kpi_items.kpi AS kpi, countIf(reason = '') AS n, countIf(reason != '') AS left_out,
            sumIf(ms, reason = '') AS sum_ms, avgIf(ms, reason = '') AS mean_ms,
            quantileExactInclusiveIf(0.5)(ms, reason = '') AS median_ms,
            quantileExactInclusiveIf(0.9)(ms, reason = '') AS p90_ms,
            sumMapIf(map(reason, toUInt64(1)), reason != '') AS excluded
        FROM kpi_items
        WHERE endsWith(kpi_items.kpi, '_wall') OR endsWith(kpi_items.kpi, '_work')
        GROUP BY kpi_items.kpi
    ),
    catalogue AS
    (
        SELECT entry.1 AS place, entry.2 AS kpi, entry.3 AS term, entry.4 AS clock, entry.5 AS formula
        FROM (SELECT arrayJoin([
            (1, 'accept_time_wall', '平均受理时长', '自然时间', '期内受理的首张工单：受理到派出'),
            (2, 'accept_time_work', '平均受理时长', '工作时间', '期内受理的首张工单：受理到派出'),
            (3, 'handle_time_wall', '平均处置时长', '自然时间', '期内处置的工单：派出到处置完成'),
            (4, 'handle_time_work', '平均处置时长', '工作时间', '期内处置的工单：派出到处置完成'),
            (5, 'close_time_wall', '平均结案时长', '自然时间', '期内结案的工单：受理到结案'),
            (6, 'close_time_work', '平均结案时长', '工作时间', '期内结案的工单：受理到结案')
        ]) AS entry)
    )
SELECT
    catalogue.kpi AS kpi, term, clock, n, if(n = 0, NULL, sum_ms) AS sum_ms, if(n = 0, NULL, mean_ms) AS mean_ms, if(n = 0, NULL, median_ms) AS median_ms,
    if(n = 0, NULL, p90_ms) AS p90_ms, left_out, excluded, formula
FROM catalogue
LEFT JOIN counted ON counted.kpi = catalogue.kpi
WHERE {kpi:String} = '' OR catalogue.kpi = {kpi:String}
ORDER BY place
