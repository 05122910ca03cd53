// The photos: fetched before they are looked at, and shown.

import { ask } from "./review-server.js";

const photos = new Map(); // id -> promise of an image, decoded, that is on no page

export function fetchPhoto(id) {
  if (!photos.has(id)) {
    const made = decoded(id);
    made.catch(() => photos.delete(id)); // so that it can be asked for again
    photos.set(id, made);
  }
  return photos.get(id);
}

async function decoded(id) {
  const image = new Image();
  image.src = URL.createObjectURL(await (await ask(`photos/${id}`)).blob());
  await image.decode();
  return image;
}

// Lets go of all but those whose ids are needed.
export function forgetPhotos(needed) {
  for (const id of photos.keys()) if (!needed.has(id)) forget(id);
}

function forget(id) {
  photos.get(id)?.then((image) => URL.revokeObjectURL(image.src), () => {});
  photos.delete(id);
}

// Shows a photo, as long as `wanted` says so. Done once it is drawn: what is fetched and not drawn
// yet nobody has seen.
export async function paint(image, id, wanted) {
  const { src } = await fetchPhoto(id);
  if (!wanted()) return;
  image.src = src;
  try {
    await image.decode();
  } catch (error) {
    if (wanted()) forget(id); // to be fetched anew
    throw error;
  }
  await new Promise((drawn) => requestAnimationFrame(drawn));
}
