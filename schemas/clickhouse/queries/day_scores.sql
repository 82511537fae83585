-- title: 当日得分
-- unit: 分
-- meaning: For each centre, district, street or unit one row for each KPI of the score in the city's day until now, as the query scorecard has it for a period.
-- refresh: 60 s
-- over: scorecard_staff(kpi_items = day_items)
-- drill_down: denominator -> day_orders(kpi = kpi, by = by, code = code, counted = 'denominator')
-- drill_down: numerator -> day_orders(kpi = kpi, by = by, code = code, counted = 'numerator')
-- drill_down: left_out -> day_orders(kpi = kpi, by = by, code = code, counted = 'left_out')
SELECT * FROM scorecard_staff WHERE {by:String} != 'handler'
ORDER BY rank ASC NULLS LAST, code, kpi
