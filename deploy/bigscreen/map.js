// 全域态势: a canvas map from the city down to micro-grids, with counts, live points and lights.

import { ask } from "./ask.js";
import { openEvent } from "./drawer.js";
import { $, bars, calm, element } from "./parts.js";
import * as words from "./words.js";

//: Length of a child's code below a parent's level; 0: the city's centres.
const BELOW = { city: 0, unit: 9, street: 12, community: 15, compound: 18 };
const LEVELS = ["city", "unit", "street", "community", "compound", "micro"];
const NEVER = Infinity;
const HOUR_MS = 3600000;
//: Cosine of the latitude: a degree of longitude is so much shorter than one of latitude.
const ASPECT = 0.82;
const KIOSK_MS = 20000;

const trail = [{ level: "city", code: "", name: "全市" }];
const view = { x: 0, y: 0, k: 1 };
let areas = [];
let counts = null; // null: not known yet, which is not zero
let points = [];
let lights = [];
let context = null;
let hooks = { moved() {} };
let frame = 0;
let ground = null;
let signs = null;
let settled = NEVER;
let marked = null;
let dot = null;
let labels = null;
let turn = 0;

const here = () => trail[trail.length - 1];
const canvas = () => $("#map canvas");
const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const flat = ([lon, lat]) => [lon * ASPECT, -lat];

/** What the query map_areas is asked for where the map stands. */
export const parameters = () => ({ digits: BELOW[here().level] ?? 18, parent: here().code });

/** Begin: `moved()` is called when the map stands elsewhere and its counts are to be asked anew. */
export function startMap(given) {
  hooks = given;
  const target = $("#map .chart");
  target.replaceChildren(element("canvas"));
  new ResizeObserver(() => { fit(); }).observe(target);
  listen(target);
  goTo(0);
  if (new URLSearchParams(location.search).has("kiosk") && !calm()) {
    let next = 0;
    setInterval(() => {
      if (trail.length > 1) goTo(0);
      else if (areas.length) enter(areas[next++ % areas.length].code);
    }, KIOSK_MS);
  }
}

/** Step back along the breadcrumb. */
export async function goTo(index) {
  trail.length = index + 1;
  if (!index) marked = null;
  await show();
}

/** Step into an area. */
export async function enter(code) {
  const level = LEVELS[LEVELS.indexOf(here().level) + 1];
  if (!(level in BELOW) || !areas.some((area) => area.code === code)) return;
  trail.push({ level, code, name: words.placeName(code) });
  await show();
}

async function show() {
  turn += 1;
  const mine = turn;
  counts = null;
  crumbs();
  hooks.moved();
  for (;;) {
    try {
      const found = await ask("/api/map/areas", { parent: here().code });
      if (mine !== turn) return;
      words.learnPlaces(found.areas);
      areas = found.areas.map(shaped);
      labels = null;
      break;
    } catch (error) {
      if (mine !== turn) return;
      $("#map .note").textContent = `地图未读到：${error.message}，自动重试`;
      await new Promise((done) => { setTimeout(done, 5000); });
    }
  }
  $("#map .note").textContent = areas.length ? "" : "此处没有更细的网格图形";
  fit();
  list();
}

function shaped({ code, name, rings }) {
  const path = new Path2D();
  const box = [NEVER, NEVER, -NEVER, -NEVER];
  for (const ring of rings) {
    ring.forEach((point, i) => {
      const [x, y] = flat(point);
      if (i) path.lineTo(x, y); else path.moveTo(x, y);
      box[0] = Math.min(box[0], x); box[1] = Math.min(box[1], y); box[2] = Math.max(box[2], x); box[3] = Math.max(box[3], y);
    });
    path.closePath();
  }
  return { code, name, path, box };
}

function crumbs() {
  $("#crumbs").replaceChildren(...trail.map((step, i) => {
    const button = element("button", step.name);
    if (i === trail.length - 1) button.setAttribute("aria-current", "location");
    button.addEventListener("click", () => goTo(i));
    return button;
  }));
}

function fit() {
  const target = canvas();
  const { clientWidth: wide, clientHeight: high } = target.parentElement;
  if (!wide || !high) return;
  const scale = devicePixelRatio || 1;
  Object.assign(target, { width: wide * scale, height: high * scale });
  if (areas.length) {
    const box = [0, 1].map((i) => Math.min(...areas.map((area) => area.box[i])))
      .concat([2, 3].map((i) => Math.max(...areas.map((area) => area.box[i]))));
    view.k = 0.94 * Math.min(wide / (box[2] - box[0] || 1), high / (box[3] - box[1] || 1));
    view.x = wide / 2 - (view.k * (box[0] + box[2])) / 2;
    view.y = high / 2 - (view.k * (box[1] + box[3])) / 2;
  }
  ground = signs = labels = null;
  paint();
}

