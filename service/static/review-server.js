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
  get key() { return sessionStorage.getItem("reviewer-key") ?? ""; }, // which opens no other page
  set(name, key) {
    sessionStorage.setItem("reviewer", name);
    sessionStorage.setItem("reviewer-key", key);
  },
  forget() {
    for (const one of ["reviewer", "reviewer-key"]) sessionStorage.removeItem(one);
  },
};

// By default in the name of whoever is signed in, and for half a minute, the answer's body included.
export async function ask(path, method = "GET", body = null, { reviewer = person.name, signal = AbortSignal.timeout(30_000) } = {}) {
  const headers = { "X-API-Key": person.key, "X-Reviewer": reviewer };
  if (body) headers["Content-Type"] = "application/json";
  const response = await fetch(`v1/review/${path}`, { method, headers, body: body && JSON.stringify(body), signal });
  if (!response.ok) throw new Refused(response.status, await response.json().catch(() => ({})));
  return response;
}

// Only what the service itself says, by a reason, is taken for its word: what stands between may
// answer 404, or anything, while the service restarts.
export const isGone = ({ reason }) => reason === "photo_gone";
const isNameless = ({ reason }) => reason === "reviewer_nameless";
export const asksWho = (error) => ([401, 403].includes(error.status) && error.reason !== "") || isNameless(error);

// Of anything else another try may help: the network, a restart, a queue.
const isFinal = (error) => isGone(error) || (error.status === 422 && error.reason !== "" && !isNameless(error));

// What reviewers said and nobody has heard yet. Each word is sent in the name of whoever said it,
// and waits while somebody else is signed in.
export class Outbox {
  // `changed` hears of every change: how much waits, and the error that holds it up, if any.
  // `lost` hears of a word that the service refuses for good.
  constructor(changed, lost) {
    this._waiting = JSON.parse(sessionStorage.getItem(KEPT) ?? "[]");
    this._changed = changed;
    this._lost = lost;
    this._sent = null; // the word that is on its way
    this._busy = false;
    this._wake = () => {};
    addEventListener("online", () => this._wake());
    addEventListener("beforeunload", (event) => {
      if (this._waiting.length) event.preventDefault();
    });
  }

  get _mine() { return this._waiting.filter((one) => one.reviewer === person.name); }
  get size() { return this._mine.length; }
  get reviews() {
    return this._mine.filter((one) => one.method === "PUT" && one.path.endsWith("/verdict")).length;
  }

  // How many words of whom else wait.
  get others() {
    const names = this._waiting.map((one) => one.reviewer).filter((name) => name !== person.name);
    return [...new Set(names)].map((name) => [name, names.filter((one) => one === name).length]);
  }

  holds(id) { return this._mine.some((one) => one.id === id); }

  put(word) {
    this._waiting.push({ ...word, reviewer: person.name });
    this._keep();
    this.run();
  }

  // Take back the last word on a photo, where nobody has heard it yet.
  withdraw(id) {
    const last = this._mine.findLast((one) => one.id === id);
    if (!last || last === this._sent) return false;
    this._drop(last);
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
    while ((this._sent = this._mine[0])) {
      const word = this._sent;
      const { key } = person;
      const error = await this._send(word);
      const another = word.reviewer !== person.name || key !== person.key; // signed in meanwhile
      if (!error || (isFinal(error) && !another)) {
        this._drop(word);
        pause = 1;
        if (error) this._lost(word, error);
        this._keep();
      } else if (!another) {
        this._changed(error);
        if (asksWho(error)) break; // goes on once there is another key
        await this._rest(pause);
        pause = Math.min(2 * pause, LONGEST_PAUSE_S);
      }
    }
    this._sent = null;
    this._busy = false;
  }

  // Gives back what went wrong, if anything.
  _send({ path, method, body, reviewer }) {
    return ask(path, method, body, { reviewer }).then(() => null, (error) => error);
  }

  _drop(word) { this._waiting.splice(this._waiting.indexOf(word), 1); }

  _rest(seconds) {
    return new Promise((resume) => {
      const timer = setTimeout(resume, 1000 * seconds);
      this._wake = () => { clearTimeout(timer); resume(); };
    }).finally(() => { this._wake = () => {}; });
  }

  _keep() {
    if (this._waiting.length) sessionStorage.setItem(KEPT, JSON.stringify(this._waiting));
    else sessionStorage.removeItem(KEPT);
    this._changed(null);
  }
}
