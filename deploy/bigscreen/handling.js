// What the blocks of handling draw: lights, quality, ranking, sensing.

import { openRows } from "./drawer.js";
import { markLights } from "./map.js";
import { $, bars, curve, element, fill, numbers, tick } from "./parts.js";
import * as words from "./words.js";

const DAY_MS = 86400000;
let lights = [];

export const HANDLING = {
  open_orders([row], { drill }) {
    numbers("lights", "open_orders", row, drill, {
      open: "在办工单", red: "红灯工单", overdue: "超期工单", due_soon: "24 小时内到期的工单" });
    for (const button of document.querySelectorAll("#lights .number")) {
      button.classList.toggle("on", row[button.dataset.column] > 0);
    }
  },

  light_totals(rows, { drill }) {
    $("#rules").replaceChildren(...["dangerous", "burst", "due_soon", "recurrence"].map((rule) => {
      const row = rows.find((one) => one.rule === rule) ?? { rule, lights: 0, orders: 0, light: "" };
      const chip = element("button", null, `chip ${row.light}`);
      chip.dataset.key = rule;
      const n = element("b", words.brief(row.lights));
      n.dataset.value = row.lights;
      chip.append(element("span", words.ruleName(rule, row.light)), n);
      chip.title = `${words.exact(row.lights)} 盏，${words.exact(row.orders)} 张工单`;
      chip.addEventListener("click", () => row.lights && drill("light_totals", "lights", row, words.ruleName(rule, row.light)));
      return chip;
    }));
  },

  lights(rows, context) {
    lights = rows.slice(0, 40);
    markLights(rows);
    const list = $("#lights .list");
    if (!rows.length) {
      list.replaceChildren(element("p", "此刻没有亮灯：今日无重大危险事项，近三日无到期工单", "empty"));
      return;
    }
    list.replaceChildren(...lights.map((row) => {
      const line = element("button", null, `row ${row.light}`);
      line.append(element("span", words.ruleName(row.rule, row.light), "mark"),
        element("span", words.className(row.class_code), "wide"),
        element("span", words.placeName(row.place || row.street_code || row.district_code), "wide second"),
        element("span", words.exact(row.n), "n"), element("span", "", "left"));
      line.title = [...line.children].map((child) => child.textContent).join(" ");
      line.addEventListener("click", () => context.drill("lights", "n", row, `${words.ruleName(row.rule, row.light)} ${words.className(row.class_code)}`));
      return line;
    }));
    runClocks(context);
  },

  quality([row], { drill, past }) {
    const day = past ? "当日" : "今日";
    const rate = (column, value, formula) => {
      $(`#quality [data-rate=${column}]`).textContent = value === null ? "—" : words.percent(value);
      $(`#quality [data-formula=${column}]`).textContent = formula;
    };
    for (const [column, value] of [["on_time", row.on_time_rate], ["satisfied", row.satisfaction_rate]]) {
      fill($(`#quality [data-meter=${column}]`), value ?? 0);
    }
    rate("on_time", row.on_time_rate, row.due ? `${day}到期` : `${day}尚无到期的工单`);
    rate("satisfied", row.satisfaction_rate, row.rated ? `${day}回访` : `${day}尚无有效回访`);
    for (const [column, title] of [["on_time", "按期办结的工单"], ["due", "到期工单"], ["satisfied", "满意的回访"],
      ["rated", "有效回访"], ["closed", "办结工单"]]) {
      const button = $(`#quality [data-column=${column}]`);
      button.onclick = () => row[column] && drill("quality", column, row, title);
      tick($("b", button), row[column]);
    }
    for (const name of ["mean", "median", "p90"]) {
      $(`#quality [data-time=${name}]`).textContent = row[`${name}_ms`] === null ? "—" : words.duration(row[`${name}_ms`]);
    }
  },

  ranking(rows, { day }) {
    const without = words.named().score_without ?? [];
    $("#ranking .without").replaceChildren(...(without.length ? ["不含", ...without.map((kpi) => element("span", words.kpiName(kpi)))] : []));
    // As many as there are centres stand side by side: a wall has no hand that scrolls.
    $("#ranking .list").classList.toggle("two", rows.length > 0 && rows.length <= 16);
    bars("ranking", rows, (row) => ({
      key: row.code, label: words.shortName(words.placeName(row.code)), value: row.score ?? 0, text: row.score === null ? "—" : row.score.toFixed(1),
      sub: row.rank === null ? "样本少" : String(row.rank), subClass: "second",
      open: () => openRows(`当日得分 · ${words.placeName(row.code)}`, "day_scores", { by: row.by, code: row.code, ...(day ? { day } : {}) }, row.kpis),
    }), "今日尚无可评分的工单");
    for (const line of document.querySelectorAll("#ranking .row")) {
      const row = rows.find((one) => one.code === line.dataset.key);
      line.title = `${words.placeName(row.code)}：${row.score === null ? "无分" : row.score.toFixed(2)} 分，${row.rank === null ? "工单太少，不排名" : `第 ${row.rank} 名`}，最多一项 ${words.exact(row.orders)} 件`;
    }
  },

  by_unit(rows, { drill, past }) {
    bars("units", rows, (row) => ({
      key: row.unit_code, label: row.unit_name || row.unit_code, value: row.orders,
      open: () => drill("by_unit", "orders", row, `${row.unit_name || row.unit_code} 工单`),
    }), past ? "当日没有工单" : "今日尚无工单");
  },

  sensing(rows, { drill }) {
    $("#scenes").replaceChildren(...rows.map((row) => {
      const panel = element("div", null, "scene");
      panel.dataset.key = row.scene;
      const number = (column, title) => {
        const button = element("button", null, `number ${column === "open" && row.open ? "red on" : ""}`);
        const n = element("b", words.brief(row[column]));
        n.dataset.value = row[column];
        button.dataset.column = column;
        button.append(element("span", title), n);
        button.addEventListener("click", () => row[column] && drill("sensing", column, row, `${words.sceneName(row.scene)} ${title}${column === "open" ? "" : "告警"}`));
        return button;
      };
      panel.title = words.sceneName(row.scene);
      panel.append(element("h3", words.sceneShort(row.scene)), number("open", "在办"), number("last_hour", "近 1 小时"));
      return panel;
    }));
  },

  water_levels(rows, { at }) {
    const step = 600000;
    const first = Math.floor(at / step) * step - 35 * step;
    const found = new Map(rows.map((row) => [row.since, row.level_cm]));
    const times = Array.from({ length: 36 }, (_, i) => first + i * step);
    $("#water").hidden = !rows.length;
    const most = Math.max(0, ...rows.map((row) => row.level_cm));
    curve($("#water"), [{ name: "最高水位", kind: "now", values: times.map((time) => found.get(time) ?? null) }], {
      labels: times.map((time) => words.clock(time).slice(0, 5)), legend: `近 6 小时告警水位，最高 ${words.brief(most)} cm` });
  },
};

/** Time left until the nearest deadline, drawn anew without asking. */
export function runClocks({ at }) {
  document.querySelectorAll("#lights .list .row").forEach((line, i) => {
    const due = lights[i]?.due_at;
    if (!due) return;
    const left = due - at;
    $(".left", line).textContent = left < 0 ? `超期 ${words.span(-left)}` : `剩 ${words.span(left)}`;
    $(".left", line).classList.toggle("late", left < DAY_MS / 24);
  });
}
