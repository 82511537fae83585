-- title: 报件明细
-- unit: 行
-- meaning: One row for each message of the city's day, newest first; total is their number before the limit; of several demands (parts) title, address and event are the first one's. Without personal data.
-- refresh: 5 s
-- parameter: day Date — Day of the city.
-- parameter: time_zone String — Zone of the city's day.
-- parameter: until Int64 = 0 — Only what came before this instant, ms since the epoch; 0: the whole day.
-- parameter: channel String = '' — Only this channel; empty: all.
-- parameter: outcome String = '' — Only this outcome; empty: all.
-- parameter: reason String = '' — Only this reason; empty: all.
-- parameter: hour Int8 = -1 — Only this hour of the day; -1: all.
-- parameter: since Int64 = 0 — Received at or after, ms since the epoch.
-- parameter: limit UInt32 = 200 — How many rows.
-- parameter: offset UInt32 = 0 — Rows to skip.
WITH
    toDateTime({day:Date}, {time_zone:String}) AS day_start,
    least(toDateTime({day:Date} + 1, {time_zone:String}),
        if({until:Int64} = 0, toDateTime({day:Date} + 1, {time_zone:String}), toDateTime(intDiv({until:Int64}, 1000), 'UTC'))) AS day_end,
    found AS
    (
        SELECT report_id, received_at, channel, outcome, reason, class_code, district_code, parts
        FROM report_outcomes
        WHERE received_at >= day_start AND received_at < day_end
            AND ({channel:String} = '' OR channel = {channel:String})
            AND ({outcome:String} = '' OR outcome = {outcome:String})
            AND ({reason:String} = '' OR reason = {reason:String})
            AND ({hour:Int8} < 0 OR toHour(received_at, {time_zone:String}) = {hour:Int8})
            AND received_at >= fromUnixTimestamp64Milli({since:Int64}, 'UTC')
    ),
    page AS
    (
        SELECT * FROM found
        ORDER BY received_at DESC, report_id
        LIMIT {limit:UInt32} OFFSET {offset:UInt32}
    ),
    texts AS
    (
        SELECT message_id, argMin(id, number) AS first_id, argMin(title, number) AS title, argMin(address, number) AS address
        FROM
        (
            SELECT if(origin = '', reports.report_id, origin) AS message_id, reports.report_id AS id,
                native_id AS number, title, address
            FROM reports
            WHERE received_at >= day_start AND received_at < day_end
                AND (report_id IN (SELECT report_id FROM page) OR origin IN (SELECT report_id FROM page))
        )
        GROUP BY message_id
    )
SELECT
    page.report_id AS report_id, page.received_at AS received_at, page.channel AS channel,
    page.outcome AS outcome, page.reason AS reason, page.class_code AS class_code,
    page.district_code AS district_code, parts, title, address, event_id,
    (SELECT count() FROM found) AS total
FROM page
LEFT JOIN texts ON texts.message_id = page.report_id
LEFT JOIN
(
    SELECT report_id, argMax(event_id, (sequence, sign)) AS event_id
    FROM event_links
    WHERE received_at >= day_start AND received_at < day_end AND report_id IN (SELECT first_id FROM texts)
    GROUP BY report_id
) AS links ON links.report_id = texts.first_id
ORDER BY received_at DESC, report_id
