-- title: 疑似同一事件
-- unit: 行
-- meaning: Pairs of events that may be one, by the candidate that merge named when it opened the later, until somebody merges them or says that they are apart; those first whose order waits for the answer (order_id, and since when), then the newest; total is their number before the limit.
-- refresh: 5 s
-- parameter: since Int64 = 0 — Received at or after, ms since the epoch.
-- parameter: limit UInt32 = 200 — How many rows.
-- parameter: offset UInt32 = 0 — Rows to skip.
WITH
    -- Three long tables, each read once: a scalar is worked out once, a named subquery wherever it is named.
    (
        SELECT groupArray((event_id, assumeNotNull(candidate), score, reason, report_id, received_at, class_code, district_code))
        FROM event_links
        WHERE received_at >= fromUnixTimestamp64Milli({since:Int64}, 'UTC') AND sign > 0
            AND relation = 'opened' AND candidate IS NOT NULL
            AND link_id NOT IN
            (
                SELECT link_id FROM event_links
                WHERE received_at >= fromUnixTimestamp64Milli({since:Int64}, 'UTC') AND sign < 0
            )
            AND (event_id, assumeNotNull(candidate)) NOT IN
            (
                SELECT target, other FROM action_outcomes
                WHERE kind = 'event' AND action = 'apart' AND outcome = 'applied'
            )
    ) AS doubts,
    (
        SELECT groupArray((id, title, address))
        FROM
        (
            SELECT event_id AS id, argMax(events.title, version) AS title, argMax(events.address, version) AS address
            FROM events
            WHERE event_id IN (SELECT arrayJoin(arrayConcat(arrayMap(one -> one.1, doubts), arrayMap(one -> one.2, doubts))))
            GROUP BY event_id
            HAVING argMax(report_count, version) > 0 AND argMax(status, version) = 'open'
        )
    ) AS living,
    (
        SELECT groupArray((id, of_event, since))
        FROM
        (
            SELECT order_id AS id, any(orders.event_id) AS of_event, max(orders.dispatched_at) AS since
            FROM orders
            -- Only of an event that lives is it asked below.
            WHERE orders.event_id IN (SELECT arrayJoin(arrayIntersect(arrayMap(one -> one.1, doubts), arrayMap(one -> one.1, living))))
            GROUP BY order_id
            HAVING argMax(orders.state, orders.version) = 'NEEDS_REVIEW' AND any(orders.unit_code) != ''
        )
    ) AS waiting
SELECT
    doubt.1 AS event_id, doubt.2 AS into, doubt.3 AS score, doubt.4 AS reason, doubt.5 AS report_id, doubt.6 AS received_at,
    doubt.7 AS class_code, doubt.8 AS district_code, own.2 AS title, own.3 AS address, other.title AS into_title,
    other.address AS into_address, waits.id AS order_id, if(order_id = '', NULL, waits.since) AS waits_since,
    count() OVER () AS total
FROM (SELECT arrayJoin(doubts) AS doubt) AS told
INNER JOIN (SELECT arrayJoin(living) AS own) AS owns ON own.1 = doubt.1
LEFT JOIN (SELECT one.1 AS id, one.2 AS title, one.3 AS address FROM (SELECT arrayJoin(living) AS one)) AS other ON other.id = doubt.2
LEFT JOIN (SELECT one.1 AS id, one.2 AS of_event, one.3 AS since FROM (SELECT arrayJoin(waiting) AS one)) AS waits ON waits.of_event = doubt.1
WHERE other.id != '' OR waits.id != ''
ORDER BY order_id = '', received_at DESC, event_id
LIMIT {limit:UInt32} OFFSET {offset:UInt32}
