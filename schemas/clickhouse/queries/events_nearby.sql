-- title: 附近未结事件
-- unit: 行
-- meaning: Open events of some classes in a box, or by name in a grid, nearest first, each with the words of the report that opened it. Without reporters.
-- refresh: 1 s
-- private: Words of reports; who asks has shown a key.
-- parameter: at Int64 — Now, ms since the epoch.
-- parameter: hours UInt32 = 72 — Opened at most so many hours before now.
-- parameter: zone String = '' — Zone of the merging (合并区).
-- parameter: class_codes String = '' — Classes, comma separated.
-- parameter: west Int64 = 0 — The box (CGCS2000), millionths of a degree; all four 0: no box.
-- parameter: south Int64 = 0 — The same.
-- parameter: east Int64 = 0 — The same.
-- parameter: north Int64 = 0 — The same.
-- parameter: grid String = '' — Also what lies in grids whose code begins so: with a box only events that have no point; empty: none.
-- parameter: limit UInt32 = 60 — How many events.
WITH
    fromUnixTimestamp64Milli({at:Int64}, 'UTC') AS latest,
    latest - toIntervalHour(least({hours:UInt32}, 100000)) AS earliest,
    {west:Int64} = 0 AND {east:Int64} = 0 AS boxless
SELECT
    near.event_id AS event_id, class_code, zone, lon, lat, district_code, grid_code,
    title, address, report_count, near.opened_at AS opened_at, first_report_id,
    if(texts.report_id = '', near.occurred_at, texts.occurred_at) AS occurred_at,
    text, device, alarm_state, media
FROM
(
    -- Where an event lies and what it is never changes; so rows are chosen before versions are compared.
    SELECT
        event_id, argMax(status, version) AS state, argMax(report_count, version) AS report_count,
        any(events.class_code) AS class_code, any(events.zone) AS zone,
        any(events.lon) AS lon, any(events.lat) AS lat,
        any(events.district_code) AS district_code, any(events.grid_code) AS grid_code,
        any(events.title) AS title, any(events.address) AS address,
        any(events.first_report_id) AS first_report_id,
        min(events.opened_at) AS opened_at, min(events.occurred_at) AS occurred_at
    FROM events
    WHERE events.opened_at >= earliest AND events.opened_at <= latest
        AND events.zone = {zone:String}
        AND events.class_code IN splitByChar(',', {class_codes:String})
        AND (
            (events.lon >= {west:Int64} / 1e6 AND events.lon <= {east:Int64} / 1e6
                AND events.lat >= {south:Int64} / 1e6 AND events.lat <= {north:Int64} / 1e6)
            OR ({grid:String} != '' AND (boxless OR events.lon IS NULL)
                AND startsWith(toString(events.grid_code), {grid:String}))
        )
    GROUP BY event_id
    HAVING state = 'open'
    ORDER BY
        if(boxless OR lon IS NULL, 1e9,
            abs(lon - ({west:Int64} / 2e6 + {east:Int64} / 2e6))
            + abs(lat - ({south:Int64} / 2e6 + {north:Int64} / 2e6))),
        opened_at DESC, event_id
    LIMIT {limit:UInt32}
) AS near
LEFT JOIN
(
    -- An event is where and when the report is that opened it.
    SELECT
        report_id, occurred_at, substringUTF8(reports.text, 1, 2000) AS text, device, alarm_state,
        arrayFilter(medium -> startsWith(medium, 'sha256:'), reports.media) AS media
    FROM reports
    WHERE reports.received_at >= earliest AND reports.received_at <= latest
        AND reports.zone = {zone:String}
        AND reports.class_code IN splitByChar(',', {class_codes:String})
        AND (
            (reports.lon >= {west:Int64} / 1e6 AND reports.lon <= {east:Int64} / 1e6
                AND reports.lat >= {south:Int64} / 1e6 AND reports.lat <= {north:Int64} / 1e6)
            OR ({grid:String} != '' AND (boxless OR reports.lon IS NULL)
                AND startsWith(toString(reports.grid_code), {grid:String}))
        )
    LIMIT 1 BY report_id
) AS texts ON texts.report_id = near.first_report_id
ORDER BY opened_at DESC, event_id
