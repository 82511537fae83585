-- title: 报件全文
-- unit: 行
-- meaning: Accepted reports, whole, for who splits an event by hand or learns from the city's history.
-- refresh: 2 s
-- private: reporters' hashes, for the desk only
-- parameter: report_ids String — The reports, separated by commas.
SELECT report_id, channel, native_id, revision, occurred_at, occurred_offset_min, received_at, title, text,
    class_code, class_confidence, class_method, lon, lat, source_lon, source_lat, crs, district_code,
    grid_code, locate_method, zone, address, reporter_hash, forwarded_from, media, source_topic,
    source_partition, source_offset, rule_version, device, alarm_state, self_handled, intent, urgent,
    sensitive, origin
FROM reports
WHERE report_id IN splitByChar(',', {report_ids:String})
ORDER BY received_at, report_id
LIMIT 1 BY report_id
