CREATE TABLE IF NOT EXISTS `quanyu`.`reports_local` ON CLUSTER 'main'
(
    report_id String CODEC(ZSTD(1)),
    channel LowCardinality(String),
    native_id String CODEC(ZSTD(1)),
    revision Int32 CODEC(T64, LZ4),
    occurred_at DateTime64(3, 'UTC') CODEC(Delta(8), ZSTD(1)),
    occurred_offset_min Int32 CODEC(T64, LZ4),
    received_at DateTime64(3, 'UTC') CODEC(Delta(8), ZSTD(1)),
    title String CODEC(ZSTD(1)),
    text String CODEC(ZSTD(1)),
    class_code LowCardinality(String),
    class_confidence Float32 CODEC(ZSTD(1)),
    class_method LowCardinality(String),
    lon Nullable(Float64) CODEC(ZSTD(1)),
    lat Nullable(Float64) CODEC(ZSTD(1)),
    source_lon String CODEC(ZSTD(1)),
    source_lat String CODEC(ZSTD(1)),
    crs LowCardinality(String),
    district_code LowCardinality(String),
    grid_code LowCardinality(String),
    locate_method LowCardinality(String),
    zone LowCardinality(String),
    address String CODEC(ZSTD(1)),
    reporter_hash String CODEC(ZSTD(1)),
    forwarded_from Nullable(String) CODEC(ZSTD(1)),
    media Array(String) CODEC(ZSTD(1)),
    source_topic LowCardinality(String),
    source_partition Int32 CODEC(T64, LZ4),
    source_offset Int64 CODEC(T64, LZ4),
    rule_version LowCardinality(String),
    _topic LowCardinality(String),
    _partition UInt32 CODEC(T64, LZ4),
    _offset UInt64 CODEC(T64, LZ4),
    _inserted_at DateTime64(3, 'UTC') DEFAULT now64(3) CODEC(Delta(8), ZSTD(1)),
    INDEX by_report report_id TYPE bloom_filter(0.01) GRANULARITY 1
)
ENGINE = ReplicatedMergeTree('/clickhouse/tables/{shard}/{database}/{table}', '{replica}')
PARTITION BY toYYYYMM(received_at)
ORDER BY (toStartOfHour(received_at), district_code, class_code, report_id)
SETTINGS replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800;

CREATE TABLE IF NOT EXISTS `quanyu`.`reports` ON CLUSTER 'main' AS `quanyu`.`reports_local` ENGINE = Distributed('main', 'quanyu', 'reports_local', cityHash64(_topic, _partition));

CREATE TABLE IF NOT EXISTS `quanyu`.`report_outcomes_local` ON CLUSTER 'main'
(
    report_id String CODEC(ZSTD(1)),
    channel LowCardinality(String),
    native_id Nullable(String) CODEC(ZSTD(1)),
    revision Int32 CODEC(T64, LZ4),
    outcome LowCardinality(String),
    reason LowCardinality(String),
    detail String CODEC(ZSTD(1)),
    class_code LowCardinality(String),
    district_code LowCardinality(String),
    grid_code LowCardinality(String),
    occurred_at Nullable(DateTime64(3, 'UTC')) CODEC(ZSTD(1)),
    received_at DateTime64(3, 'UTC') CODEC(Delta(8), ZSTD(1)),
    decided_at DateTime64(3, 'UTC') CODEC(Delta(8), ZSTD(1)),
    source_topic LowCardinality(String),
    source_partition Int32 CODEC(T64, LZ4),
    source_offset Int64 CODEC(T64, LZ4),
    rule_version LowCardinality(String),
    _topic LowCardinality(String),
    _partition UInt32 CODEC(T64, LZ4),
    _offset UInt64 CODEC(T64, LZ4),
    _inserted_at DateTime64(3, 'UTC') DEFAULT now64(3) CODEC(Delta(8), ZSTD(1)),
    INDEX by_report report_id TYPE bloom_filter(0.01) GRANULARITY 1
)
ENGINE = ReplicatedMergeTree('/clickhouse/tables/{shard}/{database}/{table}', '{replica}')
PARTITION BY toYYYYMM(received_at)
ORDER BY (toStartOfHour(received_at), channel, outcome, report_id)
SETTINGS replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800;

