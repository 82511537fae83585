-- title: 有效关联
-- unit: 行
-- meaning: The links in force of events, whole, for who merges or splits them by hand.
-- refresh: 2 s
-- private: whole records, for the desk only
-- parameter: event_ids String — The events, separated by commas.
SELECT link_id, report_id, event_id, relation, score, reason, rule_version, channel, class_code, district_code,
    occurred_at, received_at, decided_at, candidate, sign, sequence
FROM event_links
WHERE event_id IN splitByChar(',', {event_ids:String}) AND sign > 0
    AND link_id NOT IN
    (
        SELECT link_id FROM event_links
        WHERE event_id IN splitByChar(',', {event_ids:String}) AND sign < 0
    )
ORDER BY received_at, occurred_at, report_id
