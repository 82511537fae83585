// A citizen follows one report. Number and secret stay in the address's fragment, which no server sees.
import * as words from "../words.js";

/** States in which the citizen is asked. */
const RATED = ["HANDLED", "CHECKED", "REVISITED", "CLOSED"];
const $ = (selector) => document.querySelector(selector);

function line(step) {
  switch (step.what) {
    case "received": return `您的诉求已收到（${words.channelName(step.state)}）`;
    case "decided": return `${words.outcomeName(step.state)}${step.reason ? `：${words.reasonName(step.reason)}` : ""}`;
    case "linked": return step.state === "opened" ? "已立案" : step.state === "recurrence" ? "再次发生，重新立案" : "并入同一事件，一并办理";
    case "moved": return "经复核，调整到另一事件办理";
    default: return `${step.unit} · ${words.stateName(step.state)}`;
  }
}

function draw(trail) {
  const others = trail.reports > 1 ? `，同一事件共 ${trail.reports} 件诉求` : "";
  $("#trail h2").textContent = `${words.className(trail.class_code)} · ${words.districtName(trail.district_code)}${others}`;
  const steps = trail.steps.map((step) => {
    const item = document.createElement("li");
    const at = document.createElement("time");
    at.dateTime = new Date(step.at).toISOString();
    at.textContent = words.moment(step.at);
    const what = document.createElement("span");
    what.textContent = line(step);
    item.append(at, what);
    const more = [step.note, step.due_at && step.state === "DISPATCHED" ? `应于 ${words.moment(step.due_at)} 前办结` : ""];
    for (const text of more.filter(Boolean)) {
      item.append(Object.assign(document.createElement("small"), { textContent: text }));
    }
    return item;
  });
  $("#trail .steps").replaceChildren(...steps);
  $("#rate").hidden = !RATED.includes(trail.state);
  $("#trail").hidden = false;
}

async function rate(button) {
  const given = new URLSearchParams(location.hash.slice(1));
  const { visit, solved } = button.dataset;
  for (const one of document.querySelectorAll("#rate button")) one.disabled = true;
  $("#said").textContent = "提交中…";
  try {
    const answer = await fetch(`../trail/${encodeURIComponent(given.get("report"))}/visit`, {
      method: "POST", body: JSON.stringify({ visit, solved }),
      headers: { "X-Trail-Secret": given.get("secret"), "Content-Type": "application/json" },
    });
    if (answer.ok) await ask(given.get("report"), given.get("secret"));
    const said = answer.status === 202 ? "已提交，请稍后再查" : answer.ok ? "谢谢，已记下您的评价。" : "现在不能评价，请稍后再试。";
    $("#said").textContent = said;
  } catch {
    $("#said").textContent = "连不上服务，请检查网络后再试。";
  }
  for (const one of document.querySelectorAll("#rate button")) one.disabled = false;
}
for (const one of document.querySelectorAll("#rate button")) one.addEventListener("click", () => rate(one));

async function ask(report, secret) {
  $("#said").textContent = "查询中…";
  $("#trail").hidden = true;
  try {
    const answer = await fetch(`../trail/${encodeURIComponent(report)}`, { headers: { "X-Trail-Secret": secret } });
    if (answer.status === 404 || answer.status === 422) {
      $("#said").textContent = "没有这个报件号与查询码，请核对后再查；刚提交的诉求请稍候。";
    } else if (!answer.ok) {
      $("#said").textContent = "服务暂不可用，请稍后再试。";
    } else {
      $("#said").textContent = "";
      draw(await answer.json());
    }
  } catch {
    $("#said").textContent = "连不上服务，请检查网络后再试。";
  }
}

$("#ask").addEventListener("submit", (event) => {
  event.preventDefault();
  const given = new FormData(event.target);
  const [report, secret] = ["report", "secret"].map((name) => String(given.get(name)).trim().toLowerCase());
  location.hash = new URLSearchParams({ report, secret });
  ask(report, secret);
});

async function start() {
  try {
    words.learn(await (await fetch("../api/city")).json());
  } catch {
    // Codes are shown instead of names.
  }
  const given = new URLSearchParams(location.hash.slice(1));
  if (given.get("report") && given.get("secret")) {
    $("#ask [name=report]").value = given.get("report");
    $("#ask [name=secret]").value = given.get("secret");
    ask(given.get("report"), given.get("secret"));
  }
}
start();
