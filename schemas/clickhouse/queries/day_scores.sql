-- title: 当日得分
-- unit: 分
-- meaning: For each centre or street one row for each KPI of the score in the city's day until now, with target, points and weight as the query scorecard has them; score is the weighted mean of the points of KPIs that have a value, rank among those with enough orders.
-- refresh: 60 s
-- over: day_items
-- drill_down: denominator -> day_orders(kpi = kpi, by = by, code = code, counted = 'denominator')
-- drill_down: numerator -> day_orders(kpi = kpi, by = by, code = code, counted = 'numerator')
-- drill_down: left_out -> day_orders(kpi = kpi, by = by, code = code, counted = 'left_out')
-- parameter: card String = '' — The KPIs of the score, kpi:weight:target:better|…; better is high or low.
-- parameter: least UInt32 = 1 — Who has fewer rows in every KPI has no rank.
WITH
    arrayMap(line -> splitByChar(':', line), splitByChar('|', {card:String})) AS card,
    arrayMap(line -> line[1], card) AS kpis,
    counted AS
    (
        SELECT
            day_items.key AS code, day_items.kpi AS kpi, countIf(hit) AS numerator, countIf(reason = '') AS denominator,
            countIf(reason != '') AS left_out, indexOf(kpis, kpi) AS line,
            toFloat64OrZero(card[line][2]) AS weight, toFloat64OrZero(card[line][3]) AS target, card[line][4] AS better,
            if(denominator = 0, NULL, numerator / denominator) AS value,
            100 * least(1, if(better = 'low', if(target < 1, (1 - value) / (1 - target), 1),
                if(target > 0, value / target, 1))) AS points
        FROM day_items
        WHERE day_items.key != '' AND has(kpis, day_items.kpi)
        GROUP BY day_items.key, day_items.kpi
    ),
    scored AS
    (
        SELECT *,
            sum(weight * points) OVER (PARTITION BY code) / sum(if(points IS NULL, 0, weight)) OVER (PARTITION BY code) AS score,
            max(denominator) OVER (PARTITION BY code) >= {least:UInt32} AND isFinite(score) AS ranked
        FROM counted
    )
SELECT
    {by:String} AS by, code, kpi, value, numerator, denominator, left_out, target, better, points, weight,
    if(isFinite(score), score, NULL) AS score,
    if(ranked, dense_rank() OVER (PARTITION BY ranked ORDER BY score DESC), NULL) AS rank
FROM scored
ORDER BY rank ASC NULLS LAST, code, line
