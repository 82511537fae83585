-- 工单 with every stage's deadline and what became of it; a step keeps the order as it was after it, so that any
-- number of a past moment can be made again from the steps alone. New columns only.
ALTER TABLE {local:orders} {on_cluster}
    ADD COLUMN IF NOT EXISTS sequence Int32 CODEC(T64, LZ4);
ALTER TABLE {local:orders} {on_cluster}
    ADD COLUMN IF NOT EXISTS street_code LowCardinality(String);
ALTER TABLE {local:orders} {on_cluster}
    ADD COLUMN IF NOT EXISTS deadline_value Float64 CODEC(ZSTD(1));
ALTER TABLE {local:orders} {on_cluster}
    ADD COLUMN IF NOT EXISTS deadline_unit LowCardinality(String);
ALTER TABLE {local:orders} {on_cluster}
    ADD COLUMN IF NOT EXISTS dispatch_due_at Nullable(DateTime64(3, 'UTC')) CODEC(ZSTD(1));
ALTER TABLE {local:orders} {on_cluster}
    ADD COLUMN IF NOT EXISTS sign_due_at Nullable(DateTime64(3, 'UTC')) CODEC(ZSTD(1));
ALTER TABLE {local:orders} {on_cluster}
    ADD COLUMN IF NOT EXISTS handle_due_at Nullable(DateTime64(3, 'UTC')) CODEC(ZSTD(1));
ALTER TABLE {local:orders} {on_cluster}
    ADD COLUMN IF NOT EXISTS check_due_at Nullable(DateTime64(3, 'UTC')) CODEC(ZSTD(1));
ALTER TABLE {local:orders} {on_cluster}
    ADD COLUMN IF NOT EXISTS state_at Nullable(DateTime64(3, 'UTC')) CODEC(ZSTD(1));
ALTER TABLE {local:orders} {on_cluster}
    ADD COLUMN IF NOT EXISTS signed_at Nullable(DateTime64(3, 'UTC')) CODEC(ZSTD(1));
ALTER TABLE {local:orders} {on_cluster}
    ADD COLUMN IF NOT EXISTS contacted_at Nullable(DateTime64(3, 'UTC')) CODEC(ZSTD(1));
ALTER TABLE {local:orders} {on_cluster}
    ADD COLUMN IF NOT EXISTS handled_at Nullable(DateTime64(3, 'UTC')) CODEC(ZSTD(1));
ALTER TABLE {local:orders} {on_cluster}
    ADD COLUMN IF NOT EXISTS checked_at Nullable(DateTime64(3, 'UTC')) CODEC(ZSTD(1));
ALTER TABLE {local:orders} {on_cluster}
    ADD COLUMN IF NOT EXISTS closed_at Nullable(DateTime64(3, 'UTC')) CODEC(ZSTD(1));
ALTER TABLE {local:orders} {on_cluster}
    ADD COLUMN IF NOT EXISTS paused_at Nullable(DateTime64(3, 'UTC')) CODEC(ZSTD(1));
ALTER TABLE {local:orders} {on_cluster}
    ADD COLUMN IF NOT EXISTS paused_ms Int64 CODEC(T64, LZ4);
ALTER TABLE {local:orders} {on_cluster}
    ADD COLUMN IF NOT EXISTS extensions Int32 CODEC(T64, LZ4);
ALTER TABLE {local:orders} {on_cluster}
    ADD COLUMN IF NOT EXISTS returns Int32 CODEC(T64, LZ4);
ALTER TABLE {local:orders} {on_cluster}
    ADD COLUMN IF NOT EXISTS reworks Int32 CODEC(T64, LZ4);
ALTER TABLE {local:orders} {on_cluster}
    ADD COLUMN IF NOT EXISTS reopens Int32 CODEC(T64, LZ4);
ALTER TABLE {local:orders} {on_cluster}
    ADD COLUMN IF NOT EXISTS supervised Bool;
ALTER TABLE {local:orders} {on_cluster}
    ADD COLUMN IF NOT EXISTS near_due Bool;
ALTER TABLE {local:orders} {on_cluster}
    ADD COLUMN IF NOT EXISTS overdue Bool;
