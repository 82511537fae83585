-- title: 工单簿
-- unit: 行
-- meaning: The newest version of each order opened in the last days, nearest deadline first; total is their number before the limit.
-- refresh: 5 s
-- private: a unit's own work, for the desk only
-- parameter: at Int64 — Now, ms since the epoch.
-- parameter: days UInt32 = 60 — Opened at most so many days ago.
-- parameter: unit_code String = '' — Only this unit; empty: all.
-- parameter: district_code String = '' — Only this district; empty: all.
-- parameter: handler String = '' — Only who works on it; empty: all.
-- parameter: state String = '' — Only this state; empty: see over.
-- parameter: over String = 'no' — no: only what is not over; yes: only what is; empty: all.
-- parameter: limit UInt32 = 200 — How many rows.
-- parameter: offset UInt32 = 0 — Rows to skip.
WITH
    fromUnixTimestamp64Milli({at:Int64}, 'UTC') AS instant,
    -- An order's unit and district never change, so that they may be asked for before its newest version is known.
    newest AS
    (
        SELECT
            order_id, any(orders.event_id) AS event_id, any(orders.unit_code) AS unit_code,
            any(orders.unit_name) AS unit_name, any(orders.class_code) AS class_code,
            any(orders.district_code) AS district_code, any(orders.grid_code) AS grid_code,
            any(orders.opened_at) AS opened_at, max(orders.version) AS last,
            argMax(tuple(orders.state, orders.priority, orders.due_at, orders.dispatched_at, orders.signed_at,
                orders.handled_at, orders.closed_at, orders.handler, orders.supervised, orders.overdue,
                orders.reopens, orders.closed_when), orders.version) AS facts
        FROM orders
        WHERE orders.opened_at >= instant - toIntervalDay({days:UInt32})
            AND ({unit_code:String} = '' OR orders.unit_code = {unit_code:String})
            AND ({district_code:String} = '' OR orders.district_code = {district_code:String})
        GROUP BY order_id
    ),
    found AS
    (
        SELECT *
        FROM newest
        WHERE ({state:String} = '' OR facts.1 = {state:String})
            AND ({handler:String} = '' OR facts.8 = {handler:String})
            AND ({over:String} = ''
                OR (facts.1 IN ('CLOSED', 'INVALID', 'DIRECT_ANSWERED', 'WITHDRAWN', 'RETURNED')) = ({over:String} = 'yes'))
    ),
    page AS
    (
        SELECT * FROM found
        ORDER BY facts.3 ASC NULLS LAST, order_id
        LIMIT {limit:UInt32} OFFSET {offset:UInt32}
    )
SELECT
    page.order_id AS order_id, page.event_id AS event_id, page.last AS version, unit_code, unit_name,
    facts.1 AS state, facts.2 AS priority, facts.3 AS due_at, page.class_code AS class_code,
    page.district_code AS district_code, page.grid_code AS grid_code, page.opened_at AS opened_at,
    facts.4 AS dispatched_at, facts.5 AS signed_at, facts.6 AS handled_at, facts.7 AS closed_at,
    facts.8 AS handler, facts.9 AS supervised, facts.10 AS overdue, facts.11 AS reopens, facts.12 AS closed_when,
    title, address, point.1 AS lon, point.2 AS lat, report_count, (SELECT count() FROM found) AS total
FROM page
LEFT JOIN
(
    SELECT event_id, argMax(events.title, events.version) AS title, argMax(events.address, events.version) AS address,
        argMax(tuple(events.lon, events.lat), events.version) AS point,
        argMax(events.report_count, events.version) AS report_count
    FROM events
    WHERE event_id IN (SELECT event_id FROM page) AND opened_at >= instant - toIntervalDay({days:UInt32} + 1)
    GROUP BY event_id
) AS matters ON matters.event_id = page.event_id
ORDER BY due_at ASC NULLS LAST, order_id
