-- title: 感知在办事件
-- unit: 行
-- meaning: The open events that sensing counts, newest first; total is their number before the limit.
-- refresh: 5 s
-- parameter: at Int64 — Now, ms since the epoch.
-- parameter: scenes String = fire_lane:2201|shed_fire:2202|water:2301,2302|lift:2203 — Scenes and their classes.
-- parameter: scene String = '' — Only this scene.
-- parameter: limit UInt32 = 200 — How many rows.
-- parameter: offset UInt32 = 0 — Rows to skip.
WITH
    fromUnixTimestamp64Milli({at:Int64}, 'UTC') AS instant,
    arrayMap(one -> tuple(splitByChar(':', one)[1], splitByChar(',', splitByChar(':', one)[2])),
        splitByChar('|', {scenes:String})) AS known
SELECT event_id, opened_at, title, class_code, district_code, address, report_count, status, count() OVER () AS total
FROM events FINAL
WHERE opened_at >= instant - INTERVAL 7 DAY AND opened_at <= instant AND status = 'open' AND cleared_at IS NULL
    AND has(arrayFirst(one -> one.1 = {scene:String}, known).2, toString(class_code))
ORDER BY opened_at DESC, event_id
LIMIT {limit:UInt32} OFFSET {offset:UInt32}
