-- title: 当日考核明细
-- unit: 项
-- meaning: What each step in or before the city's day until now added to (n = 1) or took away from (n = -1) the rows of kpi_items for the KPIs of the screen: their sums are the day's numbers.
-- refresh: 30 s
-- private: every KPI's rows at once, for quality, day_scores and day_orders to read
-- parameter: day Date — Day of the city.
-- parameter: at Int64 — As of when, ms since the epoch: only steps until then are known.
-- parameter: until Int64 = 0 — As of this instant instead of at, ms since the epoch; 0: at.
-- parameter: time_zone String — Zone of the city's day.
-- parameter: kpi String = '' — Only this KPI, or these, separated by commas; empty: all.
-- parameter: by String = 'city' — Group of each row: city, centre, district, street or unit.
-- parameter: code String = '' — Only this group; empty: all.
-- parameter: centres String = '' — Streets and districts with the code of the centre that steers them, street:code|…; a district that is not named is its own.
-- parameter: district_code String = '' — Only this district; empty: all.
-- parameter: street_code String = '' — Only this street; empty: all.
-- parameter: unit_code String = '' — Only this unit; empty: all.
-- parameter: channel String = '' — Only what this channel opened; empty: all.
-- parameter: class_code String = '' — Only classes that begin so; empty: all.
WITH
    if({until:Int64} = 0, {at:Int64}, {until:Int64}) AS known_at,
    fromUnixTimestamp64Milli(known_at, 'UTC') AS known_until,
    toDateTime64({day:Date}, 3, {time_zone:String}) AS day_start,
    least(toDateTime64({day:Date} + 1, 3, {time_zone:String}), known_until) AS day_end,
    splitByChar('|', {centres:String}) AS steered,
    arrayMap(pair -> splitByChar(':', pair)[1], steered) AS members,
    arrayMap(pair -> splitByChar(':', pair)[2], steered) AS centre_codes
SELECT
    order_scores.kpi AS kpi, multiIf(
        {by:String} = 'centre', transform(toString(street_code), members, centre_codes,
            transform(toString(district_code), members, centre_codes, toString(district_code))),
        {by:String} = 'district', toString(district_code),
        {by:String} = 'street', toString(street_code),
        {by:String} = 'unit', toString(unit_code),
        '') AS key,
    order_id, falls_at, opened_at, event_id, unit_name, class_code, district_code, reason, hit, ms, n
FROM order_scores
WHERE falls_at >= day_start AND falls_at < day_end AND order_scores.at <= known_until
    AND ({kpi:String} = '' OR has(splitByChar(',', {kpi:String}), toString(order_scores.kpi)))
    AND ({district_code:String} = '' OR order_scores.district_code = {district_code:String})
    AND ({street_code:String} = '' OR order_scores.street_code = {street_code:String})
    AND ({unit_code:String} = '' OR order_scores.unit_code = {unit_code:String})
    AND startsWith(order_scores.class_code, {class_code:String})
    AND ({code:String} = '' OR key = {code:String})
    AND ({channel:String} = '' OR order_scores.event_id IN
    (
        SELECT event_links.event_id FROM event_links
        WHERE {channel:String} != '' AND event_links.channel = {channel:String} AND relation IN ('opened', 'recurrence')
            AND event_links.received_at <= known_until
    ))
