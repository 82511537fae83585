// The drawer: the rows behind a number, and one event with why, its reports and its orders.

import { ask } from "./ask.js";
import { channelIcon } from "./icons.js";
import { showPlace } from "./map.js";
import { $, element } from "./parts.js";
import { photos } from "./photos.js";
import * as words from "./words.js";

const PAGE = 200;
const HIDDEN = new Set(["total", "source_topic", "source_partition", "source_offset", "unit_code", "decided_at", "role", "photos"]);
let opener = null;
let turn = 0;

/** Open the drawer; returns whether what comes back later is still what it shows. */
function begin(title) {
  if ($("#drawer").hidden) opener = document.activeElement;
  $("#drawer").hidden = false;
  $("#drawer-title").textContent = title;
  $("#drawer-note").textContent = "正在读取…";
  $("#drawer-body").replaceChildren(...[1, 2, 3].map(() => element("div", "", "skeleton")));
  $("#drawer-close").focus();
  turn += 1;
  const mine = turn;
  return () => mine === turn && !$("#drawer").hidden;
}

export function close() {
  if ($("#drawer").hidden) return;
  $("#drawer").hidden = true;
  opener?.focus?.();
  opener = null;
}

/** The rows that add up to a number; `expected` is the number as it was clicked. */
export async function openRows(title, query, parameters, expected) {
  const current = begin(title);
  const body = $("#drawer-body");
  const table = element("table");
  const more = element("button", "更多", "more");
  const rows = [];
  async function load() {
    more.disabled = true;
    let answer;
    try {
      answer = await ask(`/api/queries/${query}`, { ...parameters, limit: PAGE, offset: rows.length });
    } catch (error) {
      if (current()) failed(error);
      return;
    }
    if (!current()) return;
    more.disabled = false;
    rows.push(...answer.rows);
    const total = rows[0]?.total ?? 0;
    fill(table, rows);
    const grown = total - expected;
    $("#drawer-note").textContent = `共 ${words.exact(total)} 条`
      + (rows.length < total ? `，已列 ${words.exact(rows.length)}` : "")
      + (grown > 0 ? `（点开后新增 ${words.exact(grown)}）` : "") + ` · 截至 ${words.clock(answer.at)}`;
    body.replaceChildren(...(rows.length
      ? [table, ...(rows.length < total ? [more] : [])]
      : [element("p", "没有符合条件的记录", "empty")]));
  }
  more.addEventListener("click", load);
  await load();
}

/** One event: what it is, why each report belongs to it, who handles it until when. */
export async function openEvent(id) {
  const current = begin("事件");
  try {
    const [event, reports, orders] = await Promise.all(
      ["event", "event_reports", "event_orders"].map((name) => ask(`/api/queries/${name}`, { event_id: id })));
    if (!current()) return;
    const [row] = event.rows;
    $("#drawer-title").textContent = row ? row.title || words.className(row.class_code) : "事件";
    $("#drawer-note").textContent = row
      ? [words.className(row.class_code), words.districtName(row.district_code), row.address,
        `立案 ${words.moment(row.opened_at)}`, words.stateName(row.status)].filter(Boolean).join(" · ")
      : "事件尚未入库";
    const whole = row ? await facts(row, reports.rows, orders.rows) : [];
    if (!current()) return;
    $("#drawer-body").replaceChildren(
      ...whole,
      ...photos(pictures(reports.rows, orders.rows)),
      element("h3", `报件 ${reports.rows.length} 份：为何归入本事件`), filled(reports.rows.map(shownReport)),
      element("h3", `工单与流转 ${orders.rows.length} 步`), filled(orders.rows),
      element("p", `事件号 ${id}`, "small"));
  } catch (error) {
    if (current()) failed(error);
  }
}

