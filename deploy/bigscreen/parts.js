// Parts that several blocks are made of. Texts from data are set as text, never as HTML.

import * as words from "./words.js";

const TICK_MS = 300;
export const $ = (selector, root = document) => root.querySelector(selector);
export const calm = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

export function element(tag, text, className) {
  const made = document.createElement(tag);
  if (text !== undefined && text !== null) made.textContent = text;
  if (className) made.className = className;
  return made;
}

export function tick(target, value) {
  const before = target.dataset.value === undefined ? value : Number(target.dataset.value);
  target.dataset.value = String(value);
  target.title = words.exact(value);
  ticking.delete(target);
  if (calm() || before === value || document.hidden) {
    target.textContent = words.brief(value);
    return;
  }
  ticking.set(target, { before, value, start: performance.now() });
  if (!running) step();
}

const ticking = new Map();
let running = false;

/** All numbers that tick go on together, six times: as many layouts, however many they are. */
function step() {
  const now = performance.now();
  for (const [target, { before, value, start }] of ticking) {
    const share = Math.min(1, (now - start) / TICK_MS);
    target.textContent = words.brief(Math.round(before + (value - before) * share));
    if (share === 1) ticking.delete(target);
  }
  running = ticking.size > 0;
  if (running) setTimeout(() => requestAnimationFrame(step), TICK_MS / 6);
}

/** Numbers of a block: one button per column; a click opens its rows. */
export function numbers(block, query, row, drill, titles) {
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

export function bars(block, rows, make, whenEmpty) {
  const list = $(`#${block} .list`);
  list.classList.add("bars");
  if (!rows.length) {
    list.replaceChildren(element("p", whenEmpty, "empty"));
    return;
  }
  const made = rows.map(make);
  const most = Math.max(1, ...made.map((row) => row.value));
  const kept = new Map([...list.querySelectorAll(".row")].filter((line) => line.dataset.key).map((line) => [line.dataset.key, line]));
  list.replaceChildren(...made.map(({ key, label, value, text, sub, subClass, colour, open }) => {
    const line = kept.get(key) ?? barLine(key);
    $(".label", line).textContent = label;
    line.title = `${label} ${words.exact(value)}`;
    $(".bar i", line).style.width = `${(100 * value) / most}%`;
    $(".bar i", line).style.background = colour ?? "";
    if (text === undefined) tick($(".n", line), value);
    else Object.assign($(".n", line), { textContent: text, title: "" }).dataset.value = value;
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

/** Lines over equal steps in an SVG that fills its box; what is null is a gap. `pick(index)` on a click. */
export function curve(target, series, { labels, pick, unit, last, step }) {
  const [wide, high] = [600, 120];
  const most = Math.max(1, last?.value ?? 0, ...series.flatMap((line) => line.values.filter((value) => value !== null)));
  const length = series[0].values.length;
  const x = (i) => (wide * (i + 0.5)) / length;
  const y = (value) => high - 4 - ((high - 10) * value) / most;
  const svg = shape("svg", { viewBox: `0 0 ${wide} ${high}`, preserveAspectRatio: "none", "aria-hidden": "true" });
  for (let i = 0; i < length; i += 6) svg.append(shape("line", { x1: x(i), x2: x(i), y1: 0, y2: high, class: "rule" }));
  for (const line of series) {
    const path = line.values.map((value, i) => (value === null ? "" : `${i && line.values[i - 1] !== null ? "L" : "M"}${x(i)} ${y(value)}`)).join("");
    if (path) svg.append(shape("path", { d: path, class: `line ${line.kind}` }));
  }
  if (last !== undefined) svg.append(shape("path", { d: `M${x(last.at)} ${y(last.value)}h0`, class: "dot" }));
  for (let i = 0; pick && i < length; i += 1) {
    const zone = shape("rect", { x: (wide * i) / length, y: 0, width: wide / length, height: high, class: "zone" });
    const tip = shape("title", {});
    tip.textContent = `${labels[i]}：${series.filter((line) => line.values[i] !== null).map((line) => `${line.name} ${words.exact(line.values[i])}`).join("，")}`;
    zone.append(tip);
    zone.addEventListener("click", () => pick(i));
    svg.append(zone);
  }
  const axis = element("p", null, "axis");
  axis.append(...labels.filter((_, i) => i % (step ?? 6) === 0).map((label) => element("span", label)), element("span", `最高 ${words.brief(most)}${unit ?? ""}`));
  target.replaceChildren(svg, axis);
}

function shape(tag, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}
