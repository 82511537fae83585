-- title: 事件类别
-- unit: 件
-- meaning: 事件 of each class in the city's day, and on the same day of last week until the same minute.
-- refresh: 10 s
-- drill_down: events -> events_of_day(class_code = class_code)
-- parameter: day Date — Day of the city.
-- parameter: time_zone String — Zone of the city's day.
-- parameter: until Int64 = 0 — Only what came before this instant, ms since the epoch; 0: the whole day.
-- parameter: at Int64 — Now, ms since the epoch.
-- parameter: limit UInt32 = 10 — How many classes.
WITH
    toDateTime({day:Date}, {time_zone:String}) AS day_start,
    least(toDateTime({day:Date} + 1, {time_zone:String}),
        if({until:Int64} = 0, toDateTime({day:Date} + 1, {time_zone:String}), toDateTime(intDiv({until:Int64}, 1000), 'UTC'))) AS day_end,
    toDateTime({day:Date} - 7, {time_zone:String}) AS week_start,
    least(
        toDateTime({day:Date} - 6, {time_zone:String}),
        toDateTime(intDiv(if({until:Int64} = 0, {at:Int64}, {until:Int64}), 60000) * 60 + 60 - 7 * 86400, 'UTC')
    ) AS week_end
SELECT
    class_code,
    sumIf(n, minute >= day_start) AS events,
    sumIf(n, minute < week_end) AS last_week
FROM link_counts
WHERE relation IN ('opened', 'recurrence')
    AND ((minute >= day_start AND minute < day_end) OR (minute >= week_start AND minute < week_end))
GROUP BY class_code
HAVING events > 0
ORDER BY events DESC, class_code
LIMIT {limit:UInt32}
