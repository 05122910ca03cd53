// Asks the service for a report: of which time, site and line.

import { ALL, draw, siteOptions } from "./report-view.js";

const DAY_MS = 86_400_000;
const DAILY_FROM = 60; // days; then the service adds up days, those of UTC
const find = (id) => document.getElementById(id);

let key = sessionStorage.getItem("client-key"); // of this tab, as on the page for photos
let sites = [];
let newest = 0; // only the answer to the last question is shown

const withKey = (headers = {}) => (key ? { ...headers, "X-API-Key": key } : headers);

class Refused extends Error {
  constructor(status, problem) {
    super(problem.detail ?? problem.title ?? `The answer was an error (${status}).`);
    this.status = status;
    this.reason = problem.reason ?? "";
  }
}

async function ask(path, headers) {
  const response = await fetch(path, { headers: withKey(headers) });
  if (!response.ok) throw new Refused(response.status, await response.json().catch(() => ({})));
  return response;
}

function question(by, only = {}) {
  const days = Number(find("period").value);
  const from = new Date(Date.now() - days * DAY_MS).toISOString();
  const asked = new URLSearchParams({ from, ...only });
  for (const one of by) asked.append("by", one);
  return `v1/composition?${asked}`;
}

const timeUnit = () => (Number(find("period").value) > DAILY_FROM ? "day" : "hour");
const only = () => ({
  ...(find("site").value !== ALL && { site: find("site").value }),
  ...(find("line").dataset.all !== find("line").value && { line: find("line").value }),
});

async function load() {
  const mine = (newest += 1);
  try {
    if (!sites.length) sites = (await (await ask("v1/sites")).json()).sites;
    const { rows } = await (await ask(question(["site", "line"]))).json();
    if (mine !== newest) return;
    offer(rows);
    const report = await charted();
    if (mine !== newest) return;
    find("trouble").hidden = true;
    draw({ ...report, site: find("site").value, sites });
  } catch (error) {
    if (mine === newest) tell(error);
  }
}

async function charted() {
  const [report, unit] = await byTime((by) => ask(question([by, "site", "bin", "reason"], only())).then((one) => one.json()));
  return { ...report, daily: unit === "day" };
}

// What is asked hour by hour where the answer may be so long, else day by day; and which it was.
async function byTime(of) {
  const unit = timeUnit();
  try {
    return [await of(unit), unit];
  } catch (error) {
    if (error.reason !== "report_too_large" || unit === "day") throw error;
    return [await of("day"), "day"];
  }
}

// The sites and lines that something came from; what was chosen stays.
function offer(rows) {
  refill(find("site"), siteOptions(rows, sites));
  const site = find("site").value;
  const there = rows.filter((row) => site === ALL || (row.site ?? "") === site);
  const lines = [...new Set(there.map((row) => row.line ?? ""))].sort();
  const all = "all lines"; // no line is called so: a tag has no blanks
  find("line").dataset.all = all;
  refill(find("line"), [new Option("all", all), ...lines.map((line) => new Option(line || "not told", line))]);
}

function refill(select, options) {
  const before = select.value;
  const same = options.some((one) => one.value === before) && select.options.length;
  select.replaceChildren(...options);
  select.value = same ? before : options[0].value;
}

function tell(error) {
  if (error.status === 401) {
    find("key-form").hidden = false;
    find("key").focus();
  }
  const words = error instanceof Refused ? error.message : "The service cannot be reached. Are you online?";
  find("trouble").textContent = error.status === 401 ? (key ? "The service did not accept the key." : "This service asks for a key.") : words;
  find("trouble").hidden = false;
}

async function save() {
  find("csv-note").textContent = "";
  try {
    const csv = { Accept: "text/csv" };
    const [blob, unit] = await byTime((by) => ask(question([by, "site", "line", "bin", "reason"], only()), csv).then((one) => one.blob()));
    if (unit !== timeUnit()) find("csv-note").textContent = "Saved by days, those of UTC: by hours it would have too many rows.";
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = "composition.csv";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  } catch (error) {
    tell(error);
  }
}

for (const id of ["period", "site", "line"]) find(id).addEventListener("change", load);
find("controls").addEventListener("submit", (event) => event.preventDefault());
find("csv").addEventListener("click", save);
find("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  key = find("key").value.trim();
  sessionStorage.setItem("client-key", key);
  find("key-form").hidden = true;
  load();
});
load();
