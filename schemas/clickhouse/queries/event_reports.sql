-- title: 事件的报件
-- unit: 行
-- meaning: Every report linked to one event, oldest first, with relation, score and reason, and of each photo its SHA-256, empty when it is not known. Without personal data.
-- refresh: 2 s
-- parameter: event_id String — The event.
WITH
-- Its reports, and in which hours to look for them.
(
    SELECT groupUniqArray((toStartOfHour(received_at), event_links.report_id))
    FROM event_links
    WHERE event_id = {event_id:String}
) AS told,
links AS
(
    -- A link and what took it back, if anything did: one look through the year.
    SELECT link_id, any(event_links.report_id) AS report_id, any(event_links.relation) AS relation,
        any(event_links.score) AS score, any(event_links.reason) AS reason, any(event_links.channel) AS channel,
        any(event_links.occurred_at) AS occurred_at, any(event_links.received_at) AS received_at,
        any(event_links.decided_at) AS decided_at
    FROM event_links
    WHERE event_id = {event_id:String}
    GROUP BY link_id
    HAVING sum(sign) > 0
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
    WHERE toStartOfHour(reports.received_at) IN arrayMap(one -> one.1, told)
        AND reports.report_id IN arrayMap(one -> one.2, told)
    LIMIT 1 BY report_id
) AS texts ON texts.report_id = links.report_id
ORDER BY received_at, report_id
LIMIT 500
