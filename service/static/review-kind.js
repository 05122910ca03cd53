// The field for the kind of thing: what is known of the one that is typed.

import { title } from "./result.js";
import { superclassesOf } from "./review-kinds.js";
import { ask } from "./review-server.js";

const TYPED_MS = 300; // without another letter
const find = (id) => document.getElementById(id);

let asking = 0; // the timer of what was typed
let unfit = ""; // what was typed last that is no kind

export const typedKind = () => find("kind").value.trim();
export const isUnfit = (kind) => Boolean(kind) && kind === unfit;

// Whether it is a new one, which a misspelt one is, too, and what it is known as.
export function tellKind() {
  const kind = typedKind();
  clearTimeout(asking);
  note("");
  if (!kind) return;
  const superclasses = superclassesOf(kind);
  if (superclasses.length) note(`The model knows ${kind} as ${superclasses.map(title).join(" or ")}.`);
  else asking = setTimeout(() => askOf(kind), TYPED_MS);
}

async function askOf(kind) {
  try {
    const { known, near, fit } = await (await ask(`kind?kind=${encodeURIComponent(kind)}`)).json();
    if (!known && !fit) unfit = kind;
    if (known || typedKind() !== kind) return;
    if (!fit) note("No kind: letters, digits, spaces and _ - . , & ' ( ) + only, and a letter or digit first.");
    else note(near.length ? `A new kind. Did you mean ${near.join(" or ")}?` : "A new kind.");
  } catch {
    return; // what is said is checked by the service in any case
  }
}

function note(text) {
  const box = find("kind-note");
  box.textContent = text;
  box.hidden = !text;
}
