-- title: 渠道惯常间隔
-- unit: 秒
-- meaning: Longest gap between minutes with reports of each channel around this time of day (half an hour to each side), on those of the last 28 days that are working days or weekends as today is. A gap that is not over is none yet.
-- refresh: 300 s
-- parameter: at Int64 — Now, ms since the epoch.
-- parameter: time_zone String — Zone of the city's day.
-- parameter: channel String = '' — Only this channel; empty: every one.
WITH
    toDateTime(intDiv({at:Int64}, 1000), {time_zone:String}) AS now_there,
    arrayMap(that -> toUnixTimestamp(that), arrayFilter(
        that -> (toDayOfWeek(that) > 5) = (toDayOfWeek(now_there) > 5),
        arrayMap(back -> subtractDays(now_there, back), range(1, 29))
    )) AS instants,
    heard AS (
        SELECT channel, arraySort(groupUniqArray(toUnixTimestamp(minute))) AS minutes
        FROM outcome_counts
        WHERE minute > now_there - INTERVAL 35 DAY AND minute <= now_there
            AND ({channel:String} = '' OR channel = {channel:String})
        GROUP BY channel
    )
SELECT
    channel,
    toDate(toDateTime(that, {time_zone:String})) AS day,
    arrayMax(
        (since, until) -> if(since < that + 1800 AND until > that - 1800, until - since, 0),
        arrayPopBack(minutes), arrayPopFront(minutes)
    ) AS gap_s
FROM heard ARRAY JOIN instants AS that
WHERE length(minutes) > 1 AND gap_s > 0
ORDER BY channel, day DESC
