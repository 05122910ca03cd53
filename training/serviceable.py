"""What speaks against serving a model that can be served."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from training.metrics import balanced_accuracy, confidences
from training.outcome import Outcome

NEAR_CHANCE = 1.5  # times the accuracy of guessing
LEAST_PHOTOS = 10  # of a superclass; of fewer nobody knows how often it is found


def warnings_of(outcome: Outcome, temperature: float, threshold: float) -> Iterator[str]:
    """In words, what its answers to a split's photos say against it.

    Args:
        threshold: confidence from which on a photo is sorted.
    """
    names, photos = outcome.superclasses, f"{len(outcome.labels)} photos of {outcome.split}"
    probabilities = outcome.probabilities(temperature)
    balanced = balanced_accuracy(outcome.predicted, outcome.labels, len(names))
    if balanced < NEAR_CHANCE / len(names):
        yield (
            f"balanced accuracy on {photos} is {balanced:.1%}, and guessing has "
            f"{1 / len(names):.1%}: this model has learned next to nothing"
        )
    confidence, _ = confidences(probabilities, outcome.labels)
    if not (confidence >= threshold).any():
        yield f"none of the {photos} reaches the threshold: all would be left to a person"
    counts = np.bincount(outcome.labels, minlength=len(names))
    if few := [f"{count} of {names[k]}" for k, count in enumerate(counts) if count < LEAST_PHOTOS]:
        yield (
            f"{outcome.split} has only {', '.join(few)}, on which threshold, doubts and figures "
            "rest: take more of them"
        )
