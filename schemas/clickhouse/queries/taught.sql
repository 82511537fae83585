-- title: 复核样本
-- unit: 行
-- meaning: Reports of which people said class or event: what a city's classifier and merge policy learn from.
-- refresh: 60 s
-- private: whole texts, for who trains only
-- parameter: since Int64 = 0 — Received at or after, ms since the epoch.
WITH
    touched AS
    (
        SELECT arrayJoin([target, other]) AS touched_id
        FROM action_outcomes
        WHERE kind = 'event' AND action IN ('merge', 'split', 'apart') AND outcome = 'applied'
            AND NOT startsWith(actor, 'reprocess:') -- a policy's own word teaches it nothing
    ),
    links AS
    (
        SELECT report_id, argMax(event_links.event_id, (sequence, sign)) AS current_id
        FROM event_links
        WHERE report_id IN (SELECT report_id FROM event_links WHERE event_links.event_id IN (SELECT touched_id FROM touched))
        GROUP BY report_id
    )
SELECT
    report_id, occurred_at, class_code, class_method, lon, lat, address, title, text, links.current_id AS event_id
FROM reports
LEFT JOIN links ON links.report_id = reports.report_id
WHERE received_at >= fromUnixTimestamp64Milli({since:Int64}, 'UTC')
    AND (class_method = 'person' OR report_id IN (SELECT report_id FROM links))
ORDER BY occurred_at, report_id
LIMIT 1 BY report_id
