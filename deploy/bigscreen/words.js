// Words and figures: codes to names, instants to the city's clock. Nothing here touches the page.

const REASONS = {
  no_location: "无位置", ambiguous_place: "位置多义", outside_city: "市域之外", null_island: "坐标为零",
  unknown_crs: "坐标系不明", bad_coordinate: "坐标有误", rounded_point: "坐标过粗", place_conflict: "点名不符", class_unknown: "类别不明",
  class_unsure: "类别待定", impossible_date: "日期有误", undecodable: "无法解码", missing_native_id: "缺少编号", encoding: "编码有误",
  malformed: "格式有误", text_too_long: "文本过长", empty: "内容为空", exact_duplicate: "重复报送",
};
const OUTCOMES = { accepted: "受理", duplicate: "重复", review: "待复核", rejected: "退回", unknown: "未知" };
const RELATIONS = {
  opened: "首报立案", recurrence: "办结后再发", co_report: "同事多报", urge: "催办", supplement: "补充", split: "拆出",
};
const STATES = {
  RECEIVED: "受理", NEEDS_REVIEW: "待复核", ASSIGNED: "已分派", DISPATCHED: "已派遣", SIGNED: "已签收",
  HANDLING: "办理中", HANDLED: "已处置", CHECKED: "已核查", REVISITED: "已回访", CLOSED: "已结案", RETURNED: "退单",
  EXTENDED: "延期", SUSPENDED: "挂起", SUPERVISED: "督办", REOPENED: "重新办理", INVALID: "不受理",
  DIRECT_ANSWERED: "直接答复", WITHDRAWN: "撤回", UNKNOWN: "—", open: "处置中", closed: "已结案",
};
const PRIORITIES = { 1: "▲ 红灯", 2: "加急", 3: "一般" };
const METHODS = { native: "渠道给定", keyword: "关键词", model: "模型", point: "坐标", name: "地名", both: "坐标与地名", person: "人工" };
const LEVELS = { city: "市", district: "区县", street: "街道" };

//: A mark beside each word: a state is never told by colour alone.
const CHANNEL_STATES = { alive: "● 正常", silent: "■ 静默", learning: "◐ 学习中", unused: "○ 未接入", unknown: "? 未知" };
const BASES = { configured: "配置给定", learned: "由近四周学得", default: "样本不足，暂用默认" };

const RULES = { dangerous: "重大危险", burst: "群发", due_soon: "三日到期", recurrence: "反复" };
const ACTIONS = {
  dispatch: "派遣", assign: "改派", sign: "签收", contact: "联系群众", start: "开始办理", handle: "处置", return: "退单", check_pass: "核查通过",
  check_fail: "核查不通过", visit: "回访", close: "结案", reopen: "重办", ask_extension: "申请延期", grant_extension: "同意延期",
  refuse_extension: "不予延期", suspend: "挂起", resume: "恢复", supervise: "督办", withdraw: "撤回", invalidate: "不受理", direct_answer: "直接答复",
  false_closure: "假闭环", near_due: "临期提醒", overdue: "超期", sign_overdue: "签收超期", handle_overdue: "处置超期", dispatch_overdue: "派遣超期",
};
const SCENES = { fire_lane: "消防通道占压", shed_fire: "电动车棚火情", water: "防汛水位", lift: "电动车入梯" };
const KPIS = {
  in_time_archive_rate: "按期结案率", response_rate: "响应率", accurate_dispatch_rate: "准确派遣率", rework_rate: "返工率",
  false_closure_rate: "假闭环率", solve_rate: "解决率", satisfaction_rate: "满意率", register_rate: "立案率", in_time_register_rate: "按时立案率",
  return_rate: "回退率", dispose_rate: "处置率", in_time_dispose_rate: "按期处置率", archive_rate: "结案率", overdue_rate: "超时率",
  closed_rate: "办结率", on_time_rate: "及时率", check_pass_rate: "核查通过率", reopen_rate: "重办率", extension_rate: "延期率",
  supervision_rate: "督办率", first_satisfaction_rate: "首次满意率", repeat_rate: "重复案件率",
};

