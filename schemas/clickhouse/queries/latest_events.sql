-- title: 最新事件
-- unit: 行
-- meaning: The events opened last within two days, newest first, with the state of their newest order.
-- refresh: 2 s
-- parameter: at Int64 — Now, ms since the epoch.
-- parameter: limit UInt32 = 8 — How many events.
WITH
    fromUnixTimestamp64Milli({at:Int64}, 'UTC') AS instant,
    latest AS
    (
        SELECT event_id, title, address, class_code, district_code, first_channel, report_count,
            status, priority, opened_at, lon, lat
        FROM events FINAL
        WHERE opened_at >= instant - INTERVAL 2 DAY AND opened_at <= instant + INTERVAL 1 HOUR
        ORDER BY opened_at DESC, event_id
        LIMIT {limit:UInt32}
    )
SELECT *
FROM latest
LEFT JOIN
(
    SELECT event_id, argMax(state, (dispatched_at, version)) AS order_state,
        argMax(unit_name, (dispatched_at, version)) AS unit_name
    FROM orders
    WHERE opened_at >= instant - INTERVAL 2 DAY AND event_id IN (SELECT event_id FROM latest)
    GROUP BY event_id
) AS handled USING (event_id)
ORDER BY opened_at DESC, event_id
