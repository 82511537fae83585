-- Several demands in one message: each is a report that names the message's id as its origin, and the message's one
-- outcome says how many they are. New columns only: what was written before reads as the defaults.
ALTER TABLE {local:reports} {on_cluster}
    ADD COLUMN IF NOT EXISTS origin String CODEC(ZSTD(1));
ALTER TABLE {local:report_outcomes} {on_cluster}
    ADD COLUMN IF NOT EXISTS parts Int32 DEFAULT 1 CODEC(T64, LZ4);
