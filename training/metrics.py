"""Figures of a set of answers: plain arrays in, numbers out."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

ECE_BINS = 15
DRAWS = 20_000


def balanced_accuracy(predicted: Array, labels: Array, superclasses: int) -> float:
    """Mean recall over the superclasses that occur."""
    recalls = [
        float((predicted[labels == k] == k).mean())
        for k in range(superclasses)
        if (labels == k).any()
    ]
    return float(np.mean(recalls))


def expected_calibration_error(probabilities: Array, labels: Array, bins: int = ECE_BINS) -> float:
    """Gap between confidence and accuracy, weighted by photos, over equal-width bins.

    Guo et al., ICML 2017, section 2.

    Args:
        probabilities: float [n, K]; labels: int [n].
    """
    confidence, correct = confidences(probabilities, labels)
    gap = 0.0
    for inside in _bins(confidence, bins):
        if inside.any():
            gap += inside.mean() * abs(confidence[inside].mean() - correct[inside].mean())
    return float(gap)


def reliability(
    probabilities: Array, labels: Array, bins: int = ECE_BINS
) -> list[dict[str, float]]:
    """Per non-empty bin: mean confidence, accuracy, photos."""
    confidence, correct = confidences(probabilities, labels)
    return [
        {
            "confidence": float(confidence[inside].mean()),
            "accuracy": float(correct[inside].mean()),
            "photos": int(inside.sum()),
        }
        for inside in _bins(confidence, bins)
        if inside.any()
    ]


def confidences(probabilities: Array, labels: Array) -> tuple[Array, Array]:
    """Largest probability, and whether it is the right one: two arrays [n]."""
    return probabilities.max(axis=1), probabilities.argmax(axis=1) == labels


def credible_interval(
    predicted: Array, labels: Array, superclasses: int, figure: str, seed: int = 0
) -> tuple[float, float]:
    """95% interval of `accuracy` or `balanced_accuracy` from the posterior of each recall.

    Each superclass's recall has a Beta posterior under Jeffreys' prior (Brodersen et al., ICPR
    2010), so that a few photos, all of them right, still leave doubt; a bootstrap would not.
    """
    random = np.random.default_rng(seed)
    correct = predicted == labels
    groups = [correct[labels == k] for k in range(superclasses) if (labels == k).any()]
    recalls = np.stack(
        [random.beta(g.sum() + 0.5, len(g) - g.sum() + 0.5, size=DRAWS) for g in groups]
    )
    sizes = np.array([len(g) for g in groups], dtype=np.float64)
    weights = np.ones_like(sizes) if figure == "balanced_accuracy" else sizes
    values = weights @ recalls / weights.sum()
    low, high = np.percentile(values, (2.5, 97.5))
    found = float(weights @ [g.mean() for g in groups] / weights.sum())
    return min(float(low), found), max(float(high), found)


def _bins(confidence: Array, bins: int) -> list[Array]:
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    return [place == index for index in range(bins)]