export const HEADS = {
  report_id: "报件号", event_id: "事件号", order_id: "工单号", received_at: "受理时间", opened_at: "立案时间",
  dispatched_at: "派遣时间", due_at: "办结时限", occurred_at: "发生时间", at: "时间", channel: "渠道",
  first_channel: "首报渠道", day: "日期", gap_s: "最长间隔", outcome: "结果", reason: "原因", class_code: "类别", district_code: "区县",
  relation: "关系", score: "得分", title: "标题", address: "位置", report_count: "报件数", status: "阶段",
  state: "阶段", unit_name: "单位", level: "层级", priority: "级别", from_state: "自",
  rule: "依据", action: "操作", light: "灯", street_code: "街道", place: "网格", n: "件数", first_at: "最早", last_at: "最近", closed_at: "结案时间",
  kpi: "指标", value: "值", numerator: "分子", denominator: "分母", left_out: "不计", target: "目标", points: "得分", weight: "权重",
  hit: "分子", ms: "时长", device: "设备", pictures: "图片", to_state: "至", parts: "诉求数", actor: "经办", class_method: "分类依据", class_confidence: "分类把握", locate_method: "定位依据",
};

let city = { classes: {}, districts: {}, channels: {}, time_zone: "Asia/Shanghai" };
const places = new Map();
export const learn = (described) => {
  city = described;
  for (const [code, name] of Object.entries({ ...city.streets, ...city.districts, ...city.units })) places.set(code, name);
};
/** Names of the areas that a map shows. */
export const learnPlaces = (areas) => areas.forEach(({ code, name }) => places.set(code, name));
/** A grid's name; of one that no map showed yet the street's, with the rest of its code. */
export const placeName = (code) => places.get(code)
  ?? (places.has(code?.slice(0, 9)) ? `${places.get(code.slice(0, 9))} ${code.slice(9)}` : districtName(code));
/** A name for a small place on the map. */
export const shortName = (name) => (name.length > 6 ? name.replace(/^郑州/, "").replace(/(经济技术|高新技术产业|航空港经济综合)(开发|实验)区$/, (all) => ({ 经: "经开区", 高: "高新区", 航: "航空港区" })[all[0]]).slice(0, 10) : name);
/** Whether a light shines in an area: a centre, or a grid by the beginning of its code. */
export function lies(light, code) {
  if (code in (city.units ?? {})) return (city.unit_of[light.street_code] ?? city.unit_of[light.district_code] ?? light.district_code) === code;
  return (light.place || light.street_code).startsWith(code);
}
/** The centre that steers a grid. */
export const unitOf = (grid, district) => city.unit_of?.[grid.slice(0, 9)] ?? city.unit_of?.[district] ?? district;
export const ruleName = (rule, light) => `${light === "red" ? "▲ " : light === "yellow" ? "● " : ""}${RULES[rule] ?? rule}`;
export const kpiName = (kpi) => KPIS[kpi] ?? kpi;
export const sceneName = (scene) => SCENES[scene] ?? scene;
//: As a heading that fits a quarter of a tile.
export const sceneShort = (scene) => ({ fire_lane: "消防通道", shed_fire: "车棚火情" }[scene] ?? sceneName(scene));
export const named = () => city;

const exactly = new Intl.NumberFormat("zh-CN");
export const exact = (n) => exactly.format(n);
/** 千分位 below 10 万, then 万 with one decimal; the exact number goes into a title. */
export const brief = (n) => (n >= 100000 ? `${(n / 10000).toFixed(1)} 万` : exactly.format(n));
export const percent = (share) => `${(share * 100).toFixed(1)}%`;

const parts = (ms, options) => new Intl.DateTimeFormat("zh-CN", {
  timeZone: city.time_zone, hourCycle: "h23", ...options,
}).format(new Date(ms));
const two = "2-digit";
export const clock = (ms) => parts(ms, { hour: two, minute: two, second: two });
export const moment = (ms) => parts(ms, { month: two, day: two, hour: two, minute: two }).replace("/", ".");
export const day = (ms) => new Intl.DateTimeFormat("en-CA", { timeZone: city.time_zone }).format(new Date(ms));

/** The instant of a day and minute of the city, ms since the epoch. */
export function instantOf(date, minute) {
  const guess = Date.parse(`${date}T${minute}:00Z`);
  const shown = new Date(guess).toLocaleString("sv", { timeZone: city.time_zone });
  return 2 * guess - Date.parse(`${shown.replace(" ", "T")}Z`);
}

