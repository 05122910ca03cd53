// Draws what the service said of one photo; each function gives back what a screen reader hears.

const BIN_COLOURS = 8;
const USUAL = [ // colours that many places use for such bins, as indices of --bin-N
  [/hazard|harm|battery|danger/, 3],
  [/organic|kitchen|food|compost|bio|wet/, 2],
  [/residual|other|general|trash|landfill|dry|non/, 1],
  [/glass/, 5],
  [/plastic|packag/, 4],
  [/recycl|paper/, 0],
];
const IN_WORDS = {
  empty: "This file is empty.",
  too_large: "This photo is too large.",
  request_too_large: "This photo is too large.",
  unsupported_format: "This file is not a photo that can be read here. Try a JPEG or a PNG.",
  broken: "This photo is damaged or incomplete. Try taking it again.",
  queue_full: "Many photos are waiting right now. Try again in a moment.",
  key_refused: "The service did not accept the key, or wants one.",
  rate_limited: "You have sent many photos. Try again in a moment.",
  too_slow: "Many photos are waiting right now. Try again in a moment.",
  deadline: "It took too long. Try again in a moment.",
  stopping: "The service is restarting. Try again in a moment.",
  unreachable: "The service cannot be reached. Are you online?",
};
const DOUBTED = {
  too_dark: "It is too dark: take it again with more light.",
  too_bright: "Much of it is overexposed: take it again with less light.",
  blurred: "It is blurred: hold still and take it again.",
  empty: "There seems to be nothing on it.",
  unfamiliar: "It is like nothing that the model knows, and may be no refuse.",
};
const PASSING = new Set([
  "queue_full", "too_slow", "deadline", "rate_limited", "stopping", "unreachable", "inference",
  "internal_server_error",
]);

const bins = new Map(); // superclass -> colour index
let threshold = null;
const LEAST_SHOWN = 0.005; // share of the attention
let bankItems = null;

const places = new Map(); // site and choice -> its colour and what it is called, by language

export function learnSites(sites) {
  for (const { site, choices } of sites) {
    for (const { choice, colour, name } of choices) places.set(`${site} ${choice}`, { colour, name });
  }
}

export function learnBins(model) {
  model.superclasses.forEach(colourOf);
  threshold = model.confidence_threshold;
  bankItems = model.bank_items;
}

export function colourOf(superclass) {
  if (!bins.has(superclass)) {
    const taken = new Set(bins.values());
    let colour = USUAL.find(([words]) => words.test(superclass.toLowerCase()))?.[1] ?? bins.size;
    for (let i = 0; taken.has(colour % BIN_COLOURS) && i < BIN_COLOURS; i += 1) colour += 1;
    bins.set(superclass, colour % BIN_COLOURS);
  }
  return `var(--bin-${bins.get(superclass)})`;
}

const words = (name) => name.replace(/[_-]+/g, " ");
export const title = (name) => words(name).replace(/^./, (first) => first.toUpperCase());

export function percent(share) {
  if (share > 0.995 && share < 1) return "over 99%";
  if (share > 0 && share < 0.005) return "under 1%";
  return `${Math.round(100 * share)}%`;
}

function element(tag, className, ...children) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.append(...children);
  return made;
}

export function binTag(superclass) {
  const dot = element("span", "dot");
  dot.style.setProperty("--bin", colourOf(superclass));
  return element("span", "tag", dot, title(superclass));
}

export function placeTag(colour, name) {
  const dot = element("span", "dot");
  dot.style.setProperty("--bin", colour);
  return element("span", "tag", dot, name);
}

function binIcon() {
  const box = document.createElement("template");
  box.innerHTML =
    '<svg viewBox="0 0 32 32" aria-hidden="true" focusable="false"><path d="M6 9.5h20M12.5 9V6.5h7V9' +
    "M8.5 9.5 10 26h12l1.5-16.5M13.4 14l.5 7.5M18.6 14l-.5 7.5\"/></svg>";
  return box.content.firstElementChild;
}

function shareRow(label, share, width, colour) {
  const bar = element("i");
  const row = element(
    "li",
    "share",
    label,
    element("span", "figure", percent(share)),
    element("span", "bar", bar),
  );
  row.lastElementChild.setAttribute("aria-hidden", "true");
  if (colour) row.style.setProperty("--bin", colour);
  requestAnimationFrame(() => requestAnimationFrame(() => (bar.style.width = `${100 * width}%`)));
  return row;
}

const WHY_MANUAL = {
  hazard: "There may be something hazardous here.",
  expected_cost: "Not sure enough: a mistake would cost more than a look.",
  threshold: "Not sure enough for any bin.",
};

