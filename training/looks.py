"""What the model says of photos and how they look, each in several takes, for `drift.npz`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from service.appearance import Appearance, measure_appearance
from service.classifier import Answers, Classifier
from service.drift_window import surprise
from service.preprocess import decode, upright
from training.camera_changes import Random
from training.data.photos import Photo, photo_bytes
from training.data.store import LIMITS
from training.progress import track

Array = npt.NDArray[Any]
FULL_SIZE = 1 << 30  # no side is longer


@dataclass(frozen=True)
class Looks:
    """What the model says of n photos, J times each, and how they look.

    Attributes:
        embedding: float64 [J, n, E].
        superclass: int64 [J, n], predicted.
        confidence, likeness: float64 [J, n]; likeness is the weight of the strongest reference.
        appearance: float64 [J, n, A], see `service.appearance`.
    """

    embedding: Array
    superclass: Array
    confidence: Array
    likeness: Array
    appearance: Array

    def surprises(self) -> Array:
        """float64 [2, J, n], of confidence and likeness."""
        each = np.vectorize(surprise, otypes=[np.float64])
        return np.stack([each(self.confidence), each(self.likeness)])


def look(
    classifier: Classifier,
    root: Path,
    photos: tuple[Photo, ...],
    takes: list[Callable[[Image.Image, Random], bytes]],
    label: str,
    random: Random,
) -> Looks:
    """Of each photo in each take, an encoded version of it."""
    spec = classifier.bundle.manifest.preprocessing
    answers: list[Answers] = []
    appearances: list[Appearance] = []
    with track(label, len(takes) * len(photos)) as advance:
        for photo in photos:
            whole = upright(photo_bytes(root, photo), FULL_SIZE, LIMITS)
            for take in takes:
                pixels = decode(take(whole, random), spec)
                answers.append(classifier.run(pixels[np.newaxis]))
                appearances.append(measure_appearance(pixels))
                advance(1)
    return looks_of(answers, appearances, len(takes))


def looks_of(answers: list[Answers], appearances: list[Appearance], takes: int) -> Looks:
    """Of photos one after the other, each with all its takes."""

    def by_take(values: list[Array]) -> Array:
        stacked = np.concatenate(values).astype(np.float64)
        return stacked.reshape(-1, takes, *stacked.shape[1:]).swapaxes(0, 1)

    probabilities = by_take([one.probabilities for one in answers])
    return Looks(
        embedding=by_take([one.embedding for one in answers]),
        superclass=probabilities.argmax(axis=-1),
        confidence=probabilities.max(axis=-1),
        likeness=by_take([one.reference_weights[:, 0] for one in answers]),
        appearance=by_take([np.stack(appearances)]),
    )