CREATE TABLE IF NOT EXISTS `quanyu`.`report_outcomes` ON CLUSTER 'main' AS `quanyu`.`report_outcomes_local` ENGINE = Distributed('main', 'quanyu', 'report_outcomes_local', cityHash64(_topic, _partition));

CREATE TABLE IF NOT EXISTS `quanyu`.`event_links_local` ON CLUSTER 'main'
(
    link_id String CODEC(ZSTD(1)),
    report_id String CODEC(ZSTD(1)),
    event_id String CODEC(ZSTD(1)),
    relation LowCardinality(String),
    score Float32 CODEC(ZSTD(1)),
    reason LowCardinality(String),
    rule_version LowCardinality(String),
    channel LowCardinality(String),
    class_code LowCardinality(String),
    district_code LowCardinality(String),
    occurred_at DateTime64(3, 'UTC') CODEC(Delta(8), ZSTD(1)),
    received_at DateTime64(3, 'UTC') CODEC(Delta(8), ZSTD(1)),
    decided_at DateTime64(3, 'UTC') CODEC(Delta(8), ZSTD(1)),
    _topic LowCardinality(String),
    _partition UInt32 CODEC(T64, LZ4),
    _offset UInt64 CODEC(T64, LZ4),
    _inserted_at DateTime64(3, 'UTC') DEFAULT now64(3) CODEC(Delta(8), ZSTD(1)),
    INDEX by_event event_id TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX by_report report_id TYPE bloom_filter(0.01) GRANULARITY 1
)
ENGINE = ReplicatedMergeTree('/clickhouse/tables/{shard}/{database}/{table}', '{replica}')
PARTITION BY toYYYYMM(received_at)
ORDER BY (toStartOfHour(received_at), district_code, class_code, event_id)
SETTINGS replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800;

CREATE TABLE IF NOT EXISTS `quanyu`.`event_links` ON CLUSTER 'main' AS `quanyu`.`event_links_local` ENGINE = Distributed('main', 'quanyu', 'event_links_local', cityHash64(_topic, _partition));

CREATE TABLE IF NOT EXISTS `quanyu`.`events_local` ON CLUSTER 'main'
(
    event_id String CODEC(ZSTD(1)),
    version Int64 CODEC(T64, LZ4),
    status LowCardinality(String),
    class_code LowCardinality(String),
    lon Nullable(Float64) CODEC(ZSTD(1)),
    lat Nullable(Float64) CODEC(ZSTD(1)),
    district_code LowCardinality(String),
    grid_code LowCardinality(String),
    zone LowCardinality(String),
    title String CODEC(ZSTD(1)),
    address String CODEC(ZSTD(1)),
    first_report_id String CODEC(ZSTD(1)),
    first_channel LowCardinality(String),
    report_count Int32 CODEC(T64, LZ4),
    occurred_at DateTime64(3, 'UTC') CODEC(Delta(8), ZSTD(1)),
    opened_at DateTime64(3, 'UTC') CODEC(Delta(8), ZSTD(1)),
    updated_at DateTime64(3, 'UTC') CODEC(Delta(8), ZSTD(1)),
    decided_at DateTime64(3, 'UTC') CODEC(Delta(8), ZSTD(1)),
    recurs_of Nullable(String) CODEC(ZSTD(1)),
    priority Int32 CODEC(T64, LZ4),
    _topic LowCardinality(String),
    _partition UInt32 CODEC(T64, LZ4),
    _offset UInt64 CODEC(T64, LZ4),
    _inserted_at DateTime64(3, 'UTC') DEFAULT now64(3) CODEC(Delta(8), ZSTD(1)),
    INDEX by_event event_id TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX by_update updated_at TYPE minmax GRANULARITY 1
)
ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/{shard}/{database}/{table}', '{replica}', version)
PARTITION BY toYYYYMM(opened_at)
ORDER BY (toStartOfHour(opened_at), event_id)
SETTINGS replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800;

