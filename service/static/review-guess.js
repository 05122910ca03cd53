// The model's guess, what it compared the photo with, and reviewed photos that are like it.

import { binTag, percent, placeTag, title } from "./result.js";
import { ask } from "./review-server.js";

const LEAST_SHOWN = 0.005; // of a reference's weight
let urls = []; // of the thumbnails that are shown

export function forgetAlike() {
  urls.forEach((url) => URL.revokeObjectURL(url));
  urls = [];
}

export function guessParts({ superclass, confidence, probabilities, references, model }) {
  const said = document.createElement("p");
  said.append(binTag(superclass), ` ${percent(confidence)} sure (${model})`);
  const others = Object.entries(probabilities).filter(([one]) => one !== superclass).sort((a, b) => b[1] - a[1]);
  const less = quiet(others.map(([one, share]) => `${title(one)} ${percent(share)}`).join(", "));
  const list = document.createElement("ul");
  list.className = "chips";
  list.append(...references.filter((one) => one.weight >= LEAST_SHOWN).map((one) => {
    const item = document.createElement("li");
    const tag = binTag(one.superclass);
    tag.lastChild.textContent = `${title(one.subclass ?? one.superclass)} ${percent(one.weight)}`;
    tag.title = one.id;
    item.append(tag);
    return item;
  }));
  const alike = document.createElement("div"); // showAlike fills it
  return [said, less, alike, quiet("What it compared this with:"), list];
}

// Fills `box` with reviewed photos that are like a task's, as long as `wanted` says so.
export async function showAlike(box, task, wanted) {
  const heading = quiet("Looking for reviewed photos that are like it…");
  box.append(heading);
  try {
    const { photos } = await (await ask(`photos/${task.id}/similar`)).json();
    const pictures = await Promise.all(photos.map(({ id }) =>
      ask(`photos/${id}/thumbnail`).then((answer) => answer.blob(), () => null)));
    if (!wanted()) return;
    forgetAlike();
    const items = photos.flatMap((one, i) => (pictures[i] ? [alike(one, pictures[i])] : []));
    heading.textContent = items.length
      ? "Reviewed photos that are most like it, and what people said:"
      : "No reviewed photo can be compared with it yet.";
    const list = document.createElement("ul");
    list.className = "alike";
    list.append(...items);
    if (items.length) box.append(list);
  } catch (error) {
    heading.textContent = `Reviewed photos cannot be looked for: ${error.message}`;
  }
}

function alike({ superclass, subclass }, blob) {
  const url = URL.createObjectURL(blob);
  urls.push(url);
  const item = document.createElement("li");
  const image = document.createElement("img");
  image.src = url;
  image.alt = "";
  const tag = superclass === null ? placeTag("var(--quiet)", "No refuse") : binTag(superclass);
  if (subclass) tag.lastChild.textContent = `${title(subclass)}, ${superclass}`;
  item.append(image, tag);
  return item;
}

function quiet(text) {
  const made = document.createElement("p");
  made.className = "quiet";
  made.textContent = text;
  return made;
}
