// Takes photos in by choosing, camera, drop and paste, and asks the service about each.

import { binTag, learnBins, learnSites, placeTag, showAnswer, showProblem } from "./result.js";

const AT_ONCE = 3; // requests in flight; one photo each, so that answers appear as they come
// While the queue is full, and while this client has sent more than it may a second: what it sends
// at once gets in its own way, so that this takes more tries.
const RETRIES = new Map([[503, 3], [429, 30]]);
const LONGEST_WAIT_S = 60; // for one of them
const find = (id) => document.getElementById(id);

const waiting = [];
let running = 0;
let key = sessionStorage.getItem("client-key"); // of this tab, and gone with it
let locked = []; // what is to be asked again with a key

function add(files) {
  const photos = [...files];
  if (!photos.length) return;
  showResults(true);
  const cards = photos.map(cardFor);
  find("results").prepend(...cards);
  photos.forEach((photo, i) => waiting.push({ photo, card: cards[i] }));
  cards[0].scrollIntoView({ block: "nearest" });
  next();
}

function showResults(shown) {
  find("results-section").hidden = !shown;
  document.documentElement.classList.toggle("answered", shown);
}

function cardFor(photo) {
  const card = find("card").content.firstElementChild.cloneNode(true);
  const image = card.querySelector("img");
  card.querySelector(".name").textContent = photo.name || "Pasted photo";
  image.addEventListener("error", () => {
    image.hidden = true; // a format that this browser cannot show, or no image at all
    card.querySelector(".no-preview").hidden = false;
  });
  image.src = URL.createObjectURL(photo);
  return card;
}

function next() {
  while (running < AT_ONCE && waiting.length) {
    const job = waiting.shift();
    running += 1;
    ask(job).finally(() => {
      running -= 1;
      next();
    });
  }
}

async function ask({ photo, card }) {
  const body = card.querySelector(".body");
  const name = photo.name || "Pasted photo";
  const again = () => {
    waiting.push({ photo, card });
    body.replaceChildren(find("card").content.querySelector(".waiting").cloneNode(true));
    next();
  };
  await introduced; // or it would be asked for no site, whichever was chosen in this tab
  const asked = key;
  try {
    const response = await post(photo);
    if (response.status === 401 && asked !== key) return again(); // another key was given meanwhile
    const answer = await response.json().catch(() => byProxy(response.status));
    if (response.status === 401) {
      locked.push(again);
      askForKey();
    }
    announce(
      response.ok
        ? showAnswer(body, answer.results[0], name)
        : showProblem(body, answer, name, again),
    );
  } catch {
    announce(showProblem(body, { reason: "unreachable" }, name, again));
  }
}

// What stands between may answer in its own way, without problem details.
function byProxy(status) {
  return { reason: status === 413 ? "too_large" : "", title: `The answer was an error (${status}).` };
}

async function post(photo) {
  const left = new Map(RETRIES);
  for (;;) {
    const form = new FormData();
    form.append("file", photo, photo.name || "photo");
    const response = await fetch(`v1/classify${bySite()}`, { method: "POST", body: form, headers: withKey() });
    const seconds = Number(response.headers.get("Retry-After")) || 1;
    if (!left.get(response.status) || seconds > LONGEST_WAIT_S) return response;
    left.set(response.status, left.get(response.status) - 1);
    await new Promise((resume) => setTimeout(resume, 1000 * seconds));
  }
}

const bySite = () => (find("site").value ? `?site=${encodeURIComponent(find("site").value)}` : "");

const withKey = () => (key ? { "X-API-Key": key } : {});

function askForKey() {
  const form = find("key-form");
  if (!form.hidden) return;
  form.hidden = false;
  find("key").focus();
}

find("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  key = find("key").value.trim();
  sessionStorage.setItem("client-key", key);
  find("key-form").hidden = true;
  const again = locked;
  locked = [];
  again.forEach((one) => one());
  introduce();
});

function announce(text) {
  find("announce").textContent = text;
}

function clear() {
  waiting.length = 0;
  for (const image of document.querySelectorAll("#results img")) URL.revokeObjectURL(image.src);
  find("results").replaceChildren();
  showResults(false);
  find("choose").focus();
}

find("clear").addEventListener("click", clear);
document.addEventListener("paste", (event) => add(event.clipboardData?.files ?? []));

// A camera button is of use where there is a hand-held camera, which a touch screen tells best.
document.documentElement.classList.toggle("touch", navigator.maxTouchPoints > 0);

// The whole page takes a drop, so that a near miss does not open the photo instead.
let depth = 0;
const over = (by) => {
  depth = Math.max(0, depth + by);
  find("intake").classList.toggle("over", depth > 0);
};
document.addEventListener("dragenter", () => over(1));
document.addEventListener("dragleave", () => over(-1));
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => {
  event.preventDefault();
  over(-depth);
  add(event.dataTransfer.files);
});

async function introduce() {
  const asked = key;
  const response = await fetch("v1/models", { headers: withKey() }).catch(() => null);
  if (response?.status === 401 && asked === key) askForKey();
  if (!response?.ok) return; // the page works without
  const { models } = await response.json();
  const model = models.find((one) => one.default && !one.error);
  if (!model) return;
  learnBins(model);
  find("footer").textContent = `Model ${model.name}, version ${model.version}`;
  await introduceSites(model);
  tellBins(model);
}

// Whose bins: those of a site whose rules fit the model, or the model's superclasses as they are.
async function introduceSites(model) {
  const response = await fetch("v1/sites", { headers: withKey() }).catch(() => null);
  if (!response?.ok) return;
  const answer = await response.json();
  const fitting = answer.sites.filter((one) => model.superclasses.every((name) => name in one.superclasses));
  if (!fitting.length) return;
  learnSites(fitting);
  const select = find("site");
  const options = fitting.map((one) => new Option(inLanguage(one.name, one.languages), one.site));
  if (!answer.default) options.unshift(new Option("nowhere in particular", ""));
  select.replaceChildren(...options);
  const wanted = sessionStorage.getItem("site") ?? answer.default ?? "";
  select.value = options.some((one) => one.value === wanted) ? wanted : options[0].value;
  select.onchange = () => {
    sessionStorage.setItem("site", select.value);
    tellBins(model);
  };
  find("sites").hidden = false;
  sites = fitting;
}

let sites = [];
function tellBins(model) {
  const site = sites.find((one) => one.site === find("site").value);
  const tags = site
    ? site.choices.filter((one) => one.choice !== "manual").map((one) => placeTag(one.colour, inLanguage(one.name, site.languages)))
    : model.superclasses.map(binTag);
  find("bins").replaceChildren("Sorts into ", ...tags);
  find("bins").hidden = false;
}

// As the service does by Accept-Language.
function inLanguage(texts, languages) {
  const spoken = navigator.languages.map((one) => one.split("-")[0]);
  return texts[spoken.find((one) => languages.includes(one)) ?? languages[0]];
}
const introduced = introduce().catch(() => {});

for (const id of ["choose", "camera"]) {
  const input = find(id);
  const take = () => {
    add(input.files);
    input.value = ""; // so that the same photo can be chosen again
  };
  input.addEventListener("change", take);
  take(); // what was chosen before this script was here
}