// By the rules of a site: what the thing goes into, and what to know about it.
function sortedInto({ site, bin, name, colour, language, text, best, probability, reasons }) {
  const sure = percent(probability);
  if (bin !== "manual") return { bin: name, colour, sure: `${sure} sure`, sentence: text };
  const guess = places.get(`${site} ${best}`)?.name[language];
  const why = reasons.map((reason) => WHY_MANUAL[reason]).find(Boolean) ?? "";
  return {
    bin: name,
    colour,
    sure: guess && !reasons.includes("rule") ? `perhaps “${guess}”, ${sure} sure` : "",
    sentence: `${why} ${text}`.trim(),
  };
}

export function showAnswer(body, result, name) {
  const sort = result.decision === "sort";
  const doubted = result.doubts.map((doubt) => DOUBTED[doubt.reason] ?? `${doubt.detail}.`);
  const told = result.sorting ? sortedInto(result.sorting) : null;
  const bin = told?.bin ?? title(result.superclass);
  const sure = told?.sure ?? `${percent(result.confidence)} sure${doubted.length ? ", if the photo were good" : ""}`;
  const chip = element("span", told ? "chip of-site" : "chip", binIcon());
  chip.style.setProperty("--bin", told?.colour ?? colourOf(result.superclass));
  const verdict = element(
    "div",
    "verdict",
    chip,
    element(
      "div",
      "",
      element("p", "bin", bin),
      element("p", "sure", sure),
    ),
  );
  const needed = threshold === null ? "" : ` It takes ${percent(threshold)} to sort without asking.`;
  const sentence = told ? [...doubted, told.sentence].join(" ") : sort
    ? `Sure enough to sort: put it in “${bin}”.`
    : doubted.length
      ? `${doubted.join(" ")} Or let a person look at it.`
      : `Not sure enough to sort: let a person look at it first.${needed}`;
  const asked = result.sorting;
  const ranked = Object.entries((asked ?? result).probabilities).sort((a, b) => b[1] - a[1]);
  const shares = ranked.map(([choice, share]) => {
    const place = asked && places.get(`${asked.site} ${choice}`);
    const called = place?.name[asked.language] ?? title(choice);
    const colour = place?.colour ?? colourOf(choice);
    return shareRow(element("span", "", called), share, share, colour);
  });
  const list = element("ul", "shares", ...shares);
  list.setAttribute("aria-label", "How sure, bin by bin");
  body.replaceChildren(verdict, element("p", `note ${result.decision}`, sentence), list, why(result));
  return `${name}: ${[bin, sure].filter(Boolean).join(", ")}. ${sentence}`;
}

function why(result) {
  const rows = result.references.map((item) => [inWords(item), item.weight]);
  const guided = result.guide.length > 0;
  if (result.self_weight > (guided ? LEAST_SHOWN : 0)) {
    const itself = guided ? ofGuide(result.guide) : element("b", "", "this photo itself");
    rows.push([element("span", "", itself), result.self_weight]);
  }
  rows.sort((a, b) => b[1] - a[1]);
  const most = Math.max(...rows.map((row) => row[1]), 1e-9);
  const list = rows.map(([label, weight]) => shareRow(label, weight, weight / most));
  const guide = guided ? " and a sorting guide in words" : "";
  const details = element(
    "details",
    "",
    element("summary", "", "What the model looked at"),
    element("p", "quiet", `Photos that the model remembers${guide}, by the attention that they got for this answer.`),
    element("ul", "shares small", ...list),
  );
  const rest = 1 - rows.reduce((sum, row) => sum + row[1], 0);
  if (rest > LEAST_SHOWN) {
    const others = bankItems === null ? "" : `${bankItems - result.references.length} `;
    details.append(element("p", "quiet rest", `All ${others}others together: ${percent(rest)}.`));
  }
  details.open = true;
  return details;
}

// What the photo looks like by the words of a sorting guide: many things, of which some are named.
function ofGuide(things) {
  const named = things.map((thing) => `“${thing.name}”`).join(", ");
  return element("span", "", element("b", "", "a sorting guide"), ` (it looks a little like ${named})`);
}

function inWords(item) {
  const kind = item.subclass ?? item.superclass;
  const told = [kind === item.superclass ? "" : words(item.superclass)];
  if (item.source) told.push(`from ${item.source}`);
  const rest = told.filter(Boolean).join(", ");
  return element("span", "", element("b", "", words(kind)), rest ? ` (${rest})` : "");
}

export function showProblem(body, problem, name, again) {
  const sentence = IN_WORDS[problem.reason] ?? problem.title ?? "Something went wrong.";
  const note = element("div", "note bad", element("strong", "", sentence));
  if (problem.detail && problem.reason === "too_large") note.append(element("p", "", `${title(problem.detail)}.`));
  body.replaceChildren(note);
  if (PASSING.has(problem.reason)) {
    const button = element("button", "plain", "Try again");
    button.type = "button";
    button.addEventListener("click", again);
    body.append(button);
  }
  return `${name}: ${sentence}`;
}
