-- What a report is besides its class: what the reporter wants, whether its words tell of danger, sensitive
-- subjects. New columns only: what was written before reads as the defaults.
ALTER TABLE {local:reports} {on_cluster}
    ADD COLUMN IF NOT EXISTS intent LowCardinality(String);
ALTER TABLE {local:reports} {on_cluster}
    ADD COLUMN IF NOT EXISTS urgent Bool;
ALTER TABLE {local:reports} {on_cluster}
    ADD COLUMN IF NOT EXISTS sensitive Array(LowCardinality(String)) CODEC(ZSTD(1));
