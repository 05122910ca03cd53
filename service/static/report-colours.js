// Colours of a chart's parts that can be told apart.

const PALETTE = Array.from({ length: 8 }, (_, i) => `var(--bin-${i})`);
const PALE = PALETTE.map((one) => `color-mix(in srgb, ${one} 55%, var(--card))`);
const APART = 60; // in RGB: two browns of 48 look alike
const CHOSEN_APART = 20; // of two that sites chose themselves
export const PERSON = "var(--warn)";

const isChosen = (colour) => colour.startsWith("#");

// As the page's theme has it, from 0 to 255.
function rgb(colour) {
  const probe = document.createElement("i");
  probe.style.setProperty("color", colour);
  document.body.append(probe);
  const seen = getComputedStyle(probe).color;
  probe.remove();
  const scale = seen.startsWith("color(") ? 255 : 1;
  return seen.match(/[\d.]+/g).slice(0, 3).map((part) => part * scale);
}

function alike(one, other) {
  const [a, b] = [rgb(one), rgb(other)];
  const distance = Math.hypot(...a.map((part, i) => part - b[i]));
  return distance < (isChosen(one) && isChosen(other) ? CHOSEN_APART : APART);
}

// The same parts in the same order: what sites chose stays, what looks like another's is changed.
export function apart(parts) {
  const rank = ({ colour }) => (isChosen(colour) ? 0 : colour === PERSON ? 1 : 2);
  const taken = new Map();
  const isFree = (colour) => [...taken.values()].every((other) => !alike(colour, other));
  const inTurn = [...parts].sort((a, b) => rank(a) - rank(b));
  for (const part of inTurn) if (isFree(part.colour)) taken.set(part.choice, part.colour);
  for (const { choice, colour } of inTurn) {
    if (!taken.has(choice)) taken.set(choice, [...PALETTE, ...PALE].find(isFree) ?? colour);
  }
  return parts.map((part) => ({ ...part, colour: taken.get(part.choice) }));
}
