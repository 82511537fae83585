-- title: 事件的工单流转
-- unit: 行
-- meaning: Every step of every order of one event, oldest first, with the unit and deadline of the order's newest version and the SHA-256 of each photo of the work.
-- refresh: 2 s
-- parameter: event_id String — The event.
WITH
-- Its orders; since when there is a step of them, as none is older than the matter (a day for clocks that differ);
-- and in which hours to look for them again: the first look goes through all of the year.
(
    SELECT (groupUniqArray(order_id), min(opened_at) - INTERVAL 1 DAY, groupUniqArray(toStartOfHour(opened_at)))
    FROM orders
    WHERE event_id = {event_id:String}
) AS had,
newest AS
(
    SELECT order_id, argMax(unit_name, version) AS unit_name, argMax(level, version) AS level,
        argMax(tuple(due_at), version).1 AS due_at, argMax(rule, version) AS rule, argMax(priority, version) AS priority
    FROM orders
    WHERE event_id = {event_id:String} AND toStartOfHour(opened_at) IN had.3
    GROUP BY order_id
)
SELECT
    newest.order_id AS order_id, unit_name, level, due_at, rule, priority,
    from_state, to_state, action, actor, role, reason, photos, at
FROM newest
LEFT JOIN
(
    SELECT order_id, from_state, to_state, action, actor, role, reason, at,
        arrayMap(one -> extract(one, 'sha256:([0-9a-f]{64})'), media) AS photos
    FROM order_transitions
    WHERE order_id IN had.1 AND at >= had.2
) AS steps ON steps.order_id = newest.order_id
ORDER BY at, newest.order_id
LIMIT 500
