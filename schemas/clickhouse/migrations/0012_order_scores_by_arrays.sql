-- The same rows of order_scores, at half the cost of an insert. What an insert into the steps costs is the view's analysis,
-- whatever the rows: the engine goes through a nested query again for every column that is taken from it, and once more for
-- the groups. So the order after a step and before it are two elements of each array, what both score are two arrays of the
-- same KPIs in the same order, and what differs is found by comparing them place by place: no groups, one query within.
-- A name for what several formulas need is a lambda's argument.
-- Dropped and made, as a view that is changed in place has other tokens until the engine's next start.
DROP VIEW IF EXISTS {local:order_scores_view} {on_cluster} SYNC;
CREATE MATERIALIZED VIEW IF NOT EXISTS {local:order_scores_view} {on_cluster} TO {local:order_scores} AS
SELECT
    item.1 AS kpi, fromUnixTimestamp64Milli(item.2, 'UTC') AS falls_at, order_id, version, step_at AS at, began_at AS opened_at,
    of_event AS event_id, unit AS unit_code, named AS unit_name, class AS class_code, district AS district_code,
    street AS street_code, item.3 AS reason, item.4 AS hit, if(kpi = 'close_time_wall', item.5, NULL) AS ms, item.6 AS n
FROM
(
    SELECT
        order_id, version, step_at, began_at, of_event, unit, named, class, district, street, told,
        arrayMap(
            (state, is_reassigned, dispatched, sign_due, due, contacted, handled, closed, paused, visited,
                reworked, reopened, closed_falsely, settled, last_visit, answer) ->
            arrayMap(no_work -> arrayMap(left_out -> arrayMap((no_duty, no_visit) ->
            arrayMap(each -> (each.1, ifNull(each.2, 0), each.3, each.3 = '' AND ifNull(each.4, 0), ifNull(each.5, 0)), [
                -- kpi, when the period takes the order up, why it is left out, whether it is in the numerator, how long.
                ('accurate_dispatch_rate', if(unit != '' AND state != 'NEEDS_REVIEW', dispatched, NULL), no_work,
                    NOT is_reassigned AND state != 'RETURNED', 0),
                ('response_rate', ifNull(sign_due, opened),
                    multiIf(no_duty != '', no_duty, sign_due IS NULL, 'no_deadline',
                        state = 'SUSPENDED' AND paused < sign_due, 'suspended', ''), contacted <= sign_due, 0),
                ('in_time_archive_rate', ifNull(due, opened),
                    multiIf(no_duty != '', no_duty, due IS NULL, 'no_deadline',
                        state = 'SUSPENDED' AND paused < due, 'suspended', ''),
                    state = 'CLOSED' AND closed <= due AND reopened = 0, 0),
                ('rework_rate', handled, left_out, reworked > 0, 0),
                ('false_closure_rate', closed, left_out, closed_falsely, 0),
                ('solve_rate', visited, multiIf(no_visit != '', no_visit, answer = '', 'not_answered', ''), answer = 'solved', 0),
                ('satisfaction_rate', visited, no_visit, last_visit = 'satisfied', 0),
                ('close_time_wall', closed,
                    multiIf(left_out != '', left_out, state != 'CLOSED', 'open_again', closed < opened, 'times_disordered', ''),
                    0, closed - opened)
            ]),
            [multiIf(left_out != '', left_out, closed < opened, 'closed_before_opened', due < opened, 'due_before_opened', '')],
            [multiIf(left_out != '', left_out, last_visit = 'unreachable', 'unreachable', '')])[1],
            [multiIf(no_work != '', no_work, is_reassigned, 'reassigned', state = 'RETURNED', 'returned', '')])[1],
            [multiIf(
                state = 'INVALID', 'invalid',
                state = 'DIRECT_ANSWERED', 'direct_answered',
                state = 'WITHDRAWN' AND NOT is_reassigned, 'withdrawn',
                state = 'UNKNOWN', 'status_unknown',
                settled, 'self_handled',
                '')])[1],
            -- The order after the step, and before it.
            [toString(to_state), toString(from_state)], [to_state = 'WITHDRAWN' AND action = 'assign', 0],
            [t1, nullIf(ifNull(was.1, t1), 0)], [t2, nullIf(ifNull(was.2, t2), 0)], [t3, nullIf(ifNull(was.3, t3), 0)],
            [t4, nullIf(ifNull(was.4, t4), 0)], [t5, nullIf(ifNull(was.5, t5), 0)], [t6, nullIf(ifNull(was.6, t6), 0)],
            [t7, nullIf(ifNull(was.7, t7), 0)], [t8, nullIf(ifNull(was.8, t8), 0)],
            [toInt64(reworks), ifNull(was.9, reworks)], [toInt64(reopens), ifNull(was.10, reopens)],
            [toUInt8(false_closure), toUInt8(ifNull(was.11, false_closure))],
            [toUInt8(self_handled), toUInt8(ifNull(was.12, self_handled))],
            [toString(final_visit), ifNull(was.13, toString(final_visit))],
            [toString(solved), ifNull(was.14, toString(solved))]
        ) AS sides
    FROM
    (
        SELECT
            order_id, version, at AS step_at, opened_at AS began_at, event_id AS of_event,
            unit_code AS unit, unit_name AS named, class_code AS class, district_code AS district,
            street_code AS street, replaced IS NOT NULL AS told, to_state, from_state, action, reworks, reopens,
            false_closure, self_handled, final_visit, solved, toUnixTimestamp64Milli(opened_at) AS opened,
            toUnixTimestamp64Milli(dispatched_at) AS t1, toUnixTimestamp64Milli(sign_due_at) AS t2,
            toUnixTimestamp64Milli(due_at) AS t3, toUnixTimestamp64Milli(contacted_at) AS t4,
            toUnixTimestamp64Milli(handled_at) AS t5, toUnixTimestamp64Milli(closed_at) AS t6,
            toUnixTimestamp64Milli(paused_at) AS t7, toUnixTimestamp64Milli(visited_at) AS t8,
            JSONExtract(ifNull(replaced, '{}'), 'Tuple(dispatched_at Nullable(Int64), sign_due_at Nullable(Int64), due_at Nullable(Int64), contacted_at Nullable(Int64), handled_at Nullable(Int64), closed_at Nullable(Int64), paused_at Nullable(Int64), visited_at Nullable(Int64), reworks Nullable(Int64), reopens Nullable(Int64), false_closure Nullable(Bool), self_handled Nullable(Bool), final_visit Nullable(String), solved Nullable(String))') AS was
        FROM {local:order_transitions}
    )
)
ARRAY JOIN arrayConcat(
    arrayMap(i -> (i.1, i.2, i.3, i.4, i.5, 1),
        arrayFilter((here, there) -> here.2 > 0 AND (version <= 1 OR told AND here != there), sides[1], sides[2])),
    arrayMap(i -> (i.1, i.2, i.3, i.4, i.5, -1),
        arrayFilter((here, there) -> here.2 > 0 AND version > 1 AND told AND here != there, sides[2], sides[1]))
) AS item;
