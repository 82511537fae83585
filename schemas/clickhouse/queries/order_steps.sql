-- title: 工单流转
-- unit: 行
-- meaning: Every step of one order, oldest first.
-- refresh: 2 s
-- private: who acted, for the desk only
-- parameter: order_id String — The order.
SELECT order_id, event_id, version, from_state, to_state, action, actor, role, reason, unit_code, unit_name, due_at,
    overdue, media, at, class_code, district_code
FROM order_transitions
WHERE order_id = {order_id:String}
ORDER BY version
LIMIT 500
