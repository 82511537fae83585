-- title: 最新事件
-- unit: 件
-- meaning: The matters that changed last, newest version of each
-- refresh: 2
-- drill_down: events_of_day
SELECT
    event_id, title, class_code, district_code, grid_code, address, report_count, first_channel,
    occurred_at, opened_at, updated_at, status
FROM events FINAL
WHERE opened_at >= toDateTime64({day:Date}, 3, {time_zone:String})
  AND opened_at < toDateTime64({day:Date} + 1, 3, {time_zone:String})
ORDER BY updated_at DESC, event_id
LIMIT 20
