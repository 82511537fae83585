-- title: 派遣单位
-- unit: 单
-- meaning: Orders dispatched on the city's day by unit
-- refresh: 10
-- drill_down: orders_of_day
SELECT counted.unit_code AS unit_code, names.unit_name AS unit_name, counted.orders AS orders
FROM (
    SELECT unit_code, sum(n) AS orders
    FROM transition_counts
    WHERE from_state = 'UNKNOWN'
      AND minute >= toDateTime({day:Date}, {time_zone:String})
      AND minute < toDateTime({day:Date} + 1, {time_zone:String})
    GROUP BY unit_code
    ORDER BY orders DESC, unit_code
    LIMIT 20
) AS counted
LEFT JOIN (
    SELECT unit_code, any(unit_name) AS unit_name
    FROM orders
    WHERE opened_at >= toDateTime64({day:Date} - 1, 3, {time_zone:String})
      AND opened_at < toDateTime64({day:Date} + 1, 3, {time_zone:String})
    GROUP BY unit_code
) AS names ON names.unit_code = counted.unit_code
ORDER BY orders DESC, unit_code
