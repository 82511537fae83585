// 一屏观全域: asks named queries, draws what changed, says when it cannot. Texts from data are always set as text.
import * as echarts from "./vendor/echarts.mjs";

const COLOURS = { text: "#e6edf7", second: "#a9b8d0", line: "#22304a", accent: "#4fa3ff", panel: "#121c2e" };
const REASONS = {
  no_location: "无位置", ambiguous_place: "位置多义", outside_city: "市域之外", null_island: "坐标为零",
  unknown_crs: "坐标系不明", bad_coordinate: "坐标有误", rounded_point: "坐标过粗", class_unknown: "类别不明",
  impossible_date: "日期有误", undecodable: "无法解码", missing_native_id: "缺少编号", encoding: "编码有误",
  malformed: "格式有误", text_too_long: "文本过长", empty: "内容为空", exact_duplicate: "重复报送",
};
const OUTCOMES = { accepted: "受理", duplicate: "重复", review: "待复核", rejected: "退回", unknown: "未知" };
const HEADS = {
  report_id: "报件", channel: "渠道", native_id: "渠道编号", title: "标题", class_code: "类别", district_code: "区县",
  grid_code: "网格", address: "位置", received_at: "受理时间", occurred_at: "发生时间", outcome: "结果", reason: "原因",
  detail: "说明", event_id: "事件", report_count: "报件数", opened_at: "立案时间", updated_at: "更新时间", status: "状态",
  order_id: "工单", unit_name: "单位", unit_code: "单位编码", state: "阶段", priority: "级别", dispatched_at: "派遣时间",
  due_at: "办结时限", rule: "依据", relation: "关系", score: "得分", text: "内容", first_channel: "首报渠道",
};
const HIDDEN = new Set(["source_topic", "source_partition", "source_offset", "rule_version", "unit_code", "grid_code"]);
const MAX_BACKOFF_S = 30;
const PAGE = 100;

const $ = (selector, root = document) => root.querySelector(selector);
const state = { city: null, tiles: [], due: new Map(), data: new Map(), at: new Map(), failing: 0, day: "", charts: {} };

const number = new Intl.NumberFormat("zh-CN");
const big = (n) => (n >= 100000 ? `${(n / 10000).toFixed(1)}万` : number.format(n));
const percent = (x) => `${(x * 100).toFixed(1)}%`;

function element(tag, text, className) {
  const made = document.createElement(tag);
  if (text !== undefined && text !== null) made.textContent = text;
  if (className) made.className = className;
  return made;
}

function local(iso, withSeconds = false) {
  if (!iso) return "";
  const zone = state.city.time_zone;
  return new Intl.DateTimeFormat("zh-CN", {
    timeZone: zone, month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit",
    ...(withSeconds ? { second: "2-digit" } : {}), hour12: false,
  }).format(new Date(iso)).replaceAll("/", ".");
}
const clock = (iso) => new Intl.DateTimeFormat("zh-CN", {
  timeZone: state.city.time_zone, hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false,
}).format(new Date(iso));
const today = () => new Intl.DateTimeFormat("en-CA", { timeZone: state.city.time_zone }).format(new Date());

const className_ = (code) => state.city.classes[code]?.name ?? code;
const districtName = (code) => state.city.districts[code] ?? code;
const channelName = (name) => state.city.channels[name]?.title ?? name;
const gridName = (code) => state.city.streets[code] ?? districtName(code);

function cell(key, value) {
  if (value === null || value === undefined) return "";
  if (key.endsWith("_at") || key === "at") return local(value, true);
  if (key === "class_code") return className_(value);
  if (key === "district_code") return districtName(value);
  if (key === "channel" || key === "first_channel") return channelName(value);
  if (key === "outcome") return OUTCOMES[value] ?? value;
  if (key === "reason") return REASONS[value] ?? value;
  if (key === "score") return Number(value).toFixed(2);
  if (["report_id", "event_id", "order_id"].includes(key)) return String(value).slice(0, 8);
  return String(value);
}

