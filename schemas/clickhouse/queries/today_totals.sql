-- title: 今日受理
-- unit: 件
-- meaning: 报件 (every outcome), 事件 (opened or recurred) and 工单 (dispatched) of the city's day; merged of linked reports is the 合并率; *_before: yesterday until the same minute.
-- refresh: 2 s
-- drill_down: reports -> reports_of_day()
-- drill_down: accepted -> reports_of_day(outcome = 'accepted')
-- drill_down: events -> events_of_day()
-- drill_down: orders -> orders_of_day()
-- drill_down: merged -> links_of_day(kind = 'merged')
-- drill_down: linked -> links_of_day()
-- parameter: day Date — Day of the city.
-- parameter: time_zone String — Zone of the city's day.
-- parameter: until Int64 = 0 — Only what came before this instant, ms since the epoch; 0: the whole day.
-- parameter: at Int64 — Now, ms since the epoch.
WITH
    toDateTime({day:Date}, {time_zone:String}) AS day_start,
    least(toDateTime({day:Date} + 1, {time_zone:String}),
        if({until:Int64} = 0, toDateTime({day:Date} + 1, {time_zone:String}), toDateTime(intDiv({until:Int64}, 1000), 'UTC'))) AS day_end,
    toDateTime({day:Date} - 1, {time_zone:String}) AS before_start,
    least(day_start, toDateTime(intDiv(if({until:Int64} = 0, {at:Int64}, {until:Int64}), 60000) * 60 + 60 - 86400, 'UTC')) AS before_end
SELECT
    reports, accepted, events, orders, merged, linked,
    if(linked = 0, NULL, merged / linked) AS merge_ratio,
    reports_before, events_before, orders_before
FROM
(
    SELECT
        sumIf(n, minute >= day_start) AS reports,
        sumIf(n, minute >= day_start AND outcome = 'accepted') AS accepted,
        sumIf(n, minute < before_end) AS reports_before
    FROM outcome_counts
    WHERE minute >= before_start AND minute < day_end
) AS outcomes
CROSS JOIN
(
    SELECT
        sumIf(n, minute >= day_start AND relation IN ('opened', 'recurrence')) AS events,
        sumIf(n, minute >= day_start AND relation IN ('co_report', 'urge', 'supplement')) AS merged,
        sumIf(n, minute >= day_start) AS linked,
        sumIf(n, minute < before_end AND relation IN ('opened', 'recurrence')) AS events_before
    FROM link_counts
    WHERE minute >= before_start AND minute < day_end
) AS links
CROSS JOIN
(
    SELECT
        sumIf(n, minute >= day_start) AS orders,
        sumIf(n, minute < before_end) AS orders_before
    FROM transition_counts
    WHERE minute >= before_start AND minute < day_end AND from_state = 'UNKNOWN'
) AS transitions
