-- What the KPIs of a day count, beside the steps that it is made of. A step says which facts of its order it replaced, so
-- that order is known before it and after it without a look at any other step: what it was judged by is taken away
-- (n = -1), what it is judged by now is added (n = 1), each at the instant by which a KPI takes it up, and only where the
-- two differ. Sums of n over a day are then the day's numbers, as of any instant, and cost what the day holds, whatever
-- the year does. A step is a fact that is only added to, so that a repeated block, a late one and a rebuild come to the same.
ALTER TABLE {local:order_transitions} {on_cluster}
    ADD COLUMN IF NOT EXISTS replaced Nullable(String) CODEC(ZSTD(1));
ALTER TABLE {local:order_transitions} {on_cluster}
    ADD COLUMN IF NOT EXISTS first_visited_at Nullable(DateTime64(3, 'UTC')) CODEC(ZSTD(1));
ALTER TABLE {local:order_transitions} {on_cluster}
    ADD COLUMN IF NOT EXISTS visited_at Nullable(DateTime64(3, 'UTC')) CODEC(ZSTD(1));

-- A day is asked for: its rows lie together. Within an hour those of one KPI, for what asks for one alone.
CREATE TABLE IF NOT EXISTS {local:order_scores} {on_cluster}
(
    kpi LowCardinality(String),
    falls_at DateTime64(3, 'UTC') CODEC(Delta(8), ZSTD(1)),
    order_id String CODEC(ZSTD(1)),
    version Int64 CODEC(T64, LZ4),
    at DateTime64(3, 'UTC') CODEC(Delta(8), ZSTD(1)),
    opened_at DateTime64(3, 'UTC') CODEC(Delta(8), ZSTD(1)),
    event_id String CODEC(ZSTD(1)),
    unit_code LowCardinality(String),
    unit_name LowCardinality(String),
    class_code LowCardinality(String),
    district_code LowCardinality(String),
    street_code LowCardinality(String),
    reason LowCardinality(String),
    hit Bool,
    ms Nullable(Int64) CODEC(ZSTD(1)),
    n Int64 CODEC(T64, LZ4)
)
ENGINE = {merge_tree}
PARTITION BY toYYYYMM(falls_at)
ORDER BY (toStartOfHour(falls_at), kpi, falls_at, order_id, version, reason, hit)
SETTINGS {settings};

{distributed_view:order_scores};

