// Asking the gateway: what is due goes into one request; failures back off and heal by themselves.

const LIMIT_MS = 15000;
const BACKOFF_LIMIT_S = 15;
/** How long to wait after so many failures in a row, seconds. */
export const backoff = (failures) => Math.min(BACKOFF_LIMIT_S, 2 ** failures);
//: What is worth asking again only after so long may take long (KPIs).
const DEAR_REFRESH_S = 30;

export async function ask(path, parameters = {}, signal = undefined) {
  const url = new URL(path, location.href);
  for (const [key, value] of Object.entries(parameters)) url.searchParams.set(key, value);
  const answer = await fetch(url, { signal: AbortSignal.any([AbortSignal.timeout(LIMIT_MS), signal].filter(Boolean)) });
  const body = await answer.json();
  if (!answer.ok) throw new Error(body.error ?? `HTTP ${answer.status}`);
  return body;
}

/** Askers that share nothing but what is drawn: what takes long never keeps what is quick waiting. */
export class Askers {
  constructor(queries, { round, parameters, ...hooks }) {
    const troubles = [];
    const lane = (quick, i) => new Asker(
      Object.fromEntries(Object.entries(queries).filter(([, refresh_s]) => (refresh_s < DEAR_REFRESH_S) === quick)),
      { ...hooks, parameters: { ...parameters }, round: (trouble, wait_s) => { troubles[i] = { trouble, wait_s }; round(troubles.find((one) => one?.trouble) ?? { trouble: "", wait_s }); } });
    this.lanes = [true, false].map(lane);
  }

  get running() { return this.lanes[0].running; }

  show(parameters, names) {
    for (const one of this.lanes) {
      const own = names?.filter((name) => one.queries.has(name));
      // What it has not, it need not ask again.
      if (own && !own.length) one.go(); else one.show(parameters, own);
    }
  }

  go() {
    for (const one of this.lanes) one.go();
  }
}

/** Asks each query when it is due and `wanted(query)`. `hear(query, rows, at)`, `fail(query)`, `round(problem)` draw. */
class Asker {
  constructor(queries, { hear, fail, round, wanted, parameters }) {
    this.queries = new Map(Object.entries(queries).map(([name, refresh_s]) => [name, { refresh_s, due: 0, text: "" }]));
    Object.assign(this, { hear, fail, round, wanted, parameters, failures: 0, running: false, generation: 0 });
    document.addEventListener("visibilitychange", () => document.hidden || this.go());
  }

  /** Ask with other parameters: what is named is due, and answers under way no longer count. */
  show(parameters, names = [...this.queries.keys()]) {
    Object.assign(this.parameters, parameters);
    this.generation += 1;
    this.asking?.abort();
    for (const name of names) Object.assign(this.queries.get(name), { due: 0, text: "" });
    this.go();
  }

  async go() {
    clearTimeout(this.timer);
    if (this.running) return;
    this.running = true;
    try {
      if (!document.hidden) await this.once();
    } finally {
      this.running = false;
      const next = Math.min(...this.asked().map(([, query]) => query.due));
      // While hidden nothing is asked, nor while nothing is wanted; coming back asks at once.
      if (!document.hidden && next < Infinity) this.timer = setTimeout(() => this.go(), Math.max(200, next - Date.now()));
    }
  }

  asked() {
    return [...this.queries].filter(([name]) => this.wanted(name));
  }

  async once() {
    const now = Date.now();
    // Queries due within the next half second come along: fewer requests, the same freshness.
    const due = this.asked().filter(([, query]) => query.due <= now + 500).map(([name]) => name);
    if (!due.length) return;
    const generation = this.generation;
    this.asking = new AbortController();
    let answer;
    try {
      const given = Object.entries(this.parameters).filter(([, value]) => value !== "");
      answer = await ask("/api/tiles", { names: due.join(","), ...Object.fromEntries(given) }, this.asking.signal);
    } catch {
      answer = null;
    }
    // Asked before the question changed: nobody waits for it any more.
    if (generation !== this.generation) return;
    const failed = due.filter((name) => !answer || answer.tiles[name].error);
    this.failures = failed.length ? this.failures + 1 : 0;
    const wait_s = backoff(this.failures);
    for (const name of due) {
      const query = this.queries.get(name);
      if (failed.includes(name)) {
        query.due = Date.now() + wait_s * 1000;
        this.fail(name, answer?.tiles[name].error);
        continue;
      }
      query.due = now + query.refresh_s * 1000;
      const { rows, at } = answer.tiles[name];
      const text = JSON.stringify(rows);
      this.hear(name, rows, at, text !== query.text);
      query.text = text;
    }
    this.round(!answer ? "offline" : failed.length ? "failed" : "", wait_s);
  }
}