CREATE TABLE IF NOT EXISTS `quanyu`.`events` ON CLUSTER 'main' AS `quanyu`.`events_local` ENGINE = Distributed('main', 'quanyu', 'events_local', cityHash64(_topic, _partition));

CREATE TABLE IF NOT EXISTS `quanyu`.`orders_local` ON CLUSTER 'main'
(
    order_id String CODEC(ZSTD(1)),
    version Int64 CODEC(T64, LZ4),
    event_id String CODEC(ZSTD(1)),
    unit_code LowCardinality(String),
    unit_name LowCardinality(String),
    level LowCardinality(String),
    state LowCardinality(String),
    class_code LowCardinality(String),
    district_code LowCardinality(String),
    grid_code LowCardinality(String),
    priority Int32 CODEC(T64, LZ4),
    opened_at DateTime64(3, 'UTC') CODEC(Delta(8), ZSTD(1)),
    dispatched_at DateTime64(3, 'UTC') CODEC(Delta(8), ZSTD(1)),
    due_at Nullable(DateTime64(3, 'UTC')) CODEC(ZSTD(1)),
    rule LowCardinality(String),
    _topic LowCardinality(String),
    _partition UInt32 CODEC(T64, LZ4),
    _offset UInt64 CODEC(T64, LZ4),
    _inserted_at DateTime64(3, 'UTC') DEFAULT now64(3) CODEC(Delta(8), ZSTD(1)),
    INDEX by_order order_id TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX by_event event_id TYPE bloom_filter(0.01) GRANULARITY 1
)
ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/{shard}/{database}/{table}', '{replica}', version)
PARTITION BY toYYYYMM(opened_at)
ORDER BY (toStartOfHour(opened_at), order_id)
SETTINGS replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800;

CREATE TABLE IF NOT EXISTS `quanyu`.`orders` ON CLUSTER 'main' AS `quanyu`.`orders_local` ENGINE = Distributed('main', 'quanyu', 'orders_local', cityHash64(_topic, _partition));

CREATE TABLE IF NOT EXISTS `quanyu`.`order_transitions_local` ON CLUSTER 'main'
(
    transition_id String CODEC(ZSTD(1)),
    order_id String CODEC(ZSTD(1)),
    event_id String CODEC(ZSTD(1)),
    version Int64 CODEC(T64, LZ4),
    from_state LowCardinality(String),
    to_state LowCardinality(String),
    actor LowCardinality(String),
    role LowCardinality(String),
    reason LowCardinality(String),
    unit_code LowCardinality(String),
    class_code LowCardinality(String),
    district_code LowCardinality(String),
    at DateTime64(3, 'UTC') CODEC(Delta(8), ZSTD(1)),
    _topic LowCardinality(String),
    _partition UInt32 CODEC(T64, LZ4),
    _offset UInt64 CODEC(T64, LZ4),
    _inserted_at DateTime64(3, 'UTC') DEFAULT now64(3) CODEC(Delta(8), ZSTD(1)),
    INDEX by_order order_id TYPE bloom_filter(0.01) GRANULARITY 1
)
ENGINE = ReplicatedMergeTree('/clickhouse/tables/{shard}/{database}/{table}', '{replica}')
PARTITION BY toYYYYMM(at)
ORDER BY (toStartOfHour(at), unit_code, to_state, order_id)
SETTINGS replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800;

CREATE TABLE IF NOT EXISTS `quanyu`.`order_transitions` ON CLUSTER 'main' AS `quanyu`.`order_transitions_local` ENGINE = Distributed('main', 'quanyu', 'order_transitions_local', cityHash64(_topic, _partition));

