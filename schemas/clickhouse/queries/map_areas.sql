-- title: 全域态势
-- unit: 件
-- meaning: 事件 opened in the city's day in each area below the parent, how many of them are open, and how many are of the highest priority and open. Places that are not known so finely have an empty code.
-- refresh: 5 s
-- drill_down: events -> area_events(digits = digits, parent = parent, code = code)
-- parameter: day Date — Day of the city.
-- parameter: time_zone String — Zone of the city's day.
-- parameter: until Int64 = 0 — Only what came before this instant, ms since the epoch; 0: the whole day.
-- parameter: digits UInt8 = 0 — Length of the areas' codes; 0: the city's centres.
-- parameter: parent String = '' — Only below this centre or grid; empty: the city.
-- parameter: centres String = '' — Streets and districts with the code of the centre that steers them, street:code|…; a district that is not named is its own.
WITH
    toDateTime({day:Date}, {time_zone:String}) AS day_start,
    least(toDateTime({day:Date} + 1, {time_zone:String}),
        if({until:Int64} = 0, toDateTime({day:Date} + 1, {time_zone:String}), toDateTime(intDiv({until:Int64}, 1000), 'UTC'))) AS day_end,
    extractAll({centres:String}, '([^|:]+):') AS members,
    extractAll({centres:String}, ':([^|:]+)') AS centre_codes
SELECT
    {digits:UInt8} AS digits, {parent:String} AS parent,
    multiIf(digits = 0, centre, length(grid_code) < digits, '', substring(grid_code, 13, 1) = 'Z' AND digits > 12, grid_code,
        substring(grid_code, 1, digits)) AS code,
    count() AS events, countIf(status = 'open') AS open, countIf(status = 'open' AND priority = 1) AS red
FROM
(
    SELECT toString(grid_code) AS grid_code, status, priority, transform(substring(grid_code, 1, 9), members, centre_codes,
        transform(toString(district_code), members, centre_codes, toString(district_code))) AS centre
    FROM events FINAL
    WHERE opened_at >= day_start AND opened_at < day_end AND merged_into IS NULL
)
WHERE parent = '' OR if(has(centre_codes, parent) OR length(parent) = 6, centre = parent, startsWith(grid_code, parent))
GROUP BY code
ORDER BY events DESC, code