// ---- what each tile draws -------------------------------------------------------------------------------

function tick(target, value, format) {
  if (target.dataset.value === String(value)) return;
  const before = Number(target.dataset.value ?? 0);
  target.dataset.value = String(value);
  target.title = number.format(value);
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches || !Number.isFinite(before);
  const start = performance.now();
  const step = (now) => {
    const share = still ? 1 : Math.min(1, (now - start) / 300);
    const shown = format === percent ? value : Math.round(before + (value - before) * share);
    target.textContent = format(shown);
    if (share < 1 && target.dataset.value === String(value)) requestAnimationFrame(step);
  };
  requestAnimationFrame(step);
}

function drawTotals(rows) {
  const row = rows[0] ?? { reports: 0, events: 0, orders: 0, merge_ratio: 0 };
  for (const key of ["reports", "events", "orders"]) tick($(`[data-n=${key}]`), Number(row[key]), big);
  $("[data-n=merge_ratio]").textContent = `${percent(Number(row.merge_ratio))}`;
  $("[data-n=merge_ratio]").title = `(${row.reports} − ${row.events}) ÷ ${row.reports}`;
}

function bars(block, rows, make, whenEmpty) {
  const list = $(".list", $(block));
  list.className = "list bars";
  if (!rows.length) return list.replaceChildren(element("p", whenEmpty, "empty"));
  const most = Math.max(1, ...rows.map((row) => make(row).value));
  list.replaceChildren(...rows.map((row) => {
    const { label, value, sub, subClass, drill, colour } = make(row);
    const line = element("button", null, "row");
    const bar = element("span", null, "bar");
    const fill = element("i");
    fill.style.width = `${(100 * value) / most}%`;
    if (colour) fill.style.background = colour;
    bar.append(fill);
    const name = element("span", label);
    name.title = label;
    line.append(name, bar, element("span", big(value), "n"), element("span", sub ?? "", `sub ${subClass ?? ""}`));
    line.addEventListener("click", () => open(...drill));
    return line;
  }));
}

