-- title: 事件的报件
-- unit: 件
-- meaning: The reports of one matter, why each belongs to it, oldest first
-- refresh: 0
SELECT
    l.report_id AS report_id, l.relation AS relation, l.score AS score, l.reason AS reason,
    l.rule_version AS rule_version, r.channel AS channel, r.native_id AS native_id, r.title AS title,
    r.text AS text, r.class_code AS class_code, r.class_confidence AS class_confidence,
    r.class_method AS class_method, r.grid_code AS grid_code, r.locate_method AS locate_method,
    r.lon AS lon, r.lat AS lat, r.received_at AS received_at
FROM event_links AS l
LEFT JOIN (
    SELECT * FROM reports WHERE report_id IN (
        SELECT report_id FROM event_links WHERE event_id = {event_id:String})
) AS r ON r.report_id = l.report_id
WHERE l.event_id = {event_id:String}
ORDER BY received_at, report_id
LIMIT 500
