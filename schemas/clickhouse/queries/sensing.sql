-- title: 感知四场景
-- unit: 件
-- meaning: Of each scene how many 事件 are open now (opened within seven days and not cleared), and how many alarms of devices came in the last hour.
-- refresh: 5 s
-- drill_down: open -> sensing_open(scene = scene)
-- drill_down: last_hour -> sensing_alarms(scene = scene)
-- parameter: at Int64 — Now, ms since the epoch.
-- parameter: scenes String = fire_lane:2201|shed_fire:2202|water:2301,2302|lift:2203 — Scenes and their classes.
WITH
    fromUnixTimestamp64Milli({at:Int64}, 'UTC') AS instant,
    arrayMap(one -> tuple(splitByChar(':', one)[1], splitByChar(',', splitByChar(':', one)[2])),
        splitByChar('|', {scenes:String})) AS known,
    (code) -> arrayFirst(one -> has(one.2, code), known).1 AS scene_of
SELECT scene, sum(is_open) AS open, sum(is_alarm) AS last_hour
FROM
(
    SELECT arrayJoin(known).1 AS scene, 0 AS is_open, 0 AS is_alarm
    UNION ALL
    SELECT scene_of(toString(class_code)) AS scene, 1 AS is_open, 0 AS is_alarm
    FROM events FINAL
    WHERE opened_at >= instant - INTERVAL 7 DAY AND opened_at <= instant AND status = 'open' AND cleared_at IS NULL
    UNION ALL
    SELECT scene_of(toString(class_code)) AS scene, 0 AS is_open, 1 AS is_alarm
    FROM reports
    WHERE received_at >= instant - INTERVAL 1 HOUR AND received_at <= instant AND device != '' AND alarm_state != 'cleared'
)
WHERE scene != ''
GROUP BY scene
ORDER BY indexOf(arrayMap(one -> one.1, known), scene)
