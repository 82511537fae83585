// What each block draws from rows. Texts from data are set as text, never as HTML.

import * as echarts from "./vendor/echarts.mjs";
import { openChannel, openEvent } from "./drawer.js";
import * as words from "./words.js";

const COLOURS = { text: "#e6edf7", second: "#a9b8d0", line: "#22304a", accent: "#4fa3ff", panel: "#121c2e", yellow: "#ffc247" };
const OUTCOME_COLOURS = { accepted: "#3ccb8c", duplicate: "#7c8aa5", review: "#ffc247", rejected: "#ff5c5c" };
//: Okabe–Ito without black, fixed per channel by its place in the city's list; from the eighth on striped.
const CHANNEL_COLOURS = ["#56B4E9", "#E69F00", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7"];
const TICK_MS = 300;
//: Cosine of the latitude: a degree of longitude is so much shorter than one of latitude.
const ASPECT = 0.82;

const $ = (selector, root = document) => root.querySelector(selector);
const calm = () => matchMedia("(prefers-reduced-motion: reduce)").matches;
const em = () => parseFloat(getComputedStyle(document.documentElement).fontSize);
const charts = new Map();
let mapKnown = false;
let corners;
let points = [];
let districts = [];
let channelStates = null;

function element(tag, text, className) {
  const made = document.createElement(tag);
  if (text !== undefined && text !== null) made.textContent = text;
  if (className) made.className = className;
  return made;
}

function tick(target, value) {
  const before = target.dataset.value === undefined ? value : Number(target.dataset.value);
  target.dataset.value = String(value);
  target.title = words.exact(value);
  if (calm() || before === value || document.hidden) {
    target.textContent = words.brief(value);
    return;
  }
  const start = performance.now();
  const step = (now) => {
    if (target.dataset.value !== String(value)) return;
    const share = Math.min(1, (now - start) / TICK_MS);
    target.textContent = words.brief(Math.round(before + (value - before) * share));
    if (share < 1) requestAnimationFrame(step);
  };
  requestAnimationFrame(step);
}

/** Numbers of a block: one button per column; a click opens its rows. */
function numbers(block, query, row, drill, titles) {
  for (const button of document.querySelectorAll(`#${block} [data-column]`)) {
    const column = button.dataset.column;
    if (!button.dataset.bound) {
      button.dataset.bound = "1";
      button.addEventListener("click", () => button.drill?.());
    }
    button.drill = () => drill(query, column, row, titles[column] ?? column);
    if (titles[column] && column in row && $("b", button)) button.ariaLabel = `${titles[column]} ${row[column]}，查看明细`;
    if (button.classList.contains("number")) tick($("b", button), row[column]);
  }
}

function bars(block, rows, make, whenEmpty) {
  const list = $(`#${block} .list`);
  list.classList.add("bars");
  if (!rows.length) {
    list.replaceChildren(element("p", whenEmpty, "empty"));
    return;
  }
  const made = rows.map(make);
  const most = Math.max(1, ...made.map((row) => row.value));
  const kept = new Map([...list.children].filter((line) => line.dataset.key).map((line) => [line.dataset.key, line]));
  list.replaceChildren(...made.map(({ key, label, value, sub, subClass, colour, open }) => {
    const line = kept.get(key) ?? barLine(key);
    $(".label", line).textContent = label;
    line.title = `${label} ${words.exact(value)}`;
    $(".bar i", line).style.width = `${(100 * value) / most}%`;
    $(".bar i", line).style.background = colour ?? "";
    tick($(".n", line), value);
    $(".sub", line).textContent = sub ?? "";
    $(".sub", line).className = `sub ${subClass ?? ""}`;
    line.classList.toggle("zero", value === 0);
    line.drill = open;
    return line;
  }));
}

function barLine(key) {
  const line = element("button", null, "row");
  line.dataset.key = key;
  const bar = element("span", null, "bar");
  bar.append(element("i"));
  line.append(element("span", "", "label"), bar, element("span", "", "n"), element("span", "", "sub"));
  line.addEventListener("click", () => line.drill?.());
  return line;
}

function chartOf(id) {
  if (!charts.has(id)) {
    const target = $(`#${id} .chart`);
    target.replaceChildren();
    const made = echarts.init(target, null, { renderer: "canvas" });
    new ResizeObserver(() => {
      made.resize();
      if (id === "map" && made.getOption()?.geo) made.setOption({ geo: { layoutSize: mapWidth(made) } });
    }).observe(target);
    charts.set(id, made);
  }
  return charts.get(id);
}

const tooltip = (more) => ({
  renderMode: "richText", backgroundColor: COLOURS.panel, borderColor: COLOURS.line, confine: true,
  textStyle: { color: COLOURS.text, fontSize: em() }, ...more,
});

const change = (now, before, than) => (before > 0
  ? `${than} ${now >= before ? "▲" : "▼"} ${words.percent(Math.abs(now - before) / before)}` : `${than.replace("较", "")} 0`);

/** Drawers of each query's rows. `context` gives drill(query, column, row, title), past, at. */
export const DRAW = {
  today_totals([row], { drill, past }) {
    numbers("totals", "today_totals", row, drill, {
      reports: "报件", events: "事件", orders: "工单", merged: "并入已知事件的报件" });
    for (const column of ["reports", "events", "orders"]) {
      $(`#totals [data-column=${column}] i`).textContent =
        change(row[column], row[`${column}_before`], past ? "较前日" : "较昨日此时");
    }
    const ratio = $("#totals .ratio");
    $("b", ratio).textContent = row.merge_ratio === null ? "—" : words.percent(row.merge_ratio);
    $("i", ratio).textContent = row.linked
      ? `受理的 ${words.exact(row.linked)} 份中 ${words.exact(row.merged)} 份并入已知事件` : "今日尚无受理的报件";
  },

  intake_by_hour(rows, { drill, past, hour }) {
    // Hours to come have no number yet; zero would say that nothing came.
    const line = (name, key, colour, dashed) => ({
      name, type: "line", smooth: 0.2, showSymbol: false, animation: !calm(), animationDuration: TICK_MS,
      animationDurationUpdate: TICK_MS, lineStyle: { color: colour, width: 2, type: dashed ? "dashed" : "solid" },
      itemStyle: { color: colour }, areaStyle: dashed ? undefined : { color: colour, opacity: 0.14 },
      data: rows.map((row) => (!dashed && !past && row.hour >= hour ? null : row[key])),
    });
    const chart = chartOf("hours");
    chart.setOption({
      textStyle: { fontFamily: "inherit" },
      grid: { left: 0.3 * em(), right: 0.6 * em(), top: 2 * em(), bottom: 0, containLabel: true },
      legend: { data: past ? ["当日", "前日"] : ["今日", "昨日", "本时"], right: 0, top: 0, itemHeight: 0.6 * em(), textStyle: { color: COLOURS.second, fontSize: 0.85 * em() } },
      tooltip: tooltip({ trigger: "axis" }),
      xAxis: { type: "category", data: rows.map((row) => `${row.hour} 时`), boundaryGap: false,
        axisLine: { lineStyle: { color: COLOURS.line } }, axisTick: { show: false },
        axisLabel: { color: COLOURS.second, interval: 5, fontSize: 0.85 * em() } },
      yAxis: { type: "value", minInterval: 1, splitNumber: 3, splitLine: { lineStyle: { color: COLOURS.line } },
        axisLabel: { color: COLOURS.second, fontSize: 0.85 * em() } },
      series: [line(past ? "当日" : "今日", "reports", COLOURS.accent, false),
        line(past ? "前日" : "昨日", "reports_before", COLOURS.second, true),
        // The hour that runs is not over: a point of its own, not a fall of the line.
        { name: "本时", type: "scatter", symbolSize: 0.6 * em(), animation: false, itemStyle: { color: COLOURS.accent },
          data: past ? [] : rows.filter((row) => row.hour === hour).map((row) => [row.hour, row.reports]) }],
    });
    chart.getZr().off("click");
    chart.getZr().on("click", (event) => {
      const index = chart.convertFromPixel({ xAxisIndex: 0 }, event.offsetX);
      const row = rows[Math.min(23, Math.max(0, Math.round(index)))];
      if (row) drill("intake_by_hour", "reports", row, `${row.hour} 时报件`);
    });
  },

  by_channel(rows, { drill }) {
    const found = new Map(rows.map((row) => [row.channel, row]));
    const shown = [...rows, ...ownChannels().filter((name) => !found.has(name))
      .map((name) => ({ channel: name, reports: 0, last_5_min: 0 }))];
    bars("channels", shown, (row) => ({
      key: row.channel, label: words.channelName(row.channel), value: row.reports,
      sub: row.last_5_min ? `+${words.brief(row.last_5_min)}` : "—", subClass: "second",
      colour: channelColour(row.channel),
      open: () => row.reports && drill("by_channel", "reports", row, `${words.channelName(row.channel)} 报件`),
    }), "没有渠道");
    markChannels();
  },

  by_class(rows, { drill, past }) {
    bars("classes", rows, (row) => {
      const more = row.events - row.last_week;
      return {
        key: row.class_code, label: words.className(row.class_code), value: row.events,
        sub: row.last_week ? `${more > 0 ? "▲" : more < 0 ? "▼" : "="} ${Math.abs(more)}` : "",
        subClass: more > 0 ? "up" : "down",
        open: () => drill("by_class", "events", row, `${words.className(row.class_code)} 事件`),
      };
    }, past ? "当日没有事件" : "今日尚无事件");
  },

  by_district(rows, context) {
    districts = rows;
    const most = words.named().districts;
    const shown = [...rows, ...Object.keys(most).filter((code) => !rows.some((row) => row.district_code === code))
      .map((code) => ({ district_code: code, events: 0, orders: 0, linked: 0 }))];
    bars("map", shown, (row) => ({
      key: row.district_code, label: words.districtName(row.district_code), value: row.events,
      open: () => row.events && context.drill("by_district", "events", row, `${words.districtName(row.district_code)} 事件`),
    }), "");
    drawMap(context);
  },

  map_events(rows, context) {
    points = rows;
    drawMap(context);
  },

  latest_events(rows) {
    const list = $("#latest .list");
    if (!rows.length) {
      list.replaceChildren(element("p", "近两日尚无事件", "empty"));
      return;
    }
    const head = element("div", null, "row head");
    head.append(...[["案件", ""], ["时间", ""], ["位置", "wide"], ["区县", "wide"], ["报件", "n"], ["阶段", ""]]
      .map(([text, kind]) => element("span", text, kind)));
    const before = new Set([...list.children].map((line) => line.dataset.key).filter(Boolean));
    list.replaceChildren(head, ...rows.map((row) => {
      const line = element("button", null, "row");
      line.dataset.key = row.event_id;
      if (before.size && !before.has(row.event_id)) line.classList.add("new");
      const stage = words.stateName(row.order_state || row.status);
      for (const [text, kind] of [[row.title || words.className(row.class_code), ""], [words.moment(row.opened_at), "second"],
        [row.address || "—", "wide"], [words.districtName(row.district_code), "wide second"],
        [words.exact(row.report_count), "n"], [stage, "second"]]) {
        const span = element("span", text, kind);
        span.title = text;
        line.append(span);
      }
      line.addEventListener("click", () => openEvent(row.event_id));
      return line;
    }));
  },

  open_orders([row], { drill }) {
    numbers("lights", "open_orders", row, drill, {
      open: "在办工单", red: "红灯工单", overdue: "超期工单", due_soon: "24 小时内到期的工单" });
    for (const button of document.querySelectorAll("#lights .number")) {
      button.classList.toggle("on", row[button.dataset.column] > 0);
    }
  },

  outcome_totals(rows, { drill, past }) {
    const all = rows.reduce((sum, row) => sum + row.reports, 0);
    bars("outcomes", rows, (row) => ({
      key: row.outcome, label: words.outcomeName(row.outcome), value: row.reports,
      sub: words.percent(row.reports / all), subClass: "second", colour: OUTCOME_COLOURS[row.outcome],
      open: () => drill("outcome_totals", "reports", row, `${words.outcomeName(row.outcome)}的报件`),
    }), past ? "当日没有报件" : "今日尚无报件");
  },

  review_reasons(rows, { drill, past }) {
    bars("reasons", rows, (row) => ({
      key: `${row.outcome} ${row.reason}`, label: words.reasonName(row.reason), value: row.reports,
      sub: words.outcomeName(row.outcome), subClass: "second", colour: OUTCOME_COLOURS[row.outcome],
      open: () => drill("review_reasons", "reports", row, `${words.reasonName(row.reason)}的报件`),
    }), past ? "当日全部受理" : "今日全部受理");
  },

  by_unit(rows, { drill, past }) {
    bars("units", rows, (row) => ({
      key: row.unit_code, label: row.unit_name || row.unit_code, value: row.orders,
      open: () => drill("by_unit", "orders", row, `${row.unit_name || row.unit_code} 工单`),
    }), past ? "当日没有工单" : "今日尚无工单");
  },

  data_as_of([row], { at }) {
    const [asof, lag] = [$("#asof b"), $("#lag b")];
    const silent = row.inserted_at === null ? null : at - row.inserted_at;
    asof.textContent = row.inserted_at === null ? "一日内无数据" : words.clock(row.inserted_at);
    $("#asof").classList.toggle("late", silent === null || silent > 120000);
    $("#asof").title = silent === null ? "" : `最新一行入库于 ${words.duration(Math.max(0, silent))}前`;
    lag.textContent = row.lag_p50_ms === null ? "近 5 分钟无报件" : words.duration(row.lag_p50_ms);
    $("#lag").classList.toggle("late", row.lag_p99_ms !== null && row.lag_p99_ms > 60000);
    $("#lag").title = row.lag_p99_ms === null ? "" :
      `自受理到入库：中位 ${words.duration(row.lag_p50_ms)}，p99 ${words.duration(row.lag_p99_ms)}，${words.exact(row.rows_5_min)} 份`;
  },
};

/** The city's own channels; what other cities send is shown where it was seen. */
const ownChannels = () => Object.entries(words.named().channels)
  .filter(([, channel]) => channel.kind !== "foreign").map(([name]) => name);

function channelColour(name) {
  const place = Math.max(0, Object.keys(words.named().channels).indexOf(name));
  const colour = CHANNEL_COLOURS[place % CHANNEL_COLOURS.length];
  return place < CHANNEL_COLOURS.length ? colour
    : `repeating-linear-gradient(135deg, ${colour} 0 .35rem, #1a2740 .35rem .55rem)`;
}

/** Lamps and the channels' tile: `channels` as /api/status says it, null when nobody knows. */
export function drawChannels(channels, at) {
  channelStates = channels;
  const list = $("#lamps");
  const seen = Object.keys(channels ?? {}).filter((name) => channels[name].in_service);
  const shown = new Set([...ownChannels(), ...Object.keys(words.named().channels).filter((name) => seen.includes(name))]);
  const kept = new Map([...list.children].map((lamp) => [lamp.dataset.key, lamp]));
  const wanted = [...shown].map((name) => kept.get(name) ?? lampOf(name));
  if (wanted.length !== list.children.length || wanted.some((lamp, i) => lamp !== list.children[i])) list.replaceChildren(...wanted);
  for (const lamp of wanted) {
    const channel = channels?.[lamp.dataset.key];
    const kind = channel?.state ?? "unknown";
    const word = words.channelState(kind).slice(2);
    lamp.className = kind;
    $("small", lamp).textContent = kind === "silent" ? `${word} ${words.duration(Math.max(0, at - channel.last_seen))}` : word;
    $("button", lamp).title = words.channelFacts(channel);
  }
  markChannels();
}

function lampOf(name) {
  const lamp = element("li");
  const button = element("button");
  lamp.dataset.key = name;
  button.append(element("i"), element("span", words.channelName(name)), element("small"));
  button.addEventListener("click", () => openChannel(name, channelStates?.[name]));
  lamp.append(button);
  return lamp;
}

/** The tile's last two columns: usual gap and state. */
function markChannels() {
  for (const line of document.querySelectorAll("#channels .row[data-key]")) {
    if (!$(".gap", line)) line.append(element("span", "", "gap second"), element("span", "", "word"));
    const channel = channelStates?.[line.dataset.key];
    const kind = channel?.state ?? "unknown";
    $(".gap", line).textContent = channel ? words.duration(1000 * channel.usual_gap_s) : "—";
    $(".word", line).textContent = words.channelState(kind);
    $(".word", line).className = `word ${kind}`;
    line.title = `${$(".label", line).textContent} ${$(".n", line).title} 件 · ${words.channelFacts(channel)}`;
  }
}

/** The districts' polygons, by code, and the corners of the box around them. */
export function knowMap(geojson, box, context) {
  corners = box;
  echarts.registerMap("city", geojson);
  mapKnown = true;
  drawMap(context);
}

/** Pixels of width at which the whole city fits. */
function mapWidth(chart) {
  const [[west, north], [east, south]] = corners;
  const shape = (ASPECT * (east - west)) / (north - south);
  return Math.round(0.96 * Math.min(chart.getWidth(), chart.getHeight() * shape) / Math.min(1, shape));
}

function drawMap({ drill, at, past }) {
  if (!mapKnown) return;
  const found = new Map(districts.map((row) => [row.district_code, row]));
  const data = Object.keys(words.named().districts).map((code) => ({ name: code, value: found.get(code)?.events ?? 0 }));
  const chart = chartOf("map");
  chart.setOption({
    textStyle: { fontFamily: "inherit" },
    tooltip: tooltip({
      formatter: (item) => (item.seriesType === "scatter"
        ? `${item.data.title}\n${words.className(item.data.kind)} · ${words.moment(item.data.opened_at)}`
        : `${words.districtName(item.name)}\n事件 ${words.exact(found.get(item.name)?.events ?? 0)}`
          + `  报件 ${words.exact(found.get(item.name)?.linked ?? 0)}  工单 ${words.exact(found.get(item.name)?.orders ?? 0)}`),
    }),
    visualMap: { seriesIndex: 0, min: 0, max: Math.max(10, ...data.map((item) => item.value)), left: 0, bottom: 0,
      itemWidth: 0.7 * em(), itemHeight: 6 * em(), text: ["多", "少"], textStyle: { color: COLOURS.second, fontSize: 0.85 * em() },
      inRange: { color: ["#17263f", "#1e467a", "#2b78c2", "#7cbcff"] } },
    geo: { map: "city", nameProperty: "code", roam: true, scaleLimit: { min: 0.8, max: 30 }, aspectScale: ASPECT,
      layoutCenter: ["50%", "50%"], layoutSize: mapWidth(chart), boundingCoords: corners,
      label: { show: true, color: COLOURS.text, fontSize: 0.9 * em(), textBorderColor: "#0b1220", textBorderWidth: 3,
        formatter: (item) => words.districtName(item.name) },
      labelLayout: { hideOverlap: true },
      itemStyle: { areaColor: "#17263f", borderColor: "#4a6794", borderWidth: 1 },
      emphasis: { itemStyle: { areaColor: "#35598a", borderColor: COLOURS.text }, label: { color: COLOURS.text } } },
    series: [
      { type: "map", geoIndex: 0, map: "city", nameProperty: "code", data, animation: false },
      { type: "scatter", coordinateSystem: "geo", symbolSize: 0.45 * em(), animation: false, z: 5,
        // A point fades over its hour.
        data: past ? [] : points.map((row) => ({
          value: [row.lon, row.lat], id: row.event_id, title: row.title, kind: row.class_code, opened_at: row.opened_at,
          itemStyle: { color: COLOURS.yellow, opacity: Math.max(0.2, 1 - (at - row.opened_at) / 3600000),
            borderColor: "#0b1220", borderWidth: 1 } })) },
    ],
  });
  chart.off("click");
  chart.on("click", (item) => {
    if (item.seriesType === "scatter") {
      openEvent(item.data.id);
    } else if (found.has(item.name)) {
      drill("by_district", "events", found.get(item.name), `${words.districtName(item.name)} 事件`);
    }
  });
}

