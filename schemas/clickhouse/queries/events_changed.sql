-- title: 事件变化
-- unit: 行
-- meaning: Versions of events that became visible since then, the newest event first.
-- refresh: 1 s
-- private: For a memory of open events, not for eyes.
-- parameter: since Int64 = 0 — Visible at or after, ms since the epoch by the engine's clock.
-- parameter: opened Int64 = 0 — Events opened at or after, ms since the epoch.
-- parameter: limit UInt32 = 50000 — How many rows.
SELECT event_id, version, status, class_code, zone, lon, lat, district_code, grid_code, title, address,
    report_count, occurred_at, opened_at, first_report_id, _inserted_at AS visible_at
FROM events
WHERE opened_at >= fromUnixTimestamp64Milli({opened:Int64}, 'UTC')
    AND _inserted_at >= fromUnixTimestamp64Milli({since:Int64}, 'UTC')
ORDER BY opened_at DESC, event_id
LIMIT {limit:UInt32}
