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
    -- Gaps of more than a minute are few where there is much to hear: all others are a minute long.
    heard AS (
        SELECT
            channel,
            arraySort(bitmapToArray(groupBitmapState(toUInt32(toUnixTimestamp(minute))))) AS minutes,
            arrayFilter(pair -> pair.2 - pair.1 > 60, arrayZip(arrayPopBack(minutes), arrayPopFront(minutes))) AS gaps
        FROM outcome_counts
        WHERE minute > now_there - INTERVAL 35 DAY AND minute <= now_there
            AND ({channel:String} = '' OR channel = {channel:String})
        GROUP BY channel
        HAVING length(minutes) > 1
    )
SELECT
    channel,
    toDate(toDateTime(that, {time_zone:String})) AS day,
    greatest(
        arrayMax(pair -> if(pair.1 < that + 1800 AND pair.2 > that - 1800, pair.2 - pair.1, 0), gaps),
        60 * (minutes[1] < that + 1800 AND minutes[-1] > that - 1800)
    ) AS gap_s
FROM heard ARRAY JOIN instants AS that
WHERE gap_s > 0
ORDER BY channel, day DESC
