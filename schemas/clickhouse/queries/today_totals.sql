-- title: 今日受理
-- unit: 件
-- meaning: Reports accepted (报件), matters opened (事件) and orders dispatched (工单) on the city's day; joined = reports that joined a known matter
-- refresh: 2
-- drill_down: reports_of_day
SELECT
    reports, events, orders,
    if(reports > 0, (reports - events) / reports, 0) AS merge_ratio
FROM
    (SELECT sum(n) AS reports FROM outcome_counts
     WHERE outcome = 'accepted'
       AND minute >= toDateTime({day:Date}, {time_zone:String})
  AND minute < toDateTime({day:Date} + 1, {time_zone:String})) AS r,
    (SELECT sum(n) AS events FROM link_counts
     WHERE relation IN ('opened', 'recurrence')
       AND minute >= toDateTime({day:Date}, {time_zone:String})
  AND minute < toDateTime({day:Date} + 1, {time_zone:String})) AS e,
    (SELECT sum(n) AS orders FROM transition_counts
     WHERE from_state = 'UNKNOWN'
       AND minute >= toDateTime({day:Date}, {time_zone:String})
  AND minute < toDateTime({day:Date} + 1, {time_zone:String})) AS o
