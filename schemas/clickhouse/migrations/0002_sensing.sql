-- Reports of devices and of patrols: which device, whether its alarm is open or cleared, and what a grid
-- worker settled on the spot. New columns only: what was written before reads as the defaults.
ALTER TABLE {local:reports} {on_cluster}
    ADD COLUMN IF NOT EXISTS device LowCardinality(String);
ALTER TABLE {local:reports} {on_cluster}
    ADD COLUMN IF NOT EXISTS alarm_state LowCardinality(String);
ALTER TABLE {local:reports} {on_cluster}
    ADD COLUMN IF NOT EXISTS self_handled Bool;
