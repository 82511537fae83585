-- title: 报件的关联
-- unit: 行
-- meaning: Every link of one report, those taken back too, in the order in which they were made.
-- refresh: 2 s
-- private: by id only, for trail and trace
-- parameter: report_id String — The report.
SELECT event_id, relation, score, reason, rule_version, candidate, decided_at, sequence, sign
FROM event_links
WHERE report_id = {report_id:String}
ORDER BY sequence, sign DESC, decided_at
LIMIT 200
