"""How near a photo lies to what a model knows: its embedding beside those of the context bank.

A model that sorts into bins has a bin for anything, and is often sure of it. What tells a photo of
something else is that little in the bank is like it. The measure is the density of the bank's
items around the photo on the unit sphere, T log(mean(exp((cosine - 1) / T))): a kernel density by
von Mises and Fisher, or the energy of Liu et al. (NeurIPS 2020) with cosines for logits. At a
small T it is the cosine to the nearest item, less a constant; at a large one the mean cosine to
all of them.

What is foreign may be told better where some pictures of such things are known, a background: then
it is the density of the bank less a part of the density of those, which is by the number that there
were at first: what joins them later only adds.

A graph whose attention is by likeness tells it at hardly any cost; elsewhere it takes the bank's
embeddings, and there is no background. Nearly all photos are near enough then, which the means of
small groups of items prove: exp is convex, so a group counts for no more at its mean than its items
do one by one.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import numpy.typing as npt

from service.bundle import Bundle
from service.errors import BundleError

Floats = npt.NDArray[np.float32]
GROUP = 8  # items in one, in the mean
SLACK = 1.001  # for sums in another order
TEMPERATURE = 0.12  # chosen on val of refuse against pictures that are no refuse
# With a background. Chosen on val, one half of the pictures and the held-out kinds of refuse-tune.
BACKGROUND_TEMPERATURE, BACKGROUND_WEIGHT = 0.08, 0.7
STATISTIC = "log_mean_exp_cosine"  # what a manifest calls it
STATISTIC_LESS_BACKGROUND = "log_mean_exp_cosine_less_background"


class Familiarity:
    """The bank's embeddings in memory. Thread-safe: it is only read."""

    def __init__(self, items: Floats, temperature: float) -> None:
        """Keep the bank's embeddings [M, E], of unit length."""
        self._items = np.ascontiguousarray(items.T, dtype=np.float32)
        self._temperature = temperature
        self._means, self._shares = _groups(items)

    def surely(self, embedding: Floats, least: float) -> bool:
        """Whether `of` embeddings [N, E] is at least so much for each, as far as the groups tell.

        Where they do not, it may be so all the same.
        """
        closeness = np.einsum("ne,eg->ng", embedding, self._means)
        closeness -= 1.0
        closeness /= np.float32(self._temperature)
        density = np.einsum("ng,g->n", np.exp(closeness, out=closeness), self._shares)
        return bool((density > SLACK * math.exp(least / self._temperature)).all())

    def of(self, embedding: Floats) -> Floats:
        """float32 [N], -2 to 0, for embeddings [N, E]; 0 where all items are where the photo is."""
        # Not by @: BLAS would start a thread on each core for this, and wait for them in a loop,
        # which takes longer than the model does where other threads are at work.
        cosines = np.einsum("ne,em->nm", embedding, self._items)
        closeness = (cosines - 1.0) / np.float32(self._temperature)
        nearest = closeness.max(axis=1, keepdims=True)
        density = np.exp(closeness - nearest).mean(axis=1)
        return np.asarray(self._temperature * (nearest[:, 0] + np.log(density)), dtype=np.float32)


def _groups(items: Floats) -> tuple[Floats, Floats]:
    """Items [M, E] by the nearest of some of them: means [E, G], and shares of all items [G]."""
    some = items[::GROUP]
    nearest = (items @ some.T).argmax(axis=1)
    counts = np.maximum(np.bincount(nearest, minlength=len(some)), 1)
    sums = np.zeros(some.shape)
    np.add.at(sums, nearest, items)
    means = np.ascontiguousarray((sums / counts[:, np.newaxis]).T, dtype=np.float32)
    return means, np.asarray(counts / len(items), dtype=np.float32)


def read_familiarity(bundle: Bundle) -> Familiarity | None:
    """Of a verified bundle; None where it brings none, or its graph tells it.

    Raises:
        BundleError: where the file is not what the manifest says.
    """
    record = bundle.manifest.familiarity
    if record is None or record.file is None:
        return None
    return Familiarity(read_items(bundle.path / record.file, bundle), record.temperature)


def read_items(file: Path, bundle: Bundle) -> Floats:
    """float32 [M, E], one row for each item of the bank, in its order.

    Raises:
        BundleError: where it is no such array.
    """
    try:
        items = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise BundleError(f"{file}: expected an array of embeddings: {error}") from error
    expected = len(bundle.manifest.bank.items)
    if items.ndim != 2 or len(items) != expected or items.dtype != np.float16:
        raise BundleError(
            f"{file}: expected float16 [{expected}, E], an embedding for each item of the bank, "
            f"got {items.dtype} {list(items.shape)}"
        )
    if not np.isfinite(items).all():
        raise BundleError(f"{file}: expected finite numbers, got others")
    return np.asarray(items, dtype=np.float32)
