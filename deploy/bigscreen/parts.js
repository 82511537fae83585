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

/** All numbers that tick go on together, three times: as many layouts, however many they are. */
function step() {
  const now = performance.now();
  for (const [target, { before, value, start }] of ticking) {
    const share = Math.min(1, (now - start) / TICK_MS);
    target.textContent = words.brief(Math.round(before + (value - before) * share));
    if (share === 1) ticking.delete(target);
  }
  running = ticking.size > 0;
  if (running) setTimeout(() => requestAnimationFrame(step), TICK_MS / 3);
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
  const lines = made.map(({ key, icon, label, value, text, sub, subClass, colour, open }) => {
    const line = kept.get(key) ?? barLine(key, icon);
    // As its own node, so that a sign before it stays.
    const name = $(".label", line).lastChild;
    if (name.data !== label) name.data = label;
    line.title = `${label} ${words.exact(value)}`;
    fill($(".bar i", line), value / most);
    $(".bar i", line).style.background = colour ?? "";
    if (text === undefined) tick($(".n", line), value);
    else Object.assign($(".n", line), { textContent: text, title: "" }).dataset.value = value;
    const beside = $(".sub", line);
    if (beside.textContent !== (sub ?? "")) beside.textContent = sub ?? "";
    beside.className = `sub ${subClass ?? ""}`;
    line.classList.toggle("zero", value === 0);
    line.drill = open;
    return line;
  });
  // Put anew, all of it would be laid out anew.
  if (lines.length !== list.children.length || lines.some((line, i) => line !== list.children[i])) list.replaceChildren(...lines);
}

/** Show a share of a bar. Clipped, not narrowed: its way there lays nothing out anew. */
export function fill(bar, share) {
  bar.style.clipPath = `inset(0 ${(100 * (1 - share)).toFixed(2)}% 0 0 round 3px)`;
}

const toCut = new Set();

/** A list that is longer than its place shows whole rows only, until somebody scrolls it. */
export function wholeRows(list) {
  const later = () => {
    if (!toCut.size) requestAnimationFrame(cutRows);
    toCut.add(list);
  };
  new ResizeObserver(later).observe(list);
  new MutationObserver(later).observe(list, { childList: true });
  list.addEventListener("scroll", later, { passive: true });
}

/** All lists at once, measured before any is changed: the page is laid out once for them, as it would be anyway. */
function cutRows() {
  const cuts = [...toCut].map((list) => {
    const end = list.getBoundingClientRect().bottom;
    const half = list.scrollTop ? undefined : [...list.children].map((row) => row.getBoundingClientRect()).find((box) => box.bottom > end + 2);
    return [list, half ? `inset(0px 0px ${Math.max(0, Math.round(end - half.top))}px)` : ""];
  });
  toCut.clear();
  for (const [list, cut] of cuts) if (list.style.clipPath !== cut) list.style.clipPath = cut;
}

function barLine(key, icon) {
  const line = element("button", null, "row");
  line.dataset.key = key;
  const bar = element("span", null, "bar");
  bar.append(element("i"));
  const label = element("span", null, "label");
  label.append(...[icon?.(), document.createTextNode("")].filter(Boolean));
  line.append(label, bar, element("span", "", "n"), element("span", "", "sub"));
  line.addEventListener("click", () => line.drill?.());
  return line;
}

/**
 * Lines over equal steps in an SVG that fills its box; what is null is a gap. `pick(index)` on a click, `legend`: a text
 * before it or nothing, each `step` has its label below.
 */
export function curve(target, series, { labels, pick, last, step = 6, legend }) {
  const [wide, high] = [600, 120];
  const most = Math.max(1, last?.value ?? 0, ...series.flatMap((line) => line.values.filter((value) => value !== null)));
  const length = series[0].values.length;
  const x = (i) => (wide * (i + 0.5)) / length;
  const y = (value) => high - 4 - ((high - 10) * value) / most;
  const svg = shape("svg", { viewBox: `0 0 ${wide} ${high}`, preserveAspectRatio: "none", "aria-hidden": "true" });
  for (let i = 0; i < length; i += step) svg.append(shape("line", { x1: x(i), x2: x(i), y1: 0, y2: high, class: "rule" }));
  for (const line of series) {
    for (const run of runs(line.values)) {
      const path = run.map((i) => `${x(i)} ${y(line.values[i])}`).join("L");
      if (line.kind === "now") svg.append(shape("path", { d: `M${x(run[0])} ${high}L${path}L${x(run.at(-1))} ${high}Z`, class: "under" }));
      // One value alone has no line, but a place.
      svg.append(shape("path", { d: `M${path}${run.length === 1 ? "h0" : ""}`, class: `line ${line.kind}` }));
    }
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
  for (let i = 0; i < length; i += step) {
    const label = element("span", labels[i]);
    label.style.left = `${(100 * (i + 0.5)) / length}%`;
    axis.append(label);
  }
  const key = element("p", null, "legend");
  key.append(...(legend ? [element("span", legend)]
    : [...series.map((line) => element("span", line.name, line.kind)), element("span", `最高 ${words.brief(most)}`)]));
  target.replaceChildren(key, svg, axis);
}

/** Places of values that follow each other without a gap. */
function runs(values) {
  const found = [];
  values.forEach((value, i) => {
    if (value === null) return;
    if (i && values[i - 1] !== null) found.at(-1).push(i); else found.push([i]);
  });
  return found;
}

export function shape(tag, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}