/** One frame at most for any number of reasons. */
function paint() {
  frame ||= requestAnimationFrame(() => { frame = 0; draw(); });
}

const lightsOf = (code) => lights.filter((row) => words.lies(row, code));

/** A picture of the map where the view stands, to be moved with it. */
function picture(wide, high, scale, fill) {
  const made = element("canvas");
  Object.assign(made, { width: wide * scale, height: high * scale });
  fill(made.getContext("2d"), wide, high, scale);
  return { made, ...view };
}

function drawGround(pen, wide, high, scale) {
  const most = Math.max(1, ...(counts ?? []).map((row) => row.events));
  const found = new Map((counts ?? []).map((row) => [row.code, row.events]));
  pen.setTransform(scale * view.k, 0, 0, scale * view.k, scale * view.x, scale * view.y);
  pen.lineWidth = 1 / view.k;
  pen.strokeStyle = style("--border");
  const [low, heat] = [style("--area"), style("--heat")];
  for (const area of areas) {
    pen.globalAlpha = 1;
    pen.fillStyle = low;
    pen.fill(area.path, "evenodd");
    const n = found.get(area.code) ?? 0;
    if (n) {
      pen.globalAlpha = 0.15 + 0.75 * Math.sqrt(n / most);
      pen.fillStyle = heat;
      pen.fill(area.path, "evenodd");
    }
    pen.globalAlpha = 1;
    pen.stroke(area.path);
  }
}

function drawSigns(pen, wide, high, scale) {
  pen.setTransform(scale, 0, 0, scale, 0, 0);
  drawDots(pen, wide, high);
  drawLabels(pen);
}

function draw() {
  const target = canvas();
  const scale = devicePixelRatio || 1;
  const [wide, high] = [target.width / scale, target.height / scale];
  const pen = target.getContext("2d");
  pen.setTransform(1, 0, 0, 1, 0, 0);
  pen.clearRect(0, 0, target.width, target.height);
  // While it moves the last pictures are moved; they are drawn sharp once it stands.
  const stands = performance.now() > settled;
  const kept = (layer) => layer && !(stands && (layer.k !== view.k || layer.x !== view.x || layer.y !== view.y));
  if (!kept(ground)) ground = picture(wide, high, scale, drawGround);
  if (!kept(signs)) signs = picture(wide, high, scale, drawSigns);
  for (const layer of [ground, signs]) {
    const zoom = view.k / layer.k;
    pen.drawImage(layer.made, scale * (view.x - layer.x * zoom), scale * (view.y - layer.y * zoom), target.width * zoom, target.height * zoom);
  }
}

/** Of a whole day that is over no hour is the last one: it has no points, an instant of it has. */
const shownPoints = () => (context?.past && !context.until ? [] : points);

/** A point as a picture: drawing it again is cheaper than its circle. */
function dotOf(size) {
  const key = `${size} ${style("--point")} ${style("--ground")}`;
  if (dot?.key === key) return dot.made;
  const made = element("canvas");
  const scale = devicePixelRatio || 1;
  made.width = made.height = Math.ceil(2 * (size + 1) * scale);
  const pen = made.getContext("2d");
  pen.setTransform(scale, 0, 0, scale, 0, 0);
  pen.arc(size + 1, size + 1, size, 0, 7);
  pen.fillStyle = style("--point");
  pen.fill();
  pen.lineWidth = 0.7;
  pen.strokeStyle = style("--ground");
  pen.stroke();
  dot = { key, made };
  return made;
}

function drawDots(pen, wide, high) {
  const now = context?.until || context?.at || Date.now();
  const size = parseFloat(getComputedStyle(document.documentElement).fontSize) * 0.22;
  const dotted = dotOf(size);
  const [half, whole] = [size + 1, 2 * (size + 1)];
  for (const row of shownPoints()) {
    const [x, y] = [row.x * view.k + view.x, row.y * view.k + view.y];
    if (x < -whole || y < -whole || x > wide + whole || y > high + whole) continue;
    // A point fades over its hour.
    pen.globalAlpha = Math.max(0.25, 1 - (now - row.opened_at) / HOUR_MS);
    pen.drawImage(dotted, x - half, y - half, whole, whole);
  }
  pen.globalAlpha = 1;
  if (!marked) return;
  pen.beginPath();
  pen.arc(marked.x * view.k + view.x, marked.y * view.k + view.y, size * 4, 0, 7);
  pen.strokeStyle = style("--text");
  pen.lineWidth = 3;
  pen.stroke();
}

