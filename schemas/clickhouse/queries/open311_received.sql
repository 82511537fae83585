-- title: Open311 报件的受理时间
-- unit: 行
-- meaning: When the first and the last of some reports were received, so that the rest is looked for there only; no row of a report that is not known.
-- refresh: 5 s
-- parameter: ids String = '' — The reports, comma separated.
SELECT min(received_at) AS since, max(received_at) AS until
FROM report_outcomes
WHERE report_id IN splitByChar(',', {ids:String})
HAVING count() > 0
