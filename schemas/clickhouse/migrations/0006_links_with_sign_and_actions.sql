-- A report that moves takes its former link back (sign -1) and adds a new one (sign 1), so that sums of the sign over
-- links count what holds, in the counter too, and history stays whole. What people asked for, and what became of it.
ALTER TABLE {local:event_links} {on_cluster}
    ADD COLUMN IF NOT EXISTS sign Int32 DEFAULT 1 CODEC(T64, LZ4);
ALTER TABLE {local:event_links} {on_cluster}
    ADD COLUMN IF NOT EXISTS sequence Int32 CODEC(T64, LZ4);
ALTER TABLE {local:link_counts} {on_cluster}
    MODIFY COLUMN n SimpleAggregateFunction(sum, Int64) CODEC(T64, LZ4);
-- In place: a view that is dropped and made anew misses what is inserted meanwhile.
ALTER TABLE {local:link_counts_view} {on_cluster} MODIFY QUERY
SELECT
    toDateTime(toStartOfMinute(received_at), 'UTC') AS minute,
    channel, relation, class_code, district_code,
    toInt64(sum(sign)) AS n
FROM {local:event_links}
GROUP BY minute, channel, relation, class_code, district_code;

-- 操作结果 what people asked for: done, or refused and why.
CREATE TABLE IF NOT EXISTS {local:action_outcomes} {on_cluster}
(
    action_id String CODEC(ZSTD(1)),
    kind LowCardinality(String),
    action LowCardinality(String),
    target String CODEC(ZSTD(1)),
    other String CODEC(ZSTD(1)),
    outcome LowCardinality(String),
    reason LowCardinality(String),
    detail String CODEC(ZSTD(1)),
    actor LowCardinality(String),
    role LowCardinality(String),
    at DateTime64(3, 'UTC') CODEC(Delta(8), ZSTD(1)),
    decided_at DateTime64(3, 'UTC') CODEC(Delta(8), ZSTD(1)),
    _topic LowCardinality(String),
    _partition UInt32 CODEC(T64, LZ4),
    _offset UInt64 CODEC(T64, LZ4),
    _inserted_at DateTime64(3, 'UTC') DEFAULT now64(3) CODEC(Delta(8), ZSTD(1)),
    INDEX by_action action_id TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX by_target target TYPE bloom_filter(0.01) GRANULARITY 1
)
ENGINE = {merge_tree}
PARTITION BY toYYYYMM(decided_at)
ORDER BY (toStartOfHour(decided_at), kind, outcome, action_id)
SETTINGS {settings};
{distributed:action_outcomes};