/** What stands on the areas, fullest first; made anew when counts, lights or areas changed. */
function labelled() {
  const found = new Map((counts ?? []).map((row) => [row.code, row.events]));
  return [...areas].sort((a, b) => (found.get(b.code) ?? 0) - (found.get(a.code) ?? 0)).slice(0, 300).map((area) => {
    const shining = lightsOf(area.code);
    const red = shining.filter((row) => row.light === "red").length;
    return {
      area, label: `${words.shortName(area.name)}${found.get(area.code) ? ` ${words.brief(found.get(area.code))}` : ""}`,
      marks: [[triangle, red, "--red"], [disc, shining.length - red, "--yellow"]].filter(([, n]) => n).map(([form, n, colour]) => ({ form, text: words.brief(n), colour })),
    };
  });
}

const triangle = (pen, x, y, size) => { pen.moveTo(x, y); pen.lineTo(x + size, y); pen.lineTo(x + size / 2, y - size * 0.9); pen.closePath(); };
const disc = (pen, x, y, size) => pen.arc(x + size / 2, y - size * 0.45, size / 2, 0, 7);

function drawLabels(pen) {
  labels ??= labelled();
  const em = parseFloat(getComputedStyle(document.documentElement).fontSize);
  const colours = Object.fromEntries(["--text", "--red", "--yellow"].map((name) => [name, style(name)]));
  const taken = [];
  const size = Math.max(12, 0.85 * em);
  pen.font = `600 ${size}px ${getComputedStyle(document.body).fontFamily}`;
  pen.lineWidth = 3;
  pen.lineJoin = "round";
  pen.strokeStyle = style("--ground");
  for (const one of labels) {
    const { area, label, marks } = one;
    one.wide ??= pen.measureText(label).width;
    for (const mark of marks) mark.wide ??= 1.05 * size + pen.measureText(mark.text).width;
    const below = marks.reduce((sum, mark) => sum + mark.wide, (marks.length - 1) * 0.6 * size);
    const [x, y] = [((area.box[0] + area.box[2]) / 2) * view.k + view.x, ((area.box[1] + area.box[3]) / 2) * view.k + view.y];
    const [w, h] = [Math.max(one.wide, below) / 2, size * (marks.length ? 2.3 : 1.2)];
    const box = [x - w, y - size, x + w, y - size + h];
    if (taken.some((other) => box[0] < other[2] && box[2] > other[0] && box[1] < other[3] && box[3] > other[1])) continue;
    taken.push(box);
    const write = (text, at, line, colour) => { pen.strokeText(text, at, line); pen.fillStyle = colour; pen.fillText(text, at, line); };
    write(label, x - one.wide / 2, y, colours["--text"]);
    let left = x - below / 2;
    for (const { form, text, colour, wide } of marks) {
      pen.beginPath();
      form(pen, left, y + 1.15 * size, 0.8 * size);
      pen.stroke();
      pen.fillStyle = colours[colour];
      pen.fill();
      write(text, left + 0.95 * size, y + 1.15 * size, colours[colour]);
      left += wide + 0.6 * size;
    }
  }
}

