-- title: 工单明细
-- unit: 单
-- meaning: The orders dispatched on the city's day, newest version of each; unit may be left empty
-- refresh: 0
SELECT
    order_id, event_id, unit_code, unit_name, state, class_code, district_code, priority, dispatched_at,
    due_at, rule
FROM orders FINAL
WHERE dispatched_at >= toDateTime64({day:Date}, 3, {time_zone:String})
  AND dispatched_at < toDateTime64({day:Date} + 1, 3, {time_zone:String})
  AND ({unit_code:String} = '' OR unit_code = {unit_code:String})
ORDER BY dispatched_at DESC, order_id
LIMIT {limit:UInt32} OFFSET {offset:UInt32}