const CHANNEL_COLOURS = ["#56B4E9", "#E69F00", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7"];

function drawChannels(rows) {
  const names = Object.keys(state.city.channels);
  bars("#channels", rows, (row) => ({
    label: channelName(row.channel), value: Number(row.received), sub: `近5分 ${big(Number(row.last_5_min))}`,
    colour: CHANNEL_COLOURS[names.indexOf(row.channel) % CHANNEL_COLOURS.length],
    drill: ["outcomes_of_day", `${channelName(row.channel)} 今日报件`, { channel: row.channel }, Number(row.received)],
  }), "今日尚无报件");
  drawLamps(rows);
}

function drawLamps(rows) {
  const seen = new Map(rows.map((row) => [row.channel, new Date(row.last_minute).getTime()]));
  const now = Date.now();
  $("#lamps").replaceChildren(...Object.entries(state.city.channels)
    .filter(([name, channel]) => channel.kind !== "foreign" || seen.has(name))
    .map(([name, channel]) => {
      const last = seen.get(name);
      // A minute's counter is known to the minute only.
      const late = last === undefined || now - last > channel.usual_gap_s * 3000 + 60000;
      const lamp = element("li", null, last === undefined ? "none" : late ? "quiet" : "alive");
      lamp.append(element("i"), element("span", channel.title));
      lamp.title = last === undefined ? "今日尚无报件" : late ? `静默，上次 ${clock(last)}` : "正常";
      lamp.append(element("span", last === undefined ? "无" : late ? "静默" : "", "note"));
      return lamp;
    }));
}

function drawClasses(rows) {
  bars("#classes", rows.filter((row) => Number(row.events) > 0).slice(0, 10), (row) => {
    const [now, before] = [Number(row.events), Number(row.events_week_before)];
    const change = now - before;
    return {
      label: className_(row.class_code), value: now,
      sub: before ? `${change >= 0 ? "▲" : "▼"} ${Math.abs(change)}` : "", subClass: change >= 0 ? "up" : "down",
      drill: ["events_of_day", `${className_(row.class_code)} 今日事件`, { class_code: row.class_code }, now],
    };
  }, "今日尚无事件");
}

function drawOutcomes(rows) {
  const colours = { accepted: "#3ccb8c", duplicate: "#7c8aa5", review: "#ffc247", rejected: "#ff5c5c" };
  bars("#outcomes", rows, (row) => ({
    label: OUTCOMES[row.outcome] ?? row.outcome, value: Number(row.reports), colour: colours[row.outcome],
    drill: ["outcomes_of_day", `${OUTCOMES[row.outcome]} 今日报件`, { outcome: row.outcome }, Number(row.reports)],
  }), "今日尚无报件");
}

function drawReasons(rows) {
  bars("#reasons", rows, (row) => ({
    label: REASONS[row.reason] ?? row.reason, value: Number(row.reports), sub: OUTCOMES[row.outcome], colour: "#ffc247",
    drill: ["outcomes_of_day", `${REASONS[row.reason] ?? row.reason} 今日报件`,
      { outcome: row.outcome, reason: row.reason }, Number(row.reports)],
  }), "今日无需复核");
}

function drawUnits(rows) {
  bars("#units", rows, (row) => ({
    label: row.unit_name || row.unit_code, value: Number(row.orders),
    drill: ["orders_of_day", `${row.unit_name || row.unit_code} 今日工单`, { unit_code: row.unit_code }, Number(row.orders)],
  }), "今日尚无工单");
}

function drawLatest(rows) {
  const list = $(".list", $("#latest"));
  if (!rows.length) return list.replaceChildren(element("p", "今日尚无事件", "empty"));
  const head = element("div", null, "row head");
  for (const [text, wide] of [["案件", ""], ["时间", ""], ["位置", "wide"], ["街道", "wide"], ["报件", "n"]]) {
    head.append(element("span", text, wide));
  }
  list.replaceChildren(head, ...rows.map((row) => {
    const line = element("button", null, "row");
    const title = row.title || className_(row.class_code);
    const place = row.address || districtName(row.district_code);
    for (const [text, wide] of [[title, ""], [local(row.updated_at), ""], [place, "wide"],
      [gridName(row.grid_code), "wide"], [row.report_count, "n"]]) {
      const span = element("span", text, wide);
      span.title = String(text);
      line.append(span);
    }
    line.addEventListener("click", () => openEvent(row.event_id, title));
    return line;
  }));
}

function chart(id) {
  if (!state.charts[id]) {
    const target = $(`#${id} .chart`);
    target.replaceChildren();
    state.charts[id] = echarts.init(target, null, { renderer: "canvas" });
    new ResizeObserver(() => state.charts[id].resize()).observe(target);
  }
  return state.charts[id];
}
const still = () => matchMedia("(prefers-reduced-motion: reduce)").matches;
const em = () => parseFloat(getComputedStyle(document.documentElement).fontSize);

function drawHours(rows) {
  const hours = [...Array(24).keys()];
  const by = new Map(rows.map((row) => [Number(row.hour), row]));
  const line = (name, key, colour, dashed) => ({
    name, type: "line", smooth: true, showSymbol: false, animation: !still(), animationDuration: 300,
    lineStyle: { color: colour, width: 2, type: dashed ? "dashed" : "solid" }, itemStyle: { color: colour },
    areaStyle: dashed ? undefined : { color: colour, opacity: 0.12 },
    data: hours.map((hour) => Number(by.get(hour)?.[key] ?? 0)),
  });
  chart("hours").setOption({
    textStyle: { fontFamily: "inherit" }, grid: { left: 3.2 * em(), right: em(), top: 2 * em(), bottom: 1.8 * em() },
    legend: { right: 0, top: 0, textStyle: { color: COLOURS.second, fontSize: 0.85 * em() }, itemHeight: 0.6 * em() },
    tooltip: { trigger: "axis", renderMode: "richText", backgroundColor: COLOURS.panel, borderColor: COLOURS.line,
      textStyle: { color: COLOURS.text, fontSize: 0.95 * em() } },
    xAxis: { type: "category", data: hours.map((h) => `${h}时`), axisLine: { lineStyle: { color: COLOURS.line } },
      axisTick: { show: false }, axisLabel: { color: COLOURS.second, interval: 5, fontSize: 0.85 * em() } },
    yAxis: { type: "value", minInterval: 1, splitLine: { lineStyle: { color: COLOURS.line } },
      axisLabel: { color: COLOURS.second, fontSize: 0.85 * em() } },
    series: [line("今日", "reports", COLOURS.accent, false), line("昨日", "reports_before", COLOURS.second, true)],
  });
}

function drawMap(rows) {
  if (!state.map) return;
  const values = new Map(rows.map((row) => [row.district_code, row]));
  const data = Object.entries(state.city.districts).map(([code, name]) => ({
    name, code, value: Number(values.get(code)?.events ?? 0), reports: Number(values.get(code)?.reports ?? 0),
  }));
  const top = Math.max(10, ...data.map((d) => d.value));
  const map = chart("map");
  map.setOption({
    textStyle: { fontFamily: "inherit" },
    tooltip: { renderMode: "richText", backgroundColor: COLOURS.panel, borderColor: COLOURS.line,
      textStyle: { color: COLOURS.text, fontSize: em() },
      formatter: (p) => `${p.name}\n事件 ${number.format(p.data?.value ?? 0)}  报件 ${number.format(p.data?.reports ?? 0)}` },
    visualMap: { min: 0, max: top, left: 0, bottom: 0, calculable: false, itemWidth: 0.8 * em(), itemHeight: 7 * em(),
      text: ["多", "少"], textStyle: { color: COLOURS.second, fontSize: 0.85 * em() },
      inRange: { color: ["#16263f", "#1f4a7d", "#2f7fcf", "#8cc7ff"] } },
    series: [{ type: "map", map: "city", data, roam: true, scaleLimit: { min: 0.8, max: 12 }, animation: false,
      label: { show: true, color: COLOURS.text, fontSize: 0.95 * em(), textBorderColor: "#0b1220", textBorderWidth: 3,
        formatter: (p) => (p.data ? `${p.name}\n${number.format(p.data.value)}` : p.name) },
      itemStyle: { areaColor: "#16263f", borderColor: "#3a5580", borderWidth: 1 },
      emphasis: { itemStyle: { areaColor: "#ffc247" }, label: { color: COLOURS.text } }, select: { disabled: true } }],
  });
  if (!state.mapClick) {
    state.mapClick = true;
    map.on("click", (p) => p.data && open("events_of_day", `${p.name} 今日事件`, { district_code: p.data.code }, p.data.value));
  }
}

function drawAsOf(rows) {
  const row = rows[0];
  if (!row || row.as_of.startsWith("1970")) {
    $("#asof").textContent = "尚无数据";
    return;
  }
  $("#asof").textContent = clock(row.as_of);
  $("#asof").title = row.as_of;
  const p50 = row.lag_p50_ms;
  $("#lag").textContent = row.reports_last_minute > 0 && p50 !== null ? `${(p50 / 1000).toFixed(1)} 秒` : "近1分钟无报件";
  $("#lag").title = `近1分钟 ${row.reports_last_minute} 件，p99 ${((row.lag_p99_ms ?? 0) / 1000).toFixed(1)} 秒`;
}

const DRAW = { totals: drawTotals, hours: drawHours, channels: drawChannels, classes: drawClasses, map: drawMap,
  latest: drawLatest, outcomes: drawOutcomes, reasons: drawReasons, units: drawUnits, asof: drawAsOf };

// ---- asking ---------------------------------------------------------------------------------------------

function mark(tile, kind, text) {
  const block = document.getElementById(tile.id);
  if (!block?.classList.contains("block")) return;
  block.classList.toggle("stale", kind === "stale" || kind === "failed");
  block.classList.toggle("failed", kind === "failed");
  let note = $(".state", block);
  if (!note) {
    note = element("span", "", "state");
    $("h2", block).append(note);
  }
  note.textContent = text;
}

function banner(text) {
  $("#banner").hidden = !text;
  $("#banner").textContent = text ?? "";
}

async function ask(path, parameters) {
  const url = new URL(path, location.href);
  for (const [key, value] of Object.entries(parameters ?? {})) url.searchParams.set(key, value);
  const answer = await fetch(url, { signal: AbortSignal.timeout(10000) });
  if (!answer.ok && answer.status >= 500) throw new Error(`${answer.status}`);
  return answer.json();
}

async function round() {
  const now = Date.now();
  const due = state.tiles.filter((tile) => (state.due.get(tile.id) ?? 0) <= now);
  if (!due.length) return;
  const names = due.map((tile) => tile.query).join(",");
  let answer;
  try {
    answer = await ask("/api/tiles", { names, ...(state.day ? { day: state.day } : {}) });
  } catch {
    state.failing += 1;
    banner(`无法连接服务，画面为此前数据，每 ${backoff()} 秒重试`);
    for (const tile of state.tiles) stale(tile, "stale");
    for (const tile of due) state.due.set(tile.id, now + backoff() * 1000);
    return;
  }
  const failed = due.filter((tile) => answer.tiles[tile.query]?.error);
  state.failing = failed.length ? state.failing + 1 : 0;
  banner(failed.length ? `部分数据暂不可用：${failed.map((t) => t.title).join("、")}，自动重试中` : "");
  for (const tile of due) {
    const result = answer.tiles[tile.query];
    if (result.error) {
      stale(tile, "failed");
      state.due.set(tile.id, now + backoff() * 1000);
      continue;
    }
    state.at.set(tile.id, now);
    state.due.set(tile.id, now + tile.refresh * 1000);
    mark(tile, "", "");
    const text = JSON.stringify(result.rows);
    if (state.data.get(tile.id) !== text || tile.id === "channels") {
      state.data.set(tile.id, text);
      DRAW[tile.id](result.rows);
    }
  }
}

const backoff = () => Math.min(MAX_BACKOFF_S, 2 ** Math.min(5, state.failing));

function stale(tile, kind) {
  const at = state.at.get(tile.id);
  mark(tile, kind, at ? `截至 ${clock(at)}` : kind === "failed" ? "查询失败，重试中" : "等待数据");
}

// ---- drill-down -----------------------------------------------------------------------------------------

async function open(query, title, filters, expected) {
  state.opener = document.activeElement;
  $("#drawer").hidden = false;
  $("#drawer-title").textContent = title;
  $("#drawer-note").textContent = "";
  const body = $("#drawer-body");
  body.replaceChildren(element("div", "", "skeleton"));
  $("#drawer-close").focus();
  const rows = [];
  const table = element("table");
  const more = element("button", "更多", "more");
  const load = async () => {
    let result;
    try {
      result = await ask(`/api/queries/${query}`, { ...filters, ...(state.day ? { day: state.day } : {}), limit: PAGE, offset: rows.length });
      if (result.error) throw new Error(result.error);
    } catch (error) {
      $("#drawer-note").textContent = `查询失败：${error.message}`;
      body.replaceChildren();
      return;
    }
    rows.push(...result.rows);
    fill(table, rows);
    const whole = result.rows.length < PAGE;
    $("#drawer-note").textContent = whole ? `共 ${number.format(rows.length)} 条`
      : `已显示 ${number.format(rows.length)} 条${expected ? `，共约 ${number.format(expected)} 条` : ""}`;
    body.replaceChildren(...(rows.length ? [table, ...(whole ? [] : [more])] : [element("p", "没有符合条件的记录", "empty")]));
  };
  more.addEventListener("click", load);
  await load();
}

function fill(table, rows) {
  const keys = Object.keys(rows[0] ?? {}).filter((key) => !HIDDEN.has(key));
  const head = element("tr");
  head.append(...keys.map((key) => element("th", HEADS[key] ?? key)));
  table.replaceChildren(head, ...rows.map((row) => {
    const line = element("tr");
    line.append(...keys.map((key) => {
      const td = element("td");
      if (key === "event_id") {
        const link = element("a", cell(key, row[key]));
        link.tabIndex = 0;
        link.addEventListener("click", () => openEvent(row[key], row.title ?? ""));
        td.append(link);
      } else {
        td.textContent = cell(key, row[key]);
      }
      td.title = row[key] === null ? "" : String(row[key]);
      return td;
    }));
    return line;
  }));
}

async function openEvent(id, title) {
  state.opener ??= document.activeElement;
  $("#drawer").hidden = false;
  $("#drawer-title").textContent = `事件 ${title}`;
  $("#drawer-note").textContent = id;
  const body = $("#drawer-body");
  body.replaceChildren(element("div", "", "skeleton"));
  $("#drawer-close").focus();
  try {
    const [reports, orders] = await Promise.all([
      ask("/api/queries/event_reports", { event_id: id }), ask("/api/queries/event_orders", { event_id: id })]);
    const parts = [];
    for (const [name, rows] of [["报件：为何归入本事件", reports.rows ?? []], ["工单与流转", orders.rows ?? []]]) {
      const table = element("table");
      if (rows.length) fill(table, rows);
      parts.push(element("h3", `${name}（${rows.length}）`), table);
    }
    body.replaceChildren(...parts);
  } catch (error) {
    $("#drawer-note").textContent = `查询失败：${error.message}`;
    body.replaceChildren();
  }
}

function close() {
  $("#drawer").hidden = true;
  state.opener?.focus?.();
  state.opener = null;
}

// ---- start ----------------------------------------------------------------------------------------------

async function start() {
  for (const block of document.querySelectorAll(".list")) {
    block.replaceChildren(...[1, 2, 3].map(() => element("div", "", "skeleton")));
  }
  for (;;) {
    try {
      [state.city, state.tiles] = await Promise.all([ask("/api/city"), ask("tiles.json")]);
      break;
    } catch {
      banner("无法连接服务，自动重试中");
      await new Promise((done) => setTimeout(done, 2000));
    }
  }
  banner("");
  $("#city").textContent = state.city.name.replace(/市$/, "");
  document.title = `全域 · ${state.city.name} · 一屏观全域`;
  $("#day").value = today();
  $("#day").max = today();
  $("#day").addEventListener("change", (event) => {
    state.day = event.target.value === today() ? "" : event.target.value;
    state.due.clear();
    state.data.clear();
    loop();
  });
  $("#drawer-close").addEventListener("click", close);
  document.addEventListener("keydown", (event) => event.key === "Escape" && close());
  for (const button of document.querySelectorAll(".number")) {
    button.addEventListener("click", () => open(button.dataset.drill, `今日${$("span", button).textContent}`, {},
      Number($("b", button).dataset.value)));
  }
  ask("/api/map/districts.geojson").then((map) => {
    for (const feature of map.features) feature.properties.name = districtName(feature.properties.code);
    echarts.registerMap("city", map);
    state.map = true;
    state.data.delete("map");
    state.due.delete("map");
  }).catch(() => mark({ id: "map" }, "failed", "地图未能加载"));
  document.addEventListener("visibilitychange", () => document.hidden || loop());
  loop();
}

let timer;
let running = false;
async function loop() {
  clearTimeout(timer);
  if (running) return;
  running = true;
  try {
    if (!document.hidden) await round();
  } finally {
    running = false;
    timer = setTimeout(loop, 500);
  }
}

start();
