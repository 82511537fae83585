-- title: 事件类别
-- unit: 件
-- meaning: Matters opened on the city's day by class, and on the same day a week before
-- refresh: 10
-- drill_down: events_of_day
SELECT
    class_code,
    sumIf(n, minute >= toDateTime({day:Date}, {time_zone:String})) AS events,
    sumIf(n, minute < toDateTime({day:Date}, {time_zone:String})) AS events_week_before
FROM link_counts
WHERE relation IN ('opened', 'recurrence')
  AND ((minute >= toDateTime({day:Date}, {time_zone:String})
        AND minute < toDateTime({day:Date} + 1, {time_zone:String}))
    OR (minute >= toDateTime({day:Date} - 7, {time_zone:String})
        AND minute < toDateTime({day:Date} - 6, {time_zone:String})))
GROUP BY class_code
ORDER BY events DESC, class_code
