// Kinds of thing, and under which superclasses the model knows them.

import { title } from "./result.js";

const superclasses = new Map(); // plain kind -> superclasses of the models' banks
export const plain = (kind) => kind.toLowerCase().replace(/[-_\s]+/g, "_");

// Take over kinds to choose from, and what is known of some.
export function learnKinds(list, kinds, known = {}) {
  const there = new Set([...list.options].map((one) => one.value));
  for (const kind of kinds) {
    if (there.has(kind)) continue;
    const option = document.createElement("option");
    option.value = kind;
    list.append(option);
  }
  for (const [kind, theirs] of Object.entries(known)) superclasses.set(plain(kind), theirs);
}

// What turned out to be none.
export function forgetKind(list, kind) {
  [...list.options].filter((one) => one.value === kind).forEach((one) => one.remove());
}

export function superclassesOf(kind) {
  return superclasses.get(plain(kind)) ?? [];
}

// Where a kind is said to be of a superclass under which the model does not know it: as what it
// does, in words. One of the two may be a slip.
export function oddSuperclass(kind, superclass) {
  const theirs = kind && superclass !== null ? superclassesOf(kind) : [];
  return theirs.length && !theirs.includes(superclass) ? `${kind} as ${theirs.map(title).join(" or ")}` : "";
}
