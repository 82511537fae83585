-- title: 一级单位得分
-- unit: 分
-- meaning: For each centre, district, street or unit one row for each KPI of the score, with target, points (100 where the target is reached, else as near as it is to it) and weight; score is the weighted mean of the points of KPIs that have a value, rank among those with enough orders.
-- refresh: 60 s
-- over: scorecard_staff
-- drill_down: denominator -> orders_behind(kpi = kpi, by = by, code = code, counted = 'denominator')
-- drill_down: numerator -> orders_behind(kpi = kpi, by = by, code = code, counted = 'numerator')
-- drill_down: left_out -> orders_behind(kpi = kpi, by = by, code = code, counted = 'left_out')
SELECT * FROM scorecard_staff WHERE {by:String} != 'handler'
ORDER BY rank ASC NULLS LAST, code, kpi
