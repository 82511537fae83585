-- title: 红黄灯工单
-- unit: 行
-- meaning: The orders that one light stands for, nearest deadline first; total is their number before the limit.
-- refresh: 5 s
-- over: lights_items
-- parameter: class_code String = '' — Class of the light, or group of classes.
-- parameter: district_code String = '' — Its district.
-- parameter: street_code String = '' — Its street.
-- parameter: place String = '' — Its grid.
-- parameter: limit UInt32 = 200 — How many rows.
-- parameter: offset UInt32 = 0 — Rows to skip.
SELECT *, count() OVER () AS total
FROM lights_items
WHERE class_code = {class_code:String} AND district_code = {district_code:String}
    AND street_code = {street_code:String} AND place = {place:String}
ORDER BY due_at ASC NULLS LAST, order_id, rule
LIMIT {limit:UInt32} OFFSET {offset:UInt32}
