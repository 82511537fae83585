-- title: 报件结果
-- unit: 行
-- meaning: What became of one report at intake, its repetitions after it; of one of several demands, what became of its message.
-- refresh: 2 s
-- private: by id only, for trail and trace
-- parameter: report_id String — The report.
SELECT report_id, channel, outcome, reason, detail, class_code, district_code, grid_code, occurred_at, received_at,
    decided_at, parts, source_topic, source_partition, source_offset, rule_version
FROM report_outcomes
WHERE report_id = {report_id:String}
    OR report_id IN (SELECT origin FROM reports WHERE report_id = {report_id:String} AND origin != '')
ORDER BY outcome = 'duplicate', decided_at
LIMIT 20
