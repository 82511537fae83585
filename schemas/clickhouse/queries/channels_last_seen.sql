-- title: 渠道在线
-- unit: 毫秒时刻
-- meaning: Minute of the latest report of each channel within thirty days: silence is shown, not a number that stands still.
-- refresh: 5 s
-- parameter: at Int64 — Now, ms since the epoch.
SELECT channel, toDateTime64(max(minute), 3, 'UTC') AS last_at
FROM outcome_counts
WHERE minute >= toDateTime(intDiv({at:Int64}, 1000) - 30 * 86400, 'UTC')
GROUP BY channel
ORDER BY channel
