// The screen's own words in English, put over the Chinese ones as they appear. What the city calls its things
// (classes, areas, units, channels) and what citizens wrote stays in the city's language.

//: A phrase of the screen → English; … stands for what changes, and is put in the same order.
const PHRASES = {
  全域: "Quanyu", 一屏观全域: "one city, one screen", "全域 · … · 一屏观全域": "Quanyu · …", 全市: "whole city", 市: "city", 区县: "district", 街道: "street",
  数据截至: "Data as of", 截至: "as of", 链路延迟: "Pipeline lag", 统计日: "Day", 时刻: "Time", "▶ 回放": "▶ Replay", "■ 停止": "■ Stop", 存为图片: "Save as picture",
  深色或浅色: "Dark or light", 关闭: "Close", 渠道状态: "Channels' states", 地图层级: "Levels of the map", 亮灯规则: "Rules of the lights", 比较谁: "Whom to compare", 办理: "Handling",
  "空：到此刻；填写后，累计数只算到这一分钟": "Empty: up to now; else the counters stop at this minute",
  "从所选时刻（未选则零时）起，以 60 倍速重放这一天": "The day once more from the chosen minute, 60 times as fast",
  今日受理: "Intake of the day", 当日受理: "Intake of the day", "报件 → 事件 → 工单": "reports → events → orders", 报件: "Reports", 事件: "Events", 工单: "Orders", 合并率: "Merged",
  "处理结果，每份报件恰有一个": "Outcomes: each report has exactly one", 今日与昨日每小时报件: "Reports by hour, today and yesterday", "较昨日此时 …": "yest. …", "较前日 …": "day before …",
  "昨日此时 …": "yesterday now …", "前日 …": "day before …", "受理的 … 份中 … 份并入已知事件": "of … accepted, … joined a known event", 今日尚无受理的报件: "Nothing accepted yet today",
  "… 时": "… h", "最高 …": "max …", "最高 … 件": "max …", 渠道来源: "Channels", "今日报件 · 近 5 分钟 · 惯常间隔 · 状态": "reports today · last 5 min · usual gap · state",
  "当日报件 · 近 5 分钟 · 惯常间隔 · 状态": "reports of the day · last 5 min · usual gap · state", 事件类别: "Classes of events", "今日前十 · 较上周同日此时": "today's ten · vs. a week ago",
  "当日前十 · 较上周同日此时": "the day's ten · vs. a week before", 全域态势: "The city now", "今日事件，亮点为近一小时 · ▲ 红灯 ● 黄灯": "events today, points of the last hour · ▲ red ● yellow light",
  "当日事件，亮点为近一小时 · ▲ 红灯 ● 黄灯": "events of the day, points of its last hour · ▲ red ● yellow light", "各区域今日事件地图，数字见旁表": "Map of events by area; the numbers are in the list beside",
  最新事件: "Latest events", 案件: "Matter", 时间: "Time", 位置: "Place", 阶段: "State", "红灯 / 黄灯": "Red / yellow lights", 红黄灯: "Lights", "此刻 · 近 30 日派遣的工单": "now · orders of 30 days",
  在办: "Open", "▲ 特急": "▲ Urgent", "■ 超期未结": "■ Overdue", "● 临期 24 h": "● Due in 24 h", 重大危险: "Danger", 群发: "Burst", 三日到期: "Due in 3 days", 反复: "Recurring",
  "▲ 重大危险": "▲ Danger", "● 三日到期": "● Due in 3 days", "● 重大危险": "● Danger", "▲ 群发": "▲ Burst", "● 群发": "● Burst", "● 反复": "● Recurring", "超期 …": "late …", "超期 … 天 …": "late … d …", "剩 …": "… left", "剩 … 天 …": "… d … left",
  办理质效: "Quality", 今日零时至此刻: "since midnight", 当日零时至此刻: "the day until then", 按期办结率: "In time", 满意率: "Satisfied", 按期: "in time", 到期: "due", 满意: "satisfied", 回访: "asked",
  平均时长: "Mean", 中位: "Median", 今日办结: "Closed today", 当日办结: "Closed that day", 今日尚无到期的工单: "Nothing due yet today", 今日尚无有效回访: "Nobody asked yet today", 当日尚无到期的工单: "Nothing fell due that day",
  当日尚无有效回访: "Nobody was asked that day", 不含: "without", 按期结案率: "Closed in time", 响应率: "Responded", 准确派遣率: "Dispatched rightly", 返工率: "Reworked", 假闭环率: "Closed falsely",
  解决率: "Solved", 立案率: "Registered", 按时立案率: "Registered in time", 回退率: "Returned", 处置率: "Handled", 按期处置率: "Handled in time", 结案率: "Closed", 超时率: "Overdue",
  办结率: "Finished", 及时率: "Timely", 核查通过率: "Checks passed", 重办率: "Reopened", 延期率: "Extended", 督办率: "Supervised", 首次满意率: "Satisfied at first", 重复案件率: "Repeated",
  今日综合得分: "score of the day", 当日综合得分: "score of the day", "16 中心": "16 centres", "214 街道": "214 streets", 今日尚无可评分的工单: "No order to score yet today", 样本少: "few",
  感知四场景: "Sensing", 四场景: "Sensing", 消防通道: "Fire lanes", 消防通道占压: "Fire lanes blocked", 车棚火情: "Shed fires", 电动车棚火情: "Shed fires", 防汛水位: "Water levels", 电动车入梯: "E-bikes in lifts", "近 1 小时": "last hour",
  工单去向: "Where orders go", 今日派遣单位: "units of the day", 当日派遣单位: "units of the day", 今日尚无工单: "No order yet today", 未受理原因: "Why not accepted", 今日: "today", 当日: "that day", 今日全部受理: "All accepted today",
  今日尚无事件: "No event yet today", 当日没有事件: "No event that day", 近两日尚无事件: "No event in two days", 没有渠道: "No channel", 未细分到下级: "not known more finely", 此处没有更细的网格图形: "No finer grids to draw here",
  此处今日尚无事件: "No event here yet today", "此刻没有亮灯：今日无重大危险事项，近三日无到期工单": "No light shines: no danger today, nothing due within three days", 受理: "accepted", 重复: "repeated", 待复核: "review", 退回: "rejected",
  "● 正常": "● alive", "■ 静默": "■ silent", "◐ 学习中": "◐ learning", "○ 未接入": "○ not in service", "? 未知": "? unknown", 正常: "alive", 静默: "silent", "静默 …": "silent …", 学习中: "learning", 未接入: "not in service", 未知: "unknown",
  "… 毫秒": "… ms", "… 秒": "… s", "… 分钟": "… min", "… 小时": "… h", "… 小时 … 分": "… h … min", "… 天": "… d", "… 天 … 小时": "… d … h", "… 天 …": "… d …", "… 万": "…0 k", 一日内无数据: "no data for a day", "近 5 分钟无报件": "no report in 5 min",
  已派遣: "dispatched", 已签收: "signed", 办理中: "being handled", 已处置: "handled", 已核查: "checked", 已回访: "visited", 已结案: "closed", 退单: "returned", 延期: "extended", 挂起: "suspended", 督办: "supervised", 重新办理: "reopened",
  不受理: "invalid", 直接答复: "answered", 撤回: "withdrawn", 处置中: "open", "正在读取…": "Reading…", "共 … 条 · 截至 …": "… rows · as of …", "共 … 条，已列 … · 截至 …": "… rows, … shown · as of …", 更多: "More", 没有符合条件的记录: "No such record",
  "读取失败：…。请稍后再点开。": "Could not be read: …. Try again later.", 报件号: "Report", 事件号: "Event", 工单号: "Order", "事件号 …": "Event …", 受理时间: "Received", 立案时间: "Opened", 派遣时间: "Dispatched", 办结时限: "Due", 发生时间: "Occurred", 渠道: "Channel",
  首报渠道: "First channel", 日期: "Day", 最长间隔: "Longest gap", 结果: "Outcome", 原因: "Reason", 类别: "Class", 关系: "Relation", 得分: "Score", 标题: "Title", 报件数: "Reports", 单位: "Unit", 层级: "Level", 级别: "Priority", 自: "From", 至: "To", 依据: "Rule",
  操作: "Action", 灯: "Light", 网格: "Grid", 件数: "Number", 最早: "First", 最近: "Last", 结案时间: "Closed", 指标: "KPI", 值: "Value", 分子: "Numerator", 分母: "Denominator", 不计: "Left out", 目标: "Target", 权重: "Weight", 时长: "Duration", 设备: "Device", 图片: "Pictures",
  诉求数: "Demands", 经办: "By", 分类依据: "Class by", 分类把握: "Sure", 定位依据: "Place by", "发生 / 受理": "Occurred / received", 承办: "Handled by", 关联: "Related", 尚未派遣: "not dispatched yet", 在地图上看: "Show on the map", 事件尚未入库: "The event is not stored yet",
  "报件 … 份：为何归入本事件": "… reports: why they belong here", "工单与流转 … 步": "Orders: … steps", 首报立案: "opened", 办结后再发: "recurrence", 同事多报: "same matter", 催办: "urge", 补充: "supplement", 拆出: "split", 坐标: "point", 地名: "name", 坐标与地名: "both", 关键词: "keyword",
  模型: "model", 渠道给定: "native", 人工: "person", 系统: "system", 加急: "urgent", 一般: "normal", "▲ 红灯": "▲ red", "● 黄灯": "● yellow", "今日 · …": "Today · …", "此刻 · …": "Now · …", "… 报件": "… reports", "… 事件": "… events", "… 工单": "… orders",
  "照片 … 张": "Photos: …", "照片里可能有人：凭本人密钥查看": "Photos may show people: give your own key to see them", 密钥: "Key", 查看照片: "Show photos", "密钥不对，或无权查看": "The key is wrong, or may not see them",
  未存于此: "not kept here", 未读到: "not read", 无法显示: "cannot be shown", 外链: "elsewhere", "照片在别处，本屏不去取": "The photo lies elsewhere; this screen does not fetch it", 放大或缩小: "Larger or smaller",
  今日到期: "due today", 当日到期: "due that day", 今日回访: "asked today", 当日回访: "asked that day", 昨日: "yesterday", 件: "events", "近 6 小时告警水位，最高 … cm": "Levels alarmed, last 6 h, max … cm",
  "近四周同类日子里，此刻前后半小时所遇的最长间隔": "The longest gaps within half an hour of now on like days of four weeks", 尚无可比的日子: "No day to compare yet",
  "● 连不上服务，自动重试中": "● The service does not answer; trying again", "● 与服务的连接中断：自 … 起，画面为此前数据，… 秒内自动重试": "● No connection since …: this is what was known before; trying again within … s",
  "● 数据库暂不可用：自 … 起，画面为此前数据，… 秒内自动重试": "● The database is not available since …: this is what was known before; trying again within … s", "■ 链路积压 … 条，最早一条已等 …": "■ … records wait, the oldest for …",
  "截至 … · … 起读取失败，重试中": "as of … · not read since …, trying again", "… 起未读到，重试中": "not read since …, trying again", "▼ …：人工归并或更正": "▼ …: merged by hand or corrected",
  "正在查看 … … 之前；红黄灯、在办、最新事件、四场景与渠道状态仍为此刻": "You look at … before …; lights, open orders, latest events, sensing and channels are still of now",
  "正在查看 …；红黄灯、在办、最新事件、四场景与渠道状态仍为此刻": "You look at …; lights, open orders, latest events, sensing and channels are still of now", "地图未读到：…，自动重试": "The map could not be read: …; trying again",
};

