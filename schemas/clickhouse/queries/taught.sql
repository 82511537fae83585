-- title: 复核样本
-- unit: 行
-- meaning: Reports of which people said class or event: what a city's classifier and merge policy learn from.
-- refresh: 60 s
-- private: whole texts, for who trains only
-- parameter: since Int64 = 0 — Received at or after, ms since the epoch.
WITH
    touched AS
    (
        SELECT arrayJoin([target, other]) AS event_id
        FROM action_outcomes
        WHERE kind = 'event' AND action IN ('merge', 'split', 'apart') AND outcome = 'applied' AND event_id != ''
    ),
    links AS
    (
        SELECT report_id, argMax(event_id, (sequence, sign)) AS event_id, groupUniqArray(event_id) AS events
        FROM event_links
        GROUP BY report_id
        HAVING hasAny(events, (SELECT groupUniqArray(event_id) FROM touched))
    )
SELECT
    report_id, occurred_at, class_code, class_method, lon, lat, address, title, text,
    links.event_id AS event_id
FROM reports
LEFT JOIN links USING (report_id)
WHERE received_at >= fromUnixTimestamp64Milli({since:Int64}, 'UTC')
    AND (class_method = 'person' OR report_id IN (SELECT report_id FROM links))
ORDER BY occurred_at, report_id
LIMIT 1 BY report_id
