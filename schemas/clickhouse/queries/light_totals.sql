-- title: 红灯 / 黄灯
-- unit: 盏
-- meaning: How many lights of each rule are on, their colour, and for how many orders; what is below its threshold does not shine.
-- refresh: 5 s
-- over: lights_items
-- drill_down: lights -> lights(rule = rule)
-- parameter: recurrence_times UInt32 = 3 — recurrence: from so many matters on.
-- parameter: burst_events UInt32 = 5 — burst: from so many matters on.
-- parameter: red String = dangerous,burst — Rules whose lights are red; the others are yellow.
SELECT if(has(splitByChar(',', {red:String}), rule), 'red', 'yellow') AS light, rule, count() AS lights, sum(n) AS orders
FROM
(
    SELECT rule, sum(lights_items.n) AS n
    FROM lights_items
    GROUP BY rule, class_code, district_code, street_code, place
    HAVING n > 0 AND (rule != 'recurrence' OR n >= {recurrence_times:UInt32}) AND (rule != 'burst' OR n >= {burst_events:UInt32})
)
GROUP BY light, rule
ORDER BY light, rule
