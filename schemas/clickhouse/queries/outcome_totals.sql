-- title: 处理结果
-- unit: 件
-- meaning: Raw reports of the city's day by outcome; every raw report has exactly one
-- refresh: 5
-- drill_down: outcomes_of_day
SELECT outcome, sum(n) AS reports
FROM outcome_counts
WHERE minute >= toDateTime({day:Date}, {time_zone:String})
  AND minute < toDateTime({day:Date} + 1, {time_zone:String})
GROUP BY outcome
ORDER BY reports DESC, outcome
