// 一屏观全域: asks named queries, draws what changed, and says when it cannot.

import { Askers, ask, backoff } from "./ask.js";
import { DRAW, drawChannels } from "./draw.js";
import { close, openRows } from "./drawer.js";
import { runClocks } from "./handling.js";
import { parameters as mapParameters, repaint, startMap } from "./map.js";
import { $, wholeRows } from "./parts.js";
import { savePicture } from "./picture.js";
import * as words from "./words.js";

//: Lag beyond this is no longer the same minute.
const BACKLOG_LATE_S = 60;
const STATUS_EVERY_MS = 2000;
const state = { at: Date.now(), day: "", until: "", ahead: 0, queries: {}, blockOf: new Map(), heard: new Map(), failing: new Map(), totals: null, fell: null, late: "", trouble: "", troubleSince: 0 };

const context = {
  get at() { return state.at; },
  get past() { return Boolean(state.day); },
  get day() { return state.day; },
  get until() { return state.until; },
  get hour() { return Number(words.clock(state.until || state.at).slice(0, 2)); },
  /** Open the rows behind a column of a row, as the query's header says. */
  drill(query, column, row, title, more = {}) {
    const { query: target, from_columns, fixed } = state.queries[query].drill_down[column];
    const parameters = { ...more, ...fixed };
    for (const [name, from] of Object.entries(from_columns)) parameters[name] = row[from];
    const takes = new Set(state.queries[target].parameters.map((parameter) => parameter.name));
    for (const [name, value] of [["day", state.day], ["until", state.until]]) {
      if (value && takes.has(name)) parameters[name] ??= value;
    }
    for (const name of Object.keys(parameters)) if (!takes.has(name)) delete parameters[name];
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
  // The browser's own clock may be wrong: instants are the gateway's, only their passing is ours.
  Object.assign(state, { at, ahead: at - Date.now() });
  words.setClock(state.ahead);
  state.heard.set(name, at);
  if (name === "today_totals") watchFalls(rows, `${state.day || words.day(at)} ${state.until}`);
  // What depends on the passing of time is drawn though its rows are the same.
  if (changed || name === "data_as_of") DRAW[name](rows, context);
  state.failing.delete(name);
  const block = state.blockOf.get(name);
  const others = [...state.failing.keys()].some((other) => state.blockOf.get(other) === block);
  if (block?.classList.contains("block") && !others) mark(block, "", noteOf(block.id));
  block?.classList.remove("waiting");
}

//: How long a note stays on a number that went back.
const NOTE_MS = 60000;
const FELL = { reports: "报件", events: "事件", orders: "工单" };

/** A day's counter only grows; when it falls (a merge by hand, a correction) that is said, and to how much. */
function watchFalls([row], day) {
  const before = state.totals;
  state.totals = { ...row, day };
  if (!before || before.day !== day) return;
  const fell = Object.keys(FELL).filter((column) => row[column] < before[column])
    .map((column) => `${FELL[column]} ${words.exact(before[column])} → ${words.exact(row[column])}`);
  if (fell.length) state.fell = { until: Date.now() + NOTE_MS, text: `▼ ${fell.join("，")}：人工归并或更正` };
}

const noteOf = (id) => (id === "totals" && state.fell?.until > Date.now() ? state.fell.text : "");

/** What and since when; it is asked again by itself. The last picture stays, grey and dated. */
function fail(name, error) {
  const block = state.blockOf.get(name);
  block?.classList.remove("waiting");
  if (name === "data_as_of") $("#asof").classList.add("late");
  if (!block?.classList.contains("block")) return;
  const heard = state.heard.get(name);
  if (!state.failing.has(name)) state.failing.set(name, Date.now() + state.ahead);
  const since = words.clock(state.failing.get(name)).slice(0, 5);
  mark(block, "stale", heard ? `截至 ${words.clock(heard)} · ${since} 起读取失败，重试中` : `${since} 起未读到，重试中`);
  $(".state", block).title = error ?? "连不上服务";
}

function round({ trouble, wait_s }) {
  if (trouble && !state.trouble) state.troubleSince = state.at;
  state.trouble = trouble;
  const since = `自 ${words.clock(state.troubleSince)} 起，画面为此前数据，${wait_s} 秒内自动重试`;
  banner(trouble === "offline" ? `● 与服务的连接中断：${since}`
    : trouble === "failed" ? `● 数据库暂不可用：${since}` : state.late || past(), Boolean(trouble || state.late));
}

const past = () => (state.day || state.until
  ? `正在查看 ${state.day || "今日"}${state.until ? ` ${words.clock(state.until).slice(0, 5)} 之前` : ""}；红黄灯、在办、最新事件、四场景与渠道状态仍为此刻` : "");

function banner(text, warn) {
  if ($("#banner").textContent !== text) $("#banner").textContent = text;
  $("#banner").classList.toggle("warn", warn);
  $("#banner").hidden = !text;
}

/** How far behind the pipeline is, and who is silent: as the monitor says, also while the database is down. */
async function watchStatus(failures = 0) {
  let failed = 0;
  if (!document.hidden) {
    try {
      const { at, backlog, channels } = await ask("/api/status");
      const late = backlog && backlog.oldest_s > BACKLOG_LATE_S;
      state.late = late ? `■ 链路积压 ${words.exact(backlog.records)} 条，最早一条已等 ${words.duration(1000 * backlog.oldest_s)}` : "";
      drawChannels(channels, at);
    } catch {
      failed = failures + 1;
      state.late = ""; // unreachable: the asker says so
      drawChannels(null, state.at);
    }
  }
  setTimeout(() => watchStatus(failed), failed ? 1000 * backoff(failed) : STATUS_EVERY_MS);
}

async function described() {
  for (let failures = 1; ; failures += 1) {
    try {
      return await Promise.all([ask("/api/city"), ask("/api/queries"), ask("tiles.json")]);
    } catch {
      banner("● 连不上服务，自动重试中", true);
      await new Promise((done) => { setTimeout(done, 1000 * backoff(failures)); });
    }
  }
}

async function start() {
  await language();
  for (const list of document.querySelectorAll(".list")) {
    list.append(...[1, 2, 3, 4, 5, 6].map(() => Object.assign(document.createElement("div"), { className: "skeleton" })));
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
  // A block that is not to be seen (another tab, another size of screen) is not asked for.
  const wanted = (name) => {
    const block = state.blockOf.get(name);
    return !block.classList.contains("block") || block.offsetParent !== null;
  };
  const asker = new Askers(asked, { hear, fail, round, wanted, parameters: { by: "centre", ...mapParameters() } });

  const today = () => words.day(state.at);
  Object.assign($("#day"), { value: today(), max: today() });
  const travel = (again = false) => {
    const day = $("#day");
    day.max = today();
    state.day = !day.value || day.value >= today() ? "" : day.value;
    if (!state.day) day.value = today();
    const minute = $("#minute").value;
    state.until = minute ? words.instantOf(state.day || today(), minute) : "";
    if (state.until > state.at) Object.assign(state, { until: "" }), $("#minute").value = "";
    for (const title of document.querySelectorAll(".block h2, .block h2 small")) {
      const text = title.firstChild;
      text.data = context.past ? text.data.replace("今日", "当日") : text.data.replace("当日", "今日");
    }
    // At once, however long the numbers take: what stands there is of another time now.
    if (!state.trouble) banner(state.late || past(), Boolean(state.late));
    if (!again) for (const block of document.querySelectorAll(".block")) block.classList.add("waiting");
    asker.show({ day: state.day, until: state.until });
  };
  for (const field of ["#day", "#minute"]) $(field).addEventListener("change", () => { replaying.stop(); travel(); });
  const replaying = replay(travel, () => asker.running);
  for (const choice of document.querySelectorAll("#by button")) {
    choice.addEventListener("click", () => {
      for (const other of document.querySelectorAll("#by button")) other.ariaPressed = String(other === choice);
      asker.show({ by: choice.dataset.by }, ["ranking"]);
    });
  }
  for (const list of document.querySelectorAll(".list")) wholeRows(list);
  theme();
  $("#save").addEventListener("click", () => savePicture(`${document.title} ${words.moment(state.until || state.at).replace(":", "")}`));
  $("#drawer-close").addEventListener("click", close);
  document.addEventListener("keydown", (event) => event.key === "Escape" && close());
  // At midnight the day picker follows; the queries' own day is the gateway's.
  setInterval(() => { if (!state.day && $("#day").value !== today()) Object.assign($("#day"), { value: today(), max: today() }); }, 30000);

  // The map says first where it stands, or the first round would be asked twice.
  startMap({ moved: () => asker.show(mapParameters(), ["map_areas"]) });
  tabs(() => asker.go());
  watchStatus();
  setInterval(() => { if (!document.hidden) runClocks({ at: Date.now() + state.ahead }); }, 1000);
  addEventListener("resize", () => asker.go());
}

//: A second of the wall is a minute of the city's.
const REPLAY_STEP_MS = 1000;

/** The day once more, a minute each second, from the minute chosen to the day's end or to now. */
function replay(travel, busy) {
  const button = $("#replay");
  const minute = $("#minute");
  let timer = 0;
  let began = 0;
  let from = 0;
  const stop = () => {
    clearInterval(timer);
    timer = 0;
    Object.assign(button, { ariaPressed: "false", textContent: "▶ 回放" });
  };
  const step = () => {
    if (busy()) return; // an answer that takes longer is drawn first; time catches up with the next
    const next = from + Math.floor((performance.now() - began) / REPLAY_STEP_MS);
    if (next >= 1440) { stop(); return; }
    minute.value = [next / 60, next % 60].map((n) => String(Math.floor(n)).padStart(2, "0")).join(":");
    travel(true);
    if (!minute.value) stop(); // it has come to now
  };
  button.addEventListener("click", () => {
    if (timer) { stop(); return; }
    Object.assign(button, { ariaPressed: "true", textContent: "■ 停止" });
    const [hours, minutes] = (minute.value || "00:00").split(":").map(Number);
    from = 60 * hours + minutes + 1;
    began = performance.now();
    timer = setInterval(step, REPLAY_STEP_MS);
    step();
  });
  return { stop };
}

/** On a laptop the blocks of the right column share one place. */
function tabs(shown) {
  const all = [...document.querySelectorAll("#tabs [role=tab]")];
  const choose = (tab) => {
    for (const other of all) {
      other.ariaSelected = String(other === tab);
      other.tabIndex = other === tab ? 0 : -1;
      document.getElementById(other.getAttribute("aria-controls")).classList.toggle("chosen", other === tab);
    }
    shown();
  };
  all.forEach((tab, i) => {
    tab.addEventListener("click", () => choose(tab));
    tab.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      const next = all[(i + step + all.length) % all.length];
      choose(next);
      next.focus();
    });
  });
  choose(all[0]);
}

/** Chinese, or English where it was chosen: another language is another page. */
async function language() {
  const chosen = localStorage.getItem("language") ?? "zh";
  const button = $("#language");
  button.addEventListener("click", () => {
    localStorage.setItem("language", chosen === "zh" ? "en" : "zh");
    location.reload();
  });
  if (chosen === "zh") return;
  Object.assign(button, { textContent: "中", lang: "zh-CN", ariaLabel: "中文" });
  (await import("./english.js")).speakEnglish();
}

/** Dark on a wall, light where it was chosen; a choice stays with the browser. */
function theme() {
  const root = document.documentElement;
  const set = (name) => { root.dataset.theme = name; repaint(); };
  set(localStorage.getItem("theme") ?? "dark");
  // On paper everything is light, and afterwards as it was.
  let before = "";
  addEventListener("beforeprint", () => { before = root.dataset.theme; set("light"); });
  addEventListener("afterprint", () => set(before));
  $("#theme").addEventListener("click", () => {
    const next = root.dataset.theme === "light" ? "dark" : "light";
    localStorage.setItem("theme", next);
    set(next);
  });
}

start();
