-- title: 渠道来源
-- unit: 件
-- meaning: Raw reports of the city's day by channel, accepted among them, the last five minutes, and when the last came in
-- refresh: 5
-- drill_down: outcomes_of_day
SELECT
    channel,
    sum(n) AS received,
    sumIf(n, outcome = 'accepted') AS accepted,
    sumIf(n, minute >= now() - INTERVAL 5 MINUTE) AS last_5_min,
    max(minute) AS last_minute
FROM outcome_counts
WHERE minute >= toDateTime({day:Date}, {time_zone:String})
  AND minute < toDateTime({day:Date} + 1, {time_zone:String})
GROUP BY channel
ORDER BY received DESC, channel
