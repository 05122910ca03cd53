// Draws bars and tables; knows nothing of refuse.

const SVG = "http://www.w3.org/2000/svg";
const HEIGHT = 240;
const MARGIN = { top: 10, right: 4, bottom: 26, left: 44 };

export function element(tag, className, ...children) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.append(...children);
  return made;
}

function shape(tag, attributes, ...children) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

// Round steps for an axis from 0 that reaches `most`.
export function ticks(most) {
  const raw = Math.max(most, 1) / 4;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = Math.max(1, [1, 2, 5, 10].find((one) => one * power >= raw) * power);
  const found = [];
  for (let at = 0; at < most + step; at += step) found.push(at);
  return found;
}

// One bar for each of `bars`, its parts from below in the order of `parts`; `width` in CSS pixels.
export function stacked({ bars, stacks, parts, label, width }) {
  const inner = width - MARGIN.left - MARGIN.right;
  const tall = HEIGHT - MARGIN.top - MARGIN.bottom;
  const sums = stacks.map((stack) => [...stack.values()].reduce((a, b) => a + b, 0));
  const steps = ticks(Math.max(...sums, 1));
  const top = steps.at(-1);
  const y = (value) => MARGIN.top + tall * (1 - value / top);
  const x = (place) => MARGIN.left + (inner * place) / bars.length;
  const thick = Math.max(1, (inner / bars.length) * 0.8);
  const svg = shape("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, height: HEIGHT, role: "img", "aria-label": label });
  for (const step of steps) {
    svg.append(
      shape("line", { x1: MARGIN.left, x2: width - MARGIN.right, y1: y(step), y2: y(step) }),
      shape("text", { x: MARGIN.left - 6, y: y(step) + 4, "text-anchor": "end" }, step.toLocaleString()),
    );
  }
  bars.forEach((bar, place) => {
    let below = 0;
    for (const { choice, name, colour } of parts) {
      const value = stacks[place].get(choice) ?? 0;
      if (!value) continue;
      const part = shape("rect", { class: "part", x: x(place), width: thick, y: y(below + value), height: y(below) - y(below + value) });
      part.style.setProperty("fill", colour);
      part.append(shape("title", {}, `${bar.title}: ${name} ${value.toLocaleString()}`));
      svg.append(part);
      below += value;
    }
    if (below && thick > 5) svg.append(shape("rect", { class: "edge", x: x(place), width: thick, y: y(below), height: y(0) - y(below) }));
  });
  const every = Math.ceil(bars.length / Math.max(1, Math.floor(inner / 84)));
  bars.forEach((bar, place) => {
    if (place % every) return;
    svg.append(shape("text", { x: x(place), y: HEIGHT - 8 }, bar.label));
  });
  return svg;
}

// A list of { name, figure, share of the longest, colour, words }.
export function horizontal(rows) {
  return element("ul", "bars", ...rows.map(({ name, figure, share, colour, words }) => {
    const fill = element("i");
    fill.style.setProperty("width", `${100 * share}%`);
    const track = element("span", "track", fill);
    track.setAttribute("aria-hidden", "true");
    const row = element("li", "", element("b", "", name), element("span", "figure", figure), track);
    if (colour) row.style.setProperty("--bin", colour);
    if (words) row.append(element("span", "words", words));
    return row;
  }));
}

// The first column heads its rows; what is too wide scrolls, by keyboard too.
export function table(caption, headings, rows) {
  const head = element("tr", "", ...headings.map((text) => {
    const cell = element("th", "", text);
    cell.scope = "col";
    return cell;
  }));
  const body = rows.map(([first, ...rest]) => {
    const heading = element("th", "", first);
    heading.scope = "row";
    return element("tr", "", heading, ...rest.map((text) => element("td", "", text)));
  });
  const made = element("table", "", element("caption", "away", caption), element("thead", "", head), element("tbody", "", ...body));
  const sheet = element("div", "sheet", made);
  sheet.tabIndex = 0;
  sheet.setAttribute("role", "region");
  sheet.setAttribute("aria-label", caption);
  return sheet;
}
