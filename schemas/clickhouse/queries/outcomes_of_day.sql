-- title: 处理结果明细
-- unit: 件
-- meaning: The raw reports of the city's day with their outcome and reason, newest first
-- refresh: 0
SELECT
    report_id, channel, native_id, outcome, reason, detail, class_code, district_code, received_at,
    source_topic, source_partition, source_offset
FROM report_outcomes
WHERE received_at >= toDateTime64({day:Date}, 3, {time_zone:String})
  AND received_at < toDateTime64({day:Date} + 1, 3, {time_zone:String})
  AND ({channel:String} = '' OR channel = {channel:String})
  AND ({outcome:String} = '' OR outcome = {outcome:String})
  AND ({reason:String} = '' OR reason = {reason:String})
ORDER BY received_at DESC, report_id
LIMIT {limit:UInt32} OFFSET {offset:UInt32}
