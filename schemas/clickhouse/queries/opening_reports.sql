-- title: 首报内容
-- unit: 行
-- meaning: What the reports say that opened some events, as far as merge compares it. Without reporters.
-- refresh: 1 s
-- private: Words of reports; who asks has shown a key.
-- parameter: ids String = '' — The reports, comma separated.
-- parameter: since Int64 = 0 — The first was received then, ms since the epoch.
-- parameter: until Int64 = 4102444800000 — And the last.
SELECT report_id, occurred_at, substringUTF8(text, 1, 2000) AS text, device, alarm_state, media
FROM reports
WHERE received_at >= fromUnixTimestamp64Milli({since:Int64}, 'UTC')
    AND received_at <= fromUnixTimestamp64Milli({until:Int64}, 'UTC')
    AND report_id IN splitByChar(',', {ids:String})
