-- title: 人工操作
-- unit: 行
-- meaning: What people asked for about one report, event or order, and what became of it.
-- refresh: 2 s
-- private: who acted, for the desk only
-- parameter: ids String — Ids of reports, events and orders, separated by commas.
SELECT action_id, kind, action, target, other, outcome, reason, detail, actor, role, at, decided_at
FROM action_outcomes
WHERE target IN splitByChar(',', {ids:String}) OR (other != '' AND other IN splitByChar(',', {ids:String}))
ORDER BY decided_at
LIMIT 500