CREATE TABLE IF NOT EXISTS `quanyu`.`outcome_counts_local` ON CLUSTER 'main'
(
    minute DateTime('UTC') CODEC(Delta(4), ZSTD(1)),
    channel LowCardinality(String),
    outcome LowCardinality(String),
    reason LowCardinality(String),
    class_code LowCardinality(String),
    district_code LowCardinality(String),
    n SimpleAggregateFunction(sum, UInt64) CODEC(T64, LZ4)
)
ENGINE = ReplicatedAggregatingMergeTree('/clickhouse/tables/{shard}/{database}/{table}', '{replica}')
PARTITION BY toYYYYMM(minute)
ORDER BY (minute, channel, outcome, reason, class_code, district_code)
SETTINGS replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800;

CREATE TABLE IF NOT EXISTS `quanyu`.`outcome_counts` ON CLUSTER 'main' AS `quanyu`.`outcome_counts_local` ENGINE = Distributed('main', 'quanyu', 'outcome_counts_local');

CREATE MATERIALIZED VIEW IF NOT EXISTS `quanyu`.`outcome_counts_view_local` ON CLUSTER 'main' TO `quanyu`.`outcome_counts_local` AS
SELECT
    toDateTime(toStartOfMinute(received_at), 'UTC') AS minute,
    channel, outcome, reason, class_code, district_code,
    count() AS n
FROM `quanyu`.`report_outcomes_local`
GROUP BY minute, channel, outcome, reason, class_code, district_code;

CREATE TABLE IF NOT EXISTS `quanyu`.`link_counts_local` ON CLUSTER 'main'
(
    minute DateTime('UTC') CODEC(Delta(4), ZSTD(1)),
    channel LowCardinality(String),
    relation LowCardinality(String),
    class_code LowCardinality(String),
    district_code LowCardinality(String),
    n SimpleAggregateFunction(sum, UInt64) CODEC(T64, LZ4)
)
ENGINE = ReplicatedAggregatingMergeTree('/clickhouse/tables/{shard}/{database}/{table}', '{replica}')
PARTITION BY toYYYYMM(minute)
ORDER BY (minute, channel, relation, class_code, district_code)
SETTINGS replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800;

CREATE TABLE IF NOT EXISTS `quanyu`.`link_counts` ON CLUSTER 'main' AS `quanyu`.`link_counts_local` ENGINE = Distributed('main', 'quanyu', 'link_counts_local');

CREATE MATERIALIZED VIEW IF NOT EXISTS `quanyu`.`link_counts_view_local` ON CLUSTER 'main' TO `quanyu`.`link_counts_local` AS
SELECT
    toDateTime(toStartOfMinute(received_at), 'UTC') AS minute,
    channel, relation, class_code, district_code,
    count() AS n
FROM `quanyu`.`event_links_local`
GROUP BY minute, channel, relation, class_code, district_code;

CREATE TABLE IF NOT EXISTS `quanyu`.`transition_counts_local` ON CLUSTER 'main'
(
    minute DateTime('UTC') CODEC(Delta(4), ZSTD(1)),
    to_state LowCardinality(String),
    from_state LowCardinality(String),
    unit_code LowCardinality(String),
    class_code LowCardinality(String),
    district_code LowCardinality(String),
    n SimpleAggregateFunction(sum, UInt64) CODEC(T64, LZ4)
)
ENGINE = ReplicatedAggregatingMergeTree('/clickhouse/tables/{shard}/{database}/{table}', '{replica}')
PARTITION BY toYYYYMM(minute)
ORDER BY (minute, to_state, from_state, unit_code, class_code, district_code)
SETTINGS replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800;

CREATE TABLE IF NOT EXISTS `quanyu`.`transition_counts` ON CLUSTER 'main' AS `quanyu`.`transition_counts_local` ENGINE = Distributed('main', 'quanyu', 'transition_counts_local');

CREATE MATERIALIZED VIEW IF NOT EXISTS `quanyu`.`transition_counts_view_local` ON CLUSTER 'main' TO `quanyu`.`transition_counts_local` AS
SELECT
    toDateTime(toStartOfMinute(at), 'UTC') AS minute,
    to_state, from_state, unit_code, class_code, district_code,
    count() AS n
FROM `quanyu`.`order_transitions_local`
GROUP BY minute, to_state, from_state, unit_code, class_code, district_code;
