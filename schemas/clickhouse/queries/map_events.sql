-- title: 近一小时事件点位
-- unit: 行
-- meaning: Events opened within the last hour, or within the hour before an instant, that have a point (CGCS2000), newest first.
-- refresh: 5 s
-- parameter: at Int64 — Now, ms since the epoch.
-- parameter: until Int64 = 0 — Only what came before this instant, ms since the epoch; 0: to now.
-- parameter: limit UInt32 = 400 — How many points.
WITH fromUnixTimestamp64Milli(if({until:Int64} = 0, {at:Int64}, {until:Int64}), 'UTC') AS instant
SELECT event_id, lon, lat, title, class_code, district_code, priority, opened_at
FROM events FINAL
WHERE opened_at >= instant - INTERVAL 1 HOUR AND opened_at < instant + toIntervalHour({until:Int64} = 0)
    AND lon IS NOT NULL AND lat IS NOT NULL
ORDER BY opened_at DESC, event_id
LIMIT {limit:UInt32}