ALTER TABLE {local:orders} {on_cluster}
    ADD COLUMN IF NOT EXISTS false_closure Bool;
ALTER TABLE {local:orders} {on_cluster}
    ADD COLUMN IF NOT EXISTS self_handled Bool;
ALTER TABLE {local:orders} {on_cluster}
    ADD COLUMN IF NOT EXISTS handler LowCardinality(String);
ALTER TABLE {local:orders} {on_cluster}
    ADD COLUMN IF NOT EXISTS partners Array(LowCardinality(String)) CODEC(ZSTD(1));
ALTER TABLE {local:orders} {on_cluster}
    ADD COLUMN IF NOT EXISTS closed_when LowCardinality(String);
ALTER TABLE {local:orders} {on_cluster}
    ADD COLUMN IF NOT EXISTS first_visit LowCardinality(String);
ALTER TABLE {local:orders} {on_cluster}
    ADD COLUMN IF NOT EXISTS final_visit LowCardinality(String);
ALTER TABLE {local:orders} {on_cluster}
    ADD COLUMN IF NOT EXISTS solved LowCardinality(String);
ALTER TABLE {local:order_transitions} {on_cluster}
    ADD COLUMN IF NOT EXISTS action LowCardinality(String);
ALTER TABLE {local:order_transitions} {on_cluster}
    ADD COLUMN IF NOT EXISTS action_id String CODEC(ZSTD(1));
ALTER TABLE {local:order_transitions} {on_cluster}
    ADD COLUMN IF NOT EXISTS media Array(String) CODEC(ZSTD(1));
ALTER TABLE {local:order_transitions} {on_cluster}
    ADD COLUMN IF NOT EXISTS unit_name LowCardinality(String);
ALTER TABLE {local:order_transitions} {on_cluster}
    ADD COLUMN IF NOT EXISTS level LowCardinality(String);
ALTER TABLE {local:order_transitions} {on_cluster}
    ADD COLUMN IF NOT EXISTS grid_code LowCardinality(String);
ALTER TABLE {local:order_transitions} {on_cluster}
    ADD COLUMN IF NOT EXISTS priority Int32 CODEC(T64, LZ4);
ALTER TABLE {local:order_transitions} {on_cluster}
    ADD COLUMN IF NOT EXISTS opened_at DateTime64(3, 'UTC') CODEC(ZSTD(1));
ALTER TABLE {local:order_transitions} {on_cluster}
    ADD COLUMN IF NOT EXISTS dispatched_at DateTime64(3, 'UTC') CODEC(ZSTD(1));
ALTER TABLE {local:order_transitions} {on_cluster}
    ADD COLUMN IF NOT EXISTS due_at Nullable(DateTime64(3, 'UTC')) CODEC(ZSTD(1));
ALTER TABLE {local:order_transitions} {on_cluster}
    ADD COLUMN IF NOT EXISTS rule LowCardinality(String);
ALTER TABLE {local:order_transitions} {on_cluster}
    ADD COLUMN IF NOT EXISTS sequence Int32 CODEC(T64, LZ4);
ALTER TABLE {local:order_transitions} {on_cluster}
    ADD COLUMN IF NOT EXISTS street_code LowCardinality(String);
ALTER TABLE {local:order_transitions} {on_cluster}
    ADD COLUMN IF NOT EXISTS deadline_value Float64 CODEC(ZSTD(1));
ALTER TABLE {local:order_transitions} {on_cluster}
    ADD COLUMN IF NOT EXISTS deadline_unit LowCardinality(String);
ALTER TABLE {local:order_transitions} {on_cluster}
    ADD COLUMN IF NOT EXISTS dispatch_due_at Nullable(DateTime64(3, 'UTC')) CODEC(ZSTD(1));
ALTER TABLE {local:order_transitions} {on_cluster}
    ADD COLUMN IF NOT EXISTS sign_due_at Nullable(DateTime64(3, 'UTC')) CODEC(ZSTD(1));
ALTER TABLE {local:order_transitions} {on_cluster}
    ADD COLUMN IF NOT EXISTS handle_due_at Nullable(DateTime64(3, 'UTC')) CODEC(ZSTD(1));
