-- title: 未受理原因
-- unit: 件
-- meaning: 报件 of the city's day that were not accepted, by outcome and reason.
-- refresh: 10 s
-- drill_down: reports -> reports_of_day(outcome = outcome, reason = reason)
-- parameter: day Date — Day of the city.
-- parameter: time_zone String — Zone of the city's day.
-- parameter: until Int64 = 0 — Only what came before this instant, ms since the epoch; 0: the whole day.
-- parameter: limit UInt32 = 8 — How many reasons.
SELECT outcome, reason, sum(n) AS reports
FROM outcome_counts
WHERE minute >= toDateTime({day:Date}, {time_zone:String})
    AND minute < toDateTime({day:Date} + 1, {time_zone:String})
    AND ({until:Int64} = 0 OR minute < toDateTime(intDiv({until:Int64}, 1000), 'UTC'))
    AND outcome != 'accepted'
GROUP BY outcome, reason
ORDER BY reports DESC, outcome, reason
LIMIT {limit:UInt32}
