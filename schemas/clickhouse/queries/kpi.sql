-- title: 考核指标
-- unit: 率
-- meaning: One row for each KPI of the period, as it was at the instant asked for: value = numerator / denominator, how many were left out and why; no value where nothing is counted. The composite (三率) is the weighted sum of 响应率, 解决率 and 满意率.
-- refresh: 60 s
-- over: kpi_items
-- drill_down: denominator -> orders_behind(kpi = kpi, counted = 'denominator')
-- drill_down: numerator -> orders_behind(kpi = kpi, counted = 'numerator')
-- drill_down: left_out -> orders_behind(kpi = kpi, counted = 'left_out')
-- parameter: weights String = 0.3,0.35,0.35 — 三率: weights of response, resolution and satisfaction.
WITH
    arrayMap(weight -> toFloat64OrZero(weight), splitByChar(',', {weights:String})) AS shares,
    counted AS
    (
        SELECT
            kpi_items.kpi AS kpi, countIf(hit) AS numerator, countIf(reason = '') AS denominator,
            countIf(reason != '') AS left_out, sumMapIf(map(reason, toUInt64(1)), reason != '') AS excluded
        FROM kpi_items
        GROUP BY kpi_items.kpi
    ),
    catalogue AS
    (
        SELECT entry.1 AS place, entry.2 AS kpi, entry.3 AS term, entry.4 AS better, entry.5 AS formula,
            shares[indexOf(['response_rate', 'solve_rate', 'satisfaction_rate'], kpi)] AS weight
        FROM (SELECT arrayJoin([
            (1, 'register_rate', '立案率', 'high', '期内收到的报件中已立案的 ÷ 期内收到的报件（完全重复的不计）'),
            (2, 'in_time_register_rate', '按时立案率', 'high', '派遣时限内派出的首张工单 ÷ 期内受理的首张工单'),
            (3, 'accurate_dispatch_rate', '准确派遣率', 'high', '未被退单、未被改派的工单 ÷ 期内派出的工单'),
            (4, 'return_rate', '回退率', 'low', '被退回的工单 ÷ 期内单位收到的工单'),
            (5, 'response_rate', '响应率', 'high', '签收时限内首次联系群众或到场的 ÷ 签收时限落在期内的工单'),
            (6, 'dispose_rate', '处置率', 'high', '已处置的 ÷ 处置时限落在期内的工单'),
            (7, 'in_time_dispose_rate', '按期处置率', 'high', '处置时限内处置且未重办的 ÷ 处置时限落在期内的工单'),
            (8, 'archive_rate', '结案率', 'high', '已结案的 ÷ 办结时限落在期内的工单'),
            (9, 'in_time_archive_rate', '按期结案率', 'high', '办结时限内结案且未重办的 ÷ 办结时限落在期内的工单'),
            (10, 'overdue_rate', '超时率', 'low', '办结时限内未结案的 ÷ 办结时限落在期内的工单'),
            (11, 'closed_rate', '办结率', 'high', '已结案的 ÷ 期内受理的工单（按受理时间，仅供对照）'),
            (12, 'on_time_rate', '及时率', 'high', '时限内结束的 ÷ 期内结束且有时限的工单（不含未结束的，仅供对照）'),
            (13, 'rework_rate', '返工率', 'low', '核查退回过的 ÷ 期内处置的工单'),
            (14, 'check_pass_rate', '核查通过率', 'high', '核查通过次数 ÷ 期内核查次数'),
            (15, 'reopen_rate', '重办率', 'low', '重办过的 ÷ 期内结案的工单'),
            (16, 'false_closure_rate', '假闭环率', 'low', '结案后 72 小时内同一事项再报的 ÷ 期内结案的工单'),
            (17, 'extension_rate', '延期率', 'low', '延期过的 ÷ 办结时限落在期内的工单'),
            (18, 'supervision_rate', '督办率', 'low', '督办过的 ÷ 办结时限落在期内的工单'),
            (19, 'solve_rate', '解决率', 'high', '回访称已解决的 ÷ 期内有效回访（联系不上的不计）'),
            (20, 'first_satisfaction_rate', '首次满意率', 'high', '首次回访满意的 ÷ 期内首次有效回访'),
            (21, 'satisfaction_rate', '满意率', 'high', '末次回访满意的 ÷ 期内有效回访（联系不上的不计）'),
            (22, 'repeat_rate', '重复案件率', 'low',
                concat('同一网格同一小类 ', toString({repeat_days:UInt32}), ' 天内达到 ', toString({repeat_times:UInt32}),
                    ' 件的 ÷ 期内受理、定位到小区的事件')),
            (23, 'composite', '三率综合', 'high',
                concat('响应率×', toString(shares[1]), ' + 解决率×', toString(shares[2]), ' + 满意率×', toString(shares[3])))
        ]) AS entry)
    )
SELECT
    catalogue.kpi AS kpi, term, better,
    if(kpi = 'composite',
        if(countIf(weight > 0 AND denominator = 0) OVER () > 0, NULL,
            sum(if(denominator = 0, 0, weight * numerator / denominator)) OVER ()),
        if(denominator = 0, NULL, numerator / denominator)) AS value,
    numerator, denominator, left_out, excluded, formula
FROM catalogue
LEFT JOIN counted ON counted.kpi = catalogue.kpi
WHERE {kpi:String} = '' OR catalogue.kpi = {kpi:String}
ORDER BY place
