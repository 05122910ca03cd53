// Puts a report of one site, or of all, on the page: four charts, each with its table, and a line that says it all.

import { element, horizontal, stacked, table } from "./report-charts.js";
import { PERSON, apart } from "./report-colours.js";
import { WHY, figuresOf, inWords, percent, zone } from "./report-figures.js";

const SUPERCLASSES = { hazardous: "var(--bin-3)", organic: "var(--bin-2)", recyclable: "var(--bin-0)", residual: "var(--bin-1)" };
const find = (id) => document.getElementById(id);
const count = (number) => number.toLocaleString();
const title = (name) => name.replace(/[_-]+/g, " ").replace(/^./, (first) => first.toUpperCase());

let shown = null; // for another width

// As the service does by Accept-Language.
export function inLanguage(texts, languages) {
  const spoken = navigator.languages.map((one) => one.split("-")[0]);
  return texts[spoken.find((one) => languages.includes(one)) ?? languages[0]];
}

export const ALL = "all sites"; // no site is called so: a tag has no blanks

export function siteName(name, sites) {
  if (name === ALL) return ALL;
  const site = sites.find((one) => one.site === name);
  if (site) return inLanguage(site.name, site.languages);
  return name || "nowhere in particular";
}

// That something came from, those with most first.
function sitesOf(rows) {
  const photos = new Map();
  for (const row of rows) photos.set(row.site ?? "", (photos.get(row.site ?? "") ?? 0) + row.photos);
  return [...photos].sort((a, b) => b[1] - a[1]).map(([name]) => name);
}

// The sites to choose from; of several first all of them together.
export function siteOptions(rows, sites) {
  const names = sitesOf(rows);
  const offered = names.length > 1 ? [ALL, ...names] : names.length ? names : [""];
  return offered.map((name) => new Option(siteName(name, sites), name));
}

// A report with the bins that it is to be drawn by. Of all sites those that are called alike and
// mean the same are one bin; others that are called alike have their site's name beside theirs.
function withPlaces(data) {
  if (data.site !== ALL) return { data, places: placesOf(data) };
  const known = new Map();
  const bins = new Map(); // of a site's bin, the one that it is drawn as
  for (const site of sitesOf(data.rows)) {
    for (const place of placesOf({ ...data, site })) {
      const manual = place.choice === "manual";
      const choice = manual ? "manual" : `${place.choice} ${place.name}`;
      bins.set(`${site} ${place.choice}`, choice);
      const before = known.get(choice);
      if (!before) known.set(choice, { ...place, choice, site });
      else if (manual && before.name !== place.name) Object.assign(before, TO_A_PERSON);
    }
  }
  const named = [...known.values()];
  const places = named.map((place) => {
    const alike = named.some((one) => one !== place && one.name === place.name);
    return alike ? { ...place, name: `${place.name} (${siteName(place.site, data.sites)})` } : place;
  }).sort(manualLast);
  const rows = data.rows.map((row) => ({ ...row, site: ALL, bin: bins.get(`${row.site ?? ""} ${row.bin}`) }));
  return { data: { ...data, rows }, places };
}

const TO_A_PERSON = { name: "To a person", colour: PERSON };
const manualLast = (a, b) => (a.choice === "manual") - (b.choice === "manual");

// The site's bins in its own order and words, what goes to a person last.
function placesOf({ site: name, sites, rows }) {
  const site = sites.find((one) => one.site === name);
  const named = (site?.choices ?? []).map(({ choice, colour, name: texts }) => ({
    choice, colour, name: inLanguage(texts, site.languages),
  }));
  const known = new Set(named.map((one) => one.choice));
  const others = [...new Set(rows.filter((row) => (row.site ?? "") === name).map((row) => row.bin))]
    .filter((bin) => !known.has(bin)).sort()
    .map((bin, i) => ({
      choice: bin,
      name: title(bin),
      colour: SUPERCLASSES[bin] ?? `var(--bin-${i % 8})`,
      ...(bin === "manual" && TO_A_PERSON),
    }));
  return [...named, ...others].sort(manualLast);
}

