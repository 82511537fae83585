-- title: 报件的关联
-- unit: 行
-- meaning: Every link of one report, or of all demands of one message, those taken back too, in the order in which they were made.
-- refresh: 2 s
-- private: by id only, for trail and trace
-- parameter: report_id String — The report.
SELECT event_id, relation, score, reason, rule_version, candidate, decided_at, sequence, sign
FROM event_links
WHERE report_id = {report_id:String}
    OR report_id IN
    (
        -- Demands are received with their message: only those hours are read.
        SELECT report_id FROM reports
        WHERE origin = {report_id:String} AND received_at IN
            (SELECT received_at FROM report_outcomes WHERE report_id = {report_id:String} AND parts > 1)
    )
ORDER BY sequence, sign DESC, decided_at
LIMIT 200
