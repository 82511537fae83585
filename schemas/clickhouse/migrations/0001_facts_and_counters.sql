-- Facts, versioned entities and the first counters.
--
-- Placeholders (schemas/tables.py fills them; one source for a single node and for a cluster):
--   {local:x}        the table that holds rows: x, or x_local below the Distributed table x of a cluster
--   {on_cluster}     empty, or ON CLUSTER '…'
--   {merge_tree}, {replacing_merge_tree:version}, {aggregating_merge_tree}   plain or Replicated engine
--   {settings}       the deduplication window, in the form that the engine reads
--   {distributed:x}  nothing, or the Distributed table x over x_local for a table that the sink fills
--   {distributed_view:x}  the same for a table that only a view fills
-- Every statement must be safe to run twice: two processes may apply at once.
--
-- Why these keys, types and codecs:
--   PARTITION BY month of an instant that never changes for a row: retention drops whole parts, a
--     block of live data touches one or two parts, and all versions of an entity share a partition.
--   ORDER BY hour, district, class for facts: screens and drill-downs ask for a span of time first;
--     the hour is coarse enough that district and class below it still sort together and compress.
--   LowCardinality for codes, names of channels, states, reasons: tens to thousands of values.
--   Delta on instants, T64 on offsets and counts: neighbours differ little, high bits are empty.
--   ZSTD(1) on ids and texts: hexadecimal and Chinese text halve once more than with LZ4, while
--     inserting costs a few per cent.
--   ORDER BY hour and id for entities: opened_at never changes, so all versions meet in one key.
--   bloom_filter on ids: the drill-down from one order or event to its rows reads a few granules.
--   _topic, _partition, _offset: any row can be held against its Kafka record.
--   _inserted_at is filled by the server: when the row became visible.
--   The deduplication window (10,000 blocks per table) must hold on every table AND every view
--     target: without its own window a view target counts each repeated block again.

-- 报件 accepted reports, one row each.
CREATE TABLE IF NOT EXISTS {local:reports} {on_cluster}
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
ENGINE = {merge_tree}
PARTITION BY toYYYYMM(received_at)
ORDER BY (toStartOfHour(received_at), district_code, class_code, report_id)
SETTINGS {settings};

{distributed:reports};

-- 处理结果 the one outcome of each raw report.
CREATE TABLE IF NOT EXISTS {local:report_outcomes} {on_cluster}
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
ENGINE = {merge_tree}
PARTITION BY toYYYYMM(received_at)
ORDER BY (toStartOfHour(received_at), channel, outcome, report_id)
SETTINGS {settings};

{distributed:report_outcomes};

-- Which event a report belongs to, with relation, score and reason; links are added, never changed.
CREATE TABLE IF NOT EXISTS {local:event_links} {on_cluster}
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
ENGINE = {merge_tree}
PARTITION BY toYYYYMM(received_at)
ORDER BY (toStartOfHour(received_at), district_code, class_code, event_id)
SETTINGS {settings};

{distributed:event_links};

-- 事件 every version of an event; the newest holds (FINAL, or argMax by version).
CREATE TABLE IF NOT EXISTS {local:events} {on_cluster}
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
ENGINE = {replacing_merge_tree:version}
PARTITION BY toYYYYMM(opened_at)
ORDER BY (toStartOfHour(opened_at), event_id)
SETTINGS {settings};

{distributed:events};

-- 工单 every version of an order; the newest holds.
CREATE TABLE IF NOT EXISTS {local:orders} {on_cluster}
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
ENGINE = {replacing_merge_tree:version}
PARTITION BY toYYYYMM(opened_at)
ORDER BY (toStartOfHour(opened_at), order_id)
SETTINGS {settings};

{distributed:orders};

-- 流转 every step of an order.
CREATE TABLE IF NOT EXISTS {local:order_transitions} {on_cluster}
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
ENGINE = {merge_tree}
PARTITION BY toYYYYMM(at)
ORDER BY (toStartOfHour(at), unit_code, to_state, order_id)
SETTINGS {settings};

{distributed:order_transitions};

-- Counters: read with sum(n) … GROUP BY; rows of one key may lie in several parts until merged.
-- Fed only by append-only facts: a new version of an entity must not count again.
CREATE TABLE IF NOT EXISTS {local:outcome_counts} {on_cluster}
(
    minute DateTime('UTC') CODEC(Delta(4), ZSTD(1)),
    channel LowCardinality(String),
    outcome LowCardinality(String),
    reason LowCardinality(String),
    class_code LowCardinality(String),
    district_code LowCardinality(String),
    n SimpleAggregateFunction(sum, UInt64) CODEC(T64, LZ4)
)
ENGINE = {aggregating_merge_tree}
PARTITION BY toYYYYMM(minute)
ORDER BY (minute, channel, outcome, reason, class_code, district_code)
SETTINGS {settings};

{distributed_view:outcome_counts};

CREATE MATERIALIZED VIEW IF NOT EXISTS {local:outcome_counts_view} {on_cluster} TO {local:outcome_counts} AS
SELECT
    toDateTime(toStartOfMinute(received_at), 'UTC') AS minute,
    channel, outcome, reason, class_code, district_code,
    count() AS n
FROM {local:report_outcomes}
GROUP BY minute, channel, outcome, reason, class_code, district_code;

-- relation 'opened' or 'recurrence' counts events.
CREATE TABLE IF NOT EXISTS {local:link_counts} {on_cluster}
(
    minute DateTime('UTC') CODEC(Delta(4), ZSTD(1)),
    channel LowCardinality(String),
    relation LowCardinality(String),
    class_code LowCardinality(String),
    district_code LowCardinality(String),
    n SimpleAggregateFunction(sum, UInt64) CODEC(T64, LZ4)
)
ENGINE = {aggregating_merge_tree}
PARTITION BY toYYYYMM(minute)
ORDER BY (minute, channel, relation, class_code, district_code)
SETTINGS {settings};

{distributed_view:link_counts};

CREATE MATERIALIZED VIEW IF NOT EXISTS {local:link_counts_view} {on_cluster} TO {local:link_counts} AS
SELECT
    toDateTime(toStartOfMinute(received_at), 'UTC') AS minute,
    channel, relation, class_code, district_code,
    count() AS n
FROM {local:event_links}
GROUP BY minute, channel, relation, class_code, district_code;

-- from_state 'UNKNOWN' counts orders.
CREATE TABLE IF NOT EXISTS {local:transition_counts} {on_cluster}
(
    minute DateTime('UTC') CODEC(Delta(4), ZSTD(1)),
    to_state LowCardinality(String),
    from_state LowCardinality(String),
    unit_code LowCardinality(String),
    class_code LowCardinality(String),
    district_code LowCardinality(String),
    n SimpleAggregateFunction(sum, UInt64) CODEC(T64, LZ4)
)
ENGINE = {aggregating_merge_tree}
PARTITION BY toYYYYMM(minute)
ORDER BY (minute, to_state, from_state, unit_code, class_code, district_code)
SETTINGS {settings};

{distributed_view:transition_counts};

CREATE MATERIALIZED VIEW IF NOT EXISTS {local:transition_counts_view} {on_cluster} TO {local:transition_counts} AS
SELECT
    toDateTime(toStartOfMinute(at), 'UTC') AS minute,
    to_state, from_state, unit_code, class_code, district_code,
    count() AS n
FROM {local:order_transitions}
GROUP BY minute, to_state, from_state, unit_code, class_code, district_code;