-- The formulas are those of the query kpi_items, for the KPIs that a screen shows of a day; a test holds one against the
-- other. A step from before `replaced` was kept tells nothing, unless it is an order's first: `quanyu tables rebuild
-- order_scores`, once, finds out what such steps replaced.
CREATE MATERIALIZED VIEW IF NOT EXISTS {local:order_scores_view} {on_cluster} TO {local:order_scores} AS
SELECT
    item.1 AS kpi, fromUnixTimestamp64Milli(assumeNotNull(item.2), 'UTC') AS falls_at, order_id, version,
    any(step_at) AS at, any(began_at) AS opened_at, any(of_event) AS event_id, any(unit) AS unit_code,
    any(named) AS unit_name, any(class) AS class_code, any(district) AS district_code, any(street) AS street_code,
    item.3 AS reason, item.3 = '' AND ifNull(item.4, 0) AS hit, item.5 AS ms, sum(sign) AS n
FROM
(
    SELECT
        order_id, version, step_at, began_at, of_event, unit, named, class, district, street, sign,
        -- kpi, when the period takes the order up, why it is left out, whether it is in the numerator, how long.
        arrayJoin(arrayFilter(each -> each.2 > 0, [
            ('accurate_dispatch_rate', if(unit != '' AND state != 'NEEDS_REVIEW', dispatched, NULL), no_work,
                NOT is_reassigned AND state != 'RETURNED', NULL),
            ('response_rate', ifNull(sign_due, opened),
                multiIf(no_duty != '', no_duty, sign_due IS NULL, 'no_deadline',
                    state = 'SUSPENDED' AND paused < sign_due, 'suspended', ''), contacted <= sign_due, NULL),
            ('in_time_archive_rate', ifNull(due, opened),
                multiIf(no_duty != '', no_duty, due IS NULL, 'no_deadline',
                    state = 'SUSPENDED' AND paused < due, 'suspended', ''), state = 'CLOSED' AND closed <= due AND reopened = 0, NULL),
            ('rework_rate', handled, left_out, reworked > 0, NULL),
            ('false_closure_rate', closed, left_out, closed_falsely, NULL),
            ('solve_rate', visited, multiIf(no_visit != '', no_visit, answer = '', 'not_answered', ''), answer = 'solved', NULL),
            ('satisfaction_rate', visited, no_visit, last_visit = 'satisfied', NULL),
            ('close_time_wall', closed,
                multiIf(left_out != '', left_out, state != 'CLOSED', 'open_again', closed < opened, 'times_disordered', ''),
                0, closed - opened)
        ]::Array(Tuple(String, Nullable(Int64), String, Nullable(UInt8), Nullable(Int64))))) AS item
    FROM
    (
        SELECT *,
            multiIf(left_out != '', left_out, closed < opened, 'closed_before_opened', due < opened, 'due_before_opened', '') AS no_duty,
            multiIf(left_out != '', left_out, last_visit = 'unreachable', 'unreachable', '') AS no_visit
        FROM
        (
            SELECT *,
                multiIf(no_work != '', no_work, is_reassigned, 'reassigned', state = 'RETURNED', 'returned', '') AS left_out
            FROM
            (
                SELECT *,
                    multiIf(
                        state = 'INVALID', 'invalid',
                        state = 'DIRECT_ANSWERED', 'direct_answered',
                        state = 'WITHDRAWN' AND NOT is_reassigned, 'withdrawn',
                        state = 'UNKNOWN', 'status_unknown',
                        settled, 'self_handled',
                        '') AS no_work
                FROM
                (
                    -- The order after the step and, unless the step is its first, before it.
                    SELECT
                        order_id, version, step_at, began_at, of_event, unit, named, class, district, street,
                        toUnixTimestamp64Milli(began_at) AS opened, side.1 AS sign, side.2 AS state, side.3 AS is_reassigned,
                        side.4 AS dispatched, side.5 AS sign_due, side.6 AS due, side.7 AS contacted, side.8 AS handled,
                        side.9 AS closed, side.10 AS paused, side.11 AS visited, side.12 AS reworked, side.13 AS reopened,
                        side.14 AS closed_falsely, side.15 AS settled, side.16 AS last_visit, side.17 AS answer
                    FROM
                    (
                        SELECT
                            order_id, version, order_transitions.at AS step_at, opened_at AS began_at, event_id AS of_event,
                            unit_code AS unit, unit_name AS named, class_code AS class, district_code AS district,
                            street_code AS street, replaced IS NOT NULL AS told, to_state, from_state, action, reworks, reopens,
                            false_closure, self_handled, final_visit, solved,
                            toUnixTimestamp64Milli(order_transitions.dispatched_at) AS t1, toUnixTimestamp64Milli(order_transitions.sign_due_at) AS t2,
                            toUnixTimestamp64Milli(order_transitions.due_at) AS t3, toUnixTimestamp64Milli(order_transitions.contacted_at) AS t4,
                            toUnixTimestamp64Milli(order_transitions.handled_at) AS t5, toUnixTimestamp64Milli(order_transitions.closed_at) AS t6,
                            toUnixTimestamp64Milli(order_transitions.paused_at) AS t7, toUnixTimestamp64Milli(order_transitions.visited_at) AS t8,
                            JSONExtract(ifNull(replaced, '{}'), 'Tuple(dispatched_at Nullable(Int64), sign_due_at Nullable(Int64), due_at Nullable(Int64), contacted_at Nullable(Int64), handled_at Nullable(Int64), closed_at Nullable(Int64), paused_at Nullable(Int64), visited_at Nullable(Int64), reworks Nullable(Int64), reopens Nullable(Int64), false_closure Nullable(Bool), self_handled Nullable(Bool), final_visit Nullable(String), solved Nullable(String))') AS was
                        FROM {local:order_transitions}
                    )
                    ARRAY JOIN arrayFilter(side -> side.1 != 0, [
                        (toInt8(version <= 1 OR told), toString(to_state), to_state = 'WITHDRAWN' AND action = 'assign',
                            t1, t2, t3, t4, t5, t6, t7, t8, toInt64(reworks), toInt64(reopens), toUInt8(false_closure),
                            toUInt8(self_handled), toString(final_visit), toString(solved)),
                        (-toInt8(version > 1 AND told), toString(from_state), 0,
                            nullIf(ifNull(was.1, t1), 0), nullIf(ifNull(was.2, t2), 0), nullIf(ifNull(was.3, t3), 0),
                            nullIf(ifNull(was.4, t4), 0), nullIf(ifNull(was.5, t5), 0), nullIf(ifNull(was.6, t6), 0),
                            nullIf(ifNull(was.7, t7), 0), nullIf(ifNull(was.8, t8), 0),
                            ifNull(was.9, reworks), ifNull(was.10, reopens), toUInt8(ifNull(was.11, false_closure)),
                            toUInt8(ifNull(was.12, self_handled)), ifNull(was.13, toString(final_visit)), ifNull(was.14, toString(solved)))
                    ]) AS side
                )
            )
        )
    )
)
GROUP BY order_id, version, kpi, falls_at, reason, hit, ms
HAVING n != 0;