ALTER TABLE {local:order_transitions} {on_cluster}
    ADD COLUMN IF NOT EXISTS check_due_at Nullable(DateTime64(3, 'UTC')) CODEC(ZSTD(1));
ALTER TABLE {local:order_transitions} {on_cluster}
    ADD COLUMN IF NOT EXISTS state_at Nullable(DateTime64(3, 'UTC')) CODEC(ZSTD(1));
ALTER TABLE {local:order_transitions} {on_cluster}
    ADD COLUMN IF NOT EXISTS signed_at Nullable(DateTime64(3, 'UTC')) CODEC(ZSTD(1));
ALTER TABLE {local:order_transitions} {on_cluster}
    ADD COLUMN IF NOT EXISTS contacted_at Nullable(DateTime64(3, 'UTC')) CODEC(ZSTD(1));
ALTER TABLE {local:order_transitions} {on_cluster}
    ADD COLUMN IF NOT EXISTS handled_at Nullable(DateTime64(3, 'UTC')) CODEC(ZSTD(1));
ALTER TABLE {local:order_transitions} {on_cluster}
    ADD COLUMN IF NOT EXISTS checked_at Nullable(DateTime64(3, 'UTC')) CODEC(ZSTD(1));
ALTER TABLE {local:order_transitions} {on_cluster}
    ADD COLUMN IF NOT EXISTS closed_at Nullable(DateTime64(3, 'UTC')) CODEC(ZSTD(1));
ALTER TABLE {local:order_transitions} {on_cluster}
    ADD COLUMN IF NOT EXISTS paused_at Nullable(DateTime64(3, 'UTC')) CODEC(ZSTD(1));
ALTER TABLE {local:order_transitions} {on_cluster}
    ADD COLUMN IF NOT EXISTS paused_ms Int64 CODEC(T64, LZ4);
ALTER TABLE {local:order_transitions} {on_cluster}
    ADD COLUMN IF NOT EXISTS extensions Int32 CODEC(T64, LZ4);
ALTER TABLE {local:order_transitions} {on_cluster}
    ADD COLUMN IF NOT EXISTS returns Int32 CODEC(T64, LZ4);
ALTER TABLE {local:order_transitions} {on_cluster}
    ADD COLUMN IF NOT EXISTS reworks Int32 CODEC(T64, LZ4);
ALTER TABLE {local:order_transitions} {on_cluster}
    ADD COLUMN IF NOT EXISTS reopens Int32 CODEC(T64, LZ4);
ALTER TABLE {local:order_transitions} {on_cluster}
    ADD COLUMN IF NOT EXISTS supervised Bool;
ALTER TABLE {local:order_transitions} {on_cluster}
    ADD COLUMN IF NOT EXISTS near_due Bool;
ALTER TABLE {local:order_transitions} {on_cluster}
    ADD COLUMN IF NOT EXISTS overdue Bool;
ALTER TABLE {local:order_transitions} {on_cluster}
    ADD COLUMN IF NOT EXISTS false_closure Bool;
ALTER TABLE {local:order_transitions} {on_cluster}
    ADD COLUMN IF NOT EXISTS self_handled Bool;
ALTER TABLE {local:order_transitions} {on_cluster}
    ADD COLUMN IF NOT EXISTS handler LowCardinality(String);
ALTER TABLE {local:order_transitions} {on_cluster}
    ADD COLUMN IF NOT EXISTS partners Array(LowCardinality(String)) CODEC(ZSTD(1));
ALTER TABLE {local:order_transitions} {on_cluster}
    ADD COLUMN IF NOT EXISTS closed_when LowCardinality(String);
ALTER TABLE {local:order_transitions} {on_cluster}
    ADD COLUMN IF NOT EXISTS first_visit LowCardinality(String);
ALTER TABLE {local:order_transitions} {on_cluster}
    ADD COLUMN IF NOT EXISTS final_visit LowCardinality(String);
ALTER TABLE {local:order_transitions} {on_cluster}
    ADD COLUMN IF NOT EXISTS solved LowCardinality(String);
