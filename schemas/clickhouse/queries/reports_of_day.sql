-- title: 报件明细
-- unit: 件
-- meaning: The accepted reports of the city's day, newest first; class, district and channel may be left empty
-- refresh: 0
SELECT
    report_id, channel, native_id, title, class_code, district_code, grid_code, address, received_at,
    occurred_at
FROM reports
WHERE received_at >= toDateTime64({day:Date}, 3, {time_zone:String})
  AND received_at < toDateTime64({day:Date} + 1, 3, {time_zone:String})
  AND ({class_code:String} = '' OR startsWith(class_code, {class_code:String}))
  AND ({district_code:String} = '' OR district_code = {district_code:String})
  AND ({channel:String} = '' OR channel = {channel:String})
ORDER BY received_at DESC, report_id
LIMIT {limit:UInt32} OFFSET {offset:UInt32}
