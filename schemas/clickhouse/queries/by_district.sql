-- title: 全域态势
-- unit: 件
-- meaning: 事件 and 工单 of each district or functional zone in the city's day, and the 报件 linked to its events.
-- refresh: 5 s
-- drill_down: events -> events_of_day(district_code = district_code)
-- drill_down: orders -> orders_of_day(district_code = district_code)
-- drill_down: linked -> links_of_day(district_code = district_code)
-- parameter: day Date — Day of the city.
-- parameter: time_zone String — Zone of the city's day.
WITH
    toDateTime({day:Date}, {time_zone:String}) AS day_start,
    toDateTime({day:Date} + 1, {time_zone:String}) AS day_end
SELECT district_code, sum(opened) AS events, sum(dispatched) AS orders, sum(joined) AS linked
FROM
(
    SELECT
        district_code,
        sumIf(n, relation IN ('opened', 'recurrence')) AS opened,
        0 AS dispatched,
        sum(n) AS joined
    FROM link_counts
    WHERE minute >= day_start AND minute < day_end
    GROUP BY district_code
    UNION ALL
    SELECT district_code, 0 AS opened, sum(n) AS dispatched, 0 AS joined
    FROM transition_counts
    WHERE minute >= day_start AND minute < day_end AND from_state = 'UNKNOWN'
    GROUP BY district_code
)
GROUP BY district_code
ORDER BY events DESC, district_code
