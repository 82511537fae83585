-- title: 在办工单明细
-- unit: 行
-- meaning: The orders that open_orders counts, nearest deadline first; total is their number before the limit.
-- refresh: 5 s
-- parameter: at Int64 — Now, ms since the epoch.
-- parameter: light String = '' — red, overdue or due_soon; empty: all.
-- parameter: limit UInt32 = 200 — How many rows.
-- parameter: offset UInt32 = 0 — Rows to skip.
WITH
    fromUnixTimestamp64Milli({at:Int64}, 'UTC') AS instant,
    found AS
    (
        SELECT order_id, event_id, unit_name, state, class_code, district_code, priority, opened_at, due_at
        FROM orders_in_hand FINAL
        WHERE opened_at >= instant - INTERVAL 30 DAY AND n > 0
            AND ({light:String} = ''
                OR ({light:String} = 'red' AND priority = 1)
                OR ({light:String} = 'overdue' AND due_at < instant)
                OR ({light:String} = 'due_soon' AND due_at >= instant AND due_at < instant + INTERVAL 1 DAY))
    )
SELECT *, (SELECT count() FROM found) AS total
FROM found
ORDER BY due_at ASC NULLS LAST, order_id
LIMIT {limit:UInt32} OFFSET {offset:UInt32}
