// A person works through the photos that were kept, one key for each.

import { percent, title } from "./result.js";
import { onClick } from "./review-clicks.js";
import { bodyOf, choicesOf, draw, inWords, meanings, optionsOf, pressed } from "./review-choices.js";
import { offerExports } from "./review-exports.js";
import { forgetAlike, guessParts, showAlike } from "./review-guess.js";
import { isUnfit, tellKind, typedKind } from "./review-kind.js";
import { forgetKind, learnKinds } from "./review-kinds.js";
import { fetchPhoto, forgetPhotos, paint } from "./review-photos.js";
import { showFigures } from "./review-progress.js";
import { ask, asksWho, isGone, Outbox, person } from "./review-server.js";
import { othersWait, refusal, trouble } from "./review-trouble.js";
import { Zoom } from "./review-zoom.js";

const AHEAD = 4; // photos fetched before they are looked at
const NOTICED_MS = 600; // after which it has been seen that something else is there
const REMEMBERED = 30; // words that can be taken back
const find = (id) => document.getElementById(id);

let tasks = []; // the first is before the reviewer
let history = []; // of { task, said }, the last at the end
let choices = []; // superclasses, and none
let sites = {}; // of the photos, those that have bins
let options = []; // what can be said of the photo that is before the reviewer
let within = null; // the bin that was said, where a second key says what it stands for
let progress = null;
let skipped = false; // whether those that were skipped are looked at
let seen = 0; // the last of the skipped ones that was looked at again
let fetching = false;
let stale = false; // what is being fetched is out of date already
let later = 0; // the timer of the next try
let ended = false; // the service has no more, for now
let showing = 0; // how often a photo was put before the reviewer
let unasked = false; // whether what is there came while another photo was looked at, or other bins
let recalled = null; // whose words of before this tab are in the history
const gone = new Set(); // ids of photos that could not be fetched any more
const outbox = new Outbox(held, lost);
const zoom = new Zoom(find("stage"), find("photo"), (zoomed) => find("zoom").setAttribute("aria-pressed", zoomed));

const midnight = () => new Date().setHours(0, 0, 0, 0) / 1000;
const announce = (text) => { find("announce").textContent = text; };

// Photos in.

async function fill() {
  if (fetching) {
    stale = true;
    return;
  }
  fetching = true;
  stale = false;
  try {
    const limit = Math.min(16, AHEAD + outbox.size);
    const words = { limit, skipped, after: skipped ? seen : 0, since: midnight() };
    const asked = person.name;
    const answer = await (await ask("queue", "POST", words)).json();
    if (asked !== person.name) return; // `stale` by now
    [choices, progress] = [choicesOf(answer), answer.progress];
    const rules = () => JSON.stringify(sites[tasks[0]?.site]);
    const before = rules();
    answer.tasks.forEach((task) => { sites[task.site] = answer.sites[task.site]; });
    const other = rules() !== before; // the site's file is another one
    learnKinds(find("kinds"), answer.kinds, answer.kind_superclasses);
    const known = new Set(tasks.map((task) => task.id));
    const fresh = answer.tasks.filter((task) => !known.has(task.id) && !gone.has(task.id) && !outbox.holds(task.id));
    const first = !tasks.length;
    // What was said meanwhile is not asked once more.
    tasks.push(...fresh.filter((task) => !history.some((one) => one.task.id === task.id)));
    ended = !tasks.length;
    if (!outbox.size) trouble(null);
    tasks.forEach((task) => fetchPhoto(task.id));
    if (first || !find("choices").childElementCount) show();
    else if (other) showUnasked();
    else showProgress();
    if (recalled !== person.name) recall();
  } catch (error) {
    if (!stale) failed(error);
  } finally {
    fetching = false;
    if (stale) fill();
  }
}

// What was said before this tab was opened can be taken back, too.
async function recall() {
  const asked = person.name;
  recalled = asked;
  try {
    const { verdicts, sites: theirs } = await (await ask(`verdicts?limit=${REMEMBERED}`)).json();
    if (asked !== person.name) return;
    const known = new Set(history.map((one) => one.task.id));
    sites = { ...theirs, ...sites };
    const before = verdicts.filter(({ task }) => !known.has(task.id) && !outbox.holds(task.id)).reverse();
    history = [...before.map(({ task, ...said }) => ({ task: { ...task, kind: said.subclass ?? "" }, said: inWords(said, theirs[task.site], choices) })), ...history].slice(-REMEMBERED);
    showProgress();
  } catch {
    recalled = null; // with the next photos
  }
}

