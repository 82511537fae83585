-- title: 在办工单
-- unit: 件
-- meaning: Orders of the last thirty days that are not closed: all, 红灯 (priority 1), 超期 (past due) and 临期 (due within 24 hours).
-- refresh: 5 s
-- drill_down: open -> orders_open()
-- drill_down: red -> orders_open(light = 'red')
-- drill_down: overdue -> orders_open(light = 'overdue')
-- drill_down: due_soon -> orders_open(light = 'due_soon')
-- parameter: at Int64 — Now, ms since the epoch.
WITH fromUnixTimestamp64Milli({at:Int64}, 'UTC') AS instant
SELECT
    count() AS open,
    countIf(priority = 1) AS red,
    countIf(due_at < instant) AS overdue,
    countIf(due_at >= instant AND due_at < instant + INTERVAL 1 DAY) AS due_soon
FROM orders_in_hand FINAL
WHERE opened_at >= instant - INTERVAL 30 DAY AND n > 0