/** 4 天 2 小时, 12 分钟, 3.2 秒. */
export function duration(ms) {
  if (ms < 1000) return `${Math.round(ms)} 毫秒`;
  if (ms < 60000) return `${(ms / 1000).toFixed(1)} 秒`;
  const minutes = Math.round(ms / 60000);
  if (minutes < 60) return `${minutes} 分钟`;
  const hours = Math.floor(minutes / 60);
  if (hours < 24) return minutes % 60 ? `${hours} 小时 ${minutes % 60} 分` : `${hours} 小时`;
  return hours % 24 ? `${Math.floor(hours / 24)} 天 ${hours % 24} 小时` : `${Math.floor(hours / 24)} 天`;
}

/** A running clock: 1 天 02:03, 02:03:04. */
export function span(ms) {
  const all = Math.floor(ms / 1000);
  const [days, hours, minutes, seconds] = [Math.floor(all / 86400), Math.floor(all / 3600) % 24, Math.floor(all / 60) % 60, all % 60]
    .map((n) => String(n).padStart(2, "0"));
  return days === "00" ? `${hours}:${minutes}:${seconds}` : `${Number(days)} 天 ${hours}:${minutes}`;
}

/** A class by its code; of a group of classes (two digits) the name of the group. */
export const className = (code) => city.classes[code]?.name
  ?? (code?.length === 2 ? Object.entries(city.classes).find(([one]) => one.startsWith(code))?.[1].class_name : undefined) ?? (code || "未分类");
export const districtName = (code) => city.districts[code] ?? (code || "未定位");
export const channelName = (name) => city.channels[name]?.title ?? name;
export const channelState = (state) => CHANNEL_STATES[state];
export const basisName = (basis) => BASES[basis];
/** A channel's state in one line; `channel` is what /api/status says of it. */
export function channelFacts(channel) {
  if (!channel) return "监测无应答，状态未知";
  const ways = Object.entries(channel.connectors).map(([way, up]) => `${way} ${up ? "已连上" : "未连上"}`);
  return [channelState(channel.state), channel.in_service ? `最近报件 ${moment(channel.last_seen)}` : "从未收到报件",
    `惯常间隔 ${duration(1000 * channel.usual_gap_s)}（${basisName(channel.basis)}），三倍未见即为静默`,
    ways.length ? `连接：${ways.join("，")}` : ""].filter(Boolean).join(" · ");
}
export const outcomeName = (code) => OUTCOMES[code] ?? code;
export const reasonName = (code) => REASONS[code] ?? (code || "—");
export const stateName = (code) => STATES[code] ?? code;

let ahead = 0;
/** The gateway's clock goes so far ahead of the browser's, which may be wrong. */
export const setClock = (difference) => { ahead = difference; };
export const now = () => Date.now() + ahead;

/** What a person reads in a cell of a column. */
export function cell(key, value) {
  if (value === null || value === undefined || value === "") return "—";
  if (key === "at" || key.endsWith("_at")) return moment(value);
  if (key.endsWith("_id")) return String(value).slice(0, 8);
  switch (key) {
    case "class_code": return className(value);
    case "district_code": return districtName(value);
    case "channel": case "first_channel": return channelName(value);
    case "outcome": return outcomeName(value);
    case "reason": return reasonName(value);
    case "relation": return RELATIONS[value] ?? value;
    case "status": case "state": case "from_state": case "to_state": return stateName(value);
    case "priority": return PRIORITIES[value] ?? value;
    case "kpi": return kpiName(value);
    case "action": return ACTIONS[value] ?? value;
    case "rule": return RULES[value] ?? value;
    case "street_code": case "place": case "code": return placeName(value);
    case "light": return value === "red" ? "▲ 红灯" : "● 黄灯";
    case "hit": return value ? "计入分子" : "—";
    case "ms": return duration(value);
    case "value": case "target": case "weight": return percent(value);
    case "points": return Number(value).toFixed(1);
    case "level": return LEVELS[value] ?? value;
    case "actor": return value === "system" ? "系统" : value;
    case "class_method": case "locate_method": return METHODS[value] ?? value;
    case "gap_s": return duration(1000 * value);
    case "score": return Number(value).toFixed(2);
    case "class_confidence": return percent(value);
    default: return String(value);
  }
}
