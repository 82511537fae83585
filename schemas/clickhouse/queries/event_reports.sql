-- title: 事件的报件
-- unit: 行
-- meaning: Every report linked to one event, oldest first, with relation, score and reason, and of each photo its SHA-256, empty when it is not known. Without personal data.
-- refresh: 2 s
-- parameter: event_id String — The event.
WITH links AS
(
    SELECT report_id, relation, score, reason, channel, occurred_at, received_at, decided_at
    FROM event_links
    WHERE event_id = {event_id:String} AND sign > 0
        AND link_id NOT IN (SELECT link_id FROM event_links WHERE event_id = {event_id:String} AND sign < 0)
)
SELECT
    links.report_id AS report_id, relation, score, reason, links.channel AS channel,
    links.occurred_at AS occurred_at, links.received_at AS received_at, decided_at,
    title, address, class_confidence, class_method, locate_method, photos, source_topic, source_partition, source_offset
FROM links
LEFT JOIN
(
    SELECT report_id, title, address, class_confidence, class_method, locate_method,
        arrayMap(one -> extract(one, 'sha256:([0-9a-f]{64})'), media) AS photos,
        source_topic, source_partition, source_offset
    FROM reports
    WHERE report_id IN (SELECT report_id FROM links)
    LIMIT 1 BY report_id
) AS texts ON texts.report_id = links.report_id
ORDER BY received_at, report_id
LIMIT 500
