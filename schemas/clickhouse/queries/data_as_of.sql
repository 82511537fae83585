-- title: 数据截至
-- unit: 时刻
-- meaning: When the last outcome became visible, and how long the last minute's reports took to become so
-- refresh: 1
SELECT
    max(_inserted_at) AS as_of,
    countIf(_inserted_at >= now64(3) - INTERVAL 1 MINUTE) AS reports_last_minute,
    quantileIf(0.5)(dateDiff('millisecond', received_at, _inserted_at),
                    _inserted_at >= now64(3) - INTERVAL 1 MINUTE) AS lag_p50_ms,
    quantileIf(0.99)(dateDiff('millisecond', received_at, _inserted_at),
                     _inserted_at >= now64(3) - INTERVAL 1 MINUTE) AS lag_p99_ms,
    now64(3) AS server_time
FROM report_outcomes
WHERE received_at >= now64(3) - INTERVAL 1 DAY
