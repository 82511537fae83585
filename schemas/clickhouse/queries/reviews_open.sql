-- title: 待复核报件
-- unit: 行
-- meaning: One row for each report that went to review and that nobody has answered, newest first; total is their number before the limit.
-- refresh: 5 s
-- parameter: since Int64 = 0 — Received at or after, ms since the epoch.
-- parameter: reason String = '' — Only this reason; empty: all.
-- parameter: channel String = '' — Only this channel; empty: all.
-- parameter: report_id String = '' — Only this report; empty: all.
-- parameter: limit UInt32 = 200 — How many rows.
-- parameter: offset UInt32 = 0 — Rows to skip.
SELECT report_id, channel, reason, detail, class_code, district_code, grid_code, received_at, decided_at,
    source_topic, source_partition, source_offset, count() OVER () AS total
FROM report_outcomes
PREWHERE outcome = 'review' AND report_id NOT IN (SELECT target FROM action_outcomes WHERE kind = 'review' AND outcome = 'applied')
WHERE received_at >= fromUnixTimestamp64Milli({since:Int64}, 'UTC')
    AND ({reason:String} = '' OR reason = {reason:String})
    AND ({channel:String} = '' OR channel = {channel:String})
    AND ({report_id:String} = '' OR report_id = {report_id:String})
ORDER BY received_at DESC, report_id
LIMIT {limit:UInt32} OFFSET {offset:UInt32}
