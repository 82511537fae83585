-- title: 区域事件
-- unit: 行
-- meaning: The events that map_areas counts in one area, newest first; total is their number before the limit.
-- refresh: 5 s
-- parameter: day Date — Day of the city.
-- parameter: time_zone String — Zone of the city's day.
-- parameter: until Int64 = 0 — Only what came before this instant, ms since the epoch; 0: the whole day.
-- parameter: digits UInt8 = 0 — Length of the areas' codes; 0: the city's centres.
-- parameter: parent String = '' — The centre or grid above.
-- parameter: code String = '' — The area.
-- parameter: centres String = '' — Streets and districts with the code of the centre that steers them, street:code|…; a district that is not named is its own.
-- parameter: limit UInt32 = 200 — How many rows.
-- parameter: offset UInt32 = 0 — Rows to skip.
WITH
    toDateTime({day:Date}, {time_zone:String}) AS day_start,
    least(toDateTime({day:Date} + 1, {time_zone:String}),
        if({until:Int64} = 0, toDateTime({day:Date} + 1, {time_zone:String}), toDateTime(intDiv({until:Int64}, 1000), 'UTC'))) AS day_end,
    {digits:UInt8} AS digits, {parent:String} AS parent,
    extractAll({centres:String}, '([^|:]+):') AS members,
    extractAll({centres:String}, ':([^|:]+)') AS centre_codes
SELECT event_id, opened_at, title, class_code, district_code, address, report_count, status, priority, count() OVER () AS total
FROM
(
    SELECT event_id, opened_at, title, class_code, district_code, address, report_count, status, priority,
        toString(grid_code) AS grid, transform(substring(grid_code, 1, 9), members, centre_codes,
            transform(toString(district_code), members, centre_codes, toString(district_code))) AS centre
    FROM events FINAL
    WHERE opened_at >= day_start AND opened_at < day_end AND merged_into IS NULL
)
WHERE (parent = '' OR if(has(centre_codes, parent) OR length(parent) = 6, centre = parent, startsWith(grid, parent)))
    AND multiIf(digits = 0, centre, length(grid) < digits, '', substring(grid, 13, 1) = 'Z' AND digits > 12, grid,
        substring(grid, 1, digits)) = {code:String}
ORDER BY opened_at DESC, event_id
LIMIT {limit:UInt32} OFFSET {offset:UInt32}
