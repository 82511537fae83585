-- title: 并案明细
-- unit: 行
-- meaning: One row for each report linked to an event in the city's day, newest first, with relation, score and reason; total is their number before the limit.
-- refresh: 5 s
-- parameter: day Date — Day of the city.
-- parameter: time_zone String — Zone of the city's day.
-- parameter: until Int64 = 0 — Only what came before this instant, ms since the epoch; 0: the whole day.
-- parameter: kind String = '' — merged: only reports that joined a known event; empty: all.
-- parameter: district_code String = '' — District of the event; empty: all.
-- parameter: limit UInt32 = 200 — How many rows.
-- parameter: offset UInt32 = 0 — Rows to skip.
WITH
    toDateTime({day:Date}, {time_zone:String}) AS day_start,
    least(toDateTime({day:Date} + 1, {time_zone:String}),
        if({until:Int64} = 0, toDateTime({day:Date} + 1, {time_zone:String}), toDateTime(intDiv({until:Int64}, 1000), 'UTC'))) AS day_end,
    found AS
    (
        SELECT report_id, event_id, received_at, channel, relation, score, reason, class_code, district_code
        FROM event_links
        WHERE received_at >= day_start AND received_at < day_end AND sign > 0
            AND link_id NOT IN
            (
                -- Taken back: the report moved to another event.
                SELECT link_id FROM event_links
                WHERE received_at >= day_start AND received_at < day_end AND sign < 0
            )
            AND ({kind:String} != 'merged' OR relation IN ('co_report', 'urge', 'supplement'))
            AND ({district_code:String} = '' OR district_code = {district_code:String})
    )
SELECT *, (SELECT count() FROM found) AS total
FROM found
ORDER BY received_at DESC, report_id
LIMIT {limit:UInt32} OFFSET {offset:UInt32}
