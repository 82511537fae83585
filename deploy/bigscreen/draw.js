// What the intake blocks and the header draw from rows. Texts from data are set as text, never as HTML.

import { openChannel, openEvent } from "./drawer.js";
import { HANDLING } from "./handling.js";
import { channelIcon } from "./icons.js";
import { drawAreas, drawPoints } from "./map.js";
import { $, bars, curve, element, numbers } from "./parts.js";
import * as words from "./words.js";

//: Okabe–Ito without black, fixed per channel by its place in the city's list; from the eighth on striped.
const CHANNEL_COLOURS = ["#56B4E9", "#E69F00", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7"];
let channelStates = null;

const change = (now, before, than) => (before > 0
  ? `${than} ${now >= before ? "▲" : "▼"} ${words.percent(Math.abs(now - before) / before)}` : `${than.replace("较", "")} 0`);

/** Drawers of each query's rows. `context` gives drill(query, column, row, title), past, at. */
export const DRAW = {
  ...HANDLING,
  map_areas: drawAreas,
  map_events: drawPoints,

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

  intake_by_hour(rows, { drill, past, until, hour }) {
    const over = past && !until;
    // Hours to come have no number yet; zero would say that nothing came. The hour that runs is a point of its own.
    const shown = (row) => over || row.hour < hour;
    curve($("#hours"), [
      { name: past ? "前日" : "昨日", kind: "before", values: rows.map((row) => row.reports_before) },
      { name: past ? "当日" : "今日", kind: "now", values: rows.map((row) => (shown(row) ? row.reports : null)) },
    ], { labels: rows.map((row) => `${row.hour} 时`), last: over ? undefined : { at: hour, value: rows[hour].reports },
      pick: (i) => rows[i].reports && drill("intake_by_hour", "reports", rows[i], `${rows[i].hour} 时报件`) });
  },

  by_channel(rows, { drill }) {
    const found = new Map(rows.map((row) => [row.channel, row]));
    const shown = [...rows, ...ownChannels().filter((name) => !found.has(name))
      .map((name) => ({ channel: name, reports: 0, last_5_min: 0 }))];
    bars("channels", shown, (row) => ({
      key: row.channel, icon: () => channelIcon(row.channel), label: words.channelName(row.channel), value: row.reports,
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

  latest_events(rows) {
    const list = $("#latest .list");
    if (!rows.length) {
      list.replaceChildren(element("p", "近两日尚无事件", "empty"));
      return;
    }
    const head = element("div", null, "row head");
    head.append(element("i"), ...[["案件", ""], ["时间", ""], ["位置", "wide"], ["区县", "wide"], ["报件", "n"], ["阶段", ""]]
      .map(([text, kind]) => element("span", text, kind)));
    const before = new Set([...list.children].map((line) => line.dataset.key).filter(Boolean));
    list.replaceChildren(head, ...rows.map((row) => {
      const line = element("button", null, "row");
      line.dataset.key = row.event_id;
      if (before.size && !before.has(row.event_id)) line.classList.add("new");
      const stage = words.stateName(row.order_state || row.status);
      line.append(channelIcon(row.first_channel));
      line.title = words.channelName(row.first_channel);
      for (const [text, kind] of [[row.title || words.className(row.class_code), ""], [words.moment(row.opened_at), "second"],
        [row.address || "—", "wide"], [words.shortName(words.districtName(row.district_code)), "wide second"],
        [words.exact(row.report_count), "n"], [stage, "second"]]) {
        const span = element("span", text, kind);
        span.title = text;
        line.append(span);
      }
      line.addEventListener("click", () => openEvent(row.event_id));
      return line;
    }));
  },

  outcome_totals(rows, { drill }) {
    const all = rows.reduce((sum, row) => sum + row.reports, 0);
    $("#outcomes").replaceChildren(...rows.map((row) => {
      const chip = element("button", null, `chip ${row.outcome}`);
      chip.dataset.key = row.outcome;
      const n = element("b", words.brief(row.reports));
      n.dataset.value = row.reports;
      chip.append(element("span", words.outcomeName(row.outcome)), n);
      chip.title = `${words.exact(row.reports)} 件，${words.percent(row.reports / all)}`;
      chip.addEventListener("click", () => drill("outcome_totals", "reports", row, `${words.outcomeName(row.outcome)}的报件`));
      return chip;
    }));
  },

  review_reasons(rows, { drill, past }) {
    bars("reasons", rows, (row) => ({
      key: `${row.outcome} ${row.reason}`, label: words.reasonName(row.reason), value: row.reports,
      sub: words.outcomeName(row.outcome), subClass: "second",
      open: () => drill("review_reasons", "reports", row, `${words.reasonName(row.reason)}的报件`),
    }), past ? "当日全部受理" : "今日全部受理");
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
