-- title: 今日各时
-- unit: 件
-- meaning: 报件 and 事件 of each hour of the city's day, and the 报件 of the day before.
-- refresh: 5 s
-- drill_down: reports -> reports_of_day(hour = hour)
-- drill_down: events -> events_of_day(hour = hour)
-- parameter: day Date — Day of the city.
-- parameter: time_zone String — Zone of the city's day.
-- parameter: until Int64 = 0 — Only what came before this instant, ms since the epoch; 0: the whole day.
WITH
    toDateTime({day:Date}, {time_zone:String}) AS day_start,
    least(toDateTime({day:Date} + 1, {time_zone:String}),
        if({until:Int64} = 0, toDateTime({day:Date} + 1, {time_zone:String}), toDateTime(intDiv({until:Int64}, 1000), 'UTC'))) AS day_end,
    toDateTime({day:Date} - 1, {time_zone:String}) AS before_start
SELECT hour, sum(report) AS reports, sum(event) AS events, sum(before) AS reports_before
FROM
(
    SELECT toUInt8(number) AS hour, 0 AS report, 0 AS event, 0 AS before FROM numbers(24)
    UNION ALL
    SELECT
        toHour(minute, {time_zone:String}) AS hour,
        sumIf(n, minute >= day_start) AS report, 0 AS event, sumIf(n, minute < day_start) AS before
    FROM outcome_counts
    WHERE minute >= before_start AND minute < day_end
    GROUP BY hour
    UNION ALL
    SELECT toHour(minute, {time_zone:String}) AS hour, 0 AS report, sum(n) AS event, 0 AS before
    FROM link_counts
    WHERE minute >= day_start AND minute < day_end AND relation IN ('opened', 'recurrence')
    GROUP BY hour
)
GROUP BY hour
ORDER BY hour
