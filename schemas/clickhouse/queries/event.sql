-- title: 事件
-- unit: 行
-- meaning: The newest version of one event.
-- refresh: 2 s
-- parameter: event_id String — The event.
SELECT event_id, version, status, class_code, lon, lat, district_code, grid_code, zone, title, address,
    first_channel, report_count, occurred_at, opened_at, updated_at, decided_at, recurs_of, incident_id, priority,
    candidate, candidate_score, candidate_reason, urgent
FROM events
WHERE event_id = {event_id:String}
ORDER BY version DESC
LIMIT 1
