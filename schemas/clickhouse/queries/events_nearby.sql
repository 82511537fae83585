-- title: 附近事件
-- unit: 行
-- meaning: Versions of the events of some classes in a box, or by name in a grid: newest event first, of each the newest version first.
-- refresh: 1 s
-- private: One question for each report that is written; who asks has shown a key.
-- parameter: since Int64 = 0 — Opened at or after, ms since the epoch.
-- parameter: until Int64 = 4102444800000 — Opened at or before.
-- parameter: zone String = '' — Zone of the merging (合并区).
-- parameter: class_codes String = '' — Classes, comma separated.
-- parameter: west Int64 = 0 — The box (CGCS2000), millionths of a degree; 0: no box.
-- parameter: south Int64 = 0 — The same.
-- parameter: east Int64 = 0 — The same.
-- parameter: north Int64 = 0 — The same.
-- parameter: grid String = '' — Also what lies in grids whose code begins so; with a box only what has no point.
-- parameter: limit UInt32 = 500 — How many rows.
SELECT event_id, status, class_code, zone, lon, lat, district_code, grid_code, title, address,
    report_count, occurred_at, opened_at, first_report_id
FROM events
WHERE opened_at >= fromUnixTimestamp64Milli({since:Int64}, 'UTC')
    AND opened_at <= fromUnixTimestamp64Milli({until:Int64}, 'UTC')
    AND zone = {zone:String} AND class_code IN splitByChar(',', {class_codes:String})
    AND ((lon >= {west:Int64} / 1e6 AND lon <= {east:Int64} / 1e6
            AND lat >= {south:Int64} / 1e6 AND lat <= {north:Int64} / 1e6)
        OR ({grid:String} != '' AND ({west:Int64} = 0 OR lon IS NULL)
            AND startsWith(toString(grid_code), {grid:String})))
ORDER BY opened_at DESC, event_id, version DESC
LIMIT {limit:UInt32}
