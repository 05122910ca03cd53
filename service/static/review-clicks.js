// Clicks that are meant: the second one of a double click is not, since it would be said of the next
// photo, which nobody has looked at.

const DOUBLE_MS = 500; // where the browser does not count taps
const NEAR_PX = 24;
let before = null; // the click before this one, wherever it was
let last = null;

document.addEventListener("click", (event) => { [before, last] = [last, event]; }, true);

// The keyboard's clicks have no count and no place, and are all meant.
function isSecond(event) {
  if (event.detail === 0) return false;
  if (event.detail > 1) return true;
  const apart = before && Math.hypot(event.clientX - before.clientX, event.clientY - before.clientY);
  return before !== null && apart < NEAR_PX && event.timeStamp - before.timeStamp < DOUBLE_MS;
}

export function onClick(element, act) {
  element.addEventListener("click", (event) => {
    if (!isSecond(event)) act();
  });
}

// A button's key that is held down clicks again and again, on each photo that comes.
document.addEventListener("keydown", (event) => {
  if (event.repeat && ["Enter", " "].includes(event.key) && event.target.matches("button")) event.preventDefault();
});
