// From rows of counts to what the charts show. Hours are UTC in the data and local here.

const HOUR_MS = 3_600_000;
const MOST_HOURS = 72; // as bars of their own; beyond that there is one for each day

export const WHY = {
  hazard: "Something hazardous may be there",
  doubt: "The photo is no ground to decide on",
  rule: "It belongs into no bin, by the rules",
  expected_cost: "A mistake would cost more than a look",
  threshold: "Not sure enough for any bin",
};

const local = (options) => new Intl.DateTimeFormat(undefined, options);
const HOUR = local({ weekday: "short", hour: "2-digit", minute: "2-digit" });
const DAY = local({ day: "numeric", month: "short" });
const WHOLE_HOUR = local({ dateStyle: "medium", timeStyle: "short" });
const WHOLE_DAY = local({ dateStyle: "medium" });
const UTC_DAY = local({ day: "numeric", month: "short", timeZone: "UTC" });
const WHOLE_UTC_DAY = local({ dateStyle: "medium", timeZone: "UTC" });

export const zone = () => Intl.DateTimeFormat().resolvedOptions().timeZone;

// Every bar of the chart in order, whether anything came or not, and which of them a time belongs to.
// An hour that comes twice when clocks go back is two bars; a day of 23 or 25 hours is one.
export function timeline({ since, until, daily }) {
  const start = Date.parse(since);
  const end = Date.parse(until);
  const step = daily ? 24 * HOUR_MS : HOUR_MS;
  const hourly = !daily && (end - start) / HOUR_MS <= MOST_HOURS;
  const [short, long] = daily ? [UTC_DAY, WHOLE_UTC_DAY] : hourly ? [HOUR, WHOLE_HOUR] : [DAY, WHOLE_DAY];
  const bars = [];
  const placeOf = new Map();
  const seen = new Map();
  for (let time = start - (start % step); time < end; time += step) {
    const name = hourly || daily ? time : long.format(time);
    if (!seen.has(name)) {
      seen.set(name, bars.length);
      bars.push({ label: short.format(time), title: long.format(time), time });
    }
    placeOf.set(time, seen.get(name));
  }
  return { bars, placeOf, hourly };
}

const nothing = () => ({ photos: 0, manual: 0, alerts: 0, wrong: 0 });

function add(to, row) {
  to.photos += row.photos;
  to.manual += row.manual;
  to.alerts += row.alerts;
  to.wrong += row.expected_wrong;
}

// All that is shown of one site: in total, by bin, by reason, and bar by bar.
export function figuresOf(data, places) {
  const rows = data.rows.filter((row) => (row.site ?? "") === data.site);
  const time = timeline(data);
  const total = nothing();
  const bins = new Map(places.map((place) => [place.choice, { ...nothing(), ...place }]));
  const reasons = new Map();
  const stacks = time.bars.map(() => new Map());
  for (const row of rows) {
    add(total, row);
    if (!bins.has(row.bin)) bins.set(row.bin, { ...nothing(), choice: row.bin, name: row.bin, colour: "var(--quiet)" });
    add(bins.get(row.bin), row);
    if (row.reason) reasons.set(row.reason, (reasons.get(row.reason) ?? 0) + row.photos);
    const place = time.placeOf.get(Date.parse(row.hour ?? row.day));
    if (place !== undefined) stacks[place].set(row.bin, (stacks[place].get(row.bin) ?? 0) + row.photos);
  }
  const shown = [...bins.values()].filter((bin) => bin.photos);
  return { total, bins: shown, reasons: [...reasons].sort((a, b) => b[1] - a[1]), time, stacks };
}

export function percent(share) {
  if (share > 0 && share < 0.001) return "under 0.1%";
  const digits = share < 0.1 ? 1 : 0;
  return `${(100 * share).toFixed(digits)}%`;
}

const FEW = 30;

// What a bin's estimated contamination means.
export function inWords({ photos, wrong }) {
  const share = wrong / photos;
  const about = share < 0.005 ? "Fewer than 1 of 100 things" : `About ${Math.round(100 * share)} of 100 things`;
  const little = photos < FEW ? ` From ${photos} ${photos === 1 ? "photo" : "photos"} alone, that says little.` : "";
  return `${about} in it ${share >= 0.005 && Math.round(100 * share) === 1 ? "is" : "are"} expected to belong elsewhere.${little}`;
}
