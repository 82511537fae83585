-- title: 近一小时告警
-- unit: 行
-- meaning: The alarms of the last hour that sensing counts, newest first, with how many pictures each has; total is their number before the limit.
-- refresh: 5 s
-- parameter: at Int64 — Now, ms since the epoch.
-- parameter: scenes String = fire_lane:2201|shed_fire:2202|water:2301,2302|lift:2203 — Scenes and their classes.
-- parameter: scene String = '' — Only this scene.
-- parameter: limit UInt32 = 200 — How many rows.
-- parameter: offset UInt32 = 0 — Rows to skip.
WITH
    fromUnixTimestamp64Milli({at:Int64}, 'UTC') AS instant,
    arrayMap(one -> tuple(splitByChar(':', one)[1], splitByChar(',', splitByChar(':', one)[2])),
        splitByChar('|', {scenes:String})) AS known,
    page AS
    (
        SELECT report_id, received_at, channel, device, title, district_code, length(media) AS pictures, count() OVER () AS total
        FROM reports
        WHERE received_at >= instant - INTERVAL 1 HOUR AND received_at <= instant AND device != '' AND alarm_state != 'cleared'
            AND has(arrayFirst(one -> one.1 = {scene:String}, known).2, toString(class_code))
        ORDER BY received_at DESC, report_id
        LIMIT {limit:UInt32} OFFSET {offset:UInt32}
    )
SELECT
    page.received_at AS received_at, channel, device, title, district_code, pictures, event_id,
    page.report_id AS report_id, total
FROM page
LEFT JOIN
(
    SELECT report_id, argMax(event_id, (sequence, sign)) AS event_id
    FROM event_links
    WHERE received_at >= instant - INTERVAL 2 HOUR AND report_id IN (SELECT report_id FROM page)
    GROUP BY report_id
) AS links ON links.report_id = page.report_id
ORDER BY received_at DESC, report_id
