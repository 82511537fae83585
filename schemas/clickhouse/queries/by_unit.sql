-- title: 派遣单位
-- unit: 单
-- meaning: Orders dispatched on the city's day by unit
-- refresh: 10
-- drill_down: orders_of_day
SELECT unit_code, sum(n) AS orders
FROM transition_counts
WHERE from_state = 'UNKNOWN'
  AND minute >= toDateTime({day:Date}, {time_zone:String})
  AND minute < toDateTime({day:Date} + 1, {time_zone:String})
GROUP BY unit_code
ORDER BY orders DESC, unit_code
LIMIT 20
