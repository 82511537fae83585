-- title: 数据截至
-- unit: 毫秒
-- meaning: When the newest row became visible, when its report was received, and the median and p99 from receipt to visible over the rows of the last five minutes.
-- refresh: 1 s
-- parameter: at Int64 — Now, ms since the epoch.
WITH fromUnixTimestamp64Milli({at:Int64}, 'UTC') AS instant
SELECT
    if(count() = 0, NULL, max(_inserted_at)) AS inserted_at,
    if(count() = 0, NULL, max(received_at)) AS received_at_newest,
    countIf(_inserted_at >= instant - INTERVAL 5 MINUTE) AS rows_5_min,
    if(rows_5_min = 0, NULL, quantileIf(0.5)(dateDiff('millisecond', received_at, _inserted_at),
        _inserted_at >= instant - INTERVAL 5 MINUTE)) AS lag_p50_ms,
    if(rows_5_min = 0, NULL, quantileIf(0.99)(dateDiff('millisecond', received_at, _inserted_at),
        _inserted_at >= instant - INTERVAL 5 MINUTE)) AS lag_p99_ms
FROM report_outcomes
WHERE received_at >= instant - INTERVAL 1 DAY
