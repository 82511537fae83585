-- The open event that an event may be one with, and whether its words tell of danger: by both dispatch decides whether
-- its order waits for a person's answer. New columns only: what was written before reads as the defaults.
ALTER TABLE {local:events} {on_cluster}
    ADD COLUMN IF NOT EXISTS candidate Nullable(String) CODEC(ZSTD(1));
ALTER TABLE {local:events} {on_cluster}
    ADD COLUMN IF NOT EXISTS candidate_score Float32 CODEC(ZSTD(1));
ALTER TABLE {local:events} {on_cluster}
    ADD COLUMN IF NOT EXISTS candidate_reason String CODEC(ZSTD(1));
ALTER TABLE {local:events} {on_cluster}
    ADD COLUMN IF NOT EXISTS urgent Bool;