const CHINESE = /[\u4e00-\u9fff]/;
const exact = new Map();
const patterns = [];
for (const [phrase, english] of Object.entries(PHRASES)) {
  if (!phrase.includes("…") || phrase === "正在读取…") exact.set(phrase, english);
  else patterns.push([new RegExp(`^${phrase.split("…").map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")).join("(.+?)")}$`), english]);
}
// The more a pattern says itself, the earlier it is tried.
patterns.sort(([a], [b]) => b.source.length - a.source.length);

/** A phrase in English; what is none of the screen's stays as it is. */
function english(text) {
  if (!CHINESE.test(text)) return text;
  const [, before, core, after] = text.match(/^(\s*)([^]*?)(\s*)$/);
  if (exact.has(core)) return before + exact.get(core) + after;
  for (const [pattern, made] of patterns) {
    const found = core.match(pattern);
    if (found) {
      let i = 0;
      return before + made.replace(/…/g, () => english(found[i += 1])) + after;
    }
  }
  return text;
}

const ATTRIBUTES = ["title", "aria-label", "data-head"];

function over(node) {
  if (node.nodeType === Node.TEXT_NODE) {
    const text = english(node.data);
    if (text !== node.data) node.data = text;
    return;
  }
  if (node.nodeType !== Node.ELEMENT_NODE) return;
  for (const name of ATTRIBUTES) {
    const text = node.getAttribute(name);
    if (text && english(text) !== text) node.setAttribute(name, english(text));
  }
  for (const child of node.childNodes) over(child);
}

/** Put English over what stands on the page and over what will. */
export function speakEnglish() {
  document.documentElement.lang = "en";
  over(document.documentElement);
  new MutationObserver((changes) => {
    for (const { type, target, addedNodes } of changes) {
      if (type === "childList") addedNodes.forEach(over);
      else over(target);
    }
  }).observe(document.documentElement, { subtree: true, childList: true, characterData: true, attributeFilter: ATTRIBUTES });
}
