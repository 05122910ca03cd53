// What can be said of a photo: its site's bins, what a bin can stand for, or the superclasses; that
// it shows no refuse, or cannot be told. And what was said, in words.

import { colourOf, title } from "./result.js";
import { onClick } from "./review-clicks.js";
import { oddSuperclass, plain } from "./review-kinds.js";

const BACK = "Escape";

// Of a queue: the superclasses, no refuse, and last that it cannot be told. A service of before knows
// no refuse that can be said.
export function choicesOf({ choices, no_refuse: foreign }) {
  const [theirs, none] = [true, false].map((has) => choices.filter((one) => (one.superclass !== null) === has));
  return [...theirs, ...(foreign ? [{ ...foreign, no_refuse: true }] : []), ...none];
}

// Each has a key, a label, what else is drawn of it, and what comes of it: a `verdict`, a `bin`
// whose meanings are asked for, or `back`.
export function optionsOf(site, choices, within, kind) {
  const none = choices.find((one) => one.superclass === null && !one.no_refuse);
  if (within) {
    const verdict = { superclass: null, bin: within.bin };
    return [
      ...meanings(within, kind).map((meaning) => ({ ...meaning, small: true })),
      { key: none.key, label: title(none.label), none: true, small: true, verdict },
      { key: BACK, shown: "Esc", label: "Back to the bins", none: true, small: true, back: true },
    ];
  }
  const several = choices.some((one) => one.no_refuse); // beside one another
  const plainly = choices.map(({ superclass, label, key, ...more }) => ({
    key,
    label: title(label),
    colour: superclass === null ? null : colourOf(superclass),
    none: superclass === null,
    small: superclass === null && several,
    verdict: { superclass, ...more },
  }));
  if (!site) return plainly;
  const bins = site.bins.map((bin) => ({
    key: bin.key, label: bin.label, colour: bin.colour, lang: site.language, hint: bin.text, bin,
  }));
  const others = new Set(site.others.map((one) => one.superclass));
  const rest = plainly.filter((one) => others.has(one.verdict.superclass));
  return [...bins, ...rest.map((one) => ({ ...one, key: "" })), ...plainly.filter((one) => one.none)];
}

// What a bin can stand for, given the kind that was typed; where that is one thing nothing is asked.
export function meanings(bin, kind) {
  const all = bin.meanings.map(({ superclass, subclass, label, key }) => ({
    key,
    label: title(label),
    note: subclass ? title(superclass) : "",
    colour: bin.colour,
    verdict: { superclass, ...(subclass && { subclass }), bin: bin.bin },
  }));
  if (!kind) return all;
  const named = all.filter((one) => one.verdict.subclass && plain(one.verdict.subclass) === plain(kind));
  return named.length ? named : all.filter((one) => !one.note);
}

// What a bin stands for by a verdict, as it is told: the kind if the bin knows it, or the superclass.
export function meant(bin, superclass, subclass) {
  const theirs = (bin?.meanings ?? []).filter((one) => one.superclass === superclass);
  const found = theirs.find((one) => one.subclass && plain(one.subclass) === plain(subclass ?? ""));
  return (found ?? theirs.find((one) => !one.subclass))?.label;
}

// What is sent: a verdict and what was typed, which is a kind only of refuse.
export function bodyOf(verdict, kind) {
  if (!kind || verdict.subclass) return { ...verdict };
  return { ...verdict, [verdict.no_refuse ? "item" : "subclass"]: kind };
}

// A verdict as the page says it: the bin, and where that can be several things which one.
export function inWords({ superclass, subclass, bin, no_refuse: foreign = false }, site, choices) {
  const one = site?.bins.find((theirs) => theirs.bin === bin);
  const plainly = choices.find((choice) => choice.superclass === superclass && Boolean(choice.no_refuse) === foreign);
  const what = meant(one, superclass, subclass) ?? plainly?.label ?? superclass;
  const label = one?.label ?? title(what);
  const said = one && (one.meanings.length > 1 || superclass === null) ? `${label} (${title(what)})` : label;
  const odd = oddSuperclass(subclass, superclass);
  return odd ? `${said}, though the model knows ${odd}` : said;
}

export function draw(box, options, chosen) {
  const names = JSON.stringify(options);
  if (box.dataset.names === names) return;
  const focused = box.contains(document.activeElement);
  box.dataset.names = names;
  box.replaceChildren(...options.map((option) => button(option, chosen)));
  if (focused) box.firstElementChild.focus();
}

function button(option, chosen) {
  const made = document.createElement("button");
  made.type = "button";
  made.className = ["choice", option.none && "none", option.small && "small"].filter(Boolean).join(" ");
  if (option.colour) made.style.setProperty("--bin", option.colour);
  if (option.hint) made.title = option.hint;
  if (option.key) {
    const key = document.createElement("kbd");
    key.textContent = option.shown ?? option.key.toUpperCase();
    made.append(key);
    made.setAttribute("aria-keyshortcuts", option.key);
  }
  const label = document.createElement("span");
  label.textContent = option.label;
  if (option.lang) label.lang = option.lang;
  made.append(label);
  if (option.note) {
    const note = document.createElement("small");
    note.textContent = ` ${option.note}`;
    label.append(note);
  }
  onClick(made, () => chosen(option));
  return made;
}

// Whether an event is an option's key. On some keyboards, such as French ones, the row of digits
// gives them with Shift alone.
export function pressed(event, key) {
  if (!key) return false;
  if (/^\d$/.test(key)) {
    return event.key === key || (!event.shiftKey && event.code === `Digit${key}` && !/^\d$/.test(event.key));
  }
  return key.length === 1 ? event.key.toLowerCase() === key : event.key === key;
}