function failed(error) {
  if (asksWho(error)) {
    askAgain(error);
    return;
  }
  trouble(error.reason === "review_off" ? error.message : "The service cannot be reached. Trying again…");
  clearTimeout(later);
  later = setTimeout(fill, 3000);
}

function forgetOthers() {
  forgetPhotos(new Set([...tasks, ...history.slice(-AHEAD).map((one) => one.task)].map((t) => t.id)));
}

// What is shown.

function show() {
  const task = tasks[0];
  find("sign-in").hidden = true;
  find("more").hidden = false;
  if (task) find("rest-title").textContent = "";
  find("work").hidden = !task;
  find("rest").hidden = Boolean(task) || !ended;
  showProgress();
  if (!task) {
    find("photo").dataset.id = "";
    if (ended) rest();
    return;
  }
  within = null;
  zoom.reset();
  forgetAlike();
  find("guess").hidden = true;
  find("ask").setAttribute("aria-expanded", "false");
  find("kind").value = task.kind ?? "";
  tellKind();
  drawChoices();
  const from = [sites[task.site]?.name ?? task.site, task.line && `line ${task.line}`, task.camera && `camera ${task.camera}`];
  const told = from.filter(Boolean).join(", ");
  find("origin").textContent = [told, new Date(task.kept_at).toLocaleString([], { dateStyle: "medium", timeStyle: "short" })].filter(Boolean).join(" · ");
  find("photo").alt = told ? `Photo to review, from ${told}` : "Photo to review";
  showPhoto(task);
}

// Of what comes unasked nothing can be said at once: the next key may still be meant for what was there.
function showUnasked() {
  unasked = true;
  show();
}

function showPhoto(task) {
  const [photo, note] = [find("photo"), find("no-photo")];
  photo.removeAttribute("src");
  photo.dataset.id = "";
  note.hidden = true;
  const mine = (showing += 1);
  const wanted = () => mine === showing && tasks[0] === task;
  paint(photo, task.id, wanted).then(
    async () => {
      if (unasked) await new Promise((noticed) => setTimeout(noticed, NOTICED_MS));
      if (!wanted()) return;
      unasked = false;
      photo.dataset.id = task.id; // from now on it can be spoken of
    },
    (error) => {
      if (!wanted()) return;
      unasked = false;
      if (isGone(error)) passOver(task);
      else {
        note.textContent = "The photo cannot be fetched. Trying again…";
        note.hidden = false;
        setTimeout(() => wanted() && showPhoto(task), 2000);
      }
    },
  );
}

// A photo was too old, made room for others, or its file was lost: leave it, to see what comes next.
function passOver(task) {
  gone.add(task.id);
  tasks.shift();
  leave(task);
  announce("That photo is no longer kept.");
  next();
}

function drawChoices() {
  const task = tasks[0];
  const site = sites[task.site];
  options = optionsOf(site, choices, within, typedKind());
  draw(find("choices"), options, choose);
  find("asks").replaceChildren(...(within ? [labelOf(within, site), ": what is it?"] : ["What is it?"]));
  find("asks").classList.toggle("within", Boolean(within));
  find("rules").textContent = site?.name ?? (othersThanBefore(task) ? "No site’s bins" : "");
  find("rules").classList.toggle("others", othersThanBefore(task));
  find("rules").lang = site ? site.language : "en";
}

// In the language of the site, which may be another than the page's.
function labelOf(bin, site) {
  const quoted = document.createElement("q");
  quoted.lang = site?.language ?? "en";
  quoted.textContent = bin.label;
  return quoted;
}

// Whether the keys stand for other bins than for the photo before.
function othersThanBefore(task) {
  const before = history.at(-1)?.task;
  return Boolean(before) && (sites[before.site]?.site ?? "") !== (sites[task.site]?.site ?? "");
}

function showProgress() {
  if (!progress) return;
  showFigures(progress, outbox.reviews, gone.size, history.at(-1)?.said);
}

