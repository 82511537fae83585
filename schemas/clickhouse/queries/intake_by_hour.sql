-- title: 受理时段
-- unit: 件
-- meaning: Accepted reports of the city's day and of the day before, by hour of the city
-- refresh: 10
-- drill_down: reports_of_day
SELECT
    toHour(toTimeZone(minute, {time_zone:String})) AS hour,
    sumIf(n, minute >= toDateTime({day:Date}, {time_zone:String})) AS reports,
    sumIf(n, minute < toDateTime({day:Date}, {time_zone:String})) AS reports_before
FROM outcome_counts
WHERE outcome = 'accepted'
  AND minute >= toDateTime({day:Date} - 1, {time_zone:String})
  AND minute < toDateTime({day:Date} + 1, {time_zone:String})
GROUP BY hour
ORDER BY hour
