// Talks to the service about reviews: what is read comes at once or not at all, what is written is
// tried until it is saved, in order, and outlives a reload of the page.

const LONGEST_PAUSE_S = 15;
const KEPT = "review-outbox";

export class Refused extends Error {
  constructor(status, problem) {
    super(problem.detail ?? problem.title ?? `The answer was an error (${status}).`);
    this.status = status;
    this.reason = problem.reason ?? "";
  }
}

export const person = {
  get name() { return sessionStorage.getItem("reviewer") ?? ""; },
  get key() { return sessionStorage.getItem("key") ?? ""; },
  set(name, key) {
    sessionStorage.setItem("reviewer", name);
    sessionStorage.setItem("key", key);
  },
  forget() {
    for (const one of ["reviewer", "key", KEPT]) sessionStorage.removeItem(one);
  },
};

export async function ask(path, method = "GET", body) {
  const headers = { "X-API-Key": person.key, "X-Reviewer": person.name };
  if (body) headers["Content-Type"] = "application/json";
  const response = await fetch(`v1/review/${path}`, {
    method, headers, body: body && JSON.stringify(body), signal: AbortSignal.timeout(30_000),
  });
  if (!response.ok) throw new Refused(response.status, await response.json().catch(() => ({})));
  return response;
}

// Another try may help: the network, a restart, a queue.
const passes = (error) => !(error instanceof Refused) || error.status >= 500 || error.status === 429;

export class Outbox {
  // `changed` hears of every change: how much waits, and the error that holds it up, if any.
  // `lost` hears of a word that the service refuses for good.
  constructor(changed, lost) {
    this._waiting = JSON.parse(sessionStorage.getItem(KEPT) ?? "[]");
    this._changed = changed;
    this._lost = lost;
    this._busy = false;
    this._wake = () => {};
    addEventListener("online", () => this._wake());
    addEventListener("beforeunload", (event) => {
      if (this._waiting.length) event.preventDefault();
    });
  }

  get size() { return this._waiting.length; }
  get reviews() {
    return this._waiting.filter((one) => one.method === "PUT" && one.path.endsWith("/verdict")).length;
  }

  holds(id) { return this._waiting.some((one) => one.id === id); }

  put(word) {
    this._waiting.push(word);
    this._keep();
    this.run();
  }

  // Take back the last word on a photo, where nobody has heard it yet.
  withdraw(id) {
    const last = this._waiting.findLastIndex((one) => one.id === id);
    if (last < 0 || (last === 0 && this._busy)) return false;
    this._waiting.splice(last, 1);
    this._keep();
    return true;
  }

  async run() {
    if (this._busy) {
      this._wake();
      return;
    }
    this._busy = true;
    let pause = 1;
    while (this._waiting.length) {
      const word = this._waiting[0];
      let held = null;
      let refused = null;
      try {
        await ask(word.path, word.method, word.body);
      } catch (error) {
        if (error.status === 401 || error.status === 403 || passes(error)) held = error;
        else refused = error;
      }
      if (held) {
        this._changed(held);
        if (held.status === 401 || held.status === 403) break; // goes on once there is another key
        await this._rest(pause);
        pause = Math.min(2 * pause, LONGEST_PAUSE_S);
      } else {
        this._waiting.shift();
        pause = 1;
        if (refused) this._lost(word, refused);
        this._keep();
      }
    }
    this._busy = false;
  }

  _rest(seconds) {
    return new Promise((resume) => {
      const timer = setTimeout(resume, 1000 * seconds);
      this._wake = () => { clearTimeout(timer); resume(); };
    }).finally(() => { this._wake = () => {}; });
  }

  _keep() {
    sessionStorage.setItem(KEPT, JSON.stringify(this._waiting));
    this._changed(null);
  }
}

export async function download(path, name) {
  const blob = await (await ask(path)).blob();
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  return blob;
}
