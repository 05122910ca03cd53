// The two buttons that fetch what has been reviewed.

import { download } from "./review-download.js";
import { trouble } from "./review-trouble.js";

const MISSING = "missing.csv"; // the last that is in a ZIP, if it is
const END_BYTES = 256; // of a ZIP, which name its last file
const NAMES = { csv: "labels.csv", zip: "reviewed.zip" };
const find = (id) => document.getElementById(id);

async function lacks(blob) {
  const gone = (await blob.slice(-END_BYTES).text()).includes(MISSING);
  return gone ? ` Photos whose files are missing are not in it: its ${MISSING} lists them.` : "";
}

async function fetchExport(kind, button) {
  if (button.getAttribute("aria-disabled") === "true") return; // it is on its way
  button.setAttribute("aria-disabled", "true");
  const [name, coming] = [NAMES[kind], find("coming")];
  find("exported").textContent = "";
  try {
    const blob = await download(`export.${kind}`, name, (bytes) => { coming.textContent = `${name}: ${(bytes / 1e6).toFixed(1)} MB so far…`; });
    find("exported").textContent = `${name} is here.${kind === "zip" ? await lacks(blob) : ""}`;
  } catch (error) {
    trouble(`No export: ${error.message}`);
  } finally {
    coming.textContent = "";
    button.removeAttribute("aria-disabled");
  }
}

export function offerExports() {
  for (const kind of Object.keys(NAMES)) {
    find(`export-${kind}`).addEventListener("click", (event) => fetchExport(kind, event.currentTarget));
  }
}
