// A report that was saved as a file: what it shows lies in it.

import { draw, siteOptions } from "./report-view.js";

const saved = JSON.parse(document.getElementById("saved").textContent);
const chosen = document.getElementById("site");
chosen.replaceChildren(...siteOptions(saved.rows, saved.sites));
const show = () => draw({ ...saved, site: chosen.value });
chosen.addEventListener("change", show);
document.getElementById("controls").addEventListener("submit", (event) => event.preventDefault());
show();
