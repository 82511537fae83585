-- title: 网格员与单位得分
-- unit: 分
-- meaning: For each centre, district, street, unit or grid worker one row for each KPI of the score, with target, points (100 where the target is reached, else as near as it is to it) and weight; score is the weighted mean of the points of KPIs that have a value, rank among those with enough orders. Also for single workers, so not for everybody.
-- refresh: 60 s
-- private: scores of single people
-- over: kpi_items
-- parameter: card String = '' — The KPIs of the score, kpi:weight:target:better|…; better is high or low.
-- parameter: least UInt32 = 1 — Who has fewer rows in every KPI has no rank.
WITH
    arrayMap(line -> splitByChar(':', line), splitByChar('|', {card:String})) AS card,
    arrayMap(line -> line[1], card) AS kpis,
    counted AS
    (
        SELECT
            kpi_items.key AS code, kpi_items.kpi AS kpi, any(unit_name) AS a_name, sumIf(n, hit) AS numerator,
            sumIf(n, reason = '') AS denominator, sumIf(n, reason != '') AS left_out,
            indexOf(kpis, kpi) AS line,
            toFloat64OrZero(card[line][2]) AS weight, toFloat64OrZero(card[line][3]) AS target, card[line][4] AS better,
            if(denominator = 0, NULL, numerator / denominator) AS value,
            100 * least(1, if(better = 'low', if(target < 1, (1 - value) / (1 - target), 1),
                if(target > 0, value / target, 1))) AS points
        FROM kpi_items
        WHERE kpi_items.key != '' AND has(kpis, kpi_items.kpi)
        GROUP BY kpi_items.key, kpi_items.kpi
    ),
    scored AS
    (
        SELECT *,
            sum(weight * points) OVER (PARTITION BY code) / sum(if(points IS NULL, 0, weight)) OVER (PARTITION BY code) AS score,
            max(denominator) OVER (PARTITION BY code) >= {least:UInt32} AND isFinite(score) AS ranked
        FROM counted
    )
SELECT
    {by:String} AS by, code, if({by:String} = 'unit', a_name, '') AS name, kpi, value, numerator, denominator, left_out,
    target, better, points, weight, if(isFinite(score), score, NULL) AS score,
    if(ranked, dense_rank() OVER (PARTITION BY ranked ORDER BY score DESC), NULL) AS rank
FROM scored
ORDER BY rank ASC NULLS LAST, code, line
