-- What merge knows of an event beyond its reports: where they went, that its alarm is over, its group of
-- one cause; and of a link, the event that a person may merge it with. New columns only.
ALTER TABLE {local:events} {on_cluster}
    ADD COLUMN IF NOT EXISTS merged_into Nullable(String) CODEC(ZSTD(1));
ALTER TABLE {local:events} {on_cluster}
    ADD COLUMN IF NOT EXISTS cleared_at Nullable(DateTime64(3, 'UTC')) CODEC(ZSTD(1));
ALTER TABLE {local:events} {on_cluster}
    ADD COLUMN IF NOT EXISTS incident_id Nullable(String) CODEC(ZSTD(1));
ALTER TABLE {local:event_links} {on_cluster}
    ADD COLUMN IF NOT EXISTS candidate Nullable(String) CODEC(ZSTD(1));
