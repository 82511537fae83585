-- title: 疑似同一事件
-- unit: 行
-- meaning: Pairs of events that may be one, by the candidate that merge named when it opened the later, until somebody merges them or says that they are apart; those first whose order waits for the answer (order_id, and since when), then the newest; total is their number before the limit.
-- refresh: 5 s
-- parameter: since Int64 = 0 — Received at or after, ms since the epoch.
-- parameter: limit UInt32 = 200 — How many rows.
-- parameter: offset UInt32 = 0 — Rows to skip.
WITH
    doubts AS
    (
        SELECT link_id, event_id, candidate, score, reason, report_id, received_at, class_code, district_code
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
    ),
    living AS
    (
        SELECT event_id, argMax(title, version) AS title, argMax(address, version) AS address
        FROM events
        WHERE event_id IN (SELECT event_id FROM doubts) OR event_id IN (SELECT assumeNotNull(candidate) FROM doubts)
        GROUP BY event_id
        HAVING argMax(report_count, version) > 0 AND argMax(status, version) = 'open'
    ),
    waiting AS
    (
        SELECT order_id, any(orders.event_id) AS event_id, max(orders.dispatched_at) AS since
        FROM orders
        WHERE orders.event_id IN (SELECT event_id FROM doubts)
        GROUP BY order_id
        HAVING argMax(orders.state, orders.version) = 'NEEDS_REVIEW' AND any(orders.unit_code) != ''
    )
SELECT
    doubts.event_id AS event_id, assumeNotNull(candidate) AS into, score, reason, report_id, received_at,
    class_code, district_code, own.title AS title, own.address AS address, other.title AS into_title,
    other.address AS into_address, waiting.order_id AS order_id, if(order_id = '', NULL, waiting.since) AS waits_since,
    count() OVER () AS total
FROM doubts
INNER JOIN living AS own ON own.event_id = doubts.event_id
LEFT JOIN living AS other ON other.event_id = assumeNotNull(doubts.candidate)
LEFT JOIN waiting ON waiting.event_id = doubts.event_id
WHERE other.event_id != '' OR waiting.order_id != ''
ORDER BY order_id = '', received_at DESC, event_id
LIMIT {limit:UInt32} OFFSET {offset:UInt32}
