-- title: 渠道来源
-- unit: 件
-- meaning: 报件 of each channel: the city's day so far, and the last five minutes (full minutes from `since` on).
-- refresh: 5 s
-- drill_down: reports -> reports_of_day(channel = channel)
-- drill_down: last_5_min -> reports_of_day(channel = channel, since = since)
-- parameter: day Date — Day of the city.
-- parameter: time_zone String — Zone of the city's day.
-- parameter: until Int64 = 0 — Only what came before this instant, ms since the epoch; 0: the whole day.
-- parameter: at Int64 — Now, ms since the epoch.
WITH
    toDateTime({day:Date}, {time_zone:String}) AS day_start,
    least(toDateTime({day:Date} + 1, {time_zone:String}),
        if({until:Int64} = 0, toDateTime({day:Date} + 1, {time_zone:String}), toDateTime(intDiv({until:Int64}, 1000), 'UTC'))) AS day_end,
    greatest(day_start, toDateTime(intDiv(if({until:Int64} = 0, {at:Int64}, {until:Int64}), 60000) * 60 - 240, 'UTC')) AS since_minute
SELECT
    channel,
    sum(n) AS reports,
    sumIf(n, minute >= since_minute) AS last_5_min,
    toInt64(toUnixTimestamp(since_minute)) * 1000 AS since
FROM outcome_counts
WHERE minute >= day_start AND minute < day_end
GROUP BY channel
ORDER BY reports DESC, channel
