-- What is open, and what is a matter at all, beside the facts: a screen asks for both every few seconds, and over a
-- year they are few among many. A step adds what the order is now and takes away what it was before it, each a row of
-- sign n; the engine drops the pair when it merges (a sum of zero), and FINAL does so for a reader. No row of a
-- former step has to be known for that: order and version name it. A step is a fact that is only added to, so that
-- a repeated block, a late one and a rebuild come to the same.

-- 在办 the orders that are open, as their last step left them.
CREATE TABLE IF NOT EXISTS {local:orders_in_hand} {on_cluster}
(
    opened_at DateTime64(3, 'UTC') CODEC(Delta(8), ZSTD(1)),
    order_id String CODEC(ZSTD(1)),
    of_version Int64 CODEC(T64, LZ4),
    event_id String CODEC(ZSTD(1)),
    unit_code LowCardinality(String),
    unit_name LowCardinality(String),
    state LowCardinality(String),
    class_code LowCardinality(String),
    district_code LowCardinality(String),
    street_code LowCardinality(String),
    priority Int32 CODEC(T64, LZ4),
    due_at Nullable(DateTime64(3, 'UTC')) CODEC(ZSTD(1)),
    n Int64 CODEC(T64, LZ4)
)
ENGINE = {summing_merge_tree:n}
PARTITION BY toYYYYMM(opened_at)
ORDER BY (opened_at, order_id, of_version)
SETTINGS {settings};

{distributed_view:orders_in_hand};

CREATE MATERIALIZED VIEW IF NOT EXISTS {local:orders_in_hand_view} {on_cluster} TO {local:orders_in_hand} AS
SELECT
    opened_at, order_id, change.1 AS of_version, any(event_id) AS event_id, any(unit_code) AS unit_code,
    any(unit_name) AS unit_name, any(to_state) AS state, any(class_code) AS class_code,
    any(district_code) AS district_code, any(street_code) AS street_code, any(priority) AS priority,
    any(tuple(due_at)).1 AS due_at, sum(change.2) AS n
FROM {local:order_transitions}
ARRAY JOIN arrayFilter(one -> one.3, [
    (version, 1, to_state NOT IN ('CLOSED', 'INVALID', 'DIRECT_ANSWERED', 'WITHDRAWN', 'RETURNED')),
    (version - 1, -1,
        from_state NOT IN ('UNKNOWN', 'CLOSED', 'INVALID', 'DIRECT_ANSWERED', 'WITHDRAWN', 'RETURNED'))
]) AS change
GROUP BY opened_at, order_id, of_version
HAVING n != 0;

-- 案件 the first order of each matter that is one (not refused, answered directly or withdrawn). Nothing of it ever
-- changes but whether it is there.
CREATE TABLE IF NOT EXISTS {local:matters} {on_cluster}
(
    opened_at DateTime64(3, 'UTC') CODEC(Delta(8), ZSTD(1)),
    order_id String CODEC(ZSTD(1)),
    class_code LowCardinality(String),
    district_code LowCardinality(String),
    street_code LowCardinality(String),
    grid_code LowCardinality(String),
    priority Int32 CODEC(T64, LZ4),
    n Int64 CODEC(T64, LZ4)
)
ENGINE = {summing_merge_tree:n}
PARTITION BY toYYYYMM(opened_at)
ORDER BY (opened_at, order_id)
SETTINGS {settings};

{distributed_view:matters};

CREATE MATERIALIZED VIEW IF NOT EXISTS {local:matters_view} {on_cluster} TO {local:matters} AS
SELECT
    opened_at, order_id, any(class_code) AS class_code, any(district_code) AS district_code,
    any(street_code) AS street_code, any(grid_code) AS grid_code, any(priority) AS priority,
    sum(if(sequence > 1, 0, toInt64(to_state NOT IN ('INVALID', 'DIRECT_ANSWERED', 'WITHDRAWN'))
        - toInt64(from_state NOT IN ('UNKNOWN', 'INVALID', 'DIRECT_ANSWERED', 'WITHDRAWN')))) AS n
FROM {local:order_transitions}
GROUP BY opened_at, order_id
HAVING n != 0;
