-- title: 区县分布
-- unit: 件
-- meaning: Matters opened on the city's day by district, and the reports that joined them
-- refresh: 5
-- drill_down: events_of_day
SELECT
    district_code,
    sumIf(n, relation IN ('opened', 'recurrence')) AS events,
    sum(n) AS reports
FROM link_counts
WHERE minute >= toDateTime({day:Date}, {time_zone:String})
  AND minute < toDateTime({day:Date} + 1, {time_zone:String})
GROUP BY district_code
ORDER BY events DESC, district_code
