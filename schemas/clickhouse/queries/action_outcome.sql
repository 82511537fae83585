-- title: 操作结果
-- unit: 行
-- meaning: What became of an action that somebody asked for; no row while it is not decided.
-- refresh: 1 s
-- private: who acted, for the desk only
-- parameter: action_id String — The action.
SELECT action_id, kind, action, target, other, outcome, reason, detail, actor, role, at, decided_at
FROM action_outcomes
WHERE action_id = {action_id:String}
ORDER BY decided_at
LIMIT 1
