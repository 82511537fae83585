// A unit's open orders and what may be done with them. The key stays in this tab; the server decides what is allowed.
import * as words from "../words.js";

const $ = (selector, within = document) => within.querySelector(selector);
const SOON_MS = 24 * 3600 * 1000;
const UNITS = { work_hour: "工作小时", work_day: "工作日", natural_day: "自然日", urgent_hour: "小时" };
const REFUSALS = {
  stale: "工单已有新变化，已刷新，请再看一遍", illegal: "此阶段不能这样办理", already_done: "已经办过", wrong_role: "您的角色不能这样办理",
  not_yours: "不是本单位的工单", bad_field: "填写不完整", unknown_order: "没有这个工单",
};
/** What is asked for with each action: field → label, kind. */
const FIELDS = {
  reason: ["原因", "textarea"], note: ["办理情况（市民可见）", "textarea"], photos: ["照片", "file"],
  extend_value: ["延长", "number"], extend_unit: ["单位", "select"],
};
const ACTIONS = {
  sign: ["接单", ["DISPATCHED", "REOPENED", "SUPERVISED"], []],
  contact: ["已联系市民", ["SIGNED", "HANDLING", "EXTENDED"], []],
  start: ["开始处置", ["SIGNED", "EXTENDED"], []],
  handle: ["办结", ["SIGNED", "HANDLING", "EXTENDED"], ["note", "photos"]],
  return: ["退单", ["DISPATCHED", "REOPENED", "SUPERVISED", "SIGNED"], ["reason"]],
  ask_extension: ["申请延期", ["SIGNED", "HANDLING", "EXTENDED"], ["extend_value", "extend_unit", "reason"]],
};

let key = sessionStorage.getItem("key") ?? "";
const call = (path, options = {}) => fetch(`../orders${path}`, { ...options, headers: { "X-API-Key": key, ...options.headers } });

function field(name) {
  const [label, kind] = FIELDS[name];
  const box = document.createElement("label");
  box.textContent = label;
  const input = document.createElement(kind === "textarea" || kind === "select" ? kind : "input");
  input.name = name;
  if (kind === "file") Object.assign(input, { type: "file", accept: "image/jpeg,image/png,image/webp,image/gif", multiple: true });
  if (kind === "number") Object.assign(input, { type: "number", min: "0.5", step: "0.5", value: "1", required: true });
  if (kind === "textarea") Object.assign(input, { required: true, maxLength: 2000, rows: 3 });
  if (kind === "select") {
    for (const [value, text] of Object.entries(UNITS)) input.append(Object.assign(document.createElement("option"), { value, textContent: text }));
  }
  box.append(input);
  return box;
}

async function act(row, name, form, article) {
  const said = $(".done", article);
  const given = new FormData(form);
  const body = { action: name, version: row.version };
  for (const wanted of ACTIONS[name][2]) {
    if (wanted !== "photos") body[wanted] = wanted === "extend_value" ? Number(given.get(wanted)) : String(given.get(wanted) ?? "").trim();
  }
  said.textContent = "提交中…";
  for (const button of article.querySelectorAll("button")) button.disabled = true;
  try {
    body.media = [];
    for (const photo of given.getAll("photos").filter((file) => file.size)) {
      const kept = await call(`/${row.order_id}/photos`, { method: "POST", body: photo, headers: { "Content-Type": photo.type } });
      if (!kept.ok) throw new Error("照片未能上传：只收 10 MB 以内的 JPEG、PNG、WebP、GIF");
      body.media.push((await kept.json()).media);
    }
    const answer = await call(`/${row.order_id}/actions`, {
      method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json" },
    });
    const told = await answer.json();
    if (answer.status === 202) said.textContent = "已提交，正在处理，请稍后刷新";
    else if (answer.ok) return load();
    else said.textContent = REFUSALS[told.reason] ?? "未能办理，请稍后再试";
    if (told.reason === "stale") return load();
  } catch (error) {
    said.textContent = error instanceof TypeError ? "连不上服务，请检查网络后再试" : error.message;
  }
  for (const button of article.querySelectorAll("button")) button.disabled = false;
}

function draw(row, now) {
  const article = $("#order").content.firstElementChild.cloneNode(true);
  $("h2", article).textContent = `${words.className(row.class_code)} · ${words.stateName(row.state)}`;
  $(".where", article).textContent = [row.title, row.address].filter(Boolean).join(" · ") || words.districtName(row.district_code);
  const many = row.report_count > 1 ? `，共 ${row.report_count} 件诉求` : "";
  $(".when", article).textContent = `派遣 ${words.moment(row.dispatched_at)}${many}`;
  const until = $(".until", article);
  if (row.due_at) {
    const left = row.due_at - now;
    until.textContent = left < 0 ? `■ 已超期 ${words.duration(-left)}` : `${left < SOON_MS ? "▲ " : ""}应于 ${words.moment(row.due_at)} 前办结`;
    until.className = left < 0 ? "until late" : left < SOON_MS ? "until soon" : "until";
  }
  if (row.closed_when) until.append(Object.assign(document.createElement("small"), { textContent: ` 结案标准：${row.closed_when}` }));
  const form = $("form", article);
  for (const [name, [label, states, fields]] of Object.entries(ACTIONS)) {
    if (!states.includes(row.state)) continue;
    const button = Object.assign(document.createElement("button"), { type: "button", textContent: label });
    if (fields.length) button.className = "plain";
    button.addEventListener("click", () => {
      form.replaceChildren(...fields.map(field));
      if (!fields.length) return act(row, name, form, article);
      form.append(Object.assign(document.createElement("button"), { type: "submit", textContent: `提交${label}` }));
      form.hidden = false;
      form.onsubmit = (event) => { event.preventDefault(); act(row, name, form, article); };
      $("input,textarea", form).focus();
    });
    $(".actions", article).append(button);
  }
  return article;
}

async function load() {
  $("#enter").hidden = Boolean(key);
  $("#again").hidden = $("#leave").hidden = !key;
  if (!key) return;
  try {
    const answer = await call("?limit=200");
    if (answer.status === 401 || answer.status === 403) {
      leave();
      $("#said").textContent = "密钥不对，请向中心核对";
      return;
    }
    if (!answer.ok) throw new Error();
    const { at, unit_code: unit, rows } = await answer.json();
    $("#unit").textContent = unit ? `${rows[0]?.unit_name ?? unit} · ${rows[0]?.total ?? 0} 件` : `全部 · ${rows[0]?.total ?? 0} 件`;
    $("#said").textContent = rows.length ? "" : "没有在办工单";
    $("#book").replaceChildren(...rows.map((row) => draw(row, at)));
  } catch {
    $("#said").textContent = "服务暂不可用，请稍后刷新";
  }
}

function leave() {
  key = "";
  sessionStorage.removeItem("key");
  $("#book").replaceChildren();
  $("#unit").textContent = "";
  load();
}

$("#enter").addEventListener("submit", (event) => {
  event.preventDefault();
  key = String(new FormData(event.target).get("key")).trim();
  sessionStorage.setItem("key", key);
  load();
});
$("#again").addEventListener("click", load);
$("#leave").addEventListener("click", leave);
fetch("../api/city").then((answer) => answer.json()).then(words.learn).catch(() => {}).finally(load);
