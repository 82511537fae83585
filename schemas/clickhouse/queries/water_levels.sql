-- title: 水位过程线
-- unit: 厘米
-- meaning: Highest water level that a station's alarm told in each ten minutes of the last six hours, read from the title that the channel writes (… water_level 318cm); ten minutes without an alarm have no row.
-- refresh: 30 s
-- parameter: at Int64 — Now, ms since the epoch.
WITH fromUnixTimestamp64Milli({at:Int64}, 'UTC') AS instant
SELECT
    toInt64(toUnixTimestamp(toStartOfInterval(received_at, INTERVAL 10 MINUTE))) * 1000 AS since,
    max(toFloat64OrZero(extract(title, 'water_level ([0-9.]+)'))) AS level_cm,
    count() AS alarms
FROM reports
WHERE received_at >= instant - INTERVAL 6 HOUR AND received_at <= instant AND match(title, 'water_level [0-9.]+')
GROUP BY since
ORDER BY since
