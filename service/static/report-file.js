// A report that was saved as a file: what it shows lies in it.

import { draw, siteName } from "./report-view.js";

const saved = JSON.parse(document.getElementById("saved").textContent);
const chosen = document.getElementById("site");
const photos = new Map();
for (const row of saved.rows) photos.set(row.site ?? "", (photos.get(row.site ?? "") ?? 0) + row.photos);
const names = [...photos].sort((a, b) => b[1] - a[1]).map(([name]) => name);
chosen.replaceChildren(...(names.length ? names : [""]).map((name) => new Option(siteName(name, saved.sites), name)));
const show = () => draw({ ...saved, site: chosen.value });
chosen.addEventListener("change", show);
document.getElementById("controls").addEventListener("submit", (event) => event.preventDefault());
show();
