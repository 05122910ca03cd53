"""How a bundle's superclasses are spread over items, fitted on val as the bundle answers it.

The references of an answer were weighted to tell superclasses apart. How far they are to be
trusted about items is said by two numbers that make val's items likeliest (`service.sorting`).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import expit, logit

from service.bundle import Bundle, Manifest, write_manifest
from service.classifier import Classifier
from service.fitted import ItemSpread
from training.data.photos import PhotoSet
from training.data.store import open_store
from training.errors import DataError
from training.progress import track
from training.served_bank import new_to_bank

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

SPLIT = "val"
LEAST_PHOTOS = 30  # of known items, to fit two numbers
MOST_TEMPERATURE = 20.0
MOST_UNNAMED = 1.0 - 1e-4


def with_item_spread(path: Path, manifest: Manifest, photos: PhotoSet) -> Manifest:
    """The manifest with what val says of items, written.

    Photos count whose kind is in the bank under their superclass and that are not in it themselves.

    Raises:
        DataError: where those are too few; all stays as it was.
    """
    items = manifest.bank.items
    names = sorted({(item.superclass, item.subclass) for item in items if item.subclass})
    place = {name: index for index, name in enumerate(names)}
    known = tuple(
        one for one in photos.split(SPLIT) if (one.superclass, one.subclass or "") in place
    )
    _check_enough(len(known))
    bundle = Bundle(path, manifest)
    store = open_store(photos.root, known, manifest.preprocessing)
    references, weights, embeddings = _cited(Classifier(bundle), store.pixels)
    new = new_to_bank(bundle, store.photos, embeddings, f"items from {SPLIT}")
    _check_enough(int(new.sum()))
    shown = np.array([place.get((one.superclass, one.subclass or ""), -1) for one in items])
    heavy = np.array([one.weight for one in items])
    true = np.array([place[one.superclass, one.subclass or ""] for one in store.photos])
    spread = fit_item_spread(
        shown[references[new]],
        weights[new],
        heavy[references[new]],
        true=true[new],
        superclass=np.array([manifest.superclasses.index(name) for name, _ in names]),
        often=np.bincount(shown[shown >= 0], heavy[shown >= 0], len(names)).astype(float),
    )
    complete = manifest.model_copy(update={"item_spread": spread})
    write_manifest(path, complete)
    return complete


def _check_enough(photos: int) -> None:
    if photos < LEAST_PHOTOS:
        raise DataError(
            f"expected at least {LEAST_PHOTOS} photos of {SPLIT} of the bank's kinds that are not "
            f"in the bank themselves, to say how sure answers are of items, got {photos}"
        )


def fit_item_spread(
    cited: Ints, weights: Floats, heavy: Floats, *, true: Ints, superclass: Ints, often: Floats
) -> ItemSpread:
    """The two numbers that make the true items likeliest, given the true superclasses.

    Args:
        cited: [n, R], which of S items each reference shows, -1 for none.
        weights, heavy: [n, R], of the references in the answer, and of the items in the bank.
        true: [n]; superclass: [S], of each item; often: [S], how much of the bank it is.
    """
    same = (cited >= 0) & (superclass[cited] == superclass[true][:, None])
    right = same & (cited == true[:, None])
    mates = np.bincount(superclass, often)
    prior = often[true] / mates[superclass[true]]

    def loss(of: Floats) -> float:
        counted = np.where(same, heavy * weights ** np.exp(-of[0]), 0.0)
        total = counted.sum(axis=1)
        share = np.where(right, counted, 0.0).sum(axis=1) / np.where(total > 0.0, total, 1.0)
        unnamed = np.where(total > 0.0, expit(of[1]), 1.0)
        return float(-np.log((1.0 - unnamed) * share + unnamed * prior).mean())

    limits = (
        (-np.log(MOST_TEMPERATURE), np.log(MOST_TEMPERATURE)),
        (logit(1.0 / (len(true) + 2)), logit(MOST_UNNAMED)),  # Laplace: n right ones prove no more
    )
    found = minimize(loss, (0.0, logit(0.05)), method="Nelder-Mead", bounds=limits)
    return ItemSpread(
        temperature=float(np.exp(found.x[0])),
        unnamed=float(expit(found.x[1])),
        split=SPLIT,
        photos=len(true),
    )


def _cited(
    classifier: Classifier, pixels: npt.NDArray[np.uint8]
) -> tuple[Ints, Floats, npt.NDArray[np.float32]]:
    """References and their weights, [n, R] both, and embeddings [n, E], of photos [n, H, W, 3]."""
    references, weights, embeddings = [], [], []
    with track(f"{classifier.bundle.id}: items of {SPLIT}", len(pixels)) as advance:
        for index in range(len(pixels)):
            answers = classifier.run(np.ascontiguousarray(pixels[index : index + 1]))
            references.append(answers.references[0])
            weights.append(answers.reference_weights[0].astype(np.float64))
            embeddings.append(answers.embedding[0])
            advance(1)
    return np.stack(references), np.stack(weights), np.stack(embeddings)
