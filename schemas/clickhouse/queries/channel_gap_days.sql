-- title: 渠道惯常间隔
-- unit: 秒
-- meaning: Longest gap between minutes with reports of each channel around this time of day (half an hour to each side), on those of the last 28 days that are working days or weekends as today is. A gap that is not over is none yet.
-- refresh: 300 s
-- parameter: at Int64 — Now, ms since the epoch.
-- parameter: time_zone String — Zone of the city's day.
-- parameter: channel String = '' — Only this channel; empty: every one.
WITH
    toDateTime(intDiv({at:Int64}, 1000), {time_zone:String}) AS now_there,
    arrayFilter(
        that -> (toDayOfWeek(that) > 5) = (toDayOfWeek(now_there) > 5),
        arrayMap(back -> subtractDays(now_there, back), range(1, 29))
    ) AS instants,
    minutes AS (
        SELECT channel, minute
        FROM outcome_counts
        WHERE minute > now_there - INTERVAL 35 DAY AND minute <= now_there
            AND ({channel:String} = '' OR channel = {channel:String})
        GROUP BY channel, minute
    ),
    gaps AS (
        SELECT
            channel,
            minute AS until,
            lagInFrame(minute, 1, minute) OVER (
                PARTITION BY channel ORDER BY minute ROWS BETWEEN 1 PRECEDING AND CURRENT ROW
            ) AS since
        FROM minutes
    )
SELECT
    channel,
    toDate(arrayJoin(
        arrayFilter(that -> since < that + INTERVAL 30 MINUTE AND until > that - INTERVAL 30 MINUTE, instants)
    ), {time_zone:String}) AS day,
    max(dateDiff('second', since, until)) AS gap_s
FROM gaps
WHERE since < until
GROUP BY channel, day
ORDER BY channel, day DESC
