-- title: 1+16+214
-- unit: 分
-- meaning: Centres or streets of the city by the composite score of the city's day until now, best first; of how many orders its largest KPI speaks. Who has too few has no rank.
-- refresh: 60 s
-- over: day_scores
-- drill_down: kpis -> day_scores(by = by, code = code)
-- parameter: limit UInt32 = 250 — How many.
SELECT by, code, any(day_scores.score) AS score, any(day_scores.rank) AS rank, max(denominator) AS orders, count() AS kpis
FROM day_scores
GROUP BY by, code
ORDER BY rank ASC NULLS LAST, orders DESC, code
LIMIT {limit:UInt32}
