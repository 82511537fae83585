-- title: 事件明细
-- unit: 行
-- meaning: One row for each event opened or recurred in the city's day, newest first; total is their number before the limit.
-- refresh: 5 s
-- parameter: day Date — Day of the city.
-- parameter: time_zone String — Zone of the city's day.
-- parameter: until Int64 = 0 — Only what came before this instant, ms since the epoch; 0: the whole day.
-- parameter: channel String = '' — Channel of the report that opened it; empty: all.
-- parameter: class_code String = '' — Only this class; empty: all.
-- parameter: district_code String = '' — Only this district; empty: all.
-- parameter: hour Int8 = -1 — Only this hour of the day; -1: all.
-- parameter: limit UInt32 = 200 — How many rows.
-- parameter: offset UInt32 = 0 — Rows to skip.
WITH
    toDateTime({day:Date}, {time_zone:String}) AS day_start,
    least(toDateTime({day:Date} + 1, {time_zone:String}),
        if({until:Int64} = 0, toDateTime({day:Date} + 1, {time_zone:String}), toDateTime(intDiv({until:Int64}, 1000), 'UTC'))) AS day_end,
    found AS
    (
        SELECT event_id, received_at, channel, class_code, district_code, relation
        FROM event_links
        WHERE received_at >= day_start AND received_at < day_end
            AND relation IN ('opened', 'recurrence') AND sign > 0
            AND link_id NOT IN
            (
                -- Taken back: its opening report moved to another event.
                SELECT link_id FROM event_links
                WHERE received_at >= day_start AND received_at < day_end AND sign < 0
            )
            AND ({channel:String} = '' OR channel = {channel:String})
            AND ({class_code:String} = '' OR class_code = {class_code:String})
            AND ({district_code:String} = '' OR district_code = {district_code:String})
            AND ({hour:Int8} < 0 OR toHour(received_at, {time_zone:String}) = {hour:Int8})
    ),
    page AS
    (
        SELECT * FROM found
        ORDER BY received_at DESC, event_id
        LIMIT {limit:UInt32} OFFSET {offset:UInt32}
    )
SELECT
    page.event_id AS event_id, page.received_at AS opened_at, page.channel AS channel,
    page.class_code AS class_code, page.district_code AS district_code, page.relation AS relation,
    title, address, report_count, status, (SELECT count() FROM found) AS total
FROM page
LEFT JOIN
(
    SELECT event_id, argMax(title, version) AS title, argMax(address, version) AS address,
        argMax(report_count, version) AS report_count, argMax(status, version) AS status
    FROM events
    WHERE opened_at >= day_start - INTERVAL 1 DAY AND opened_at < day_end + INTERVAL 1 DAY
        AND event_id IN (SELECT event_id FROM page)
    GROUP BY event_id
) AS matters ON matters.event_id = page.event_id
ORDER BY opened_at DESC, event_id