function listen(target) {
  const fingers = new Map();
  let moved = 0;
  const at = (event) => {
    const box = target.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  const still = () => {
    settled = performance.now() + 150;
    paint();
    setTimeout(paint, 170);
  };
  const zoom = (factor, [x, y]) => {
    Object.assign(view, { x: x - (x - view.x) * factor, y: y - (y - view.y) * factor, k: view.k * factor });
    still();
  };
  target.addEventListener("wheel", (event) => {
    event.preventDefault();
    zoom(Math.exp(-event.deltaY / 400), at(event));
  }, { passive: false });
  target.addEventListener("pointerdown", (event) => { fingers.set(event.pointerId, at(event)); moved = 0; });
  target.addEventListener("pointermove", (event) => {
    const before = fingers.get(event.pointerId);
    const now = at(event);
    if (!before) { target.title = named(now); return; }
    const others = [...fingers].filter(([id]) => id !== event.pointerId);
    fingers.set(event.pointerId, now);
    moved += Math.abs(now[0] - before[0]) + Math.abs(now[1] - before[1]);
    if (others.length) {
      const [, other] = others[0];
      const reach = (point) => Math.hypot(point[0] - other[0], point[1] - other[1]) || 1;
      zoom(reach(now) / reach(before), other);
    } else if (moved > 4) {
      Object.assign(view, { x: view.x + now[0] - before[0], y: view.y + now[1] - before[1] });
      still();
    }
  });
  for (const kind of ["pointerup", "pointercancel", "pointerleave"]) {
    target.addEventListener(kind, (event) => {
      if (kind === "pointerup" && fingers.size === 1 && moved <= 4) press(at(event));
      fingers.delete(event.pointerId);
    });
  }
}

const areaAt = ([x, y]) => {
  const pen = canvas().getContext("2d");
  pen.setTransform(1, 0, 0, 1, 0, 0);
  const [wx, wy] = [(x - view.x) / view.k, (y - view.y) / view.k];
  return areas.find((area) => wx >= area.box[0] && wx <= area.box[2] && wy >= area.box[1] && wy <= area.box[3]
    && pen.isPointInPath(area.path, wx, wy, "evenodd"));
};

function pointAt([x, y]) {
  let [best, reach] = [null, 8];
  for (const row of shownPoints()) {
    const far = Math.hypot(row.x * view.k + view.x - x, row.y * view.k + view.y - y);
    if (far < reach) [best, reach] = [row, far];
  }
  return best;
}

function named(place) {
  const row = pointAt(place);
  if (row) return `${row.title || words.className(row.class_code)}\n${words.className(row.class_code)} · ${words.moment(row.opened_at)}`;
  const area = areaAt(place);
  if (!area) return "";
  return `${area.name}：事件 ${counts ? words.exact(counts.find((one) => one.code === area.code)?.events ?? 0) : "…"}`;
}

function press(place) {
  const row = pointAt(place);
  if (row) { openEvent(row.event_id); return; }
  const area = areaAt(place);
  if (area) enter(area.code);
}

function list() {
  const known = counts ?? [];
  const rows = [...known, ...areas.filter((area) => !known.some((row) => row.code === area.code))
    .map((area) => ({ code: area.code, events: 0, open: 0 }))].slice(0, 300);
  bars("map", rows, (row) => ({
    key: row.code, label: row.code === here().code || !row.code ? "未细分到下级" : words.shortName(words.placeName(row.code)), value: row.events, text: counts ? undefined : "…",
    open: () => row.events && context.drill("map_areas", "events", row, `${words.placeName(row.code || here().code)} 事件`, parameters()),
  }), "此处今日尚无事件");
  for (const line of document.querySelectorAll("#map .row[data-key]")) {
    if (here().level === "compound" || !areas.some((area) => area.code === line.dataset.key)) continue;
    const deeper = element("button", "▸", "deeper");
    deeper.ariaLabel = `进入 ${words.placeName(line.dataset.key)}`;
    deeper.addEventListener("click", () => enter(line.dataset.key));
    const cell = element("div", null, "pair");
    line.replaceWith(cell);
    cell.append(line, deeper);
  }
}

/** Go to where an event is, as near as its grid is known, and mark the place. */
export async function showPlace({ lon, lat, grid_code, district_code }) {
  const [x, y] = flat([lon, lat]);
  marked = { x, y };
  // A special grid lies in its community; what is known by its district only is shown in its centre.
  const grids = [9, 12, 15].map((n) => grid_code.slice(0, n)).filter((code, i) => /^\d+$/.test(code) && code.length === [9, 12, 15][i]);
  const steps = [words.unitOf(grid_code, district_code), ...grids].filter(Boolean);
  trail.length = 1;
  steps.forEach((code, i) => trail.push({ level: LEVELS[i + 1], code, name: words.placeName(code) }));
  await show();
  $("#map").scrollIntoView({ block: "nearest" });
}

/** Rows of map_areas. */
export function drawAreas(rows, given) {
  context = given;
  if (rows.length && rows[0].parent !== here().code) return; // of where the map stood before
  counts = rows;
  const most = Math.max(0, ...rows.map((row) => row.events));
  $("#map .legend b").textContent = words.brief(most);
  $("#map .legend").hidden = !most;
  ground = signs = labels = null;
  list();
  paint();
}

/** Rows of map_events. */
export function drawPoints(rows, given) {
  context = given;
  points = rows.map((row) => {
    const [x, y] = flat([row.lon, row.lat]);
    return { ...row, x, y };
  });
  signs = null;
  paint();
}

/** The lights that shine, to be marked on their areas. */
export function markLights(rows) {
  lights = rows;
  signs = labels = null;
  paint();
}

/** Another theme: everything in its colours. */
export function repaint() {
  ground = signs = null;
  paint();
}
