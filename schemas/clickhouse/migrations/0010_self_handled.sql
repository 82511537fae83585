-- Whether who opened an event had settled it on the spot (自行处置): its order is handled at once, and the time that this
-- took is nobody's handling time. A new column only: what was written before reads as the default.
ALTER TABLE {local:events} {on_cluster}
    ADD COLUMN IF NOT EXISTS self_handled Bool;
