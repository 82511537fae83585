-- title: 事件明细
-- unit: 件
-- meaning: The matters opened on the city's day, newest version of each; class and district may be left empty
-- refresh: 0
SELECT
    event_id, title, class_code, district_code, grid_code, address, report_count, first_channel,
    occurred_at, opened_at, updated_at, status
FROM events FINAL
WHERE opened_at >= toDateTime64({day:Date}, 3, {time_zone:String})
  AND opened_at < toDateTime64({day:Date} + 1, 3, {time_zone:String})
  AND ({class_code:String} = '' OR startsWith(class_code, {class_code:String}))
  AND ({district_code:String} = '' OR district_code = {district_code:String})
ORDER BY opened_at DESC, event_id
LIMIT {limit:UInt32} OFFSET {offset:UInt32}
