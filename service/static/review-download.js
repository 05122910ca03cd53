// Exports: however large one is, it is waited for as long as something comes.

import { ask } from "./review-server.js";

const SILENCE_S = 30;

// `came` hears how many bytes are here. They are held until all are: without the key in its header
// no export is given, and a link has none.
export async function download(path, name, came) {
  const patience = new AbortController();
  const nothing = () => patience.abort(new Error(`nothing came for ${SILENCE_S} seconds`));
  let timer = setTimeout(nothing, 1000 * SILENCE_S);
  let bytes = 0;
  const counted = new TransformStream({
    transform(part, out) {
      clearTimeout(timer);
      timer = setTimeout(nothing, 1000 * SILENCE_S);
      came((bytes += part.length));
      out.enqueue(part);
    },
  });
  try {
    const { body, headers } = await ask(path, "GET", null, { signal: patience.signal });
    const blob = await new Response(body.pipeThrough(counted), { headers }).blob();
    save(blob, name);
    return blob;
  } catch (error) {
    throw patience.signal.reason ?? error;
  } finally {
    clearTimeout(timer);
  }
}

function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
