-- title: Open311 报件页
-- unit: 行
-- meaning: Which reports a page of Open311 shows, newest first: accepted or in review, of the classes and the status asked for. Of several demands in one message the first one's, closed when all are.
-- refresh: 5 s
-- parameter: since Int64 = 0 — Received at or after, ms since the epoch; the narrower, the sooner.
-- parameter: until Int64 = 4102444800000 — Received at or before, ms since the epoch.
-- parameter: ids String = '' — Only these reports, comma separated; empty: all.
-- parameter: class_codes String = '' — Only these classes, comma separated; empty: all.
-- parameter: status String = '' — open or closed, as the matter is; empty: both.
-- parameter: limit UInt32 = 1000 — How many rows.
-- parameter: offset UInt32 = 0 — Rows to skip.
WITH
    fromUnixTimestamp64Milli({since:Int64}, 'UTC') AS earliest,
    fromUnixTimestamp64Milli({until:Int64}, 'UTC') AS latest,
    demands AS
    (
        SELECT report_id AS demand_id, origin, native_id
        FROM reports
        WHERE origin != '' AND received_at >= earliest AND received_at <= latest
    ),
    closed AS
    (
        SELECT if(origin = '', report_id, origin) AS message_id
        FROM
        (
            SELECT report_id, argMax(event_id, (sequence, sign)) AS event_id
            FROM event_links
            WHERE received_at >= earliest AND received_at <= latest
            GROUP BY report_id
        ) AS each
        LEFT JOIN demands ON demands.demand_id = each.report_id
        GROUP BY message_id
        HAVING min(event_id IN
        (
            -- A matter that is joined again and again may be old; older than this is none.
            SELECT event_id FROM events
            WHERE opened_at >= earliest - INTERVAL 400 DAY
            GROUP BY event_id
            HAVING argMax(status, version) = 'closed'
        ))
    )
SELECT report_id, channel, outcome, reason, class_code, district_code, received_at, decided_at
FROM report_outcomes
WHERE outcome IN ('accepted', 'review') AND received_at >= earliest AND received_at <= latest
    AND ({ids:String} = '' OR report_id IN splitByChar(',', {ids:String}))
    AND ({class_codes:String} = '' OR class_code IN splitByChar(',', {class_codes:String}))
    AND ({status:String} = ''
        OR (report_id IN (SELECT message_id FROM closed)) = ({status:String} = 'closed'))
ORDER BY received_at DESC, report_id
LIMIT {limit:UInt32} OFFSET {offset:UInt32}