function rest() {
  const several = progress.skipped > 0 && !skipped;
  const nothing = several ? "Only skipped photos are left." : "Nothing waits for you.";
  const told = outbox.size ? "Saving your last reviews…" : nothing;
  const news = told !== find("rest-title").textContent;
  find("rest-title").textContent = told;
  find("rest-told").textContent = `You have done ${progress.done + outbox.reviews}, today ${progress.today + outbox.reviews}.`;
  find("again").hidden = !several;
  find("again").textContent = `Look at the ${progress.skipped} skipped again`;
  if (document.activeElement === document.body) find("rest-title").focus(); // what had it is gone
  if (news) announce(told);
}

function guess() {
  const task = tasks[0];
  if (!task) return;
  const box = find("guess");
  box.hidden = !box.hidden;
  find("ask").setAttribute("aria-expanded", String(!box.hidden));
  if (box.hidden) return;
  const { superclass, confidence } = task.guess;
  box.replaceChildren(...guessParts(task.guess));
  showAlike(box.querySelector("div"), task, () => tasks[0] === task && !box.hidden);
  announce(`The model says ${title(superclass)}, ${percent(confidence)} sure.`);
}

// What is said.

// A choice was made: a verdict, or a bin that can stand for several things.
function choose(option) {
  const task = tasks[0];
  if (!task || find("photo").dataset.id !== String(task.id)) return; // nobody has seen it yet
  if (option.back) {
    leaveBin();
    return;
  }
  if (!option.bin) {
    say(task, option);
    return;
  }
  const possible = meanings(option.bin, typedKind());
  if (possible.length === 1) {
    say(task, { ...possible[0], label: option.label, note: "" });
    return;
  }
  within = option.bin;
  drawChoices();
  announce(`“${within.label}”: what is it?`);
}

function leaveBin() {
  within = null;
  drawChoices();
  announce("Back to the bins. What is it?");
}

function say(task, option) {
  const kind = typedKind();
  if (isUnfit(kind) && !option.verdict.no_refuse) {
    refusal(`Nothing was sent: “${kind}” is no kind. Change it, or empty the field.`);
    find("kind").focus();
    return;
  }
  const body = bodyOf(option.verdict, kind);
  if (kind && body.subclass === kind) learnKinds(find("kinds"), [kind]);
  task.kind = kind;
  pass(task, inWords(body, sites[task.site], choices));
  outbox.put({ id: task.id, path: `photos/${task.id}/verdict`, method: "PUT", body });
}

function skip() {
  const task = tasks[0];
  if (!task || unasked) return;
  leave(task);
  pass(task, "Skipped");
}

function leave(task) {
  if (skipped) seen = Math.max(seen, task.id);
  outbox.put({ id: task.id, path: `photos/${task.id}/skip`, method: "PUT" });
}

function pass(task, said) {
  refusal(null);
  tasks.shift();
  history = [...history, { task, said }].slice(-REMEMBERED);
  const others = tasks.length && othersThanBefore(tasks[0]);
  const told = tasks.length ? "Next photo." : "";
  announce(`${said}. ${told}${others ? ` Other bins: ${sites[tasks[0].site]?.name ?? "any"}.` : ""}`);
  next();
}

function next() {
  forgetOthers();
  show();
  if (tasks.length < AHEAD) fill();
}

function undo() {
  refusal(null);
  const last = history.pop();
  if (!last) {
    announce("There is nothing to undo.");
    return;
  }
  tasks.unshift(last.task);
  if (!outbox.withdraw(last.task.id)) {
    outbox.put({ id: last.task.id, path: `photos/${last.task.id}/verdict`, method: "DELETE" });
  }
  fetchPhoto(last.task.id);
  announce(`Taken back: ${last.said}.`);
  show();
}

// What becomes of it.

function held(error) {
  tellOthers();
  if (!error) {
    if (!outbox.size) {
      trouble(null);
      fill(); // the figures are others now
    }
    showProgress();
    return;
  }
  if (asksWho(error)) askAgain(error);
  else trouble(`Not saved yet: ${outbox.size}. Trying again… You can go on meanwhile.`);
}

function lost(word, error) {
  if (gone.has(word.id)) return; // and had not been reviewed
  if (isGone(error)) announce("A photo that you reviewed is no longer kept.");
  else if (!outbox.holds(word.id)) refuse(word, error); // else it was taken back meanwhile
}

