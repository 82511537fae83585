-- title: 复核原因
-- unit: 件
-- meaning: Why raw reports of the city's day went to review or were rejected
-- refresh: 10
-- drill_down: outcomes_of_day
SELECT outcome, reason, sum(n) AS reports
FROM outcome_counts
WHERE outcome IN ('review', 'rejected')
  AND minute >= toDateTime({day:Date}, {time_zone:String})
  AND minute < toDateTime({day:Date} + 1, {time_zone:String})
GROUP BY outcome, reason
ORDER BY reports DESC, reason