/** What is known of an event in pairs: where and why there, both clocks, how it stands; and the map at it. */
async function facts(row, reports, orders) {
  const first = reports[0];
  const last = orders.at(-1);
  const open = last && !["CLOSED", "INVALID", "DIRECT_ANSWERED", "WITHDRAWN"].includes(last.to_state);
  const left = last?.due_at ? last.due_at - words.now() : null;
  const list = element("dl", undefined, "facts");
  for (const [term, text] of [
    ["类别", `${words.className(row.class_code)}${first?.class_method ? `（${words.cell("class_method", first.class_method)}，把握 ${words.percent(first.class_confidence)}）` : ""}`],
    ["网格", `${words.placeName(row.grid_code || row.district_code)} ${row.grid_code}${first?.locate_method ? `（依据 ${words.cell("locate_method", first.locate_method)}）` : ""}`],
    ["发生 / 受理", `${words.moment(row.occurred_at)} / ${words.moment(row.opened_at)}`],
    ["级别", words.cell("priority", row.priority)],
    ["承办", last ? `${last.unit_name || "—"}，${words.stateName(last.to_state)}` : "尚未派遣"],
    ["办结时限", left === null ? "—" : `${words.moment(last.due_at)}${open ? `，${left < 0 ? "■ 已超期" : "还剩"} ${words.duration(Math.abs(left))}` : ""}`],
    ["关联", [row.recurs_of ? `再发自 ${row.recurs_of.slice(0, 8)}` : "", row.incident_id ? `群体事件 ${row.incident_id.slice(0, 8)}` : ""].filter(Boolean).join("，")],
  ]) {
    if (text) list.append(element("dt", term), element("dd", text));
  }
  const made = [list];
  if (row.lon !== null && row.lat !== null) {
    const button = element("button", "在地图上看", "more");
    button.addEventListener("click", () => { close(); showPlace(row); });
    made.push(button);
  }
  return made;
}

/** Each photo once, with who sent it and when: those of reports, then those of the work. */
function pictures(reports, orders) {
  const found = new Map();
  const add = (digest, note) => found.set(digest || found.size, found.get(digest) ?? { digest, note });
  for (const row of reports) for (const digest of row.photos) add(digest, `${words.channelName(row.channel)} ${words.moment(row.received_at)}`);
  for (const row of orders) for (const digest of row.photos ?? []) add(digest, `${words.cell("action", row.action)} ${words.moment(row.at)}`);
  return [...found.values()];
}

/** The columns that say why; class, grid and their grounds stand above for the event. */
const shownReport = ({ received_at, occurred_at, channel, title, address, relation, score, reason, class_confidence, report_id }) => (
  { received_at, occurred_at, channel, title, address, relation, score, reason, class_confidence, report_id });

/** One channel: its state, and the gaps that its usual one is judged by. */
export async function openChannel(name, channel) {
  const current = begin(words.channelName(name));
  try {
    const { rows } = await ask("/api/queries/channel_gap_days", { channel: name });
    if (!current()) return;
    $("#drawer-note").textContent = words.channelFacts(channel);
    $("#drawer-body").replaceChildren(
      element("h3", "近四周同类日子里，此刻前后半小时所遇的最长间隔"),
      rows.length ? filled(rows.map(({ day, gap_s }) => ({ day, gap_s }))) : element("p", "尚无可比的日子", "empty"));
  } catch (error) {
    if (current()) failed(error);
  }
}

function failed(error) {
  $("#drawer-note").textContent = "";
  $("#drawer-body").replaceChildren(element("p", `读取失败：${error.message}。请稍后再点开。`, "empty"));
}

function filled(rows) {
  const table = element("table");
  if (rows.length) fill(table, rows);
  return table;
}

function fill(table, rows) {
  const keys = Object.keys(rows[0]).filter((key) => !HIDDEN.has(key));
  const head = element("tr");
  head.append(...keys.map((key) => element("th", words.HEADS[key] ?? key)));
  table.replaceChildren(head, ...rows.map((row) => {
    const line = element("tr");
    for (const key of keys) {
      const td = element("td");
      td.dataset.head = words.HEADS[key] ?? key; // a phone has no room for columns
      const text = words.cell(key, row[key]);
      if (key === "event_id" && row[key]) {
        const link = element("button", text, "link");
        link.addEventListener("click", () => openEvent(row[key]));
        td.append(link);
      } else if (key === "channel" || key === "first_channel") {
        td.append(channelIcon(row[key]), text);
      } else {
        td.textContent = text;
      }
      if (key.endsWith("_id") && row[key]) td.title = row[key];
      line.append(td);
    }
    return line;
  }));
}
