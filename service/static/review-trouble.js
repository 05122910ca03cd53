// What the page tells of what went wrong. What each part of it says stays until that part says
// something else, or nothing.

const parts = { refused: "", now: "", others: "" };

export function tell(part, text) {
  parts[part] = text ?? "";
  const told = Object.values(parts).filter(Boolean).join(" ");
  const box = document.getElementById("trouble");
  if (box.textContent !== told) box.textContent = told; // a screen reader hears it once
  box.hidden = !told;
}

export const trouble = (text) => tell("now", text); // as things are
export const refusal = (text) => tell("refused", text); // until the reviewer's next word
export const othersWait = (text) => tell("others", text); // whoever else has been here
