-- title: 红黄灯
-- unit: 件
-- meaning: Every light that is on: its rule, colour and where; n is how many orders it stands for, due_at the nearest deadline of those of them that are open. recurrence and burst shine from their number on only; total is how many lights there are before the limit.
-- refresh: 5 s
-- over: lights_items
-- drill_down: n -> lights_behind(rule = rule, class_code = class_code, district_code = district_code, street_code = street_code, place = place)
-- parameter: recurrence_times UInt32 = 3 — recurrence: from so many matters on.
-- parameter: burst_events UInt32 = 5 — burst: from so many matters on.
-- parameter: red String = dangerous,burst — Rules whose lights are red; the others are yellow.
-- parameter: limit UInt32 = 600 — How many lights.
-- parameter: offset UInt32 = 0 — Lights to skip.
SELECT
    if(has(splitByChar(',', {red:String}), rule), 'red', 'yellow') AS light, rule, class_code, district_code, street_code,
    place, sum(lights_items.n) AS n, min(due_at) AS due_at, count() OVER () AS total
FROM lights_items
GROUP BY rule, class_code, district_code, street_code, place
HAVING n > 0 AND (rule != 'recurrence' OR n >= {recurrence_times:UInt32}) AND (rule != 'burst' OR n >= {burst_events:UInt32})
ORDER BY light, due_at ASC NULLS LAST, n DESC, rule, class_code, district_code, street_code, place
LIMIT {limit:UInt32} OFFSET {offset:UInt32}
