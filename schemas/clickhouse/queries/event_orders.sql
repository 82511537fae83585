-- title: 事件的工单
-- unit: 单
-- meaning: The orders of one matter with their steps
-- refresh: 0
SELECT
    o.order_id AS order_id, o.unit_name AS unit_name, o.state AS state, o.due_at AS due_at,
    o.rule AS rule, t.from_state AS from_state, t.to_state AS to_state, t.actor AS actor,
    t.reason AS reason, t.at AS at
FROM (SELECT * FROM orders FINAL WHERE event_id = {event_id:String}) AS o
LEFT JOIN (SELECT * FROM order_transitions WHERE event_id = {event_id:String}) AS t
    ON t.order_id = o.order_id
ORDER BY at, order_id
LIMIT 500