export function draw(asked) {
  const { data, places } = withPlaces(asked);
  const figures = figuresOf(data, places);
  figures.bins = apart(figures.bins);
  shown = { data, figures };
  find("charts").hidden = !figures.total.photos;
  find("summary").textContent = summary(figures);
  if (!figures.total.photos) return;
  drawTime(data, figures);
  drawShares(figures);
  drawContamination(figures);
  drawManual(figures);
}

function summary({ total }) {
  if (!total.photos) return "Nothing came in this time.";
  const into = total.photos - total.manual;
  const parts = [`${count(total.photos)} ${total.photos === 1 ? "photo" : "photos"}: ${count(into)} into bins, ${count(total.manual)} to a person`];
  if (into) parts.push(`${percent(total.wrong / into)} of what is in bins is expected to belong elsewhere`);
  if (total.alerts) parts.push(`${count(total.alerts)} ${total.alerts === 1 ? "alert" : "alerts"} about something hazardous`);
  return `${parts.join("; ")}.`;
}

function drawTime({ daily }, { bins, time, stacks }) {
  find("legend").replaceChildren(...bins.map(({ name, colour }) => {
    const dot = element("span", "dot");
    dot.style.setProperty("--bin", colour);
    return element("li", "tag", dot, name);
  }));
  const unit = time.hourly ? "hour" : "day";
  const box = find("over-time");
  const label = `Photos by ${unit} and bin, ${time.bars[0].title} to ${time.bars.at(-1).title}; the figures are in the table below`;
  box.replaceChildren(stacked({ bars: time.bars, stacks, parts: bins, label, width: Math.max(box.clientWidth, 240) }));
  find("over-time-note").textContent = daily ? `Photos by ${unit}. Days are those of UTC.` : `Photos by ${unit}. Times are those of ${zone()}.`;
  const rows = time.bars.flatMap(({ title: name }, i) =>
    stacks[i].size ? [[name, ...bins.map(({ choice }) => count(stacks[i].get(choice) ?? 0))]] : []);
  find("over-time-table").replaceChildren(table(`Photos by ${unit} and bin`, [title(unit), ...bins.map((bin) => bin.name)], rows));
}

function drawShares({ total, bins }) {
  const share = (bin) => bin.photos / total.photos;
  find("shares").replaceChildren(horizontal(bins.map((bin) => ({
    name: bin.name, colour: bin.colour, share: share(bin), figure: percent(share(bin)),
  }))));
  const rows = bins.map((bin) => [bin.name, count(bin.photos), percent(share(bin))]);
  find("shares-table").replaceChildren(table("Shares of bins", ["Bin", "Photos", "Share"], rows));
}

function drawContamination({ bins }) {
  const filled = bins.filter((bin) => bin.choice !== "manual" && bin.photos);
  const share = (bin) => bin.wrong / bin.photos;
  const longest = Math.max(0.1, ...filled.map(share));
  find("contamination").replaceChildren(horizontal(filled.map((bin) => ({
    name: bin.name, colour: bin.colour, share: share(bin) / longest, figure: percent(share(bin)), words: inWords(bin),
  }))));
  const rows = filled.map((bin) => [bin.name, count(bin.photos), bin.wrong.toFixed(1), percent(share(bin))]);
  find("contamination-table").replaceChildren(
    table("Estimated contamination of bins", ["Bin", "Photos", "Expected wrong", "Share"], rows));
}

function drawManual({ total, reasons }) {
  const told = `${percent(total.manual / total.photos)} of the photos went to a person`;
  find("manual-told").textContent = reasons.length ? `${told}. The first reason why:` : `${told}.`;
  const named = reasons.map(([reason, photos]) => [WHY[reason] ?? reason, photos]);
  find("manual").replaceChildren(horizontal(named.map(([name, photos]) => ({
    name, share: photos / total.manual, figure: percent(photos / total.manual), colour: PERSON,
  }))));
  const rows = named.map(([name, photos]) => [name, count(photos), percent(photos / total.manual), percent(photos / total.photos)]);
  find("manual-table").replaceChildren(
    table("Why a person had to look", ["Reason", "Photos", "Of those to a person", "Of all"], rows));
}

addEventListener("resize", () => {
  if (shown?.figures.total.photos) drawTime(shown.data, shown.figures);
});
