-- title: Open311 报件
-- unit: 行
-- meaning: The reports of open311_page as Open311 shows them: matter, unit, deadline. Words, address and photos only of those that came through Open311; no personal data.
-- refresh: 5 s
-- over: open311_page
WITH
    fromUnixTimestamp64Milli({since:Int64}, 'UTC') AS earliest,
    fromUnixTimestamp64Milli({until:Int64}, 'UTC') AS latest,
    mine AS
    (
        SELECT report_id AS demand_id, origin, native_id
        FROM reports
        WHERE origin IN (SELECT report_id FROM open311_page) AND received_at >= earliest AND received_at <= latest
    ),
    each AS
    (
        SELECT if(origin = '', report_id, origin) AS message_id, native_id AS number, event_id, linked_at
        FROM
        (
            SELECT report_id, argMax(event_links.event_id, (sequence, sign)) AS event_id, max(decided_at) AS linked_at
            FROM event_links
            WHERE received_at >= earliest AND received_at <= latest
                AND (report_id IN (SELECT report_id FROM open311_page) OR report_id IN (SELECT demand_id FROM mine))
            GROUP BY report_id
        ) AS found
        LEFT JOIN mine ON mine.demand_id = found.report_id
    ),
    matters AS
    (
        SELECT event_id, argMax(status, version) AS state, argMax(decided_at, version) AS changed_at,
            any(events.first_report_id) AS first_id
        FROM events
        WHERE event_id IN (SELECT event_id FROM each)
            AND opened_at >= earliest - INTERVAL 400 DAY
        GROUP BY event_id
    ),
    links AS
    (
        SELECT message_id, argMin(each.event_id, number) AS event_id, argMin(first_id, number) AS first_id,
            min(state = 'closed') AS done, max(changed_at) AS changed_at, max(each.linked_at) AS linked_at
        FROM each
        LEFT JOIN matters ON matters.event_id = each.event_id
        GROUP BY message_id
    )
SELECT
    open311_page.report_id AS report_id, open311_page.channel AS channel, outcome, reason,
    class_code, district_code, open311_page.received_at AS received_at, text, address, media, lon, lat,
    links.event_id AS event_id, if(origin = '', first_id, origin) AS first_report_id, unit_name, due_at,
    if(done = 1, 'closed', 'open') AS status,
    if(done = 1, changed_at, greatest(open311_page.decided_at, linked_at, moved_at)) AS updated_at
FROM open311_page
LEFT JOIN
(
    SELECT message_id, argMin(lon, number).1 AS lon, argMin(lat, number).1 AS lat,
        arrayStringConcat(arrayMap(words -> words.2, arraySort(groupArray((number, text)))), ' ') AS text,
        argMin(address, number) AS address, argMin(media, number) AS media
    FROM
    (
        SELECT if(origin = '', report_id, origin) AS message_id, native_id AS number, tuple(lon) AS lon, tuple(lat) AS lat,
            if(channel = 'open311', text, '') AS text,
            if(channel = 'open311', address, '') AS address,
            if(channel = 'open311', media, []) AS media
        FROM reports
        WHERE received_at >= earliest AND received_at <= latest
            AND (report_id IN (SELECT report_id FROM open311_page) OR origin IN (SELECT report_id FROM open311_page))
        LIMIT 1 BY report_id
    )
    GROUP BY message_id
) AS texts ON texts.message_id = open311_page.report_id
LEFT JOIN links ON links.message_id = open311_page.report_id
LEFT JOIN
(
    -- A matter that a demand of another message opened: that message's id is known, the demand's is not.
    SELECT report_id AS demand_id, origin FROM reports
    WHERE report_id IN (SELECT first_id FROM links) AND origin != ''
    LIMIT 1 BY report_id
) AS firsts ON firsts.demand_id = links.first_id
LEFT JOIN
(
    -- The order that was given out last, in its newest version.
    SELECT event_id, argMax(orders.unit_name, (dispatched_at, version)) AS unit_name,
        argMax(tuple(orders.due_at), (dispatched_at, version)).1 AS due_at
    FROM orders
    WHERE event_id IN (SELECT event_id FROM links) AND opened_at >= earliest - INTERVAL 400 DAY
    GROUP BY event_id
) AS given ON given.event_id = links.event_id
LEFT JOIN
(
    SELECT event_id, max(at) AS moved_at
    FROM order_transitions
    WHERE event_id IN (SELECT event_id FROM links) AND at >= earliest - INTERVAL 400 DAY
    GROUP BY event_id
) AS steps ON steps.event_id = links.event_id
ORDER BY received_at DESC, report_id
LIMIT 1 BY report_id
