// 一屏观全域: asks named queries, draws what changed, and says when it cannot.

import { Asker, ask } from "./ask.js";
import { DRAW, drawChannels, knowMap } from "./draw.js";
import { close, openRows } from "./drawer.js";
import * as words from "./words.js";

//: Lag beyond this is no longer the same minute.
const BACKLOG_LATE_S = 60;
const STATUS_EVERY_MS = 2000;
const $ = (selector, root = document) => root.querySelector(selector);
const state = { at: Date.now(), day: "", queries: {}, blockOf: new Map(), heard: new Map(), late: "", trouble: "", troubleSince: 0 };

const context = {
  get at() { return state.at; },
  get past() { return Boolean(state.day); },
  get hour() { return Number(words.clock(state.at).slice(0, 2)); },
  /** Open the rows behind a column of a row, as the query's header says. */
  drill(query, column, row, title) {
    const { query: target, from_columns, fixed } = state.queries[query].drill_down[column];
    const parameters = { ...fixed };
    for (const [name, from] of Object.entries(from_columns)) parameters[name] = row[from];
    const takes = new Set(state.queries[target].parameters.map((parameter) => parameter.name));
    if (state.day && takes.has("day")) parameters.day = state.day;
    openRows(`${takes.has("day") ? state.day || "今日" : "此刻"} · ${title}`, target, parameters, row[column]);
  },
};

function mark(block, kind, text) {
  block.classList.toggle("stale", kind === "stale");
  let note = $(".state", block);
  if (!note) {
    note = document.createElement("span");
    note.className = "state";
    $("h2", block).append(note);
  }
  note.textContent = text;
}

function hear(name, rows, at, changed) {
  state.at = at;
  state.heard.set(name, at);
  // What depends on the passing of time is drawn though its rows are the same.
  if (changed || name === "data_as_of") DRAW[name](rows, context);
  const block = state.blockOf.get(name);
  if (block?.classList.contains("block")) mark(block, "", "");
}

function fail(name) {
  const block = state.blockOf.get(name);
  if (name === "data_as_of") $("#asof").classList.add("late");
  if (!block?.classList.contains("block")) return;
  const heard = state.heard.get(name);
  mark(block, "stale", heard ? `截至 ${words.clock(heard)}` : "尚未读到");
}

function round(trouble, wait_s) {
  if (trouble && !state.trouble) state.troubleSince = state.at;
  state.trouble = trouble;
  const since = `自 ${words.clock(state.troubleSince)} 起，画面为此前数据，${wait_s} 秒内自动重试`;
  const past = state.day ? `正在查看 ${state.day}；在办、最新事件与渠道状态仍为此刻` : "";
  banner(trouble === "offline" ? `● 与服务的连接中断：${since}`
    : trouble === "failed" ? `● 数据库暂不可用：${since}` : state.late || past, Boolean(trouble || state.late));
}

function banner(text, warn) {
  if ($("#banner").textContent !== text) $("#banner").textContent = text;
  $("#banner").classList.toggle("warn", warn);
  $("#banner").hidden = !text;
}

/** How far behind the pipeline is, and who is silent: as the monitor says, also while the database is down. */
async function watchStatus() {
  if (!document.hidden) {
    try {
      const { at, backlog, channels } = await ask("/api/status");
      const late = backlog && backlog.oldest_s > BACKLOG_LATE_S;
      state.late = late ? `■ 链路积压 ${words.exact(backlog.records)} 条，最早一条已等 ${words.duration(1000 * backlog.oldest_s)}` : "";
      drawChannels(channels, at);
    } catch {
      state.late = ""; // unreachable: the asker says so
      drawChannels(null, state.at);
    }
  }
  setTimeout(watchStatus, STATUS_EVERY_MS);
}

async function described() {
  for (;;) {
    try {
      return await Promise.all([ask("/api/city"), ask("/api/queries"), ask("tiles.json")]);
    } catch {
      banner("● 连不上服务，自动重试中", true);
      await new Promise((done) => { setTimeout(done, 2000); });
    }
  }
}

async function start() {
  for (const list of document.querySelectorAll(".list")) {
    list.append(...[1, 2, 3].map(() => Object.assign(document.createElement("div"), { className: "skeleton" })));
  }
  const [city, queries, tiles] = await described();
  words.learn(city);
  state.queries = queries;
  state.at = city.now;
  banner("", false);
  $("#city").textContent = city.name.replace(/市$/, "");
  document.title = `全域 · ${city.name} · 一屏观全域`;

  const asked = {};
  for (const tile of tiles.filter((one) => one.id !== "drawer")) {
    for (const name of tile.queries) {
      asked[name] = queries[name].refresh_s;
      state.blockOf.set(name, document.getElementById(tile.id));
    }
  }
  const asker = new Asker(asked, { hear, fail, round });

  const today = () => words.day(state.at);
  Object.assign($("#day"), { value: today(), max: today() });
  $("#day").addEventListener("change", (event) => {
    event.target.max = today();
    state.day = !event.target.value || event.target.value >= today() ? "" : event.target.value;
    if (!state.day) event.target.value = today();
    for (const title of document.querySelectorAll(".block h2, .block h2 small")) {
      const text = title.firstChild;
      text.data = context.past ? text.data.replace("今日", "当日") : text.data.replace("当日", "今日");
    }
    asker.show(state.day);
  });
  $("#drawer-close").addEventListener("click", close);
  document.addEventListener("keydown", (event) => event.key === "Escape" && close());
  // At midnight the day picker follows; the queries' own day is the gateway's.
  setInterval(() => { if (!state.day && $("#day").value !== today()) Object.assign($("#day"), { value: today(), max: today() }); }, 30000);

  asker.go();
  watchStatus();
  loadMap();
}

async function loadMap() {
  try {
    const map = await ask("/api/map/districts.geojson");
    knowMap(map, box(map), context);
  } catch {
    setTimeout(loadMap, 5000);
  }
}

/** North-west and south-east corner. */
function box(map) {
  let [west, south, east, north] = [180, 90, -180, -90];
  const visit = (node) => {
    if (typeof node[0] === "number") {
      [west, south, east, north] = [Math.min(west, node[0]), Math.min(south, node[1]), Math.max(east, node[0]), Math.max(north, node[1])];
    } else {
      node.forEach(visit);
    }
  };
  map.features.forEach((feature) => visit(feature.geometry.coordinates));
  return [[west, north], [east, south]];
}

start();