// The photo comes back, to be spoken of once more.
function refuse(word, error) {
  refusal(`One review was not saved: ${error.message}. The photo is here once more.`);
  if (error.reason === "malformed_review") forgetKind(find("kinds"), word.body?.subclass);
  const said = history.find((one) => one.task.id === word.id);
  if (said) {
    history = history.filter((one) => one !== said);
    giveBack(said.task);
  }
  fill(); // with the bins of now; the photo, too, where the word is of before a reload
}

function giveBack(task) {
  const kind = find("kind");
  const typing = tasks.length > 0 && document.activeElement === kind; // of the photo that is there
  tasks.splice(typing ? 1 : 0, 0, task);
  if (tasks.length > 1) tasks[typing ? 0 : 1].kind = typedKind();
  if (typing) showProgress();
  else showUnasked();
}

function tellOthers() {
  othersWait(outbox.others.map(([name, words]) =>
    `Not saved yet, and waiting here until ${name} signs in again: ${words} of ${name}.`).join(" "));
}

// Who.

function askAgain(error) {
  if (error.status !== 401) askWho(error.message);
  else askWho(person.key ? "The service does not know this key." : "");
}

function askWho(told) {
  trouble(told || null);
  for (const id of ["work", "rest", "more"]) find(id).hidden = true;
  find("sign-in").hidden = false;
  find("reviewer").value = person.name;
  (person.name ? find("key") : find("reviewer")).focus();
}

find("sign-in").addEventListener("submit", (event) => {
  event.preventDefault();
  const name = find("reviewer").value.trim();
  if (name !== person.name) forgetWork();
  person.set(name, find("key").value.trim());
  find("key").value = "";
  document.activeElement.blur(); // the next key is no letter of the form's
  trouble(null);
  tellOthers();
  if (tasks.length) show();
  outbox.run();
  fill();
});

// Nobody goes on with what was another's, or takes it back.
function forgetWork() {
  [tasks, history, within, progress, recalled] = [[], [], null, null, null];
  [skipped, seen, ended] = [false, 0, false];
  forgetOthers();
  refusal(null);
  find("progress").replaceChildren();
  find("photo").dataset.id = "";
}

find("sign-out").addEventListener("click", () => {
  if (outbox.size) {
    trouble("Some reviews are not saved yet: wait for them first.");
    return;
  }
  person.forget();
  location.reload();
});

// Keys and buttons.

const KEYS = { s: skip, u: undo, z: () => zoom.toggle(), g: guess, k: () => find("kind").focus() };

document.addEventListener("keydown", (event) => {
  if (find("work").hidden && find("rest").hidden) return;
  if (event.target.matches("input:not([type=checkbox]), textarea")) {
    if (event.key === "Enter" || event.key === "Escape") event.target.blur();
    return;
  }
  const letter = event.key.toLowerCase();
  if ((event.ctrlKey || event.metaKey) && letter === "z" && !event.shiftKey) {
    event.preventDefault();
    if (within) leaveBin();
    else undo();
    return;
  }
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || !find("keys").checked) return;
  if (zoom.arrow(event.key)) {
    event.preventDefault();
    return;
  }
  const option = find("work").hidden ? null : options.find((one) => pressed(event, one.key));
  const back = within && (event.key === "Backspace" || letter === "u") ? leaveBin : null;
  const act = option ? () => choose(option) : back ?? KEYS[letter];
  if (!act) return;
  event.preventDefault();
  act();
});
onClick(find("skip"), skip);
find("undo").addEventListener("click", () => (within ? leaveBin() : undo()));
find("kind").addEventListener("input", () => {
  if (tasks.length) drawChoices();
  tellKind();
});
find("undo-last").addEventListener("click", undo);
find("zoom").addEventListener("click", () => zoom.toggle());
find("ask").addEventListener("click", guess);
find("look").addEventListener("click", () => { skipped = false; fill(); });
find("again").addEventListener("click", () => { [skipped, seen, history, recalled] = [true, 0, [], null]; fill(); });
offerExports();
find("keys").addEventListener("change", () => sessionStorage.setItem("keys", find("keys").checked));
find("keys").checked = sessionStorage.getItem("keys") !== "false";
document.documentElement.classList.toggle("touch", navigator.maxTouchPoints > 0);

tellOthers();
if (person.name && person.key) {
  outbox.run();
  fill();
} else askWho("");
